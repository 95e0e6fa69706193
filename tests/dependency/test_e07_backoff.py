"""E7: how long a manifold waits before it is started again, and what ends the wait."""

import logging
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, RestartPolicy
from trioworker.dependency import (
    Bounce,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Missing,
    RetryAfter,
    Uninstall,
)

from .harness import Life, Program, failing, failing_when_stopped, serve

DOUBLING = RestartPolicy(error_delay=1.0, factor=2.0, max_delay=60.0, reset_after=100.0)


def program_with(policy: RestartPolicy = DOUBLING) -> Program:
    return Program(EngineConfig(restart=policy))


class Times:
    """A body that notes when it starts, and ends its runs as told: an error, or None to serve."""

    def __init__(self, *ends: BaseException | float | None) -> None:
        self.starts: list[float] = []
        self._ends = list(ends)

    async def __call__(self, life: Life) -> None:
        self.starts.append(trio.current_time())
        end = self._ends.pop(0) if self._ends else None
        if isinstance(end, float):  # healthy for that long, then an error
            life.ready()
            await trio.sleep(end)
            raise OSError("after a while")
        if isinstance(end, BaseException):
            raise end
        await serve(life)

    @property
    def waits(self) -> list[float]:
        return [round(b - a, 6) for a, b in zip(self.starts, self.starts[1:], strict=False)]


def errors(n: int) -> list[OSError]:
    return [OSError(f"error {i}") for i in range(n)]


# -- growth ----


async def test_e7_the_delay_grows_by_the_factor(autojump_clock: MockClock) -> None:
    times = Times(*errors(5))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1, 2, 4, 8, 16]


async def test_e7_the_delay_is_capped(autojump_clock: MockClock) -> None:
    times = Times(*errors(5))
    program = program_with(RestartPolicy(error_delay=1.0, factor=10.0, max_delay=50.0))
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1, 10, 50, 50, 50]


async def test_e7_the_default_delays_are_those_of_the_policy(autojump_clock: MockClock) -> None:
    times = Times(*errors(4))
    program = Program()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1, 1.5, 2.25, 3.375]


async def test_e7_a_manifolds_own_policy_replaces_the_engines(autojump_clock: MockClock) -> None:
    own, engines = Times(*errors(2)), Times(*errors(2))
    program = program_with()
    program.install("db", body=own, restart=RestartPolicy(error_delay=0.25, factor=1.0))
    program.install("api", body=engines)
    async with program.running() as engine:
        await engine.wait_settled()
        assert own.waits == [0.25, 0.25]
        assert engines.waits == [1, 2]


async def test_e7_the_hundredth_failure_overflows_nothing(autojump_clock: MockClock) -> None:
    times = Times(*errors(100))
    program = program_with(
        RestartPolicy(error_delay=1.0, factor=1e6, max_delay=math.inf, reset_after=math.inf)
    )
    program.install("db", body=times)
    async with program.running(settle=False) as engine:
        for _ in range(100):
            engine.restart("db")
            await wait_all_tasks_blocked()
        assert program.states == {"db": "started"}
        assert engine.report().manifolds["db"].failures == 100


async def test_e7_an_error_delay_of_zero_starts_again_at_once(autojump_clock: MockClock) -> None:
    times = Times(*errors(20))
    program = program_with(RestartPolicy(error_delay=0.0))
    program.install("db", body=times)
    async with program.running():
        assert times.waits == [0] * 20


@pytest.mark.parametrize("random, expected", [(0.0, 0.9), (0.5, 1.0), (0.75, 1.05)])
async def test_e7_jitter_comes_from_the_injected_random(
    random: float, expected: float, autojump_clock: MockClock
) -> None:
    times = Times(OSError())

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        times.starts.append(trio.current_time())
        if len(times.starts) == 1:
            raise OSError
        task_status.started()

    engine = Engine(random=lambda: random)
    engine.install("db", Manifold(start))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        assert times.waits == [expected]
        engine.kill()


async def test_e7_a_thousand_that_fail_together_come_back_apart(autojump_clock: MockClock) -> None:
    """The default random; 10 % up or down of one second."""
    starts: list[float] = []

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        starts.append(trio.current_time())
        if len(starts) <= 1000:
            raise OSError
        task_status.started()
        await trio.sleep_forever()

    engine = Engine()
    engine.install_all({str(i): Manifold(start) for i in range(1000)})
    logging.getLogger("trioworker.engine").setLevel(logging.CRITICAL)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_settled()
            engine.kill()
    finally:
        logging.getLogger("trioworker.engine").setLevel(logging.NOTSET)
    again = starts[1000:]
    assert min(again) >= 0.9
    assert max(again) <= 1.1
    assert len(set(again)) > 900
    assert max(again) - min(again) > 0.15


# -- reset ----


async def test_e7_n_is_reset_after_enough_health(autojump_clock: MockClock) -> None:
    times = Times(*errors(3), 100.0, *errors(1))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_state("db", "started")
        await trio.sleep(99.5)
        assert engine.report().manifolds["db"].failures == 3
        await engine.wait_state("db", "delayed")
        await engine.wait_settled()
        assert times.waits == [1, 2, 4, 100 + 1, 2]


