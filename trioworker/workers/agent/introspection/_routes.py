"""What can be asked, and the answers. One function for each path, and the table of them.

Whatever is long is made in slices: between two pieces that took more than `SLICE` together, the
others in the program get their turn.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set as AbstractSet
from typing import TypeAlias, final

import attrs
import trio

from trioworker import NotFound
from trioworker.backends.http import Request, Response, Send
from trioworker.dependency import (
    EngineReport,
    EventStream,
    Explanation,
    Inspector,
    ManifoldReport,
    Operator,
    Transition,
)

from ._access import Refusal, Rules, refusal
from ._data import (
    OURS,
    OURS_NAMED,
    dumped,
    explanation_data,
    manifold_data,
    masked,
    stack_data,
    tomb_data,
    transition_data,
)
from ._faces import Exposition, Masking
from ._graph import dot, mermaid, svg
from ._page import CSS, POLICY, SCRIPT, locked, parts
from ._trace import Recorder, trace_events

SLICE = 0.002
"""Seconds of work between two checkpoints."""
HEARTBEAT = 15.0
"""Seconds of silence after which a stream of events shows that it lives."""
BACKLOG = 1000
"""So many events are kept for a client that does not read them; the oldest are dropped."""
MOST_UNREADY = 50
"""So many are told one by one when the program is not ready."""
MOST_NAME = 200
"""A name with more characters is nobody's, nor near to anybody's."""

_LEVELS = ("debug", "info", "warning", "error", "critical")
_HIDING: tuple[tuple[str, str], ...] = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # Data is not to be shown as a page, even if a browser takes it for one.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)


_SHOWN = (*_HIDING[:-1], ("Content-Security-Policy", POLICY))


@final
@attrs.frozen(kw_only=True)
class Inside:
    """What the routes ask."""

    inspector: Inspector
    operator: Operator
    recorder: Recorder
    exposition: Exposition | None
    mask: Masking | None
    own: frozenset[str]
    """The names of this manifold and of what it needs: what has to go on, so that it answers."""
    awaited: Callable[[str], Sequence[str]] = lambda _name: ()
    """For whose end a manifold waits because it answers until then."""


Answer: TypeAlias = Callable[[Inside, Request], Awaitable[Response]]


class Wrong(Exception):
    """An answer that says what was wrong about the question."""

    def __init__(
        self, status: int, error: str, hint: str = "", headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(error)
        self.response = told(status, error, hint, headers)


def told(
    status: int, error: str, hint: str = "", headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Return the answer that says what is wrong, and the way out."""
    body = dumped({"error": error, "hint": hint})
    return _json(body, status=status, headers=headers)


def refused(refusal: Refusal) -> Response:
    """Return the answer to who may not ask."""
    headers: tuple[tuple[str, str], ...] = ()
    if refusal.status == 401:  # noqa: PLR2004 - unauthorized
        headers = (("WWW-Authenticate", 'Bearer realm="trioworker"'),)
    return told(refusal.status, refusal.error, refusal.hint, headers)


