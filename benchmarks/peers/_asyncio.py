"""The floors of the peers on asyncio, and what those have in common that only run tasks.

Like the floors on Trio: for each worker one task and two events; no cancel scope, as a task of
asyncio is cancelled itself.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol, Self

from benchmarks._method import Countdown, Scales, Stopwatch, Trial, importing
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, Shape, independent, star

LEAVES = 100
SECONDS = 0.5
"""As in `install.py` and `idle.py`, which only a process with Trio can import."""


def in_asyncio(async_fn: Callable[..., Awaitable[Mapping[str, float]]], *args: object) -> Trial:
    """Make a trial of ``async_fn(n, *args)``, each time in a loop of its own."""

    async def main(n: int) -> Mapping[str, float]:
        return await async_fn(n, *args)

    def trial(n: int) -> Mapping[str, float]:
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Selector())) as runner:
            return runner.run(main(n))

    return trial


def countdown(count: int) -> Countdown:
    """Return what says when `count` workers are up."""
    return Countdown(count, asyncio.Event())


async def sleep_forever() -> None:
    """Sleep until cancelled."""
    await asyncio.get_running_loop().create_future()


class Selector(selectors.DefaultSelector):
    """Counts how often the loop comes back from waiting for the world."""

    count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, and count unless the loop is only looking."""
        ready = super().select(timeout)
        if timeout is None or timeout > 0:
            Selector.count += 1
        return ready


async def wake_ups(seconds: float = SECONDS) -> dict[str, float]:
    """Sleep for `seconds`; return how often per second the loop woke up before they were over."""
    await asyncio.sleep(0.05)
    before = Selector.count
    await asyncio.sleep(seconds)
    return {"wake-ups": (Selector.count - before - 1) / seconds}


class Group(Protocol):
    """What runs tasks; it waits for them at the end of an ``async with``."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...
    def start(self, coroutine: Coroutine[Any, Any, None]) -> object: ...
    def stop(self) -> None: ...


Groups = Callable[[], Group]


class Tasks:
    """The least: a list of tasks."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run one more."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        """Cancel them all."""
        for task in self._tasks:
            task.cancel()


class Run:
    """The workers of one graph, which wait for each other's events."""

    def __init__(self, n: int, shape: Shape) -> None:
        self.graph = list(shape(n))
        self.n = len(self.graph)
        self.up = countdown(self.n)
        self.started = [asyncio.Event() for _ in self.graph]

    def start(self, group: Group, *numbers: int) -> None:
        """Start some of them; all, if none are named."""
        for i in numbers or range(self.n):
            group.start(self.worker(i, asyncio.Event()))

    async def worker(self, i: int, done: asyncio.Event) -> None:
        """Wait for those it needs; then be up until cancelled."""
        try:
            for needed in self.graph[i]:
                if not self.started[needed].is_set():
                    await self.started[needed].wait()
            self.started[i].set()
            self.up.down()
            await sleep_forever()
        finally:
            done.set()

    def more(self) -> int:
        """Let there be one more, that needs the first."""
        self.up = countdown(1)
        self.graph.append((0,))
        self.started.append(asyncio.Event())
        return len(self.graph) - 1


async def life(n: int, open_group: Groups) -> dict[str, float]:
    """Start one sleeping task, cancel it, wait for it."""
    watch = Stopwatch(n)
    for _ in range(n):
        async with open_group() as group:
            group.start(sleep_forever())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            group.stop()
    return {"life": watch.read()}


async def graph(n: int, open_group: Groups, shape: Shape, up: str, down: str) -> dict[str, float]:
    """Start them all, stop them all."""
    n = len(shape(n))
    watch = Stopwatch(n)
    run = Run(n, shape)
    async with open_group() as group:
        run.start(group)
        await run.up.wait()
        start = watch.read()
        watch = Stopwatch(n)
        group.stop()
    return {up: start, down: watch.read()}


async def install(n: int, open_group: Groups) -> dict[str, float]:
    """Start one more task beside n."""
    run = Run(n, star)
    async with open_group() as group:
        run.start(group)
        await run.up.wait()
        watch = Stopwatch(LEAVES)
        for _ in range(LEAVES):
            run.start(group, run.more())
            await run.up.wait()
        cost = watch.read()
        group.stop()
    return {"leaf": cost}


async def install_input(n: int, open_group: Groups) -> dict[str, float]:
    """Start the task for whose event all others wait."""
    run = Run(n, star)
    async with open_group() as group:
        run.start(group, *range(1, n))
        await asyncio.sleep(0.01)  # until they all wait
        watch = Stopwatch(n)
        run.start(group, 0)
        await run.up.wait()
        cost = watch.read()
        group.stop()
    return {"awaited input": cost}


