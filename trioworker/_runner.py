"""A runner: workers under names, each started again after an error, by policy.

Every name has a task of its own in the runner's catacomb, and that task is all there is to it: it
calls ``start``, runs the worker that comes back, asks the runner what to do about an error, sleeps
for the delay, and goes round again. A name is in one of six states, which only its own methods
move, along `_NEXT`::

    waiting ──▶ starting ──▶ running ──▶ delayed ──▶ starting ...
       └────────────┴───────────┴───────────┴──────▶ stopping ──▶ gone
                    └───────────┴─────────────────────────────────▲

*Starting* lasts from the call of ``start`` until the worker calls ``started()``; *waiting* until
the runner itself is run.

**Stopping one name.** One cancel scope lies around all that its task does. If there is a worker it
is asked (``kill()``), and the scope's deadline cancels it `stop_timeout` seconds later; anything
else (a ``start`` that takes its time, a delay) is cancelled at once. A stopped name never goes
round again: every turn of the loop looks at the state, so it does not matter which of "the delay is
over" and "stop" came first. A worker that comes out of ``start`` after all is killed and still run,
so that whoever waits for it gets an answer.

**Stopping the runner** is the catacomb's business: it asks every name, and cancels them when its
grace, also `stop_timeout`, is over. The runner's body sees to it that nothing is forgotten: it
waits for all of them, shielded, and names in the log those that do not go.

**Errors** are judged in one place, `Runner._judge`. Fatal ones are collected, most important first,
and handed to the catacomb when the last name is gone: a tomb keeps its first reason, and which one
is the most important is only known at the end.
"""

from __future__ import annotations

import enum
import inspect
import logging
import random as _random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeGuard, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._catacomb import Catacomb
from ._errors import AlreadyExists, Dying, InternalError, NotFound
from ._groups import describe, leaves, only, raise_unchanged, reduced
from ._report import RunnerReport, RunnerWorkerReport, report_of
from ._restart import RestartPolicy, Restarts
from ._simple import simple_worker
from ._util import check_reason, check_seconds, name_of
from ._worker import Worker

if TYPE_CHECKING:
    from types import TracebackType

Start = Callable[[], Worker | Awaitable[Worker]]

_PATIENCE = 10.0
"""Seconds that a cancelled worker has for its clean-up before we call it stuck."""

_log = logging.getLogger("trioworker.runner")


def every(error: Exception) -> bool:  # noqa: ARG001 - the type of a predicate
    """Say yes to every error."""
    return True


def first(a: Exception, b: Exception) -> Exception:  # noqa: ARG001 - the type of a choice
    """Choose the error that came first."""
    return a


@final
@attrs.frozen(kw_only=True)
class RunnerConfig:
    """What a `Runner` does about errors.

    The three functions are asked in the task of the worker that failed; they must not block, and
    may call any method of the runner that is not async. One that raises is a fatal error itself.

    Raises:
        TypeError: a field has the wrong type, or a function is async.
        ValueError: `name` is empty, or `stop_timeout` negative or NaN.
    """

    name: str = "runner"
    """What the runner is called in messages and reports."""
    is_fatal: Callable[[Exception], bool] = every
    """Whether an error ends the runner; asked for each leaf of a group. Every error, by default.

    What is no ``Exception`` (`KeyboardInterrupt`, `SystemExit`) is fatal without asking.
    """
    should_restart: Callable[[Exception], bool] = every
    """Whether an error that is not fatal restarts its worker, or removes it; asked for each leaf of
    a group, and one "no" is enough. Every error restarts, by default."""
    more_important: Callable[[Exception, Exception], Exception] = first
    """Which of two fatal errors the runner should raise: the first, by default.

    It is given the most important one so far and a later one, and returns one of them.
    """
    restart: RestartPolicy = attrs.field(factory=RestartPolicy)
    """How soon and how often. One restart more than `max_restarts` within `period` is fatal."""
    stop_timeout: float = 10.0
    """Seconds between asking a worker to stop and cancelling it; infinity never cancels."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"RunnerConfig(name=...) must be a string, not {self.name!r}")
        if not self.name:
            raise ValueError("RunnerConfig(name=...) must not be empty")
        for field in ("is_fatal", "should_restart", "more_important"):
            _check_plain(f"RunnerConfig({field}=...)", getattr(self, field))
        if not isinstance(self.restart, RestartPolicy):
            raise TypeError(
                f"RunnerConfig(restart=...) must be a RestartPolicy, not {self.restart!r}"
            )
        check_seconds("RunnerConfig(stop_timeout=...)", self.stop_timeout, inf=True)


@final
class WorkerState(enum.StrEnum):
    """How a runner's worker stands; each equals its lower-case name as a string."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    DELAYED = "delayed"
    STOPPING = "stopping"
    GONE = "gone"


