"""What the tests of the wing share: a user of a worker's outputs, in an engine and out of one."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, final

import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import Getter, Manifold

T = TypeVar("T")


@final
class Taker:
    """A manifold that takes what another offers, so that the test can use it."""

    def __init__(self, role: str, *faces: Any) -> None:
        self.role = role
        self.faces = faces
        self.starts = 0
        self.taken: dict[Any, Any] = {}

    def manifold(self) -> Manifold:
        async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
            self.starts += 1
            self.taken = {face: get(self.role, face) for face in self.faces}
            task_status.started()
            await trio.sleep_forever()

        return Manifold(start, inputs=(self.role,))

    def __getitem__(self, face: Callable[..., T]) -> T:
        taken: T = self.taken[face]
        return taken


@final
class Call:
    """A call in a task of its own: whether it blocks, and how it ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.error: Exception | None = None

    def blocks(self) -> bool:
        """Whether it has not ended yet."""
        return not self.ended.is_set()

    async def run(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            with self.scope:
                await call()
        except Exception as error:  # noqa: BLE001 - it is what the test asks for
            self.error = error
        finally:
            self.ended.set()


async def calling(nursery: trio.Nursery, call: Callable[[], Awaitable[object]]) -> Call:
    """Call in the background, and let everything settle."""
    made = Call(getattr(call, "__name__", "call"))
    nursery.start_soon(made.run, call)
    await wait_all_tasks_blocked()
    return made


@asynccontextmanager
async def nursery_to_leave() -> AsyncGenerator[trio.Nursery]:
    """A nursery whose tasks end with the block."""
    async with trio.open_nursery() as nursery:
        yield nursery
        nursery.cancel_scope.cancel()