async def idle(n: int, open_group: Groups) -> dict[str, float]:
    """Let n tasks do nothing."""
    run = Run(n, independent)
    async with open_group() as group:
        run.start(group)
        await run.up.wait()
        cost = await wake_ups()
        group.stop()
    return cost


async def memory(n: int, open_group: Groups) -> dict[str, float]:
    """Let n tasks do nothing."""
    with Scales(n) as scales:
        run = Run(n, independent)
        async with open_group() as group:
            run.start(group)
            await run.up.wait()
            weight = scales.read()
            group.stop()
    return {"worker": weight}


def trials(open_group: Groups, package: str) -> Mapping[str, Trial]:
    """Return the answers of one that runs tasks and does nothing else."""
    shapes = {**ANY_SIZE, **ONE_SIZE}
    graphs = {
        f"engine, {name}": in_asyncio(graph, open_group, shape, "start", "stop")
        for name, shape in shapes.items()
    }
    return {
        "tomb": in_asyncio(life, open_group),
        "catacomb": in_asyncio(graph, open_group, independent, "add", "stop"),
        **graphs,
        "install, one": in_asyncio(install, open_group),
        "install, for all": in_asyncio(install_input, open_group),
        "idle": in_asyncio(idle, open_group),
        "memory": in_asyncio(memory, open_group),
        "imports": importing(package),
    }


async def bounce(n: int, shape: Shape) -> dict[str, float]:
    """Star: cancel the root, then all dependents, and wait for each. Chain: each in its turn."""

    def start() -> list[asyncio.Task[None]]:
        return [tasks.start(run.worker(i, asyncio.Event())) for i in range(n)]

    run = Run(n, shape)
    async with Tasks() as tasks:
        workers = start()
        await run.up.wait()
        watch = Stopwatch(n)
        if shape is star:
            turns = [workers[:1], workers[1:]]
        else:
            turns = [[worker] for worker in reversed(workers)]
        for turn in turns:
            for worker in turn:
                worker.cancel()
            await asyncio.wait(turn)
        run = Run(n, shape)
        start()
        await run.up.wait()
        cost = watch.read()
        tasks.stop()
    return {"root": cost}


class Job:
    """What the driver of a trial shares with one worker, on both sides."""

    def __init__(self, up: Countdown) -> None:
        self._all_up = up
        self._up = asyncio.Event()
        self._end = asyncio.Event()

    async def fail(self) -> None:
        """Make it fail, and wait until it is up again."""
        self._up = asyncio.Event()
        self._end.set()
        await self._up.wait()

    def begin(self) -> None:
        """It is up."""
        self._end = asyncio.Event()
        self._up.set()
        self._all_up.down()

    async def live(self) -> None:
        """Be up, until told to fail."""
        self.begin()
        await self.until_told()

    async def until_told(self) -> None:
        """Wait, and fail."""
        await self._end.wait()
        raise ValueError


async def runner(n: int) -> dict[str, float]:
    """For each name a task, an event for its end, and a loop that catches the error."""

    async def worker(job: Job, done: asyncio.Event) -> None:
        try:
            while True:
                with suppress(ValueError):
                    await job.live()
        finally:
            done.set()

    costs: dict[str, float] = {}
    up = countdown(n)
    jobs = [Job(up) for _ in range(n)]
    watch = Stopwatch(n)
    async with Tasks() as tasks:
        names = {
            str(i): (tasks.start(worker(job, done := asyncio.Event())), done)
            for i, job in enumerate(jobs)
        }
        await up.wait()
        costs["start"] = watch.read()
        watch = Stopwatch(n)
        for job in jobs:
            await job.fail()
        costs["restart"] = watch.read()
        watch = Stopwatch(n // 2)
        for i in range(n // 2):
            task, done = names.pop(str(2 * i))
            task.cancel()
            await done.wait()
        costs["stop one"] = watch.read()
        watch = Stopwatch(n - n // 2)
        tasks.stop()
    return {**costs, "stop": watch.read()}


async def restart(n: int) -> dict[str, float]:
    """Go round a loop that catches the error."""
    return {"leaf": (await runner(n))["restart"]}


FLOORS = {
    **trials(Tasks, "asyncio"),
    "runner": in_asyncio(runner),
    "bounce, star": in_asyncio(bounce, ANY_SIZE["star"]),
    "bounce, chain": in_asyncio(bounce, ANY_SIZE["chain"]),
    "restart, ValueError": in_asyncio(restart),
}
