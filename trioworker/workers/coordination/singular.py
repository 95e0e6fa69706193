"""A flag that is true in one of several programs: the one that holds a lease.

In an agent file, beside `trioworker.workers.coordination.lease`::

    [manifolds.is-responsible]
    use = "trioworker.workers.coordination.singular:manifold"
    config = { entity = "model-7", claimant = "machine-0", duration = 60.0 }

**When not to use it.** That a worker may run only once usually means that it is not written to run
twice. If two of it at the same time do nothing worse than the work twice, let them. If each piece
of the work can be claimed, lease the pieces, so that all programs share it. If the point is that
only one may *write*, the flag alone does not give that: from the end of a term until the worker
has stopped, two may run, if a process was stopped or a clock ran wrong. `Term.token` gives it,
together with a store that refuses tokens smaller than the greatest it has seen. What is left are
workers whose work twice is a nuisance, and cheap to hand over.

**How it goes.** It claims before it is ready. Granted, it is true, and claims again after half of
the duration. Denied, it is false, and waits until nobody holds the lease. When the answer may have
become another it ends with `Refresh`, which its manifold turns into a bounce, and the next one asks
again. Any other error is its end as well.

**A store that is away is no fault.** Who has the lease goes on trying to renew it, and says so in
the log; who waits goes on waiting. Who would begin knows nothing, so it is neither true nor false:
it ends with `LeaseTimeout`, for which its manifold has it start again after a second.

**It gives up by its own clock.** A renewal that is refused, that hangs, that is tried again and
again, or that comes too late because the process was stopped: a tenth of the duration before the
term is over it is no longer true, whatever it then hears. That tenth is for those who depend on it,
to stop.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Bounce, LifetimeError, Manifold, RetryAfter, Tomb, TombReport
from trioworker.patterns import Flag, as_flag, named, positive

from .lease import ClaimDenied, Grant, Leases, LeaseTimeout

if TYPE_CHECKING:
    from trioworker import Getter

    from .lease import Claimer

__all__ = ["Config", "Facade", "Refresh", "Singular", "SingularReport", "Term", "manifold"]

_log = logging.getLogger(__name__)

_MARGIN = 0.1  # of the duration
_PAUSE = 1.0  # seconds until a store that was away is asked again


class Refresh(Exception):
    """The flag may have to say something else: ask a new one. No fault."""


class Facade(Protocol):
    """One lease, and one who wants it."""

    async def claim(self, duration: float) -> Grant:
        """Get or keep the lease for `duration` seconds from now.

        Raises:
            ClaimDenied: somebody else holds it.
            LeaseTimeout: the store cannot tell. Both also as a cause, or in a group.
        """
        ...

    async def wait(self) -> None:
        """Wait until nobody holds it."""
        ...


@runtime_checkable
class Term(Protocol):
    """What fences: for those who write while the flag is true."""

    @property
    def token(self) -> int | None:
        """The fencing token, the same as long as the flag lives; ``None`` if the flag is false."""
        ...


@final
@attrs.frozen(kw_only=True)
class Config:
    """Which lease, and who wants it.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    entity: str = attrs.field(validator=named)
    """What one is responsible for: the name of the lease."""
    claimant: str = attrs.field(validator=named)
    """Who we are; another in each program."""
    duration: float = attrs.field(default=60.0, validator=positive)
    """Seconds of a term: so long may nobody be responsible after a crash."""
    namespace: str = attrs.field(default="singular", validator=named)
    """The lease's."""
    model: str = ""
    """The lease's."""


@final
class SingularReport(NamedTuple):
    """How the flag stands."""

    tomb: TombReport
    """The life of its worker."""
    answer: bool | None
    """What ``check()`` says; ``None`` before it is ready."""
    token: int | None
    """The fencing token, if it is true."""
    trouble: str
    """Why the lease could not be renewed so far; empty if nothing is wrong."""


