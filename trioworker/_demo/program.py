"""The demo's course: drop and chaos, settle, stop, verdict. Each phase is bounded in time.

The faults come while the files do. Then `chaos` is uninstalled, which takes back what it has set,
and from there on nothing is left to chance: the engine has to bring everything back and the inbox
has to become empty, so the result rests on what the engine promises and not on luck. The machine
decides about nothing but the number of starts.

Nothing is assumed in the end. The files are counted (`verdict.py`), and every error that ended a
run is held against what was injected (`Ledger`).

What the demo itself needs may fail as well: the disk is full, its directory is taken away, nobody
reads its output. That is told like everything else that is not as it should be, in a line that
names the file and the cause; what can still be done, stopping and counting, is done.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio

from trioworker import Bounce, Dying, Engine, Manifold, Missing, RetryAfter, StartTimeout, Uninstall
from trioworker.agent import Mask, load
from trioworker.backends.sqlite import open_database
from trioworker.dependency import State
from trioworker.workers.agent.introspection import SocketInUse

from .chaos import VICTIMS
from .faults import InjectedFault
from .files import Dropper, ForeignManifest, Manifest
from .folder import Folder, names_in
from .graphs import GRAPHS, GraphFailed, Trial, graph_of
from .verdict import CannotJudge, judge

if TYPE_CHECKING:
    from trioworker.dependency import EngineReport

AGENT_FILE = Path(__file__).with_name("agent.toml")
SETTLE_LIMIT = 15.0
"""Seconds until the inbox must be empty and all be started."""
STOP_LIMIT = 15.0
"""Seconds until the engine must be dead; more than any ``stop_timeout``."""
LOOK = "trioworker status --watch, trioworker explain ingest"
"""What to say in another terminal meanwhile."""


class CannotRun(Exception):
    """The demo cannot run here; the message is one line that names what is missing or wrong."""


class Show(Protocol):
    """What shows the engine while it runs."""

    caption: str

    def print(self, text: str) -> None:
        """Show a line."""
        ...


Display = Callable[[Engine], AbstractAsyncContextManager[Show]]
"""Makes what shows an engine for the length of an ``async with`` block."""


@final
@attrs.frozen(kw_only=True)
class Settings:
    """What can be chosen.

    Raises:
        CannotRun: a value is not usable.
    """

    files: int = 200
    """How many files arrive; every fortieth is malformed."""
    seconds: float = 8.0
    """How long they do, and how long chaos reigns."""
    seed: int = attrs.field(factory=lambda: random.randrange(10**6))
    """Decides about files and faults."""
    directory: Path | None = None
    """Where to keep the data, and to continue from; a temporary directory if ``None``."""

    @classmethod
    def chosen(
        cls, *, files: int, seconds: float, seed: int | None, directory: Path | None
    ) -> Settings:
        """Return the settings of a command line, where no seed means any."""
        if seed is None:
            return cls(files=files, seconds=seconds, directory=directory)
        return cls(files=files, seconds=seconds, seed=seed, directory=directory)

    def __attrs_post_init__(self) -> None:
        if self.files < 0:
            raise CannotRun(f"--files must be at least 0, not {self.files}")
        if not 0 <= self.seconds <= 86400:  # noqa: PLR2004 - a day
            raise CannotRun(f"--seconds must be from 0 to 86400, not {self.seconds:g}")


def run(settings: Settings, display: Display) -> int:
    """Run the graphs, then the program; print what is seen.

    Returns:
        The exit status: 0 if all was as it should be, else 1; 130 and 143 after SIGINT and SIGTERM.

    Raises:
        CannotRun: before anything has begun.
    """
    with open_folder(settings.directory) as folder:
        return trio.run(_until_signalled, settings, folder, display)


async def _until_signalled(settings: Settings, folder: Folder, display: Display) -> int:
    status = 0
    await _check(folder)

    async def listen(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal status
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as numbers:
            task_status.started()
            async for number in numbers:
                if status:  # for the second time: somebody means it
                    os._exit(status)
                status = 128 + number
                nursery.cancel_scope.cancel(reason=signal.Signals(number).name)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(listen)
            status = await _run(settings, folder, display)
            nursery.cancel_scope.cancel()
    except* OSError as group:
        [broken, *_] = leaves(group)
    else:
        return status
    if isinstance(broken, BrokenPipeError):
        raise broken  # the command line knows how to end quietly
    print(f"trioworker demo: {told(broken)}", file=sys.stderr)
    return 1


async def _check(folder: Folder) -> None:
    """Look at what an earlier run has left, before anything begins.

    Raises:
        CannotRun: it cannot be continued from.
    """
    manifest = Manifest(folder)
    try:
        manifest.read()
    except (OSError, ForeignManifest) as exc:
        raise CannotRun(f"{manifest.path}: {getattr(exc, 'strerror', None) or exc}") from exc
    try:
        async with open_database(folder.database) as database:
            [(found,)] = await database.query("PRAGMA quick_check(1)")
            damage = "" if found == "ok" else " ".join(found.split())
    except Exception as exc:
        if "malformed" not in str(exc):  # what SQLite calls it
            raise CannotRun(f"{folder.database}: {exc}") from exc
        damage = str(exc)
    if damage:
        raise CannotRun(
            f"{folder.database}: is damaged: {damage}. "
            "Remove it, and move what is in done/ back to inbox/: then all is stored again."
        )


async def _run(settings: Settings, folder: Folder, display: Display) -> int:
    print(f"seed {settings.seed}", flush=True)
    try:
        for number, name in enumerate(GRAPHS, 1):
            told = await Trial(name, graph_of(name), settings.seed).run()
            print(f"real agent graph {number} of {len(GRAPHS)}: {told}", flush=True)
    except GraphFailed as exc:
        print(f"FAILED: {exc}")
        return 1
    with Logs(folder) as logs:
        problems = await Program(settings, folder, logs).run(display)
    for problem in problems:
        print(f"FAILED: {problem}")
    if problems and settings.directory is None:
        print(f"to look closer: trioworker demo --seed {settings.seed} --dir DIRECTORY")
    elif problems:
        print(f"to go on, once what is named is mended: trioworker demo --dir {settings.directory}")
    return 1 if problems else 0


def name_of(folder: Folder) -> str:
    """Return what a demo is called: two have the same name only if they have the same directory.

    Of which one demo at a time makes use, so none finds that another listens on its socket.
    """
    return f"demo-{sha256(bytes(folder.root.resolve())).hexdigest()[:8]}"


@contextmanager
def open_folder(directory: Path | None) -> Generator[Folder]:
    """Make the demo's directory, and keep others out of it; remove it if it is a temporary one.

    Raises:
        CannotRun: it cannot be used, or another demo uses it.
    """
    try:
        root = Path(tempfile.mkdtemp(prefix="trioworker-")) if directory is None else directory
        folder = Folder(root.absolute())
        folder.create()
        lock = (folder.root / "lock").open("wb")
    except OSError as exc:
        raise CannotRun(f"{directory or tempfile.gettempdir()}: {exc.strerror or exc}") from exc
    try:
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CannotRun(f"{directory}: another demo is using it") from None
            yield folder
    finally:
        if directory is None:
            shutil.rmtree(root, ignore_errors=True)


@final
class Program:
    """The demo's own program, run once."""

    def __init__(self, settings: Settings, folder: Folder, logs: Logs) -> None:
        self._settings = settings
        self._folder = folder
        self._logs = logs
        self._ledger = Ledger()
        self._problems: list[str] = []
        environ = {
            "TRIOWORKER_DEMO_DIR": str(folder.root),
            "TRIOWORKER_DEMO_SEED": str(settings.seed),
        }
        agent = load(AGENT_FILE, environ={**os.environ, **environ})
        watched = {name: self._ledger.watch(name, one) for name, one in agent.manifolds.items()}
        self._engine = attrs.evolve(
            agent,
            config=attrs.evolve(agent.config, name=name_of(folder)),
            manifolds=watched,
            mask=Mask(),  # neither the directory nor the seed is a secret
        ).engine()

    async def run(self, display: Display) -> list[str]:
        """Run it; print the verdict; return what was not as it should have been."""
        dropper = Dropper(self._folder, self._settings.seed)
        if mended := dropper.mend():
            print(f"{mended} files of a run that was cut short arrive once more", flush=True)
        seconds = 0.0
        async with display(self._engine) as show, trio.open_nursery() as nursery:
            nursery.start_soon(self._supervise, nursery.cancel_scope)
            show.print(f"this is {self._engine.name}; to look inside: {LOOK}")
            try:
                chaos = await self._drop(dropper, show)
                await self._settle(show, chaos)
            except OSError as exc:
                self._problems.append(told(exc))
            seconds = await self._stop(show)
        report = self._engine.report()
        started = [one.starts for one in report.manifolds.values() if one.name != "chaos"]
        starts = sum(started) + 1  # and chaos
        restarts = starts - len(started) - 1
        how = f"clean stop in {seconds:.1f} s" if not self._problems else "no clean stop"
        self._problems += self._unaccounted(report)
        verdict = await self._judged()
        print(self._ledger)
        if self._ledger.unseen:
            print(f"nobody could look inside: {self._ledger.unseen}")
        print(f"{verdict}; {starts} starts, {restarts} restarts; {how}", flush=True)
        return self._problems

    async def _judged(self) -> str:
        try:
            verdict = await judge(self._folder)
        except (CannotJudge, OSError) as exc:
            self._problems.append(told(exc))
            return "nothing could be counted"
        self._problems += verdict.problems
        return str(verdict)

    async def _supervise(self, phases: trio.CancelScope) -> None:
        try:
            await self._engine.run()
        except Exception as exc:  # noqa: BLE001 - it should not fail, whatever the faults are
            traceback.print_exception(exc)
            self._problems.append(f"the engine failed: {type(exc).__name__}: {exc}")
            phases.cancel(reason="the engine failed")

    async def _drop(self, dropper: Dropper, show: Show) -> object:
        """Let files arrive while chaos reigns; return what chaos says of itself."""
        self._begin(show, f"drop and chaos, {self._settings.seconds:g} s")
        end = trio.current_time() + self._settings.seconds
        await dropper.drop(self._settings.files, self._settings.seconds)
        await trio.sleep_until(end)
        return self._engine.report().manifolds["chaos"].worker

    async def _settle(self, show: Show, chaos: object) -> None:
        self._begin(show, f"settle, at most {SETTLE_LIMIT:g} s; {_told(chaos)}")
        self._engine.uninstall("chaos")
        with trio.move_on_after(SETTLE_LIMIT) as limit:
            while list(self._unsettled()):
                await self._engine.wait_settled()
                await trio.sleep(0.02)
        if limit.cancelled_caught:
            self._problems += [f"not settled: {what}" for what in self._unsettled()]

    async def _stop(self, show: Show) -> float:
        """Stop the engine; return the seconds that it took."""
        self._begin(show, f"stop, at most {STOP_LIMIT:g} s")
        began = trio.current_time()
        self._engine.kill()
        with trio.move_on_after(STOP_LIMIT) as limit:
            await self._engine.wait()
        if limit.cancelled_caught:
            for name, one in self._engine.report().manifolds.items():
                if one.state != State.STOPPED:
                    print(f"FAILED: {name} is {one.state} {STOP_LIMIT:g} s after the stop")
            sys.stdout.flush()
            os._exit(1)  # nothing else would end: there is a task that cannot be cancelled
        return trio.current_time() - began

    @staticmethod
    def _begin(show: Show, phase: str) -> None:
        show.caption = phase
        show.print(f"-- {phase}")

    def _unsettled(self) -> Iterator[str]:
        manifolds = self._engine.report().manifolds
        for directory in (self._folder.inbox, self._folder.work):
            for name in names_in(directory):
                if not name.startswith("."):
                    yield f"{name} is still in {directory.name}/"
        if "chaos" in manifolds:
            yield "chaos is still there"
        for name in VICTIMS:
            if manifolds[name].state != State.STARTED:
                yield str(self._engine.explain(name))

    def _unaccounted(self, report: EngineReport) -> Iterator[str]:
        """Yield what went wrong beside the files."""
        yield from self._logs.problems
        # Some errors come again with every attempt, until somebody does something about them.
        for what, count in Counter(self._ledger.unaccounted).items():
            yield what if count == 1 else f"{what} ({count} times)"
        for name, one in report.manifolds.items():
            if one.stuck is not None:
                yield f"{name} is stuck at {' / '.join(one.stuck)}"
            if one.starts != one.ends:
                yield f"{name} was started {one.starts} times, and ended {one.ends} times"


