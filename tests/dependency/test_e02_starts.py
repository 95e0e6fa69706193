"""E2 and E3: who starts when, how often, and that nothing waits for anything else."""

import math
import random
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Engine

from .harness import Life, Program, failing, serve, starting_in, when_told


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Draw a graph of required inputs, and an order to install it in."""
    size = draw(st.integers(1, 12))
    inputs = {
        f"m{i}": tuple(f"m{j}" for j in sorted(draw(st.sets(st.integers(0, i - 1))))) if i else ()
        for i in range(size)
    }
    return inputs, draw(st.permutations(list(inputs)))


# -- E2: all required inputs, and only then ----


async def test_e2_a_manifold_starts_when_its_last_required_input_is_started() -> None:
    program = Program()
    inputs = [program.install(name, body=when_told) for name in ("a", "b", "c")]
    sink = program.install("sink", "a", "b", "c")
    async with program.running(settle=False):
        for double in inputs:
            assert sink.starts == 0
            double.life.get_ready()
            await wait_all_tasks_blocked()
        assert sink.starts == 1


async def test_e2_an_input_that_only_runs_is_not_enough() -> None:
    program = Program()
    db = program.install("db", body=when_told)
    api = program.install("api", "db")
    async with program.running(settle=False):
        assert program.states == {"db": "starting", "api": "waiting"}
        assert api.starts == 0
        db.life.get_ready()
        await wait_all_tasks_blocked()
        assert api.starts == 1


async def test_e2_an_input_that_fails_before_it_is_ready_starts_nobody() -> None:
    program = Program()
    program.install("db", body=failing(OSError("no"), OSError("no"), OSError("no")))
    program.install("api", "db")
    async with program.running(settle=False):
        assert program.starts == ["db"]
        assert program.states == {"db": "delayed", "api": "waiting"}


async def test_e2_dependents_start_once_after_an_input_that_needed_several_attempts(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=failing(*[OSError("no")] * 5))
    program.chain("x", "y")
    program.install("api", "db", "y")
    async with program.running():
        assert program.doubles["db"].starts == 6
        assert program.doubles["api"].starts == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("during_run", [False, True])
async def test_e2_a_chain_costs_one_start_each_in_either_order_of_installation(
    reverse: bool,  # noqa: FBT001
    at_once: bool,  # noqa: FBT001
    during_run: bool,  # noqa: FBT001
) -> None:
    program = Program()
    names = [f"m{i}" for i in range(100)]
    doubles = [program.make(n, *names[max(i - 1, 0) : i]) for i, n in enumerate(names)]
    if reverse:
        doubles.reverse()

    def install(engine: Engine) -> None:
        if at_once:
            engine.install_all({d.name: d.manifold for d in doubles})
        else:
            for double in doubles:
                engine.install(double.name, double.manifold)

    if not during_run:
        install(program.engine)
    async with program.running() as engine:
        if during_run:
            install(engine)
            await program.settle()
        assert program.starts == names
    assert program.ends == names[::-1]


@given(graphs())
@settings(max_examples=60)
async def test_e2_starts_equal_manifolds_whatever_the_graph_and_the_order(
    graph: tuple[dict[str, tuple[str, ...]], list[str]],
) -> None:
    inputs, order = graph
    program = Program()
    half = len(order) // 2
    for name in order[:half]:
        program.install(name, *inputs[name])
    async with program.running():
        for name in order[half:]:
            program.install(name, *inputs[name])
            if len(name) % 2:
                await wait_all_tasks_blocked()
        await program.settle()
        assert sorted(program.starts) == sorted(inputs)
        for name, needed in inputs.items():
            for other in needed:
                assert program.record.index(f"ready {other}") < program.record.index(
                    f"start {name}"
                )


async def test_e2_a_diamond_starts_each_once() -> None:
    program = Program()
    program.install("top", "left", "right")
    program.install("left", "root")
    program.install("right", "root")
    program.install("root")
    async with program.running():
        assert program.starts[0] == "root"
        assert program.starts[-1] == "top"
        assert sorted(program.starts) == ["left", "right", "root", "top"]


async def test_e2_a_chain_of_3000_starts_and_stops() -> None:
    size = 3000
    program = Program()
    names = [f"m{i}" for i in range(size)]
    program.chain(*names)
    async with program.running():
        assert program.starts == names
        assert len(program.engine.blast_radius("m0")) == size - 1
    assert program.ends == names[::-1]


async def test_e2_the_last_of_3000_that_wait_can_be_explained() -> None:
    program = Program()
    program.install("m0", "root")
    program.chain(*[f"m{i}" for i in range(3000)][1:])
    async with program.running() as engine:
        engine.uninstall("m1")
        await wait_all_tasks_blocked()
        program.install("m1", "m0")
        await wait_all_tasks_blocked()
        assert set(program.states.values()) == {"waiting"}
        assert "root" in str(engine.explain("m2999"))


async def test_e2_a_chain_of_3000_survives_the_crash_of_its_root(autojump_clock: MockClock) -> None:
    size = 3000
    program = Program()
    names = [f"m{i}" for i in range(size)]
    program.chain(*names)
    async with program.running():
        program.forget()
        program.doubles["m0"].life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert program.ends == ["m0", *names[:0:-1]]
        await program.settle()
        assert program.starts == names


async def test_e2_a_start_that_needs_the_same_manifold_under_two_roles_is_one_start() -> None:
    program = Program()
    program.install("db")
    api = program.make("api", "reader", "writer")
    program.engine.install("api", api.manifold.bind({"reader": "db", "writer": "db"}))
    async with program.running() as engine:
        assert api.starts == 1
        engine.restart("db")
        await program.settle()
        assert api.starts == 2


# -- E3: concurrency ----


async def test_e3_independent_manifolds_start_concurrently(autojump_clock: MockClock) -> None:
    program = Program()
    for i in range(20):
        program.install(f"m{i}", body=starting_in(10))
    begin = trio.current_time()
    async with program.running():
        assert trio.current_time() - begin == pytest.approx(10)


async def test_e3_levels_start_one_after_the_other_and_each_level_at_once(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    for level in range(3):
        for i in range(5):
            needed = [f"m{level - 1}{j}" for j in range(5)] if level else []
            program.install(f"m{level}{i}", *needed, body=starting_in(10))
    begin = trio.current_time()
    async with program.running():
        assert trio.current_time() - begin == pytest.approx(30)


async def test_e3_a_hung_start_holds_up_nobody_else() -> None:
    program = Program()
    program.install("hung", body=when_told)
    program.install("behind", "hung")
    program.chain("db", "api")
    async with program.running(settle=False):
        assert program.states == {
            "hung": "starting",
            "behind": "waiting",
            "db": "started",
            "api": "started",
        }


async def test_e3_installing_reporting_and_stopping_work_while_starts_hang() -> None:
    program = Program()
    program.install("hung", body=when_told)
    program.install("db")
    async with program.running(settle=False) as engine:
        program.install("late", "db")
        await engine.wait_state("late", "started")
        engine.restart("db")
        await wait_all_tasks_blocked()
        assert program.doubles["late"].starts == 2
        engine.uninstall("late")
        await engine.wait_state("late", "absent")
        engine.hold("db")
        await engine.wait_state("db", "held")
        assert engine.report().manifolds["hung"].state == "starting"
        assert "started()" in str(engine.explain("hung"))


async def test_e3_shutdown_does_not_wait_for_hung_starts() -> None:
    program = Program()
    for i in range(5):
        program.install(f"hung{i}", body=when_told)
    async with program.running(settle=False):
        pass
    assert sorted(program.ends) == [f"hung{i}" for i in range(5)]


async def test_e3_a_hung_start_can_be_held_restarted_and_removed() -> None:
    program = Program()
    hung = program.install("hung", body=when_told)
    async with program.running(settle=False) as engine:
        engine.restart("hung")
        await wait_all_tasks_blocked()
        assert (hung.starts, hung.state) == (2, "starting")
        engine.hold("hung")
        await wait_all_tasks_blocked()
        assert hung.state == "held"
        engine.release("hung")
        await wait_all_tasks_blocked()
        assert (hung.starts, hung.state) == (3, "starting")
        engine.uninstall("hung")
        await wait_all_tasks_blocked()
        assert hung.state == "absent"


async def test_e3_crashes_of_many_are_handled_at_once(autojump_clock: MockClock) -> None:
    program = Program()
    doubles = [program.install(f"m{i}") for i in range(50)]
    async with program.running():
        for double in doubles:
            double.life.fail(OSError("all"))
        begin = trio.current_time()
        await wait_all_tasks_blocked()
        await program.settle()
        assert trio.current_time() - begin == pytest.approx(1.0)
        assert [double.starts for double in doubles] == [2] * 50


async def test_e3_independent_stops_run_concurrently(autojump_clock: MockClock) -> None:
    program = Program()

    async def slow(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    for i in range(10):
        program.install(f"m{i}", body=slow)
    async with program.running():
        begin = trio.current_time()
    assert trio.current_time() - begin == pytest.approx(5)


# -- idleness ----


async def test_an_idle_engine_has_no_live_timer_and_no_runnable_task(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", start_timeout=60, grace=5, stop_timeout=7)
    program.install("api", "db", start_timeout=60)
    program.install("waiting", "nobody")
    async with program.running() as engine:
        for _ in range(3):
            engine.restart("db")
            await program.settle()
            program.doubles["db"].life.fail(OSError("gone"))
            await wait_all_tasks_blocked()
            await program.settle()
        await wait_all_tasks_blocked()
        assert program.states == {"db": "started", "api": "started", "waiting": "waiting"}
        assert program.doubles["db"].starts == 7
        assert len(engine._machine.timers) == 0
        assert trio.lowlevel.current_statistics().tasks_runnable == 0
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf


@pytest.mark.parametrize("seed", range(8))
async def test_an_engine_after_trouble_is_idle_again(seed: int, autojump_clock: MockClock) -> None:
    rng = random.Random(seed)
    program = Program()
    names = [f"m{i}" for i in range(8)]
    options: dict[str, Any] = {"start_timeout": 100.0, "grace": 3.0, "stop_timeout": 50.0}
    for i, name in enumerate(names):
        inputs = rng.sample(names[:i], min(i, 2))
        program.install(name, *inputs, body=serve, **options)
    async with program.running() as engine:
        for _ in range(30):
            double = program.doubles[rng.choice(names)]
            if rng.random() < 0.5:
                engine.restart(double.name)
            elif double.lives:
                double.life.fail(OSError("trouble"))
            if rng.random() < 0.5:
                await wait_all_tasks_blocked()
        await program.settle()
        await wait_all_tasks_blocked()
        assert set(program.states.values()) == {"started"}
        assert len(engine._machine.timers) == 0
        assert trio.lowlevel.current_statistics().tasks_runnable == 0
