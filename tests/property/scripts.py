"""What the tasks of a property test do, and the history they write while they do it.

A `Script` is a task's inside: it waits for orders (return, raise this, call that) and answers a
cancellation in one way that was chosen for it. Whatever happens is written to a `History` by the
very task to which it happens, at that moment; so its order is the real one, also between tasks that
run in the same batch. A model reads the history and nothing else.

`Plan` describes an error before there is one: Hypothesis draws plans, and a machine makes errors
of them, because two of the ingredients need a run (`trio.Cancelled`) or a tomb (`Dying`).
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import trio
from hypothesis import strategies as st

NURSERY = "Exceptions from Trio nursery"
"""How Trio calls a group that a nursery makes."""


class Event(NamedTuple):
    """One thing that happened."""

    kind: str
    who: object
    now: float
    detail: Any = None


class History:
    """What happened, in order, and how much of it was read.

    Attributes:
        scripts: all that ever wrote to it.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.scripts: list[Script] = []
        self._read = 0

    def write(self, kind: str, who: object, detail: Any = None) -> None:
        self.events.append(Event(kind, who, trio.current_time(), detail))

    def news(self) -> list[Event]:
        """Return what was not returned before."""
        news = self.events[self._read :]
        self._read = len(self.events)
        return news


# -- errors ----------------------------------------------------------------------------------------


class Boom(Exception):
    """An ordinary error."""


class Broken(BaseException):
    """An error that is no ``Exception``."""


class Leaf(enum.Enum):
    """What an error is made of."""

    BOOM = "a new error"
    AGAIN = "an error there was before, the same object"
    INTERRUPT = "KeyboardInterrupt"
    BROKEN = "another that is no Exception"
    CANCELLED = "a Cancelled"
    DYING = "the Dying of this very tomb"
    FOREIGN = "the Dying of another"


@attrs.frozen
class Plan:
    """A group of plans under a message; a tuple of leaves and plans."""

    message: str
    parts: tuple[Leaf | Plan, ...]


ORDINARY = st.just(Leaf.BOOM)
LEAVES = st.sampled_from([Leaf.BOOM, Leaf.BOOM, *Leaf])
PLANS: st.SearchStrategy[Leaf | Plan] = st.one_of(
    LEAVES,
    st.recursive(
        LEAVES,
        lambda parts: st.builds(
            Plan,
            st.sampled_from([NURSERY, "the program's own group"]),
            st.lists(parts, min_size=1, max_size=3).map(tuple),
        ),
        max_leaves=4,
    ),
)


