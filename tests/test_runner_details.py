"""Runner, what a user sees from near by: words, log records, grace, jitter, interrupts."""

import inspect
import logging
import math
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trioworker._errors import AlreadyExists, Dying, NotFound
from trioworker._named import Named, WorkerState
from trioworker._restart import RestartPolicy
from trioworker._runner import Runner
from trioworker._runner_config import RunnerConfig, outranks
from trioworker._worker import open_worker

from .interrupts import protection_noted, unprotected
from .runner_workers import Job, Makes, fails, fails_on_cancel, finishes

PLAIN = RestartPolicy(jitter=0.0)


def never(error: BaseException) -> bool:
    return False


def make(**fields: Any) -> Runner:
    """A runner that restarts after every error, without jitter."""
    defaults: dict[str, Any] = {"is_fatal": never, "restart": PLAIN}
    return Runner(RunnerConfig(**{**defaults, **fields}))


class Unnotable(Exception):
    def add_note(self, note: str, /) -> None:
        raise TypeError("no notes")


def shown(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, BaseException | None]]:
    """What is in the log: level, message, and the error whose traceback is shown."""
    return [
        (r.levelno, r.getMessage(), r.exc_info[1] if r.exc_info else None) for r in caplog.records
    ]


# -- words -----------------------------------------------------------------------------------------


def test_what_is_no_config_is_named() -> None:
    with pytest.raises(TypeError) as caught:
        Runner(3)  # type: ignore[arg-type]

    assert str(caught.value) == "Runner() takes a RunnerConfig, not 3"


def test_the_source_of_jitter_is_a_plain_function() -> None:
    with pytest.raises(TypeError) as caught:
        Runner(random=0.5)  # type: ignore[arg-type]

    assert str(caught.value).startswith("Runner(random=...) must be a plain function, not 0.5")


async def test_a_name_that_is_taken_is_refused_with_the_way_out() -> None:
    runner = make(name="jobs")
    runner.start_worker("a", Makes())

    with pytest.raises(AlreadyExists) as caught:
        runner.start_worker("a", Makes())

    assert str(caught.value) == (
        '"jobs" runner: there is a worker "a" already (waiting); '
        'choose another name, or await stop_and_remove("a") first'
    )


def test_a_name_that_is_no_string_is_refused_by_the_runners_name() -> None:
    with pytest.raises(TypeError) as caught:
        make(name="jobs").start_worker(3, Makes())  # type: ignore[arg-type]

    assert str(caught.value) == '"jobs" runner: a worker\'s name is a string, not 3'


def test_what_is_no_start_function_is_refused_by_the_runners_name() -> None:
    with pytest.raises(TypeError) as caught:
        make(name="jobs").start_worker("a", 3)  # type: ignore[arg-type]

    assert str(caught.value) == (
        '"jobs" runner: start_worker() takes a function that makes a worker, not 3; '
        "write start_worker(name, lambda: MyWorker(...))"
    )


async def test_a_name_removed_while_somebody_waits_for_it_is_said_to_be_removed() -> None:
    runner = make(name="jobs")
    async with open_worker(runner), trio.open_nursery() as nursery:
        runner.start_worker("a", Makes(fails(OSError())))
        await wait_all_tasks_blocked()

        async def waits() -> None:
            with pytest.raises(NotFound) as caught:
                await runner.worker("a")
            assert str(caught.value) == '"jobs" runner: "a" was removed'

        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        runner.stop_worker("a")


class Mute:
    """A worker that shows itself shortly."""

    def __init__(self) -> None:
        self.killed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        self.killed.set()

    async def wait(self) -> None:
        await trio.sleep_forever()

    def __repr__(self) -> str:
        return "<mute>"


def refused(start: Any) -> str:
    with pytest.raises(TypeError) as caught:
        make(name="jobs").start_worker("a", start)
    return str(caught.value)


