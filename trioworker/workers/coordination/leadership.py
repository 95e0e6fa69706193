"""Who leads an application: one of its units at a time, which keeps claiming the leadership.

In an agent file, beside `trioworker.workers.coordination.lease`::

    [manifolds.leadership]
    use = "trioworker.workers.coordination.leadership:manifold"
    config = { application = "mysql", unit = "mysql/0" }

**What an answer is worth.** It asks for terms of twice the `guarantee` and claims again after one.
So who is told to lead does so for at least the guarantee from then on: an answer that would be
worth less waits for the renewal that is due.

**How it goes.** One task claims. Granted, the unit leads until a renewal is refused, or the term is
over by our own clock, also while the renewal hangs. Denied, it waits until nobody holds the lease,
and claims again; an error of that waiting is logged, because the claim after it tells the truth.
Any other error ends the worker with `LeadershipFailed`, but for two. A store that is away is tried
again, and the log says so. At first, when nothing is known, that is the worker's end as well; its
manifold then has it start again after a second. And the `Dying` of a lease manager that is going is
no fault of ours: it ends the worker as it is.

The answer is a `trioworker.workers.coordination.lease.Grant`, with the token for what the leader
writes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Dying, Manifold, RetryAfter, Tomb, TombReport, TrioworkerError
from trioworker.patterns import named, positive

from .lease import ClaimDenied, Grant, Leases, LeaseTimeout

if TYPE_CHECKING:
    from trioworker import Getter

    from .lease import Claimer

__all__ = ["Config", "LeadershipFailed", "LeadershipReport", "Tracker", "Tracking", "manifold"]

_log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds after what has failed: without it, a claim would follow a claim


class LeadershipFailed(TrioworkerError):
    """Whether the unit leads cannot be told; the cause says why."""


@runtime_checkable
class Tracker(Protocol):
    """Who knows whether the unit leads.

    Each method is a checkpoint, and raises `Dying` when the worker is dying or dead, or dies
    meanwhile.
    """

    async def claim_leader(self) -> Grant | None:
        """Return what the unit leads by, for at least the guarantee from now; or ``None``."""
        ...

    async def wait_leader(self) -> Grant:
        """Wait until the unit leads; return what by, for at least the guarantee from then on."""
        ...

    async def wait_minion(self) -> None:
        """Wait until the unit does not lead, if only for a moment."""
        ...


def _of_the_application(config: Config, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    application, _, number = value.rpartition("/")
    if application != config.application or not number.isdecimal():
        raise ValueError(
            f"unit must be one of the application, like {config.application + '/0'!r}, "
            f"not {value!r}"
        )


@final
@attrs.frozen(kw_only=True)
class Config:
    """Who wants to lead what.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    application: str = attrs.field(validator=named)
    """What is led."""
    unit: str = attrs.field(validator=_of_the_application)
    """Who we are, such as ``mysql/0``; another in each program."""
    guarantee: float = attrs.field(default=30.0, validator=positive)
    """For how many seconds an answer holds at least; terms are twice as long."""
    model: str = ""
    """The lease's."""


@final
class LeadershipReport(NamedTuple):
    """How the leadership stands."""

    tomb: TombReport
    """The life of its worker."""
    is_leader: bool
    """Whether the unit leads."""
    token: int | None
    """The fencing token, if it does."""


