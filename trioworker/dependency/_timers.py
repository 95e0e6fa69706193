"""All the timers of an engine: one heap, one task, one deadline.

The task sleeps in a cancel scope whose deadline is never later than the earliest live timer. Adding
an earlier one moves the deadline; cancelling only marks the timer, so the task may wake once for
nothing. When no live timer is left the deadline is infinite: an idle engine never wakes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING, Any, final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


_FEW = 64
"""So many spent timers may lie in the heap before they are worth sweeping out."""


@final
class Timer:
    """One call to come. Cancelled or fired, it is spent."""

    __slots__ = ("argument", "fire", "when")

    def __init__(self, when: float, fire: Callable[[Any], None], argument: object) -> None:
        self.when = when
        self.fire: Callable[[Any], None] | None = fire
        self.argument: object = argument


@final
class Timers:
    """The heap and its task; ``run()`` it once, in the owner's nursery."""

    def __init__(self) -> None:
        # Entries are (when, number, timer): the number keeps the order of equal times and keeps
        # timers from being compared.
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()
        self._spent = 0
        self._sleep: trio.CancelScope | None = None
        self._armed = math.inf

    def __len__(self) -> int:
        """How many live timers there are."""
        return len(self._heap) - self._spent

    def add(self, when: float, fire: Callable[[Any], None], argument: object) -> Timer:
        """Call ``fire(argument)`` at `when`, on Trio's clock. It must be sync."""
        timer = Timer(when, fire, argument)
        heapq.heappush(self._heap, (when, next(self._number), timer))
        if when < self._armed:
            self._arm(when)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget `timer`; one that is spent, or ``None``, is ignored."""
        if timer is None or timer.fire is None:
            return
        timer.fire = timer.argument = None
        self._spent += 1
        if self._spent == len(self._heap):
            self._heap.clear()
            self._spent = 0
            self._arm(math.inf)
        elif self._spent > _FEW and 2 * self._spent > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].fire is not None]
            heapq.heapify(self._heap)
            self._spent = 0

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            with trio.CancelScope(deadline=self._earliest()) as self._sleep:
                await trio.sleep_forever()
            self._sleep = None
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                timer = heapq.heappop(self._heap)[2]
                fire, argument = timer.fire, timer.argument
                if fire is None:
                    self._spent -= 1
                else:
                    timer.fire = timer.argument = None
                    fire(argument)

    def _earliest(self) -> float:
        while self._heap and self._heap[0][2].fire is None:
            heapq.heappop(self._heap)
            self._spent -= 1
        self._armed = self._heap[0][0] if self._heap else math.inf
        return self._armed

    def _arm(self, when: float) -> None:
        self._armed = when
        if self._sleep is not None:
            self._sleep.deadline = when