@final
class Ledger:
    """Every error that ended a run, held against what was injected.

    Attributes:
        unaccounted: errors that nobody injected, each with its manifold.
        unseen: why it could not be looked at from outside. That is no fault of the demo's work.
    """

    def __init__(self) -> None:
        self._injected = 0
        self._slow: list[str] = []
        self.unaccounted: list[str] = []
        self.unseen = ""

    def watch(self, name: str, manifold: Manifold) -> Manifold:
        """Return `manifold` with its ends entered here."""
        before = manifold.filter

        def seen(exc: Exception) -> BaseException | None:
            judged = exc if before is None else before(exc)
            if name == "introspection" and isinstance(judged, (OSError, SocketInUse)):
                self.unseen = told(judged)
                return Uninstall()  # it would be no better the next time
            if judged is not None:
                self._enter(name, judged)
            return judged

        return attrs.evolve(manifold, filter=seen)

    def _enter(self, name: str, exc: BaseException) -> None:
        found = list(leaves(exc))
        self._injected += any(isinstance(leaf, InjectedFault) for leaf in found)
        for leaf in found:
            if isinstance(leaf, StartTimeout):
                # Nobody made it hang: the machine was busy. It was tried again, and that is all.
                self._slow.append(name)
            elif not isinstance(leaf, _ACCOUNTED):
                notes = "".join(f"; {note}" for note in getattr(leaf, "__notes__", ()))
                self.unaccounted.append(f"{name}: {type(leaf).__name__}: {leaf}{notes}")

    def __str__(self) -> str:
        slow = f", {len(self._slow)} by a slow machine" if self._slow else ""
        others = f", {len(self.unaccounted)} UNACCOUNTED FOR" if self.unaccounted else ""
        return f"runs ended: {self._injected} by injected faults{slow}{others}"


