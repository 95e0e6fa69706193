"""What peers on Trio have in common that only run tasks.

Such groups know no dependencies, so their workers are those of the floor: a task, a scope and two
events each, made with what the peer offers for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from benchmarks._method import Scales, Stopwatch, Trial, importing
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, Shape, independent, star
from benchmarks._trio import countdown, in_trio
from benchmarks.idle import WakeUps
from benchmarks.install import LEAVES


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What a peer offers."""

    open_group: Callable[[], AbstractAsyncContextManager[Any]]
    """What runs tasks by ``start_soon()``, and ends them by its ``cancel_scope``."""
    scope: Callable[[], Any]
    event: Callable[[], Any]


class Run:
    """The workers of one graph, which wait for each other's events."""

    def __init__(self, kit: Kit, n: int, shape: Shape) -> None:
        self.kit = kit
        self.graph = list(shape(n))
        self.n = len(self.graph)
        self.up = countdown(self.n)
        self.started = [kit.event() for _ in self.graph]

    def start(self, group: Any, *numbers: int) -> None:
        """Start some of them; all, if none are named."""
        for i in numbers or range(self.n):
            group.start_soon(self.worker, i, self.kit.scope(), self.kit.event())

    async def worker(self, i: int, scope: Any, done: Any) -> None:
        """Wait for those it needs; then be up until cancelled."""
        try:
            with scope:
                for place, needed in enumerate(self.graph[i]):
                    if place == 0 or not self.started[needed].is_set():
                        await self.started[needed].wait()
                self.started[i].set()
                self.up.down()
                await trio.sleep_forever()
        finally:
            done.set()

    def more(self) -> int:
        """Let there be one more, that needs the first."""
        self.up = countdown(1)
        self.graph.append((0,))
        self.started.append(self.kit.event())
        return len(self.graph) - 1


async def life(n: int, kit: Kit) -> dict[str, float]:
    """Open a group, start one sleeping task, cancel, leave."""
    watch = Stopwatch(n)
    for _ in range(n):
        async with kit.open_group() as group:
            group.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    return {"life": watch.read()}


async def graph(n: int, kit: Kit, shape: Shape, up: str, down: str) -> dict[str, float]:
    """One group; cancel it."""
    n = len(shape(n))
    watch = Stopwatch(n)
    run = Run(kit, n, shape)
    async with kit.open_group() as group:
        run.start(group)
        await run.up.wait()
        start = watch.read()
        watch = Stopwatch(n)
        group.cancel_scope.cancel()
    return {up: start, down: watch.read()}


async def install(n: int, kit: Kit) -> dict[str, float]:
    """Start one more task in the group in which n run."""
    run = Run(kit, n, star)
    async with kit.open_group() as group:
        run.start(group)
        await run.up.wait()
        watch = Stopwatch(LEAVES)
        for _ in range(LEAVES):
            run.start(group, run.more())
            await run.up.wait()
        cost = watch.read()
        group.cancel_scope.cancel()
    return {"leaf": cost}


async def install_input(n: int, kit: Kit) -> dict[str, float]:
    """Start the task for whose event all others wait."""
    run = Run(kit, n, star)
    async with kit.open_group() as group:
        run.start(group, *range(1, n))
        await trio.testing.wait_all_tasks_blocked()
        watch = Stopwatch(n)
        run.start(group, 0)
        await run.up.wait()
        cost = watch.read()
        group.cancel_scope.cancel()
    return {"awaited input": cost}


async def idle(n: int, kit: Kit) -> dict[str, float]:
    """One group of n that sleep."""
    run = Run(kit, n, independent)
    async with kit.open_group() as group:
        run.start(group)
        await run.up.wait()
        wake_ups = await WakeUps.per_second()
        group.cancel_scope.cancel()
    return {"wake-ups": wake_ups}


async def memory(n: int, kit: Kit) -> dict[str, float]:
    """One group of n that sleep."""
    with Scales(n) as scales:
        run = Run(kit, n, independent)
        async with kit.open_group() as group:
            run.start(group)
            await run.up.wait()
            weight = scales.read()
            group.cancel_scope.cancel()
    return {"worker": weight}


def trials(kit: Kit, package: str) -> Mapping[str, Trial]:
    """Return the answers of one that runs tasks and does nothing else."""
    shapes = {**ANY_SIZE, **ONE_SIZE}
    graphs = {
        f"engine, {name}": in_trio(graph, kit, shape, "start", "stop")
        for name, shape in shapes.items()
    }
    return {
        "tomb": in_trio(life, kit),
        "catacomb": in_trio(graph, kit, independent, "add", "stop"),
        **graphs,
        "install, one": in_trio(install, kit),
        "install, for all": in_trio(install_input, kit),
        "idle": in_trio(idle, kit),
        "memory": in_trio(memory, kit),
        "imports": importing(package),
    }
