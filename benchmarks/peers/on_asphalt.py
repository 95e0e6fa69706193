"""asphalt 4: components in a container, which get what they need as resources of a context.

A component's task ends in its teardown, when the context is left.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from asphalt.core import Component, ContainerComponent, Context

from benchmarks._method import Countdown, Scales, Stopwatch, importing
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, Shape, independent, star

from ._asyncio import (
    FLOORS as FLOORS,
    LEAVES,
    countdown,
    in_asyncio,
    sleep_forever,
    wake_ups,
)


class Output:
    """What a component offers."""


class Worker(Component):
    """The least component with a task."""

    def __init__(self, number: int, needs: list[int], up: Countdown) -> None:
        self._number = number
        self._needs = needs
        self._up = up

    async def start(self, ctx: Context) -> None:
        """Wait for what it needs, and offer its own until the context is left."""

        async def stop() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        for needed in self._needs:
            await ctx.request_resource(Output, f"worker_{needed}")
        task = asyncio.create_task(sleep_forever())
        ctx.add_teardown_callback(stop)
        ctx.add_resource(Output(), f"worker_{self._number}")
        self._up.down()


async def start_all(ctx: Context, n: int, shape: Shape, up: Countdown, first: int = 0) -> None:
    """Start the workers of a graph in one container, from `first` on."""
    container = ContainerComponent()
    for i, needs in enumerate(shape(n)):
        if i >= first:
            container.add_component(f"worker{i}", Worker, number=i, needs=list(needs), up=up)
    await container.start(ctx)


async def life(n: int) -> dict[str, float]:
    """One component in a context."""
    up = countdown(n)
    watch = Stopwatch(n)
    for _ in range(n):
        async with Context() as ctx:
            await Worker(0, [], up).start(ctx)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    return {"life": watch.read()}


async def add(n: int) -> dict[str, float]:
    """Start components in a context one after the other; leave it."""
    up = countdown(n)
    watch = Stopwatch(n)
    async with Context() as ctx:
        for i in range(n):
            await Worker(i, [], up).start(ctx)
        cost = watch.read()
        watch = Stopwatch(n)
    return {"add": cost, "stop": watch.read()}


async def graph(n: int, shape: Shape) -> dict[str, float]:
    """One container with n components in a context; leave it."""
    n = len(shape(n))
    watch = Stopwatch(n)
    async with Context() as ctx:
        await start_all(ctx, n, shape, countdown(n))
        start = watch.read()
        watch = Stopwatch(n)
    return {"start": start, "stop": watch.read()}


async def install(n: int) -> dict[str, float]:
    """Start one more component in a context."""
    up = countdown(n + LEAVES)
    async with Context() as ctx:
        await start_all(ctx, n, star, up)
        watch = Stopwatch(LEAVES)
        for i in range(n, n + LEAVES):
            await Worker(i, [0], up).start(ctx)
        cost = watch.read()
    return {"leaf": cost}


async def install_input(n: int) -> dict[str, float]:
    """Start the component for which n others wait."""
    up = countdown(n)
    async with Context() as ctx:
        others = asyncio.create_task(start_all(ctx, n, star, up, first=1))
        await asyncio.sleep(0.05)  # until they all wait
        watch = Stopwatch(n)
        await Worker(0, [], up).start(ctx)
        await others
        cost = watch.read()
    return {"awaited input": cost}


async def idle(n: int) -> dict[str, float]:
    """Let n components do nothing."""
    async with Context() as ctx:
        await start_all(ctx, n, independent, countdown(n))
        return await wake_ups()


async def memory(n: int) -> dict[str, float]:
    """Let n components do nothing."""
    with Scales(n) as scales:
        async with Context() as ctx:
            await start_all(ctx, n, independent, countdown(n))
            weight = scales.read()
    return {"worker": weight}


DISTRIBUTION = "asphalt"
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
    "imports": importing("asphalt.core"),
}
