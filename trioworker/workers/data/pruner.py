"""Deletes what is too old, and the oldest of what is too much, every so often and in small bites.

In an agent file, with limits that stay as they are::

    [manifolds.pruner]
    use = "trioworker.workers.data.pruner:manifold"
    inputs = { records = "log-store" }
    config = { interval = 300, limits = { max_age = 1209600, max_bytes = 5_000_000_000 } }

It needs the records, a manifold that offers `Prunable`. Without ``limits`` in its config it also
needs somebody who knows them, ``inputs = { records = "...", limits = "..." }``: a manifold that
offers `LiveLimits`. These are read when they change, and nothing is deleted before they are known.

**Time.** The first time is one interval after the limits are known, and each further one an
interval after the end of the one before: they never overlap, and drift by what they take. Changed
limits do not bring it forward: they hold from the next time on. Nothing is deleted at the end.

**Bites.** Each time it asks the records again and again to delete at most ``bite`` of them, until
they delete fewer. One bite is one transaction, and between two it rests for as long as the first
one took: half of the time is left to others who write. A ``kill()`` ends it between two, or rolls
one back.

Any error ends it: of the records, of reading the limits, of watching them. The engine starts it
again, and the interval counts anew.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Catacomb, Manifold, Reporter, TombReport, Watcher, notify_worker
from trioworker.patterns import positive

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioworker import Getter

__all__ = [
    "Config",
    "Limits",
    "LiveLimits",
    "Prunable",
    "Pruner",
    "PrunerReport",
    "manifold",
]

_logger = logging.getLogger(__name__)


def _not_negative(limits: Limits, attribute: Any, value: float) -> None:  # noqa: ARG001 - of attrs
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be at least 0 and finite, not {value!r}")


@final
@attrs.frozen(kw_only=True)
class Limits:
    """What may stay. Of the two, 0 is no limit.

    Raises:
        ValueError: a field is not usable, or both are 0; the message names it.
    """

    max_age: float = attrs.field(default=0, validator=_not_negative)
    """Seconds that a record may be old."""
    max_bytes: int = attrs.field(default=0, validator=_not_negative)
    """How much all records may take together."""

    def __attrs_post_init__(self) -> None:
        if not (self.max_age or self.max_bytes):
            raise ValueError("max_age and max_bytes are both 0: nothing would ever be deleted")


@runtime_checkable
class Prunable(Protocol):
    """Who has the records."""

    async def prune(self, limits: Limits, at_most: int) -> int:
        """Delete records and return how many, in one transaction; fewer than `at_most` is the end.

        First those that are older than ``limits.max_age``. Then, if the rest takes more than
        ``limits.max_bytes``, the oldest until it does not; an estimate of the size will do.
        """
        ...


@runtime_checkable
class LiveLimits(Protocol):
    """Who knows what may stay."""

    async def limits(self) -> Limits:
        """Return what may stay now."""
        ...

    async def watch_limits(self) -> Watcher[object]:
        """Return a watcher of that, that nobody runs yet."""
        ...


@final
@attrs.frozen(kw_only=True)
class Config:
    """How often to delete, how much at a time, and what may stay.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    interval: float = attrs.field(validator=positive)
    """Seconds from the end of one time to the next, and before the first."""
    bite: int = attrs.field(default=1000, validator=positive)
    """How many records to delete in one transaction, at most."""
    limits: Limits | None = None
    """What may stay; ``None`` to ask `LiveLimits`."""


@final
class PrunerReport(NamedTuple):
    """How a pruner stands."""

    tomb: TombReport
    """Its life."""
    limits: Limits | None
    """What may stay; ``None`` before that is known."""
    times: int
    """How often it has gone through the records."""
    deleted: int
    """How many of them it has deleted."""


@final
class Pruner:
    """Deletes `records` that the limits do not allow, every so often.

    Args:
        records: who has them.
        config: how often, how much at a time, and what may stay.
        live: who is asked for the limits, if the config has none.
        name: what to call it in messages.

    Raises:
        TypeError: neither `config` nor `live` has limits, or both.
    """

    def __init__(
        self,
        records: Prunable,
        config: Config,
        live: LiveLimits | None = None,
        *,
        name: str = "pruner",
    ) -> None:
        if (config.limits is None) == (live is None):
            raise TypeError(
                f'"{name}": limits come from its config or from LiveLimits, one of them'
            )
        self.name = name
        self._records = records
        self._config = config
        self._live = live
        self._limits = config.limits
        self._known = trio.Event()
        self._times = 0
        self._deleted = 0
        self._catacomb = Catacomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Delete every so often, until killed; ready when the limits are followed."""
        async with self._catacomb as catacomb:
            if self._live is None:
                self._known.set()
            else:
                await catacomb.start(notify_worker(_Follower(self.name, self._live, self._learn)))
            task_status.started(self)
            await self._known.wait()
            while True:
                await trio.sleep(self._config.interval)
                await self._prune()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: cancel what is under way."""
        self._catacomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._catacomb.wait()

    def report(self) -> PrunerReport:
        """Return how it stands."""
        tomb = self._catacomb.report().tomb
        return PrunerReport(tomb, self._limits, self._times, self._deleted)

    def __repr__(self) -> str:
        return f"<Pruner {self.name!r} {self._catacomb.state}, {self._deleted} deleted>"

    def _learn(self, limits: Limits) -> None:
        if limits != self._limits:
            _logger.info("%s: %s from the next time on", self.name, limits)
        self._limits = limits
        self._known.set()

    async def _prune(self) -> None:
        limits = self._limits  # the same for all bites
        assert limits is not None, "known before the first time"  # noqa: S101 - for the types
        while True:
            began = trio.current_time()
            deleted = await self._records.prune(limits, self._config.bite)
            self._deleted += deleted
            if deleted < self._config.bite:
                break
            # Who waits for a lock by looking now and then would else hardly ever find it free.
            await trio.sleep(trio.current_time() - began)
        self._times += 1


@final
class _Follower:
    """What it does when the limits may have changed, as the handler of a `notify_worker`."""

    def __init__(self, name: str, live: LiveLimits, learn: Callable[[Limits], None]) -> None:
        self.name = name
        self._live = live
        self._learn = learn

    async def set_up(self) -> Watcher[object]:
        return await self._live.watch_limits()

    async def handle(self) -> None:
        try:
            limits: object = await self._live.limits()
        except Exception as error:
            error.add_note(f'"{self.name}": while reading the limits')
            raise
        if not isinstance(limits, Limits):
            raise TypeError(f'"{self.name}": limits() must return Limits, not {limits!r}')
        self._learn(limits)

    async def tear_down(self) -> None:
        """Nothing: the watcher is stopped by who runs it."""


@final
class _ReporterFace:
    """All that others may do with it."""

    def __init__(self, worker: Pruner) -> None:
        self.report = worker.report


def manifold(config: Config) -> Manifold:
    """Return the manifold of a pruner. It offers `Reporter` alone.

    Its inputs are ``records`` and, if the config has no limits, ``limits``.

    Args:
        config: how often, how much at a time, and what may stay.
    """
    inputs = ("records",) if config.limits else ("records", "limits")

    def pruner(get: Getter) -> Pruner:
        live = None if config.limits else get("limits", LiveLimits)
        return Pruner(get("records", Prunable), config, live)

    return Manifold.from_worker(pruner, inputs=inputs, outputs={Reporter: _ReporterFace})