def test_a_coroutine_is_no_start_function_and_is_closed() -> None:
    coroutine = finishes()

    assert refused(coroutine) == (
        '"jobs" runner: start_worker() takes a function that makes a worker, '
        "not the coroutine finishes(...); write start_worker(name, lambda: MyWorker(...))"
    )
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_a_worker_is_no_start_function() -> None:
    assert refused(Mute()) == (
        '"jobs" runner: start_worker() takes a function that makes a worker '
        "each time it is called, not the worker <mute>; "
        "write start_worker(name, lambda: MyWorker(...))"
    )


async def test_a_class_of_workers_is_a_start_function() -> None:
    runner = make(stop_timeout=0)
    async with open_worker(runner):
        runner.start_worker("a", Mute)
        assert isinstance(await runner.worker("a"), Mute)


async def test_a_start_function_that_makes_no_worker_is_told_what_one_is() -> None:
    with pytest.raises(TypeError) as caught:
        async with open_worker(Runner()) as runner:
            runner.start_worker("a", lambda: 3)  # type: ignore[arg-type,return-value]  # the mistake
            await trio.sleep_forever()

    assert str(caught.value) == (
        'the start function of "a" returned 3, which is no worker; '
        "return an object with run(), kill() and wait()"
    )


def test_the_states_of_a_worker_are_words() -> None:
    assert [str(state) for state in WorkerState] == [
        "waiting",
        "starting",
        "running",
        "delayed",
        "stopping",
        "gone",
    ]


async def test_a_start_that_is_stopped_is_cancelled_in_its_name() -> None:
    said: list[str | None] = []

    async def start() -> Job:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            said.append(exc.reason)
            raise
        raise AssertionError

    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()
        await runner.stop_and_remove("a")

    assert said == ["a was killed"]


async def test_a_choice_of_neither_error_is_told_what_was_chosen() -> None:
    config = RunnerConfig(more_important=lambda a, b: 3)  # type: ignore[arg-type,return-value]  # the mistake
    with pytest.raises(TypeError) as caught:
        outranks(config, ValueError(), KeyError())

    assert str(caught.value) == (
        "RunnerConfig(more_important=...) must return one of its two arguments, not 3"
    )


@pytest.mark.parametrize(
    "error, worst",
    [(ValueError(), SystemExit()), (SystemExit(), ValueError()), (SystemExit(), SystemExit())],
)
def test_whatever_is_no_exception_is_not_compared(
    error: BaseException, worst: BaseException
) -> None:
    config = RunnerConfig(more_important=lambda a, b: b)

    assert not outranks(config, error, worst)
    assert outranks(config, ValueError(), KeyError())


# -- the log ---------------------------------------------------------------------------------------


async def test_a_retried_refusal_is_told_with_its_words_and_without_a_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", Makes(fails(Dying("db stops")), finishes))
        await trio.sleep(2)

    assert shown(caplog) == [
        (
            logging.INFO,
            '"runner" runner: "a" was refused, and starts again in 1 s: Dying: db stops',
            None,
        )
    ]


async def test_a_refusal_while_stopping_is_told_with_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", Makes(fails_on_cancel(Dying("db stops"))))
        await runner.worker("a")
        runner.stop_worker("a")
        await wait_all_tasks_blocked()

    assert shown(caplog) == [
        (logging.INFO, '"runner" runner: "a" was refused, and is removed: Dying: db stops', None)
    ]


