"""E4: a worker never outlives its inputs: who stops when, told by the record of ends.

The invariants of the contract are checked here too, after every transition: `Watch` replays the
engine's stream of events.
"""

import random
from collections.abc import Callable
from types import TracebackType
from typing import Self

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Engine, EngineConfig

from .harness import (
    Double,
    Life,
    Program,
    failing_when_stopped,
    in_order,
    leave_softly,
    linger,
    ready_and_return,
    seen_in,
    serve,
    stopping_in,
    when_told,
)

RUNNING = {"starting", "started", "draining", "stopping"}


class Watch:
    """Replays the transitions of a program and checks the invariants after each."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.seen: list[str] = []
        self._stream = program.engine.events(100_000)
        self._states = program.states

    def __enter__(self) -> Self:
        self._stream.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.__exit__(kind, exc, traceback)

    async def check(self) -> None:
        """Replay all that has happened since the last time."""
        while self._stream._queue:
            transition = await anext(self._stream)
            name = transition.manifold
            assert self._states.get(name, "absent") == transition.before
            self._states[name] = transition.after
            self.seen.append(str(transition))
            self._check_invariants()
        assert self._stream.dropped == 0

    def _check_invariants(self) -> None:
        for name, state in self._states.items():
            if state in {"starting", "started"}:
                for role in self.program.doubles[name].manifold.inputs:
                    assert self._states.get(role) == "started", (name, role, self.seen)


def deepest_first(program: Program, record: list[str]) -> bool:
    """Whether each that ended did so after all of its dependents that ended."""
    ended = [name for entry in record for what, name in [entry.split(" ")] if what == "end"]
    return all(
        ended.index(name) < ended.index(needed)
        for name in ended
        for needed in program.doubles[name].manifold.inputs
        if needed in ended
    )


def layered(program: Program, *, layers: int = 4, width: int = 3) -> list[str]:
    """Install layers of doubles; each needs all of the layer below."""
    below: list[str] = []
    names: list[str] = []
    for layer in range(layers):
        row = [f"m{layer}{i}" for i in range(width)]
        for name in row:
            program.install(name, *below)
        below = row
        names += row
    return names


def bounce(engine: Engine, name: str) -> None:
    engine.restart(name)


def uninstall(engine: Engine, name: str) -> None:
    engine.uninstall(name)


def hold(engine: Engine, name: str) -> None:
    engine.hold(name)


def shut_down(engine: Engine, name: str) -> None:
    engine.kill()


VERBS = pytest.mark.parametrize("stop", [bounce, uninstall, hold, shut_down])
Verb = Callable[[Engine, str], None]


# -- planned stops ----


@VERBS
async def test_e4_a_planned_stop_drains_a_chain_deepest_first(stop: Verb) -> None:
    program = Program()
    program.chain("a", "b", "c", "d")
    async with program.running() as engine:
        with Watch(program) as watch:
            stop(engine, "a")
            await wait_all_tasks_blocked()
            assert program.ends == ["d", "c", "b", "a"]
            await watch.check()


@VERBS
async def test_e4_a_planned_stop_drains_a_diamond_deepest_first(stop: Verb) -> None:
    program = Program()
    program.install("root")
    program.install("left", "root")
    program.install("right", "root", "left")
    program.install("top", "left", "right")
    async with program.running() as engine:
        with Watch(program) as watch:
            stop(engine, "root")
            await wait_all_tasks_blocked()
            assert program.ends == ["top", "right", "left", "root"]
            await watch.check()


@VERBS
async def test_e4_a_planned_stop_drains_layers_deepest_first(stop: Verb) -> None:
    program = Program()
    names = layered(program)
    async with program.running() as engine:
        with Watch(program) as watch:
            stop(engine, "m00")
            await wait_all_tasks_blocked()
            ended = names if stop is shut_down else ["m00", *names[3:]]
            assert sorted(program.ends) == sorted(ended)
            assert deepest_first(program, program.record)
            await watch.check()


@VERBS
async def test_e4_one_slow_dependent_holds_up_its_inputs_and_nobody_else(stop: Verb) -> None:
    program = Program()
    program.install("root")
    program.install("left", "root", body=linger)
    program.install("right", "root")
    program.install("top", "right")
    async with program.running() as engine:
        stop(engine, "root")
        await wait_all_tasks_blocked()
        assert program.ends == ["top", "right"]
        assert program.states["root"] == "draining"
        assert program.doubles["root"].life.cancelled is None
        program.doubles["left"].let_go.set()
        await wait_all_tasks_blocked()
        assert program.ends == ["top", "right", "left", "root"]


async def test_e4_a_planned_stop_leaves_inputs_and_neighbours_alone() -> None:
    program = Program()
    program.install("root")
    program.install("a", "root")
    program.install("b", "root")
    program.install("above", "a")
    async with program.running() as engine:
        engine.restart("a")
        await program.settle()
        starts = {name: double.starts for name, double in program.doubles.items()}
        assert starts == {"root": 1, "a": 2, "b": 1, "above": 2}


async def test_e4_an_input_is_not_asked_before_its_last_user_has_ended() -> None:
    program = Program()
    program.install("db", grace=60, body=leave_softly)
    program.install("api", "db", grace=60, body=leave_softly)
    async with program.running() as engine:
        program.forget()
        engine.hold("db")
        await program.settle()
        assert program.record == ["ask api", "end api", "ask db", "end db"]


async def test_e4_draining_one_can_still_be_used_by_those_that_drain() -> None:
    program = Program()
    program.install("db")
    seen: list[str] = []

    async def last_words(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            seen.append(life.get("db", str))

    program.install("api", "db", body=last_words)
    async with program.running() as engine:
        engine.restart("db")
        await program.settle()
        assert seen == ["db"]


async def test_e4_dependents_that_are_starting_are_drained_too() -> None:
    program = Program()
    program.install("db")
    program.install("api", "db", body=when_told)
    async with program.running(settle=False) as engine:
        engine.hold("db")
        await program.settle()
        assert program.ends == ["api", "db"]
        assert program.states == {"db": "held", "api": "waiting"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_e4_two_stops_at_once_stop_everybody_once(order: tuple[int, int]) -> None:
    program = Program()
    program.chain("a", "b", "c")
    async with program.running() as engine:
        for i in order:
            engine.restart(("a", "b")[i])
        await program.settle()
        assert program.ends == ["c", "b", "a"]
        assert program.starts == ["a", "b", "c", "a", "b", "c"]


async def test_e4_holding_an_input_of_one_that_drains_already_waits_its_turn() -> None:
    program = Program()
    program.chain("a", "b")
    program.install("c", "b", body=linger)
    async with program.running() as engine:
        engine.restart("b")
        await wait_all_tasks_blocked()
        engine.hold("a")
        await wait_all_tasks_blocked()
        assert program.states == {"a": "draining", "b": "draining", "c": "stopping"}
        program.doubles["c"].let_go.set()
        await program.settle()
        assert program.ends == ["c", "b", "a"]
        assert program.states == {"a": "held", "b": "waiting", "c": "waiting"}


async def test_e4_shutdown_during_a_bounce_keeps_the_order() -> None:
    program = Program()
    program.chain("a", "b")
    c = program.install("c", "b", body=linger)
    async with program.running() as engine:
        engine.restart("a")
        await wait_all_tasks_blocked()
        engine.kill()
        await wait_all_tasks_blocked()
        assert program.ends == []
        c.let_go.set()
    assert program.ends == ["c", "b", "a"]
    assert program.starts == ["a", "b", "c"]


async def test_e4_optional_users_are_drained_before_a_planned_stop_as_well() -> None:
    program = Program()
    program.install("cache")
    program.install("api", optional=("cache",))
    program.install("web", "api")
    async with program.running() as engine:
        engine.hold("cache")
        await wait_all_tasks_blocked()
        assert program.ends == ["web", "api", "cache"]


# -- crashes ----


async def test_e4_a_crash_drains_dependents_at_once_and_deepest_first() -> None:
    program = Program()
    a, *_ = program.chain("a", "b", "c", "d")
    async with program.running():
        with Watch(program) as watch:
            a.life.fail(OSError("gone"))
            await wait_all_tasks_blocked()
            assert program.ends == ["a", "d", "c", "b"]
            await watch.check()


async def test_e4_those_in_the_middle_go_on_without_the_lost_input_until_theirs_have_ended() -> (
    None
):
    program = Program()
    program.chain("a", "b", "c")
    program.install("d", "c", body=linger)
    async with program.running():
        program.doubles["a"].life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert program.ends == ["a"]
        states = program.states
        assert (states["b"], states["c"], states["d"]) == ("draining", "draining", "stopping")
        assert program.doubles["b"].life.cancelled is None
        assert program.doubles["c"].life.cancelled is None
        program.doubles["d"].let_go.set()
        await wait_all_tasks_blocked()
        assert program.ends == ["a", "d", "c", "b"]


async def test_e4_a_crash_in_the_middle_leaves_the_inputs_alone() -> None:
    program = Program()
    program.chain("a", "b", "c")
    async with program.running() as engine:
        program.doubles["b"].life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert program.ends == ["b", "c"]
        assert program.states == {"a": "started", "b": "delayed", "c": "waiting"}
        assert engine.report().manifolds["a"].starts == 1


async def test_e4_a_crashed_input_may_start_again_while_its_old_dependents_still_stop(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")
    api = program.install("api", "db", body=stopping_in(30), stop_timeout=60)
    async with program.running():
        with Watch(program) as watch:
            db.life.fail(OSError("gone"))
            await trio.sleep(2)
            assert program.states == {"db": "started", "api": "stopping"}
            assert (db.starts, api.starts) == (2, 1)
            await program.settle()
            assert (db.starts, api.starts) == (2, 2)
            assert trio.current_time() == pytest.approx(30)
            await watch.check()


async def test_e4_an_input_that_crashed_twice_is_waited_for_by_dependents_that_still_stop(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")
    program.install("api", "db", body=stopping_in(10), stop_timeout=60)
    async with program.running():
        db.life.fail(OSError("first"))
        await trio.sleep(2)
        db.life.fail(OSError("second"))
        await trio.sleep(9)
        assert program.doubles["api"].starts == 2
        await program.settle()
        assert (db.starts, program.doubles["api"].starts) == (3, 2)


async def test_e4_a_planned_stop_of_an_input_that_came_again_waits_for_the_old_dependents(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")
    program.install("api", "db", body=stopping_in(10), stop_timeout=60)
    async with program.running() as engine:
        db.life.fail(OSError("gone"))
        await trio.sleep(2)
        program.forget()
        engine.hold("db")
        await program.settle()
        assert program.record == ["end api", "end db"]


async def test_e4_a_run_that_is_to_stop_before_its_first_step_does_not_start_without_its_inputs(
    autojump_clock: MockClock,
) -> None:
    # The old run of "top" still uses "mid", so the new run of "mid" drains instead of stopping.
    program = Program()
    root = program.install("root")
    mid = program.install("mid", "root")
    program.install("top", "mid", body=stopping_in(100), stop_timeout=None)
    async with program.running() as engine:
        mid.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        program.forget()
        engine.restart("mid")
        root.life.fail(OSError("gone too"))  # in the step in which the new run would begin
        await wait_all_tasks_blocked()
        assert "start mid" not in program.record or in_order(
            "start mid", "end root", program.record
        )


async def test_e4_a_crash_of_an_optional_input_drains_those_that_began_with_it(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    cache = program.install("cache")
    api = program.install("api", optional=("cache",))
    async with program.running():
        cache.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert program.ends == ["cache", "api"]
        await program.settle()
        # Once without it, because a delay is not waited for, and once more as it came back.
        assert (cache.starts, api.starts) == (2, 3)


async def test_e4_crashes_of_two_inputs_at_once_stop_a_dependent_once() -> None:
    program = Program()
    program.install("a")
    program.install("b")
    program.install("api", "a", "b")
    async with program.running():
        program.doubles["a"].life.fail(OSError("a"))
        program.doubles["b"].life.fail(OSError("b"))
        await wait_all_tasks_blocked()
        assert sorted(program.ends) == ["a", "api", "b"]


# -- ends during a drain ----


@pytest.mark.parametrize("how", ["crash", "return"])
async def test_e4_a_run_that_ends_by_itself_during_a_drain_changes_nothing_for_the_others(
    how: str,
) -> None:
    program = Program()
    program.chain("a", "b", "c")
    d = program.install("d", "c", body=linger)
    async with program.running() as engine:
        engine.hold("a")
        await wait_all_tasks_blocked()
        b = program.doubles["b"]
        b.life.fail(OSError("impatient")) if how == "crash" else b.life.finish()
        await wait_all_tasks_blocked()
        assert program.ends[0] == "b"
        assert program.states["c"] == "draining"
        assert program.states["d"] == "stopping"
        d.let_go.set()
        await program.settle()
        assert in_order("end d", "end c", program.record)
        assert program.starts == ["a", "b", "c", "d"]
        assert program.states["a"] == "held"


async def test_e4_a_drained_one_that_ended_by_itself_runs_again_without_delay_after_a_bounce() -> (
    None
):
    program = Program()
    program.chain("a", "b")
    c = program.install("c", "b", body=linger)
    async with program.running() as engine:
        engine.restart("a")
        await wait_all_tasks_blocked()
        program.doubles["b"].life.fail(OSError("impatient"))
        await wait_all_tasks_blocked()
        c.let_go.set()
        await program.settle()
        assert trio.current_time() < 1e9
        assert set(program.states.values()) == {"started"}
        assert program.starts == ["a", "b", "c", "a", "b", "c"]


async def test_e4_an_error_while_stopping_goes_on_with_the_drain() -> None:
    program = Program()
    program.install("a")
    program.install("b", "a", body=failing_when_stopped(OSError("b")))
    program.install("c", "b", body=failing_when_stopped(OSError("c")))
    async with program.running() as engine:
        engine.hold("a")
        await program.settle()
        assert program.ends == ["c", "b", "a"]
        assert program.states == {"a": "held", "b": "waiting", "c": "waiting"}
        assert engine.report().manifolds["c"].history[-1].error == "OSError: c"


# -- live readers ----


@VERBS
async def test_e4_live_readers_are_no_reason_to_wait_nor_to_stop(stop: Verb) -> None:
    program = Program()
    program.install("config")
    program.install("reader", live=("config",), body=linger)
    async with program.running() as engine:
        stop(engine, "config")
        await wait_all_tasks_blocked()
        assert program.ends == ["config"]
        assert program.doubles["reader"].starts == 1
        program.doubles["reader"].let_go.set()


async def test_e4_a_live_view_turns_empty_when_the_input_leaves_started_and_is_filled_again() -> (
    None
):
    program = Program()
    seen: list[str | None] = []

    async def read(life: Life) -> None:
        life.ready()
        async for value in life.get.live("config", str):
            seen.append(value)  # noqa: PERF401 - it never ends

    config = program.install("config", value="one")
    slow = program.install("user", "config", body=linger)
    reader = program.install("reader", live=("config",), body=read)
    async with program.running() as engine:
        assert seen == ["one"]
        engine.restart("config")
        await wait_all_tasks_blocked()
        assert config.state == "draining"
        assert seen == ["one", None]
        config.value = "two"
        slow.let_go.set()
        await program.settle()
        await wait_all_tasks_blocked()
        assert seen == ["one", None, "two"]
        assert reader.starts == 1


async def test_e4_a_live_view_turns_empty_at_a_crash() -> None:
    program = Program()
    config = program.install("config")
    reader = program.install("reader", live=("config",))
    async with program.running():
        view = reader.life.get.live("config", str)
        assert seen_in(view) == "config"
        config.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert seen_in(view) is None
        assert reader.state == "started"


@pytest.mark.parametrize("stop", [bounce, uninstall, hold])
async def test_e4_a_live_reader_that_a_drain_wakes_does_not_start_on_what_drains(
    stop: Verb,
) -> None:
    program = Program()
    program.chain("db", "config")
    program.install("once", "db", live=("config",), body=ready_and_return)
    async with program.running() as engine:
        assert program.states["once"] == "done"
        program.doubles["once"].body = serve
        with Watch(program) as watch:
            stop(engine, "db")  # "config" goes first, and wakes "once"
            await wait_all_tasks_blocked()
            await watch.check()
            expected = "started" if stop is bounce else "waiting"
            assert program.states["once"] == expected
            assert in_order("end config", "end db", program.record)


# -- random graphs ----


@pytest.mark.parametrize("seed", range(25))
async def test_the_invariants_hold_after_every_transition_of_a_random_schedule(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = random.Random(seed)
    program = Program(EngineConfig(history=100_000))
    bodies = [serve, serve, stopping_in(0.5), stopping_in(3)]
    names = [f"m{i}" for i in range(10)]
    for i, name in enumerate(names):
        inputs = rng.sample(names[:i], min(i, rng.randrange(3)))
        rest = [n for n in names[:i] if n not in inputs]
        optional = rng.sample(rest, min(len(rest), rng.randrange(2)))
        program.install(name, *inputs, optional=optional, body=rng.choice(bodies))

    def disturb(double: Double, engine: Engine) -> None:
        verb = rng.choice(["restart", "hold", "release", "fail", "finish", "fail"])
        if verb == "restart":
            engine.restart(double.name)
        elif verb == "hold":
            engine.hold(double.name)
        elif verb == "release":
            engine.release(double.name)
        elif double.lives and verb == "fail":
            double.life.fail(OSError("random"))
        elif double.lives:
            double.life.finish()

    async with program.running() as engine:
        with Watch(program) as watch:
            for _ in range(60):
                disturb(program.doubles[rng.choice(names)], engine)
                if rng.random() < 0.6:
                    await trio.sleep(rng.choice([0, 0, 0.3, 2]))
                await watch.check()
            for name in names:
                engine.release(name)
                engine.restart(name)
            await program.settle()
            await watch.check()
            assert set(program.states.values()) == {"started"}
            assert len(engine._machine.timers) == 0
    report = program.engine.report().manifolds
    for name, double in program.doubles.items():
        assert report[name].starts == report[name].ends == len(report[name].history)
        assert double.starts <= report[name].starts
