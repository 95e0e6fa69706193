"""Draw the states of a manifold from the engine's own table: a picture, and a page with all of it.

    python docs/_scripts/draw_states.py

writes `docs/states.svg` and `docs/states.md`; every build of the documentation does the same first
(`docs/conf.py`). What is drawn comes from the table. Where it is drawn is said here by hand, since
eleven boxes do not need a layout algorithm; a transition that has no place is an error, so that the
picture cannot fall behind.

Two frames keep it readable. All states with a run share the ways in which a run ends, and so do
most states without one the ways in which an operator or the engine puts them away: an edge that
leaves a frame holds for every state in it.
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from pathlib import Path

from trioworker.dependency import State
from trioworker.dependency._states import RUNNING, TABLE, Event

DOCS = Path(__file__).resolve().parent.parent

Edges = dict[tuple[str, State], list[Event]]
"""From a state or a frame, to a state, by which events; in the order of the table."""

FRAMES: dict[str, frozenset[State]] = {
    "with a run": RUNNING,
    "without": frozenset(
        {State.WAITING, State.DELAYED, State.DONE, State.FAILED, State.HELD},
    ),
}

WIDTH, HEIGHT = 940, 470
BOX = (92, 32)
CENTRES = {
    State.STARTING: (220, 130),
    State.STARTED: (380, 130),
    State.DRAINING: (540, 130),
    State.STOPPING: (700, 130),
    State.ABSENT: (62, 290),
    State.WAITING: (220, 290),
    State.DELAYED: (340, 290),
    State.DONE: (460, 290),
    State.FAILED: (580, 290),
    State.HELD: (700, 290),
    State.STOPPED: (884, 290),
}
FRAME_BOXES = {"with a run": (150, 56, 640, 114), "without": (150, 250, 640, 170)}

# How each edge runs (an SVG path) and where its label stands, centred.
ROUTES: dict[tuple[str, State], tuple[str, int, int]] = {
    ("absent", State.WAITING): ("M108 284 H173", 131, 278),
    ("waiting", State.STARTING): ("M205 274 V147", 186, 205),
    ("starting", State.STARTED): ("M266 130 H333", 300, 124),
    ("started", State.DRAINING): ("M426 130 H493", 460, 124),
    ("draining", State.STOPPING): ("M586 130 H653", 620, 124),
    ("starting", State.DRAINING): ("M235 114 C290 84 450 84 520 113", 330, 86),
    ("with a run", State.STOPPING): ("M790 130 H748", 769, 124),
    ("delayed", State.WAITING): ("M330 306 C330 334 252 334 252 308", 305, 341),
    ("done", State.WAITING): ("M450 306 C450 385 240 385 240 308", 376, 341),
    ("failed", State.WAITING): ("M570 306 C570 410 228 410 228 308", 510, 341),
    ("held", State.WAITING): ("M690 306 C690 435 216 435 216 308", 630, 341),
    ("with a run", State.WAITING): ("M235 170 V272", 256, 225),
    ("with a run", State.DELAYED): ("M340 170 V272", 360, 225),
    ("with a run", State.DONE): ("M460 170 V272", 482, 225),
    ("with a run", State.FAILED): ("M580 170 V272", 606, 225),
    ("with a run", State.HELD): ("M700 170 V272", 718, 225),
    ("with a run", State.STOPPED): ("M790 105 C850 105 884 180 884 272", 852, 205),
    ("with a run", State.ABSENT): ("M150 105 C90 105 62 180 62 272", 86, 205),
    ("without", State.HELD): ("M740 420 V326 C740 315 730 310 722 308", 756, 380),
    ("without", State.STOPPED): ("M790 290 H836", 814, 268),
    ("without", State.ABSENT): ("M150 302 C135 304 122 302 110 298", 131, 318),
    ("stopped", State.ABSENT): ("M884 306 C884 500 62 500 62 308", 470, 446),
}

# What the page says of each. A state or an event that is not here is an error, as with the routes.
STATES: dict[State, str] = {
    State.ABSENT: "not installed, or uninstalled",
    State.WAITING: "for its inputs; after `Missing`, for a change of one",
    State.DELAYED: "starts again when its delay is over: after an error, `Bounce` or `RetryAfter`",
    State.STARTING: "its start function runs, and has not called `started()` yet",
    State.STARTED: "ready: others can have its output",
    State.DRAINING: "is to stop, once those that use it have ended",
    State.STOPPING: "was asked to stop, or cancelled, or fails; its run has not ended yet",
    State.DONE: "it returned",
    State.FAILED: "was restarted too often (`max_restarts`); `restart()` tries again",
    State.HELD: "stopped by an operator, until `release()`",
    State.STOPPED: "with its engine",
}
EVENTS: dict[Event, str] = {
    Event.INSTALL: "`install()` or `install_all()`",
    Event.WAKE: "the delay is over, or was cut short; an input of one that is done has changed",
    Event.RESTART: "`restart()`, of one without a run",
    Event.RELEASE: "`release()`",
    Event.START: "all its inputs are started",
    Event.READY: "it called `started()`",
    Event.STOP: "its run is to end",
    Event.DRAINED: "nobody uses it any more",
    Event.FALL: "its run ends by itself: an error is on its way out, or the start took too long",
    Event.AGAIN: "it ended, and is to run again when it can",
    Event.LATER: "it ended, and is to run again after a delay",
    Event.RETURN: "it ended, because it returned",
    Event.GIVE_UP: "it ended by an error, once too often",
    Event.HOLD: "`hold()`, or it ended because of that",
    Event.SHUT_DOWN: "the engine stops, or it ended because of that",
    Event.REMOVE: "`uninstall()` or `Uninstall`, or it ended because of that",
}

HEAD = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#5a7184"/></marker></defs>'
)
STYLE = """
.frame { fill: #f4f6f9; stroke: #b8c2cf; stroke-dasharray: 4 3 }
.box { fill: #fff; stroke: #33475b; stroke-width: 1.5 }
.edge { fill: none; stroke: #5a7184; stroke-width: 1.2; marker-end: url(#head) }
text { font: 12px sans-serif; fill: #1f2d3a; text-anchor: middle }
.name { font-weight: bold }
.event { fill: #41566a; font-size: 11px; stroke: #fff; stroke-width: 3; paint-order: stroke }
.note { fill: #66788a; font-size: 11px; text-anchor: start }
"""


def edges() -> Edges:
    """Return what is to be drawn: the table, with what a frame has in common taken together."""
    shared = {
        frame: {
            (event, after)
            for event, after in TABLE[next(iter(states))].items()
            if all(TABLE[state].get(event) is after for state in states)
        }
        for frame, states in FRAMES.items()
    }
    found: Edges = defaultdict(list)
    for frame, common in shared.items():
        for event in Event:
            for after in (after for shared_event, after in common if shared_event is event):
                found[frame, after].append(event)
    for state, row in TABLE.items():
        frames = [frame for frame, states in FRAMES.items() if state in states]
        for event, after in row.items():
            if after is not state and not any((event, after) in shared[f] for f in frames):
                found[str(state), after].append(event)
    return dict(found)


def svg() -> str:
    """Return the picture."""
    drawn = edges()
    homeless = sorted(f"{source} -> {target}" for source, target in drawn.keys() - ROUTES.keys())
    stale = sorted(f"{source} -> {target}" for source, target in ROUTES.keys() - drawn.keys())
    if homeless or stale or CENTRES.keys() != set(State):
        msg = f"ROUTES or CENTRES lack {homeless} or {set(State) - CENTRES.keys()}, or have {stale}"
        raise ValueError(msg)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>The states of a manifold and what moves it between them</title>",
        f"<style>{STYLE}</style>",
        HEAD,
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#fff"/>',
    ]
    for frame, (x, y, width, height) in FRAME_BOXES.items():
        parts += [
            f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>',
            f'<text class="note" x="{x + 10}" y="{y + 16}">{escape(frame)}</text>',
        ]
    parts += [f'<path class="edge" d="{ROUTES[edge][0]}"/>' for edge in drawn]
    for state, (x, y) in CENTRES.items():
        width, height = BOX
        size = f'width="{width}" height="{height}" rx="6"'
        parts += [
            f'<rect class="box" x="{x - width // 2}" y="{y - height // 2}" {size}/>',
            f'<text class="name" x="{x}" y="{y + 4}">{state}</text>',
        ]
    for edge, events in drawn.items():
        _, x, y = ROUTES[edge]
        parts.append(f'<text class="event" x="{x}" y="{y}">{escape(", ".join(events))}</text>')
    return "\n".join([*parts, "</svg>", ""])


def page() -> str:
    """Return the page around the picture: the whole table, in words."""
    lines = [
        "<!-- Written by docs/_scripts/draw_states.py from the engine's table. -->",
        "# The states of a manifold",
        "",
        "Picture and table are drawn from the table that the engine itself applies",
        "(`trioworker/dependency/_states.py`). An arrow that leaves a frame holds for every state",
        "in it; one that leads back to the same state is only in the table. What is not in the",
        "table is refused.",
        "",
        "![The states of a manifold and what moves it between them](states.svg)",
        "",
        "| state | what it means |",
        "|---|---|",
        *(f"| **{state}** | {STATES[state]} |" for state in TABLE),
        "",
        "| event | what has happened |",
        "|---|---|",
        *(f"| {event} | {EVENTS[event]} |" for event in Event),
        "",
        "| state | event | next state |",
        "|---|---|---|",
    ]
    for state, row in TABLE.items():
        by_target: dict[State, list[Event]] = defaultdict(list)
        for event, after in row.items():
            by_target[after].append(event)
        for number, (after, events) in enumerate(by_target.items()):
            name = "" if number else f"**{state}**"
            lines.append(f"| {name} | {', '.join(events)} | {after} |")
    return "\n".join([*lines, ""])


def write() -> None:
    """Write both files; those that would not change are left alone."""
    for name, text in [("states.svg", svg()), ("states.md", page())]:
        path = DOCS / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
