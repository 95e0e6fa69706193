"""What does a visit to a fortress cost, and what a lockdown?

Of a running worker's fortress that is open, against a `trio.Lock` that is free; each visit's body
does nothing. A million divided by what a visit costs is how many a second are possible.
"""

from __future__ import annotations

import trio

from trioworker.workers.coordination.fortress import Fortress

from ._method import Bar, Question, Stopwatch
from ._trio import in_trio

VISITS = 10
"""As many for each of n: a visit is too short to be timed alone."""


async def floor(n: int) -> dict[str, float]:
    """Take a lock, and give it back."""
    costs: dict[str, float] = {}
    lock = trio.Lock()
    watch = Stopwatch(n * VISITS)
    for _ in range(n * VISITS):
        async with lock:
            pass
    costs["visit"] = watch.read()
    watch = Stopwatch(n)
    for _ in range(n):
        await lock.acquire()
        lock.release()
    costs["lock down and unlock"] = watch.read()
    return costs


async def ours(n: int) -> dict[str, float]:
    """Go in, and out; then lock it down with nobody inside, and unlock it."""
    costs: dict[str, float] = {}
    fortress = Fortress()
    async with trio.open_nursery() as nursery:
        await nursery.start(fortress.run)
        fortress.unlock()
        watch = Stopwatch(n * VISITS)
        for _ in range(n * VISITS):
            async with fortress.visit():
                pass
        costs["visit"] = watch.read()
        watch = Stopwatch(n)
        for _ in range(n):
            await fortress.lockdown()
            fortress.unlock()
        costs["lock down and unlock"] = watch.read()
        fortress.kill()
    return costs


QUESTIONS = [
    Question(
        name="fortress",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000,),
        bars={"visit": Bar(limit=1.5), "lock down and unlock": Bar(limit=1.5)},
        against="a trio.Lock that is free",
    )
]
