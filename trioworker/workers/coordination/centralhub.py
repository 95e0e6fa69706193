"""A hub: whoever is interested in a topic hears what is published there, inside one program.

In an agent file::

    [manifolds.hub]
    use = "trioworker.workers.coordination.centralhub:manifold"
    config = { limit = 100, origin = "machine-0" }

**Publishing never waits.** A message goes to everybody who is subscribed at that moment, and to
nobody who comes later. Each subscriber has a queue of its own, in the order of publication, so a
slow one holds up neither the publisher nor the others.

**What is dropped.** A queue has a limit. A message that comes when it is full takes the place of
the oldest in it, and the subscriber is told: `Message.missed` counts what was dropped right before
that message, and the report what was dropped at all. So memory is bounded, what one reads is the
latest, and nobody misses anything without being told. Who cannot do without a message should not
get it from a hub.

**Handled.** ``publish()`` returns a `Delivery`, to wait until everybody has done with the message:
asked for the next one, had it dropped, or left.

**Messages** are mappings with strings for keys, so that they survive JSON. A subscriber gets one
read-only copy, shared with the others; what is inside is not copied. With an ``origin`` in the
config, messages that have none get it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trioworker import LifetimeError, Manifold, Tomb, TombReport

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from trioworker import Getter

__all__ = [
    "Config",
    "Delivery",
    "Hub",
    "HubReport",
    "Message",
    "Publisher",
    "Subscriber",
    "SubscriberReport",
    "Subscription",
    "manifold",
]


@final
class Message(NamedTuple):
    """What a subscriber gets."""

    topic: str
    """Where it was published."""
    data: Mapping[str, Any]
    """What was published. Read-only."""
    missed: int
    """How many messages of this subscription were dropped right before this one."""


@runtime_checkable
class Publisher(Protocol):
    """Who has something to say."""

    def publish(self, topic: str, data: Mapping[str, Any]) -> Delivery:
        """Tell all who are subscribed to `topic` now. Never waits.

        Raises:
            Dying: the hub is dying or dead.
            TypeError: `data` is no mapping with strings for keys.
            ValueError: `topic` is empty, or a pattern.
        """
        ...


@runtime_checkable
class Subscriber(Protocol):
    """Who wants to hear."""

    def subscribe(self, *topics: str) -> Subscription:
        """Return a subscription to all `topics`, in one queue; it begins when it is entered.

        A ``*`` in a topic stands for any characters, so ``"*"`` is every topic. A message that fits
        several comes once.

        Raises:
            ValueError: there is no topic, or an empty one.
        """
        ...


def _at_least_one(config: Config, attribute: Any, value: int) -> None:  # noqa: ARG001 - of attrs
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"limit must be a number of messages, not {value!r}")
    if value < 1:
        raise ValueError(f"limit must be at least 1, not {value!r}")


@final
@attrs.frozen(kw_only=True)
class Config:
    """How much is kept, and who speaks.

    Raises:
        TypeError: `limit` is no integer.
        ValueError: `limit` is less than 1.
    """

    limit: int = attrs.field(default=100, validator=_at_least_one)
    """How many messages wait for one subscriber at most."""
    origin: str = ""
    """What messages without an ``origin`` get as one; empty for nothing."""


_DEFAULT = Config()


@final
class SubscriberReport(NamedTuple):
    """How one subscription stands."""

    topics: tuple[str, ...]
    """To what."""
    waiting: int
    """How many messages it has not taken yet."""
    missed: int
    """How many were dropped, ever."""


@final
class HubReport(NamedTuple):
    """How a hub stands."""

    tomb: TombReport
    """Its life."""
    published: int
    """How many messages there were."""
    subscribers: tuple[SubscriberReport, ...]
    """Who listens, in the order of their coming."""


@final
class _Count:
    """How many have a message before them or in their hands."""

    def __init__(self) -> None:
        self.left = 0
        self.done = trio.Event()

    def add(self) -> None:
        self.left += 1

    def settle(self) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


@final
class Delivery:
    """Whether everybody has done with a message. A hub makes it."""

    def __init__(self, readers: Any, tomb: Tomb) -> None:  # Any: not for others to make
        self._readers: _Count = readers
        self._tomb = tomb

    @property
    def is_done(self) -> bool:
        """Whether nobody has it before him or in his hands any more."""
        return not self._readers.left

    async def wait(self) -> None:
        """Wait until everybody has done with it. A checkpoint.

        Raises:
            Dying: the hub is dying or dead, or dies meanwhile.
        """
        with self._tomb.while_alive():
            if self.is_done:
                await trio.lowlevel.checkpoint()
            else:
                await self._readers.done.wait()

    def __repr__(self) -> str:
        return f"<Delivery, {'done' if self.is_done else f'{self._readers.left} to go'}>"


@final
class _Letter(NamedTuple):
    """A message on its way to one subscriber."""

    topic: str
    data: Mapping[str, Any]
    readers: _Count


@final
class _Queue:
    """What waits for one subscriber."""

    def __init__(self, topics: tuple[str, ...], limit: int) -> None:
        self.topics = topics
        self.came = trio.lowlevel.ParkingLot()
        self.letters: deque[_Letter] = deque()
        patterns = (re.escape(topic).replace(r"\*", ".*") for topic in topics)
        self._wanted = re.compile("|".join(patterns), re.DOTALL)
        self._limit = limit
        self._in_hand: _Count | None = None
        self._missed = 0
        self._missed_before = 0

    def put(self, letter: _Letter) -> None:
        """Take it, if it is wanted; drop the oldest if there are too many."""
        if self._wanted.fullmatch(letter.topic) is None:
            return
        if len(self.letters) == self._limit:
            self.letters.popleft().readers.settle()
            self._missed += 1
            self._missed_before += 1
        letter.readers.add()
        self.letters.append(letter)
        self.came.unpark()

    def take(self) -> Message:
        """Hand out the oldest."""
        letter = self.letters.popleft()
        self._in_hand = letter.readers
        missed, self._missed_before = self._missed_before, 0
        return Message(letter.topic, letter.data, missed)

    def settle(self) -> None:
        """Have done with what was handed out."""
        if self._in_hand is not None:
            self._in_hand.settle()
            self._in_hand = None

    def clear(self) -> None:
        """Have done with everything."""
        self.settle()
        while self.letters:
            self.letters.popleft().readers.settle()

    def report(self) -> SubscriberReport:
        return SubscriberReport(self.topics, len(self.letters), self._missed)


@final
class Subscription:
    """A queue of messages, for one task: ``with`` it, then ``async for`` or ``receive()``.

    A hub makes it. What is still in it when the block is left is dropped.
    """

    def __init__(self, queue: Any, queues: Any, tomb: Tomb) -> None:  # Any: as above
        self._queue: _Queue = queue
        # Of all who are subscribed; the hub's own.
        self._queues: dict[_Queue, None] = queues
        self._tomb = tomb

    @enable_ki_protection
    def __enter__(self) -> Self:
        """Begin.

        Raises:
            Dying: the hub is dying or dead.
            LifetimeError: it is entered now.
        """
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        if self._queue in self._queues:
            raise LifetimeError("a subscription was entered a second time: subscribe() again")
        self._queues[self._queue] = None
        return self

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        del self._queues[self._queue]
        self._queue.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()

    async def receive(self) -> Message:
        """Return the next message; with that, the one before is handled. A checkpoint.

        Raises:
            Dying: the hub is dying or dead, or dies meanwhile.
            LifetimeError: outside of the block.
        """
        with self._tomb.while_alive():
            if self._queue not in self._queues:
                raise LifetimeError("a subscription is used inside its block: with it, then read")
            self._queue.settle()
            await trio.lowlevel.checkpoint()
            while not self._queue.letters:
                await self._queue.came.park()
        # Without a checkpoint from here on: what is taken is returned.
        return self._queue.take()

    @property
    def waiting(self) -> int:
        """How many messages can be received without waiting."""
        return len(self._queue.letters)

    def __repr__(self) -> str:
        return f"<Subscription to {', '.join(self._queue.topics)}, {self.waiting} waiting>"


@final
class Hub:
    """The worker of a hub. It does nothing but live.

    Args:
        config: how much is kept.
        name: what to call it in messages.
    """

    def __init__(self, config: Config = _DEFAULT, *, name: str = "hub") -> None:
        self.name = name
        self._config = config
        self._published = 0
        # Of those who are subscribed now, in the order of their coming.
        self._queues: dict[_Queue, None] = {}
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed."""
        with self._tomb:
            task_status.started(self)
            await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    @enable_ki_protection
    def publish(self, topic: str, data: Mapping[str, Any]) -> Delivery:
        """See `Publisher.publish`."""
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        if not topic or "*" in topic:
            raise ValueError(f"topic must be the name of one, not {topic!r}")
        letter = _Letter(topic, self._copy(data), _Count())
        self._published += 1
        for queue in self._queues:
            queue.put(letter)
        return Delivery(letter.readers, self._tomb)

    def subscribe(self, *topics: str) -> Subscription:
        """See `Subscriber.subscribe`."""
        if not topics or not all(topics):
            raise ValueError(f"topics must be names or patterns, at least one, not {topics!r}")
        queue = _Queue(topics, self._config.limit)
        return Subscription(queue, self._queues, self._tomb)

    def report(self) -> HubReport:
        """Return how it stands."""
        subscribers = tuple(queue.report() for queue in self._queues)
        return HubReport(self._tomb.report(), self._published, subscribers)

    def __repr__(self) -> str:
        return f"<Hub {self.name!r} {self._tomb.state}, {len(self._queues)} subscribed>"

    def _copy(self, data: object) -> Mapping[str, Any]:
        if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
            raise TypeError(f"a message must be a mapping with strings for keys, not {data!r}")
        copy: dict[str, Any] = dict(data)
        if self._config.origin:
            copy.setdefault("origin", self._config.origin)
        return MappingProxyType(copy)


@final
class _PublisherFace:
    """All that a publisher can do, and no more."""

    def __init__(self, hub: Hub) -> None:
        self.publish = hub.publish


@final
class _SubscriberFace:
    """All that a subscriber can do, and no more."""

    def __init__(self, hub: Hub) -> None:
        self.subscribe = hub.subscribe


def manifold(config: Config = _DEFAULT) -> Manifold:
    """Return the manifold of a hub: a new one at each start.

    It offers `Publisher` and `Subscriber`.

    Args:
        config: how much is kept.
    """

    def hub(get: Getter) -> Hub:  # noqa: ARG001 - it needs nothing
        return Hub(config)

    return Manifold.from_worker(
        hub, outputs={Publisher: _PublisherFace, Subscriber: _SubscriberFace}
    )
