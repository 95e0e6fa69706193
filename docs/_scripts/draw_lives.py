"""Draw lives in time, as they are lived: what the tutorial's programs do, run on a mock clock.

    python docs/_scripts/draw_lives.py

writes two pictures of the tutorial: `thumbnails.svg`, from what that program prints, and
`draining.svg`, from the events of an engine. A test fails when they are no longer what is drawn.

A picture is rows of bars. It has its own ground, which follows the system's colours, so it can be
read on a light page and on a dark one.
"""

from __future__ import annotations

import contextlib
import io
import runpy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import NamedTuple

import trio
from trio.testing import MockClock

from trioworker import Engine, Manifold, open_worker
from trioworker.dependency import State

DOCS = Path(__file__).resolve().parent.parent
PROGRAM = DOCS / "examples" / "tutorial" / "thumbnails.py"

LEFT, TOP, ROW, HEIGHT, RIGHT = 90, 16, 34, 22, 24
STYLE = """
.ground { fill: #ffffff }
text { font: 12px sans-serif; fill: #1f2d3a }
.name, .time { text-anchor: end }
.time, .note { fill: #566573; font-size: 11px }
.time { text-anchor: middle }
.axis { stroke: #8a97a5; stroke-dasharray: 2 3 }
.alive { fill: #b7dfc0 } .dying { fill: #f6d58a } .dead { fill: #d5dae0 }
.starting { fill: #c9dff5 } .draining { fill: #e8edc0 } .none { fill: none }
.waiting { fill: none; stroke: #8a97a5; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  .ground { fill: #1b1f24 }
  text { fill: #e6e9ec }
  .time, .note { fill: #a3adb8 }
  .alive { fill: #2c6b3c } .dying { fill: #7d5c10 } .dead { fill: #444c56 }
  .starting { fill: #28527f } .draining { fill: #55591f }
}
"""


class Bar(NamedTuple):
    """From when to when, how it looks, and what is written on it."""

    begin: float
    end: float
    kind: str
    text: str = ""


Rows = Mapping[str, Sequence[Bar]]


def svg(title: str, rows: Rows, *, second: int, times: Sequence[float]) -> str:
    """Return the picture: a row of bars for each name, and a line at each of `times`."""
    last = max(bar.end for bars in rows.values() for bar in bars)
    width, bottom = LEFT + round(last * second) + RIGHT, TOP + len(rows) * ROW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 24}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{bottom + 24}" rx="6"/>',
    ]
    for time in times:
        x = LEFT + round(time * second)
        parts.append(f'<path class="axis" d="M{x} {TOP - 6} V{bottom}"/>')
        parts.append(f'<text class="time" x="{x}" y="{bottom + 14}">{time:g} s</text>')
    for number, (name, bars) in enumerate(rows.items()):
        y = TOP + number * ROW
        parts.append(f'<text class="name" x="{LEFT - 10}" y="{y + 15}">{escape(name)}</text>')
        parts += [_bar(bar, y, second) for bar in bars]
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, y: int, second: int) -> str:
    x, width = LEFT + round(bar.begin * second), round((bar.end - bar.begin) * second)
    shape = f'<rect class="{bar.kind}" x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="4"/>'
    return f'{shape}<text x="{x + 6}" y="{y + 15}">{escape(bar.text)}</text>'


def thumbnails() -> str:
    """Return the picture of a stop in two phases: from what the program of that page prints."""
    output = io.StringIO()
    run = trio.run
    trio.run = partial(run, clock=MockClock(autojump_threshold=0))
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(PROGRAM), run_name="__main__")
    finally:
        trio.run = run
    lines = (line.split(" s: ") for line in output.getvalue().splitlines())
    told = [(float(at), text) for at, text in lines]
    asked, dead = (next(at for at, text in told if word in text) for word in ("dying", "dead"))
    end = dead + 0.7
    rows = {
        "worker": [
            Bar(0, asked, "alive", "alive"),
            Bar(asked, dead, "dying", "dying: two seconds of grace"),
            Bar(dead, end, "dead", "dead"),
        ]
    }
    for number, name in enumerate(("cat", "dog", "cow", "hen")):
        at, text = next((at, text) for at, text in told if text.startswith(name))
        said = text.removeprefix(f"{name} ").replace("is made", "made").replace("gets ", "")
        waits = [Bar(number / 10, at, "waiting")] if at > number / 10 else []
        rows[name] = [*waits, Bar(at, end, "none", said)]
    return svg("A stop in two phases", rows, second=200, times=[0, asked, 1, 2, dead])


def draining() -> str:
    """Return the picture of those who stop before what they need: from an engine's events."""
    rows = trio.run(_lives, clock=MockClock(autojump_threshold=0))
    return svg("Those who need a part stop before it", rows, second=92, times=[0, RESTART, KILL])


RESTART, KILL = 3, 7
KINDS = {
    State.WAITING: "waiting",
    State.STARTING: "starting",
    State.STARTED: "alive",
    State.DRAINING: "draining",
    State.STOPPING: "dying",
    State.DONE: "none",
    State.STOPPED: "none",
}


async def _lives() -> Rows:
    engine = Engine()
    engine.install_all(
        {
            "visitor": Manifold(partial(_part, begin=0.8, visits=True), inputs=("server",)),
            "server": Manifold(partial(_part, begin=0.8, end=1), inputs=("settings", "names")),
            "settings": Manifold(partial(_part, begin=0.8)),
            "names": Manifold(partial(_part, begin=0.8)),
        }
    )
    rows = {name: [Bar(0, 0, "waiting", "waiting")] for name in engine.report().manifolds}
    with engine.events() as events:
        async with open_worker(engine):
            await trio.sleep(RESTART)
            engine.restart("settings")
            await trio.sleep(KILL - RESTART)
        async for event in events:
            bars = rows[event.manifold]
            bars[-1] = bars[-1]._replace(end=event.time)
            bars.append(Bar(event.time, event.time, KINDS[event.after], str(event.after)))
    end = trio.current_time() + 0.8
    for bars in rows.values():
        bars[-1] = bars[-1]._replace(end=end)
    return {name: [bar for bar in bars if bar.end > bar.begin] for name, bars in rows.items()}


async def _part(
    get: object,  # noqa: ARG001 - what a start function is given
    *,
    task_status: trio.TaskStatus[None],
    begin: float,
    end: float = 0,
    visits: bool = False,
) -> None:
    await trio.sleep(begin)
    if visits:
        return
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(end)


PICTURES: Mapping[str, Callable[[], str]] = {
    "tutorial/thumbnails.svg": thumbnails,
    "tutorial/draining.svg": draining,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
