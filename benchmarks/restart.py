"""What does it cost when one leaf of a star ends, again and again, and is started again?

One leaf after the other: tell it to end, wait until it is up again. It ends in two ways: by an
error, and by `Bounce`, which asks for the restart. The log is off, as nobody reads it here; the
engine keeps each end in the manifold's history all the same, and the floor keeps nothing.
"""

from __future__ import annotations

import trio

from trioworker import Bounce, Engine, Getter, Manifold

from ._method import Bar, Question, Stopwatch
from ._ours import NO_DELAYS, no_log
from ._trio import in_trio


class Leaf:
    """What the driver of a trial shares with one leaf, on both sides."""

    def __init__(self) -> None:
        self.up = trio.Event()
        self.end = trio.Event()

    async def again(self) -> None:
        """Make it end, and wait until it is up again."""
        self.up = trio.Event()
        self.end.set()
        await self.up.wait()

    async def live(self, error: type[Exception]) -> None:
        """Be up, until told to end."""
        self.end = trio.Event()
        self.up.set()
        await self.end.wait()
        raise error


async def floor(n: int, error: type[Exception]) -> dict[str, float]:
    """Go round a loop that catches the error: a new scope and two new events each time."""

    async def worker(leaf: Leaf) -> None:
        while True:
            started, done = trio.Event(), trio.Event()
            try:
                with trio.CancelScope():
                    await root.wait()
                    started.set()
                    await leaf.live(error)
            except error:
                pass
            finally:
                done.set()

    root = trio.Event()
    root.set()
    leaves = [Leaf() for _ in range(n)]
    async with trio.open_nursery() as nursery:
        for leaf in leaves:
            nursery.start_soon(worker, leaf)
        cost = await restart_all(leaves)
        nursery.cancel_scope.cancel()
    return {"leaf": cost}


async def ours(n: int, error: type[Exception]) -> dict[str, float]:
    """Let the engine start it again."""

    async def root(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        await trio.sleep_forever()

    def manifold(leaf: Leaf) -> Manifold:
        async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
            task_status.started()
            await leaf.live(error)

        return Manifold(start, inputs=("root",))

    leaves = [Leaf() for _ in range(n)]
    engine = Engine(NO_DELAYS)
    engine.install_all(
        {"root": Manifold(root)} | {str(i): manifold(leaf) for i, leaf in enumerate(leaves)}
    )
    with no_log("trioworker.engine"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            cost = await restart_all(leaves)
            engine.kill()
    return {"leaf": cost}


async def restart_all(leaves: list[Leaf]) -> float:
    """Restart one leaf at a time; return the microseconds for each."""
    for leaf in leaves:
        await leaf.up.wait()
    watch = Stopwatch(len(leaves))
    for leaf in leaves:
        await leaf.again()
    return watch.read()


QUESTIONS = [
    Question(
        name=f"restart, {error.__name__}",
        ours=in_trio(ours, error),
        floor=in_trio(floor, error),
        sizes=(100, 1000, 5000),
        bars={"leaf": Bar(limit=1.6, at=(1000,))},
    )
    for error in (ValueError, Bounce)
]
