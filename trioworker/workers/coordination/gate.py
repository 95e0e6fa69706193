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

**A gate that outlives the program** has a marker, an empty file::

    config = { marker = "/var/lib/shop/upgraded" }

If the file is there when the worker starts, the gate is open. ``unlock()`` makes it, and returns
when file and directory are on the disk (fsync); only then does anybody find the gate open. So what
was told as reached is reached also after kill -9 or a power cut. An ``unlock()`` that is cancelled
while it writes finishes nevertheless; one that fails leaves the gate locked, and no file. Somebody
else's file is noticed at the next start of the worker. To lock the gate again, remove the file
while nobody runs.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable
from weakref import WeakKeyDictionary

import attrs
import trio

from trioworker import Manifold, Tomb, TombReport

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = [
    "Config",
    "Gate",
    "GateReport",
    "Latch",
    "Lock",
    "OPEN",
    "Unlocker",
    "Waiter",
    "manifold",
]


@runtime_checkable
class Unlocker(Protocol):
    """Who says that the milestone is reached."""

    async def unlock(self) -> None:
        """Open the gate for good. Idempotent. A checkpoint.

        Raises:
            Dying: the gate's worker is dying or dead.
            OSError: the marker cannot be written; the gate is locked as before.
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


def _some(config: Config, attribute: Any, value: Path | None) -> None:  # noqa: ARG001 - of attrs
    if value is not None and not value.name:
        raise ValueError(f"marker must name a file, not {str(value)!r}")


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return None if value is None else Path(value)


@final
@attrs.frozen(kw_only=True)
class Config:
    """Whether the gate outlives the program.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    marker: Path | None = attrs.field(default=None, converter=_path, validator=_some)
    """The file that is there once the gate is open, in a directory that exists; without one, the
    gate is locked in each new process."""


_DEFAULT = Config()


@final
class Latch:
    """What is open or not: a `Lock` that needs no worker and never refuses.

    Args:
        marker: the file that is there once it is open, see `Config.marker`.

    Raises:
        OSError: `marker` is a directory, or is not in one.
    """

    def __init__(self, marker: str | os.PathLike[str] | None = None) -> None:
        self._opened = trio.Event()
        self._marker = Config(marker=_path(marker)).marker
        self.look()

    def look(self) -> None:
        """See whether the marker is there by now, and be open then. Sync.

        Raises:
            OSError: the marker is a directory (`IsADirectoryError`), or its directory is not there
                (`FileNotFoundError`).
        """
        marker = self._marker
        if marker is None:
            return
        if marker.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a gate's marker is a file", str(marker))
        if not marker.parent.is_dir():
            raise FileNotFoundError(
                errno.ENOENT, "a gate's marker needs this directory", str(marker.parent)
            )
        if marker.exists():
            self._opened.set()

    async def unlock(self) -> None:
        """Open it for good, on the disk first if there is a marker. Idempotent. A checkpoint.

        Raises:
            OSError: the marker cannot be written; it is locked as before.
        """
        if self._marker is None or self.is_unlocked:
            await trio.lowlevel.checkpoint()
        else:
            # Not abandoned when cancelled: nobody could tell then whether it is open.
            await trio.to_thread.run_sync(_make, self._marker)
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


def _make(marker: Path) -> None:
    """Make the file, and return when it and its name are on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        file = os.open(marker, flags | os.O_EXCL, 0o644)
        is_new = True
    except FileExistsError:  # somebody else was first, and may not have synced it yet
        file = os.open(marker, flags, 0o644)
        is_new = False
    try:
        try:
            os.fsync(file)
        finally:
            os.close(file)
        directory = os.open(marker.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError:
        if is_new:
            marker.unlink(missing_ok=True)
        raise


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
            self.latch.look()
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
        await trio.lowlevel.checkpoint()
        # The guard costs more than all the rest, and is for those who wait.
        if not self.latch.is_unlocked or self._tomb.is_dying:
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


def manifold(config: Config = _DEFAULT, *, latch: Latch | None = None) -> Manifold:
    """Return the manifold of a gate. It offers `Unlocker`, `Waiter` and `Lock`.

    Args:
        config: whether it outlives the program.
        latch: one that the program holds as well, for all workers in all engines. By default there
            is one for each engine that the manifold is installed in.

    Raises:
        ValueError: `latch` is given, and a marker too, which is the latch's to know.
    """
    if latch is not None and config.marker is not None:
        raise ValueError("give the marker to the latch: manifold(latch=Latch(marker))")
    latches: WeakKeyDictionary[object, Latch] = WeakKeyDictionary()

    def gate(get: Getter) -> Gate:  # noqa: ARG001 - it needs nothing
        if latch is not None:
            return Gate(latch)
        engine = _engine()
        if engine not in latches:
            latches[engine] = Latch(config.marker)
        return Gate(latches[engine])

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
