"""What does it cost to look whether a gate is open, and to go through one that is?

Of a running worker's gate that is unlocked, against a `trio.Event` that is set.
"""

from __future__ import annotations

import trio

from trioworker.workers.coordination.gate import Gate

from ._method import Bar, Question, Stopwatch
from ._trio import in_trio

CHECKS = 100
"""As many for each of n: a look is too short to be timed alone."""
PASSES = 10


async def floor(n: int) -> dict[str, float]:
    """Ask an event, and wait for it."""
    costs: dict[str, float] = {}
    event = trio.Event()
    event.set()
    watch = Stopwatch(n * CHECKS)
    for _ in range(n * CHECKS):
        event.is_set()
    costs["check"] = watch.read()
    watch = Stopwatch(n * PASSES)
    for _ in range(n * PASSES):
        await event.wait()
    costs["pass"] = watch.read()
    return costs


async def ours(n: int) -> dict[str, float]:
    """Ask a gate, and wait for it."""
    costs: dict[str, float] = {}
    gate = Gate()
    async with trio.open_nursery() as nursery:
        await nursery.start(gate.run)
        await gate.unlock()
        watch = Stopwatch(n * CHECKS)
        for _ in range(n * CHECKS):
            _ = gate.is_unlocked
        costs["check"] = watch.read()
        watch = Stopwatch(n * PASSES)
        for _ in range(n * PASSES):
            await gate.wait_unlocked()
        costs["pass"] = watch.read()
        gate.kill()
    return costs


QUESTIONS = [
    Question(
        name="gate",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000,),
        bars={"check": Bar(limit=1.0, of="ours"), "pass": Bar(limit=1.5)},
        against="a trio.Event that is set",
    )
]
"""The bar of a check is in microseconds: two attributes deep is no ratio to hold on to."""
