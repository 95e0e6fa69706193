"""What the holders of the lease write to: it refuses tokens smaller than the greatest it has seen.

A client sends lines of a name and a token, and is told for each whether it was accepted.
"""

from __future__ import annotations

from typing import final

import trio

from .history import Written


@final
class Resource:
    """Accepts and refuses, and records both."""

    def __init__(self) -> None:
        self.greatest = 0
        """The greatest token under which something was written."""
        self.written: list[Written] = []
        self._news = trio.Event()

    @property
    def writer(self) -> str:
        """Who wrote last, under the greatest token: the holder, as far as one can know."""
        return next((one.holder for one in reversed(self.written) if one.is_accepted), "")

    def write(self, holder: str, token: int) -> bool:
        """Accept, or refuse, one write."""
        is_accepted = token >= self.greatest
        self.written.append(Written(holder, token, is_accepted))
        if token > self.greatest:
            self.greatest = token
            self._news.set()
            self._news = trio.Event()
        return is_accepted

    async def wait_greater(self, token: int) -> None:
        """Wait until something is written under a greater token."""
        while self.greatest <= token:
            await self._news.wait()

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; ``started()`` tells the port."""
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._handle, [listener])

    async def _handle(self, stream: trio.SocketStream) -> None:
        rest = b""
        try:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    holder, token = line.decode().split()
                    await stream.send_all(b"1" if self.write(holder, int(token)) else b"0")
        except trio.BrokenResourceError:
            pass  # killed in the middle of it


@final
class Client:
    """One who writes."""

    def __init__(self, stream: trio.SocketStream, holder: str) -> None:
        self._stream = stream
        self._holder = holder

    async def write(self, token: int) -> bool:
        """Write once, whether cancelled or not; return whether it was accepted."""
        answer = b""
        with trio.CancelScope(shield=True):
            await self._stream.send_all(f"{self._holder} {token}\n".encode())
            answer = await self._stream.receive_some(1)
        return answer == b"1"