async def test_a_failure_is_logged_with_its_traceback(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    error = OSError("lost")
    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", Makes(fails(error), finishes))
        await trio.sleep(2)

    assert shown(caplog) == [
        (
            logging.WARNING,
            '"runner" runner: "a" failed, and starts again in 1 s: OSError: lost',
            error,
        )
    ]


async def test_a_fatal_error_that_is_not_raised_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = KeyError("shared")
    with pytest.raises(ValueError, match="first"):
        async with open_worker(Runner()) as runner:
            for name in ("a", "b"):
                runner.start_worker(name, Makes(fails_on_cancel(shared)))
                await runner.worker(name)
            runner.start_worker("c", Makes(fails(ValueError("first"))))
            await trio.sleep_forever()

    assert shown(caplog) == [
        (logging.ERROR, "\"runner\" runner: also fatal: KeyError: 'shared'", shared)
    ]


async def test_what_a_comparison_of_errors_raises_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = RuntimeError("cannot compare")

    def compare(a: Exception, b: Exception) -> Exception:
        raise broken

    with pytest.raises(ValueError, match="first"):
        async with open_worker(Runner(RunnerConfig(more_important=compare))) as runner:
            runner.start_worker("a", Makes(fails_on_cancel(KeyError("second"))))
            await runner.worker("a")
            runner.start_worker("b", Makes(fails(ValueError("first"))))
            await trio.sleep_forever()

    assert [record.getMessage() for record in caplog.records] == [
        '"runner" runner: also fatal: RuntimeError: cannot compare',
        "\"runner\" runner: also fatal: KeyError: 'second'",
    ]
    assert shown(caplog)[0][2] is broken


# -- delays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn, delay", [(0.0, 0.9), (0.25, 0.95), (0.5, 1.0), (1.0, 1.1)])
async def test_a_draw_from_0_to_1_spreads_a_delay_both_ways(
    drawn: float, delay: float, autojump_clock: MockClock
) -> None:
    start = Makes(fails(OSError()), trio.sleep_forever)
    runner = Runner(RunnerConfig(is_fatal=never), random=lambda: drawn)
    async with open_worker(runner):
        runner.start_worker("a", start)
        await trio.sleep(2)

    assert start.times == pytest.approx([0, delay])


async def test_a_worker_that_never_became_ready_was_not_healthy_for_a_moment(
    autojump_clock: MockClock,
) -> None:
    def start() -> Job:
        raise OSError

    policy = RestartPolicy(jitter=0, reset_after=0.5)
    runner = make(restart=policy)
    async with open_worker(runner):
        runner.start_worker("a", start)
        await trio.sleep(3)
        assert runner.report().workers[0].failures == 3


async def test_health_is_counted_from_started_however_late_in_the_day(
    autojump_clock: MockClock,
) -> None:
    runner = make()
    await trio.sleep(1000)
    async with open_worker(runner):
        runner.start_worker("a", Makes(fails(OSError(), after=1)))
        await trio.sleep(4)
        assert runner.report().workers[0].failures == 2


async def test_an_error_that_refuses_notes_is_fatal_when_it_came_too_often(
    autojump_clock: MockClock,
) -> None:
    policy = RestartPolicy(jitter=0, error_delay=0, max_restarts=0)
    with pytest.raises(Unnotable):
        async with open_worker(make(restart=policy)) as runner:
            runner.start_worker("a", Makes(fails(Unnotable())))
            await trio.sleep_forever()


async def test_whether_to_restart_is_asked_only_when_it_could_be() -> None:
    asked: list[str] = []

    def should_restart(error: Exception) -> bool:
        asked.append(str(error))
        return True

    def is_fatal(error: Exception) -> bool:
        return isinstance(error, ValueError)

    runner = make(should_restart=should_restart, is_fatal=is_fatal)
    with pytest.raises(ValueError, match="fatal"):
        async with open_worker(runner):
            runner.start_worker("a", Makes(fails_on_cancel(OSError("stopping"))))
            await runner.worker("a")
            runner.stop_worker("a")
            await wait_all_tasks_blocked()
            runner.start_worker("b", Makes(fails(ValueError("fatal"))))
            await trio.sleep_forever()

    assert asked == []


# -- stopping --------------------------------------------------------------------------------------


async def test_killed_without_grace_it_waits_for_nobody(autojump_clock: MockClock) -> None:
    runner = make(stop_timeout=100)
    async with open_worker(runner):
        runner.start_worker("a", Makes(grace=50))
        await runner.worker("a")
        runner.kill(grace=0)
        await runner.wait()

    assert trio.current_time() == 0


async def test_a_worker_that_takes_its_time_within_the_grace_is_not_called_stuck(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_worker(make(stop_timeout=100)) as runner:
        runner.start_worker("a", Makes(grace=50))
        await runner.worker("a")

    assert trio.current_time() == 50
    assert not caplog.records


async def test_cancelled_from_outside_it_refuses_at_once(autojump_clock: MockClock) -> None:
    async def ends_slowly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    runner = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        runner.start_worker("a", Makes(ends_slowly))
        await runner.worker("a")
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            assert runner.names() == ("a",)
            with pytest.raises(Dying, match='"runner" is dying'):
                runner.start_worker("b", Makes())


async def test_asking_for_a_worker_is_a_checkpoint_also_if_it_runs() -> None:
    async with open_worker(make()) as runner:
        runner.start_worker("a", Makes())
        await runner.worker("a")
        with assert_checkpoints():
            await runner.worker("a")


async def test_stop_and_remove_is_a_checkpoint_also_before_run() -> None:
    runner = make()
    runner.start_worker("a", Makes())
    with assert_checkpoints():
        await runner.stop_and_remove("a")

    assert runner.names() == ()


async def test_what_changes_a_runner_is_protected_against_keyboard_interrupt() -> None:
    with protection_noted() as noted:
        async with open_worker(make()) as runner:
            runner.start_worker("a", Makes())
            runner.start_worker("b", Makes(fails(OSError())))
            await wait_all_tasks_blocked()
            runner.stop_worker("a")
            await wait_all_tasks_blocked()
            runner.kill()

    changing = ("kill", "start_worker", "stop_worker", "_remove", "_judge")
    assert unprotected(noted, *(f"Runner.{name}" for name in changing), "Named.kill") == []


class Unaskable(Mute):
    """Its kill() raises; it ends cleanly when it is cancelled."""

    def __init__(self, error: BaseException, after: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.after = after

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await self.killed.wait()
        if self.after is not None:
            raise self.after

    def kill(self, reason: BaseException | None = None) -> None:
        self.killed.set()
        raise self.error


async def test_a_kill_that_fails_is_raised_also_if_the_worker_ends_cleanly() -> None:
    error = OSError("kill")
    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", lambda: Unaskable(error))
        await runner.worker("a")
        with pytest.raises(OSError, match="kill") as caught:
            await runner.stop_and_remove("a")

    assert caught.value is error


async def test_a_kill_and_a_worker_that_fail_are_both_raised_in_its_name() -> None:
    kill, end = OSError("kill"), ValueError("end")
    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", lambda: Unaskable(kill, end))
        await runner.worker("a")
        with pytest.raises(ExceptionGroup) as caught:
            await runner.stop_and_remove("a")

    assert caught.value.message == "a failed while stopping, and so did its kill()"
    assert caught.value.exceptions == (end, kill)


async def test_who_cannot_be_asked_is_cancelled_at_once(autojump_clock: MockClock) -> None:
    class Sleeps(Unaskable):
        async def run(
            self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
        ) -> None:
            task_status.started()
            await trio.sleep_forever()

    runner = make(stop_timeout=100)
    async with open_worker(runner):
        runner.start_worker("a", lambda: Sleeps(OSError("kill")))
        await runner.worker("a")
        with pytest.raises(OSError, match="kill"):
            await runner.stop_and_remove("a")
        assert trio.current_time() == 0


async def test_those_who_wait_for_a_stopping_worker_are_refused_when_the_runner_dies(
    autojump_clock: MockClock,
) -> None:
    runner, refused_at = make(stop_timeout=100), list[float]()

    async def waits() -> None:
        with pytest.raises(Dying):
            await runner.worker("a")
        refused_at.append(trio.current_time())

    async with trio.open_nursery() as nursery, open_worker(runner):
        runner.start_worker("a", Makes(grace=50))
        await runner.worker("a")
        runner.stop_worker("a")
        nursery.start_soon(waits)
        await wait_all_tasks_blocked()
        runner.kill()

    assert refused_at == [0]
    assert trio.current_time() == 50


async def test_an_error_is_logged_when_the_last_who_waited_for_it_gave_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails_late() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        raise OSError("late")

    runner = make()
    async with open_worker(runner):
        runner.start_worker("a", Makes(fails_late))
        await runner.worker("a")
        with trio.move_on_after(1):
            await runner.stop_and_remove("a")
        await trio.sleep(5)

    assert [record.getMessage() for record in caplog.records] == [
        '"runner" runner: "a" failed while it was stopping: OSError: late'
    ]


async def test_a_start_that_fails_has_not_the_health_of_the_run_before(
    autojump_clock: MockClock,
) -> None:
    made: list[Job] = []

    def start() -> Job:
        if made:
            raise OSError
        made.append(Job(fails(OSError())))
        return made[0]

    runner = make(restart=RestartPolicy(jitter=0, error_delay=10, reset_after=5))
    async with open_worker(runner):
        runner.start_worker("a", start)
        await trio.sleep(11)
        assert runner.report().workers[0].failures == 2


# -- one name --------------------------------------------------------------------------------------


def one_name() -> Named:
    def real_part(error: BaseException) -> BaseException | None:
        return None if isinstance(error, trio.Cancelled) else error

    def judge(named: Named, error: BaseException) -> float | None:
        return None

    def remove(named: Named) -> None:
        named.become(WorkerState.GONE)

    def unheard(named: Named, error: BaseException) -> None:
        raise AssertionError("nobody waits")

    return Named(
        "a",
        Makes(),
        stop_timeout=1,
        real_part=real_part,
        judge=judge,
        unheard=unheard,
        remove=remove,
    )


async def test_a_name_can_be_used_before_its_worker_can() -> None:
    named = one_name()
    async with trio.open_nursery() as nursery:
        await nursery.start(named.run)
        assert named.worker is None or named.state is WorkerState.RUNNING
        named.kill()


async def test_the_cancellation_of_a_name_from_outside_passes() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await one_name().run()

    assert scope.cancelled_caught


async def test_stopping_a_name_is_protected_against_keyboard_interrupt_by_whomever() -> None:
    with protection_noted() as noted:
        async with open_worker(make()) as runner:
            runner.start_worker("a", Makes())
            await runner.worker("a")
            with suppress(NotFound):
                await runner.stop_and_remove("a")

    assert unprotected(noted, "Named.kill") == []


# Trio takes the tasks of a step in either order, so one time says nothing.
@pytest.mark.parametrize("_", range(12))
async def test_an_error_that_its_caller_is_cancelled_too_early_to_raise_is_logged(
    _: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make(stop_timeout=10)
    async with open_worker(runner):
        runner.start_worker("a", lambda: Job(fails_on_cancel(OSError("clean-up")), grace=math.inf))
        await runner.worker("a")
        with trio.move_on_after(10):  # and in the same step the worker is cancelled
            await runner.stop_and_remove("a")
        await wait_all_tasks_blocked()

    assert (
        len([text for _, text, _ in shown(caplog) if "failed while it was stopping" in text]) == 1
    )


@pytest.mark.parametrize("_", range(12))
async def test_an_error_that_one_of_two_callers_raises_is_not_logged(
    _: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make(stop_timeout=10)

    async def cancelled() -> None:
        with trio.move_on_after(10):
            await runner.stop_and_remove("a")

    async with open_worker(runner), trio.open_nursery() as nursery:
        runner.start_worker("a", lambda: Job(fails_on_cancel(OSError("clean-up")), grace=math.inf))
        await runner.worker("a")
        nursery.start_soon(cancelled)
        with pytest.raises(OSError, match="clean-up"):
            await runner.stop_and_remove("a")

    assert shown(caplog) == []


@pytest.mark.parametrize("_", range(12))
@pytest.mark.parametrize("max_restarts", [None, 0])
async def test_what_fails_while_it_is_cancelled_with_its_runner_is_not_started_again(
    _: int, max_restarts: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make(restart=RestartPolicy(jitter=0, max_restarts=max_restarts))
    runner.start_worker("a", lambda: Job(fails_on_cancel(OSError("clean-up"))))
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        await runner.worker("a")
        nursery.cancel_scope.cancel()

    [(_level, text, _error)] = shown(caplog)
    assert "failed while it was stopping" in text
