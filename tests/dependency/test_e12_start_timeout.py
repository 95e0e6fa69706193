"""E12 and E13: starts that hang, and shutdowns that go wrong."""

import contextlib
import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import StartTimeout
from trioworker.dependency import EngineConfig, RetryAfter

from .harness import (
    Body,
    Life,
    Program,
    failing,
    failing_when_stopped,
    leave_softly,
    linger,
    serve,
    starting_in,
    stopping_in,
    when_told,
)


async def connect_to_nowhere(life: Life) -> None:
    await trio.sleep_forever()


def last_error(program: Program, name: str) -> str:
    error = program.engine.report().manifolds[name].history[-1].error
    assert error is not None
    return error


# -- E12 ----


async def test_e12_a_start_that_takes_too_long_is_an_error_that_says_where_it_was(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", start_timeout=5, body=connect_to_nowhere)
    async with program.running(settle=False):
        await trio.sleep(5.5)
        assert program.states == {"db": "delayed"}
        error = last_error(program, "db")
        assert error.startswith("StartTimeout")
        assert "connect_to_nowhere" in error
        assert '"db"' in error
        assert "5 s" in error


async def test_e12_a_start_in_time_is_left_alone_for_ever(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", start_timeout=5, body=starting_in(4.9))
    async with program.running():
        assert program.live_timers == 0
        await trio.sleep(1000)
        assert (db.starts, db.state) == (1, "started")


async def test_e12_started_at_the_last_moment_is_either_in_time_or_too_late_and_never_both(
    autojump_clock: MockClock,
) -> None:
    for _ in range(20):
        program = Program()
        db = program.install("db", start_timeout=5, body=starting_in(5))
        api = program.install("api", "db")
        async with program.running(settle=False) as engine:
            await trio.sleep(5.5)
            if db.state == "started":
                assert api.state == "started"
                assert engine.report().manifolds["db"].history == ()
            else:
                assert db.state == "delayed"
                assert api.starts == 0
                assert last_error(program, "db").startswith("StartTimeout")


@pytest.mark.parametrize("limit", [None, math.inf])
async def test_e12_without_a_timeout_a_start_may_hang_for_ever(
    limit: float | None, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("db", start_timeout=limit, body=when_told)
    async with program.running(settle=False) as engine:
        await trio.sleep(80_000)
        assert program.states == {"db": "starting"}
        assert "started()" in str(engine.explain("db"))


async def test_e12_a_late_start_is_tried_again_with_backoff(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", start_timeout=5, body=connect_to_nowhere)
    async with program.running(settle=False):
        await trio.sleep(5 + 1 + 5 + 1.5 + 2.25)  # timeout, delay, timeout, a longer delay
        assert db.starts == 3
        db.body = serve
        await program.settle()
        assert db.state == "started"


async def test_e12_a_start_that_swallows_its_cancellation_and_returns_is_late_all_the_same(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def swallow(life: Life) -> None:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep_forever()

    program.install("db", start_timeout=5, body=swallow)
    async with program.running(settle=False):
        await trio.sleep(5.5)
        assert program.states == {"db": "delayed"}
        error = last_error(program, "db")
        assert error.startswith("StartTimeout")
        assert "swallow" in error


async def test_e12_a_start_that_swallows_its_cancellation_and_says_started_is_late(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def swallow(life: Life) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            life.ready()
        await life.obey()

    program.install("db", start_timeout=5, body=swallow)
    api = program.install("api", "db")
    async with program.running(settle=False):
        await trio.sleep(5.5)
        assert program.states == {"db": "delayed", "api": "waiting"}
        assert last_error(program, "db").startswith("StartTimeout")
        assert api.starts == 0


async def test_e12_a_start_that_shields_itself_becomes_stuck_and_its_next_run_waits(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def deaf(life: Life) -> None:
        with trio.CancelScope(shield=True):
            await life.double.let_go.wait()
        await trio.lowlevel.checkpoint()

    db = program.install("db", start_timeout=5, stop_timeout=7, body=deaf)
    async with program.running(settle=False) as engine:
        await trio.sleep(11)
        assert db.state == "stopping"
        assert engine.report().manifolds["db"].stuck is None
        await trio.sleep(2)
        stuck = engine.report().manifolds["db"].stuck
        assert stuck is not None
        assert any("deaf" in frame for frame in stuck)
        assert db.starts == 1
        db.body = serve
        db.let_go.set()
        await wait_all_tasks_blocked()
        assert db.state == "delayed"
        error = last_error(program, "db")
        assert error.startswith("StartTimeout")
        assert "deaf" in error
        await program.settle()
        assert (db.starts, db.state) == (2, "started")


async def test_e12_a_real_error_from_cleaning_up_a_late_start_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def rude(life: Life) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("while cleaning up")

    program.install("db", start_timeout=5, body=rude)
    async with program.running(settle=False) as engine:
        await trio.sleep(5.5)
        end = engine.report().manifolds["db"].history[-1]
        assert end.error is not None
        assert "while cleaning up" in end.error
        assert end.cause is not None
        assert "not ready after 5 s" in end.cause


async def test_e12_a_timeout_is_seen_by_filter_and_can_be_fatal(
    autojump_clock: MockClock,
) -> None:
    program = Program(EngineConfig(is_fatal=lambda exc: isinstance(exc, StartTimeout)))
    seen: list[Exception] = []

    def translate(exc: Exception) -> Exception:
        seen.append(exc)
        return RetryAfter(100) if len(seen) == 1 else exc

    program.install("db", start_timeout=5, body=connect_to_nowhere, filter=translate)
    with pytest.raises(StartTimeout, match="connect_to_nowhere"):
        async with program.running(settle=False):
            await trio.sleep(50)
            assert program.states == {"db": "delayed"}
            await trio.sleep_forever()
    assert [type(exc) for exc in seen] == [StartTimeout, StartTimeout]
    assert trio.current_time() == pytest.approx(110)


async def test_e12_a_stop_during_the_start_ends_the_timeout(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", start_timeout=5, body=when_told)
    async with program.running(settle=False) as engine:
        engine.hold("db")
        await trio.sleep(100)
        report = engine.report().manifolds["db"]
        assert report.state == "held"
        assert [end.kind for end in report.history] == ["stopped"]
        assert program.live_timers == 0


async def test_e12_a_start_that_fails_in_time_leaves_no_timer() -> None:
    program = Program()
    program.install("db", start_timeout=5, body=failing(OSError("no")))
    async with program.running(settle=False) as engine:
        engine.hold("db")
        assert program.live_timers == 0


async def test_e12_hanging_inside_a_nursery_of_its_own_names_the_users_code(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", start_timeout=5, body=when_told)
    async with program.running(settle=False):
        await trio.sleep(5.5)
        error = last_error(program, "db")
        assert "harness.py" in error
        assert "/trio/" not in error


# -- E13 ----


async def test_e13_errors_while_stopping_are_recorded_for_each() -> None:
    program = Program()
    names = ["a", "b", "c", "d"]
    for i, name in enumerate(names):
        body = failing_when_stopped(OSError(f"cleanup of {name}"))
        program.install(name, *names[max(i - 1, 0) : i], body=body)
    async with program.running():
        pass
    assert program.ends == ["d", "c", "b", "a"]
    for name in names:
        assert last_error(program, name) == f"OSError: cleanup of {name}"
    assert set(program.states.values()) == {"stopped"}


async def test_e13_fatal_errors_while_stopping_are_ranked_and_none_is_lost() -> None:
    def worse(a: BaseException, b: BaseException) -> BaseException:
        return max(a, b, key=str)

    program = Program(
        EngineConfig(is_fatal=lambda exc: isinstance(exc, OSError), worst_error=worse)
    )
    errors = {name: OSError(f"cleanup of {name}") for name in ("a", "b", "c")}
    for name, error in errors.items():
        program.install(name, body=failing_when_stopped(error))
    with pytest.raises(OSError, match="cleanup of c") as caught:
        async with program.running():
            pass
    assert caught.value is errors["c"]
    notes = " ".join(caught.value.__notes__)
    assert "cleanup of a" in notes
    assert "cleanup of b" in notes
    suppressed = program.engine.report().tomb.suppressed
    assert sorted(suppressed) == ["OSError: cleanup of a", "OSError: cleanup of b"]


async def test_e13_the_reason_of_the_kill_is_kept_beside_what_goes_wrong_afterwards() -> None:
    program = Program(EngineConfig(is_fatal=lambda exc: isinstance(exc, OSError)))
    program.install("a", body=failing_when_stopped(OSError("cleanup")))
    reason = ValueError("why")
    with pytest.raises(ValueError, match="why") as caught:
        async with program.running() as engine:
            engine.kill(reason)
            await trio.sleep_forever()
    assert caught.value is reason
    assert any("cleanup" in note for note in reason.__notes__)


@pytest.mark.parametrize(
    "body",
    [
        serve,
        when_told,
        leave_softly,
        stopping_in(5),
        stopping_in(500),
        failing(*[OSError("no")] * 99),
        failing(*[RetryAfter(1000)] * 99),
        failing_when_stopped(OSError("cleanup")),
        failing_when_stopped(RetryAfter(1000)),
        connect_to_nowhere,
        starting_in(100),
    ],
)
async def test_e13_shutdown_completes_whatever_the_workers_do(
    body: Body, autojump_clock: MockClock
) -> None:
    program = Program()
    for i in range(3):
        program.install(f"m{i}", body=body)
        program.install(f"m{i}{i}", f"m{i}", body=body)
    program.install("waiting", "nobody")
    async with program.running(settle=False) as engine:
        await trio.sleep(3)
        engine.kill()
        await engine.wait()
    assert set(program.states.values()) == {"stopped"}
    assert program.live_timers == 0


async def test_e13_nothing_starts_while_the_engine_is_stopping(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a", body=failing(OSError("no")))
    program.install("api", "a")
    program.install("slow", body=stopping_in(100), stop_timeout=None)
    async with program.running(settle=False) as engine:
        await wait_all_tasks_blocked()
        program.forget()
        engine.kill()
        await trio.sleep(50)
        assert program.starts == []
        engine.restart("a")
        engine.release("api")
        engine.hold("slow")
        engine.uninstall("slow")
        await engine.wait()
    assert program.starts == []
    assert program.states["slow"] == "stopped"


async def test_e13_an_error_of_one_while_stopping_does_not_hurry_the_others(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", body=failing_when_stopped(OSError("a")))
    program.install("b", grace=10)
    async with program.running():
        pass
    assert trio.current_time() == pytest.approx(10)
    assert program.doubles["b"].life.cancelled is not None


async def test_e13_shutdown_is_complete_only_after_the_last_clean_up() -> None:
    program = Program()
    slow = program.install("slow", body=linger, stop_timeout=None)
    async with program.running() as engine:
        engine.kill()
        await wait_all_tasks_blocked()
        assert engine.state == "dying"
        slow.let_go.set()
        await engine.wait()
        assert not slow.is_alive
