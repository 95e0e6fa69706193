"""What does it cost to restart a root, and with it all that depend on it?

From asking for it to all being up again: of a star, and of a chain, whose links stop one after the
other, the last one first.
"""

from __future__ import annotations

import trio

from trioworker import Engine, Getter, Manifold

from ._method import Bar, Question, Stopwatch
from ._ours import NO_DELAYS
from ._shapes import Shape, chain, star
from ._trio import countdown, in_trio


class Worker:
    """What the floor keeps of one worker."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.started = trio.Event()
        self.done = trio.Event()


async def floor(n: int, shape: Shape) -> dict[str, float]:
    """Star: cancel the root, then all dependents, and wait for each. Chain: each in its turn."""

    async def live(i: int) -> None:
        worker = workers[i]
        try:
            with worker.scope:
                for needed in graph[i]:
                    await workers[needed].started.wait()
                worker.started.set()
                up.down()
                await trio.sleep_forever()
        finally:
            worker.done.set()

    def start(nursery: trio.Nursery) -> list[Worker]:
        for i in range(n):
            nursery.start_soon(live, i)
        return [Worker() for _ in range(n)]

    async def stop(workers: list[Worker]) -> None:
        for worker in workers:
            worker.scope.cancel()
        for worker in workers:
            if not worker.done.is_set():  # waiting for one that is set costs a checkpoint
                await worker.done.wait()

    graph = shape(n)
    up = countdown(n)
    async with trio.open_nursery() as nursery:
        workers = start(nursery)
        await up.wait()
        up = countdown(n)
        watch = Stopwatch(n)
        if shape is star:
            await stop(workers[:1])
            await stop(workers[1:])
        else:
            for worker in reversed(workers):
                await stop([worker])
        workers = start(nursery)
        await up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"root": cost}


async def ours(n: int, shape: Shape) -> dict[str, float]:
    """Restart the root."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    up = countdown(n)
    engine = Engine(NO_DELAYS)
    engine.install_all(
        {str(i): Manifold(worker, inputs=list(map(str, needs))) for i, needs in enumerate(shape(n))}
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        up = countdown(n)
        watch = Stopwatch(n)
        engine.restart("0")
        await up.wait()
        cost = watch.read()
        engine.kill()
    return {"root": cost}


QUESTIONS = [
    Question(
        name="bounce, star",
        ours=in_trio(ours, star),
        floor=in_trio(floor, star),
        sizes=(100, 1000, 5000, 10000),
        bars={"root": Bar(limit=1.6)},
    ),
    Question(
        name="bounce, chain",
        ours=in_trio(ours, chain),
        floor=in_trio(floor, chain),
        sizes=(100, 1000, 5000, 10000),
    ),
]
