"""The lease manager: claims with retries, and waiters that cost nothing while they wait.

All that is decided is in the store (see `_store`) and in the rules (see `_model`). The manager adds
what a client of a store should not have to do:

**Claiming.** Look, then act, in the caller's own task, so a slow claim delays nobody else:

=================  ============  ==================================================
the lease is       the store is  and if that is `Invalid` (another was quicker)
=================  ============  ==================================================
free               to claim      look again (`Held` is the end: denied)
held by us         to extend     look again
held by another    not asked     denied
=================  ============  ==================================================

What we were granted before is extended without looking first; only if that is `Invalid`, because it
was lost, we look. All that, and a store that is `Busy`, is tried ten times, with growing delays.
Only so many claims are at the store at the same time; of those that wait for their turn, extensions
go first (see `_turns`): a crowd of newcomers must not cost anybody what they hold.

**Whose fault it is.** Denials are the caller's to hear. What the store raises and is neither of the
above is the store's, and the manager dies of it: the caller gets `Dying`. Only pinning tells its
errors to the caller and goes on. A store that is busy for long, because a server is away, is
nobody's fault: who claims is told, who waits waits longer. Only at the beginning it is the end.

**Waiting.** Who waits for a lease is parked by key. One task looks at the store, when the earliest
of the awaited terms ends, or when one of our own calls may have freed something, or after
``max_sleep``, and wakes everybody whose lease is gone. A look is only ever moved to an earlier
time; after each the next is set anew, so there is always one to come. For who comes it looks at
that one lease, or each of many would cost as much as all.

**Two clocks.** `clock` is the world's and goes to the store. A grant's end is told in Trio's time,
counted from before the claim was sent, so who gives up by it gives up before the store does,
however long the way there took.

**The end.** ``kill()`` cancels what is at the store. Until those calls have ended, for `patience`
seconds at most, the manager is not dead, so that nobody closes the store under them.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final

import trio

from trioworker import Dying, Tomb, TombReport

from ._config import Config
from ._model import (
    ATTEMPTS,
    ClaimDenied,
    Grant,
    Info,
    Key,
    LeasePinned,
    LeaseTimeout,
    NotHeld,
    Request,
    Secretary,
    UnknownNamespace,
    nap,
    retry_delay,
)
from ._store import Busy, Held, Invalid, Store
from ._turns import Turns
from ._views import CheckerView, ClaimerView, PinnerView, ReaderView, RevokerView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    from ._faces import Checker, Claimer, Pinner, Reader, Revoker

T = TypeVar("T")

_MANY = 16
"""Of more than so many leases that are waited for anew, one look at all costs less."""

_DEFAULT = Config()
_log = logging.getLogger(__name__)


@final
class ManagerReport(NamedTuple):
    """How a lease manager stands."""

    tomb: TombReport
    """Its life."""
    claims: int
    """How many claims are under way."""
    revokes: int
    """How many revocations are under way."""
    waiters: int
    """How many wait for a lease to be free."""


@final
class Manager:
    """A lease manager, as a worker.

    Args:
        store: where the leases are; somebody else runs it.
        config: how to manage them.
        secretaries: the rules of further namespaces, or of those of the config.
        clock: the world's time, in seconds since 1970, as the store takes it.
        chance: a number from 0 to 1, which spreads retries.
        name: what to call it in messages.
    """

    def __init__(
        self,
        store: Store,
        config: Config = _DEFAULT,
        *,
        secretaries: Mapping[str, Secretary] | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        name: str = "lease manager",
    ) -> None:
        self.name = name
        self._store = store
        self._config = config
        self._secretaries: dict[str, Secretary] = {**config.namespaces, **(secretaries or {})}
        self._clock = clock
        self._chance = chance
        self._tomb = Tomb(name=name)
        self._turns = Turns(config.concurrency)
        # By key; an event is there as long as somebody waits for it.
        self._waiters: dict[Key, trio.Event] = {}
        # What we granted and have not seen lost: only whose claim is an extension, never the truth.
        self._granted: dict[Key, str] = {}
        # Keys that somebody began to wait for, and that were not looked at since.
        self._asked: set[Key] = set()
        # The next look at all, in Trio's time.
        self._due = 0.0
        self._nap = trio.CancelScope()
        # What is at the store, by kind.
        self._calls: Counter[str] = Counter()
        self._idle = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Read the leases, be ready, and look after the waiters until killed."""
        with self._tomb:
            try:
                await self._look()
                task_status.started(self)
                while True:
                    await self._sleep()
                    try:
                        if trio.current_time() >= self._due or len(self._asked) > _MANY:
                            await self._look()
                        else:
                            await self._look_at(self._asked.pop())
                    except LeaseTimeout as error:  # no fault: who waits waits longer
                        _log.info("%s", error)
                        self._look_in(0)
            except BaseException as error:
                self._tomb.kill(error)
                await self._drain()
                raise

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: cancel what is at the store, refuse everybody."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def claimer(self, namespace: str, model: str = "") -> Claimer:
        """See `Leases.claimer`."""
        return ClaimerView(self, self._secretary(namespace), namespace, model)

    def checker(self, namespace: str, model: str = "") -> Checker:
        """See `Leases.checker`."""
        return CheckerView(self, self._secretary(namespace), namespace, model)

    def revoker(self, namespace: str, model: str = "") -> Revoker:
        """See `Leases.revoker`."""
        return RevokerView(self, self._secretary(namespace), namespace, model)

    def pinner(self, namespace: str, model: str = "") -> Pinner:
        """See `Leases.pinner`."""
        return PinnerView(self, self._secretary(namespace), namespace, model)

    def reader(self, namespace: str, model: str = "") -> Reader:
        """See `Leases.reader`."""
        return ReaderView(self, self._secretary(namespace), namespace, model)

    def report(self) -> ManagerReport:
        """Return how it stands."""
        waiters = sum(event.statistics().tasks_waiting for event in self._waiters.values())
        return ManagerReport(
            self._tomb.report(), self._calls["claim"], self._calls["revoke"], waiters
        )

    def __repr__(self) -> str:
        return f"<Manager {self.name!r} {self._tomb.state} of {self._store!r}>"

    # -- for the views, which have checked what they pass ------------------------------------------

    async def claim(self, key: Key, request: Request) -> Grant:
        """See `Claimer.claim`."""

        async def attempt() -> Grant:
            is_ours = self._granted.get(key) == request.holder
            async with self._turns.turn(hurry=is_ours):
                sent, now = trio.current_time(), self._clock()
                info = await self._claimed(key, request, now, is_ours=is_ours)
            self._granted[key] = request.holder
            return Grant(info.token, sent + request.duration)

        with self._at_store("claim"), self._fatal():
            try:
                return await self._trying(attempt)
            except (Held, Invalid, ClaimDenied) as error:
                if self._granted.get(key) == request.holder:
                    del self._granted[key]
                raise ClaimDenied(f"lease {key} is not for {request.holder!r}: {error}") from error

    async def wait_until_expired(self, key: Key) -> None:
        """See `Claimer.wait_until_expired`."""
        with self._tomb.while_alive():
            event = self._waiters.setdefault(key, trio.Event())
            self._asked.add(key)
            self._nap.cancel()
            try:
                await event.wait()
            finally:
                if self._waiters.get(key) is event and not event.statistics().tasks_waiting:
                    del self._waiters[key]

    async def check(self, key: Key, holder: str) -> int:
        """See `Checker.check`."""
        with self._at_store("check"), self._fatal():
            info = (await self._trying(lambda: self._read(key))).get(key)
            if info is not None and info.holder == holder:
                return info.token
            if info is None and key in self._waiters:
                self._look_in(0)
            raise NotHeld(f"lease {key} is not held by {holder!r}")

    async def revoke(self, key: Key, holder: str) -> None:
        """See `Revoker.revoke`."""

        async def attempt() -> None:
            info = (await self._read(key)).get(key)
            if info is None:
                return
            if info.holder != holder:
                raise NotHeld(f"lease {key} is held by {info.holder!r}, not {holder!r}")
            await self._store.revoke(key, holder, self._clock())

        with self._at_store("revoke"), self._fatal():
            try:
                await self._trying(attempt)
            except Invalid as error:
                raise NotHeld(str(error)) from error
        self._look_in(0)

    async def pin(self, key: Key, entity: str) -> None:
        """See `Pinner.pin`."""
        with self._at_store("pin"):
            await self._trying(lambda: self._store.pin(key, entity, self._clock()))

    async def unpin(self, key: Key, entity: str) -> None:
        """See `Pinner.unpin`."""
        with self._at_store("pin"):
            await self._trying(lambda: self._store.unpin(key, entity, self._clock()))
        self._look_in(0)

    async def pinned(self) -> Mapping[Key, frozenset[str]]:
        """Return who has pinned what, of all namespaces."""
        with self._at_store("pin"):
            return await self._trying(lambda: self._store.pinned(self._clock()))

    async def leases(self) -> Mapping[Key, Info]:
        """Return what is held, of all namespaces."""
        with self._at_store("read"), self._fatal():
            return await self._trying(self._read)

    # -- within ------------------------------------------------------------------------------------

    def _secretary(self, namespace: str) -> Secretary:
        secretary = self._secretaries.get(namespace)
        if secretary is None:
            known = ", ".join(f'"{name}"' for name in sorted(self._secretaries)) or "none"
            raise UnknownNamespace(
                f'"{self.name}": no namespace "{namespace}" (known: {known}); '
                "add it to the config's namespaces"
            )
        return secretary

    async def _read(self, key: Key | None = None) -> Mapping[Key, Info]:
        return await self._store.leases(self._clock(), key)

    async def _claimed(self, key: Key, request: Request, now: float, *, is_ours: bool) -> Info:
        if is_ours:  # as far as we know
            with suppress(Invalid):
                return await self._store.extend(key, request, now)
        info = (await self._store.leases(now, key)).get(key)
        if info is None:
            return await self._store.claim(key, request, now)
        if info.holder == request.holder:
            return await self._store.extend(key, request, now)
        raise ClaimDenied(f"{info.holder!r} holds it")

    async def _look(self) -> None:
        """Wake those whose lease is gone, and set the time of the next look."""
        self._due = math.inf
        self._asked.clear()
        awaited = list(self._waiters)  # who comes during the reading asks for another look
        held = await self._trying(self._read)
        self._granted = {
            key: holder
            for key, holder in self._granted.items()
            if key in held and held[key].holder == holder
        }
        self._wake(awaited, held)

    async def _look_at(self, key: Key) -> None:
        """The same for one lease, which somebody began to wait for."""
        self._wake([key], await self._trying(lambda: self._read(key)))

    def _wake(self, awaited: list[Key], held: Mapping[Key, Info]) -> None:
        for key in awaited:
            if key not in held and (event := self._waiters.pop(key, None)) is not None:
                event.set()
        still = (held[key] for key in awaited if key in held)
        self._look_in(nap(self._clock(), still, self._config.max_sleep))

    def _look_in(self, seconds: float) -> None:
        """Have a look in so many seconds, or earlier."""
        self._due = min(self._due, trio.current_time() + seconds)
        self._nap.deadline = self._due

    async def _sleep(self) -> None:
        with trio.CancelScope(deadline=self._due) as self._nap:
            if self._asked:
                self._nap.cancel()
            await trio.sleep_forever()

    async def _trying(self, attempt: Callable[[], Awaitable[T]]) -> T:
        number = 0
        while True:
            try:
                return await attempt()
            except Busy as error:
                if number == ATTEMPTS - 1:
                    raise LeaseTimeout(f'"{self.name}": the store is busy: {error}') from error
            except Invalid:
                if number == ATTEMPTS - 1:
                    raise
            await trio.sleep(retry_delay(number, self._chance()))
            number += 1

    @contextmanager
    def _fatal(self) -> Generator[None]:
        """Die of what is no answer."""
        try:
            yield
        except (ClaimDenied, NotHeld, LeasePinned, LeaseTimeout):
            raise
        except Dying:  # the store is going, and we with it: no fault of its own
            self.kill()
            raise self._tomb.refusal() from None
        except Exception as error:
            self.kill(error)
            raise self._tomb.refusal() from error

    @contextmanager
    def _at_store(self, kind: str) -> Generator[None]:
        with self._tomb.while_alive():
            self._calls[kind] += 1
            try:
                yield
            finally:
                self._calls[kind] -= 1
                if not self._calls.total():
                    self._idle.set()

    async def _drain(self) -> None:
        if not self._calls.total():
            return
        self._idle = trio.Event()
        with trio.move_on_after(self._config.patience, shield=True) as scope:
            await self._idle.wait()
        if scope.cancelled_caught:
            left = ", ".join(f"{count} {kind}" for kind, count in self._calls.items() if count)
            _log.warning(
                '"%s": calls of the store have not ended %s seconds after they were cancelled: %s',
                self.name,
                self._config.patience,
                left,
            )