@final
class Tracking:
    """Claims the leadership, and tells about it: the worker.

    Args:
        claimer: who claims leases, in the namespace of leadership.
        config: who wants to lead what.
        name: what to call it in messages.
    """

    def __init__(self, claimer: Claimer, config: Config, *, name: str = "leadership") -> None:
        self.name = name
        self._claimer = claimer
        self._config = config
        self._tomb = Tomb(name=name)
        self._grant: Grant | None = None
        # How often the leadership was lost.
        self._losses = 0
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim, be ready, and go on claiming until killed."""
        with self._tomb:
            await self._claim()
            task_status.started(self)
            while True:
                if self._grant is None:
                    await self._wait_until_free()
                    await self._claim_at_last()
                else:
                    await self._renew(self._grant)

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    async def claim_leader(self) -> Grant | None:
        """See `Tracker.claim_leader`."""
        with self._tomb.while_alive():
            await trio.lowlevel.checkpoint()
            return await self._settled()

    async def wait_leader(self) -> Grant:
        """See `Tracker.wait_leader`."""
        with self._tomb.while_alive():
            await trio.lowlevel.checkpoint()
            while (grant := await self._settled()) is None:
                await self._changed.wait()
            return grant

    async def wait_minion(self) -> None:
        """See `Tracker.wait_minion`."""
        with self._tomb.while_alive():
            await trio.lowlevel.checkpoint()
            losses = self._losses
            while self._grant is not None and self._losses == losses:
                await self._changed.wait()

    def report(self) -> LeadershipReport:
        """Return how it stands."""
        token = None if self._grant is None else self._grant.token
        return LeadershipReport(self._tomb.report(), self._grant is not None, token)

    def __repr__(self) -> str:
        role = "minion" if self._grant is None else "leader"
        return f"<Tracking {self.name!r} {self._tomb.state}, {self._config.unit} is {role}>"

    async def _settled(self) -> Grant | None:
        """Return the grant when no renewal of it is due."""
        while self._grant is not None and trio.current_time() >= self._due(self._grant):
            await self._changed.wait()
        return self._grant

    def _due(self, grant: Grant) -> float:
        return grant.until - self._config.guarantee

    async def _claim(self) -> None:
        config = self._config
        try:
            grant = await self._claimer.claim(config.application, config.unit, 2 * config.guarantee)
        except ClaimDenied:
            self._set(None)
        except Dying:
            raise
        except Exception as error:
            raise LeadershipFailed(f"leadership failure: {error}") from error
        else:
            # If the claim took longer than its term, the renewal that is due says that it is over.
            self._set(grant)

    async def _claim_at_last(self) -> None:
        while True:
            try:
                return await self._claim()
            except LeadershipFailed as error:
                if not _is_away(error):
                    raise
                _log.warning('"%s": %s; it is tried again', self.name, error)
            await trio.sleep(_PAUSE)

    async def _renew(self, grant: Grant) -> None:
        await trio.sleep_until(self._due(grant))
        with trio.move_on_at(grant.until):
            await self._claim_at_last()
        if self._grant is grant:  # over by our own clock, before an answer came
            self._set(None)

    async def _wait_until_free(self) -> None:
        try:
            await self._claimer.wait_until_expired(self._config.application)
        except Dying:
            raise
        except Exception as error:  # noqa: BLE001 - told, and the claim that follows tells the truth
            _log.warning('"%s": waiting for the leadership: %s', self.name, error)
            await trio.sleep(_PAUSE)

    def _set(self, grant: Grant | None) -> None:
        before = self._grant
        if before is not None and (
            grant is None or grant.token != before.token or trio.current_time() >= before.until
        ):
            self._losses += 1
        self._grant = grant
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _is_away(error: Exception) -> bool:
    return isinstance(error, LeadershipFailed) and isinstance(error.__cause__, LeaseTimeout)


def _verdict(error: Exception) -> Exception:
    return RetryAfter(_PAUSE, str(error)) if _is_away(error) else error


@final
class _TrackerFace:
    """All that others may do with it, and no more."""

    def __init__(self, worker: Tracking) -> None:
        self.claim_leader = worker.claim_leader
        self.wait_leader = worker.wait_leader
        self.wait_minion = worker.wait_minion


def manifold(config: Config) -> Manifold:
    """Return the manifold of the leadership; its one input is ``leases``. It offers `Tracker`.

    Args:
        config: who wants to lead what.
    """

    def tracking(get: Getter) -> Tracking:
        return Tracking(get("leases", Leases).claimer("leadership", config.model), config)

    return Manifold.from_worker(
        tracking, inputs=("leases",), outputs={Tracker: _TrackerFace}, filter=_verdict
    )
