"""A tomb: one life, from alive through dying to dead, and why it ended.

::

    alive ──kill()──▶ dying ──the block is left──▶ dead
      └──────────────the block is left──────────────▲

``with tomb:`` is the life. A `trio.CancelScope` around the block carries *dying*: ``kill()``
cancels it, at once or, with grace, by its deadline, so no task is spent on waiting. Leaving the
block is *dead*; that happens exactly once because a tomb refuses a second entry, and only after
everything inside has exited because blocks nest. Nothing else moves the state.

The **reason** is the first real error, given to ``kill()`` or leaving the block. Real means: no
`trio.Cancelled` (cancellation is how we stop, not why) and not the tomb's own `Dying` (a late
caller inside the block is no cause of death). Whoever observes the end gets that one object, with
the traceback it had at death: raising it to a thousand waiters leaves it no longer. What came later
is *suppressed*: kept, counted, and noted on the reason. An owner that knows which error is the more
important says so (``supersede()``).

What leaves the block is decided in ``__exit__`` and nowhere else:

=====================  ========================  =================================
there is a reason      cancelled from outside    leaves the block
=====================  ========================  =================================
yes                    either                    the reason, alone
no                     yes                       the ``Cancelled``, unchanged
no                     no                        nothing
=====================  ========================  =================================

Everything here is sync between two awaits, hence free of races; the methods that change state are
protected against a `KeyboardInterrupt` between two of their lines.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, ClassVar, final

import trio
from trio.lowlevel import enable_ki_protection

from ._errors import Dying, LifetimeError
from ._groups import (
    attach,
    describe,
    leaves,
    only,
    raise_unchanged,
    reduced,
    set_context,
)
from ._report import TombReport
from ._util import check_grace, check_reason, check_seconds, is_cancelled

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self


@final
class TombState(enum.StrEnum):
    """The three states of a life; each equals its lower-case name as a string."""

    ALIVE = "alive"
    DYING = "dying"
    DEAD = "dead"


@final
class Tomb:
    """One life: enter it once, kill it as often as you like, wait for its end.

    Args:
        grace: seconds between ``kill()`` and the cancellation of the block. 0 cancels at once;
            ``math.inf`` never cancels, so the block must watch ``wait_dying()`` itself.
        name: what to call it in messages; the name of the task that enters it by default.

    Raises:
        ValueError: `grace` is negative or NaN.
    """

    MAX_SUPPRESSED: ClassVar[int] = 16

    def __init__(self, *, grace: float = 0.0, name: str = "") -> None:
        if grace != 0:
            check_seconds("Tomb(grace=...)", grace, inf=True)
        self._grace = grace
        self._name = name
        self._state = TombState.ALIVE
        # None until the block is entered, and kept after it was left: this is what "once" means.
        self._scope: trio.CancelScope | None = None
        self._reason: BaseException | None = None
        self._suppressed: tuple[BaseException, ...] = ()
        self._uncounted = 0
        self._cancelled = False
        self._is_hard = False  # whether a kill has cancelled the block, and not left it to grace
        # The scopes of the clients' calls that are inside while_alive() now.
        self._guards: set[trio.CancelScope] = set()
        # Made by the first who waits: most lives have no such observer, and an Event costs as much
        # as the rest of this method.
        self._dying: trio.Event | None = None
        self._dead: trio.Event | None = None
        # The reason's, at death; see wait().
        self._traceback: TracebackType | None = None
        self._context: BaseException | None = None

    @enable_ki_protection
    def __enter__(self) -> Self:
        """Begin the life.

        Raises:
            LifetimeError: it was entered before; nothing changes.
        """
        if self._scope is not None:
            msg = (
                f'"{self.name}" tomb: entered a second time; a life happens once. '
                "Make a new worker, with a new Tomb(), for each run."
            )
            raise LifetimeError(msg)
        scope = trio.CancelScope()
        scope.__enter__()
        self._scope = scope
        if not self._name:
            self._name = trio.lowlevel.current_task().name
        if self._state is TombState.DYING:  # killed before it began: grace does not apply
            self._cancel_after(scope, 0)
        return self

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        if scope is None:
            msg = f'"{self.name}" tomb: left before it was entered; write "with tomb:"'
            raise LifetimeError(msg)
        is_bare = exc_type is trio.Cancelled  # the common end: there is nothing real in it
        if exc is not None and not is_bare:
            self._admit(exc)
        leaving: BaseException | None
        try:
            leaving = None if scope.__exit__(exc_type, exc, traceback) else exc
        except BaseException as err:  # noqa: BLE001 - ends up in `leaving` or in the reason
            # A group without our own Cancelled, or Trio's word that scopes were left out of order.
            self._admit(err)
            leaving = err
        if self._reason is not None:
            leaving = self._reason
        elif leaving is not None:
            if leaving is not exc or not is_bare:
                leaving = only(leaving, is_cancelled)
            self._cancelled = leaving is not None
        self._die()
        if leaving is None:
            return True
        if leaving is exc:
            return False
        try:
            raise_unchanged(leaving)
        finally:
            del leaving, exc, traceback  # a frame in a traceback must not hold the traceback

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask the block to end, and say why. Never blocks and never raises but `TypeError`.

        - The first reason wins. Later ones are kept in `suppressed`; only a `KeyboardInterrupt`,
          `SystemExit` or another non-``Exception`` takes the place of an ``Exception``.
        - `trio.Cancelled` and this tomb's own `Dying` are no reasons, nor as leaves of a group, so
          ``except BaseException as exc: worker.kill(exc); raise`` is always right.
        - Before entry: the block will end at its first checkpoint. After death: nothing.

        Args:
            reason: why, or ``None`` to stop without an error.
            grace: seconds to leave the block, if less than the tomb's own; 0 cancels now. Nothing
                ever lengthens the wait.

        Raises:
            TypeError: `reason` is no exception, or `grace` no number.
        """
        if reason is not None:
            check_reason(self.name, reason)
        if grace is not None:
            check_grace(self.name, grace)
        if self._state is TombState.DEAD:
            return
        if reason is not None:
            self._admit(reason)
        if self._state is TombState.ALIVE:
            self._state = TombState.DYING
            if self._dying is not None:
                self._dying.set()
        if self._scope is not None:
            own = self._grace
            self._cancel_after(self._scope, own if grace is None or grace > own else grace)

    @enable_ki_protection
    def supersede(self, reason: BaseException) -> None:
        """Kill with `reason`; what was the reason becomes the first of the suppressed.

        For an owner who can tell which of two errors is the more important. After death: nothing.

        Raises:
            TypeError: `reason` is no exception.
        """
        given: object = reason  # for the type checkers, to which it can be nothing else
        if not isinstance(given, BaseException):
            msg = f'"{self.name}": supersede() takes an exception, not {reason!r}'
            raise TypeError(msg)
        if self._state is not TombState.DEAD:
            self._admit(reason, supersede=True)
        self.kill()

    async def wait(self) -> None:
        """Wait until dead; raise the reason, the same object to everybody. A checkpoint."""
        if self._state is TombState.DEAD:
            await trio.lowlevel.checkpoint()
        else:
            if self._dead is None:
                self._dead = trio.Event()
            await self._dead.wait()
        if self._reason is not None:
            set_context(self._reason, self._context)
            raise_unchanged(self._reason.with_traceback(self._traceback))

    async def wait_dying(self) -> None:
        """Wait until the life is no longer alive, that is dying or dead. A checkpoint."""
        if self.is_dying:
            await trio.lowlevel.checkpoint()
        else:
            if self._dying is None:
                self._dying = trio.Event()
            await self._dying.wait()

    def while_alive(self) -> AbstractContextManager[None]:
        """Guard a client's call into the worker: ``with tomb.while_alive(): ...``.

        - Not alive (dying or dead) on entry: raises `Dying`.
        - The worker's block is cancelled, or the worker dies, while the call is inside: the call is
          cancelled and `Dying` raised. A call that finished anyway returns.
        - A real error from inside wins over that, and the caller's own cancellation too.

        With it, no method of a worker ever hangs on a dead one. Spawns no task.
        """
        return _WhileAlive(self, self._guards)

    def refusal(self) -> Dying:
        """Return the `Dying` that a late caller deserves, to be raised by the caller."""
        why = "" if self._reason is None else f" because of {describe(self._reason)}"
        state = "dead" if self._state is TombState.DEAD else "dying"
        return Dying(f'"{self.name}" is {state}{why}', self)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or "unnamed"

    @property
    def state(self) -> TombState:
        """``alive``, ``dying`` or ``dead``."""
        return self._state

    @property
    def is_dying(self) -> bool:
        """Whether the life is no longer alive: true from dying on, and ever after."""
        return self._state is not TombState.ALIVE

    @property
    def is_dead(self) -> bool:
        """Whether the block was left."""
        return self._state is TombState.DEAD

    @property
    def reason(self) -> BaseException | None:
        """Why it is dying or dead; ``None`` while alive and after a clean end."""
        return self._reason

    @property
    def suppressed(self) -> tuple[BaseException, ...]:
        """What else went wrong, oldest first; at most 16, the rest is counted in the report."""
        return self._suppressed

    def report(self) -> TombReport:
        """Return the present state as plain data. Never raises."""
        return TombReport(
            name=self.name,
            state=str(self._state),
            reason=None if self._reason is None else describe(self._reason),
            suppressed=tuple(map(describe, self._suppressed)),
            uncounted=self._uncounted,
            cancelled=self._cancelled,
        )

    def __repr__(self) -> str:
        if self._reason is not None:
            why = f": {describe(self._reason)}"
        else:
            why = ", cancelled from outside" if self._cancelled else ""
        return f"<Tomb {self.name!r} {self._state}{why}>"

    def _admit(self, exc: BaseException, *, supersede: bool = False) -> None:
        """Take what is real in `exc` as the reason, or keep it beside the reason."""
        real = self.real_part(exc)
        if real is None or real is self._reason:
            return
        if self._reason is None:
            self._reason = real
            return
        known = set(map(id, leaves(self._reason)))
        for other in self._suppressed:
            known.update(map(id, leaves(other)))
        # The same error may come again in other wrapping: killed with it, then left the nursery.
        fresh = reduced(real, lambda leaf: id(leaf) in known)
        if fresh is None:
            return
        harder = isinstance(self._reason, Exception) and not isinstance(fresh, Exception)
        if supersede or harder:
            self._suppressed = (self._reason, *self._suppressed)
            self._reason = fresh
        else:
            self._suppressed = (*self._suppressed, fresh)
        if len(self._suppressed) > self.MAX_SUPPRESSED:
            self._suppressed = self._suppressed[:-1]
            self._uncounted += 1

    def real_part(self, exc: BaseException) -> BaseException | None:
        """Return what of `exc` can be a reason: nothing of ``Cancelled`` nor of our own `Dying`."""
        return reduced(exc, self._is_noise)

    def _is_noise(self, exc: BaseException) -> bool:
        return isinstance(exc, trio.Cancelled) or (isinstance(exc, Dying) and exc.owner is self)

    def _cancel_after(self, scope: trio.CancelScope, grace: float) -> None:
        if not grace > 0:  # NaN and negative too: kill() never raises, and the hard way is safe
            if not self._is_hard:
                self._is_hard = True
                why = "" if self._reason is None else f" because of {describe(self._reason)}"
                story = f"{self.name} was killed{why}"
                scope.cancel(reason=story)
                for guard in self._guards:
                    guard.cancel(reason=story)
        elif grace < math.inf:
            deadline = min(scope.deadline, trio.current_time() + grace)
            scope.deadline = deadline
            # A client's call lasts as long as the block that serves it, not longer.
            for guard in self._guards:
                guard.deadline = deadline

    def _die(self) -> None:
        reason = self._reason
        if reason is not None:
            attach(reason, self._suppressed, self._uncounted)
            self._traceback = reason.__traceback__
            self._context = reason.__context__
        self._state = TombState.DEAD
        for guard in self._guards:
            guard.cancel(reason=f"{self.name} is dead")
        for event in (self._dying, self._dead):
            if event is not None:
                event.set()


class _WhileAlive:
    """The guard of one client call: a cancel scope that the tomb knows while the call is inside."""

    __slots__ = ("_guards", "_scope", "_tomb")

    def __init__(self, tomb: Tomb, guards: set[trio.CancelScope]) -> None:
        self._tomb = tomb
        self._guards = guards

    @enable_ki_protection
    def __enter__(self) -> None:
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        self._scope = trio.CancelScope()
        self._scope.__enter__()
        self._guards.add(self._scope)

    @enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        self._guards.discard(scope)
        # Raises what is left of a group: a real error from inside wins.
        swallowed = scope.__exit__(exc_type, exc, traceback)
        # Not `swallowed` alone: that is true as well for a call that finished.
        if swallowed and scope.cancelled_caught:
            raise self._tomb.refusal() from None
        return swallowed
