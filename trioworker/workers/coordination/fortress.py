"""A fortress: many guests may be inside, until the guard closes it and waits until all have left.

::

    locked ──unlock()──▶ open ──lockdown()──▶ locked

It is locked at first. In an agent file::

    [manifolds.fortress]
    use = "trioworker.workers.coordination.fortress:manifold"

**Close, then drain.** ``lockdown()`` closes at once: who comes from now on waits at the door. Then
it waits for those who were inside at that moment, and for nobody else: visits are counted by
*wave*, and each closing ends a wave. So an ``unlock()`` in between lets new guests in and makes the
lockdown neither longer nor shorter. A lockdown that is cancelled stops waiting; the door stays
closed.

**What cancels what.** A visit is the caller's own block. Cancelling it at the door gives up the
visit; cancelling it inside is felt by the body, like any cancellation, and the guest has left when
the body has. Neither the guard nor the end of the fortress ever cancels a body. A time limit for
the door alone is a scope that is left before the body begins::

    async with contextlib.AsyncExitStack() as stack:
        with trio.fail_after(5):
            await stack.enter_async_context(guest.visit())
        ...  # inside, for as long as it takes

**The end.** From ``kill()`` on, calls are refused with `Dying`, also those that wait at the door.
The fortress is dead when the last guest has left: a guest who stays makes it *stuck*, which the
engine tells, and no new fortress takes its place meanwhile. So a lockdown that had begun before is
true when it returns, and it does return.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, final, runtime_checkable

import trio
from trio.lowlevel import enable_ki_protection

from trioworker import Manifold, Tomb, TombReport, Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from trioworker import Getter

__all__ = ["Fortress", "FortressReport", "Guard", "Guest", "manifold", "occupy"]

W = TypeVar("W", bound=Worker)


@runtime_checkable
class Guard(Protocol):
    """Who opens and closes a fortress."""

    def unlock(self) -> None:
        """Open the door: all who wait at it come in. Idempotent.

        Raises:
            Dying: the fortress is dying or dead.
        """
        ...

    async def lockdown(self) -> None:
        """Close the door at once, then wait until all who were inside have left. Idempotent.

        - Cancelled: the door stays closed, whoever is still inside.
        - Nobody is inside: it succeeds, also if it was cancelled already.

        Raises:
            Dying: the fortress is dying or dead.
        """
        ...


@runtime_checkable
class Guest(Protocol):
    """Who goes into a fortress."""

    def visit(self) -> AbstractAsyncContextManager[None]:
        """Wait at the door until it is open, and be inside for the length of the block.

        What the body raises passes unchanged. Only the caller's own scopes cancel the body; to give
        up waiting at the door, cancel. Do not wait inside for the guard: it waits for you.

        Raises:
            Dying: the fortress is dying or dead, or dies while we are at the door.
        """
        ...


@final
class FortressReport(NamedTuple):
    """How a fortress stands."""

    tomb: TombReport
    """Its life."""
    is_open: bool
    """Whether who comes now goes in."""
    inside: int
    """How many are inside, those of earlier waves included."""
    at_the_door: int
    """How many wait to be let in."""


@final
class _Wave:
    """Those who went in between two lockdowns."""

    __slots__ = ("gone", "inside", "is_closed")

    def __init__(self) -> None:
        self.inside = 0
        self.is_closed = False
        self.gone = trio.Event()  # it is closed and nobody is inside any more


@final
class Fortress:
    """A fortress, as a worker; locked at first.

    Args:
        name: what to call it in messages.
    """

    def __init__(self, *, name: str = "fortress") -> None:
        self.name = name
        self._tomb = Tomb(name=name)
        self._is_open = False
        self._door = trio.lowlevel.ParkingLot()
        # Where who comes in now is counted.
        self._wave = _Wave()
        # Closed waves with somebody inside, oldest first.
        self._leaving: dict[_Wave, None] = {}

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed; then until the last guest has left."""
        with self._tomb:
            task_status.started(self)
            try:
                await trio.sleep_forever()
            finally:
                # Killed or cancelled from outside: nobody is admitted any more. The guests are not
                # ours to cancel, and to be dead means that nobody is inside.
                self.kill()
                with trio.CancelScope(shield=True):
                    for wave in self._close():
                        await wave.gone.wait()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: refuse everybody from now on."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    @enable_ki_protection
    def unlock(self) -> None:
        """See `Guard.unlock`."""
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        self._is_open = True
        self._door.unpark_all()

    async def lockdown(self) -> None:
        """See `Guard.lockdown`."""
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        waves = self._close()
        if not waves:
            # Done already: to fail now would tell the guard that somebody may be inside.
            await trio.lowlevel.cancel_shielded_checkpoint()
        for wave in waves:
            if not wave.gone.is_set():
                # Without while_alive(): while we are here, the fortress is not dead.
                await wave.gone.wait()

    def visit(self) -> AbstractAsyncContextManager[None]:
        """See `Guest.visit`."""
        return _Visit(self._enter, self._leave)

    def report(self) -> FortressReport:
        """Return how it stands."""
        inside = self._wave.inside + sum(wave.inside for wave in self._leaving)
        at_the_door = self._door.statistics().tasks_waiting
        return FortressReport(self._tomb.report(), self._is_open, inside, at_the_door)

    def __repr__(self) -> str:
        state = "open" if self._is_open else "locked"
        return f"<Fortress {self.name!r} {self._tomb.state}, {state}>"

    async def _enter(self) -> _Wave:
        await trio.lowlevel.checkpoint()
        # The guard costs more than all the rest of a visit, and is for those who wait.
        if not self._is_open or self._tomb.is_dying:
            with self._tomb.while_alive():
                while not self._is_open:
                    await self._door.park()
        # From here on without a checkpoint: who is counted is inside.
        wave = self._wave
        wave.inside += 1
        return wave

    @enable_ki_protection
    def _leave(self, wave: _Wave) -> None:
        wave.inside -= 1
        if wave.is_closed and not wave.inside:
            del self._leaving[wave]
            wave.gone.set()

    @enable_ki_protection
    def _close(self) -> tuple[_Wave, ...]:
        """Close the door; return the waves that have not left yet."""
        self._is_open = False
        if self._wave.inside:
            self._wave.is_closed = True
            self._leaving[self._wave] = None
            self._wave = _Wave()
        return tuple(self._leaving)


