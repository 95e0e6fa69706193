"""How failed work is to be tried again: one policy, the same for all who ask, until it changes.

In an agent file::

    [manifolds.retry-strategy]
    use = "trioworker.workers.coordination.retrystrategy:manifold"
    inputs = { policies = "model" }
    config = { entity = "unit-mysql-0" }

It needs somebody who knows policies: a manifold that offers `Policies`. It reads the policy before
it is ready, watches, and reads again at each event. While the policy is equal to the first nothing
happens; when it is another the worker ends with `PolicyChanged`, which its manifold turns into a
bounce, so that all who use it are started again with the new one. An error of reading or watching
is its end as well: an old policy is not kept because the new one cannot be had.

What it offers is a value: who has got it has got a copy, and nothing under him moves.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import LifetimeError, Manifold, Tomb, TombReport, Watcher, notify_worker
from trioworker.patterns import bounce_on, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioworker import Getter

__all__ = [
    "Config",
    "Policies",
    "Policy",
    "PolicyChanged",
    "RetryStrategy",
    "RetryStrategyReport",
    "Strategy",
    "manifold",
]


def _within(low: float, high: float, wanted: str) -> Callable[[Policy, Any, float], None]:
    def check(policy: Policy, attribute: Any, value: float) -> None:  # noqa: ARG001 - of attrs
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{attribute.name} must be a number, not {value!r}")
        if not low <= value <= high or math.isinf(value):
            raise ValueError(f"{attribute.name} must be {wanted}, not {value!r}")

    return check


# Half of what a float can hold, so that no spread turns the longest delay into infinity.
_LONGEST = 1e308 / 2
_seconds = _within(math.ulp(0.0), _LONGEST, "more than 0 and finite")


@final
@attrs.frozen(kw_only=True)
class Policy:
    """Whether and when failed work is tried again. Times are in seconds.

    There is no empty policy: one that says never says so.

    Raises:
        TypeError: a field is of another type.
        ValueError: a field is not usable; the message names it.
    """

    should_retry: bool = attrs.field(default=True, validator=attrs.validators.instance_of(bool))
    """Whether it is tried again at all."""
    min_retry_time: float = attrs.field(default=5.0, validator=_seconds)
    """The delay after the first failure."""
    max_retry_time: float = attrs.field(default=300.0, validator=_seconds)
    """The longest delay, before jitter; at least `min_retry_time`."""
    factor: float = attrs.field(default=2.0, validator=_within(1, _LONGEST, "at least 1"))
    """What each further failure in a row multiplies the delay with."""
    jitter: float = attrs.field(default=0.1, validator=_within(0, 1, "from 0 to 1"))
    """How far a delay is spread, as a part of it: 0.1 means 10 % up or down."""

    def __attrs_post_init__(self) -> None:
        if self.max_retry_time < self.min_retry_time:
            raise ValueError(
                f"max_retry_time must be at least min_retry_time, {self.min_retry_time!r}, "
                f"not {self.max_retry_time!r}"
            )

    def delay(self, failures: int, dice: Callable[[], float] = random.random) -> float | None:
        """Return how long to wait before the next try; ``None``: there is none.

        Args:
            failures: how many there were since the last success, at least 1.
            dice: throws a number from 0 to 1.

        Raises:
            ValueError: there was no failure.
        """
        if failures < 1:
            raise ValueError(f"failures must be at least 1, not {failures!r}")
        if not self.should_retry:
            return None
        try:
            delay = min(self.min_retry_time * self.factor ** (failures - 1), self.max_retry_time)
        except OverflowError:
            delay = self.max_retry_time
        return delay * (1 + self.jitter * (2 * dice() - 1))


@runtime_checkable
class Policies(Protocol):
    """Who knows the policies of entities."""

    async def retry_policy(self, entity: str) -> Policy:
        """Return the present policy for `entity`."""
        ...

    async def watch_retry_policy(self, entity: str) -> Watcher[object]:
        """Return a watcher of the policy for `entity`, that nobody runs yet."""
        ...


@runtime_checkable
class Strategy(Protocol):
    """What is to be done about failures."""

    @property
    def policy(self) -> Policy:
        """The policy. Always the same one."""
        ...


class PolicyChanged(Exception):
    """The policy is another now: ask for it again. No fault."""


@final
@attrs.frozen(kw_only=True)
class Config:
    """Whose policy it is.

    Raises:
        ValueError: `entity` is empty.
    """

    entity: str = attrs.field(validator=named)
    """What `Policies` is asked about."""


@final
class RetryStrategyReport(NamedTuple):
    """How the strategy stands."""

    tomb: TombReport
    """The life of its worker."""
    policy: Policy | None
    """The policy; ``None`` before it is ready."""


@final
class RetryStrategy:
    """Offers the policy for `entity`, and ends with `PolicyChanged` when it is another.

    Ends also with what reading and watching raise, and with `trioworker.WatcherClosed` when its
    watcher stops.

    Args:
        policies: who knows.
        entity: whose policy.
        name: what to call it in messages.
    """

    def __init__(self, policies: Policies, entity: str, *, name: str = "retry-strategy") -> None:
        self.name = name
        self._policies = policies
        self._entity = entity
        self._policy: Policy | None = None
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Read, be ready, and watch until killed or changed."""
        with self._tomb:
            self._policy = await self._read()
            task_status.started(self)
            await notify_worker(_Follower(self.name, self._watch, self._look_again)).run()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    @property
    def policy(self) -> Policy:
        """Return the first policy; also when dead.

        Raises:
            LifetimeError: it was not ready yet.
        """
        if self._policy is None:
            raise LifetimeError(f'"{self.name}": policy before it was read; wait for started()')
        return self._policy

    def report(self) -> RetryStrategyReport:
        """Return how it stands."""
        return RetryStrategyReport(self._tomb.report(), self._policy)

    def __repr__(self) -> str:
        return f"<RetryStrategy {self.name!r} of {self._entity!r} {self._tomb.state}>"

    async def _read(self) -> Policy:
        policy: object = await self._policies.retry_policy(self._entity)
        if not isinstance(policy, Policy):
            raise TypeError(f'"{self.name}": retry_policy() must return a Policy, not {policy!r}')
        return policy

    async def _watch(self) -> Watcher[object]:
        return await self._policies.watch_retry_policy(self._entity)

    async def _look_again(self) -> None:
        policy = await self._read()
        if policy != self._policy:
            raise PolicyChanged(f'"{self.name}" is {policy} now')


@final
class _Follower:
    """What it does about each change, as the handler of a `notify_worker`."""

    def __init__(self, name: str, watch: Callable[[], Any], look: Callable[[], Any]) -> None:
        self.name = name
        self._watch = watch
        self._look = look

    async def set_up(self) -> Watcher[object]:
        watcher: Watcher[object] = await self._watch()
        return watcher

    async def handle(self) -> None:
        await self._look()

    async def tear_down(self) -> None:
        """Nothing: the watcher is stopped by who runs it."""


@final
class _StrategyFace:
    """The policy, and no more."""

    def __init__(self, worker: RetryStrategy) -> None:
        self.policy = worker.policy


def manifold(config: Config) -> Manifold:
    """Return the manifold of the strategy; its one input is ``policies``. It offers `Strategy`.

    Args:
        config: whose policy.
    """

    def strategy(get: Getter) -> RetryStrategy:
        return RetryStrategy(get("policies", Policies), config.entity)

    return Manifold.from_worker(
        strategy,
        inputs=("policies",),
        outputs={Strategy: _StrategyFace},
        filter=bounce_on(PolicyChanged),
    )
