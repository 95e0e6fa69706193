"""What does it cost to guard a client's call into a worker?

The call does nothing, so all that is measured is the guard: `while_alive()` of a running worker's
tomb, against an empty `trio.CancelScope`.
"""

from __future__ import annotations

import trio

from trioworker import Tomb

from ._method import Bar, Question, Stopwatch
from ._trio import in_trio

CALLS = 10
"""As many for each of n: a call is too short to be timed alone."""


async def floor(n: int) -> dict[str, float]:
    """Enter an empty cancel scope, and leave it."""
    watch = Stopwatch(n * CALLS)
    for _ in range(n * CALLS):
        with trio.CancelScope():  # noqa: ASYNC100 - what it costs to do nothing in one
            pass
    return {"call": watch.read()}


async def ours(n: int) -> dict[str, float]:
    """Enter the guard, and leave it."""
    costs: dict[str, float] = {}
    tomb = Tomb()
    with tomb:
        watch = Stopwatch(n * CALLS)
        for _ in range(n * CALLS):
            with tomb.while_alive():
                pass
        costs["call"] = watch.read()
    return costs


QUESTIONS = [
    Question(
        name="while_alive",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000,),
        bars={"call": Bar(limit=1.5)},
        against="an empty CancelScope",
    )
]
