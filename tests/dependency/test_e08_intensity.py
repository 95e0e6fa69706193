"""E8: how many restarts are too many, which count, and what comes of it."""

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, RestartPolicy
from trioworker.dependency import Bounce, EngineConfig, Missing, RetryAfter

from .harness import Life, Program, failing, serve

THREE_IN_TEN = RestartPolicy(
    error_delay=1.0, factor=1.0, bounce_delay=1.0, max_restarts=3, period=10.0
)


async def always(life: Life) -> None:
    raise OSError(f"error {life.number}")


def limited(**config: object) -> Program:
    return Program(EngineConfig(restart=THREE_IN_TEN, **config))  # type: ignore[arg-type]


async def test_e8_by_default_there_is_no_limit(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(max_delay=1.0)))
    db = program.install("db", body=always)
    async with program.running(settle=False):
        await trio.sleep(1000.5)
        assert db.starts == 1001
        assert db.state == "delayed"


async def test_e8_one_restart_more_than_allowed_makes_it_failed(autojump_clock: MockClock) -> None:
    program = limited()
    db = program.install("db", body=always)
    async with program.running() as engine:
        await engine.wait_settled()
        assert db.state == "failed"
        assert db.starts == 4
        assert trio.current_time() == 3
        report = engine.report().manifolds["db"]
        assert report.why == "OSError: error 4"
        assert report.retry_in is None
        assert report.starts == report.ends == 4


async def test_e8_as_many_as_allowed_are_allowed(autojump_clock: MockClock) -> None:
    program = limited()
    db = program.install("db", body=failing(*(OSError() for _ in range(3))))
    async with program.running() as engine:
        await engine.wait_settled()
        assert db.state == "started"


async def test_e8_a_limit_of_none_at_all_fails_at_the_first_error() -> None:
    program = Program(EngineConfig(restart=RestartPolicy(max_restarts=0)))
    db = program.install("db", body=always)
    async with program.running():
        assert db.state == "failed"
        assert db.starts == 1


async def test_e8_bounces_count_and_errors_and_bounces_count_together(
    autojump_clock: MockClock,
) -> None:
    program = limited()
    db = program.install("db", body=failing(OSError(), Bounce(), OSError(), Bounce("the last")))
    async with program.running() as engine:
        await engine.wait_settled()
        assert db.state == "failed"
        assert engine.report().manifolds["db"].why == "Bounce: the last"


@pytest.mark.parametrize("error", [RetryAfter(0.01), Dying("pool"), Missing("config")])
async def test_e8_other_verdicts_do_not_count(error: Exception, autojump_clock: MockClock) -> None:
    program = limited()
    db = program.install("db", body=failing(*(error for _ in range(30))), live=("config",))
    async with program.running(settle=False) as engine:
        for _ in range(30):
            if isinstance(error, Missing):
                engine.restart("db")
            await trio.sleep(1)
            assert db.state != "failed"


async def test_e8_restarts_that_the_engine_decided_do_not_count(autojump_clock: MockClock) -> None:
    program = limited()
    program.install("clock")
    db = program.install("db", "clock", optional=("cache",))
    program.install("cache")
    async with program.running() as engine:
        for name in ("clock", "db", "cache") * 5:
            engine.restart(name)
            await engine.wait_settled()
        engine.hold("db")
        await engine.wait_settled()
        engine.release("db")
        await engine.wait_settled()
        assert db.starts == 17
        assert db.state == "started"
        db.body = always
        db.life.fail(OSError())
        await engine.wait_state("db", "failed")
        assert db.starts == 17 + 3


async def test_e8_a_restart_leaves_the_window_after_its_period(autojump_clock: MockClock) -> None:
    """Every four seconds there are at most three in ten."""

    async def body(life: Life) -> None:
        life.ready()
        await trio.sleep(3)
        raise OSError

    program = limited()
    db = program.install("db", body=body)
    async with program.running() as engine:
        await trio.sleep(1001)
        assert db.starts == 251
        assert db.state == "started"
        db.body = always
        await engine.wait_state("db", "failed")


