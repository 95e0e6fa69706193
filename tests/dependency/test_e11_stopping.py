"""E11: stopping one: ask, grace, cancel, stuck."""

import logging
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import EngineConfig, Manifold

from .harness import (
    Life,
    Program,
    leave_softly,
    linger,
    serve,
    stopping_in,
    when_told,
)

LOGGER = "trioworker.engine"


def stuck_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "stuck" in r.getMessage()]


# -- ask and grace ----


async def test_e11_one_that_leaves_when_asked_is_not_cancelled(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", grace=10, body=leave_softly)
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        assert program.record[-2:] == ["ask db", "end db"]
        assert db.life.cancelled is None
        assert trio.current_time() == 0


async def test_e11_ask_gets_the_started_value() -> None:
    asked: list[object] = []
    program = Program()
    program.install("db", value="the value", ask=asked.append)
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        assert asked == ["the value"]


async def test_e11_one_that_ignores_being_asked_is_cancelled_after_grace_and_told_why(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db", grace=10)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(9.9)
        assert program.ends == []
        await trio.sleep(0.2)
        assert not db.is_alive
        assert db.life.cancelled is not None
        assert db.life.cancelled.reason == "\"db\" is stopping: hold('db')"


async def test_e11_ask_without_grace_is_called_and_the_cancellation_follows_at_once() -> None:
    asked: list[object] = []
    program = Program()
    db = program.install("db", ask=asked.append)
    async with program.running() as engine:
        engine.hold("db")
        assert asked == ["db"]
        await program.settle()
        assert db.life.cancelled is not None


async def test_e11_endless_grace_leaves_it_to_the_worker(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", grace=math.inf)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(80_000)
        assert db.is_alive
        db.life.finish()
        await program.settle()
        assert db.state == "held"


async def test_e11_ask_comes_once_whatever_is_asked_for(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", grace=10)
    async with program.running() as engine:
        engine.restart("db")
        engine.restart("db")
        engine.hold("db")
        engine.kill()
        await engine.wait()
    assert program.happened("ask") == ["db"]
    assert trio.current_time() == pytest.approx(10)


async def test_e11_grace_of_each_begins_when_it_is_drained(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", grace=5)
    program.install("api", "db", grace=5)
    async with program.running():
        pass
    assert trio.current_time() == pytest.approx(10)
    assert [e for e in program.record if "ask" in e or "end" in e] == [
        "ask api",
        "end api",
        "ask db",
        "end db",
    ]


async def test_e11_is_stopping_is_true_from_ask_on() -> None:
    program = Program()
    seen: list[bool] = []
    db = program.install("db", ask=lambda value: seen.append(db.life.get.is_stopping))
    program.install("api", "db", body=linger)
    async with program.running() as engine:
        engine.hold("db")
        await wait_all_tasks_blocked()
        assert not db.life.get.is_stopping
        program.doubles["api"].let_go.set()
        await program.settle()
        assert seen == [True]


async def test_e11_a_run_that_is_not_ready_yet_is_cancelled_at_once_without_ask(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", grace=100, body=when_told)
    async with program.running(settle=False):
        pass
    assert program.record == ["start db", "end db"]
    assert trio.current_time() == 0


async def test_e11_started_after_being_asked_to_stop_is_accepted_and_ignored() -> None:
    program = Program()

    async def late(life: Life) -> None:
        try:
            await life.obey()
        finally:
            life.ready()

    program.install("db", body=late)
    program.install("api", "db")
    async with program.running(settle=False) as engine:
        engine.hold("db")
        await program.settle()
        assert program.record == ["start db", "ready db", "end db"]
        assert program.states == {"db": "held", "api": "waiting"}


@pytest.mark.parametrize("grace", [0.0, 10.0])
async def test_e11_ask_that_raises_is_recorded_and_the_run_cancelled_at_once(
    grace: float, autojump_clock: MockClock
) -> None:
    program = Program()

    def ask(value: object) -> None:
        raise OSError("cannot ask")

    db = program.install("db", ask=ask, grace=grace)
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        assert db.state == "held"
        assert trio.current_time() == 0
        error = engine.report().manifolds["db"].history[-1].error
        assert error is not None
        assert "cannot ask" in error


async def test_e11_ask_that_raises_for_good_ends_the_engine_in_order() -> None:
    program = Program()
    program.install("a")
    exit_ = SystemExit(5)

    def ask(value: object) -> None:
        raise exit_

    program.install("b", "a", ask=ask)
    with pytest.raises(SystemExit) as caught:
        async with program.running() as engine:
            engine.restart("b")
            await engine.wait()
    assert caught.value is exit_
    assert program.ends == ["b", "a"]


@pytest.mark.parametrize("verb", ["kill", "hard kill", "uninstall", "restart", "hold"])
async def test_e11_ask_may_call_any_verb(verb: str, autojump_clock: MockClock) -> None:
    program = Program()

    def ask(value: object) -> None:
        engine = program.engine
        if verb == "kill":
            engine.kill()
        elif verb == "hard kill":
            engine.kill(grace=0)
        elif verb == "uninstall":
            engine.uninstall("db")
        elif verb == "restart":
            engine.restart("db")
        else:
            engine.hold("api")

    program.install("db", ask=ask, grace=10)
    program.install("api", "db", ask=ask, grace=10)
    async with program.running() as engine:
        engine.hold("api")
        await trio.sleep(100)
        expected = {
            "kill": {"db": "stopped", "api": "stopped"},
            "hard kill": {"db": "stopped", "api": "stopped"},
            "uninstall": {"api": "held"},
            "restart": {"db": "started", "api": "held"},
            "hold": {"db": "started", "api": "held"},
        }
        assert program.states == expected[verb]


# -- kill with a grace ----


async def test_e11_kill_with_grace_0_makes_every_soft_phase_hard_at_once(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=100)
    program.install("b", "a", grace=100)
    program.install("c", "b", grace=100)
    async with program.running() as engine:
        engine.kill()
        await trio.sleep(5)
        assert program.ends == []
        engine.kill(grace=0)
        await engine.wait()
        assert trio.current_time() == pytest.approx(5)
    assert program.ends == ["c", "b", "a"]


async def test_e11_kill_with_a_small_grace_bounds_each_soft_phase(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=100)
    program.install("b", "a", grace=100)
    async with program.running() as engine:
        engine.kill()
        await trio.sleep(5)
        engine.kill(grace=2)
        await engine.wait()
        assert trio.current_time() == pytest.approx(9)  # 5 + 2 for b, 2 for a


async def test_e11_kill_never_lengthens_a_soft_phase(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a", grace=3)
    async with program.running() as engine:
        engine.kill(grace=50)
        engine.kill(grace=20)
        engine.kill(grace=100)
        await engine.wait()
        assert trio.current_time() == pytest.approx(3)


async def test_e11_a_harder_kill_reaches_the_soft_phase_of_an_endless_grace(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=math.inf)
    async with program.running() as engine:
        engine.hold("a")
        await trio.sleep(50)
        engine.kill(grace=4)
        await engine.wait()
        assert trio.current_time() == pytest.approx(54)


async def test_e11_kill_with_grace_0_at_first_is_hard_and_in_order(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=100)
    program.install("b", "a", grace=100)
    async with program.running() as engine:
        engine.kill(grace=0)
        await engine.wait()
        assert trio.current_time() == 0
    assert program.ends == ["b", "a"]


# -- stuck ----


async def test_e11_a_stuck_run_is_logged_once_and_reported_with_its_name_and_place(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    db = program.install("db", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.restart("db")
        await trio.sleep(4.9)
        assert stuck_lines(caplog) == []
        assert engine.report().manifolds["db"].stuck is None
        await trio.sleep(1000)
        (line,) = stuck_lines(caplog)
        assert '"db"' in line
        assert "in linger" in line
        stuck = engine.report().manifolds["db"].stuck
        assert stuck is not None
        assert any("in linger" in frame for frame in stuck)
        assert "linger" in str(engine.explain("db"))
        db.let_go.set()
        await program.settle()
        assert engine.report().manifolds["db"].stuck is None
        assert db.state == "started"
    assert [r.levelno for r in caplog.records if "stuck" in r.getMessage()] == [logging.ERROR]


async def test_e11_a_stuck_run_no_longer_holds_up_its_inputs(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a")
    program.install("b", "a")
    c = program.install("c", "b", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.hold("a")
        await trio.sleep(4)
        assert program.ends == []
        await trio.sleep(2)
        assert program.ends == ["b", "a"]
        assert program.states == {"a": "held", "b": "waiting", "c": "stopping"}
        c.let_go.set()
        await program.settle()
        assert program.ends == ["b", "a", "c"]


async def test_e11_the_next_run_of_a_stuck_one_waits_for_its_end(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")
    api = program.install("api", "db", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.restart("db")
        await trio.sleep(100)
        assert (db.starts, db.state) == (2, "started")
        assert (api.starts, api.state) == (1, "stopping")
        api.let_go.set()
        await program.settle()
        assert (api.starts, api.state) == (2, "started")


async def test_e11_the_late_end_of_a_stuck_run_does_not_release_its_inputs_twice(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db")
    stuck = program.install("stuck", "db", body=linger, stop_timeout=5)
    other = program.install("other", "db", body=stopping_in(2))
    async with program.running() as engine:
        engine.restart("db")
        await trio.sleep(20)
        assert other.starts == 2
        engine.restart("db")  # "other" uses the new run of db, the stuck one does not
        stuck.let_go.set()
        await trio.sleep(1)
        assert program.record[-1] != "end db"
        assert other.is_alive
        await program.settle()
        assert [d.state for d in program.doubles.values()] == ["started"] * 3


async def test_e11_the_engine_is_not_dead_before_the_last_task_has_ended(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a")
    b = program.install("b", "a", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.kill()
        await trio.sleep(1000)
        assert program.ends == ["a"]
        assert engine.state == "dying"
        engine.kill(grace=0)
        await trio.sleep(1000)
        assert engine.state == "dying"
        b.let_go.set()
        await engine.wait()
        assert engine.state == "dead"


async def test_e11_stop_timeout_none_never_gives_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    program.install("a")
    b = program.install("b", "a", body=linger, stop_timeout=None)
    async with program.running() as engine:
        engine.hold("a")
        await trio.sleep(80_000)
        assert program.ends == []
        assert stuck_lines(caplog) == []
        b.let_go.set()
        await program.settle()


async def test_e11_one_that_ends_in_time_is_never_called_stuck(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    program.install("db", body=stopping_in(4.9), stop_timeout=5)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(100)
        assert stuck_lines(caplog) == []
        assert program.live_timers == 0


async def test_e11_the_stop_timeout_begins_with_the_cancellation_not_with_ask(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    db = program.install("db", body=linger, grace=20, stop_timeout=5)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(24)
        assert stuck_lines(caplog) == []
        await trio.sleep(2)
        assert len(stuck_lines(caplog)) == 1
        db.let_go.set()
        await program.settle()


async def test_e11_a_stuck_start_is_stuck_like_any_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()

    async def shielded_start(life: Life) -> None:
        with trio.CancelScope(shield=True):
            await program.doubles["b"].let_go.wait()

    program.install("a")
    program.install("b", "a", body=shielded_start, stop_timeout=5)
    async with program.running(settle=False) as engine:
        engine.kill()
        await trio.sleep(10)
        assert "shielded_start" in stuck_lines(caplog)[0]
        assert program.ends == ["a"]
        program.doubles["b"].let_go.set()
        await engine.wait()


async def test_e11_a_stuck_helper_is_named_by_the_place_where_it_stands(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def deaf_helper() -> None:
        with trio.CancelScope(shield=True):
            await program.doubles["db"].let_go.wait()

    async def with_helper(life: Life) -> None:
        life.get.start_soon(deaf_helper)
        await serve(life)

    program.install("db", body=with_helper, stop_timeout=5)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await trio.sleep(10)
        stuck = engine.report().manifolds["db"].stuck
        assert stuck is not None
        assert any("deaf_helper" in frame for frame in stuck)
        program.doubles["db"].let_go.set()
        await program.settle()


async def test_e11_a_stuck_task_in_a_nursery_of_the_run_is_named_by_the_place_where_it_stands(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def deaf_child() -> None:
        with trio.CancelScope(shield=True):
            await program.doubles["db"].let_go.wait()

    async def with_child(life: Life) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deaf_child)
            await serve(life)

    program.install("db", body=with_child, stop_timeout=5)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await trio.sleep(10)
        stuck = engine.report().manifolds["db"].stuck
        assert stuck is not None
        assert any("deaf_child" in frame for frame in stuck)
        program.doubles["db"].let_go.set()
        await program.settle()


# -- the other forms of a manifold ----


async def test_e11_a_context_is_left_by_itself_within_its_grace_and_by_cancellation_without() -> (
    None
):
    import contextlib
    from collections.abc import AsyncGenerator

    for grace, expected in ((10.0, "left"), (0.0, "cancelled")):
        seen: list[str] = []

        @contextlib.asynccontextmanager
        async def open_(get: Any, seen: list[str] = seen) -> AsyncGenerator[str]:
            try:
                yield "value"
                seen.append("left")
            except BaseException:
                seen.append("cancelled")
                raise

        program = Program(EngineConfig(name="contexts"))
        program.engine.install("db", Manifold.from_context(open_, grace=grace))
        async with program.running():
            pass
        assert seen == [expected]
