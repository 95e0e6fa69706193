"""A runner: workers under names, each started again after an error, by policy.

Every name has a task of its own in the runner's catacomb (`_named`); the runner is what they have
in common: the names that are taken, and the judgement about errors.

**Errors** are judged in one place, `Runner._judge`, in the task of the worker that failed. A fatal
one kills the catacomb, the most important of them is its reason, and the others are logged here and
noted on it by the tomb. Any other is logged here too, unless somebody waits for it in
``stop_and_remove()``.

**Stopping the runner** is the catacomb's business: it asks every name, and cancels them when its
grace, `stop_timeout`, is over. Stopping one name is the name's.

**Stuck** is who still runs `_PATIENCE` seconds after it was cancelled. Nothing can be done about it
but to say so: in the log, once, and in the report. A stopped name is watched by a task in the
catacomb, those of a dying runner by the runner's body.
"""

from __future__ import annotations

import logging
import math
import random as _random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

import trio
from trio.lowlevel import enable_ki_protection

from ._catacomb import Catacomb
from ._errors import AlreadyExists, Dying, NotFound
from ._groups import describe, leaves
from ._named import Named, Start, WorkerState, check_start
from ._report import RunnerReport
from ._runner_config import RunnerConfig, is_fatal, outranks, should_restart
from ._simple import simple_worker
from ._util import check_sync
from ._worker import Worker

_PATIENCE = 10.0
"""Seconds that a cancelled worker has for its clean-up before we call it stuck."""

