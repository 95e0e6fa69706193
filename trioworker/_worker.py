"""What a worker is, and how to own one.

A Trio worker cannot start itself. Its **owner** runs it, in a nursery of the owner's, exactly once:
a `Catacomb`, a `Runner`, an `Engine`, an ``async with open_worker(...)`` block, or any nursery by
``nursery.start_soon(worker.run)``. Everybody else may only ``kill()`` and ``wait()``.

An owner that accepts a worker runs it. One that cannot keep it kills it first and then runs it, so
that it ends at its first checkpoint: that is why ``wait()`` on an accepted worker always returns.
A worker that nobody accepted has not begun, and ``wait()`` on it waits.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import trio

from ._errors import Dying
from ._groups import raise_unchanged, reduced
from ._util import Started, is_cancelled, name_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@runtime_checkable
class Worker(Protocol):
    """Anything that runs until it is done, fails, or is asked to stop.

    Give yours a `Tomb` (a `Catacomb` if it owns other workers) and let it do the rest::

        class Forwarder:
            def __init__(self, config):
                self._config = config
                self._tomb = trioworker.Tomb()

            async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
                with self._tomb:
                    task_status.started()
                    async for item in self._config.source:
                        await self._config.sink(item)

            def kill(self, reason=None):
                self._tomb.kill(reason)

            async def wait(self):
                await self._tomb.wait()
    """

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live, once, in the owner's task; raise the error that ended us, if any.

        Calls ``task_status.started()`` exactly once, when the worker can be used.
        """
        ...

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop, and say why. Never blocks; may be called again."""
        ...

    async def wait(self) -> None:
        """Wait until dead, then raise the error that ended us, if any. A checkpoint."""
        ...


W = TypeVar("W", bound=Worker)


async def stop(worker: Worker) -> None:
    """Kill `worker` and wait until it is dead; raise the error that ended it, if any."""
    worker.kill()
    await worker.wait()


@asynccontextmanager
async def open_worker(worker: W) -> AsyncGenerator[W, None]:
    """Run `worker` for the length of an ``async with`` block, as its owner.

    The block begins when the worker has called ``started()`` (or has ended cleanly before), and
    the worker is killed and reaped at its end, with whatever grace it has.

    - The worker fails: the block is cancelled and the worker's error raised, the same object.
    - The block fails: the worker is stopped and the block's error raised.
    - Both fail, of different causes: an ``ExceptionGroup`` of the two. A `Dying` of the worker's
      in the block is no different cause: it only says that the worker has failed.
    - Cancelled from outside: any of these errors wins over the cancellation, as in a `Tomb`.
    """
    check_worker("open_worker({})", worker)
    errors: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            status = Started[object]()
            block = nursery.cancel_scope
            nursery.start_soon(_run, worker, status, errors, block, name=name_of(worker))
            try:
                await status.wait()
                yield worker
            except BaseException as exc:
                # A Cancelled that is only the worker's failure coming through: the nursery eats it.
                if (real := reduced(exc, is_cancelled)) is None:
                    raise
                errors.append(real)
            finally:
                worker.kill()
    except BaseException as exc:
        if (real := reduced(exc, is_cancelled)) is not None:
            errors.append(real)
        elif not errors:
            raise
    distinct = _causes(errors)
    if len(distinct) > 1:
        msg = f"{name_of(worker)} failed, and so did the block that used it"
        raise BaseExceptionGroup(msg, distinct)
    for error in distinct:
        raise_unchanged(error)


def check_worker(call: str, worker: object) -> None:
    """Raise TypeError, showing the right call, for a class or a function instead of a worker."""
    if isinstance(worker, type) or not hasattr(worker, "run"):
        name = name_of(worker)
        right = call.format(
            f"{name}(...)" if isinstance(worker, type) else f"simple_worker({name})"
        )
        msg = f"expected a worker, got {worker!r}; write {right}"
        raise TypeError(msg)


def _causes(errors: list[BaseException]) -> list[BaseException]:
    """Return each error once, without those that only say that another of them has happened."""
    distinct = list({id(error): error for error in errors}.values())

    def is_consequence(leaf: BaseException) -> bool:
        reason = getattr(leaf.owner, "reason", None) if isinstance(leaf, Dying) else None
        return reason is not None and any(reason is error for error in distinct)

    own = [real for error in distinct if (real := reduced(error, is_consequence)) is not None]
    return own or distinct


async def _run(
    worker: Worker,
    status: Started[object],
    errors: list[BaseException],
    block: trio.CancelScope,
) -> None:
    try:
        await worker.run(task_status=status)
    except BaseException as exc:
        if (real := reduced(exc, is_cancelled)) is None:
            raise
        errors.append(real)
        block.cancel(reason=f"{name_of(worker)} failed")
    finally:
        status.give_up()
