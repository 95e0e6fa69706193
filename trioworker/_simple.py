"""A plain async function as a worker: it lives while the function runs, and kill() cancels it.

Nothing but Worker's methods: a function that wants more of its life (grace, a client's guard)
should be a class with a `Tomb`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVarTuple, final

import trio

from ._tomb import Tomb
from ._util import check_async, name_of
from ._worker import Worker

Args = TypeVarTuple("Args")


def simple_worker(async_fn: Callable[[*Args], Awaitable[object]], *args: *Args) -> Worker:
    """Return a worker that calls ``await async_fn(*args)`` once, and is cancelled on kill.

    - The function returns: the worker ends without error; what it returned is dropped.
    - The function raises: that ends the worker, the same object.
    - Killed before it was run: the function is not called.

    It counts as started before the function is called.

    Raises:
        TypeError: `async_fn` is not an async function.
    """
    check_async("simple_worker({})", async_fn)
    return _SimpleWorker(async_fn, args)


@final
class _SimpleWorker:
    def __init__(self, async_fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        self.name = name_of(async_fn)
        self._async_fn = async_fn
        self._args = args
        self._tomb = Tomb(name=self.name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self._tomb:
            task_status.started()
            # A function that was stopped before it began should not begin.
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._async_fn(*self._args)

    def kill(self, reason: BaseException | None = None) -> None:
        self._tomb.kill(reason)

    async def wait(self) -> None:
        await self._tomb.wait()

    def __repr__(self) -> str:
        return f"<worker {self.name!r} {self._tomb.state}>"
