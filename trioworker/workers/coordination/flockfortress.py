"""A fortress for several processes of one machine, made of file locks.

In the agent file of each of them::

    [manifolds.fortress]
    use = "trioworker.workers.coordination.flockfortress:manifold"
    config = { path = "/run/shop/charm.lock" }

It offers the same `Guard` and `Guest` as a fortress of one process, with these differences:

- It is **open** unless somebody has it locked down, because what counts is who lives: a guard that
  is killed, with -9 too, or that ends, has unlocked; a guest that is killed has left. Who must not
  be seen half-way by the next guest, a guard that may die in the middle, makes what he does atomic.
- Guards of several processes exclude each other: a second ``lockdown()`` waits for the first one's
  ``unlock()``, which only the process that locked down can do.
- A lockdown that ``unlock()`` overtakes is `Overtaken`: it cannot know when those who were inside
  have left, others being let in meanwhile.
- A lockdown that waits when the worker is killed gets `Dying`: the guests of other processes are
  not ours to wait for.

**Two locks, so that guests cannot keep a guard out for ever.** The kernel does not queue: a guard
that only asked for the room would lose as long as guests overlap. So there is a *door* before the
*room*, two files. A guest takes the door shared, then the room shared, then gives the door back,
all in one step. A guard takes the door for itself, which keeps everybody out from then on; then it
waits for the room. A guard that gives up waiting for the room keeps the door: the fortress stays
locked.

**Nobody blocks, no thread waits.** Locks are tried, and tried again after a pause that grows to
`LONGEST_PAUSE`, so every wait can be cancelled. Of all who wait in one process only one tries.

A process holds the room once for all its guests. The files are made when they are missing, closed
to other users, and never removed: a new file would be another lock. They belong on a local file
system. A process that is forked without exec shares its parent's locks.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trioworker import LifetimeError, Manifold, Tomb, TombReport, TrioworkerError

from .fortress import Guard, Guest

try:
    import fcntl
except ModuleNotFoundError as _missing:  # pragma: no cover - Windows
    _MSG = "a fortress for several processes needs flock(), which this system has not"
    raise ModuleNotFoundError(_MSG, name=_missing.name) from _missing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trioworker import Getter

__all__ = ["Config", "FlockFortress", "FlockFortressReport", "Overtaken", "manifold"]

SHORTEST_PAUSE = 0.001
LONGEST_PAUSE = 0.1
"""Seconds between two tries: somebody who waits comes in so late at most."""


def _some(config: Config, attribute: Any, value: Path) -> None:  # noqa: ARG001 - of attrs
    if not value.name:
        raise ValueError(f"path must name a file, not {str(value)!r}")


@final
@attrs.frozen(kw_only=True)
class Config:
    """Where the locks are.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    path: Path = attrs.field(converter=Path, validator=_some)
    """The room's file, in a directory that exists; the door's is beside it, with ``.door`` after
    its name. Each process names the same."""


class Overtaken(TrioworkerError):
    """A lockdown was given up because somebody unlocked meanwhile."""


@final
class FlockFortressReport(NamedTuple):
    """How this process stands to a fortress of several."""

    tomb: TombReport
    """The life of its worker."""
    inside: int
    """How many guests of this process are inside."""
    at_the_door: int
    """How many of this process wait to be let in."""
    guard: str
    """``away``; ``closing``, from when the door is ours; or ``alone``: nobody is inside."""


@final
class _Lock:
    """One open lock file. Another one of the same file, here or elsewhere, is another party."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.is_held = False

    def take(self, how: int) -> bool:
        """Take it, shared or exclusively, if it can be had now."""
        try:
            fcntl.flock(self._fd, how | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in {errno.EWOULDBLOCK, errno.EAGAIN}:
                raise
            return False
        self.is_held = True
        return True

    def give_back(self) -> None:
        """Give it back, if we have it."""
        if self.is_held:
            self.is_held = False
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give it back and close the file."""
        self.is_held = False
        os.close(self._fd)


@final
class _Locks:
    """The files of one life: guests and guards are different parties, also in one process."""

    def __init__(self, path: Path) -> None:
        door = path.with_name(f"{path.name}.door")
        self._all: list[_Lock] = []
        try:
            self.guests_door = self._opened(door)
            self.guests_room = self._opened(path)
            self.guards_door = self._opened(door)
            self.guards_room = self._opened(path)
        except OSError:
            self.close()
            raise

    def _opened(self, path: Path) -> _Lock:
        self._all.append(_Lock(path))
        return self._all[-1]

    def close(self) -> None:
        for lock in self._all:
            lock.close()


