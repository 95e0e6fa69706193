"""Breaking a manifold from outside: a switch around its start function.

`breakable` returns a manifold that works like the one it was given and has a `Switch`, which it
hands out beside its other outputs. Whoever has the switch can set one fault, and the manifold
breaks as soon as it can in that way.

Every error that comes of it is an `InjectedFault`, also the `trioworker.StartTimeout` of a start
that hung: the manifold's ``filter`` translates it. So an error that is none was not ours.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import TYPE_CHECKING, final

import attrs
import trio

from trioworker import Getter, Manifold, StartTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    StartFunction = Callable[..., Awaitable[object]]


class InjectedFault(Exception):
    """What a broken manifold raises."""


@final
class Fault(enum.StrEnum):
    """How a manifold can break."""

    RAISE = "raise"
    """Raise an error, now or when it next runs."""
    GROUP = "group"
    """The same with a group of two."""
    HANG = "hang"
    """Do nothing at the next start, until ``start_timeout``."""
    SLOW = "slow"
    """Take a while at the next stop, shielded from cancellation."""


@final
class Switch:
    """Breaks one manifold; outlives its runs.

    Attributes:
        fired: how often each fault was carried out.
    """

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._seconds = 0.0
        self._is_set = trio.Event()
        self._is_hanging = False
        self.fired: Counter[Fault] = Counter()

    @property
    def fault(self) -> Fault | None:
        """The fault that is set and not carried out yet."""
        return self._fault

    def set(self, fault: Fault, seconds: float = 0.0) -> None:
        """Let the manifold break by `fault` once; a fault that is still set is replaced.

        Args:
            fault: how.
            seconds: for `Fault.SLOW`: how long.
        """
        self._fault, self._seconds = fault, seconds
        self._is_set.set()

    def clear(self) -> None:
        """Let it be."""
        self._fault = None

    def around(self, start: StartFunction) -> StartFunction:
        """Return `start`, made breakable."""

        async def breakable_start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
            self._is_hanging = self._take(Fault.HANG)
            if self._is_hanging:
                await trio.sleep_forever()
            get.start_soon(self._break, name="switch")
            try:
                await start(get, task_status=task_status)
            finally:
                if self._take(Fault.SLOW):
                    with trio.CancelScope(shield=True):
                        await trio.sleep(self._seconds)

        return breakable_start

    def translate(
        self, before: Callable[[Exception], BaseException | None] | None
    ) -> Callable[[Exception], BaseException | None]:
        """Return a filter that knows the start timeouts that are ours, and leaves the rest."""

        def translated(exc: Exception) -> BaseException | None:
            if self._is_hanging and isinstance(exc, StartTimeout):
                fault = InjectedFault("hung at its start")
                fault.__cause__ = exc
                return fault
            return exc if before is None else before(exc)

        return translated

    async def _break(self) -> None:
        while True:
            if self._take(Fault.RAISE):
                raise InjectedFault("raised")
            if self._take(Fault.GROUP):
                two = [InjectedFault("raised first"), InjectedFault("raised second")]
                raise ExceptionGroup("raised two", two)
            self._is_set = trio.Event()
            await self._is_set.wait()

    def _take(self, fault: Fault) -> bool:
        if self._fault is not fault:
            return False
        self._fault = None
        self.fired[fault] += 1
        return True


def breakable(manifold: Manifold) -> Manifold:
    """Return `manifold` with a `Switch` of its own, which is one of its outputs."""
    switch = Switch()

    def hand_out(_: object) -> Switch:
        return switch

    return attrs.evolve(
        manifold,
        start=switch.around(manifold.start),
        outputs={**manifold.outputs, Switch: hand_out},
        filter=switch.translate(manifold.filter),
    )


def itself(value: object) -> object:
    """Return `value`: how a manifold hands out what it has started, under a narrower type."""
    return value
