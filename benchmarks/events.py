"""What do those who watch an engine cost it: nobody, one, a hundred?

The work is the bounce of a star, as in `bounce.py`, until all is up again and each subscriber has
read all that happened. The floor tells each subscriber of each step through a memory channel of its
own; without subscribers it is the floor of `bounce.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from contextlib import ExitStack

import trio
import trio.testing

from trioworker import Engine, Getter, Manifold

from ._method import Question, Stopwatch
from ._ours import NO_DELAYS
from ._trio import countdown, in_trio

DOWN = ("draining", "stopping", "waiting")
UP = ("starting", "started")
"""What becomes of each in a bounce."""
CAPACITY = 1_000_000
"""Nothing is dropped, on either side."""


class Floor:
    """The tasks of a star, and the channels of those who watch it."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.channels: list[trio.MemorySendChannel[object]] = []
        self.up = countdown(n)
        self.root = trio.Event()
        self.workers: list[tuple[trio.CancelScope, trio.Event]] = []

    def start(self, nursery: trio.Nursery) -> None:
        """Start them all."""
        self.up = countdown(self.n)
        self.root = trio.Event()
        self.workers = [(trio.CancelScope(), trio.Event()) for _ in range(self.n)]
        for i, worker in enumerate(self.workers):
            nursery.start_soon(self._live, i, *worker)

    async def stop(self) -> None:
        """Cancel the root and wait for it, then all."""
        (root, gone), *others = self.workers
        root.cancel()
        await gone.wait()
        for scope, _ in others:
            scope.cancel()
        for _, done in others:
            if not done.is_set():
                await done.wait()

    async def _live(self, i: int, scope: trio.CancelScope, done: trio.Event) -> None:
        try:
            with scope:
                if i:
                    await self.root.wait()
                self._tell(i, UP)
                if not i:
                    self.root.set()
                self.up.down()
                await trio.sleep_forever()
        finally:
            self._tell(i, DOWN)
            done.set()

    def _tell(self, worker: int, states: Iterable[str]) -> None:
        for state in states:
            for channel in self.channels:
                channel.send_nowait((trio.current_time(), worker, state))


async def floor(n: int, subscribers: int) -> dict[str, float]:
    """Stop a star and start it again; tell each subscriber of each step."""
    star = Floor(n)
    async with trio.open_nursery() as nursery:
        star.start(nursery)
        await star.up.wait()
        async with trio.open_nursery() as readers:
            for _ in range(subscribers):
                sender, receiver = trio.open_memory_channel[object](CAPACITY)
                star.channels.append(sender)
                readers.start_soon(read, receiver)
            await trio.testing.wait_all_tasks_blocked()
            watch = Stopwatch(n)
            await star.stop()
            star.start(nursery)
            await star.up.wait()
            for channel in star.channels:
                channel.close()
        cost = watch.read()
        star.channels.clear()
        nursery.cancel_scope.cancel()
    return {"bounce": cost}


async def ours(n: int, subscribers: int) -> dict[str, float]:
    """Restart the root."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    up = countdown(n)
    engine = Engine(NO_DELAYS)
    engine.install_all({str(i): Manifold(worker, inputs=("0",) if i else ()) for i in range(n)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        up = countdown(n)
        async with trio.open_nursery() as readers:
            with ExitStack() as streams:
                for _ in range(subscribers):
                    stream = streams.enter_context(engine.events(CAPACITY))
                    readers.start_soon(read, stream)
                await trio.testing.wait_all_tasks_blocked()
                watch = Stopwatch(n)
                engine.restart("0")
                await up.wait()
        cost = watch.read()
        engine.kill()
    return {"bounce": cost}


async def read(stream: AsyncIterable[object]) -> int:
    """Read all there is; return how much that was."""
    count = 0
    async for _ in stream:
        count += 1
    return count


QUESTIONS = [
    Question(
        name=f"events, {subscribers} subscriber{'s' * (subscribers != 1)}",
        ours=in_trio(ours, subscribers),
        floor=in_trio(floor, subscribers),
        sizes=(100,) if subscribers == 100 else (100, 1000, 5000),
    )
    for subscribers in (0, 1, 100)
]
