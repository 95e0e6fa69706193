"""The life of one name in a runner: its worker is started, run, and started again.

A name has one task, and that task is all there is to it: it calls ``start``, runs the worker that
comes back, asks the runner what to do about an error, sleeps for the delay, and goes round again.
It is in one of six states, which only its own methods move, along `NEXT`::

    waiting ──▶ starting ──▶ running ──▶ delayed ──▶ starting ...
       └────────────┴───────────┴───────────┴──────▶ stopping ──▶ gone
                    └───────────┴─────────────────────────────────▲

*Waiting* lasts until the runner is run and the task has its first step, *starting* until the worker
calls ``started()``.

**Stopping.** A `Tomb` lies around all that the task does, and `stop_timeout` is its grace. A worker
is asked (``kill()``) and cancelled when the grace is over; anything else (a ``start`` that takes
its time, a delay) is cancelled at once. A stopped name never goes round again: every turn of the
loop looks at the state, so it does not matter which of "the delay is over" and "stop" came first. A
worker that comes out of ``start`` after all is killed and still run, so that whoever waits for it
gets an answer.

**Ending.** The error that ended a name for good is the tomb's reason, for ``stop_and_remove()`` to
raise. The runner's catacomb does not get it: the runner has judged it already.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from ._errors import InternalError
from ._groups import describe, pass_on, raise_unchanged
from ._report import RunnerWorkerReport, report_of
from ._restart import Restarts
from ._tomb import Tomb
from ._util import Started, is_cancelled, name_of
from ._worker import Worker

Start = Callable[[], Worker | Awaitable[Worker]]


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
NEXT: dict[WorkerState, frozenset[WorkerState]] = {
    # GONE: the runner was never run.
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
class Named:
    """One name, from ``start_worker()`` until it is gone: a child of the runner's catacomb.

    Args:
        name: what the runner calls it.
        start: makes a fresh worker.
        stop_timeout: seconds between asking the worker to stop and cancelling it.
        real_part: what of an error counts; nothing of the runner's own `Dying`.
        judge: decides about an error: seconds until the next start, or ``None`` if there is none.
        remove: told when the task ends, as the last thing in it.

    Attributes:
        worker: set while one is being run, started or not.
        started_at: when the latest worker could first be used.
        callers: how many are in `wait()` and will be given the error that ends it.
        kept: that error, which nobody has told, because they will raise it.
        stuck: whether it outlasted being cancelled; the runner finds out.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        *,
        stop_timeout: float,
        real_part: Callable[[BaseException], BaseException | None],
        judge: Callable[[Named, BaseException], float | None],
        unheard: Callable[[Named, BaseException], None],
        remove: Callable[[Named], None],
    ) -> None:
        self.name = name
        self.state = WorkerState.WAITING
        self.worker: Worker | None = None
        self.started_at: float | None = None
        self.history = Restarts()
        self.callers = 0
        self.kept: BaseException | None = None
        self.stuck = False
        self._start = start
        self._real_part = real_part
        self._judge = judge
        self._unheard = unheard
        self._remove = remove
        self._tomb = Tomb(grace=stop_timeout, name=name)
        self._changes = ParkingLot()
        self._restarts = 0
        self._next_start: float | None = None
        self._last_error: str | None = None
        # The present worker's; an earlier one that calls started() comes too late.
        self._status: _Status | None = None
        # What ended it for good: the tomb's reason, and no longer the catacomb's business.
        self._judged: BaseException | None = None
        # What the worker's kill() raised; it is part of how the worker ended.
        self._kill_error: BaseException | None = None

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            with self._tomb:
                task_status.started()
                await self._rounds()
        except BaseException as exc:
            if exc is not self._judged:
                raise
        finally:
            self._remove(self)

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None) -> None:  # noqa: ARG002 - as in Worker
        """Stop for good; the first call counts."""
        if self.state in (WorkerState.STOPPING, WorkerState.GONE):
            self._changes.unpark_all()  # the runner may be dying now: worker() has to know
            return
        self.become(WorkerState.STOPPING)
        if self.worker is None:
            self._tomb.kill(grace=0)
        else:
            self._ask(self.worker)

    async def wait(self) -> None:
        """Wait until it was run and is gone; raise what ended it, if anything. A checkpoint.

        One that is cancelled in the step in which the error comes does not raise it. What was kept
        for it, and for nobody else, is told as if nobody had waited.
        """
        self.callers += 1
        try:
            await self._tomb.wait()
        except BaseException as exc:
            if exc is self.kept:
                self.kept = None
            raise
        finally:
            self.callers -= 1
            if not self.callers and self.kept is not None:
                kept, self.kept = self.kept, None
                self._unheard(self, kept)

    async def gone(self) -> None:
        """Wait until it is gone, however that came."""
        while self.state is not WorkerState.GONE:
            await self.change()

    async def change(self) -> None:
        """Wait until the state is another."""
        await self._changes.park()

    def become(self, state: WorkerState) -> None:
        """Move to `state` and wake those who wait for a change."""
        if state not in NEXT[self.state]:
            raise InternalError(f'"{self.name}" cannot become {state}: it is {self.state}')
        self.state = state
        self._changes.unpark_all()

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
            next_start=self._next_start if self.state is WorkerState.DELAYED else None,
            restarts=self._restarts,
            failures=self.history.failures,
            last_error=self._last_error,
            worker=None if worker is None else report_of(worker, name_of(worker)),
        )

    async def _rounds(self) -> None:
        while not self.is_stopping:
            delay = await self._round()
            if delay is None or self.is_stopping:
                return
            self.become(WorkerState.DELAYED)
            self._next_start = trio.current_time() + delay
            await trio.sleep(delay)
            self._restarts += 1

    async def _round(self) -> float | None:
        """Live once; return the seconds until the next start, or ``None`` if it finished.

        Raises:
            BaseException: what ends the name for good.
        """
        try:
            await self._live()
        except BaseException as exc:  # noqa: BLE001 - judged, and raised if it is the end
            return self._end(exc)
        return self._end(None)

    async def _live(self) -> None:
        self.become(WorkerState.STARTING)
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

    def begun(self, status: _Status) -> None:
        """Take the worker's word that it can be used."""
        if status is self._status:
            self.started_at = trio.current_time()
            if not self.is_stopping:
                self.become(WorkerState.RUNNING)

    def _ask(self, worker: Worker) -> None:
        self._tomb.kill()
        try:
            worker.kill()
        except BaseException as exc:  # noqa: BLE001 - foreign code; judged when the worker has ended
            self._kill_error = exc
            self._tomb.kill(grace=0)

    def _end(self, exc: BaseException | None) -> float | None:
        error = self._real_error(exc)
        try:
            if error is not None:
                self._last_error = describe(error)
                if (delay := self._judge(self, error)) is None:
                    self._judged = error
                    raise_unchanged(error)
                return delay
            if exc is not None:
                pass_on(exc, is_cancelled)
            return None
        finally:
            del error, exc  # a frame in a traceback must not hold the traceback

    def _real_error(self, exc: BaseException | None) -> BaseException | None:
        error = None if exc is None else self._real_part(exc)
        also = self._kill_error
        if also is None or also is error:
            return error
        if error is None:
            return also
        return BaseExceptionGroup(
            f"{self.name} failed while stopping, and so did its kill()", [error, also]
        )


@final
class _Status(Started[object]):
    """What one run of a worker calls ``started()`` on."""

    __slots__ = ("_named",)

    def __init__(self, named: Named) -> None:
        super().__init__()
        self._named = named

    def started(self, value: object = None) -> None:
        super().started(value)
        self._named.begun(self)


def check_start(runner: str, start: object) -> None:
    """Raise TypeError, showing the right call, unless `start` can be a start function."""
    right = "write start_worker(name, lambda: MyWorker(...))"
    where = f'"{runner}" runner: start_worker() takes a function that makes a worker'
    if inspect.iscoroutine(start):
        start.close()  # otherwise Python warns that it was never awaited, hiding our message
        raise TypeError(f"{where}, not the coroutine {start.__name__}(...); {right}")
    if isinstance(start, Worker) and not isinstance(start, type):
        raise TypeError(f"{where} each time it is called, not the worker {start!r}; {right}")
    if not callable(start):
        raise TypeError(f"{where}, not {start!r}; {right}")
