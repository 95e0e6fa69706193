"""How often does a program wake up in which n wait for leases, and n others hold these?

Counted as for `idle`. All leases last longer than we look, and no look of the manager falls due.
Nothing but 0 will do: who waits is parked, and asks nobody.
"""

from __future__ import annotations

import trio
import trio.testing

from trioworker.workers.coordination.lease import Manager, MemoryStore

from ._method import Bar, Question
from ._trio import in_trio
from .idle import WakeUps


async def floor(n: int) -> dict[str, float]:
    """Let n tasks wait for an event each."""
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(trio.Event().wait)
        wake_ups = await WakeUps.per_second()
        nursery.cancel_scope.cancel()
    return {"wake-ups": wake_ups}


async def ours(n: int) -> dict[str, float]:
    """Let n tasks wait for a lease each."""
    manager = Manager(MemoryStore())
    async with trio.open_nursery() as nursery:
        await nursery.start(manager.run)
        claimer = manager.claimer("singular")
        for i in range(n):
            await claimer.claim(f"lease-{i}", "me", 600)
            nursery.start_soon(claimer.wait_until_expired, f"lease-{i}")
        await trio.testing.wait_all_tasks_blocked()
        wake_ups = await WakeUps.per_second()
        nursery.cancel_scope.cancel()
    return {"wake-ups": wake_ups}


QUESTIONS = [
    Question(
        name="waiters",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(10_000,),
        bars={"wake-ups": Bar(limit=0.0, of="difference")},
        unit="1/s",
        against="tasks that wait for events",
    )
]
