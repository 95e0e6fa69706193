"""What does one life cost: enter, kill, wait?

One after the other, so that nothing but the life itself is measured. Both sides let the task get to
its sleep before they end it, which takes two checkpoints: Trio runs the tasks of one step in random
order, so after one of them the task may not have begun.
"""

from __future__ import annotations

import trio
from trio.lowlevel import checkpoint

from trioworker import Tomb

from ._method import Bar, Question, Stopwatch
from ._trio import in_trio


async def floor(n: int) -> dict[str, float]:
    """Open a nursery, start one sleeping task, cancel, leave."""
    watch = Stopwatch(n)
    for _ in range(n):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await checkpoint()
            await checkpoint()
            nursery.cancel_scope.cancel()
    return {"life": watch.read()}


class Sleeper:
    """The least worker."""

    def __init__(self) -> None:
        self.tomb = Tomb()

    async def run(self) -> None:
        """Sleep until killed."""
        with self.tomb:
            await trio.sleep_forever()


async def ours(n: int) -> dict[str, float]:
    """Do the same, with a tomb in the task and a wait for its end."""
    watch = Stopwatch(n)
    for _ in range(n):
        async with trio.open_nursery() as nursery:
            worker = Sleeper()
            nursery.start_soon(worker.run)
            await checkpoint()
            await checkpoint()
            worker.tomb.kill()
            await worker.tomb.wait()
    return {"life": watch.read()}


QUESTIONS = [
    Question(
        name="tomb",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(1000,),
        bars={"life": Bar(limit=1.15)},
    )
]