_log = logging.getLogger("trioworker.runner")


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
        check_sync("Runner(random=...)", random)
        self._config = config
        self._random = random
        self._catacomb = Catacomb(grace=config.stop_timeout, name=config.name)
        # From start_worker() until it is gone. Before run() they have no task, after it all do.
        self._named: dict[str, Named] = {}
        self._was_run = False

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what was started and will be, until killed or an error is fatal; raise that error.

        It counts as started at once, before any of its workers is.
        """
        async with self._catacomb:
            self._was_run = True
            for named in self._all():
                self._catacomb.add(named)
            task_status.started()
            try:
                await self._catacomb.wait_dying()
            finally:
                self._catacomb.kill()  # cancelled from outside it would not know yet
                await self._watch_all()

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask the runner and all its workers to stop. Never blocks; exactly as `Tomb.kill`.

        A runner that was not run yet forgets what was to be started.
        """
        self._catacomb.kill(reason, grace=grace)
        if not self._was_run:
            for named in self._all():
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
        check_start(self.name, start)
        self._check_alive()
        if (known := self._named.get(name)) is not None:
            raise AlreadyExists(
                f'"{self.name}" runner: there is a worker "{name}" already ({known.state}); '
                f'choose another name, or await stop_and_remove("{name}") first'
            )
        named = self._named[name] = Named(
            name,
            start,
            stop_timeout=self._config.stop_timeout,
            real_part=self._catacomb.real_part,
            judge=self._judge,
            unheard=self._log_end,
            remove=self._remove,
        )
        if self._was_run:
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
        self._stop(named)
        if self._was_run:
            await named.wait()
        else:
            await trio.lowlevel.checkpoint()

    async def worker(self, name: str) -> Worker:
        """Wait until `name` runs, and return its worker. A checkpoint.

        What is returned may end at any time, like every worker; it is the runner's to stop.

        Raises:
            NotFound: nothing has this name, or it was removed meanwhile.
            Dying: the runner is dying or dead, or dies meanwhile.
        """
        self._check_alive()
        named = self._find(name)
        await trio.lowlevel.checkpoint()
        while True:
            self._check_alive()
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
            workers=tuple(named.described() for named in self._all()),
        )

    def __repr__(self) -> str:
        return f"<Runner {self.name!r} {self._catacomb.state}, {len(self._named)} workers>"

    # -- names -------------------------------------------------------------------------------------

    def _all(self) -> list[Named]:
        """Return them in a list of its own: they go while we look."""
        return list(self._named.values())

    def _find(self, name: str) -> Named:
        if (named := self._named.get(name)) is None:
            raise NotFound(f'"{self.name}" runner: there is no worker "{name}"')
        return named

    def _check_alive(self) -> None:
        if self._catacomb.is_dying:
            raise self._catacomb.refusal()

    def _stop(self, named: Named) -> None:
        if not self._was_run:
            self._remove(named)
        elif not named.is_stopping:
            named.kill()
            if not self._catacomb.is_dying:  # else _watch_all() has an eye on it
                self._catacomb.add(simple_worker(self._watch, named))

    @enable_ki_protection
    def _remove(self, named: Named) -> None:
        del self._named[named.name]
        named.become(WorkerState.GONE)

    # -- errors ------------------------------------------------------------------------------------

    @enable_ki_protection
    def _judge(self, named: Named, error: BaseException) -> float | None:
        """Decide about an error: seconds until the next start, or ``None`` if there is none."""
        try:
            fatal = is_fatal(self._config, error)
            over = fatal or named.is_stopping or _is_cancelled()
            again = not over and should_restart(self._config, error)
        except BaseException as broken:  # noqa: BLE001 - foreign code; fatal, and raised by run()
            self._die_of(broken)
            fatal = again = True
        if fatal:
            self._die_of(error)
            return None
        if not again or named.is_stopping:  # the functions may have called stop_worker()
            self._log_end(named, error)
            return None
        return self._delay(named, error)

    def _delay(self, named: Named, error: BaseException) -> float | None:
        policy, history = self._config.restart, named.history
        spread = 2 * self._random() - 1
        if _is_refusal(error):  # not its own fault: what it talked to was stopping
            delay = history.current_delay(policy, spread)
            self._say(logging.INFO, named, f"was refused, and starts again in {delay:.3g} s", error)
            return delay
        now = trio.current_time()
        healthy = 0.0 if named.started_at is None else now - named.started_at
        delay = history.error_delay(policy, healthy, spread)
        if history.over_limit(policy, now):
            with suppress(Exception):  # a class may refuse notes; the error counts
                error.add_note(
                    f'"{self.name}" runner: "{named.name}" had to be restarted more than '
                    f"{policy.max_restarts} times within {policy.period} s"
                )
            self._die_of(error)
            return None
        self._say(logging.WARNING, named, f"failed, and starts again in {delay:.3g} s", error)
        return delay

    def _die_of(self, error: BaseException) -> None:
        worst = self._catacomb.reason
        if any(error is known for known in (worst, *self._catacomb.suppressed)):
            return
        if worst is not None and self._outranks(error, worst):
            self._catacomb.supersede(error)
        else:
            self._catacomb.kill(error)
        self._log_lost(worst, error)

    def _outranks(self, error: BaseException, worst: BaseException) -> bool:
        try:
            return outranks(self._config, error, worst)
        except BaseException as broken:  # noqa: BLE001 - foreign code; its error is fatal too
            if broken is not error:
                self._catacomb.kill(broken)
                self._log_lost(broken)
            return False

    def _log_lost(self, *fatal: BaseException | None) -> None:
        for error in fatal:
            if error is not None and error is not self._catacomb.reason:  # which run() raises
                text = f'"{self.name}" runner: also fatal: {describe(error)}'
                _log.error("%s", text, exc_info=error)  # the tomb's notes have no tracebacks

    def _log_end(self, named: Named, error: BaseException) -> None:
        if named.callers:
            named.kept = error  # stop_and_remove() raises it
            return
        if _is_refusal(error):
            self._say(logging.INFO, named, "was refused, and is removed", error)
        elif named.is_stopping or _is_cancelled():
            self._say(logging.WARNING, named, "failed while it was stopping", error)
        else:
            self._say(logging.ERROR, named, "failed, and is not started again", error)

    def _say(self, level: int, named: Named, what: str, error: BaseException) -> None:
        detail = None if level == logging.INFO else error
        text = f'"{self.name}" runner: "{named.name}" {what}: {describe(error)}'
        _log.log(level, "%s", text, exc_info=detail)

    # -- who is stuck ------------------------------------------------------------------------------

    async def _watch(self, named: Named) -> None:
        with trio.move_on_after(self._config.stop_timeout + _PATIENCE):
            await named.gone()
        self._report_stuck(named)

    async def _watch_all(self) -> None:
        try:
            await self._all_gone()  # cancelled when the grace is over, with all of them
        finally:
            with trio.move_on_after(_PATIENCE, shield=True):
                await self._all_gone()
            for named in self._all():
                self._report_stuck(named)

    async def _all_gone(self) -> None:
        for named in self._all():
            await named.gone()

    def _report_stuck(self, named: Named) -> None:
        if named.state is not WorkerState.GONE and not named.stuck:
            named.stuck = True
            _log.error(
                '"%s" runner: "%s" does not stop: it was asked, then cancelled, and still runs',
                self.name,
                named.name,
            )


def _is_cancelled() -> bool:
    """Whether a worker may have felt a cancellation from outside before the runner's body has."""
    return trio.current_effective_deadline() == -math.inf


def _is_refusal(error: BaseException) -> bool:
    return all(isinstance(leaf, Dying) for leaf in leaves(error))