# Refusals of somebody who is dying, and verdicts, are no errors.
_ACCOUNTED = (InjectedFault, Dying, Bounce, Missing, RetryAfter, Uninstall)


@final
class Logs(logging.Handler):
    """What the engine logs: with all tracebacks into a file, and what must not be, kept.

    Attributes:
        problems: errors that are not the end of a run, of which the ledger knows.
    """

    def __init__(self, folder: Folder) -> None:
        super().__init__(logging.INFO)
        self._file = _File(folder.root / "demo.log")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._logger = logging.getLogger("trioworker")
        self._before = (self._logger.level, self._logger.propagate)
        self.problems: list[str] = []

    def __enter__(self) -> Logs:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.level, self._logger.propagate = self._before
        self._file.close()

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        problem = self._file.keep(record)
        if problem is not None and problem not in self.problems:
            self.problems.append(problem)
        if record.levelno >= logging.ERROR and not str(record.msg).startswith('"%s" manifold %s'):
            self.problems.append(" ".join(record.getMessage().split()))


@final
class _File(logging.FileHandler):
    """The log: when it cannot be written, that is told once, and is no reason to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._error: OSError | None = None

    def keep(self, record: logging.LogRecord) -> str | None:
        """Write a record; return the problem with it, if any."""
        try:
            self.handle(record)
        except OSError as exc:  # it could not be opened
            self._error = exc
        error, self._error = self._error, None
        return None if error is None else f"{self.baseFilename}: {error.strerror}"

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Note what has gone wrong while writing."""
        error = sys.exception()
        if isinstance(error, OSError):
            self._error = error
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close it, as well as that goes."""
        with suppress(OSError):
            super().close()


def told(exc: BaseException) -> str:
    """Say which file it was about, and what was wrong."""
    if isinstance(exc, OSError) and exc.strerror is not None:
        return f"{exc.filename or 'standard output'}: {exc.strerror}"
    return str(exc)


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group, or the one that it is."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    else:
        yield exc


def _told(chaos: object) -> str:
    """Say what the report of `chaos` does."""
    if not isinstance(chaos, dict):
        return "chaos is not there"
    *kinds, (_, carried_out) = chaos.items()
    faults = ", ".join(f"{kind} {count}" for kind, count in kinds)
    return f"faults set: {faults}; faults carried out: {carried_out}"
