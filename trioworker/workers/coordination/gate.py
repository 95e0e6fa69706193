"""A gate: opens once and stays open, so that parts can wait for each other's milestones.

In an agent file::

    [manifolds.upgrade-steps-gate]
    use = "trioworker.workers.coordination.gate:manifold"

**The latch outlives the worker.** What is open or not is a `Latch`, and it belongs to the manifold:
all workers that the manifold starts in one engine share it. So what was unlocked stays unlocked
when the gate is restarted, and who waits on the latch itself does not notice. Another manifold has
another latch, and so has the same manifold in another engine. A program that wants to hold the
latch itself makes one and gives it to `manifold`.

**Waiting.** A waiter looks at the level, never at an edge: who comes late finds the gate open. It
gives up by being cancelled. Who waits through the worker, as others in the engine do, is told by
`Dying` when that is over; it was restarted with the gate anyway.

There is no way to lock it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable
from weakref import WeakKeyDictionary

import trio

from trioworker import Manifold, Tomb, TombReport

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["Gate", "GateReport", "Latch", "Lock", "OPEN", "Unlocker", "Waiter", "manifold"]


@runtime_checkable
class Unlocker(Protocol):
    """Who says that the milestone is reached."""

    async def unlock(self) -> None:
        """Open the gate for good. Idempotent. A checkpoint.

        Raises:
            Dying: the gate's worker is dying or dead.
        """
        ...


@runtime_checkable
class Waiter(Protocol):
    """Who waits for the milestone."""

    @property
    def is_unlocked(self) -> bool:
        """Whether the gate is open."""
        ...

    async def wait_unlocked(self) -> None:
        """Wait until the gate is open. A checkpoint.

        Raises:
            Dying: the gate's worker is dying or dead, or dies while we wait.
        """
        ...


@runtime_checkable
class Lock(Unlocker, Waiter, Protocol):
    """Both."""


@final
class Latch:
    """What is open or not: a `Lock` that needs no worker and never refuses."""

    def __init__(self) -> None:
        self._opened = trio.Event()

    async def unlock(self) -> None:
        """Open it for good. Idempotent. A checkpoint."""
        await trio.lowlevel.checkpoint()
        self._opened.set()

    @property
    def is_unlocked(self) -> bool:
        """Whether it is open."""
        return self._opened.is_set()

    async def wait_unlocked(self) -> None:
        """Wait until it is open. A checkpoint."""
        await self._opened.wait()

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return self._opened.statistics().tasks_waiting

    def __repr__(self) -> str:
        return f"<Latch, {'unlocked' if self.is_unlocked else 'locked'}>"


@final
class GateReport(NamedTuple):
    """How a gate stands."""

    tomb: TombReport
    """The life of its worker."""
    is_unlocked: bool
    """Whether it is open."""
    waiting: int
    """How many wait for it, those of earlier workers included."""


@final
class Gate:
    """The worker of a gate. It does nothing but live.

    Args:
        latch: what is open or not; one of its own by default.
        name: what to call it in messages.
    """

    def __init__(self, latch: Latch | None = None, *, name: str = "gate") -> None:
        self.name = name
        self.latch: Latch = Latch() if latch is None else latch
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

    async def unlock(self) -> None:
        """See `Unlocker.unlock`."""
        with self._tomb.while_alive():
            await self.latch.unlock()

    @property
    def is_unlocked(self) -> bool:
        """See `Waiter.is_unlocked`."""
        return self.latch.is_unlocked

    async def wait_unlocked(self) -> None:
        """See `Waiter.wait_unlocked`."""
        with self._tomb.while_alive():
            await self.latch.wait_unlocked()

    def report(self) -> GateReport:
        """Return how it stands."""
        return GateReport(self._tomb.report(), self.is_unlocked, self.latch.waiting)

    def __repr__(self) -> str:
        state = "unlocked" if self.is_unlocked else "locked"
        return f"<Gate {self.name!r} {self._tomb.state}, {state}>"


@final
class _Open:
    """A waiter that has nothing to wait for."""

    is_unlocked = True

    async def wait_unlocked(self) -> None:
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return "OPEN"


OPEN: Waiter = _Open()
"""A gate that is open: for tests, and for programs that skip the milestone."""


@final
class _UnlockerFace:
    """All that an unlocker can do, and no more."""

    def __init__(self, gate: Gate) -> None:
        self.unlock = gate.unlock


class _WaiterFace:
    """All that a waiter can do, and no more."""

    def __init__(self, gate: Gate) -> None:
        self._latch = gate.latch
        self.wait_unlocked = gate.wait_unlocked

    @property
    def is_unlocked(self) -> bool:
        return self._latch.is_unlocked


@final
class _LockFace(_WaiterFace):
    """Both."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate)
        self.unlock = gate.unlock


def manifold(*, latch: Latch | None = None) -> Manifold:
    """Return the manifold of a gate. It offers `Unlocker`, `Waiter` and `Lock`.

    Args:
        latch: one that the program holds as well, for all workers in all engines. By default there
            is one for each engine that the manifold is installed in.
    """
    latches: WeakKeyDictionary[object, Latch] = WeakKeyDictionary()

    def gate(get: Getter) -> Gate:  # noqa: ARG001 - it needs nothing
        return Gate(latches.setdefault(_engine(), Latch()) if latch is None else latch)

    return Manifold.from_worker(
        gate, outputs={Unlocker: _UnlockerFace, Waiter: _WaiterFace, Lock: _LockFace}
    )


def _engine() -> object:
    """Return what stands for the engine whose run this is.

    All runs of an engine, and those of no other, are tasks of one nursery. A getter does not tell
    the engine, and should not: a worker has no business with it.
    """
    task = trio.lowlevel.current_task()
    return task.parent_nursery or task
