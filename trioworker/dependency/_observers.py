"""Those who watch an engine: waiters for a state, waiters for quiet, streams of events.

The engine tells `moved` about each transition, and only while somebody watches (`active`), so that
watching costs nothing while nobody does. Nobody who watches can slow the engine: a waiter is one
flag, and a stream that is full drops and counts.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, final

import outcome
import trio

from .._errors import LifetimeError, NotFound
from ._states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import TracebackType
    from typing import Self

    from ._node import Node


@final
class Transition(NamedTuple):
    """One manifold moved from one state to another."""

    time: float
    """When, on Trio's clock."""
    manifold: str
    before: State
    after: State
    cause: str | None
    """The verb, the neighbour or the error behind it, if any."""
    origin: int
    """The number of what set it off: a verb, or a run that ended by itself. What follows from one
    such thing has one number: the stops of those that use it, and all starts afterwards."""

    def __str__(self) -> str:
        why = f" ({self.cause})" if self.cause else ""
        return f"{self.manifold}: {self.before} -> {self.after}{why}"


@final
class EventStream:
    """The transitions of an engine from now on, oldest first; ends when the engine is dead.

    ::

        with engine.events() as events:
            async for transition in events:
                print(transition)

    A reader that falls more than `capacity` behind loses the oldest; `dropped` counts them.
    """

    def __init__(self, observers: Observers, capacity: int) -> None:
        self._observers = observers
        self._queue: deque[Transition] = deque(maxlen=capacity)
        self._lot = trio.lowlevel.ParkingLot()
        self._is_over = False
        self._was_entered = False
        self.dropped: int = 0

    def __enter__(self) -> Self:
        self._was_entered = True
        self._observers.listen(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._observers.forget(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Transition:
        if not self._was_entered:
            msg = "an event stream tells nothing before it is entered; "
            raise LifetimeError(msg + "write 'with engine.events() as events:'")
        if self._queue or self._is_over:
            await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._is_over:
                raise StopAsyncIteration
            await self._lot.park()
        return self._queue.popleft()

    def take(self) -> list[Transition]:
        """Return, without waiting, all that have come and were not read yet; they are read then."""
        taken = list(self._queue)
        self._queue.clear()
        return taken

    def put(self, transition: Transition) -> None:
        """Take one more; the engine's to call."""
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
            self._observers.dropped()
        self._queue.append(transition)
        self._lot.unpark_all()

    def end(self) -> None:
        """No more will come."""
        self._is_over = True
        self._lot.unpark_all()


@final
class _StateWaiter:
    __slots__ = ("event", "result", "states")

    def __init__(self, states: Collection[State]) -> None:
        self.states = states
        self.event = trio.Event()
        self.result: outcome.Outcome[State] | None = None


@final
class Observers:
    """All who watch one engine.

    Args:
        dropped: is told of each event that a stream lost.
    """

    def __init__(self, dropped: Callable[[], object] = lambda: None) -> None:
        self.dropped = dropped
        self.active: bool = False
        self._is_over = False
        self._waiters: dict[Node, list[_StateWaiter]] = {}
        self._settled: trio.Event | None = None
        self._streams: list[EventStream] = []

    async def wait_state(self, node: Node, states: Collection[State]) -> State:
        """Wait until `node` is in, or passes through, one of `states`."""
        waiter = _StateWaiter(states)
        self._waiters.setdefault(node, []).append(waiter)
        self.active = True
        try:
            await waiter.event.wait()
        finally:
            waiters = self._waiters.get(node)
            if waiters and waiter in waiters:  # cancelled before it was answered
                waiters.remove(waiter)
                if not waiters:
                    del self._waiters[node]
            self._rest()
        assert waiter.result is not None, "woken without an answer"  # noqa: S101 - for the types
        return waiter.result.unwrap()

    async def wait_change_of_quiet(self) -> None:
        """Wait until nothing moves, or the engine has ended; ask again afterwards."""
        if self._settled is None:
            self._settled = trio.Event()
            self.active = True
        await self._settled.wait()

    def listen(self, stream: EventStream) -> None:
        """Add a stream; after the end it is over at once."""
        if self._is_over:
            stream.end()
            return
        self._streams.append(stream)
        self.active = True

    def forget(self, stream: EventStream) -> None:
        """Remove a stream."""
        if stream in self._streams:
            self._streams.remove(stream)
        self._rest()

    def moved(self, node: Node, before: State, cause: str | None, now: float) -> None:
        """`node` has left the state `before`."""
        for stream in self._streams:
            stream.put(Transition(now, node.name, before, node.state, cause, node.origin))
        waiters = self._waiters.get(node)
        if waiters:
            self._answer(node, waiters)

    def quiet(self) -> None:
        """Nothing moves now, or nothing ever will."""
        if self._settled is not None:
            self._settled.set()
            self._settled = None
            self._rest()

    def end(self, refusal: Exception) -> None:
        """The engine is dead: answer everybody."""
        self._is_over = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.result = outcome.Error(refusal)
                waiter.event.set()
        self._waiters.clear()
        for stream in self._streams:
            stream.end()
        self._streams.clear()
        self.quiet()
        self._rest()

    def _answer(self, node: Node, waiters: list[_StateWaiter]) -> None:
        left: list[_StateWaiter] = []
        for waiter in waiters:
            if node.state in waiter.states:
                waiter.result = outcome.Value(node.state)
            elif node.state is State.ABSENT:
                msg = f'"{node.name}" was uninstalled before it was {_either(waiter.states)}'
                waiter.result = outcome.Error(NotFound(msg))
            else:
                left.append(waiter)
                continue
            waiter.event.set()
        if left:
            self._waiters[node] = left
        else:
            del self._waiters[node]

    def _rest(self) -> None:
        self.active = bool(self._waiters or self._streams or self._settled is not None)


def _either(states: Collection[enum.Enum]) -> str:
    return " or ".join(sorted(map(str, states)))