def _json(body: str, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(
        status=status,
        content_type="application/json",
        headers=(*_HIDING, *headers),
        body=body.encode("ascii"),
    )


# -- slices ----------------------------------------------------------------------------------------


@final
class _Pace:
    """Gives the others a turn when a slice is over."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + SLICE

    async def step(self) -> None:
        if time.perf_counter() >= self._end:
            await trio.lowlevel.checkpoint()
            self._end = time.perf_counter() + SLICE


def _dumped(inside: Inside, data: object, ours: AbstractSet[str] = OURS) -> str:
    return dumped(data if inside.mask is None else masked(data, inside.mask, ours))


async def _looked_at(inside: Inside) -> EngineReport:
    """Return the report of the engine, made one manifold after the other."""
    pace = _Pace()
    view = inside.inspector.view()
    manifolds: dict[str, ManifoldReport] = {}
    for name, manifold in view.manifolds.items():
        manifolds[name] = manifold
        await pace.step()
    return view._replace(manifolds=manifolds)


async def _object(
    inside: Inside, items: Iterable[tuple[str, object]], ours: AbstractSet[str] = OURS
) -> str:
    """Return a JSON object, made one item after the other."""
    pace = _Pace()
    parts: list[str] = []
    for name, value in items:
        parts.append(f"{dumped(name)}:{_dumped(inside, value, ours)}")
        await pace.step()
    return f"{{{','.join(parts)}}}"


async def _array(inside: Inside, items: Iterable[object], ours: AbstractSet[str] = OURS) -> str:
    """Return a JSON array, made one item after the other."""
    pace = _Pace()
    parts: list[str] = []
    for value in items:
        parts.append(_dumped(inside, value, ours))
        await pace.step()
    return f"[{','.join(parts)}]"


# -- what is there ---------------------------------------------------------------------------------


async def _healthz(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    return Response(headers=_HIDING, body=b"ok\n")


async def _readyz(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    unready = (await _looked_at(inside)).unready()
    if not unready:
        return _json('{"ready":true}')
    waiting: list[dict[str, str]] = []
    pace = _Pace()
    for report in unready[:MOST_UNREADY]:
        sentence = _sentence(inside, report.name)
        waiting.append({"manifold": report.name, "state": report.state, "sentence": sentence})
        await pace.step()
    data: dict[str, object] = {"ready": False, "waiting": waiting}
    if len(unready) > MOST_UNREADY:
        data["more"] = len(unready) - MOST_UNREADY
    return _json(_dumped(inside, data), status=503)


def _sentence(inside: Inside, name: str) -> str:
    try:
        return str(_explained(inside, name))
    except NotFound:  # meanwhile
        return f"{name} was uninstalled"


def _explained(inside: Inside, name: str) -> Explanation:
    """Explain as the engine does, and go on where that ends at who only waits, to answer us."""
    explanation = link = inside.inspector.explain(name)
    awaited = inside.awaited(explanation.root.manifold)
    if not awaited:
        return explanation
    links: list[Explanation] = []
    while link.because is not None:
        links.append(link)
        link = link.because
    text = f"{link.manifold} answers until {', '.join(awaited)} has ended"
    told = link._replace(text=text, because=inside.inspector.explain(awaited[0]))
    for link in reversed(links):
        told = link._replace(because=told)
    return told


async def _report(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    report = await _looked_at(inside)
    head = {
        "name": report.name,
        "tomb": tomb_data(report.tomb),
        "now": trio.current_time(),
        "epoch": time.time(),
    }
    manifolds = await _object(
        inside,
        ((name, manifold_data(one)) for name, one in report.manifolds.items()),
        OURS_NAMED,
    )
    return _json(f'{_dumped(inside, head)[:-1]},"manifolds":{manifolds}}}')


async def _explain(inside: Inside, request: Request) -> Response:
    name = request.parts[1]
    try:
        explanation = _explained(inside, name)
    except NotFound:
        raise _unknown(inside, name) from None
    try:
        blast_radius = inside.inspector.blast_radius(name)
    except NotFound:  # somebody waits for it, but it is not installed
        blast_radius = ()
    return _json(_dumped(inside, explanation_data(explanation, blast_radius)))


async def _all_stacks(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    names = list(inside.inspector.view().manifolds)

    def stacks() -> Iterable[tuple[str, object]]:
        for name in names:
            try:
                yield name, [stack_data(stack) for stack in inside.inspector.stacks(name)]
            except NotFound:  # meanwhile
                continue

    return _json(await _object(inside, stacks()))


async def _stacks(inside: Inside, request: Request) -> Response:
    name = request.parts[1]
    try:
        stacks = inside.inspector.stacks(name)
    except NotFound:
        raise _unknown(inside, name) from None
    return _json(_dumped(inside, [stack_data(stack) for stack in stacks]))


async def _trace(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    transitions = inside.recorder.transitions()
    name = (inside.mask or str)(inside.inspector.view().name)
    events = await _array(inside, trace_events(transitions, trio.current_time(), name), OURS_NAMED)
    data = {"displayTimeUnit": "ms", "otherData": {"forgotten": inside.recorder.forgotten}}
    response = _json(f'{dumped(data)[:-1]},"traceEvents":{events}}}')
    as_file = ("Content-Disposition", 'attachment; filename="trace.json"')
    return attrs.evolve(response, headers=(*response.headers, as_file))


async def _metrics(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    exposition = inside.exposition
    if exposition is None:
        hint = "give the engine a PrometheusMetrics, and offer it to this manifold as Exposition"
        raise Wrong(404, "this program counts nothing", hint)
    pace = _Pace()
    made: list[bytes] = []
    for part in exposition.parts():
        made.append(part)
        await pace.step()
    return Response(content_type=exposition.content_type, headers=_HIDING, body=b"".join(made))


# -- the page, and the graph for it and for others -------------------------------------------------


def _html(body: bytes) -> Response:
    return Response(content_type="text/html; charset=utf-8", headers=_SHOWN, body=body)


async def _page(inside: Inside, *, actions: bool) -> Response:
    report = await _looked_at(inside)
    pace = _Pace()
    made: list[str] = []
    for part in parts(report.name, report, actions=actions, mask=inside.mask or str):
        made.append(part)
        await pace.step()
    # A name may have half of a surrogate pair, which no encoding has.
    return _html("".join(made).encode("utf-8", "replace"))


def _drawn(draw: Callable[[Inside, Request, EngineReport], str], content_type: str) -> Answer:
    async def answer(inside: Inside, request: Request) -> Response:
        report = await _looked_at(inside)
        body = draw(inside, request, report).encode("utf-8", "replace")
        return Response(content_type=f"{content_type}; charset=utf-8", headers=_HIDING, body=body)

    return answer


def _picture(inside: Inside, request: Request, report: EngineReport) -> str:
    around = request.query.get("around")
    if around is not None and around not in report.manifolds:
        raise _unknown(inside, around)
    return svg(report, around=around)


# What anybody may have: it is the same everywhere, and tells nothing.
_STATIC = {
    "page.css": Response(content_type="text/css; charset=utf-8", headers=_SHOWN, body=CSS),
    "page.js": Response(content_type="text/javascript; charset=utf-8", headers=_SHOWN, body=SCRIPT),
}


# -- events ----------------------------------------------------------------------------------------


async def _next(events: EventStream) -> Transition | None:
    """Return the next event; None if there will be none."""
    try:
        return await anext(events)
    except StopAsyncIteration:
        return None


async def _events(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    events = inside.inspector.events(BACKLOG)

    async def body(send: Send) -> None:
        with events:
            await send(b": these are the events from now on\n\n")
            dropped = 0
            while True:
                first = None
                with trio.move_on_after(HEARTBEAT) as waiting:
                    first = await _next(events)
                if waiting.cancelled_caught:
                    await send(b": nothing new\n\n")
                    continue
                if first is None:
                    return
                batch = (first, *events.take())
                parts: list[str] = []
                if events.dropped > dropped:
                    lost, dropped = events.dropped - dropped, events.dropped
                    parts.append(f'event: dropped\ndata: {{"count":{lost}}}\n\n')
                pace = _Pace()
                for event in batch:
                    parts.append(f"data: {_dumped(inside, transition_data(event))}\n\n")
                    await pace.step()
                await send("".join(parts).encode("ascii"))

    return Response(content_type="text/event-stream", headers=_HIDING, body=body, end=events.end)


# -- actions ---------------------------------------------------------------------------------------


def _verb(name: str) -> Answer:
    async def act(inside: Inside, request: Request) -> Response:
        target = request.parts[1]
        if name == "hold" and target in inside.own:
            hint = "what answers could not release it again; restart it, or stop the program"
            raise Wrong(409, f"{target!r} is what answers, or what that needs", hint)
        try:
            getattr(inside.operator, name)(target)
        except NotFound:
            raise _unknown(inside, target) from None
        return _json("{}", status=202)

    return act


async def _drain(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    """Hold everything, save what is needed to release it again."""
    for name in reversed(list(inside.inspector.view().manifolds)):
        if name not in inside.own:
            inside.operator.hold(name)
    return _json("{}", status=202)


async def _log_level(inside: Inside, request: Request) -> Response:  # noqa: ARG001 - as all of them
    level = request.query.get("level", "").lower()
    logger = request.query.get("logger", "trioworker")
    if level not in _LEVELS:
        raise Wrong(400, "this is no level", f"?level= one of: {', '.join(_LEVELS)}")
    if logger != "trioworker" and not logger.startswith("trioworker."):
        raise Wrong(400, "this is not ours", "?logger=trioworker, or one below: trioworker.engine")
    if len(logger) > MOST_NAME:
        raise Wrong(400, "this is not ours", "?logger= with a shorter name")
    logging.getLogger(logger).setLevel(level.upper())
    return _json("{}", status=202)


def _unknown(inside: Inside, name: str) -> Wrong:
    names = list(inside.inspector.view().manifolds)
    near = [] if len(name) > MOST_NAME else difflib.get_close_matches(name, names)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
    if not hint:
        some = ", ".join(map(repr, names[:8]))
        hint = f"there are: {some}{', ...' if len(names) > 8 else ''}"  # noqa: PLR2004 - a line's length
    shown = name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…"
    return Wrong(404, f"there is no manifold {shown!r}", hint)


# -- the table -------------------------------------------------------------------------------------


_GET: dict[str, Answer] = {
    "healthz": _healthz,
    "readyz": _readyz,
    "report": _report,
    "explain/NAME": _explain,
    "stacks": _all_stacks,
    "stacks/NAME": _stacks,
    "events": _events,
    "metrics": _metrics,
    "trace.json": _trace,
    "graph.svg": _drawn(_picture, "image/svg+xml"),
    "graph.dot": _drawn(lambda _inside, _request, report: dot(report), "text/vnd.graphviz"),
    "graph.mmd": _drawn(lambda _inside, _request, report: mermaid(report), "text/plain"),
}
_POST: dict[str, Answer] = {
    "restart/NAME": _verb("restart"),
    "hold/NAME": _verb("hold"),
    "release/NAME": _verb("release"),
    "drain": _drain,
    "log-level": _log_level,
}


async def answer(inside: Inside, rules: Rules, request: Request) -> Response:
    """Return the answer to `request`."""
    match request.parts:
        case (path,):
            pass
        case (first, _):
            path = f"{first}/NAME"
        case _:
            path = "?"
    is_action = path in _POST
    no = refusal(request, rules, is_action=is_action)
    if no is not None:
        if no.status == 401 and request.method in {"GET", "HEAD"}:  # noqa: PLR2004 - unauthorized
            if path in _STATIC:
                return _STATIC[path]
            if path == "":
                return _html(locked().encode())  # so that it can ask for the token
        return refused(no)
    if not is_action and path not in {"", *_STATIC, *_GET}:
        paths = ", ".join(f"/{known}" for known in ("", *_GET, *_POST))
        return told(404, "there is nothing at this path", f"there are: {paths}")
    if request.method not in (("POST",) if is_action else ("GET", "HEAD")):
        allowed = "POST" if is_action else "GET, HEAD"
        return told(405, f"this takes {allowed}", "", (("Allow", allowed),))
    if path in _STATIC:
        return _STATIC[path]
    try:
        if path == "":
            may_act = request.peer_uid is not None or rules.actions_over_tcp
            return await _page(inside, actions=may_act)
        return await (_POST if is_action else _GET)[path](inside, request)
    except Wrong as wrong:
        return wrong.response
