"""How often does a program wake up whose n workers have nothing to do?

Counted by an instrument, as often as Trio's loop comes back from waiting for the world, without the
one time that ends the trial. Nothing but 0 will do: that is what lets a processor sleep.
"""

from __future__ import annotations

import trio
import trio.testing

from trioworker import Engine, Manifold

from ._method import Bar, Question
from ._ours import NO_DELAYS, sleeper
from ._trio import countdown, in_trio

SECONDS = 0.5
"""Of doing nothing; much less would see no poll of anybody's."""


class WakeUps(trio.abc.Instrument):
    """Counts them."""

    def __init__(self) -> None:
        self._count = 0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - as Trio calls it
        """Trio is back."""
        self._count += 1

    @classmethod
    async def per_second(cls) -> float:
        """Sleep for `SECONDS`; return how often Trio woke up before they were over."""
        await trio.testing.wait_all_tasks_blocked()
        counter = cls()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(SECONDS)
        trio.lowlevel.remove_instrument(counter)
        return (counter._count - 1) / SECONDS


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
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(worker, trio.CancelScope(), trio.Event(), trio.Event())
        await up.wait()
        wake_ups = await WakeUps.per_second()
        nursery.cancel_scope.cancel()
    return {"wake-ups": wake_ups}


async def ours(n: int) -> dict[str, float]:
    """One engine, n manifolds, of which all but one have been restarted before."""
    up = countdown(2 * n)
    worker = sleeper(up)
    engine = Engine(NO_DELAYS)
    engine.install_all({str(i): Manifold(worker, inputs=("0",) if i else ()) for i in range(n)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await trio.testing.wait_all_tasks_blocked()
        engine.restart("0")
        await up.wait()
        wake_ups = await WakeUps.per_second()
        engine.kill()
    return {"wake-ups": wake_ups}


QUESTIONS = [
    Question(
        name="idle",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000,),
        bars={"wake-ups": Bar(limit=0.0, of="difference")},
        unit="1/s",
    )
]
