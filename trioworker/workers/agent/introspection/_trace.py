"""What has happened since the program began, for trace viewers (Perfetto, ``chrome://tracing``).

A `Recorder` is a stream of events, read in the background by all that have come together: so it
costs an idle program nothing, and a busy one little. It begins with the engine, and waits there for
somebody to read it. What is older than the last `MOST` transitions is forgotten.

The viewer is shown one row for each manifold, and in it one bar for each state that it was in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, final

from trioworker.dependency import Engine, EngineReport, Inspector, State, Transition

MOST = 10_000
"""So many transitions are kept: three for each manifold that starts, four to restart it."""

_COLORS = {
    "waiting": "grey",
    "delayed": "bad",
    "starting": "thread_state_runnable",
    "started": "good",
    "draining": "thread_state_iowait",
    "stopping": "thread_state_uninterruptible",
    "failed": "terrible",
}


@final
class Recorder:
    """The latest transitions of an engine, from now on.

    Args:
        engine: whose.
        most: how many are kept.
    """

    def __init__(self, engine: Engine | Inspector, most: int = MOST) -> None:
        # Never left: it ends with the engine.
        self._stream = engine.events(most).__enter__()
        self._seen: deque[Transition] = deque(maxlen=most)
        self._count = 0

    def add_past(self, report: EngineReport, now: float) -> None:
        """Add what is in the `report` of this moment: since when each is in its state."""
        for one in report.manifolds.values():
            since = now - one.since
            self._add([Transition(since, one.name, State.ABSENT, State(one.state), None, 0)])

    async def run(self) -> None:
        """Keep up with the engine until it ends."""
        async for transition in self._stream:
            self._add([transition, *self._stream.take()])

    def transitions(self) -> tuple[Transition, ...]:
        """Return them, oldest first."""
        self._add(self._stream.take())
        return tuple(self._seen)

    @property
    def forgotten(self) -> int:
        """How many are not kept any more."""
        return self._count - len(self._seen) + self._stream.dropped

    def _add(self, transitions: list[Transition]) -> None:
        self._count += len(transitions)
        self._seen.extend(transitions)

    def close(self) -> None:
        """Record no more."""
        self._stream.__exit__(None, None, None)


def trace_events(
    transitions: Iterable[Transition], now: float, process: str
) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace, in the viewers' JSON.

    Args:
        transitions: oldest first.
        now: the present time, until when the last states last.
        process: what the program is called.
    """
    rows: dict[str, int] = {}
    present: dict[str, Transition] = {}
    boot: float | None = None
    yield _named("process_name", 0, process)
    for transition in transitions:
        name = transition.manifold
        if boot is None and transition.time > 0:  # 0 is before trio.run(): nothing had a time
            boot = transition.time
        if name not in rows:
            rows[name] = len(rows) + 1
            yield _named("thread_name", rows[name], name)
        before = present.get(name)
        if before is not None:
            yield from _bar(before, transition.time, boot, rows[name])
        present[name] = transition
    for name, transition in present.items():
        yield from _bar(transition, now, boot, rows[name])


def _named(what: str, row: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": 1, "tid": row, "args": {"name": name}}


def _bar(
    transition: Transition, end: float, boot: float | None, row: int
) -> Iterator[dict[str, Any]]:
    state = str(transition.after)
    if state == "absent" or boot is None:
        return
    begin = max(transition.time, boot)
    bar = {
        "ph": "X",
        "name": state,
        "cat": "manifold",
        "pid": 1,
        "tid": row,
        "ts": round((begin - boot) * 1e6, 3),
        "dur": round(max(0.0, end - begin) * 1e6, 3),
        "args": {"cause": transition.cause, "origin": transition.origin},
    }
    if state in _COLORS:
        bar["cname"] = _COLORS[state]
    yield bar