async def test_e7_n_is_not_reset_after_too_little_health(autojump_clock: MockClock) -> None:
    times = Times(*errors(2), 99.0)
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_state("db", "started")
        await engine.wait_state("db", "delayed")
        await engine.wait_settled()
        assert times.waits == [1, 2, 99 + 4]


async def test_e7_health_begins_with_started_and_not_with_the_start(
    autojump_clock: MockClock,
) -> None:
    async def slow(life: Life) -> None:
        times.starts.append(trio.current_time())
        if len(times.starts) < 3:
            await trio.sleep(1000)
            raise OSError
        await serve(life)

    times = Times()
    program = program_with()
    program.install("db", body=slow)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1001, 1002]


@pytest.mark.parametrize("end", ["restart", "bounce", "input"])
async def test_e7_health_counts_also_of_a_run_that_no_error_ended(
    end: str, autojump_clock: MockClock
) -> None:
    times = Times(*errors(3), None, *errors(1))
    program = program_with()
    program.install("clock")
    db = program.install("db", "clock", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        await trio.sleep(100)
        if end == "restart":
            engine.restart("db")
        elif end == "bounce":
            db.life.fail(Bounce())
        else:
            engine.restart("clock")
        await engine.wait_state("db", "delayed")
        await engine.wait_settled()
        assert times.waits[-1] == 1
        assert engine.report().manifolds["db"].failures == 1


# -- what does not grow ----


async def test_e7_a_bounce_waits_without_growth(autojump_clock: MockClock) -> None:
    times = Times(*(Bounce() for _ in range(5)))
    program = program_with(RestartPolicy(bounce_delay=0.5))
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [0.5] * 5
        assert engine.report().manifolds["db"].failures == 0


async def test_e7_a_worker_that_always_bounces_does_not_spin(autojump_clock: MockClock) -> None:
    times = Times(*(Bounce() for _ in range(10_000)))
    program = program_with()
    program.install("db", body=times)
    async with program.running(settle=False):
        await trio.sleep(1.005)
        assert len(times.starts) == 101


async def test_e7_a_bounce_between_errors_leaves_n_alone(autojump_clock: MockClock) -> None:
    times = Times(*errors(2), Bounce(), *errors(1))
    program = program_with(DOUBLING)
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1, 2, 0.01, 4]


async def test_e7_retry_after_waits_as_long_as_it_says(autojump_clock: MockClock) -> None:
    times = Times(RetryAfter(7), RetryAfter(0), RetryAfter(300.5, "quota"), *errors(1))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [7, 0, 300.5, 1]


async def test_e7_retry_after_in_a_group_counts(autojump_clock: MockClock) -> None:
    times = Times(ExceptionGroup("two", [Bounce(), RetryAfter(7), RetryAfter(9)]))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [7]


async def test_e7_a_dying_gets_an_errors_delay_without_counting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trioworker.engine")
    dying = [Dying("the pool is dying") for _ in range(3)]
    times = Times(*dying, *errors(2), Dying("again"), *errors(1))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        assert times.waits == [1, 1, 1, 1, 2, 2, 4]
        assert engine.report().manifolds["db"].failures == 3
        assert [end.kind for end in engine.report().manifolds["db"].history[:3]] == ["dying"] * 3
    logged = [r for r in caplog.records if "the pool is dying" in r.message]
    assert [r.levelno for r in logged] == [logging.INFO] * 3
    assert all(r.exc_info is None for r in logged)


# -- what ends a delay ----


async def test_e7_an_inputs_change_ends_the_delay_without_resetting_n(
    autojump_clock: MockClock,
) -> None:
    times = Times(*errors(4))
    program = program_with()
    program.install("clock")
    program.install("db", "clock", body=times)
    async with program.running(settle=False) as engine:
        await trio.sleep(1.5)
        assert times.waits == [1]
        engine.restart("clock")
        await wait_all_tasks_blocked()
        assert times.starts == [0, 1, 1.5]
        assert engine.report().manifolds["db"].failures == 3
        await engine.wait_settled()
        assert times.waits == [1, 0.5, 4, 8]


@pytest.mark.parametrize("kind", ["optional", "live"])
async def test_e7_an_optional_or_live_input_that_comes_ends_the_delay_too(
    kind: str, autojump_clock: MockClock
) -> None:
    times = Times(*errors(1))
    program = program_with(RestartPolicy(error_delay=60.0))
    if kind == "optional":
        program.install("db", body=times, optional=("cache",))
    else:
        program.install("db", body=times, live=("cache",))
    async with program.running(settle=False) as engine:
        await trio.sleep(5)
        program.install("cache")
        await engine.wait_settled()
        assert times.waits == [5]


