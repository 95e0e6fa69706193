"""triotp's supervisors, in a node of its own for each trial.

A fixed number of children has a supervisor, and children that come later a dynamic one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

import trio
import trio.testing
from triotp import application, dynamic_supervisor, node, supervisor

from benchmarks._method import Scales, Stopwatch, Trial, importing
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, Shape, independent, star
from benchmarks._trio import countdown
from benchmarks.idle import WakeUps
from benchmarks.install import LEAVES
from benchmarks.runner import Job, fail_all

OPTIONS = supervisor.options(max_restarts=10**9, max_seconds=1)


def in_node(async_fn: Callable[..., Awaitable[Mapping[str, float]]], *args: object) -> Trial:
    """Make a trial of ``async_fn(n, *args)``, each time as the application of a new node."""

    def trial(n: int) -> Mapping[str, float]:
        costs: dict[str, float] = {}

        async def start(_: None) -> None:
            costs.update(await async_fn(n, *args))

        app: Any = ModuleType("app")
        app.start = start
        node.run(apps=[application.app_spec(module=app, start_arg=None, permanent=False)])
        return costs

    return trial


def child(number: int, task: Callable[..., Awaitable[None]], *args: object) -> Any:
    """Return what describes one child."""
    return supervisor.child_spec(id=str(number), task=task, args=list(args))


class Run:
    """The workers of one graph, which wait for each other's events."""

    def __init__(self, n: int, shape: Shape) -> None:
        self.graph = list(shape(n))
        self.n = len(self.graph)
        self.up = countdown(self.n)
        self.started = [trio.Event() for _ in self.graph]

    async def worker(self, i: int) -> None:
        """Wait for those it needs; then be up until cancelled."""
        for place, needed in enumerate(self.graph[i]):
            if place == 0 or not self.started[needed].is_set():
                await self.started[needed].wait()
        self.started[i].set()
        self.up.down()
        await trio.sleep_forever()

    def children(self) -> list[Any]:
        """Describe them all."""
        return [child(i, self.worker, i) for i in range(self.n)]


async def life(n: int) -> dict[str, float]:
    """A supervisor with one child, cancelled."""
    watch = Stopwatch(n)
    for _ in range(n):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.start, [child(0, trio.sleep_forever)], OPTIONS)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    return {"life": watch.read()}


async def graph(n: int, shape: Shape) -> dict[str, float]:
    """One supervisor with n children, cancelled."""
    n = len(shape(n))
    watch = Stopwatch(n)
    run = Run(n, shape)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start, run.children(), OPTIONS)
        await run.up.wait()
        start = watch.read()
        watch = Stopwatch(n)
        nursery.cancel_scope.cancel()
    return {"start": start, "stop": watch.read()}


async def add(n: int) -> dict[str, float]:
    """One dynamic supervisor that is given n children, and then cancelled."""
    run = Run(n, independent)
    watch = Stopwatch(n)
    async with trio.open_nursery() as nursery:
        mailbox = await nursery.start(dynamic_supervisor.start, OPTIONS)
        for i in range(n):
            await dynamic_supervisor.start_child(mailbox, child(i, run.worker, i))
        await run.up.wait()
        cost = watch.read()
        watch = Stopwatch(n)
        nursery.cancel_scope.cancel()
    return {"add": cost, "stop": watch.read()}


async def install(n: int) -> dict[str, float]:
    """Give one more child to a dynamic supervisor."""
    run = Run(n, star)
    async with trio.open_nursery() as nursery:
        mailbox = await nursery.start(dynamic_supervisor.start, OPTIONS)
        for spec in run.children():
            await dynamic_supervisor.start_child(mailbox, spec)
        await run.up.wait()
        watch = Stopwatch(LEAVES)
        for i in range(n, n + LEAVES):
            run.up = countdown(1)
            run.graph.append((0,))
            run.started.append(trio.Event())
            await dynamic_supervisor.start_child(mailbox, child(i, run.worker, i))
            await run.up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"leaf": cost}


async def install_input(n: int) -> dict[str, float]:
    """Give the child for which all wait to a dynamic supervisor."""
    run = Run(n, star)
    first, *others = run.children()
    async with trio.open_nursery() as nursery:
        mailbox = await nursery.start(dynamic_supervisor.start, OPTIONS)
        for spec in others:
            await dynamic_supervisor.start_child(mailbox, spec)
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch(n)
        await dynamic_supervisor.start_child(mailbox, first)
        await run.up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"awaited input": cost}


async def runner(n: int) -> dict[str, float]:
    """One supervisor, whose children fail one after the other; there is no way to stop just one."""
    costs: dict[str, float] = {}
    up = countdown(n)
    jobs = [Job(up) for _ in range(n)]
    watch = Stopwatch(n)
    async with trio.open_nursery() as nursery:
        children = [child(i, job.live) for i, job in enumerate(jobs)]
        nursery.start_soon(supervisor.start, children, OPTIONS)
        await up.wait()
        costs["start"] = watch.read()
        costs["restart"] = await fail_all(jobs)
        watch = Stopwatch(n)
        nursery.cancel_scope.cancel()
    return {**costs, "stop": watch.read()}


async def restart(n: int) -> dict[str, float]:
    """The same children; what they need takes no part in it."""
    return {"leaf": (await runner(n))["restart"]}


async def idle(n: int) -> dict[str, float]:
    """One supervisor with n children that sleep."""
    run = Run(n, independent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start, run.children(), OPTIONS)
        await run.up.wait()
        wake_ups = await WakeUps.per_second()
        nursery.cancel_scope.cancel()
    return {"wake-ups": wake_ups}


async def memory(n: int) -> dict[str, float]:
    """One supervisor with n children."""
    with Scales(n) as scales:
        run = Run(n, independent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.start, run.children(), OPTIONS)
            await run.up.wait()
            weight = scales.read()
            nursery.cancel_scope.cancel()
    return {"worker": weight}


DISTRIBUTION = "triotp"
FLOORS = None
TRIALS = {
    "tomb": in_node(life),
    "catacomb": in_node(add),
    "runner": in_node(runner),
    **{
        f"engine, {name}": in_node(graph, shape) for name, shape in {**ANY_SIZE, **ONE_SIZE}.items()
    },
    "restart, ValueError": in_node(restart),
    "install, one": in_node(install),
    "install, for all": in_node(install_input),
    "idle": in_node(idle),
    "memory": in_node(memory),
    "imports": importing(
        "triotp.application, triotp.dynamic_supervisor, triotp.node, triotp.supervisor"
    ),
}
