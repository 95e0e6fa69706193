"""Ends with an error when the machine is to go down, and sees to it that nobody begins anything.

In an agent file::

    [manifolds.reboot]
    use = "trioworker.workers.coordination.reboot:manifold"
    inputs = { reboots = "controller" }
    config = { machine = "3", lock = "/run/shop/machine.lock" }

It needs somebody who knows whether: a manifold that offers `Reboots`. At each event it asks for the
action. If there is one it takes the machine's lock, which may mean to wait for who has it, and ends
with `MachineDown`. It does not touch the machine: an engine for which that error `is_fatal` stops
everything and raises it, and then `executing`, around the engine's run, does what is to be done.

**The lock** is an exclusive `flock(2)` of a file, whose text tells who has it and why. It is never
given back while the process lives: from the error until the machine goes down, nobody who takes
that lock before he works can begin. It goes with the process, so none is left from before a reboot,
and the one of somebody else is waited for, whatever its text says. The file belongs on a local file
system, and nobody may remove it.
"""

from __future__ import annotations

import enum
import json
import os
import shutil
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Manifold, Reporter, Tomb, TombReport, Watcher, notify_worker
from trioworker.patterns import named

try:
    import fcntl
except ModuleNotFoundError as _missing:  # pragma: no cover - Windows
    _MSG = "the lock of a machine needs flock(), which this system has not"
    raise ModuleNotFoundError(_MSG, name=_missing.name) from _missing

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = [
    "Action",
    "Config",
    "MachineDown",
    "MachineLock",
    "Reboot",
    "RebootReport",
    "Reboots",
    "execute",
    "executing",
    "is_fatal",
    "manifold",
    "worst_error",
]

_PAUSE = 0.1


@final
class Action(enum.StrEnum):
    """What is to be done with the machine."""

    NOTHING = "nothing"
    REBOOT = "reboot"
    SHUTDOWN = "shutdown"


_COMMANDS = {
    Action.NOTHING: (),
    Action.REBOOT: (("systemctl", "reboot"), ("reboot",)),
    Action.SHUTDOWN: (("systemctl", "poweroff"), ("poweroff",)),
}


@runtime_checkable
class Reboots(Protocol):
    """Who knows what is to be done with machines."""

    async def reboot_action(self, machine: str) -> Action:
        """Return what is to be done with `machine` now."""
        ...

    async def watch_reboot_action(self, machine: str) -> Watcher[object]:
        """Return a watcher of that, that nobody runs yet."""
        ...


class MachineDown(Exception):
    """The machine is to go down. For an engine's ``is_fatal``; `action` says how."""

    def __init__(self, action: Action) -> None:
        super().__init__(f"the machine is to go down: {action}")
        self.action = action


def _file(config: Config, attribute: Any, value: Path) -> None:  # noqa: ARG001 - of attrs
    if not value.name:
        raise ValueError(f"lock must name a file, not {str(value)!r}")


def _path(value: str | os.PathLike[str]) -> Path:
    return Path(value)


@final
@attrs.frozen(kw_only=True)
class Config:
    """Which machine.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    machine: str = attrs.field(validator=named)
    """What `Reboots` is asked about."""
    lock: Path = attrs.field(converter=_path, validator=_file)
    """The file of the machine's lock, in a directory that exists."""


@final
class MachineLock:
    """The machine's lock, which is taken and not given back.

    Args:
        path: its file; made where it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._file: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether we have it."""
        return self._file is not None

    async def take(self, why: str) -> None:
        """Wait until nobody has it, and take it; at once if it is ours already. A checkpoint.

        Cancelled, it is not ours. `why` is written into the file, for people.

        Raises:
            OSError: the file cannot be opened or written.
        """
        await trio.lowlevel.checkpoint()
        if self._file is not None:
            return
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while not _locked(file):  # noqa: ASYNC110 - nobody tells of a lock that is free
                await trio.sleep(_PAUSE)
            _tell(file, why)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def __repr__(self) -> str:
        return f"<MachineLock {str(self._path)!r}, {'held' if self.is_held else 'not held'}>"


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tell(file: int, why: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps({"message": why, "pid": os.getpid()}).encode(), 0)