_S = WorkerState
_NEXT: dict[WorkerState, frozenset[WorkerState]] = {
    _S.WAITING: frozenset({_S.STARTING, _S.STOPPING, _S.GONE}),
    # DELAYED, GONE: start() failed, or the worker ended before it had called started().
    _S.STARTING: frozenset({_S.RUNNING, _S.DELAYED, _S.STOPPING, _S.GONE}),
    # GONE without STOPPING, here and above: it finished, or is not to be started again.
    _S.RUNNING: frozenset({_S.DELAYED, _S.STOPPING, _S.GONE}),
    # GONE: cancelled from outside.
    _S.DELAYED: frozenset({_S.STARTING, _S.STOPPING, _S.GONE}),
    _S.STOPPING: frozenset({_S.GONE}),
    _S.GONE: frozenset(),
}


@final
class Runner:
    """A worker that owns other workers by name, and starts them again when they fail.

    ::

        runner = Runner(RunnerConfig(name="jobs", is_fatal=lambda exc: False))
        runner.start_worker("mail", lambda: Mailer(config))
        await runner.run()

    Args:
        config: what to do about errors.
        random: where the jitter of delays comes from: returns a number from 0 to 1.
    """

    def __init__(
        self,
        config: RunnerConfig | None = None,
        *,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if config is None:
            config = RunnerConfig()
        if not isinstance(config, RunnerConfig):
            raise TypeError(f"Runner() takes a RunnerConfig, not {config!r}")
        _check_plain("Runner(random=...)", random)
        self._config = config
        self._random = random
        self._catacomb = Catacomb(grace=config.stop_timeout, name=config.name)
        # From start_worker() until it is gone. Before run() they have no task, after it all do.
        self._named: dict[str, _Named] = {}
        self._running = False
        # The most important first; handed to the catacomb by _settle(), the rest by kill() itself.
        self._fatal: list[BaseException] = []
        self._settled = False

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what was started and will be, until killed or an error is fatal; raise that error.

        It counts as started at once, before any of its workers is.
        """
        async with self._catacomb:
            try:
                self._running = True
                for named in list(self._named.values()):
                    self._catacomb.add(named)
                task_status.started()
                await self._catacomb.wait_dying()
            except BaseException as exc:
                self._catacomb.kill(exc)
                raise
            finally:
                self._catacomb.kill()  # cancelled from outside it would not know yet
                try:
                    await self._all_gone()  # cancelled when the grace is over
                finally:
                    await self._reap()
                    self._settle()

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask the runner and all its workers to stop. Never blocks; exactly as `Tomb.kill`.

        A runner that was not run yet forgets what was to be started.
        """
        check_reason(self.name, reason)
        if reason is not None and self._fatal and not self._settled:
            # It came after a fatal error, but would be the catacomb's first reason.
            if (real := self._real_part(reason)) is not None and not self._is_known(real):
                self._fatal.append(real)
            reason = None
        self._catacomb.kill(reason, grace=grace)
        if not self._running:
            for named in list(self._named.values()):
                self._remove(named)

    async def wait(self) -> None:
        """Wait until dead, and every worker gone; raise the reason, if any. A checkpoint."""
        await self._catacomb.wait()

    @enable_ki_protection
    def start_worker(self, name: str, start: Start) -> None:
        """Start a worker under `name` from the next step on, or when the runner is run. Sync.

        - ``start()`` raises, or returns no worker: as if the worker had failed with that.
        - The worker finishes without error: it is removed, and the name is free.
        - It fails: that is fatal, or it is started again after a delay, or it is removed.

        Args:
            name: what to call it; free again when the worker was removed.
            start: called for each start, in the worker's own task; returns a fresh `Worker` each
                time. Plain or async; an async one may take its time and is cancelled on stop.

        Raises:
            AlreadyExists: the name is taken, perhaps by a worker that is still stopping.
            Dying: the runner is dying or dead.
            TypeError: `name` is no string, or `start` no function.
        """
        if not isinstance(name, str):
            raise TypeError(f'"{self.name}" runner: a worker\'s name is a string, not {name!r}')
        _check_start(self.name, start)
        if self._catacomb.is_dying:
            raise self._refusal()
        if (known := self._named.get(name)) is not None:
            raise AlreadyExists(
                f'"{self.name}" runner: there is a worker "{name}" already ({known.state}); '
                f'choose another name, or await stop_and_remove("{name}") first'
            )
        named = self._named[name] = _Named(
            name,
            start,
            stop_timeout=self._config.stop_timeout,
            judge=self._judge,
            real_part=self._real_part,
            remove=self._remove,
        )
        if self._running:
            self._catacomb.add(named)

    @enable_ki_protection
    def stop_worker(self, name: str) -> None:
        """Stop `name` for good, whatever it is doing. Never blocks; an unknown name is ignored.

        A worker is asked first and cancelled `stop_timeout` seconds later; a start or a delay is
        cancelled at once.
        """
        if (named := self._named.get(name)) is not None:
            self._stop(named)

    async def stop_and_remove(self, name: str) -> None:
        """Stop `name` and wait until it is gone; raise the error that ended it, if any.

        As many as like may call it at once, and every one gets the same answer. An error that was
        dealt with before (it was in a delay) is not raised again. A checkpoint.

        Raises:
            NotFound: nothing has this name.
        """
        named = self._find(name)
        named.callers += 1
        try:
            self._stop(named)
            await named.gone.wait()
        finally:
            named.callers -= 1
        if named.error is not None:
            raise_unchanged(named.error.with_traceback(named.traceback))

    async def worker(self, name: str) -> Worker:
        """Wait until `name` runs, and return its worker. A checkpoint.

        What is returned may end at any time, like every worker; it is the runner's to stop.

        Raises:
            NotFound: nothing has this name, or it was removed meanwhile.
            Dying: the runner is dying or dead, or dies meanwhile.
        """
        if self._catacomb.is_dying:
            raise self._refusal()
        named = self._find(name)
        await trio.lowlevel.checkpoint()
        while True:
            if self._catacomb.is_dying:
                raise self._refusal()
            if named.state is WorkerState.GONE:
                raise NotFound(f'"{self.name}" runner: "{name}" was removed')
            if named.state is WorkerState.RUNNING and named.worker is not None:
                return named.worker
            await named.change()

    def names(self) -> tuple[str, ...]:
        """Return the names that are taken, also by workers still stopping, oldest first."""
        return tuple(self._named)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._config.name

    def report(self) -> RunnerReport:
        """Return the present state and that of every worker as plain data. Never raises."""
        return RunnerReport(
            tomb=self._catacomb.report().tomb,
            fatal=tuple(map(describe, self._fatal)),
            workers=tuple(named.described() for named in list(self._named.values())),
        )

    def __repr__(self) -> str:
        return f"<Runner {self.name!r} {self._catacomb.state}, {len(self._named)} workers>"

    # -- deciding ----------------------------------------------------------------------------------

    @enable_ki_protection
    def _judge(self, named: _Named, error: BaseException) -> float | None:
        """Decide about an error: seconds until the next start, or ``None`` if there is none."""
        named.last_error = describe(error)
        try:
            fatal = self._is_fatal(error)
            again = not fatal and not self._is_over(named) and self._should_restart(error)
        except BaseException as broken:  # noqa: BLE001 - foreign code; fatal, and raised by run()
            named.ended_by(error)
            self._die_of(broken)
            self._die_of(error)
            return None
        if fatal:
            named.ended_by(error)
            self._die_of(error)
            return None
        if not again or self._is_over(named):  # the functions may have called stop_worker()
            named.ended_by(error)
            self._log_end(named, error)
            return None
        return self._delay(named, error)

    def _is_fatal(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):  # so is a group with such a leaf
            return True
        return any(self._config.is_fatal(leaf) for leaf in leaves(error) if _is_exception(leaf))

    def _should_restart(self, error: BaseException) -> bool:
        return all(
            self._config.should_restart(leaf) for leaf in leaves(error) if _is_exception(leaf)
        )

    def _is_over(self, named: _Named) -> bool:
        return named.is_stopping or self._catacomb.is_dying

    def _delay(self, named: _Named, error: BaseException) -> float | None:
        policy = self._config.restart
        spread = 2 * self._random() - 1
        if _is_dying(error):  # not its own fault: what it talked to was stopping
            delay = named.restarts.current_delay(policy, spread)
            self._say(logging.INFO, named, f"was refused, and starts again in {delay:.3g} s", error)
            return delay
        now = trio.current_time()
        delay = named.restarts.error_delay(policy, named.healthy(now), spread)
        if named.restarts.over_limit(policy, now):
            with suppress(Exception):  # a class may refuse notes; the error counts
                error.add_note(
                    f'"{self.name}" runner: "{named.name}" had to be restarted more than '
                    f"{policy.max_restarts} times within {policy.period} s"
                )
            named.ended_by(error)
            self._die_of(error)
            return None
        self._say(logging.WARNING, named, f"failed, and starts again in {delay:.3g} s", error)
        return delay

    def _die_of(self, error: BaseException) -> None:
        if not self._is_known(error):
            outranks = bool(self._fatal) and self._outranks(error, self._fatal[0])
            self._fatal.insert(0 if outranks else len(self._fatal), error)
        self._catacomb.kill()

    def _is_known(self, error: BaseException) -> bool:
        return any(error is known for known in self._fatal)

    def _outranks(self, error: BaseException, worst: BaseException) -> bool:
        if not (_is_exception(error) and _is_exception(worst)):
            return _is_exception(worst)
        try:
            chosen = self._config.more_important(worst, error)
            if chosen is not worst and chosen is not error:
                raise TypeError(
                    "RunnerConfig(more_important=...) must return one of its two arguments, "
                    f"not {chosen!r}"
                )
        except BaseException as broken:  # noqa: BLE001 - foreign code; its error is fatal too
            if broken is not error and broken is not worst:
                self._fatal.append(broken)
            return False
        return chosen is error

    def _log_end(self, named: _Named, error: BaseException) -> None:
        if named.callers:
            return  # stop_and_remove() raises it
        if _is_dying(error):
            self._say(logging.INFO, named, "was refused, and is removed", error)
        elif self._is_over(named):
            self._say(logging.WARNING, named, "failed while it was stopping", error)
        else:
            self._say(logging.ERROR, named, "failed, and is not started again", error)

    def _say(self, level: int, named: _Named, what: str, error: BaseException) -> None:
        detail = None if level == logging.INFO else error
        text = f'"{self.name}" runner: "{named.name}" {what}: {describe(error)}'
        _log.log(level, "%s", text, exc_info=detail)

    # -- doing -------------------------------------------------------------------------------------

    def _stop(self, named: _Named) -> None:
        if not self._running:
            self._remove(named)
        elif not named.is_stopping:
            named.kill()
            if not self._catacomb.is_dying:  # else _reap() has an eye on it
                self._catacomb.add(simple_worker(self._watch_over, named))

    async def _watch_over(self, named: _Named) -> None:
        with trio.move_on_after(self._config.stop_timeout + _PATIENCE):
            await named.gone.wait()
        self._report_stuck(named)

    def _report_stuck(self, named: _Named) -> None:
        if named.state is not WorkerState.GONE and not named.stuck:
            named.stuck = True
            _log.error(
                '"%s" runner: "%s" does not stop: it was asked, then cancelled, and still runs',
                self.name,
                named.name,
            )

    async def _all_gone(self) -> None:
        for named in list(self._named.values()):
            await named.gone.wait()

    async def _reap(self) -> None:
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_PATIENCE):
                await self._all_gone()
            for named in list(self._named.values()):
                self._report_stuck(named)
            await self._all_gone()

    def _settle(self) -> None:
        """Give the fatal errors to the catacomb, which raises one and notes the others on it."""
        self._settled = True
        for error in self._fatal:
            self._catacomb.kill(error)
        for error in self._fatal:
            if error is not self._catacomb.reason:  # which run() raises; notes have no tracebacks
                text = f'"{self.name}" runner: also fatal: {describe(error)}'
                _log.error("%s", text, exc_info=error)

    @enable_ki_protection
    def _remove(self, named: _Named) -> None:
        del self._named[named.name]
        named.become(WorkerState.GONE)
        named.gone.set()

    def _find(self, name: str) -> _Named:
        if (named := self._named.get(name)) is None:
            raise NotFound(f'"{self.name}" runner: there is no worker "{name}"')
        return named

    def _refusal(self) -> Dying:
        try:
            with self._catacomb.while_alive():
                raise InternalError(f'"{self.name}" runner: refused a call while alive')
        except Dying as dying:
            refusal = dying
        if self._fatal:  # which the catacomb does not know yet
            because = describe(self._fatal[0])
            return Dying(f'"{self.name}" is dying because of {because}', refusal.owner)
        return Dying(str(refusal), refusal.owner)

    def _real_part(self, error: BaseException) -> BaseException | None:
        """Return what of `error` can be a reason: as `Tomb`, without our own `Dying`."""
        ours = self._refusal().owner if self._catacomb.is_dying else None
        return reduced(
            error,
            lambda leaf: (
                _is_cancelled(leaf)
                or (ours is not None and isinstance(leaf, Dying) and leaf.owner is ours)
            ),
        )


