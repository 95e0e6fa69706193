"""Workers that do one thing, some of them rudely.

Each may be owned like any other, is run once, and calls ``started()`` unless it says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio

from .. import LifetimeError, Tomb
from .._util import check_reason

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


@final
class ErrorWorker:
    """Runs until it is stopped, and then fails: a worker whose clean-up goes wrong.

    - Killed without a reason, or cancelled from outside: it ends with `error`.
    - Killed with a reason: it ends with the reason, and `error` is noted on it, as for any worker
      that fails while it stops.
    - ``fail()``: it ends with `error` now, without being asked to: a crash at a chosen moment.

    Args:
        error: what it ends with; this very object.
        name: what to call it in messages.
    """

    def __init__(self, error: BaseException, *, name: str = "ErrorWorker") -> None:
        self.name = name
        self.error: BaseException = checked_error("ErrorWorker(error)", error)
        self._tomb = Tomb(name=name)
        self._failing = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until stopped or told to fail; raise `error`."""
        with self._tomb:
            task_status.started()
            try:
                await self._failing.wait()
            finally:
                raise self.error

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask it to stop, which it does by failing."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead, then raise what it ended with."""
        await self._tomb.wait()

    def fail(self) -> None:
        """Let it end with `error`; if it does not run yet, as soon as it does."""
        self._failing.set()

    def __repr__(self) -> str:
        return f"<ErrorWorker {self.name!r} {self._tomb.state}, {self.error!r}>"


@final
class DeadWorker:
    """Is dead already: ``run()`` ends at once and ``wait()`` never waits, run or not.

    It never calls ``started()``: it cannot be used. ``kill()`` does nothing.

    Args:
        error: what both raise, this very object; ``None`` to return.
        name: what to call it in messages.
    """

    def __init__(self, error: BaseException | None = None, *, name: str = "DeadWorker") -> None:
        self.name = name
        self.error: BaseException | None = (
            None if error is None else checked_error("DeadWorker(error)", error)
        )
        self._was_run = False

    async def run(
        self,
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,  # noqa: ARG002 - too late
    ) -> None:
        """End at once, with `error` if there is one.

        Raises:
            LifetimeError: it was run before.
        """
        if self._was_run:
            raise LifetimeError(f'"{self.name}": run() twice; make a new one for each run')
        self._was_run = True
        await self._end()

    def kill(self, reason: BaseException | None = None) -> None:
        """Do nothing: it is dead."""
        check_reason(self.name, reason)

    async def wait(self) -> None:
        """End at once, with `error` if there is one."""
        await self._end()

    async def _end(self) -> None:
        # Shielded: the dead are not impressed by a cancellation, and an error must not depend on it
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self.error is not None:
            raise self.error.with_traceback(None)  # or each who asks would lengthen it

    def __repr__(self) -> str:
        return f"<DeadWorker {self.name!r}, {self.error!r}>"


@final
class ForeverWorker:
    """Hears ``kill()`` and ignores it, and shields itself from cancellation: a stuck worker.

    Only ``really_kill()`` ends it, so a test must call that whatever happens, or whoever owns the
    worker waits for ever. As a context manager it does so itself, inside the owner's block::

        async with trio.open_nursery() as nursery:
            with ForeverWorker() as worker:
                nursery.start_soon(worker.run)
                ...

    Args:
        name: what to call it in messages.

    Attributes:
        kills: how often it was asked.
    """

    def __init__(self, *, name: str = "ForeverWorker") -> None:
        self.name = name
        self.kills: int = 0
        self._tomb = Tomb(name=name)
        self._released = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until it is really killed."""
        with self._tomb:
            with trio.CancelScope(shield=True):
                task_status.started()
                await self._released.wait()
            await trio.lowlevel.checkpoint_if_cancelled()  # now let it through

    def kill(self, reason: BaseException | None = None) -> None:
        """Count the question, and keep `reason` for the day that it ends."""
        self.kills += 1
        self._tomb.kill(reason)

    def really_kill(self, reason: BaseException | None = None) -> None:
        """End it; it raises the first reason that it was given, if any. Never blocks."""
        self._tomb.kill(reason)
        self._released.set()

    async def wait(self) -> None:
        """Wait until dead, then raise the reason, if any."""
        await self._tomb.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.really_kill()

    def __repr__(self) -> str:
        return f"<ForeverWorker {self.name!r} {self._tomb.state}, asked {self.kills} times>"


def checked_error(what: str, error: BaseException) -> BaseException:
    """Return `error`; raise TypeError, showing the right call, unless it is an exception."""
    if not isinstance(error, BaseException):
        raise TypeError(f"{what} takes an exception, such as RuntimeError('why'), not {error!r}")
    return error
