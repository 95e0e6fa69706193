"""What does it cost to bring a graph of n manifolds up, and down again?

The graphs are in `_shapes.py`. *Start* is from making the engine to the last manifold being ready;
the manifolds themselves are descriptions that exist before, as functions do. *Stop* is from asking
to dead.

The engine stops dependents first; the floor, which only cancels a nursery, in any order.
"""

from __future__ import annotations

import trio

from trioworker import Engine, Manifold

from ._method import Bar, Question, Stopwatch
from ._ours import NO_DELAYS, sleeper
from ._shapes import ANY_SIZE, ONE_SIZE, Shape
from ._trio import countdown, in_trio


async def floor(n: int, shape: Shape) -> dict[str, float]:
    """One nursery; for each worker a task, a cancel scope and two events. Cancel the nursery."""

    async def worker(i: int, scope: trio.CancelScope, done: trio.Event) -> None:
        try:
            with scope:
                for place, needed in enumerate(graph[i]):
                    # One wait for whoever needs something; others only if they are not over yet,
                    # as a wait for an event that is set still costs a checkpoint.
                    if place == 0 or not started[needed].is_set():
                        await started[needed].wait()
                started[i].set()
                up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    graph = shape(n)
    n = len(graph)
    up = countdown(n)
    watch = Stopwatch(n)
    started = [trio.Event() for _ in range(n)]
    async with trio.open_nursery() as nursery:
        for i in range(n):
            nursery.start_soon(worker, i, trio.CancelScope(), trio.Event())
        await up.wait()
        start = watch.read()
        watch = Stopwatch(n)
        nursery.cancel_scope.cancel()
    return {"start": start, "stop": watch.read()}


async def ours(n: int, shape: Shape) -> dict[str, float]:
    """One engine, n manifolds. Kill the engine."""
    graph = shape(n)
    n = len(graph)
    up = countdown(n)
    worker = sleeper(up)
    manifolds = {
        str(i): Manifold(worker, inputs=list(map(str, needs))) for i, needs in enumerate(graph)
    }
    watch = Stopwatch(n)
    engine = Engine(NO_DELAYS)
    engine.install_all(manifolds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        start = watch.read()
        watch = Stopwatch(n)
        engine.kill()
    return {"start": start, "stop": watch.read()}


WITH_BARS = ("independent", "chain", "star")
AT = (100, 1000, 5000)
SIZES = (*AT, 10000)

QUESTIONS = [
    Question(
        name=f"engine, {name}",
        ours=in_trio(ours, shape),
        floor=in_trio(floor, shape),
        sizes=SIZES,
        bars={"start": Bar(limit=1.5, at=AT), "stop": Bar(limit=1.6, at=AT)}
        if name in WITH_BARS
        else {},
    )
    for name, shape in ANY_SIZE.items()
] + [
    Question(
        name=f"engine, {name}",
        ours=in_trio(ours, shape),
        floor=in_trio(floor, shape),
        sizes=(len(shape(0)),),
        rounds=21,  # such a small graph is up before the clock has settled
        is_fixed=True,
    )
    for name, shape in ONE_SIZE.items()
]