async def test_e7_an_inputs_going_ends_the_delay_by_turning_it_into_a_wait(
    autojump_clock: MockClock,
) -> None:
    program = program_with(RestartPolicy(error_delay=60.0))
    program.install("clock")
    program.install("db", "clock", body=failing(OSError()))
    async with program.running(settle=False) as engine:
        assert program.states["db"] == "delayed"
        engine.hold("clock")
        await wait_all_tasks_blocked()
        assert program.states["db"] == "waiting"
        engine.release("clock")
        await engine.wait_settled()
        assert program.states["db"] == "started"
        assert trio.current_time() == 0


@pytest.mark.parametrize(
    "verb, state", [("restart", "started"), ("hold", "held"), ("uninstall", "absent")]
)
async def test_e7_a_verb_ends_the_delay_at_once(
    verb: str, state: str, autojump_clock: MockClock
) -> None:
    program = program_with(RestartPolicy(error_delay=60.0))
    db = program.install("db", body=failing(OSError()))
    async with program.running(settle=False) as engine:
        assert db.state == "delayed"
        getattr(engine, verb)("db")
        await wait_all_tasks_blocked()
        assert db.state == state
        await trio.sleep(100)
        assert db.state == state
        assert db.starts == (2 if verb == "restart" else 1)


@pytest.mark.parametrize("hard", [True, False])
async def test_e7_shutdown_ends_the_delay_at_once(hard: object, autojump_clock: MockClock) -> None:
    program = program_with(RestartPolicy(error_delay=60.0))
    db = program.install("db", body=failing(OSError()))
    async with program.running(settle=False) as engine:
        engine.kill(grace=0 if hard else None)
    assert trio.current_time() == 0
    assert db.starts == 1
    assert db.state == "stopped"


# -- planned stops ----

STOPPING_RAISES: list[BaseException] = [
    OSError("while stopping"),
    Missing("while stopping"),
    Bounce("while stopping"),
    RetryAfter(60, "while stopping"),
    Dying("while stopping"),
    ExceptionGroup("while stopping", [OSError(), Uninstall()]),
]


@pytest.mark.parametrize("error", STOPPING_RAISES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("how", ["own", "input"])
async def test_e7_a_planned_stop_restarts_without_delay_whatever_was_raised(
    error: BaseException, how: str, autojump_clock: MockClock
) -> None:
    program = program_with(RestartPolicy(max_restarts=0))
    program.install("clock")
    db = program.install("db", "clock", body=failing_when_stopped(error))
    async with program.running() as engine:
        db.body = serve
        engine.restart("db" if how == "own" else "clock")
        await engine.wait_settled()
        report = engine.report().manifolds["db"]
        assert report.state == "started"
        assert trio.current_time() == 0
        assert report.failures == 0
        assert report.history[-1].error is not None, "recorded all the same"
        assert report.history[-1].cause is not None


@pytest.mark.parametrize("error", [Uninstall(), ExceptionGroup("g", [Uninstall(), Missing()])])
async def test_e7_only_uninstall_is_obeyed_by_a_planned_stop(error: BaseException) -> None:
    program = Program()
    db = program.install("db", body=failing_when_stopped(error))
    async with program.running() as engine:
        engine.restart("db")
        await engine.wait_settled()
        assert db.state == "absent"


async def test_e7_what_was_raised_in_a_planned_stop_is_judged_by_is_fatal() -> None:
    error = OSError("while stopping")
    program = Program(EngineConfig(is_fatal=lambda exc: exc is error))
    program.install("db", body=failing_when_stopped(error))
    with pytest.raises(OSError, match="while stopping") as caught:
        async with program.running() as engine:
            engine.restart("db")
            await trio.sleep_forever()
    assert caught.value is error


async def test_e7_a_planned_stop_does_not_shorten_the_next_delay(
    autojump_clock: MockClock,
) -> None:
    """Restarts by the engine neither count nor forgive."""
    times = Times(*errors(2), None, *errors(1))
    program = program_with()
    program.install("db", body=times)
    async with program.running() as engine:
        await engine.wait_settled()
        engine.restart("db")
        await engine.wait_state("db", "delayed")
        await engine.wait_settled()
        assert times.waits == [1, 2, 0, 4]


async def test_e7_an_error_of_a_start_that_an_inputs_end_cut_short_is_not_counted(
    autojump_clock: MockClock,
) -> None:
    async def body(life: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("connection cut")

    program = program_with()
    program.install("clock")
    db = program.install("db", "clock", body=body)
    async with program.running(settle=False) as engine:
        db.body = serve
        engine.restart("clock")
        await engine.wait_settled()
        assert engine.report().manifolds["db"].failures == 0
        assert trio.current_time() == 0


# -- without an error ----


@pytest.mark.parametrize("error", [Missing("no config"), None])
async def test_e7_missing_and_done_wait_without_a_delay(
    error: BaseException | None, autojump_clock: MockClock
) -> None:
    async def body(life: Life) -> None:
        if error is not None:
            raise error

    program = Program()
    db = program.install("db", body=body, live=("config",))
    async with program.running() as engine:
        await trio.sleep(1000)
        assert db.starts == 1
        db.body = serve
        program.install("config")
        await engine.wait_settled()
        assert db.state == "started"
        assert engine.report().manifolds["db"].failures == 0
