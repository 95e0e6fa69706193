"""aiomisc: services, which an entrypoint starts together and stops together."""

from __future__ import annotations

import asyncio

from aiomisc import Service, entrypoint

from benchmarks._method import Scales, Stopwatch, importing
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, Shape, independent, star

from ._asyncio import FLOORS as FLOORS, LEAVES, Run, in_asyncio, sleep_forever, wake_ups


class Worker(Service):
    """The least service: it stays in `start` until it is cancelled."""

    run: Run
    number: int

    async def start(self) -> None:
        """Wait for those it needs, say that it has started, and sleep."""
        run = self.run
        for needed in run.graph[self.number]:
            if not run.started[needed].is_set():
                await run.started[needed].wait()
        run.started[self.number].set()
        self.start_event.set()
        run.up.down()
        await sleep_forever()


def workers(run: Run, first: int = 0) -> list[Worker]:
    """Return the services of a graph, from `first` on."""
    return [Worker(run=run, number=i) for i in range(first, run.n)]


def open_all(*services: Service) -> entrypoint:
    """Return what runs `services`, and leaves signals and logging alone."""
    return entrypoint(*services, log_config=False, catch_signals=())


async def life(n: int) -> dict[str, float]:
    """One service in an entrypoint."""
    run = Run(n, independent)
    watch = Stopwatch(n)
    for service in workers(run):
        async with open_all(service):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    return {"life": watch.read()}


async def add(n: int) -> dict[str, float]:
    """Start services in an entrypoint that runs, together; leave it."""
    run = Run(n, independent)
    watch = Stopwatch(n)
    async with open_all() as running:
        await running.start_services(*workers(run))
        cost = watch.read()
        watch = Stopwatch(n)
    return {"add": cost, "stop": watch.read()}


async def graph(n: int, shape: Shape) -> dict[str, float]:
    """An entrypoint with n services; leave it."""
    n = len(shape(n))
    watch = Stopwatch(n)
    run = Run(n, shape)
    async with open_all(*workers(run)):
        await run.up.wait()
        start = watch.read()
        watch = Stopwatch(n)
    return {"start": start, "stop": watch.read()}


async def install(n: int) -> dict[str, float]:
    """Start one more service in an entrypoint that runs."""
    run = Run(n, star)
    async with open_all(*workers(run)) as running:
        watch = Stopwatch(LEAVES)
        for _ in range(LEAVES):
            await running.start_services(Worker(run=run, number=run.more()))
        cost = watch.read()
    return {"leaf": cost}


async def install_input(n: int) -> dict[str, float]:
    """Start the service for which n others wait."""
    run = Run(n, star)
    async with open_all() as running:
        others = asyncio.create_task(running.start_services(*workers(run, first=1)))
        await asyncio.sleep(0.05)  # until they all wait
        watch = Stopwatch(n)
        await running.start_services(Worker(run=run, number=0))
        await others
        cost = watch.read()
    return {"awaited input": cost}


async def idle(n: int) -> dict[str, float]:
    """Let n services do nothing."""
    async with open_all(*workers(Run(n, independent))):
        return await wake_ups()


async def memory(n: int) -> dict[str, float]:
    """Let n services do nothing."""
    with Scales(n) as scales:
        async with open_all(*workers(Run(n, independent))):
            weight = scales.read()
    return {"worker": weight}


DISTRIBUTION = "aiomisc"
TRIALS = {
    "tomb": in_asyncio(life),
    "catacomb": in_asyncio(add),
    **{
        f"engine, {name}": in_asyncio(graph, shape)
        for name, shape in {**ANY_SIZE, **ONE_SIZE}.items()
    },
    "install, one": in_asyncio(install),
    "install, for all": in_asyncio(install_input),
    "idle": in_asyncio(idle),
    "memory": in_asyncio(memory),
    "imports": importing("aiomisc"),
}
