"""A watcher whose changes the test sends."""

from __future__ import annotations

import math
from typing import Any, Generic, TypeVar, final

import trio

from .. import LifetimeError, Tomb
from ._workers import checked_error

T = TypeVar("T")


@final
class FakeWatcher(Generic[T]):
    """A watcher that tells what the test tells it.

    ::

        watcher = FakeWatcher[tuple[str, ...]](("a", "b"))  # a watcher's first event comes at once
        watcher.send(("c",))

    How it ends:

    - ``kill()``: cleanly, as it should.
    - ``close()``: not at all, but its channel does, although nobody asked; the one thing that a
      watcher may not do. It lives on until it is killed.
    - ``fail(error)``: its channel ends, and then it with `error`.

    Its channel has no bound: ``send()`` never blocks, and what was sent can be received also when
    it has ended.

    Args:
        changes: what it sends at once; without any, the listener hears nothing before ``send()``.
        name: what to call it in messages.

    Attributes:
        changes: where its listener hears from it.
    """

    def __init__(self, *changes: T, name: str = "FakeWatcher") -> None:
        self.name = name
        self._tomb = Tomb(name=name)
        self._sender, receiver = trio.open_memory_channel[T](math.inf)
        self.changes: trio.MemoryReceiveChannel[T] = receiver
        self._failing = trio.Event()
        self._error: BaseException | None = None
        self._over = ""
        for change in changes:
            self.send(change)

    def send(self, change: T) -> None:
        """Tell the listener of `change`; also before ``run()``. Never blocks.

        Raises:
            LifetimeError: the channel is closed: by ``close()`` or ``fail()``, by the end of the
                watcher, or by its listener.
        """
        try:
            self._sender.send_nowait(change)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            over = self._over or "its listener has closed the channel"
            raise LifetimeError(
                f'"{self.name}": send() came too late: {over}; make a new FakeWatcher'
            ) from None

    def close(self) -> None:
        """End the channel, although nobody asked, and live on."""
        self._close("close() was called")

    def fail(self, error: BaseException) -> None:
        """End the channel, and then the watcher with `error`; if it does not run yet, later.

        Raises:
            TypeError: `error` is no exception.
        """
        self._error = checked_error("FakeWatcher.fail(error)", error)
        self._close("fail() was called")
        self._failing.set()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until killed, or until told to fail."""
        with self._tomb:
            try:
                task_status.started()
                await self._failing.wait()
                assert self._error is not None, "fail() sets it first"  # noqa: S101 - for the types
                raise self._error
            finally:
                self._close("it has ended")

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask it to stop, which it does at once."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead, then raise what it ended with, if any."""
        await self._tomb.wait()

    def __repr__(self) -> str:
        over = f", {self._over}" if self._over else ""
        return f"<FakeWatcher {self.name!r} {self._tomb.state}{over}>"

    def _close(self, why: str) -> None:
        self._over = self._over or why
        self._sender.close()