@final
class FlockFortress:
    """This process's part in a fortress of several.

    Args:
        path: the room's file, see `Config.path`.
        name: what to call it in messages.
    """

    def __init__(self, path: str | os.PathLike[str], *, name: str = "flock-fortress") -> None:
        self.name = name
        self._path = Config(path=Path(path)).path
        self._tomb = Tomb(name=name)
        self._locks: _Locks | None = None
        # Who waits: the first of each queue tries, the others wait for that one.
        self._guests = trio.Lock()
        self._guards = trio.Lock()
        self._inside = 0
        self._left = trio.Event()
        # Goes up with each unlock(): a lockdown that began before has been overtaken.
        self._unlocks = 0

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed; then until the last guest of this process has left.

        Raises:
            OSError: a lock file cannot be opened.
        """
        with self._tomb:
            locks = self._locks = _Locks(self._path)
            try:
                task_status.started(self)
                await trio.sleep_forever()
            finally:
                self.kill()  # cancelled from outside: nobody is admitted any more
                locks.guards_room.give_back()
                locks.guards_door.give_back()
                with trio.CancelScope(shield=True):
                    while self._inside:
                        await self._left.wait()
                self._locks = None
                locks.close()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: refuse everybody from now on."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    @enable_ki_protection
    def unlock(self) -> None:
        """End this process's lockdown; nothing, if there is none. See `Guard.unlock`.

        Raises:
            LifetimeError: it does not run yet.
        """
        locks = self._ready()
        self._unlocks += 1
        locks.guards_room.give_back()
        locks.guards_door.give_back()

    async def lockdown(self) -> None:
        """Close the door, then wait until nobody is inside. See `Guard.lockdown`.

        Nobody comes in from when the door is ours, which another process's guard may delay.

        Raises:
            Overtaken: this process called ``unlock()`` meanwhile.
            LifetimeError: it does not run yet.
        """
        locks = self._ready()
        unlocks = self._unlocks
        if self._close(locks) and self._take_room(locks):
            # Done already: to fail now would tell the guard that somebody may be inside.
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with self._tomb.while_alive():
            async with self._guards:
                for take in (self._close, self._take_room):
                    for pause in self._pauses():
                        if self._unlocks != unlocks:
                            raise Overtaken(f'"{self.name}": unlock() came before lockdown() ended')
                        if take(locks):
                            break
                        await trio.sleep(pause)

    def visit(self) -> AbstractAsyncContextManager[None]:
        """See `Guest.visit`.

        Raises:
            LifetimeError: it does not run yet.
        """
        return self._visit()

    def report(self) -> FlockFortressReport:
        """Return how it stands."""
        locks = self._locks
        if locks is None or not locks.guards_door.is_held:
            guard = "away"
        else:
            guard = "alone" if locks.guards_room.is_held else "closing"
        waiting = self._guests.statistics()
        at_the_door = waiting.tasks_waiting + waiting.locked
        return FlockFortressReport(self._tomb.report(), self._inside, at_the_door, guard)

    def __repr__(self) -> str:
        return f"<FlockFortress {self.name!r} {self._tomb.state}, {str(self._path)!r}>"

    def _ready(self) -> _Locks:
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        if self._locks is None:
            raise LifetimeError(f'"{self.name}" does not run yet; wait for started()')
        return self._locks

    def _pauses(self) -> Iterator[float]:
        """Yield how long to wait after each try, for ever; refuse to try for the dying."""
        pause = SHORTEST_PAUSE
        while True:
            # A kill does not cancel the step in which one gets the lock of the queue.
            if self._tomb.is_dying:
                raise self._tomb.refusal()
            yield pause
            pause = min(2 * pause, LONGEST_PAUSE)

    @enable_ki_protection
    def _close(self, locks: _Locks) -> bool:
        return locks.guards_door.is_held or locks.guards_door.take(fcntl.LOCK_EX)

    @enable_ki_protection
    def _take_room(self, locks: _Locks) -> bool:
        return locks.guards_room.is_held or locks.guards_room.take(fcntl.LOCK_EX)

    @asynccontextmanager
    async def _visit(self) -> AsyncGenerator[None, None]:
        locks = self._ready()
        with self._tomb.while_alive():
            async with self._guests:
                for pause in self._pauses():
                    if self._enter(locks):
                        break
                    await trio.sleep(pause)
        # No checkpoint since _enter(): who is counted is inside.
        try:
            yield
        finally:
            self._leave(locks)

    @enable_ki_protection
    def _enter(self, locks: _Locks) -> bool:
        if not locks.guests_door.take(fcntl.LOCK_SH):
            return False
        try:
            # The room cannot be refused: who has it alone has the door too, unless that was killed
            # between the two; then we come back.
            if not self._inside and not locks.guests_room.take(fcntl.LOCK_SH):
                return False
            self._inside += 1
        finally:
            locks.guests_door.give_back()
        return True

    @enable_ki_protection
    def _leave(self, locks: _Locks) -> None:
        self._inside -= 1
        if not self._inside:
            locks.guests_room.give_back()
            self._left.set()
            self._left = trio.Event()


@final
class _GuardFace:
    """All that a guard can do, and no more."""

    def __init__(self, fortress: FlockFortress) -> None:
        self.unlock = fortress.unlock
        self.lockdown = fortress.lockdown


@final
class _GuestFace:
    """All that a guest can do, and no more."""

    def __init__(self, fortress: FlockFortress) -> None:
        self.visit: Callable[[], AbstractAsyncContextManager[None]] = fortress.visit


def manifold(config: Config) -> Manifold:
    """Return the manifold of this process's part. It offers `Guard` and `Guest`.

    Args:
        config: where the locks are.
    """

    def fortress(get: Getter) -> FlockFortress:  # noqa: ARG001 - it needs nothing
        return FlockFortress(config.path)

    return Manifold.from_worker(fortress, outputs={Guard: _GuardFace, Guest: _GuestFace})
