"""What does it cost to own n workers: to add them, and to stop them all?

Each of ours is a worker with a tomb of its own, which the catacomb asks to stop.
"""

from __future__ import annotations

from typing import Any

import trio

from trioworker import Catacomb, Tomb

from ._method import Bar, Countdown, Question, Stopwatch
from ._trio import countdown, in_trio


async def floor(n: int) -> dict[str, float]:
    """One nursery; for each worker a task, a cancel scope and two events. Cancel the nursery."""

    async def worker(scope: trio.CancelScope, started: trio.Event, done: trio.Event) -> None:
        try:
            with scope:
                started.set()
                up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    up = countdown(n)
    watch = Stopwatch(n)
    async with trio.open_nursery() as nursery:
        for _ in range(n):
            nursery.start_soon(worker, trio.CancelScope(), trio.Event(), trio.Event())
        await up.wait()
        add = watch.read()
        watch = Stopwatch(n)
        nursery.cancel_scope.cancel()
    return {"add": add, "stop": watch.read()}


class Sleeper:
    """The least worker that says when it is up."""

    def __init__(self, up: Countdown) -> None:
        self._up = up
        self._tomb = Tomb()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Sleep until killed."""
        with self._tomb:
            task_status.started()
            self._up.down()
            await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask it to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait for its end."""
        await self._tomb.wait()


async def ours(n: int) -> dict[str, float]:
    """One catacomb, n workers. Kill the catacomb."""
    up = countdown(n)
    costs: dict[str, float] = {}
    watch = Stopwatch(n)
    async with Catacomb() as catacomb:
        for _ in range(n):
            catacomb.add(Sleeper(up))
        await up.wait()
        costs["add"] = watch.read()
        watch = Stopwatch(n)
        catacomb.kill()
    costs["stop"] = watch.read()
    return costs


QUESTIONS = [
    Question(
        name="catacomb",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(100, 1000, 5000, 10000),
        bars={"add": Bar(limit=1.25, at=(1000,)), "stop": Bar(limit=1.25, at=(1000,))},
    )
]
