"""What does a manifold weigh that is started and idle, beyond the task it needs anyway?

Counted by `tracemalloc`: what Python has allocated with all up, over what it had before, so without
the allocator's own slack. Ours includes the manifold, its name and its node.
"""

from __future__ import annotations

import gc
import tracemalloc

import trio

from trioworker import Engine, Getter, Manifold

from ._method import NO_DELAYS, Bar, Countdown, Question, in_trio


async def floor(n: int) -> dict[str, float]:
    """One nursery; for each worker a task, a cancel scope and two events."""

    async def worker(scope: trio.CancelScope, started: trio.Event, done: trio.Event) -> None:
        try:
            with scope:
                started.set()
                up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    up = Countdown(n)
    before = weigh()
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(worker, trio.CancelScope(), trio.Event(), trio.Event())
        await up.wait()
        weight = weigh() - before
        nursery.cancel_scope.cancel()
    tracemalloc.stop()
    return {"idle": weight / n / 1024}


async def ours(n: int) -> dict[str, float]:
    """One engine, n manifolds."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    up = Countdown(n)
    before = weigh()
    engine = Engine(NO_DELAYS)
    engine.install_all({str(i): Manifold(worker) for i in range(n)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        weight = weigh() - before
        engine.kill()
    tracemalloc.stop()
    return {"idle": weight / n / 1024}


def weigh() -> int:
    """Return what Python has allocated since the first call, in bytes."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


QUESTIONS = [
    Question(
        name="memory",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000, 5000),
        bars={"idle": Bar(limit=2.0, of="difference")},
        unit="KiB",
    )
]
