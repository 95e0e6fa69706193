"""Deletes leases whose term is over from their store.

In an agent file, beside `trioworker.workers.coordination.lease`::

    [manifolds.lease-expiry]
    use = "trioworker.workers.coordination.leaseexpiry:manifold"
    inputs = { store = "lease-store" }

What is over is free without it: it only keeps the store from growing. So one is enough for all who
share a store, and none is missed for a while. Pinned leases stay.

It sleeps, deletes, and sleeps again: passes never overlap, however long one takes. A store that is
busy is left alone until the next pass; any other error of the store ends the worker with it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, final

import attrs
import trio

from trioworker import Manifold, Reporter, Tomb, TombReport
from trioworker.patterns import positive

from .lease import Busy, Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from trioworker import Getter

__all__ = ["Config", "LeaseExpiry", "LeaseExpiryReport", "manifold"]


@final
@attrs.frozen(kw_only=True)
class Config:
    """How often to delete.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    interval: float = attrs.field(default=1.0, validator=positive)
    """Seconds from the end of a pass to the next, and before the first."""


_DEFAULT = Config()


@final
class LeaseExpiryReport(NamedTuple):
    """How the janitor stands."""

    tomb: TombReport
    """Its life."""
    passes: int
    """How often it has deleted."""
    deleted: int
    """How many leases."""
    busy: int
    """How often the store was busy."""


@final
class LeaseExpiry:
    """Deletes from `store` what is over.

    Args:
        store: where the leases are.
        config: how often.
        clock: the world's time, in seconds since 1970, as the store takes it.
        name: what to call it in messages.
    """

    def __init__(
        self,
        store: Store,
        config: Config = _DEFAULT,
        *,
        clock: Callable[[], float] = time.time,
        name: str = "lease expiry",
    ) -> None:
        self.name = name
        self._store = store
        self._config = config
        self._clock = clock
        self._tomb = Tomb(name=name)
        self._passes = 0
        self._deleted = 0
        self._busy = 0

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Delete every so often, until killed."""
        with self._tomb:
            task_status.started(self)
            while True:
                await trio.sleep(self._config.interval)
                try:
                    self._deleted += await self._store.expire(self._clock())
                except Busy:
                    self._busy += 1
                else:
                    self._passes += 1

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: cancel a pass that is under way."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def report(self) -> LeaseExpiryReport:
        """Return how it stands."""
        return LeaseExpiryReport(self._tomb.report(), self._passes, self._deleted, self._busy)

    def __repr__(self) -> str:
        return f"<LeaseExpiry {self.name!r} {self._tomb.state}, {self._deleted} deleted>"


@final
class _ReporterFace:
    """All that others may do with it."""

    def __init__(self, worker: LeaseExpiry) -> None:
        self.report = worker.report


def manifold(config: Config = _DEFAULT, *, clock: Callable[[], float] = time.time) -> Manifold:
    """Return the manifold of the janitor; its one input is ``store``. It offers `Reporter` alone.

    Args:
        config: how often.
        clock: the world's time, in seconds since 1970.
    """

    def janitor(get: Getter) -> LeaseExpiry:
        return LeaseExpiry(get("store", Store), config, clock=clock)

    return Manifold.from_worker(janitor, inputs=("store",), outputs={Reporter: _ReporterFace})
