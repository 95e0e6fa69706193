"""Workers for a runner to own, and the start functions that make them."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trioworker._tomb import Tomb

Body = Callable[[], Awaitable[object]]


async def finishes() -> None:
    await trio.lowlevel.checkpoint()


async def ignores_everything() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(1000)


def fails(error: BaseException, after: float = 0.0) -> Body:
    async def fail() -> None:
        await trio.sleep(after)
        raise error

    return fail


def fails_on_cancel(error: BaseException) -> Body:
    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    return fail


class Job:
    """A life whose `body` is all there is to it."""

    def __init__(self, body: Body, *, grace: float = 0.0) -> None:
        self.tomb = Tomb(grace=grace, name="job")
        self.body = body
        self.kills = 0

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self.tomb:
            task_status.started()
            await self.body()

    def kill(self, reason: BaseException | None = None) -> None:
        self.kills += 1
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


class Makes:
    """A start function: its n-th job has the n-th body, and the last body again for all further."""

    def __init__(self, *bodies: Body, grace: float = 0.0) -> None:
        self.bodies = bodies or (trio.sleep_forever,)
        self.grace = grace
        self.jobs: list[Job] = []
        self.times: list[float] = []

    def __call__(self) -> Job:
        job = Job(self.bodies[min(len(self.jobs), len(self.bodies) - 1)], grace=self.grace)
        self.jobs.append(job)
        self.times.append(trio.current_time())
        return job