async def test_e8_health_does_not_empty_the_window(autojump_clock: MockClock) -> None:
    """Two brakes: delay is forgotten with health, intensity with time."""
    program = Program(
        EngineConfig(restart=RestartPolicy(reset_after=1.0, max_restarts=2, period=1000.0))
    )

    async def body(life: Life) -> None:
        life.ready()
        await trio.sleep(50)
        raise OSError

    db = program.install("db", body=body)
    async with program.running() as engine:
        await engine.wait_state("db", "failed")
        assert db.starts == 3
        assert engine.report().manifolds["db"].failures == 1


async def test_e8_dependents_of_a_failed_one_wait_and_are_explained() -> None:
    program = Program(EngineConfig(restart=RestartPolicy(max_restarts=0)))
    program.install("db", body=always)
    program.install("api", "db")
    async with program.running() as engine:
        assert program.states == {"db": "failed", "api": "waiting"}
        assert str(engine.explain("api")) == (
            "api waits for db; db was restarted too often and failed after OSError: error 1"
        )


async def test_e8_a_failed_one_is_not_revived_by_its_inputs(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(max_restarts=0)))
    program.install("clock")
    db = program.install("db", "clock", body=always, live=("config",))
    async with program.running() as engine:
        engine.restart("clock")
        program.install("config")
        await engine.wait_settled()
        await trio.sleep(1000)
        assert db.state == "failed"
        assert db.starts == 1


async def test_e8_restart_tries_again_with_a_fresh_window(autojump_clock: MockClock) -> None:
    program = limited()
    db = program.install("db", body=always)
    async with program.running() as engine:
        await engine.wait_settled()
        engine.restart("db")
        await engine.wait_settled()
        assert db.state == "failed"
        assert db.starts == 8
        db.body = serve
        engine.restart("db")
        await engine.wait_settled()
        assert db.state == "started"


async def test_e8_failing_is_logged_once_and_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = limited()
    program.install("db", body=always)
    async with program.running() as engine:
        await engine.wait_settled()
    last = [r for r in caplog.records if "error 4" in r.message]
    assert [r.levelno for r in last] == [logging.ERROR]
    assert "was restarted too often: it stays failed" in last[0].message


async def test_e8_on_failed_fatal_stops_the_engine_with_that_error(
    autojump_clock: MockClock,
) -> None:
    program = limited(on_failed="fatal")
    program.install("clock")
    db = program.install("db", "clock", body=always)
    with pytest.raises(OSError, match="error 4"):
        async with program.running(settle=False):
            await trio.sleep_forever()
    assert program.ends[-1] == "clock"
    assert db.starts == 4
    assert program.states == {"clock": "stopped", "db": "stopped"}


async def test_e8_on_failed_fatal_does_not_concern_others(autojump_clock: MockClock) -> None:
    program = limited(on_failed="fatal")
    program.install("db", body=failing(OSError(), OSError(), OSError()))
    async with program.running() as engine:
        await engine.wait_settled()
        assert program.states == {"db": "started"}


async def test_e8_a_manifolds_own_limit_replaces_the_engines(autojump_clock: MockClock) -> None:
    program = Program()
    strict = program.install("strict", body=always, restart=RestartPolicy(max_restarts=1))
    lax = program.install("lax", body=always)
    async with program.running(settle=False):
        await trio.sleep(60)
        await wait_all_tasks_blocked()
        assert strict.state == "failed"
        assert lax.state == "delayed"


@pytest.mark.parametrize("when", ["held", "uninstalled"])
async def test_e8_an_error_in_a_wanted_end_neither_counts_nor_fails(
    when: str, autojump_clock: MockClock
) -> None:
    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            raise OSError

    program = Program(EngineConfig(restart=RestartPolicy(max_restarts=0)))
    db = program.install("db", body=body)
    async with program.running() as engine:
        if when == "held":
            engine.hold("db")
        else:
            engine.uninstall("db")
        await engine.wait_settled()
        assert db.state == ("held" if when == "held" else "absent")
