"""Runner: named workers, restarted by policy. Each test has the number of its rule (lifetimes)."""

import functools
import gc
import logging
import math
import random
import traceback
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker._errors import AlreadyExists, Dying, InternalError, LifetimeError, NotFound
from trioworker._named import NEXT, WorkerState
from trioworker._restart import RestartPolicy
from trioworker._runner import Runner
from trioworker._runner_config import RunnerConfig
from trioworker._tomb import Tomb
from trioworker._worker import Worker, open_worker, stop

from .runner_workers import (
    Job,
    Makes,
    fails,
    fails_on_cancel,
    finishes,
    ignores_everything,
)

PLAIN = RestartPolicy(jitter=0.0)


def never(error: BaseException) -> bool:
    return False


def always(error: BaseException) -> bool:
    return True


def is_os_error(error: BaseException) -> bool:
    return isinstance(error, OSError)


def is_value_error(error: BaseException) -> bool:
    return isinstance(error, ValueError)


def neither(a: Exception, b: Exception) -> Any:
    return None


def make(**fields: Any) -> Runner:
    """A runner that restarts after every error, without jitter."""
    defaults: dict[str, Any] = {"is_fatal": never, "restart": PLAIN}
    return Runner(RunnerConfig(**{**defaults, **fields}))


@asynccontextmanager
async def running(**fields: Any) -> AsyncGenerator[Runner, None]:
    async with open_worker(make(**fields)) as runner:
        yield runner


def state_of(runner: Runner, name: str) -> str:
    return {w.name: w.state for w in runner.report().workers}.get(name, "unknown")