@final
class RebootReport(NamedTuple):
    """How the worker stands."""

    tomb: TombReport
    """Its life."""
    action: Action
    """What it was told last."""
    is_locked: bool
    """Whether it has the machine's lock."""


@final
class Reboot:
    """Waits until the machine is to go down, takes the lock, and ends with `MachineDown`.

    Ends also with what asking, watching and locking raise.

    Args:
        reboots: who knows.
        machine: which one.
        lock: the machine's.
        name: what to call it in messages.
    """

    def __init__(
        self, reboots: Reboots, machine: str, lock: MachineLock, *, name: str = "reboot"
    ) -> None:
        self.name = name
        self._lock = lock
        self._orders = _Orders(name, reboots, machine, lock)
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until killed or told; ready when it watches."""
        with self._tomb:
            await notify_worker(self._orders).run(task_status=task_status)

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def report(self) -> RebootReport:
        """Return how it stands."""
        return RebootReport(self._tomb.report(), self._orders.action, self._lock.is_held)

    def __repr__(self) -> str:
        return f"<Reboot {self.name!r} {self._tomb.state}, {self._orders.action}>"


@final
class _Orders:
    """What it does about each change, as the handler of a `notify_worker`."""

    def __init__(self, name: str, reboots: Reboots, machine: str, lock: MachineLock) -> None:
        self.name = name
        self.action = Action.NOTHING
        self._reboots = reboots
        self._machine = machine
        self._lock = lock

    async def set_up(self) -> Watcher[object]:
        return await self._reboots.watch_reboot_action(self._machine)

    async def handle(self) -> None:
        self.action = Action(await self._reboots.reboot_action(self._machine))
        if self.action is not Action.NOTHING:
            await self._lock.take(f"preparing for {self.action}")
            raise MachineDown(self.action)

    async def tear_down(self) -> None:
        """Nothing: the watcher is stopped by who runs it."""


@final
class _ReporterFace:
    """All that others may do with it."""

    def __init__(self, worker: Reboot) -> None:
        self.report = worker.report


def manifold(config: Config) -> Manifold:
    """Return the manifold of the worker; its one input is ``reboots``. It offers `Reporter` alone.

    Args:
        config: which machine.
    """
    lock = MachineLock(config.lock)

    def reboot(get: Getter) -> Reboot:
        return Reboot(get("reboots", Reboots), config.machine, lock)

    return Manifold.from_worker(reboot, inputs=("reboots",), outputs={Reporter: _ReporterFace})


def is_fatal(error: BaseException) -> bool:
    """Say whether `error` is a `MachineDown`. For an engine's config."""
    return isinstance(error, MachineDown)


def worst_error(a: BaseException, b: BaseException) -> BaseException:
    """Return the `MachineDown` of `a` and `b`, or else the earlier, `a`. For an engine's config."""
    return b if is_fatal(b) and not is_fatal(a) else a


async def execute(action: Action) -> None:
    """Do the `action`, with ``systemctl``; where that is missing with ``reboot`` or ``poweroff``.

    Raises:
        FileNotFoundError: there is no such command.
        subprocess.CalledProcessError: it failed.
    """
    commands = _COMMANDS[action]
    for command in commands:
        if shutil.which(command[0]) is not None:
            await trio.run_process(command, stdin=subprocess.DEVNULL)
            return
    if commands:
        names = " and no ".join(command[0] for command in commands)
        raise FileNotFoundError(f"{action}: there is no {names}")


@asynccontextmanager
async def executing(
    execute: Callable[[Action], Awaitable[object]] = execute,
) -> AsyncGenerator[None, None]:
    """Catch a `MachineDown` from the block, and then do what it says. For around an engine's run.

    ::

        async with reboot.executing():
            await engine.run()

    Args:
        execute: does it.
    """
    try:
        yield
        return
    except MachineDown as error:
        action = error.action
    await execute(action)