@final
class _Visit:
    """One visit; a class, because a generator would double what a visit costs."""

    __slots__ = ("_enter", "_leave", "_wave")

    def __init__(
        self, enter: Callable[[], Awaitable[_Wave]], leave: Callable[[_Wave], None]
    ) -> None:
        self._enter = enter
        self._leave = leave

    @enable_ki_protection
    async def __aenter__(self) -> None:
        self._wave = await self._enter()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # No checkpoint: whoever has ended its body has left.
        self._leave(self._wave)


async def occupy(
    guest: Guest,
    build: Callable[[], W],
    *,
    task_status: trio.TaskStatus[W] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the worker that ``build()`` returns, inside a visit that lasts as long as it does.

    ::

        worker = await nursery.start(occupy, guest, lambda: Uniter(config))

    - Given up at the door: ``build`` is not called.
    - ``build`` raises: that is raised, and the visit is over.
    - The worker ends: the visit is over, and its error is raised, if it has one.

    A guard's lockdown waits for the worker's end, so somebody has to stop it. `task_status` is told
    when the worker is ready, and gets the worker, whatever that tells itself.

    Raises:
        Dying: the fortress is dying or dead, or dies while we are at the door.
    """
    async with guest.visit():
        worker = build()
        await worker.run(task_status=_StartedAs(worker, task_status))


@final
class _StartedAs:
    """Passes on the worker, whatever it says itself."""

    def __init__(self, worker: W, status: trio.TaskStatus[W]) -> None:
        self._started: Callable[[], None] = lambda: status.started(worker)

    def started(self, value: object = None) -> None:  # noqa: ARG002 - the worker is the output
        self._started()


@final
class _GuardFace:
    """All that a guard can do, and no more."""

    def __init__(self, fortress: Fortress) -> None:
        self.unlock = fortress.unlock
        self.lockdown = fortress.lockdown


@final
class _GuestFace:
    """All that a guest can do, and no more."""

    def __init__(self, fortress: Fortress) -> None:
        self.visit = fortress.visit


def manifold() -> Manifold:
    """Return the manifold of a fortress: a new one, locked, at each start.

    It offers `Guard` and `Guest`.
    """
    return Manifold.from_worker(_fortress, outputs={Guard: _GuardFace, Guest: _GuestFace})


def _fortress(get: Getter) -> Fortress:  # noqa: ARG001 - it needs nothing
    return Fortress()