class Caught:
    """Runs async functions in a nursery, and keeps what they raise under the name of each."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.ends: dict[str, object] = {}

    def call(self, key: str, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        self.nursery.start_soon(self._run, key, fn, *args)

    async def _run(self, key: str, fn: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            self.ends[key] = await fn(*args)
        except Exception as exc:  # noqa: BLE001 - the tests compare it
            self.ends[key] = exc


# -- config ----------------------------------------------------------------------------------------


def test_the_documented_defaults() -> None:
    config = RunnerConfig()
    a, b = ValueError(), ValueError()

    assert config.name == "runner"
    assert config.is_fatal(a)
    assert config.should_restart(a)
    assert config.more_important(a, b) is a
    assert config.restart == RestartPolicy()
    assert config.stop_timeout == 10.0


async def maybe(error: Exception) -> bool:
    return True


@pytest.mark.parametrize(
    "field, value, error, message",
    [
        ("name", "", ValueError, "RunnerConfig(name=...) must not be empty"),
        ("name", 3, TypeError, "RunnerConfig(name=...) must be a string, not 3"),
        *(
            (field, value, TypeError, f"RunnerConfig({field}=...) must be a plain function, not ")
            for field in ("is_fatal", "should_restart", "more_important")
            for value in (None, True, maybe)
        ),
        ("restart", None, TypeError, "RunnerConfig(restart=...) must be a RestartPolicy, not None"),
        ("stop_timeout", -1, ValueError, "RunnerConfig(stop_timeout=...) must be at least 0"),
        ("stop_timeout", math.nan, ValueError, "RunnerConfig(stop_timeout=...) must be at least 0"),
        ("stop_timeout", None, TypeError, "RunnerConfig(stop_timeout=...) must be a number"),
    ],
)
def test_a_broken_config_is_refused_by_field(
    field: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        RunnerConfig(**{field: value})

    assert str(caught.value).startswith(message)


def test_a_config_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RunnerConfig().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("config", ["jobs", RunnerConfig, 3])
def test_a_runner_takes_a_config(config: Any) -> None:
    with pytest.raises(TypeError, match=r"Runner\(\) takes a RunnerConfig, not"):
        Runner(config)


def test_a_runner_is_a_worker_and_says_how_it_is() -> None:
    runner = Runner()

    assert isinstance(runner, Worker)
    assert runner.name == "runner"
    assert repr(runner) == "<Runner 'runner' alive, 0 workers>"


# -- R1 --------------------------------------------------------------------------------------------


async def test_r1_a_worker_runs_from_the_next_step_on() -> None:
    start = Makes()
    async with running() as runner:
        runner.start_worker("a", start)
        assert runner.names() == ("a",)
        assert not start.jobs

        await wait_all_tasks_blocked()
        assert state_of(runner, "a") == "running"

    assert start.jobs[0].tomb.is_dead


async def test_r1_start_may_be_async() -> None:
    async def start() -> Worker:
        await trio.lowlevel.checkpoint()
        return Job(trio.sleep_forever)

    async with running() as runner:
        runner.start_worker("a", start)

        assert isinstance(await runner.worker("a"), Job)


def test_r1_before_run_it_is_recorded_also_outside_trio() -> None:
    runner = make()
    start = Makes(finishes)
    runner.start_worker("a", start)
    assert state_of(runner, "a") == "waiting"

    async def main() -> None:
        async with open_worker(runner):
            await wait_all_tasks_blocked()

    trio.run(main)

    assert len(start.jobs) == 1


async def test_r1_a_known_name_is_refused_and_changes_nothing() -> None:
    first, second = Makes(), Makes()
    async with running() as runner:
        runner.start_worker("a", first)
        with pytest.raises(AlreadyExists, match=r'there is a worker "a" already \(waiting\)'):
            runner.start_worker("a", second)
        await wait_all_tasks_blocked()

    assert (len(first.jobs), len(second.jobs)) == (1, 0)


async def test_r1_a_name_that_is_stopping_is_still_taken(autojump_clock: MockClock) -> None:
    async with running() as runner:
        runner.start_worker("a", Makes(grace=5))
        await runner.worker("a")
        runner.stop_worker("a")
        with pytest.raises(AlreadyExists, match=r"\(stopping\)"):
            runner.start_worker("a", Makes())

        await trio.sleep(6)
        runner.start_worker("a", Makes())
        await runner.worker("a")


async def test_r1_a_delayed_name_is_still_taken(autojump_clock: MockClock) -> None:
    async with running() as runner:
        runner.start_worker("a", Makes(fails(OSError())))
        await trio.sleep(0.5)
        with pytest.raises(AlreadyExists, match=r"\(delayed\)"):
            runner.start_worker("a", Makes())


async def test_r1_a_dying_or_dead_runner_refuses(autojump_clock: MockClock) -> None:
    runner = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await wait_all_tasks_blocked()
        runner.start_worker("slow", Makes(grace=5))
        await runner.worker("slow")
        runner.kill()
        with pytest.raises(Dying, match='"runner" is dying'):
            runner.start_worker("a", Makes())
    with pytest.raises(Dying, match='"runner" is dead'):
        runner.start_worker("a", Makes())

    assert runner.names() == ()


@pytest.mark.parametrize(
    "start, message",
    [
        (lambda: None, "start_worker() takes a function that makes a worker, not None"),
        (lambda: Job(finishes), "each time it is called, not the worker <"),
        (finishes, "not the coroutine finishes(...); write start_worker(name, lambda:"),
    ],
)
def test_r1_what_is_no_start_function_is_refused_at_once(
    start: Callable[[], Any], message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        Runner().start_worker("a", start())

    assert message in str(caught.value)


def test_r1_a_name_is_a_string() -> None:
    with pytest.raises(TypeError, match="a worker's name is a string, not 3"):
        Runner().start_worker(3, Makes())  # type: ignore[arg-type]


async def test_r1_killed_before_run_nothing_is_ever_started() -> None:
    runner = make()
    start = Makes()
    runner.start_worker("a", start)
    async with trio.open_nursery() as nursery:
        caught = Caught(nursery)
        caught.call("worker", runner.worker, "a")
        await wait_all_tasks_blocked()
        runner.kill()
        assert runner.names() == ()
        await wait_all_tasks_blocked()
        assert isinstance(caught.ends["worker"], Dying)
        await runner.run()

    assert not start.jobs


async def test_r1_it_runs_once() -> None:
    runner = make()
    runner.kill()
    await runner.run()

    with pytest.raises(LifetimeError):
        await runner.run()


# -- R2 --------------------------------------------------------------------------------------------


async def test_r2_a_worker_that_finishes_is_removed() -> None:
    start = Makes(finishes)
    async with running() as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()

        assert runner.names() == ()
        assert len(start.jobs) == 1


async def test_r2_failures_restart_after_growing_delays(autojump_clock: MockClock) -> None:
    start = Makes(fails(OSError()))
    async with running() as runner:
        runner.start_worker("a", start)
        await trio.sleep(8)

    assert start.times == pytest.approx([0, 1, 2.5, 4.75])


async def test_r2_a_time_of_health_resets_the_delay(autojump_clock: MockClock) -> None:
    start = Makes(fails(OSError()), fails(OSError()), fails(OSError(), after=60), finishes)
    async with running() as runner:
        runner.start_worker("a", start)
        await trio.sleep(100)

    assert start.times == pytest.approx([0, 1, 2.5, 63.5])


async def test_r2_health_begins_with_started(autojump_clock: MockClock) -> None:
    times: list[float] = []

    async def slow_to_fail() -> Worker:
        times.append(trio.current_time())
        await trio.sleep(100)
        raise OSError

    async with running() as runner:
        runner.start_worker("a", slow_to_fail)
        await trio.sleep(210)

    assert times == pytest.approx([0, 101, 202.5])


async def test_r2_the_delay_has_jitter(autojump_clock: MockClock) -> None:
    start = Makes(fails(OSError()))
    config = RunnerConfig(is_fatal=never)
    async with open_worker(Runner(config, random=lambda: 1.0)) as runner:
        runner.start_worker("a", start)
        await trio.sleep(2)

    assert start.times == pytest.approx([0, 1.1])


async def test_r2_delays_of_names_are_independent(autojump_clock: MockClock) -> None:
    start, other = Makes(fails(OSError())), Makes(finishes, fails(OSError()), finishes)
    other.bodies = (fails(OSError()), finishes)
    async with running() as runner:
        runner.start_worker("a", start)
        await trio.sleep(3)
        runner.start_worker("b", other)
        await trio.sleep(2)

    assert other.times == pytest.approx([3, 4])


async def test_r2_what_should_not_restart_is_removed(caplog: pytest.LogCaptureFixture) -> None:
    start = Makes(fails(OSError("no")))
    async with running(should_restart=never) as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()
        assert runner.names() == ()

    assert len(start.jobs) == 1
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        '"runner" runner: "a" failed, and is not started again: OSError: no'
    )


async def test_r2_one_leaf_that_should_not_restart_is_enough() -> None:
    start = Makes(fails(ExceptionGroup("both", [OSError(), ValueError()])))
    async with running(should_restart=is_os_error) as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()

        assert runner.names() == ()


async def test_r2_a_start_that_raises_is_a_failed_worker(autojump_clock: MockClock) -> None:
    times: list[float] = []

    def start() -> Worker:
        times.append(trio.current_time())
        raise OSError

    async with running() as runner:
        runner.start_worker("a", start)
        await trio.sleep(2)

    assert times == pytest.approx([0, 1])


@pytest.mark.parametrize("returned", [None, 3, Job, Tomb()])
async def test_r2_a_start_that_returns_no_worker_is_a_clear_error(returned: Any) -> None:
    with pytest.raises(TypeError, match=r'the start function of "a" returned .* no worker'):
        async with open_worker(Runner()) as runner:
            runner.start_worker("a", lambda: returned)
            await trio.sleep_forever()


async def test_r2_a_start_that_returns_the_same_worker_again_is_found_out(
    autojump_clock: MockClock,
) -> None:
    job = Job(fails(OSError()))

    async with running() as runner:
        runner.start_worker("a", lambda: job)
        await trio.sleep(1.5)

        assert "entered a second time" in str(runner.report().workers[0].last_error)


async def test_r2_a_restart_is_logged_once_as_a_warning(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(name="jobs") as runner:
        runner.start_worker("a", Makes(fails(OSError("lost")), finishes))
        await trio.sleep(2)

    [record] = caplog.records
    assert (record.name, record.levelno) == ("trioworker.runner", logging.WARNING)
    assert record.getMessage() == (
        '"jobs" runner: "a" failed, and starts again in 1 s: OSError: lost'
    )


async def test_r2_a_refusal_is_retried_without_counting_or_alarm(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    start = Makes(fails(Dying("its database stops")))
    async with running(restart=RestartPolicy(jitter=0, max_restarts=1)) as runner:
        runner.start_worker("a", start)
        await trio.sleep(3.5)
        assert runner.report().workers[0].failures == 0

    assert start.times == pytest.approx([0, 1, 2, 3])
    assert {record.levelno for record in caplog.records} == {logging.INFO}


async def test_r2_one_restart_too_many_is_fatal(autojump_clock: MockClock) -> None:
    error = OSError("again")
    start = Makes(fails(error))
    policy = RestartPolicy(jitter=0, error_delay=0, max_restarts=3, period=10)

    with pytest.raises(OSError, match="again") as caught:
        async with running(restart=policy) as runner:
            runner.start_worker("a", start)
            await trio.sleep_forever()

    assert caught.value is error
    assert error.__notes__ == [
        '"runner" runner: "a" had to be restarted more than 3 times within 10 s'
    ]
    assert len(start.jobs) == 4


# -- R3 --------------------------------------------------------------------------------------------


async def test_r3_stop_asks_the_worker() -> None:
    start = Makes()
    async with running() as runner:
        runner.start_worker("a", start)
        await runner.worker("a")
        runner.stop_worker("a")
        runner.stop_worker("a")
        assert state_of(runner, "a") == "stopping"
        await wait_all_tasks_blocked()
        assert runner.names() == ()

    assert start.jobs[0].kills == 1


async def test_r3_an_unknown_name_is_ignored() -> None:
    make().stop_worker("a")
    async with running() as runner:
        runner.stop_worker("a")


async def test_r3_stop_during_a_delay_cancels_it_and_never_starts_again(
    autojump_clock: MockClock,
) -> None:
    start = Makes(fails(OSError()))
    async with running() as runner:
        runner.start_worker("a", start)
        await trio.sleep(0.5)
        assert state_of(runner, "a") == "delayed"
        runner.stop_worker("a")
        await wait_all_tasks_blocked()
        assert trio.current_time() == 0.5
        assert runner.names() == ()
        await trio.sleep(10)

    assert len(start.jobs) == 1


@pytest.mark.parametrize("seed", range(10))
async def test_r3_stop_in_the_step_in_which_the_delay_ends_never_starts_again(
    autojump_clock: MockClock, seed: int
) -> None:
    start = Makes(fails(OSError()))
    async with running() as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()

        async def stop_at_1() -> None:
            await trio.sleep_until(1)
            if seed % 2:
                await trio.lowlevel.checkpoint()
            runner.stop_worker("a")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_at_1)
        await trio.sleep(10)

        assert runner.names() == ()
        assert len(start.jobs) <= 2
        assert all(job.tomb.is_dead for job in start.jobs)


async def test_r3_stop_before_the_first_step_never_starts() -> None:
    start = Makes()
    async with running() as runner:
        runner.start_worker("a", start)
        runner.stop_worker("a")
        await wait_all_tasks_blocked()
        assert runner.names() == ()

    assert not start.jobs


async def test_r3_stop_before_run_frees_the_name() -> None:
    runner = make()
    start = Makes()
    runner.start_worker("a", start)
    runner.stop_worker("a")
    runner.start_worker("a", start)
    await runner.stop_and_remove("a")

    assert runner.names() == ()


async def test_r3_stop_cancels_an_async_start() -> None:
    story: list[str] = []

    async def start() -> Worker:
        try:
            await trio.sleep_forever()
        finally:
            story.append("cancelled")
        raise AssertionError

    async with running() as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()
        assert state_of(runner, "a") == "starting"
        runner.stop_worker("a")
        await wait_all_tasks_blocked()
        assert runner.names() == ()

    assert story == ["cancelled"]


async def test_r3_stop_from_within_start_kills_and_runs_what_it_returns() -> None:
    job = Job(trio.sleep_forever)

    async with running() as runner:

        def start() -> Worker:
            runner.stop_worker("a")
            return job

        runner.start_worker("a", start)
        await wait_all_tasks_blocked()
        assert runner.names() == ()

    assert job.kills == 1
    await job.wait()


async def test_r3_a_worker_stops_by_itself_within_stop_timeout(autojump_clock: MockClock) -> None:
    story: list[str] = []

    class Polite(Job):
        async def slow(self) -> None:
            await self.tomb.wait_dying()
            await trio.sleep(4)
            story.append("done")

    async with running(stop_timeout=5) as runner:
        polite = Polite(trio.sleep_forever, grace=math.inf)
        polite.body = polite.slow
        runner.start_worker("a", lambda: polite)
        await runner.worker("a")
        await runner.stop_and_remove("a")

    assert story == ["done"]
    assert trio.current_time() == 4


async def test_r3_a_worker_that_takes_longer_is_cancelled(autojump_clock: MockClock) -> None:
    async with running(stop_timeout=5) as runner:
        runner.start_worker("a", Makes(grace=math.inf))
        await runner.worker("a")
        await runner.stop_and_remove("a")

        assert trio.current_time() == 5


async def test_r3_a_worker_that_does_not_stop_even_then_is_named_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(stop_timeout=5) as runner:
        runner.start_worker("a", Makes(ignores_everything))
        await runner.worker("a")
        runner.stop_worker("a")
        await trio.sleep(14.9)
        assert not caplog.records
        assert not runner.report().workers[0].stuck
        await trio.sleep(0.2)
        assert runner.report().workers[0].stuck

    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert '"a" does not stop' in record.getMessage()
    assert trio.current_time() == 1000


async def test_r3_a_worker_whose_kill_raises_is_cancelled_and_nothing_is_lost() -> None:
    class Rude(Job):
        def kill(self, reason: BaseException | None = None) -> None:
            raise ValueError("not me")

    async with running() as runner:
        runner.start_worker("a", lambda: Rude(trio.sleep_forever))
        await runner.worker("a")
        with pytest.raises(ValueError, match="not me"):
            await runner.stop_and_remove("a")

        runner.start_worker("b", lambda: Rude(fails_on_cancel(OSError("nor me"))))
        await runner.worker("b")
        with pytest.raises(ExceptionGroup, match="so did its kill") as caught:
            await runner.stop_and_remove("b")

    assert [type(exc) for exc in caught.value.exceptions] == [OSError, ValueError]


async def test_r3_an_error_while_stopping_that_nobody_waits_for_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as runner:
        runner.start_worker("a", Makes(fails_on_cancel(OSError("late"))))
        await runner.worker("a")
        runner.stop_worker("a")
        await wait_all_tasks_blocked()

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        '"runner" runner: "a" failed while it was stopping: OSError: late'
    )


async def test_r3_a_refusal_while_stopping_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as runner:
        runner.start_worker("a", Makes(fails_on_cancel(Dying("its database stops"))))
        await runner.worker("a")
        runner.stop_worker("a")
        await wait_all_tasks_blocked()

    [record] = caplog.records
    assert (record.levelno, record.exc_info) == (logging.INFO, None)
    assert '"a" was refused, and is removed' in record.getMessage()


# -- R4 --------------------------------------------------------------------------------------------


async def test_r4_stop_and_remove_returns_when_it_is_gone() -> None:
    start = Makes()
    async with running() as runner:
        runner.start_worker("a", start)
        await runner.worker("a")
        await runner.stop_and_remove("a")

        assert runner.names() == ()
        assert start.jobs[0].tomb.is_dead


async def test_r4_any_number_of_callers_get_the_same_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = OSError("late")
    start = Makes(fails_on_cancel(error))
    async with running() as runner, trio.open_nursery() as nursery:
        runner.start_worker("a", start)
        await runner.worker("a")
        caught = Caught(nursery)
        for key in "123":
            caught.call(key, runner.stop_and_remove, "a")
        await wait_all_tasks_blocked()

        assert caught.ends == {"1": error, "2": error, "3": error}
        assert runner.names() == ()

    assert len(start.jobs) == 1
    assert not caplog.records


async def test_r4_a_hundred_callers_leave_the_traceback_no_longer() -> None:
    error = OSError("late")
    lengths: list[int] = []

    async def remove() -> None:
        try:
            await runner.stop_and_remove("a")
        except OSError:
            lengths.append(len(traceback.extract_tb(error.__traceback__)))

    async with running() as runner:
        runner.start_worker("a", Makes(fails_on_cancel(error)))
        await runner.worker("a")
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(remove)

    assert len(lengths) == 100
    assert len(set(lengths)) == 1


async def test_r4_a_second_caller_may_come_while_it_stops(autojump_clock: MockClock) -> None:
    async with running() as runner, trio.open_nursery() as nursery:
        runner.start_worker("a", Makes(grace=5))
        await runner.worker("a")
        caught = Caught(nursery)
        runner.stop_worker("a")
        caught.call("1", runner.stop_and_remove, "a")
        await trio.sleep(2)
        caught.call("2", runner.stop_and_remove, "a")
        await trio.sleep(4)

        assert caught.ends == {"1": None, "2": None}


async def test_r4_an_error_dealt_with_before_is_not_raised_again(
    autojump_clock: MockClock,
) -> None:
    async with running() as runner:
        runner.start_worker("a", Makes(fails(OSError())))
        await trio.sleep(0.5)
        await runner.stop_and_remove("a")

        assert runner.names() == ()


async def test_r4_an_unknown_name_is_not_found() -> None:
    async with running(name="jobs") as runner:
        with pytest.raises(NotFound, match='"jobs" runner: there is no worker "a"'):
            await runner.stop_and_remove("a")


async def test_r4_a_fatal_error_while_stopping_reaches_caller_and_owner() -> None:
    error = OSError("late")

    with pytest.raises(OSError, match="late") as owner:
        async with open_worker(Runner()) as runner:
            runner.start_worker("a", Makes(fails_on_cancel(error)))
            await runner.worker("a")
            with pytest.raises(OSError, match="late") as caller:
                await runner.stop_and_remove("a")
            assert caller.value is error

    assert owner.value is error


async def test_r4_a_worker_that_removes_itself_does_not_deadlock() -> None:
    async with running() as runner:

        async def suicide() -> None:
            await runner.stop_and_remove("a")

        runner.start_worker("a", Makes(suicide))
        await wait_all_tasks_blocked()

        assert runner.names() == ()


async def test_r4_callers_return_when_the_runner_dies(autojump_clock: MockClock) -> None:
    runner = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        caught = Caught(nursery)
        runner.start_worker("a", Makes(grace=5))
        await runner.worker("a")
        caught.call("1", runner.stop_and_remove, "a")
        await wait_all_tasks_blocked()
        runner.kill()
        caught.call("2", runner.stop_and_remove, "a")

    assert caught.ends == {"1": None, "2": None}


# -- R5 --------------------------------------------------------------------------------------------


async def test_r5_a_fatal_error_kills_the_others_and_is_raised_to_all() -> None:
    error = ValueError("fatal")
    others = Makes()
    runner = Runner()
    go = trio.Event()

    async def fail() -> None:
        await go.wait()
        raise error

    with pytest.raises(ValueError, match="fatal") as caught:
        async with open_worker(runner):
            for name in "abc":
                runner.start_worker(name, others)
            runner.start_worker("bad", Makes(fail))
            await runner.worker("bad")
            go.set()
            await trio.sleep_forever()

    assert caught.value is error
    assert all(job.tomb.is_dead for job in others.jobs)
    assert runner.names() == ()
    with pytest.raises(ValueError, match="fatal"):
        await runner.wait()


async def two_fatal_errors(**fields: Any) -> BaseException:
    """Let `first` fail, then `second` while the runner is dying; return what the runner raises."""
    runner = make(is_fatal=always, **fields)
    try:
        async with open_worker(runner):
            runner.start_worker("second", Makes(fails_on_cancel(KeyError("second"))))
            await runner.worker("second")
            runner.start_worker("first", Makes(fails(ValueError("first"))))
            await trio.sleep_forever()
    except Exception as exc:  # noqa: BLE001 - which one is the question
        return exc
    raise AssertionError


async def test_r5_the_first_is_raised_by_default_and_the_other_noted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = await two_fatal_errors()

    assert repr(error) == "ValueError('first')"
    assert error.__notes__ == ["also: KeyError: 'second'"]
    [record] = caplog.records
    assert record.getMessage() == "\"runner\" runner: also fatal: KeyError: 'second'"


async def test_r5_more_important_chooses() -> None:
    asked: list[tuple[str, str]] = []

    def last(a: Exception, b: Exception) -> Exception:
        asked.append((repr(a), repr(b)))
        return b

    error = await two_fatal_errors(more_important=last)

    assert repr(error) == "KeyError('second')"
    assert error.__notes__ == ["also: ValueError: first"]
    assert asked == [("ValueError('first')", "KeyError('second')")]


async def test_r5_more_important_raising_loses_nothing() -> None:
    def broken(a: Exception, b: Exception) -> Exception:
        raise RuntimeError("cannot compare")

    error = await two_fatal_errors(more_important=broken)

    assert repr(error) == "ValueError('first')"
    assert error.__notes__ == ["also: RuntimeError: cannot compare", "also: KeyError: 'second'"]


async def test_r5_more_important_must_choose_one_of_its_arguments() -> None:
    error = await two_fatal_errors(more_important=neither)

    assert repr(error) == "ValueError('first')"
    assert "more_important=...) must return one of its two arguments" in error.__notes__[0]
    assert error.__notes__[1] == "also: KeyError: 'second'"


async def test_r5_more_important_raising_its_argument_counts_it_once() -> None:
    def broken(a: Exception, b: Exception) -> Exception:
        raise b

    error = await two_fatal_errors(more_important=broken)

    assert repr(error) == "ValueError('first')"
    assert error.__notes__ == ["also: KeyError: 'second'"]


async def test_r5_what_is_no_exception_outranks_what_is_without_asking() -> None:
    def asked(a: Exception, b: Exception) -> Exception:
        raise AssertionError

    with pytest.raises(NoException) as caught:
        async with open_worker(Runner(RunnerConfig(more_important=asked))) as runner:
            for error in (NoException("1"), NoException("2")):
                runner.start_worker(str(error), Makes(fails_on_cancel(error)))
            await wait_all_tasks_blocked()
            runner.start_worker("first", Makes(fails(ValueError("first"))))
            await trio.sleep_forever()

    assert "also: ValueError: first" in caught.value.__notes__
    assert len(caught.value.__notes__) == 2


@pytest.mark.parametrize("field", ["is_fatal", "should_restart"])
async def test_r5_a_question_that_raises_is_fatal_and_loses_nothing(field: str) -> None:
    def broken(exc: Exception) -> bool:
        raise RuntimeError("cannot say")

    with pytest.raises(RuntimeError, match="cannot say") as caught:
        async with running(**{field: broken}) as runner:
            runner.start_worker("a", Makes(fails(OSError("lost"))))
            await trio.sleep_forever()

    assert repr(caught.value.__context__) == "OSError('lost')"
    assert caught.value.__notes__ == ["also: OSError: lost"]


async def test_r5_is_fatal_is_asked_for_each_leaf() -> None:
    group = ExceptionGroup("both", [OSError(), ExceptionGroup("in", [ValueError()])])

    with pytest.raises(ExceptionGroup) as caught:
        async with running(is_fatal=is_value_error) as runner:
            runner.start_worker("a", Makes(fails(group)))
            await trio.sleep_forever()

    assert caught.value is group


class NoException(BaseException):
    pass


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), NoException()])
async def test_r5_what_is_no_exception_is_fatal_without_asking(error: BaseException) -> None:
    def asked(exc: Exception) -> bool:
        raise AssertionError

    other = Makes()
    runner = make(is_fatal=asked)
    with pytest.raises(type(error)) as caught:
        async with open_worker(runner):
            runner.start_worker("other", other)
            await runner.worker("other")
            runner.start_worker("a", Makes(fails(error)))
            await trio.sleep_forever()

    assert caught.value is error
    assert other.jobs[0].tomb.is_dead


async def test_r5_a_reason_given_after_a_fatal_error_comes_second(
    autojump_clock: MockClock,
) -> None:
    runner = Runner()
    with pytest.raises(ValueError, match="first") as caught:
        async with open_worker(runner):
            runner.start_worker("slow", Makes(grace=5))
            await runner.worker("slow")
            runner.start_worker("a", Makes(fails(ValueError("first"))))
            await trio.sleep(1)
            tomb = runner.report().tomb
            assert (tomb.reason, tomb.suppressed) == ("ValueError: first", ())
            runner.kill(OSError("second"))

    assert caught.value.__notes__ == ["also: OSError: second"]


async def test_r5_a_reason_given_first_stays_first(caplog: pytest.LogCaptureFixture) -> None:
    runner = Runner()
    with pytest.raises(OSError, match="first") as caught:
        async with open_worker(runner):
            runner.start_worker("a", Makes(fails_on_cancel(ValueError("second"))))
            await runner.worker("a")
            runner.kill(OSError("first"))

    assert caught.value.__notes__ == ["also: ValueError: second"]
    assert [r.getMessage() for r in caplog.records] == [
        '"runner" runner: also fatal: ValueError: second'
    ]


async def test_r5_the_fatal_error_given_back_as_a_reason_counts_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    error = ValueError("only")
    runner = Runner()
    with pytest.raises(ValueError, match="only") as caught:
        async with open_worker(runner):
            runner.start_worker("slow", Makes(grace=5))
            await runner.worker("slow")
            runner.start_worker("a", Makes(fails(error)))
            await trio.sleep(1)
            runner.kill(error)

    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert not caplog.records


async def test_r5_an_error_that_ends_several_workers_counts_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ValueError("shared")
    with pytest.raises(ValueError, match="shared") as caught:
        async with open_worker(Runner()) as runner:
            runner.start_worker("late", Makes(fails_on_cancel(error)))
            await runner.worker("late")
            runner.start_worker("early", Makes(fails(error)))
            await trio.sleep_forever()

    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert not caplog.records


async def test_r5_the_more_important_one_is_the_reason_at_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def last(a: Exception, b: Exception) -> Exception:
        return b

    with pytest.raises(KeyError):
        async with open_worker(Runner(RunnerConfig(more_important=last))) as runner:
            runner.start_worker("slow", Makes(grace=5))
            runner.start_worker("second", Makes(fails_on_cancel(KeyError("second"))))
            await runner.worker("second")
            runner.start_worker("first", Makes(fails(ValueError("first"))))
            await trio.sleep(1)
            tomb = runner.report().tomb
            assert (tomb.reason, tomb.suppressed) == ("KeyError: 'second'", ("ValueError: first",))

    assert [record.getMessage() for record in caplog.records] == [
        '"runner" runner: also fatal: ValueError: first'
    ]


async def test_r5_an_error_that_is_not_fatal_while_dying_is_logged_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as runner:
        runner.start_worker("a", Makes(fails_on_cancel(OSError("late"))))
        await runner.worker("a")

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_r5_dying_cancels_delays_and_starts(autojump_clock: MockClock) -> None:
    async def hangs() -> Worker:
        await trio.sleep_forever()
        raise AssertionError

    start = Makes(fails(OSError()))
    async with running() as runner:
        runner.start_worker("delayed", start)
        runner.start_worker("hangs", hangs)
        await trio.sleep(0.5)

    assert trio.current_time() == 0.5
    assert len(start.jobs) == 1


async def test_r5_a_dying_runner_cancels_after_stop_timeout_and_names_who_stays(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make(stop_timeout=5)
    slow, rock = Makes(grace=math.inf), Makes(ignores_everything)
    async with open_worker(runner):
        runner.start_worker("slow", slow)
        runner.start_worker("rock", rock)
        await wait_all_tasks_blocked()
        runner.kill()
        await trio.sleep(4.9)
        assert runner.names() == ("slow", "rock")
        await trio.sleep(0.2)
        assert runner.names() == ("rock",)
        await trio.sleep(10)
        assert runner.report().workers[0].stuck

    assert trio.current_time() == 1000
    assert [record.getMessage() for record in caplog.records] == [
        '"runner" runner: "rock" does not stop: it was asked, then cancelled, and still runs'
    ]


async def test_r5_cancelled_from_outside_all_end_and_the_cancellation_passes() -> None:
    start = Makes(grace=math.inf)
    runner = make(stop_timeout=math.inf)
    with trio.CancelScope() as scope:
        runner.start_worker("a", start)
        runner.start_worker("b", start)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            await runner.worker("b")
            scope.cancel()

    assert scope.cancelled_caught
    assert all(job.tomb.is_dead for job in start.jobs)
    await runner.wait()
    assert runner.names() == ()


async def test_r5_cancelled_from_outside_a_fatal_error_wins() -> None:
    runner = Runner()
    with trio.CancelScope() as scope, pytest.raises(OSError, match="late"):
        runner.start_worker("a", Makes(fails_on_cancel(OSError("late"))))
        async with open_worker(runner):
            await runner.worker("a")
            scope.cancel()
            await trio.sleep_forever()


# -- R6 --------------------------------------------------------------------------------------------


async def test_r6_worker_waits_until_it_can_be_used() -> None:
    release = trio.Event()

    async def start() -> Worker:
        await release.wait()
        return Job(trio.sleep_forever)

    async with running() as runner, trio.open_nursery() as nursery:
        caught = Caught(nursery)
        runner.start_worker("a", start)
        caught.call("1", runner.worker, "a")
        await wait_all_tasks_blocked()
        assert not caught.ends
        release.set()
        await wait_all_tasks_blocked()

        assert isinstance(caught.ends["1"], Job)


async def test_r6_worker_waits_for_started_not_only_for_the_object() -> None:
    release = trio.Event()

    class Slow(Job):
        async def run(
            self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
        ) -> None:
            with self.tomb:
                await release.wait()
                task_status.started()
                await trio.sleep_forever()

    async with running() as runner, trio.open_nursery() as nursery:
        caught = Caught(nursery)
        runner.start_worker("a", lambda: Slow(trio.sleep_forever))
        caught.call("1", runner.worker, "a")
        await wait_all_tasks_blocked()
        assert (state_of(runner, "a"), caught.ends) == ("starting", {})
        release.set()
        await wait_all_tasks_blocked()

        assert isinstance(caught.ends["1"], Slow)


async def test_r6_worker_waits_through_failures(autojump_clock: MockClock) -> None:
    tries: list[None] = []

    def start() -> Worker:
        tries.append(None)
        if len(tries) < 3:
            raise OSError
        return Job(trio.sleep_forever)

    async with running() as runner:
        runner.start_worker("a", start)
        await runner.worker("a")

    assert trio.current_time() == 2.5


async def test_r6_an_unknown_name_is_not_found() -> None:
    async with running() as runner:
        with pytest.raises(NotFound, match='there is no worker "a"'):
            await runner.worker("a")


async def test_r6_a_name_removed_meanwhile_is_not_found(autojump_clock: MockClock) -> None:
    async with running() as runner, trio.open_nursery() as nursery:
        caught = Caught(nursery)
        runner.start_worker("a", Makes(fails(OSError())))
        await trio.sleep(0.5)
        caught.call("1", runner.worker, "a")
        await wait_all_tasks_blocked()
        runner.stop_worker("a")
        await wait_all_tasks_blocked()

        assert isinstance(caught.ends["1"], NotFound)


async def test_r6_a_name_taken_anew_is_not_the_one_that_was_asked_for(
    autojump_clock: MockClock,
) -> None:
    async with running() as runner, trio.open_nursery() as nursery:
        caught = Caught(nursery)
        runner.start_worker("a", Makes(grace=5))
        await runner.worker("a")
        runner.stop_worker("a")
        caught.call("1", runner.worker, "a")
        await runner.stop_and_remove("a")
        runner.start_worker("a", Makes())
        await wait_all_tasks_blocked()

        assert isinstance(caught.ends["1"], NotFound)


async def test_r6_a_dying_runner_refuses_those_who_wait_at_once(
    autojump_clock: MockClock,
) -> None:
    runner = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        caught = Caught(nursery)
        runner.start_worker("slow", Makes(grace=5))
        runner.start_worker("a", Makes(fails(OSError())))
        await trio.sleep(0.5)
        caught.call("1", runner.worker, "a")
        await wait_all_tasks_blocked()
        runner.kill()
        await wait_all_tasks_blocked()
        assert isinstance(caught.ends["1"], Dying)
        with pytest.raises(Dying):
            await runner.worker("slow")
        with pytest.raises(Dying):
            await runner.worker("unknown")
    with pytest.raises(Dying, match="is dead"):
        await runner.worker("a")


async def test_r6_a_refusal_names_the_fatal_error(autojump_clock: MockClock) -> None:
    runner = Runner(RunnerConfig(name="jobs"))
    with pytest.raises(OSError, match="disk"):
        async with open_worker(runner):
            runner.start_worker("slow", Makes(grace=5))
            await runner.worker("slow")
            runner.start_worker("a", Makes(fails(OSError("disk"))))
            await trio.sleep(1)
            with pytest.raises(Dying, match='"jobs" is dying because of OSError: disk'):
                await runner.worker("slow")


async def test_r6_those_who_wait_before_run_get_it_when_it_is_run() -> None:
    runner = make()
    runner.start_worker("a", Makes())
    async with trio.open_nursery() as nursery:
        caught = Caught(nursery)
        caught.call("1", runner.worker, "a")
        await wait_all_tasks_blocked()
        async with open_worker(runner):
            await wait_all_tasks_blocked()

            assert isinstance(caught.ends["1"], Job)


# -- R7 --------------------------------------------------------------------------------------------


async def test_r7_a_start_may_start_and_stop_others() -> None:
    async with running() as runner:

        async def start() -> Worker:
            runner.start_worker("inner", Makes())
            await runner.worker("inner")
            await runner.stop_and_remove("inner")
            runner.start_worker("inner", Makes())
            return Job(trio.sleep_forever)

        runner.start_worker("outer", start)
        await runner.worker("outer")
        await runner.worker("inner")

        assert runner.names() == ("outer", "inner")


async def test_r7_a_hanging_start_does_not_hold_up_others() -> None:
    async def hangs() -> Worker:
        await trio.sleep_forever()
        raise AssertionError

    async with running() as runner:
        runner.start_worker("hangs", hangs)
        runner.start_worker("a", Makes())
        await wait_all_tasks_blocked()

        assert state_of(runner, "a") == "running"
        assert state_of(runner, "hangs") == "starting"


async def test_r7_starting_others_while_the_runner_dies_is_refused_not_hung() -> None:
    refused: list[str] = []
    job = Job(trio.sleep_forever)
    async with running() as runner:

        async def start() -> Worker:
            with trio.CancelScope(shield=True):
                await release.wait()
            try:
                runner.start_worker("inner", Makes())
            except Dying as exc:
                refused.append(str(exc))
            return job

        release = trio.Event()
        runner.start_worker("outer", start)
        await wait_all_tasks_blocked()
        runner.kill()
        release.set()

    assert refused == ['"runner" is dying']
    assert job.tomb.is_dead


async def test_r7_our_own_refusal_is_no_error_while_dying(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_worker(Runner()) as runner:

        async def late_call() -> None:
            try:
                await trio.sleep_forever()
            finally:
                runner.start_worker("b", Makes())

        runner.start_worker("a", Makes(late_call))
        await runner.worker("a")

    assert not caplog.records


async def test_r7_a_kill_may_stop_another_worker_while_the_runner_dies() -> None:
    class Rude(Job):
        def kill(self, reason: BaseException | None = None) -> None:
            runner.stop_worker("b")
            super().kill(reason)

    other = Makes()
    async with running() as runner:
        runner.start_worker("a", lambda: Rude(trio.sleep_forever))
        runner.start_worker("b", other)
        await runner.worker("b")

    assert other.jobs[0].kills == 1


async def test_r7_starting_while_a_third_fails_fatally() -> None:
    runner = Runner()

    async def fail() -> None:
        runner.start_worker("b", Makes())
        raise OSError("third")

    with pytest.raises(OSError, match="third"):
        async with open_worker(runner):
            runner.start_worker("a", Makes(fail))
            await trio.sleep_forever()

    assert runner.names() == ()


async def test_r7_the_questions_may_call_the_runner() -> None:
    start = Makes(fails(OSError()))
    runner: Runner

    def stop_it(exc: Exception) -> bool:
        runner.stop_worker("a")
        runner.start_worker("b", Makes())
        return True

    async with running(should_restart=stop_it) as runner:
        runner.start_worker("a", start)
        await wait_all_tasks_blocked()

        assert runner.names() == ("b",)

    assert len(start.jobs) == 1


# -- R8 --------------------------------------------------------------------------------------------


async def test_r8_report_tells_all_about_every_worker(autojump_clock: MockClock) -> None:
    class Tells(Job):
        def report(self) -> object:
            return {"items": 3}

    makes = Makes(fails(OSError("lost")), trio.sleep_forever)
    runner = make(name="jobs")
    async with open_worker(runner):
        runner.start_worker("tells", lambda: Tells(trio.sleep_forever))
        runner.start_worker("fails", makes)
        await trio.sleep(0.5)
        tells, failed = runner.report().workers
        assert (tells.name, tells.state, tells.started_at) == ("tells", "running", 0)
        assert (tells.restarts, tells.failures, tells.last_error) == (0, 0, None)
        assert (tells.worker, tells.next_start, tells.stuck) == ({"items": 3}, None, False)
        assert (failed.state, failed.started_at, failed.next_start) == ("delayed", None, 1)
        assert (failed.restarts, failed.failures, failed.worker) == (0, 1, None)
        assert failed.last_error == "OSError: lost"

        await trio.sleep(1)
        failed = runner.report().workers[1]
        assert (failed.state, failed.started_at, failed.next_start) == ("running", 1, None)
        assert (failed.restarts, failed.worker) == (1, "Job")
        assert runner.report().tomb.state == "alive"

    assert runner.report().tomb.state == "dead"
    assert runner.report().workers == ()


async def test_r8_a_report_that_raises_or_calls_the_runner_is_no_trouble() -> None:
    async with running() as runner:

        class Bad(Job):
            def report(self) -> object:
                runner.stop_worker("b")
                raise OSError

        runner.start_worker("a", lambda: Bad(trio.sleep_forever))
        runner.start_worker("b", Makes())
        await wait_all_tasks_blocked()

        assert str(runner.report().workers[0].worker).endswith("Bad: report() raised OSError")


def test_r8_a_runner_that_was_not_run_can_be_asked() -> None:
    runner = make()
    runner.start_worker("a", Makes())

    assert [(w.name, w.state) for w in runner.report().workers] == [("a", "waiting")]
    assert runner.names() == ("a",)


async def test_started_called_twice_is_the_workers_error() -> None:
    class Twice(Job):
        async def run(
            self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
        ) -> None:
            with self.tomb:
                task_status.started()
                task_status.started()

    with pytest.raises(RuntimeError, match=r"started\(\) was called twice"):
        async with open_worker(Runner()) as runner:
            runner.start_worker("a", lambda: Twice(finishes))
            await trio.sleep_forever()


async def test_a_late_started_of_an_earlier_run_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    statuses: list[trio.TaskStatus[Any]] = []

    class Never(Job):
        async def run(
            self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
        ) -> None:
            statuses.append(task_status)
            with self.tomb:
                await self.body()

    async with running() as runner:
        runner.start_worker("a", lambda: Never(fails(OSError())))
        await trio.sleep(0.5)
        statuses[0].started()

        assert state_of(runner, "a") == "delayed"


async def test_runners_nest() -> None:
    start = Makes()
    async with running(name="outer") as outer:
        inner = make(name="inner")
        outer.start_worker("inner", lambda: inner)
        await outer.worker("inner")
        inner.start_worker("a", start)
        await inner.worker("a")

    assert start.jobs[0].tomb.is_dead


async def test_many_short_workers_leave_nothing_behind() -> None:
    async with running() as runner:
        for number in range(1000):
            runner.start_worker(str(number), Makes(finishes))
        await wait_all_tasks_blocked()

        assert runner.report().workers == ()


async def test_restarts_leave_nothing_behind(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trioworker.runner")  # a record keeps its exc_info
    jobs: list[weakref.ref[Job]] = []

    def start() -> Worker:
        job = Job(fails(OSError()))
        jobs.append(weakref.ref(job))
        return job

    async with running(restart=RestartPolicy(jitter=0, factor=1)) as runner:
        runner.start_worker("a", start)
        await trio.sleep(100.5)
        gc.collect()

        assert len(jobs) == 101
        assert [job() for job in jobs if job() is not None] == []


# -- a storm ---------------------------------------------------------------------------------------


class Storm:
    """Random verbs against one runner; every start goes through `start`, which keeps count."""

    NAMES = "abcdef"

    def __init__(self, runner: Runner, seed: int) -> None:
        self.runner = runner
        self.random = random.Random(seed)
        self.live = dict.fromkeys(self.NAMES, 0)
        self.runs = 0
        self.callers = 0
        self.waiters = 0

    def start(self, name: str) -> Worker:
        choice = self.random.random()
        if choice < 0.1:
            raise OSError("start")
        return Job(functools.partial(self.body, name), grace=self.random.choice([0, 0, 1, 30]))

    async def slow_start(self, name: str) -> Worker:
        await trio.sleep(self.random.random())
        return self.start(name)

    async def body(self, name: str) -> None:
        self.runs += 1
        self.live[name] += 1
        assert self.live[name] == 1, f"{name} runs twice"
        try:
            await trio.sleep(self.random.choice([0, 0.5, 3, math.inf]))
            if self.random.random() < 0.7:
                raise ValueError("body")
        finally:
            self.live[name] -= 1
            if self.random.random() < 0.2:
                raise KeyError("cleanup")

    async def remove(self, name: str) -> None:
        self.callers += 1
        try:
            await self.runner.stop_and_remove(name)
        except (ValueError, OSError, KeyError, NotFound):
            pass
        finally:
            self.callers -= 1

    async def want(self, name: str) -> None:
        self.waiters += 1
        try:
            await self.runner.worker(name)
        except (NotFound, Dying):
            pass
        finally:
            self.waiters -= 1

    async def blow(self, nursery: trio.Nursery) -> None:
        for _ in range(300):
            name = self.random.choice(self.NAMES)
            verb = self.random.choice(["start", "start", "slow", "stop", "remove", "want", "sleep"])
            try:
                if verb == "start":
                    self.runner.start_worker(name, functools.partial(self.start, name))
                elif verb == "slow":
                    self.runner.start_worker(name, functools.partial(self.slow_start, name))
                elif verb == "stop":
                    self.runner.stop_worker(name)
                elif verb == "remove":
                    nursery.start_soon(self.remove, name)
                elif verb == "want":
                    nursery.start_soon(self.want, name)
                else:
                    await trio.sleep(self.random.choice([0, 0.1, 1, 2.5]))
            except AlreadyExists:
                pass


@pytest.mark.parametrize("seed", range(40))
async def test_a_storm_of_verbs_and_failures(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    runner = make(stop_timeout=2)
    storm = Storm(runner, seed)
    async with trio.open_nursery() as nursery:
        async with open_worker(runner):
            await storm.blow(nursery)
            if seed % 2:
                await trio.sleep(storm.random.random() * 5)
        assert set(storm.live.values()) == {0}
        assert runner.names() == ()

    assert storm.runs > 0
    assert "runs twice" not in caplog.text
    assert "does not stop" not in caplog.text
    assert (storm.callers, storm.waiters) == (0, 0)
    await runner.wait()


def test_every_state_leads_to_gone() -> None:
    assert set(NEXT) == set(WorkerState)
    assert all(WorkerState.GONE in NEXT[s] for s in WorkerState if s is not WorkerState.GONE)
    assert not NEXT[WorkerState.GONE]


def test_a_state_that_does_not_follow_is_refused_and_changes_nothing() -> None:
    runner = make()
    runner.start_worker("a", Makes())
    with pytest.raises(InternalError, match='"a" cannot become delayed: it is waiting'):
        runner._named["a"].become(WorkerState.DELAYED)

    assert state_of(runner, "a") == "waiting"


async def test_stop_helper_works_on_a_runner() -> None:
    async with open_worker(make()) as runner:
        await stop(runner)
