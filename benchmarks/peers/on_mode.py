"""mode-streaming: services, which start their children, and supervisors, which restart them.

A service that others need has them as children: they start after it and stop before it. So only
trees can be built, and a chain is as deep as Python's stack.
"""

from __future__ import annotations

import asyncio
import logging

from mode import OneForOneSupervisor, Service

from benchmarks._method import Countdown, Scales, Stopwatch, importing
from benchmarks._shapes import ANY_SIZE, Shape

from ._asyncio import FLOORS as FLOORS, LEAVES, Job, countdown, in_asyncio, wake_ups

POLL = 5.5
"""A supervisor looks after its services every 5 seconds."""

logging.disable(logging.CRITICAL)


class Worker(Service):
    """The least service with a task."""

    up: Countdown

    def __init__(self, up: Countdown) -> None:
        self.up = up
        super().__init__()

    async def on_started(self) -> None:
        """Say that it is up."""
        self.up.down()

    @Service.task
    async def live(self) -> None:
        """Sleep until stopped."""
        await self.wait_until_stopped()


class Failing(Service):
    """A service that fails when its job does."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__()

    async def on_started(self) -> None:
        """Say that it is up."""
        self.job.begin()

    @Service.task
    async def live(self) -> None:
        """Wait until told to fail, or stopped."""
        await self.wait(self.job.until_told())


class Root(Service):
    """What owns others that need nothing."""


def tree(n: int, shape: Shape, up: Countdown) -> Service:
    """Return a service with the workers of a graph as its children, and their children."""
    services: list[Service] = [Worker(up) for _ in range(n)]
    root = Root()
    for service, needs in zip(services, shape(n), strict=True):
        parent = services[needs[0]] if needs else root
        parent.add_dependency(service)
    return root


async def life(n: int) -> dict[str, float]:
    """Start a service, stop it."""
    up = countdown(n)
    watch = Stopwatch(n)
    for _ in range(n):
        service = Worker(up)
        await service.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await service.stop()
    return {"life": watch.read()}


async def add(n: int) -> dict[str, float]:
    """Add children to a service that runs; stop it."""
    up = countdown(n)
    watch = Stopwatch(n)
    root = Root()
    await root.start()
    for _ in range(n):
        await root.add_runtime_dependency(Worker(up))
    await up.wait()
    cost = watch.read()
    watch = Stopwatch(n)
    await root.stop()
    return {"add": cost, "stop": watch.read()}


async def graph(n: int, shape: Shape) -> dict[str, float]:
    """Start a tree, stop it."""
    up = countdown(n)
    watch = Stopwatch(n)
    root = tree(n, shape, up)
    await root.start()
    await up.wait()
    start = watch.read()
    watch = Stopwatch(n)
    await root.stop()
    return {"start": start, "stop": watch.read()}


async def bounce(n: int, shape: Shape) -> dict[str, float]:
    """Restart the root of a tree."""
    up = countdown(2 * n)
    root = tree(n, shape, up)
    await root.start()
    watch = Stopwatch(n)
    await root.restart()
    await up.wait()
    cost = watch.read()
    await root.stop()
    return {"root": cost}


async def runner(n: int) -> dict[str, float]:
    """A supervisor of n services, which fail one after the other."""
    costs: dict[str, float] = {}
    up = countdown(n)
    jobs = [Job(up) for _ in range(n)]
    watch = Stopwatch(n)
    services = [Failing(job) for job in jobs]
    supervisor = OneForOneSupervisor(max_restarts=10**9)
    supervisor.add(*services)
    await supervisor.start()
    await up.wait()
    costs["start"] = watch.read()
    await asyncio.sleep(0.01)
    watch = Stopwatch(n)
    for job in jobs:
        await job.fail()
        for _ in range(2):  # a failure is overlooked while the supervisor is not back in its sleep
            await asyncio.sleep(0)
    costs["restart"] = watch.read()
    watch = Stopwatch(n // 2)
    for service in services[: 2 * (n // 2) : 2]:
        supervisor.discard(service)
        await service.stop()
    costs["stop one"] = watch.read()
    watch = Stopwatch(n - n // 2)
    await supervisor.stop()
    return {**costs, "stop": watch.read()}


async def restart(n: int) -> dict[str, float]:
    """The same services; what they need takes no part in it."""
    return {"leaf": (await runner(n))["restart"]}


async def install(n: int) -> dict[str, float]:
    """Add one more child to a service that runs."""
    up = countdown(n)
    root = Worker(up)
    await root.start()
    for _ in range(n - 1):
        await root.add_runtime_dependency(Worker(up))
    await up.wait()
    watch = Stopwatch(LEAVES)
    for _ in range(LEAVES):
        up = countdown(1)
        await root.add_runtime_dependency(Worker(up))
        await up.wait()
    cost = watch.read()
    await root.stop()
    return {"leaf": cost}


async def idle(n: int) -> dict[str, float]:
    """A supervisor of n services."""
    up = countdown(n)
    supervisor = OneForOneSupervisor()
    supervisor.add(*(Worker(up) for _ in range(n)))
    await supervisor.start()
    await up.wait()
    cost = await wake_ups(POLL)
    await supervisor.stop()
    return cost


async def memory(n: int) -> dict[str, float]:
    """A service with n children."""
    up = countdown(n)
    with Scales(n) as scales:
        root = tree(n, ANY_SIZE["independent"], up)
        await root.start()
        await up.wait()
        weight = scales.read()
        await root.stop()
    return {"worker": weight}


DISTRIBUTION = "mode-streaming"
TRIALS = {
    "tomb": in_asyncio(life),
    "catacomb": in_asyncio(add),
    "runner": in_asyncio(runner),
    **{
        f"engine, {name}": in_asyncio(graph, ANY_SIZE[name])
        for name in ("independent", "chain", "star")
    },
    **{f"bounce, {name}": in_asyncio(bounce, ANY_SIZE[name]) for name in ("star", "chain")},
    "restart, ValueError": in_asyncio(restart),
    "install, one": in_asyncio(install),
    "idle": in_asyncio(idle),
    "memory": in_asyncio(memory),
    "imports": importing("mode.services, mode.supervisors"),
}
