"""What does a manifold weigh that is started and idle, beyond the task it needs anyway?

Counted by `tracemalloc`: what Python has allocated with all up, over what it had before, so without
the allocator's own slack. Ours includes the manifold, its name and its node.
"""

from __future__ import annotations

import trio

from trioworker import Engine, Manifold

from ._method import Bar, Question, Scales
from ._ours import NO_DELAYS, sleeper
from ._trio import countdown, in_trio


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

    up = countdown(n)
    with Scales(n) as scales:
        async with trio.open_nursery() as nursery:
            for _ in range(n):
                nursery.start_soon(worker, trio.CancelScope(), trio.Event(), trio.Event())
            await up.wait()
            weight = scales.read()
            nursery.cancel_scope.cancel()
    return {"worker": weight}


async def ours(n: int) -> dict[str, float]:
    """One engine, n manifolds."""
    up = countdown(n)
    with Scales(n) as scales:
        worker = sleeper(up)
        engine = Engine(NO_DELAYS)
        engine.install_all({str(i): Manifold(worker) for i in range(n)})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await up.wait()
            weight = scales.read()
            engine.kill()
    return {"worker": weight}


QUESTIONS = [
    Question(
        name="memory",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000, 5000),
        bars={"worker": Bar(limit=2.0, of="difference")},
        unit="KiB",
    )
]
