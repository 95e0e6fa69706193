"""The tasks that a run starts beside its start function: a nursery, opened when it is needed.

Most runs have no helpers, and a nursery costs a run more than all its transitions together. So the
first ``get.start_soon()`` starts a host task in the engine's nursery, which opens the helpers' own.
To the run it is as if that nursery lay around its start function:

- the run ends when the start function and all helpers have ended;
- an error of either cancels the others, and what leaves the run is the errors of both;
- stopping the run cancels both.

The host hands what left its nursery to the run and raises nothing itself: one owner, one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio

from .._groups import NURSERY_MESSAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@final
class Helpers:
    """The helpers of one run. Somebody has to ``run()`` it, and the run to ``join()`` it."""

    def __init__(self) -> None:
        self._early: list[tuple[Any, ...]] = []  # started before the host began
        self._nursery: trio.Nursery | None = None
        self._reason: str | None = None  # cancelled before the host began
        self._main_ended = trio.Event()
        self._ended = trio.Event()
        self._error: BaseException | None = None

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], *args: object, name: object
    ) -> None:
        """Start one more helper; under a cancelled scope, if they are cancelled."""
        if self._nursery is None:
            self._early.append((async_fn, args, name))
        else:
            self._nursery.start_soon(async_fn, *args, name=name)

    def cancel(self, reason: str) -> None:
        """Cancel all helpers, those to come included."""
        self._reason = reason
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=reason)

    async def run(self) -> None:
        """Host the helpers until the start function and all of them have ended."""
        try:
            async with trio.open_nursery() as self._nursery:
                if self._reason is not None:
                    self._nursery.cancel_scope.cancel(reason=self._reason)
                self._start_early(self._nursery)
                # Shielded: until the start function has ended it may start helpers.
                with trio.CancelScope(shield=True):
                    await self._main_ended.wait()
        except BaseException as exc:  # noqa: BLE001 - the run takes it over, Cancelled included
            self._error = exc
        finally:
            self._ended.set()

    def _start_early(self, nursery: trio.Nursery) -> None:
        # Not in run(): its frame would keep what the last of them was given.
        for async_fn, args, name in self._early:
            nursery.start_soon(async_fn, *args, name=name)
        self._early.clear()

    @property
    def is_over(self) -> bool:
        """Whether start function and helpers have all ended; the run's task may not know yet."""
        is_host_left = self._nursery is not None and not self._nursery.child_tasks
        return is_host_left and self._main_ended.is_set()

    @property
    def awaited(self) -> trio.lowlevel.Task | None:
        """One of the helpers, if they are what the run waits for."""
        if self._nursery is None or not self._main_ended.is_set():
            return None
        return next(iter(self._nursery.child_tasks), None)

    def tasks(self) -> list[trio.lowlevel.Task]:
        """Return those that have begun and not ended, by name."""
        tasks = () if self._nursery is None else self._nursery.child_tasks
        return sorted(tasks, key=lambda task: task.name)

    async def join(self, leaving: BaseException | None) -> BaseException | None:
        """Wait until all helpers have ended; return what leaves start function and helpers.

        Args:
            leaving: what left the start function; if anything, the helpers are cancelled.
        """
        if leaving is not None:
            self.cancel("its start function has failed")
        self._main_ended.set()
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        error, self._error = self._error, None
        if leaving is None:
            return error
        if error is None:
            return leaving
        return BaseExceptionGroup(NURSERY_MESSAGE, [leaving, error])
