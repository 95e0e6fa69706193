"""The page of a running engine: HTML made of a report. Pure functions.

All that the table shows is written here, so the page says everything without its script, and in one
place only: the script does not make rows, it takes them out of a fresh copy of the page. What it
adds (graph, details, timeline, feed) it asks the server for.

A page is made **in parts**, each of a few dozen rows, so that a server can let others run between
them. It comes in two kinds: for whoever may read the engine, and **locked**, which shows nothing of
it and asks for the token.

Names and messages come from anywhere. Each passes through `_text`: shown in one line, and escaped.
No style and no script stands in the page itself, so a policy can forbid them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote

from trioworker.dependency import State

if TYPE_CHECKING:
    from trioworker.dependency import EngineReport, ManifoldReport

_HERE = files("trioworker.workers.agent.introspection")
CSS = _HERE.joinpath("page.css").read_bytes()
SCRIPT = _HERE.joinpath("page.js").read_bytes()
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may do: the Content-Security-Policy that it is to be served with."""

_ROWS = 25
"""So many rows make a part."""
_LONGEST = 240
"""Characters of a message in the table; the details have all of it."""
_NAMED = 3
"""So many names are told before the rest is counted."""

_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script type="module" src="page.js"></script>
</head>
<body{flags}>
<a class="skip" href="#rows">Skip to the manifolds</a>
<header>
<div class="brand"><h1>{name}</h1><p id="engine">{engine}</p></div>
<p id="live" role="status"></p>
<button id="drain" type="button" hidden>Drain</button>
</header>
<form id="login" hidden>
<h2>This page needs a token</h2>
<p>It is the one that the program was configured with. It stays in this tab.</p>
<label for="token">Token</label>
<div class="line"><input id="token" type="password" autocomplete="off" spellcheck="false" required>
<button type="submit">Open</button></div>
<p id="refused" role="alert"></p>
</form>
<noscript><p class="note">Without its script this page shows the manifolds as they were when it
was loaded.</p></noscript>
"""

_TABLE = """\
<div id="page">
<main>
<section id="table" aria-label="Manifolds">
<div class="bar">
<input id="filter" type="search" placeholder="Filter" aria-label="Filter by name, state or message"
autocomplete="off" spellcheck="false">
<div id="states" role="group" aria-label="Only those in one state">{states}</div>
</div>
<table>
<thead><tr><th scope="col">Manifold</th><th scope="col">State</th><th scope="col">Why</th>\
<th scope="col" class="n">Since</th><th scope="col" class="n">Starts</th>\
<th scope="col">Last error</th></tr></thead>
<tbody id="rows">
"""

_REST = """\
</tbody>
</table>
<p id="none" class="note"{none}>{nothing}</p>
</section>
<details id="graph" class="panel" open><summary>Graph</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Graph: who needs whom"></div></details>
<details id="timeline" class="panel"><summary>Timeline</summary>
<div class="scroll" tabindex="0" role="region" aria-label="Timeline of the runs"></div></details>
</main>
<aside>
<section id="details" aria-label="Details" hidden></section>
<section id="events" aria-label="Events">
<h2>Events</h2>
<p class="note">Nothing has moved since this page was opened.</p>
<ol role="log" aria-live="polite" aria-label="Transitions, newest first"></ol>
</section>
</aside>
</div>
</body>
</html>
"""


def page(
    name: str,
    report: EngineReport,
    *,
    actions: bool = False,
    mask: Callable[[str], str] = str,
) -> str:
    """Return the whole page; see `parts`."""
    return "".join(parts(name, report, actions=actions, mask=mask))


def locked() -> str:
    """Return the page for those who have not shown a token: it asks for it, and tells nothing.

    It is what ``GET /`` answers to them, with status 200, as it is what they are to see. Its style
    and its script need no token: they are the same everywhere.
    """
    head = _HEAD.format(title="trioworker", name="trioworker", engine="", flags=" data-locked")
    table = _TABLE.format(states="")
    return f"{head}{table}{_REST.format(none=' hidden', nothing='')}"


def parts(
    name: str,
    report: EngineReport,
    *,
    actions: bool = False,
    mask: Callable[[str], str] = str,
) -> Iterator[str]:
    """Yield the page in parts, each in a millisecond or so.

    Args:
        name: what to call it; the name of the engine.
        report: of the engine.
        actions: whether the page offers to restart, hold and release; the server has to know
            whether whoever asks may.
        mask: changes every message, to hide what must not be seen.
    """
    manifolds = report.manifolds
    title = _text(mask(name))
    life = _text(mask(_life(report)))
    flags = " data-actions" if actions else ""
    yield _HEAD.format(title=f"{title} · trioworker", name=title, engine=life, flags=flags)
    counts = Counter(str(manifold.state) for manifold in manifolds.values())
    yield _TABLE.format(states="".join(_chip(str(s), counts[s]) for s in State if counts[s]))
    roots: dict[str, str] = {}
    rows: list[str] = []
    for manifold in manifolds.values():
        rows.append(_row(manifold, _why(manifold, manifolds, roots), mask))
        if len(rows) == _ROWS:
            yield "".join(rows)
            rows.clear()
    yield "".join(rows)
    none = " hidden" if manifolds else ""
    yield _REST.format(none=none, nothing="" if manifolds else "This engine has no manifolds.")


def _life(report: EngineReport) -> str:
    """Return what there is to say of the engine itself, if it is not simply alive."""
    tomb = report.tomb
    if tomb.state == "alive":
        return ""
    return f"the engine is {tomb.state}{f': {tomb.reason}' if tomb.reason else ''}"


def _chip(state: str, count: int) -> str:
    return (
        f'<button type="button" class="s {state}" data-only="{state}" aria-pressed="false">'
        f"{state} <b>{count}</b></button>"
    )


def _row(manifold: ManifoldReport, why: str, mask: Callable[[str], str]) -> str:
    name, state = manifold.name, str(manifold.state)
    anchor = quote(name, safe="", errors="replace")  # of what no encoding has
    error = next((end.error for end in reversed(manifold.history) if end.error), None)
    return (
        f'<tr data-name="{escape(name)}" data-state="{state}">'
        f'<th scope="row"><a href="#{anchor}">{_text(name)}</a></th>'
        f'<td class="s {state}">{state}</td>'
        f'<td class="why">{_text(mask(why))}{_retry(manifold)}</td>'
        f'<td class="n" data-age="{manifold.since:.3f}">{duration(manifold.since)}</td>'
        f'<td class="n starts">{manifold.starts}</td>'
        f'<td class="error">{_text(mask(error)) if error else ""}</td></tr>\n'
    )


def _retry(manifold: ManifoldReport) -> str:
    left = manifold.retry_in
    if left is None or manifold.state != State.DELAYED:
        return ""
    again = f'again in <span data-in="{left:.3f}">{duration(left)}</span>'
    return f"; {again}" if manifold.why else again


# -- why -------------------------------------------------------------------------------------------


def _why(
    manifold: ManifoldReport, manifolds: Mapping[str, ManifoldReport], roots: dict[str, str]
) -> str:
    """Return why `manifold` is in its state; nothing if that needs no reason.

    Args:
        manifold: whose state.
        manifolds: all of them, by name.
        roots: what is known of where waiting begins; filled in here.
    """
    if not _waits(manifold):
        return _told(manifold)
    text = f"waits for {_names(manifold.waiting_for)}"
    name = _root(manifold.name, manifolds, roots)
    root = manifolds.get(name)
    if root is None:
        return f"{text}; {name} is not installed"
    told = _told(root)
    return f"{text}; {name} is {root.state}{f': {told}' if told else ''}"


def _root(name: str, manifolds: Mapping[str, ManifoldReport], roots: dict[str, str]) -> str:
    """Return the manifold that `name` waits for in the end; one that waits for no other."""
    path: dict[str, None] = {}
    while name not in roots and name not in path:
        manifold = manifolds.get(name)
        if manifold is None or not _waits(manifold):
            break
        path[name] = None
        inputs = manifold.waiting_for
        name = next(
            (n for n in inputs if n not in manifolds or not _waits(manifolds[n])), inputs[0]
        )
    root = roots.get(name, name)
    roots.update(dict.fromkeys(path, root))
    return root


def _waits(manifold: ManifoldReport) -> bool:
    """Whether it waits for others, and not for a change."""
    has_reason = manifold.why is not None
    return manifold.state == State.WAITING and not has_reason and bool(manifold.waiting_for)


def _told(manifold: ManifoldReport) -> str:
    tell = _TELL.get(State(manifold.state))
    return "" if tell is None else tell(manifold)


def _waiting(manifold: ManifoldReport) -> str:
    if manifold.why is None:
        return "is about to start"
    return f"waits for a change of its inputs: {manifold.why}"


def _draining(manifold: ManifoldReport) -> str:
    return f"stops after its dependents{_because(manifold.stop_cause)}"


def _stopping(manifold: ManifoldReport) -> str:
    if manifold.stuck is None:
        return manifold.stop_cause or ""
    where = manifold.stuck[-1] if manifold.stuck else "an unknown place"
    return f"is stuck at {where}{_because(manifold.stop_cause)}"


def _stopped(manifold: ManifoldReport) -> str:
    return (manifold.history[-1].cause if manifold.history else None) or ""


_TELL: dict[State, Callable[[ManifoldReport], str]] = {
    State.WAITING: _waiting,
    State.DELAYED: lambda manifold: manifold.why or "",
    State.STARTING: lambda _: "has not called started() yet",
    State.DRAINING: _draining,
    State.STOPPING: _stopping,
    State.DONE: lambda _: "returned",
    State.FAILED: lambda manifold: f"restarted too often{_because(manifold.why)}",
    State.HELD: lambda _: "by an operator",
    State.STOPPED: _stopped,
}


def _because(cause: str | None) -> str:
    return f" ({cause})" if cause else ""


def _names(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    told = ", ".join(names[:_NAMED])
    return f"{told} and {more} more" if more > 0 else told


# -- text ------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    """Return `text` for HTML: in one line, not too long, and nothing in it means anything."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1]}…"
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return escape(text)


def duration(seconds: float) -> str:
    """Return a span of time as one looks at it: ``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``.

    The script has the same function, to count on.
    """
    if seconds < 10:  # noqa: PLR2004 - below it a tenth is worth seeing
        return f"{seconds:.1f} s"
    for size, unit, following in ((1, "s", 60), (60, "min", 3600), (3600, "h", 86400)):
        if seconds < following:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds / 86400)} d"