@final
class _Named:
    """One name, from ``start_worker()`` until it is gone: a child of the runner's catacomb.

    Attributes:
        worker: set while one is being run, started or not.
        error: what ended it for good; set by the runner's judgement.
        callers: how many wait in ``stop_and_remove()`` and will be given `error`.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        *,
        stop_timeout: float,
        judge: Callable[[_Named, BaseException], float | None],
        real_part: Callable[[BaseException], BaseException | None],
        remove: Callable[[_Named], None],
    ) -> None:
        self.name = name
        self.state = WorkerState.WAITING
        self.worker: Worker | None = None
        self.restarts = Restarts()
        self.starts = 0
        self.started_at: float | None = None
        self.next_start: float | None = None
        self.last_error: str | None = None
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None
        self.stuck = False
        self.callers = 0
        self.gone = trio.Event()
        self._start = start
        self._stop_timeout = stop_timeout
        self._judge = judge
        self._real_part = real_part
        self._remove = remove
        # Around all that the task does; once cancelled, there is no further start.
        self._scope = trio.CancelScope()
        # Made by the first who waits for a change, and replaced after it.
        self._changed: trio.Event | None = None
        self._status: _Status | None = None
        # What the worker's kill() raised; it is part of how the worker ended.
        self._kill_error: BaseException | None = None

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            with self._scope:
                await self._rounds()
        finally:
            self._remove(self)

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None) -> None:  # noqa: ARG002 - as in Worker
        """Stop for good; the first call counts."""
        if self.is_stopping or self.state is WorkerState.GONE:
            return
        self.become(WorkerState.STOPPING)
        if self.worker is None:
            self._scope.cancel(reason=f"{self.name} was stopped")
        else:
            self._ask(self.worker)

    async def wait(self) -> None:
        """Wait until it is gone. Its error is not raised here, but where it was judged to go."""
        await self.gone.wait()

    def become(self, state: WorkerState) -> None:
        """Move to `state` and wake those who wait for a change."""
        if state not in _NEXT[self.state]:
            raise InternalError(f'"{self.name}" cannot become {state}: it is {self.state}')
        self.state = state
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self) -> None:
        """Wait until the state is another."""
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def begun(self, status: _Status) -> None:
        """Take the worker's word that it can be used; that of an earlier one comes too late."""
        if status is not self._status:
            return
        self.started_at = trio.current_time()
        if not self.is_stopping:
            self.become(WorkerState.RUNNING)

    def ended_by(self, error: BaseException) -> None:
        """Take down what ended it for good, as every observer will get it."""
        self.error = error
        self.traceback = error.__traceback__

    def healthy(self, now: float) -> float:
        """Return for how many seconds the latest worker could be used."""
        return 0.0 if self.started_at is None else now - self.started_at

    @property
    def is_stopping(self) -> bool:
        """Whether it was stopped, and is not to be started again."""
        return self.state is WorkerState.STOPPING

    # Not report(): the catacomb's own report would call it too, and the worker's a second time.
    def described(self) -> RunnerWorkerReport:
        """Return the present state as plain data."""
        worker = self.worker
        return RunnerWorkerReport(
            name=self.name,
            state=str(self.state),
            stuck=self.stuck,
            started_at=None if worker is None else self.started_at,
            next_start=self.next_start if self.state is WorkerState.DELAYED else None,
            restarts=max(self.starts - 1, 0),
            failures=self.restarts.failures,
            last_error=self.last_error,
            worker=None if worker is None else report_of(worker, name_of(worker)),
        )

    async def _rounds(self) -> None:
        while not self.is_stopping:
            delay = await self._round()
            if delay is None or self.is_stopping:
                return
            self.become(WorkerState.DELAYED)
            self.next_start = trio.current_time() + delay
            await trio.sleep(delay)

    async def _round(self) -> float | None:
        """Live once; return the seconds until the next start, or ``None`` if there is none."""
        try:
            await self._live()
        except BaseException as exc:  # noqa: BLE001 - judged here, and only Cancelled goes on
            delay = self._end(self._real_part(exc))
            _pass_on_cancelled(exc)
            return delay
        return self._end(None)

    async def _live(self) -> None:
        self.become(WorkerState.STARTING)
        self.starts += 1
        self.started_at = None
        worker = self.worker = await self._make()
        try:
            if self.is_stopping:
                self._ask(worker)
            self._status = _Status(self)
            await worker.run(task_status=self._status)
        finally:
            self.worker = self._status = None

    async def _make(self) -> Worker:
        made = self._start()
        if inspect.isawaitable(made):
            made = await made
        if isinstance(made, type) or not isinstance(made, Worker):
            raise TypeError(
                f'the start function of "{self.name}" returned {made!r}, which is no worker; '
                "return an object with run(), kill() and wait()"
            )
        return made

    def _ask(self, worker: Worker) -> None:
        try:
            worker.kill()
        except BaseException as exc:  # noqa: BLE001 - foreign code; judged when the worker has ended
            self._kill_error = exc
            self._cancel_after(0)
        else:
            self._cancel_after(self._stop_timeout)

    def _cancel_after(self, seconds: float) -> None:
        if seconds == 0:
            self._scope.cancel(reason=f"{self.name} was stopped")
        else:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    def _end(self, error: BaseException | None) -> float | None:
        also, self._kill_error = self._kill_error, None
        if error is None:
            error = also
        elif also is not None and also is not error:
            error = BaseExceptionGroup(
                f"{self.name} failed while stopping, and so did its kill()", [error, also]
            )
        try:
            return None if error is None else self._judge(self, error)
        finally:
            del error, also  # a frame in a traceback must not hold the traceback


