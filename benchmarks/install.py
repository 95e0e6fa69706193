"""What does it cost to install one manifold while n others run?

A *leaf* needs the root that is up already: one after the other, from installing it to its being up.
An *awaited input* is what n others have been waiting for: from installing it to all being up.
"""

from __future__ import annotations

import trio
import trio.testing

from trioworker import Engine, Manifold

from ._method import Question, Stopwatch
from ._ours import NO_DELAYS, sleeper
from ._trio import countdown, in_trio

LEAVES = 100
"""How many are installed, whatever n is."""


async def worker(i: int, workers: list[tuple[trio.CancelScope, trio.Event, trio.Event]]) -> None:
    """Wait for the first of `workers`, unless it is that; then be up until cancelled."""
    scope, started, done = workers[i]
    try:
        with scope:
            if i:
                await workers[0][1].wait()
            started.set()
            await trio.sleep_forever()
    finally:
        done.set()


async def floor_of_leaves(n: int) -> dict[str, float]:
    """Start one more task in the nursery in which n run, and wait for its event."""
    workers = [(trio.CancelScope(), trio.Event(), trio.Event()) for _ in range(n)]
    async with trio.open_nursery() as nursery:
        for i in range(n):
            nursery.start_soon(worker, i, workers)
        for _, started, _ in workers:
            await started.wait()
        watch = Stopwatch(LEAVES)
        for i in range(n, n + LEAVES):
            started = trio.Event()
            workers.append((trio.CancelScope(), started, trio.Event()))
            nursery.start_soon(worker, i, workers)
            await started.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"leaf": cost}


async def leaves(n: int) -> dict[str, float]:
    """Install one more manifold in the engine in which n run."""
    up = countdown(n)
    engine = Engine(NO_DELAYS)
    engine.install_all(
        {str(i): Manifold(sleeper(up), inputs=("0",) if i else ()) for i in range(n)}
    )
    ups = [countdown(1) for _ in range(LEAVES)]
    manifolds = [Manifold(sleeper(up), inputs=("0",)) for up in ups]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        watch = Stopwatch(LEAVES)
        for i in range(LEAVES):
            engine.install(f"leaf {i}", manifolds[i])
            await ups[i].wait()
        cost = watch.read()
        engine.kill()
    return {"leaf": cost}


async def floor_of_input(n: int) -> dict[str, float]:
    """Start the task whose event n others wait for."""

    async def live(i: int, scope: trio.CancelScope, done: trio.Event) -> None:
        try:
            with scope:
                if i:
                    await root.wait()
                else:
                    root.set()
                up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    root = trio.Event()
    up = countdown(n)
    async with trio.open_nursery() as nursery:
        for i in range(1, n):
            nursery.start_soon(live, i, trio.CancelScope(), trio.Event())
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch(n)
        nursery.start_soon(live, 0, trio.CancelScope(), trio.Event())
        await up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"awaited input": cost}


async def awaited_input(n: int) -> dict[str, float]:
    """Install the manifold for which n others wait; they have no task until then."""
    up = countdown(n)
    worker_of_all = sleeper(up)
    engine = Engine(NO_DELAYS)
    engine.install_all(
        {str(i): Manifold(worker_of_all, inputs=("0",)) for i in range(1, n)}, later=("0",)
    )
    root = Manifold(worker_of_all)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch(n)
        engine.install("0", root)
        await up.wait()
        cost = watch.read()
        engine.kill()
    return {"awaited input": cost}


QUESTIONS = [
    Question(
        name="install, one",
        ours=in_trio(leaves),
        floor=in_trio(floor_of_leaves),
        sizes=(100, 1000, 5000, 10000),
    ),
    Question(
        name="install, for all",
        ours=in_trio(awaited_input),
        floor=in_trio(floor_of_input),
        sizes=(100, 1000, 5000, 10000),
    ),
]
