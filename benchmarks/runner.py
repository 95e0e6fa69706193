"""What does it cost to run n workers under names: start, restart, stop one, stop all?

*Restart* lets one worker after the other fail, and waits until it is up again. *Stop one* removes
every second worker by its name, one after the other; *stop* ends the rest together. The log is off,
as nobody reads it here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from trioworker import RestartPolicy, Runner, RunnerConfig, Tomb

from ._method import Countdown, Question, Stopwatch
from ._ours import no_log
from ._trio import countdown, in_trio


class Job:
    """What the driver of a trial shares with one worker, on both sides."""

    def __init__(self, up: Countdown) -> None:
        self._all_up = up
        self._up = trio.Event()
        self._end = trio.Event()

    async def fail(self) -> None:
        """Make it fail, and wait until it is up again."""
        self._up = trio.Event()
        self._end.set()
        await self._up.wait()

    async def live(self) -> None:
        """Be up, until told to fail."""
        self._end = trio.Event()
        self._up.set()
        self._all_up.down()
        await self._end.wait()
        raise ValueError


async def floor(n: int) -> dict[str, float]:
    """One nursery; for each name a task, a scope, an event for its end, and a loop."""

    async def worker(job: Job, scope: trio.CancelScope, done: trio.Event) -> None:
        try:
            with scope:
                while True:
                    with suppress(ValueError):
                        await job.live()
        finally:
            done.set()

    costs: dict[str, float] = {}
    up = countdown(n)
    jobs = [Job(up) for _ in range(n)]
    names: dict[str, tuple[trio.CancelScope, trio.Event]] = {}
    watch = Stopwatch(n)
    async with trio.open_nursery() as nursery:
        for i, job in enumerate(jobs):
            known = names[str(i)] = trio.CancelScope(), trio.Event()
            nursery.start_soon(worker, job, *known)
        await up.wait()
        costs["start"] = watch.read()
        costs["restart"] = await fail_all(jobs)
        watch = Stopwatch(n // 2)
        for i in range(n // 2):
            scope, done = names.pop(str(2 * i))
            scope.cancel()
            await done.wait()
        costs["stop one"] = watch.read()
        watch = Stopwatch(n - n // 2)
        nursery.cancel_scope.cancel()
    return {**costs, "stop": watch.read()}


class Worker:
    """A job as a worker."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tomb = Tomb()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the job."""
        with self._tomb:
            task_status.started()
            await self._job.live()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask it to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait for its end."""
        await self._tomb.wait()


async def ours(n: int) -> dict[str, float]:
    """One runner, to which no error is fatal."""
    costs: dict[str, float] = {}
    up = countdown(n)
    jobs = [Job(up) for _ in range(n)]
    policy = RestartPolicy(error_delay=0, jitter=0)
    watch = Stopwatch(n)
    runner = Runner(RunnerConfig(is_fatal=lambda _: False, restart=policy))
    with no_log("trioworker.runner"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            for i, job in enumerate(jobs):
                runner.start_worker(str(i), lambda job=job: Worker(job))  # type: ignore[misc] # mypy cannot infer a lambda with a default
            await up.wait()
            costs["start"] = watch.read()
            costs["restart"] = await fail_all(jobs)
            watch = Stopwatch(n // 2)
            for i in range(n // 2):
                await runner.stop_and_remove(str(2 * i))
            costs["stop one"] = watch.read()
            watch = Stopwatch(n - n // 2)
            runner.kill()
        costs["stop"] = watch.read()
    return costs


async def fail_all(jobs: list[Job]) -> float:
    """Let one after the other fail and come back; return the microseconds for each."""
    watch = Stopwatch(len(jobs))
    for job in jobs:
        await job.fail()
    return watch.read()


QUESTIONS = [
    Question(
        name="runner",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(100, 1000, 5000),
    )
]