@final
class Singular:
    """Whether we got the lease. Ends with `Refresh`.

    Args:
        facade: the lease.
        duration: of its terms, in seconds.
        name: what to call it in messages.

    Raises:
        ValueError: `duration` is not positive and finite.
    """

    def __init__(self, facade: Facade, duration: float, *, name: str = "singular") -> None:
        if not 0 < duration < math.inf:
            raise ValueError(f"duration must be more than 0 and finite, not {duration!r}")
        self.name = name
        self._facade = facade
        self._duration = duration
        self._answer: bool | None = None
        self._grant: Grant | None = None
        self._trouble = ""
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Claim, be ready, and live until killed or until the answer may be another."""
        with self._tomb:
            self._grant = await self._claim()
            if self._grant is not None and trio.current_time() >= self._end(self._grant):
                # The claim took so long that its term is over before it began.
                raise Refresh(f'"{self.name}": the lease was granted too late')
            self._answer = self._grant is not None
            task_status.started(self)
            while self._grant is not None:
                self._grant = await self._renewed(self._grant)
            await self._facade.wait()
            raise Refresh(f'"{self.name}": nobody holds the lease')

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def check(self) -> bool:
        """See `trioworker.patterns.Flag.check`. Of one that is dead, it says nothing."""
        if self._answer is None:
            raise LifetimeError(f'"{self.name}": check() before the claim; wait for started()')
        return self._answer

    @property
    def token(self) -> int | None:
        """See `Term.token`."""
        return None if self._grant is None else self._grant.token

    def report(self) -> SingularReport:
        """Return how it stands."""
        return SingularReport(self._tomb.report(), self._answer, self.token, self._trouble)

    def __repr__(self) -> str:
        return f"<Singular {self.name!r} {self._tomb.state}, {self._answer}>"

    async def _claim(self) -> Grant | None:
        try:
            return await self._facade.claim(self._duration)
        except Exception as error:
            if _is(error, ClaimDenied):
                return None
            raise

    def _end(self, grant: Grant) -> float:
        return grant.until - _MARGIN * self._duration

    async def _renewed(self, grant: Grant) -> Grant:
        end = self._end(grant)
        renewed = None
        with trio.move_on_at(end):
            # Of a process that was stopped past both times, both have come: it does not ask.
            await trio.sleep_until(grant.until - self._duration / 2)
            renewed = await self._claim_again(end)
        if renewed is None:
            raise Refresh(f'"{self.name}": the lease was not renewed in time')
        if renewed.token != grant.token or trio.current_time() >= end:
            raise Refresh(f'"{self.name}": the lease was renewed too late')
        return renewed

    async def _claim_again(self, end: float) -> Grant | None:
        """Claim until the store says something; to give up at `end` is the caller's."""
        while True:
            try:
                claimed = await self._claim()
            except Exception as error:
                if not _is(error, LeaseTimeout):
                    raise
                self._warn(error, end - trio.current_time())
                await trio.sleep(_PAUSE)
            else:
                self._trouble = ""
                return claimed

    def _warn(self, error: Exception, left: float) -> None:
        if not self._trouble:  # once for each outage
            text = '"%s": not renewed, and tried again for %.3g s: %s'
            _log.warning(text, self.name, left, error)
        self._trouble = str(error)


def _is(error: BaseException, kind: type[Exception]) -> bool:
    """Whether `error` is of that kind, or was raised because of one; a group, if all of it is."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is(leaf, kind) for leaf in error.exceptions)
    if isinstance(error, kind):
        return True
    return error.__cause__ is not None and _is(error.__cause__, kind)


def _verdict(error: Exception) -> BaseException:
    if _is(error, Refresh):
        return Bounce(str(error))
    return RetryAfter(_PAUSE, str(error)) if _is(error, LeaseTimeout) else error


@final
class _TermFace:
    """The token, and no more."""

    def __init__(self, worker: Singular) -> None:
        self._worker = worker

    @property
    def token(self) -> int | None:
        return self._worker.token


@final
class _OneLease:
    """A lease of a manager, and one who wants it, as a `Facade`."""

    def __init__(self, claimer: Claimer, entity: str, claimant: str) -> None:
        self._claimer = claimer
        self._entity = entity
        self._claimant = claimant

    async def claim(self, duration: float) -> Grant:
        return await self._claimer.claim(self._entity, self._claimant, duration)

    async def wait(self) -> None:
        await self._claimer.wait_until_expired(self._entity)


def manifold(config: Config) -> Manifold:
    """Return the manifold of the flag; its one input is ``leases``. It offers `Flag` and `Term`.

    Args:
        config: which lease, and who wants it.
    """

    def singular(get: Getter) -> Singular:
        claimer = get("leases", Leases).claimer(config.namespace, config.model)
        return Singular(_OneLease(claimer, config.entity, config.claimant), config.duration)

    return Manifold.from_worker(
        singular, inputs=("leases",), outputs={Flag: as_flag, Term: _TermFace}, filter=_verdict
    )
