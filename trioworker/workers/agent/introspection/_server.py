"""The worker that answers: a server on the Unix socket, and on loopback TCP if configured.

It is a manifold like any other that uses the built-in one called ``engine``, but the last to go:

- When the whole engine stops, it is asked like everybody, and goes on answering until all others
  have ended, so that one can see who holds up the end.
- When only it is stopped (restarted, held), it ends at once, having finished its answers.
- A hard stop cancels it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar, final

import trio
from trio.lowlevel import RunVar

from trioworker import Getter, NotOffered
from trioworker.backends.http import Limits, Server
from trioworker.dependency import EngineReport, Inspector, Operator, State, current_manifold

from ._access import Rules
from ._config import Config
from ._faces import Exposition, Masking
from ._routes import Inside, answer, told
from ._socket import bound_socket, leave_socket, socket_path
from ._trace import Recorder

T = TypeVar("T")

LAST_ANSWERS = 1.0
"""Seconds that answers may take that are under way when it stops."""

_lingering: RunVar[set[tuple[str, str]]] = RunVar("trioworker: introspection that lingers")
"""Engine and name of those that wait for all others to end: they do not wait for each other."""

_PLENTY = 1_000_000
"""More transitions than there are in one step: whoever waits for each may lose none."""

_RUNNING = frozenset({State.STARTING, State.STARTED, State.DRAINING, State.STOPPING})


@final
class Introspection:
    """What the engine and its reports see of it."""

    def __init__(
        self, server: Server, inspector: Inspector, name: str, addresses: Sequence[str]
    ) -> None:
        self._server = server
        self._inspector = inspector
        self._name = name
        self._addresses = addresses

    def report(self) -> dict[str, Any]:
        """Return where it listens, and how many ask."""
        return {
            "addresses": list(self._addresses),
            "connections": self._server.connections,
            "requests": self._server.requests,
        }

    def ask(self) -> None:
        """Note, before anybody is told that we stop, whether it is the whole engine that does."""
        report = self._inspector.view()
        if report.tomb.state != "alive":
            _those_lingering().add((report.name, self._name))

    async def linger(self, own: frozenset[str]) -> None:
        """If the whole engine stops, wait until all others have ended."""
        report = self._inspector.view()
        lingering = _those_lingering()
        if (report.name, self._name) not in lingering:
            return
        try:
            with self._inspector.events(_PLENTY) as events:
                running = _running(self._inspector.view(), own)
                while any((report.name, name) not in lingering for name in running):
                    for transition in (await anext(events), *events.take()):
                        if transition.after not in _RUNNING:
                            running.discard(transition.manifold)
        finally:
            lingering.discard((report.name, self._name))


def _those_lingering() -> set[tuple[str, str]]:
    try:
        return _lingering.get()
    except LookupError:
        _lingering.set(set())
        return _lingering.get()


def _awaited(inspector: Inspector, own: frozenset[str], name: str) -> list[str]:
    """Return for whose end `name` waits, if it is one of those that wait for all others."""
    report = inspector.view()
    lingering = _those_lingering()
    if (report.name, name) not in lingering:
        return []
    return sorted(one for one in _running(report, own) if (report.name, one) not in lingering)


def _running(report: EngineReport, own: frozenset[str]) -> set[str]:
    return {
        name for name, one in report.manifolds.items() if one.state in _RUNNING and name not in own
    }


async def serve(
    config: Config,
    environ: Mapping[str, str],
    get: Getter,
    *,
    task_status: trio.TaskStatus[Introspection],
) -> None:
    """Be the start function of the manifold."""
    inspector = get("engine", Inspector)
    report = inspector.view()
    name = current_manifold()
    assert name is not None, "a start function runs on behalf of a manifold"  # noqa: S101 - for the types
    uid = os.getuid()
    path = config.socket or socket_path(report.name, environ, uid)
    rules = Rules(uid=uid, token=config.token, actions_over_tcp=config.actions_over_tcp)
    with ExitStack() as stack:
        recorder = _offered(get, Recorder)
        if recorder is None:
            recorder = Recorder(inspector)
            recorder.add_past(report, trio.current_time())
            stack.callback(recorder.close)
        inside = Inside(
            inspector=inspector,
            operator=get("engine", Operator),
            recorder=recorder,
            exposition=_offered(get, Exposition),
            mask=_offered(get, Masking),
            own=needed(report, name),
            awaited=partial(_awaited, inspector, needed(report, name)),
        )
        server = Server(
            partial(answer, inside, rules),
            limits=Limits(connections=config.connections),
            refuse=told,
        )
        bound = stack.enter_context(bound_socket(path, uid))
        stack.callback(leave_socket, path, uid, path.stat().st_ino)
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(bound))]
        if config.port is not None:
            for listener in await trio.open_tcp_listeners(config.port, host=config.host):
                stack.callback(listener.socket.close)
                listeners.append(listener)
        async with trio.open_nursery() as background:
            background.start_soon(recorder.run)
            async with trio.open_nursery() as nursery:
                await nursery.start(server.serve, listeners)
                addresses = [str(path), *map(_address, listeners[1:])]
                value = Introspection(server, inspector, name, addresses)
                task_status.started(value)
                await get.wait_stopping()
                await value.linger(inside.own)
                server.close()
                nursery.cancel_scope.deadline = trio.current_time() + LAST_ANSWERS
            background.cancel_scope.cancel(reason="the last answer is given")


def _offered(get: Getter, face: Callable[..., T]) -> T | None:
    """Return what ``engine`` offers in addition to what every engine does."""
    try:
        return get("engine", face)
    except NotOffered:
        return None


def needed(report: EngineReport, name: str) -> frozenset[str]:
    """Return `name` and all that it needs, transitively."""
    found: set[str] = set()
    queue = [name]
    while queue:
        one = report.manifolds.get(queue.pop())
        if one is not None and one.name not in found:
            found.add(one.name)
            queue += (*one.inputs, *one.optional)
    return frozenset(found)


def _address(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
