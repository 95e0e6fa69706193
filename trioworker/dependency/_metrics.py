"""The metrics hook of an engine: what somebody who counts is told about every run.

The hook is foreign code, so it is never called in the middle of a transition: the transition puts
the call into a queue, and a task of the engine makes it one step later. There it may take its time,
raise (which is logged), or call any verb. Nothing is dropped, and an engine without a hook has
neither the queue nor the task.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._states import State

logger = logging.getLogger("trioworker.engine")


class Metrics(Protocol):
    """What `EngineConfig.metrics` has: one method for each thing that can be counted or timed.

    They are plain functions, called in the order of what they tell, after it has happened.

    Two more are called if it has them: ``drop()``, when a reader of events was too slow for one;
    and ``stall(seconds)``, by `trioworker.agent.run_engine` with a watchdog, when the event loop
    was blocked for so long.
    """

    def state(self, manifold: str, before: State, after: State) -> None:
        """`manifold` went from `before` to `after`; at first from ``absent``, at last to it."""
        ...

    def start(self, manifold: str, nth: int) -> None:
        """The `nth` run of `manifold` begins: a restart, if `nth` is more than 1."""
        ...

    def ready(self, manifold: str, seconds: float) -> None:
        """A run of `manifold` has called ``started()``, `seconds` after it began."""
        ...

    def end(
        self,
        manifold: str,
        kind: str,
        error: type[BaseException] | None,
        stop_seconds: float | None,
    ) -> None:
        """A run has ended.

        Args:
            manifold: whose.
            kind: how, as in `End.kind`.
            error: the type of what left it, if anything did.
            stop_seconds: from being asked to stop to the end; ``None`` if it ended by itself.
        """
        ...


@final
class Feed:
    """The calls that a hook has yet to get, and the task that makes them.

    Args:
        hook: the user's.
        condemn: takes an interrupt that leaves the hook.
    """

    def __init__(self, hook: Metrics, condemn: Callable[[BaseException], None]) -> None:
        self._hook = hook
        self._condemn = condemn
        self._calls: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._lot = trio.lowlevel.ParkingLot()

    def put(self, method: str, *args: object) -> None:
        """Call `method` of the hook later."""
        self._calls.append((method, args))
        self._lot.unpark_all()

    def dropped(self) -> None:
        """Tell of an event that a reader lost, if the hook wants to know."""
        if hasattr(self._hook, "drop"):
            self.put("drop")

    async def run(self) -> None:
        """Make the calls, for ever."""
        while True:
            self.flush()
            await self._lot.park()

    @trio.lowlevel.enable_ki_protection
    def flush(self) -> None:
        """Make all calls that are due."""
        while self._calls:
            method, args = self._calls.popleft()
            try:
                _call(self._hook, method, args)
            except Exception:
                logger.exception("the metrics hook's %s() failed", method)
            except BaseException as exc:  # noqa: BLE001 - an interrupt; the engine ends with it
                self._condemn(exc)


@trio.lowlevel.disable_ki_protection
def _call(hook: Metrics, method: str, args: tuple[Any, ...]) -> None:
    getattr(hook, method)(*args)
