"""A watched value that plays a script, and notes who asked for what."""

from collections import deque
from typing import Generic, TypeVar, final

import trio

from trioworker import Watcher
from trioworker.testing import FakeWatcher

T = TypeVar("T")


@final
class Script(Generic[T]):
    """Each reading takes the next of `values`, and the last for ever; an error is raised."""

    def __init__(self, *values: T | Exception, watch_error: Exception | None = None) -> None:
        self.values: deque[T | Exception] = deque(values)
        self.watch_error = watch_error
        self.calls: list[str] = []
        self.watchers: list[FakeWatcher[None]] = []

    async def read(self) -> T:
        self.calls.append("read")
        await trio.lowlevel.checkpoint()
        value = self.values.popleft() if len(self.values) > 1 else self.values[0]
        if isinstance(value, Exception):
            raise value
        return value

    async def watch(self) -> Watcher[object]:
        self.calls.append("watch")
        await trio.lowlevel.checkpoint()
        if self.watch_error is not None:
            raise self.watch_error
        self.watchers.append(FakeWatcher[None](None))
        return self.watchers[-1]

    def tell(self) -> None:
        """Say that something has changed."""
        self.watchers[-1].send(None)
