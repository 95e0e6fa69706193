"""Links that can be broken: a TCP proxy of the tests' own.

A `Link` is what may be broken, whoever uses it and however many connections that makes. `serve`
stands in front of a server; the first bytes of a connection tell which link it belongs to.

What is cut is closed, and connections to come are closed as well. What is halved lets everything
through in one direction and nothing in the other, without anybody being told; what would have come
comes when it is mended. What is delayed comes as it was sent, but later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

Way = Literal["to", "from"]
Address = tuple[str, int]

_SIZE = 65_536


@final
class Link:
    """Lets everything through, until it is broken."""

    def __init__(self) -> None:
        self._is_cut = False
        self._held: set[Way] = set()
        self._delay = 0.0
        self._changed = trio.Event()
        self._connections: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Close all connections, also those to come."""
        self._is_cut = True
        for scope in self._connections:
            scope.cancel()

    def halve(self, *ways: Way) -> None:
        """Let nothing through to the server, or from it."""
        self._held = set(ways)

    def delay(self, seconds: float) -> None:
        """Let everything come later."""
        self._delay = seconds

    def mend(self) -> None:
        """Let everything through again."""
        self._is_cut = False
        self._held = set()
        self._delay = 0.0
        self._changed.set()
        self._changed = trio.Event()

    async def carry(self, client: trio.SocketStream, target: Address, first: bytes) -> None:
        """Carry a connection, until either end closes it or it is cut."""
        with trio.CancelScope() as scope:
            if self._is_cut:
                return
            self._connections.add(scope)
            try:
                server = await trio.open_tcp_stream(*target)
                async with server, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, "to", client, server, scope, first)
                    nursery.start_soon(self._pump, "from", server, client, scope, b"")
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # either end is gone, and the other will see that
            finally:
                self._connections.discard(scope)

    async def _pump(
        self,
        way: Way,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        both: trio.CancelScope,
        data: bytes,
    ) -> None:
        while True:
            if data:
                await trio.sleep(self._delay)
                while way in self._held:
                    await self._changed.wait()
                await sink.send_all(data)
            data = await source.receive_some(_SIZE)
            if not data:
                both.cancel()


async def serve(
    target: Address,
    link_of: Callable[[bytes], Link],
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a proxy in front of `target`, until cancelled; ``started()`` tells where it is."""

    async def handle(client: trio.SocketStream) -> None:
        try:
            first = await client.receive_some(_SIZE)
        except trio.BrokenResourceError:
            return
        if first:
            await link_of(first).carry(client, target, first)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        task_status.started((host, port))
