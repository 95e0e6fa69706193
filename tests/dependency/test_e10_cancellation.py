"""E10: cancellation from outside, interrupts, exits: the order of the end, and what is raised."""

import math
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Engine, EngineConfig, Manifold

from .harness import (
    Body,
    Life,
    Program,
    failing,
    failing_when_stopped,
    leave_softly,
    serve,
    stopping_in,
    when_told,
)


async def cancelled_after(program: Program, seconds: float) -> trio.CancelScope:
    """Run the engine under a deadline, and return the scope."""
    with trio.move_on_after(seconds) as scope:
        await program.engine.run()
    program.check()
    return scope


# -- cancellation from outside ----


async def test_e10_cancellation_from_outside_stops_in_drain_order_and_propagates(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.chain("a", "b", "c", "d")
    scope = await cancelled_after(program, 5)
    assert scope.cancelled_caught
    assert program.ends == ["d", "c", "b", "a"]
    assert program.engine.state == "dead"
    await program.engine.wait()  # a cancellation is no reason


async def test_e10_cancellation_from_outside_gives_no_grace(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", grace=100)
    program.install("api", "db", grace=100)
    scope = await cancelled_after(program, 5)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(5)
    assert [e for e in program.record if "end" in e] == ["end api", "end db"]


async def test_e10_cancellation_from_outside_ends_a_soft_phase_under_way(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", grace=100)
    program.install("api", "db", grace=100)
    with trio.move_on_after(15) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.engine.run)
            await trio.sleep(10)
            program.engine.kill()
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(15)
    assert program.ends == ["api", "db"]


async def test_e10_manifolds_are_shielded_while_their_dependents_still_stop(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    seen: list[tuple[float, bool]] = []

    async def look(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            seen.append((trio.current_time(), life.get.is_stopping))

    program.install("db", body=look)
    program.install("api", "db", body=stopping_in(7))
    await cancelled_after(program, 5)
    assert [is_stopping for _, is_stopping in seen] == [True]
    assert seen[0][0] == pytest.approx(12)


async def test_e10_deadlines_outside_are_not_visible_to_workers(autojump_clock: MockClock) -> None:
    program = Program()
    deadlines: list[float] = []

    async def look(life: Life) -> None:
        deadlines.append(trio.current_effective_deadline())
        await serve(life)

    program.install("db", body=look)
    await cancelled_after(program, 5)
    assert deadlines == [math.inf]


async def test_e10_cancellation_from_outside_adds_no_waiting_of_its_own(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.chain(*[f"m{i}" for i in range(50)])
    program.install("delayed", body=failing(OSError("no"), OSError("no"), OSError("no")))
    program.install("waiting", "nobody")
    await cancelled_after(program, 2.2)
    assert trio.current_time() == pytest.approx(2.2)


async def test_e10_cancelled_before_its_first_step_the_engine_ends_at_once() -> None:
    program = Program()
    program.chain("a", "b")
    with trio.CancelScope() as scope:
        scope.cancel()
        await program.engine.run()
    assert scope.cancelled_caught
    assert program.engine.state == "dead"
    program.check()


async def test_e10_cancelled_while_starts_hang(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("hung", body=when_told)
    program.install("behind", "hung")
    scope = await cancelled_after(program, 5)
    assert scope.cancelled_caught
    assert program.record == ["start hung", "end hung"]


async def test_e10_cancelled_while_draining_keeps_the_order(autojump_clock: MockClock) -> None:
    program = Program()
    program.chain("a", "b")
    program.install("c", "b", body=stopping_in(10))
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.engine.run)
            await trio.sleep(1)
            program.engine.restart("a")
    assert scope.cancelled_caught
    assert program.ends == ["c", "b", "a"]
    assert trio.current_time() == pytest.approx(11)


async def test_e10_cancelled_during_shutdown_is_harmless(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a")
    program.install("b", "a", body=stopping_in(10))
    with trio.move_on_after(5) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.engine.run)
            await wait_all_tasks_blocked()
            program.engine.kill()
    assert scope.cancelled_caught
    assert program.ends == ["b", "a"]
    assert program.engine.state == "dead"


async def test_e10_cancelled_while_delayed(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=failing(*[OSError("no")] * 99))
    scope = await cancelled_after(program, 100)
    assert scope.cancelled_caught
    assert trio.current_time() == pytest.approx(100)
    assert program.live_timers == 0


async def test_e10_a_real_error_wins_over_the_cancellation_from_outside(
    autojump_clock: MockClock,
) -> None:
    program = Program(EngineConfig(is_fatal=lambda exc: isinstance(exc, OSError)))
    error = OSError("while stopping")
    program.install("db", body=failing_when_stopped(error))
    with pytest.raises(OSError, match="while stopping") as caught:
        await cancelled_after(program, 5)
    assert caught.value is error
    with pytest.raises(OSError, match="while stopping") as again:
        await program.engine.wait()
    assert again.value is error


async def test_e10_errors_that_are_not_fatal_do_not_hide_the_cancellation(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=failing_when_stopped(OSError("flush")))
    scope = await cancelled_after(program, 5)
    assert scope.cancelled_caught
    assert program.engine.report().manifolds["db"].history[-1].error == "OSError: flush"


async def test_e10_a_reason_given_before_wins_over_the_cancellation_from_outside(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=stopping_in(10))

    async def kill() -> None:
        await wait_all_tasks_blocked()
        program.engine.kill(ValueError("why"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        with pytest.raises(ValueError, match="why"):
            await cancelled_after(program, 5)
    assert trio.current_time() == pytest.approx(10)


async def test_e10_a_failing_neighbour_stops_the_engine_in_order_and_its_error_is_raised() -> None:
    program = Program()
    program.chain("a", "b", "c")
    with pytest.raises(KeyError) as caught:
        async with program.running():
            raise KeyError("neighbour")
    assert caught.value.args == ("neighbour",)
    assert program.ends == ["c", "b", "a"]


# -- interrupts and exits ----


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
@pytest.mark.parametrize("phase", ["start", "run", "stop"])
async def test_e10_what_is_no_exception_ends_the_engine_in_order_and_is_raised_bare(
    error: BaseException, phase: str
) -> None:
    program = Program()
    program.install("a")
    bodies: dict[str, Body] = {
        "start": failing(error),
        "run": serve,
        "stop": failing_when_stopped(error),
    }
    b = program.install("b", "a", body=bodies[phase])
    program.install("other", "a")
    with pytest.raises(type(error)) as caught:
        async with program.running(settle=False) as engine:
            if phase == "run":
                b.life.fail(error)
            elif phase == "stop":
                engine.restart("b")
            await engine.wait()
    assert caught.value is error
    assert program.ends[-1] == "a"
    assert sorted(program.ends) == sorted(program.starts)


async def test_e10_an_exit_gives_the_others_their_grace(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", grace=10, body=leave_softly)
    patient = program.install("patient", grace=10)
    one = program.install("one")
    with pytest.raises(SystemExit):
        async with program.running() as engine:
            one.life.fail(SystemExit(1))
            await engine.wait()
    assert program.happened("ask") == ["db", "patient"] or program.happened("ask") == [
        "patient",
        "db",
    ]
    assert patient.life.cancelled is not None
    assert program.doubles["db"].life.cancelled is None
    assert trio.current_time() == pytest.approx(10)


async def test_e10_an_exit_in_a_group_is_raised_bare_and_the_rest_noted() -> None:
    program = Program()
    one = program.install("one")
    program.install("other")
    exit_ = SystemExit(4)
    with pytest.raises(SystemExit) as caught:
        async with program.running() as engine:
            one.life.fail(BaseExceptionGroup("mine", [OSError("beside it"), exit_]))
            await engine.wait()
    assert caught.value is exit_
    assert any("beside it" in note for note in exit_.__notes__)
    assert sorted(program.ends) == ["one", "other"]


async def test_e10_the_first_of_two_exits_is_raised_and_the_other_noted() -> None:
    program = Program()
    a, b = program.install("a"), program.install("b")
    first, second = SystemExit(1), KeyboardInterrupt("second")
    with pytest.raises(SystemExit) as caught:
        async with program.running() as engine:
            a.life.fail(first)
            await engine.wait_state("a", "stopped")
            assert caught is not None
            b.life.fail(second)
            await engine.wait()
    assert caught.value is first


async def test_e10_a_second_interrupt_cancels_all_at_once(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a", grace=100)
    b = program.install("b", "a", grace=100)
    one = program.install("one")
    may_fail = trio.Event()

    async def fail_late(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            with trio.CancelScope(shield=True):
                await may_fail.wait()
            raise KeyboardInterrupt("second")

    program.install("two", body=fail_late)
    with pytest.raises(KeyboardInterrupt) as caught:
        async with program.running() as engine:
            one.life.fail(KeyboardInterrupt("first"))
            await trio.sleep(5)
            assert b.is_alive
            may_fail.set()
            await engine.wait()
    assert caught.value.args == ("first",)
    assert trio.current_time() == pytest.approx(5)
    assert not b.is_alive


def interrupting(task: trio.lowlevel.Task, error: BaseException) -> None:
    """Raise `error` where `task` stands, as Trio does with Ctrl-C in the main task."""

    def abort() -> NoReturn:
        raise error

    task._attempt_abort(abort)


async def test_e10_an_interrupt_in_the_engines_own_task_is_raised_bare_after_an_orderly_end(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=10, body=leave_softly)
    program.install("b", "a", grace=10, body=leave_softly)
    tasks: list[trio.lowlevel.Task] = []
    error = KeyboardInterrupt()

    async def run() -> None:
        tasks.append(trio.lowlevel.current_task())
        with pytest.raises(KeyboardInterrupt) as caught:
            await program.engine.run()
        assert caught.value is error

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await program.engine.wait_settled()
        interrupting(tasks[0], error)
    assert [e for e in program.record if "a" in e or "b" in e][-4:] == [
        "ask b",
        "end b",
        "ask a",
        "end a",
    ]
    program.check()


async def test_e10_a_second_interrupt_in_the_engines_own_task_cancels_all_at_once(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a", grace=100)
    program.install("b", "a", grace=100)
    tasks: list[trio.lowlevel.Task] = []
    first, second = KeyboardInterrupt("first"), KeyboardInterrupt("second")

    async def run() -> None:
        tasks.append(trio.lowlevel.current_task())
        with pytest.raises(KeyboardInterrupt) as caught:
            await program.engine.run()
        assert caught.value is first

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await program.engine.wait_settled()
        interrupting(tasks[0], first)
        await trio.sleep(5)
        assert sorted(program.ends) == []
        interrupting(tasks[0], second)
    assert trio.current_time() == pytest.approx(5)
    assert sorted(program.ends) == ["a", "b"]
    program.check()


def test_e10_ctrl_c_in_a_program_that_is_an_engine_stops_it_in_order() -> None:
    program = Program()
    program.chain("a", "b")

    async def interrupt(life: Life) -> None:
        life.ready()
        import signal

        signal.raise_signal(signal.SIGINT)
        await life.obey()

    program.install("c", "b", body=interrupt)
    with pytest.raises(KeyboardInterrupt):
        trio.run(program.engine.run)
    program.check()
    assert program.ends == ["c", "b", "a"]
    assert program.engine.state == "dead"


# -- run ----


async def test_e10_running_twice_is_refused_and_changes_nothing() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with pytest.raises(RuntimeError, match="second time"):
            await engine.run()
        await wait_all_tasks_blocked()
        assert program.states == {"db": "started"}
        assert engine.state == "alive"
    with pytest.raises(RuntimeError, match="second time"):
        await program.engine.run()


async def test_e10_an_engine_killed_before_run_starts_nothing_and_ends_at_once() -> None:
    program = Program()
    program.chain("a", "b")
    program.engine.kill()
    await program.engine.run()
    assert program.record == []
    assert program.engine.state == "dead"
    assert program.states == {"a": "stopped", "b": "stopped"}
    await program.engine.wait()
    await program.engine.wait_settled()


async def test_e10_an_engine_killed_before_run_raises_its_reason() -> None:
    program = Program()
    program.install("a")
    error = ValueError("why")
    program.engine.kill(error)
    with pytest.raises(ValueError, match="why") as caught:
        await program.engine.run()
    assert caught.value is error
    assert program.record == []


async def test_e10_an_engine_says_started_at_once_and_runs_under_nursery_start() -> None:
    program = Program()
    program.install("hung", body=when_told)
    async with trio.open_nursery() as nursery:
        await nursery.start(program.engine.run)
        await wait_all_tasks_blocked()
        assert program.states == {"hung": "starting"}
        program.engine.kill()
    program.check()


async def test_e10_an_engine_in_an_engine_stops_inside_out(autojump_clock: MockClock) -> None:
    inner = Program(EngineConfig(name="inner"))
    inner.chain("x", "y")
    outer = Program()
    outer.install("db")
    outer.engine.install("nested", Manifold.from_worker(lambda get: inner.engine, inputs=("db",)))
    async with outer.running() as engine:
        await inner.engine.wait_settled()
        assert inner.starts == ["x", "y"]
        assert engine.report().manifolds["nested"].state == "started"
        engine.hold("nested")
        await outer.settle()
        assert inner.ends == ["y", "x"]
        assert inner.engine.state == "dead"
        assert outer.states["db"] == "started"
    inner.check()


async def test_e10_an_engine_in_an_engine_is_left_in_order_by_a_cancellation_from_outside(
    autojump_clock: MockClock,
) -> None:
    record: list[str] = []

    def build(name: str, inside: Engine | None = None) -> Program:
        program = Program(EngineConfig(name=name))
        program.record = record
        program.chain(f"{name}1", f"{name}2")
        if inside is not None:
            program.engine.install(
                "nested", Manifold.from_worker(lambda get: inside, inputs=(f"{name}2",))
            )
        return program

    inner = build("inner")
    outer = build("outer", inner.engine)
    scope = await cancelled_after(outer, 5)
    assert scope.cancelled_caught
    assert outer.ends == ["inner2", "inner1", "outer2", "outer1"]