@final
class _Status:
    """What one run of a worker calls ``started()`` on."""

    __slots__ = ("_is_set", "_named")

    def __init__(self, named: _Named) -> None:
        self._named = named
        self._is_set = False

    def started(self, value: object = None) -> None:  # noqa: ARG002 - nobody here has a use for it
        if self._is_set:
            raise RuntimeError(
                "started() was called twice; call it once, when the worker can be used"
            )
        self._is_set = True
        self._named.begun(self)


def _pass_on_cancelled(exc: BaseException) -> None:
    cancelled = only(exc, _is_cancelled)
    try:
        if cancelled is not None:
            raise_unchanged(cancelled)
    finally:
        del exc, cancelled  # a frame in a traceback must not hold the traceback


def _is_cancelled(exc: BaseException) -> bool:
    return isinstance(exc, trio.Cancelled)


def _is_exception(exc: BaseException) -> TypeGuard[Exception]:
    return isinstance(exc, Exception)


def _is_dying(error: BaseException) -> bool:
    return all(isinstance(leaf, Dying) for leaf in leaves(error))


def _check_plain(where: str, fn: object) -> None:
    if not callable(fn) or inspect.iscoroutinefunction(fn):
        kind = "an async one" if callable(fn) else repr(fn)
        raise TypeError(f"{where} must be a plain function, not {kind}")


def _check_start(runner: str, start: object) -> None:
    right = "write start_worker(name, lambda: MyWorker(...))"
    where = f'"{runner}" runner: start_worker() takes a function that makes a worker'
    if inspect.iscoroutine(start):
        start.close()  # otherwise Python warns that it was never awaited, hiding our message
        raise TypeError(f"{where}, not the coroutine {start.__name__}(...); {right}")
    if isinstance(start, Worker) and not isinstance(start, type):
        raise TypeError(f"{where} each time it is called, not the worker {start!r}; {right}")
    if not callable(start):
        raise TypeError(f"{where}, not {start!r}; {right}")
