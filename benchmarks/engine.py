"""What does it cost to bring a graph of n manifolds up, and down again?

Three shapes: nobody needs anybody (independent), each needs the one before (chain), all need the
first (star). *Start* is from making the engine to the last manifold being ready; the manifolds
themselves are descriptions that exist before, as functions do. *Stop* is from asking to dead.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from trioworker import Engine, Getter, Manifold

from ._method import NO_DELAYS, Bar, Countdown, Question, Stopwatch, in_trio

Shape = Callable[[int], tuple[int, ...]]
"""From the number of a worker to the numbers of those it needs."""

SHAPES: dict[str, Shape] = {
    "independent": lambda _: (),
    "chain": lambda i: (i - 1,) if i else (),
    "star": lambda i: (0,) if i else (),
}


async def floor(n: int, shape: Shape) -> dict[str, float]:
    """One nursery; for each worker a task, a cancel scope and two events. Cancel the nursery."""

    async def worker(i: int, scope: trio.CancelScope, done: trio.Event) -> None:
        try:
            with scope:
                for needed in shape(i):
                    await started[needed].wait()
                started[i].set()
                up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    up = Countdown(n)
    watch = Stopwatch(n)
    started = [trio.Event() for _ in range(n)]
    async with trio.open_nursery() as nursery:
        for i in range(n):
            nursery.start_soon(worker, i, trio.CancelScope(), trio.Event())
        await up.wait()
        start = watch.read()
        watch.again()
        nursery.cancel_scope.cancel()
    return {"start": start, "stop": watch.read()}


async def ours(n: int, shape: Shape) -> dict[str, float]:
    """One engine, n manifolds. Kill the engine."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    manifolds = {
        str(i): Manifold(worker, inputs=[str(needed) for needed in shape(i)]) for i in range(n)
    }
    up = Countdown(n)
    watch = Stopwatch(n)
    engine = Engine(NO_DELAYS)
    engine.install_all(manifolds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        start = watch.read()
        watch.again()
        engine.kill()
    return {"start": start, "stop": watch.read()}


QUESTIONS = [
    Question(
        name=f"engine, {name}",
        ours=in_trio(ours, shape),
        floor=in_trio(floor, shape),
        sizes=(100, 1000, 5000),
        bars={"start": Bar(limit=1.5), "stop": Bar(limit=1.6)},
    )
    for name, shape in SHAPES.items()
]
