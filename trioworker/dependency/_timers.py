"""All the timers of an engine: one heap, one task, one deadline.

The task sleeps in a cancel scope whose deadline is never later than the earliest live timer. Adding
an earlier one moves the deadline; cancelling only marks the timer, because moving a deadline costs
as much as a transition, so the task may wake once for nothing. When the task is woken much too
late, the whole program was held up (stopped, or blocked), and others are due as well; they go
first, so that nobody is found late who would have been in time. Whoever owns the timers calls
``rest()`` when nothing moves any more: then no timer is live, and an idle engine never wakes.

What is added for the same instant as the one before shares its timer: when thousands are cancelled
in one step, they are watched by one. An object for each would cost as much as a transition, and be
what makes Python's garbage collector go through the whole program right then.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any, final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


_LATE = 0.05
"""Seconds by which no task is woken late, unless all are."""

_FEW = 64
"""So many spent timers may lie in the heap before they are worth sweeping out."""


@final
class Timer:
    """An instant, and for whom to do something then. With nobody left, it is spent."""

    __slots__ = ("arguments", "fire", "when")

    def __init__(self, when: float, fire: Callable[[Any], None], argument: object) -> None:
        self.when: float = when
        self.fire: Callable[[Any], None] = fire
        self.arguments: dict[object, None] = {argument: None}

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


@final
class Timers:
    """The heap and its task; ``run()`` it once, in the owner's nursery."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._latest: Timer | None = None
        self._spent = 0  # how many of those in the heap
        self._sleep: trio.CancelScope | None = None
        self._armed = math.inf

    def __len__(self) -> int:
        """How many live timers there are."""
        return len(self._heap) - self._spent

    def add(self, when: float, fire: Callable[[Any], None], argument: object) -> Timer:
        """Call ``fire(argument)`` at `when`, on Trio's clock. It must be sync."""
        timer = self._latest
        if timer is not None and timer.arguments and timer.when == when and timer.fire == fire:
            timer.arguments[argument] = None
            return timer
        timer = self._latest = Timer(when, fire, argument)
        heapq.heappush(self._heap, timer)
        if when < self._armed:
            self._arm(when)
        return timer

    def cancel(self, timer: Timer | None, argument: object) -> None:
        """Do not call for `argument`; ignored if that was called or cancelled, or never added."""
        if timer is None or argument not in timer.arguments:
            return
        del timer.arguments[argument]
        if timer.arguments:
            return
        self._spent += 1
        if self._spent == len(self._heap):
            self._heap.clear()
            self._spent = 0
        elif self._spent > _FEW and 2 * self._spent > len(self._heap):
            self._heap = [timer for timer in self._heap if timer.arguments]
            heapq.heapify(self._heap)
            self._spent = 0

    def rest(self) -> None:
        """Stop waking for nothing, if no live timer is left."""
        if not self._heap and self._armed < math.inf:
            self._arm(math.inf)

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            with trio.CancelScope(deadline=self._earliest()) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            if now - self._armed > _LATE:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while (timer := self._first()) is not None and timer.when <= now:
                for argument in tuple(timer.arguments):
                    if argument in timer.arguments:  # else one called before has cancelled it
                        self.cancel(timer, argument)
                        timer.fire(argument)

    def _earliest(self) -> float:
        first = self._first()
        self._armed = math.inf if first is None else first.when
        return self._armed

    def _first(self) -> Timer | None:
        while self._heap and not self._heap[0].arguments:
            heapq.heappop(self._heap)
            self._spent -= 1
        return self._heap[0] if self._heap else None

    def _arm(self, when: float) -> None:
        self._armed = when
        if self._sleep is not None:
            self._sleep.deadline = when