class Errors:
    """Makes errors of plans, for one tomb: the same leaf may come again in any other error.

    Args:
        cancelled: one that Trio made, since nobody else can.
        dying: makes what the tomb refuses with.
        foreign: likewise, of another tomb, with this message: no two errors read the same.
    """

    def __init__(
        self,
        name: str,
        cancelled: BaseException,
        dying: Callable[[], BaseException],
        foreign: Callable[[str], BaseException],
    ) -> None:
        self._name = name
        self._cancelled = cancelled
        self._dying = dying
        self._foreign = foreign
        self.made: list[BaseException] = []

    def make(self, plan: Leaf | Plan) -> BaseException:
        if isinstance(plan, Leaf):
            return self._leaf(plan)
        group = BaseExceptionGroup(plan.message, [self.make(part) for part in plan.parts])
        if all(isinstance(leaf, Exception) for leaf in leaves(group)):
            assert isinstance(group, ExceptionGroup)
        return group

    def _leaf(self, leaf: Leaf) -> BaseException:
        number = len(self.made)
        match leaf:
            case Leaf.AGAIN if self.made:
                # One of the first: whoever counts and forgets the later ones cannot know them.
                return self.made[min(number, 8) // 2]
            case Leaf.CANCELLED:
                return self._cancelled
            case Leaf.DYING:
                return self._dying()
            case Leaf.FOREIGN:
                error = self._foreign(f"another's {number}")
            case Leaf.INTERRUPT:
                error = KeyboardInterrupt(f"{self._name} {number}")
            case Leaf.BROKEN:
                error = Broken(f"{self._name} {number}")
            case _:
                error = Boom(f"{self._name} {number}")
        self.made.append(error)
        return error


def leaves(error: BaseException) -> list[BaseException]:
    """Return the errors in `error` that are no groups, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


# -- tasks -----------------------------------------------------------------------------------------


class Answer(enum.Enum):
    """How a task answers being cancelled."""

    LEAVE = "let the Cancelled through"
    RETURN = "end as if nothing were"
    FAIL = "raise something else"
    LINGER = "go on, shielded, until released"
    CLEAN_UP = "take a second, shielded, then let the Cancelled through"
    CLEAN_UP_AND_FAIL = "take a second, shielded, then raise something else"
    NURSERY = "have a nursery inside, in which a child fails as well"


class Script:
    """What one task does: orders, and one answer to being cancelled.

    Attributes:
        who: whom the history names.
        parked: whether it waits for orders, and a cancellation would reach it.
        lingers: whether it waits, shielded, to be released.
        running: whether it is at it.
    """

    def __init__(
        self,
        history: History,
        who: object,
        answer: Answer = Answer.LEAVE,
        error: Callable[[], BaseException] = lambda: Boom("while being cancelled"),
    ) -> None:
        self.who = who
        self.parked = False
        self.lingers = False
        self.running = False
        self._history = history
        self._answer = answer
        self._error = error
        self._orders: deque[Callable[[], object]] = deque()
        self._wake = trio.Event()
        self._released = trio.Event()
        history.scripts.append(self)

    def order(self, order: Callable[[], object]) -> None:
        """Let the task call `order`: what that raises ends it, and so does a ``StopIteration``."""
        self._orders.append(order)
        self._wake.set()

    def release(self) -> None:
        """Let a task go that lingers."""
        self._released.set()

    async def live(self) -> None:
        """Carry out orders until one of them is the end."""
        self.running = True
        try:
            if self._answer is Answer.NURSERY:
                await self._live_in_a_nursery()
            else:
                await self._live()
        finally:
            self.running = False

    async def _live_in_a_nursery(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fail_when_cancelled)
            await self._live()
            nursery.cancel_scope.cancel()

    async def _fail_when_cancelled(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise self._error()

    async def _live(self) -> None:
        try:
            while True:
                await self._next_order()
                if not self._carry_out():
                    return
        except trio.Cancelled as cancelled:
            if not self.parked:
                raise  # an order raised it: that is somebody else's
            self.parked = False
            self._history.write("cancelled", self.who, cancelled)
            await self._answer_cancellation()

    async def _next_order(self) -> None:
        if not self._orders:
            self._wake = trio.Event()
            self.parked = True
            await self._wake.wait()
            self.parked = False

    def _carry_out(self) -> bool:
        while self._orders:
            try:
                self._orders.popleft()()
            except StopIteration:
                return False
        return True

    async def _answer_cancellation(self) -> None:
        if self._answer is Answer.LINGER:
            self.lingers = True
            with trio.CancelScope(shield=True):
                await self._released.wait()
            self.lingers = False
        elif self._answer in (Answer.CLEAN_UP, Answer.CLEAN_UP_AND_FAIL):
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        if self._answer in (Answer.FAIL, Answer.CLEAN_UP_AND_FAIL):
            raise self._error()
        if self._answer not in (Answer.RETURN, Answer.LINGER):
            await trio.lowlevel.checkpoint_if_cancelled()


def finish() -> None:
    """Order a script to return."""
    raise StopIteration


def fail(error: BaseException) -> None:
    """Order a script to raise."""
    raise error


SECONDS = st.sampled_from([0.5, 1.0, 2.0, 5.0])
GRACES = st.sampled_from([0.0, 1.0, 2.0, math.inf])
TOGETHER = st.sampled_from([False, False, True])
"""Whether a step happens at the same moment as the next."""
