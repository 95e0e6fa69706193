"""E6: a worker that returns is done; done and Missing are left by a change; no lost wake-ups."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Missing

from .harness import (
    Body,
    Life,
    Program,
    failing,
    linger,
    ready_and_return,
    return_at_once,
    serve,
    when_told,
)


async def missing(life: Life) -> None:
    raise Missing("not yet")


# -- done ----


@pytest.mark.parametrize("body", [return_at_once, ready_and_return])
async def test_e6_one_that_returns_at_once_is_done_and_not_started_again(
    body: Body, autojump_clock: MockClock
) -> None:
    program = Program()
    once = program.install("once", body=body)
    async with program.running():
        assert (once.state, once.starts) == ("done", 1)
        await trio.sleep(1000)
        assert once.starts == 1


async def test_e6_one_that_returns_later_is_done() -> None:
    program = Program()
    db = program.install("db")
    async with program.running() as engine:
        db.life.finish()
        await program.settle()
        assert db.state == "done"
        assert engine.report().manifolds["db"].history[-1].kind == "returned"


async def test_e6_dependents_of_one_that_returned_without_started_wait() -> None:
    program = Program()
    program.install("once", body=return_at_once)
    program.install("api", "once")
    async with program.running() as engine:
        assert program.states == {"once": "done", "api": "waiting"}
        assert program.starts == ["once"]
        assert "once" in str(engine.explain("api"))


async def test_e6_dependents_that_began_are_drained_when_the_output_is_gone() -> None:
    program = Program()
    db, _api, _web = program.chain("db", "api", "web")
    async with program.running():
        db.life.finish()
        await program.settle()
        assert program.ends == ["db", "web", "api"]
        assert program.states == {"db": "done", "api": "waiting", "web": "waiting"}


async def test_e6_one_that_returns_right_after_started_leaves_no_dependent_running() -> None:
    program = Program()
    program.install("once", body=ready_and_return)
    api = program.install("api", "once")
    program.install("web", "api")
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        assert program.states == {"once": "done", "api": "waiting", "web": "waiting"}
        assert not api.is_alive
        report = engine.report().manifolds["api"]
        assert report.starts == report.ends


async def test_e6_one_that_returns_a_step_after_started_drains_the_dependents_that_began() -> None:
    program = Program()

    async def brief(life: Life) -> None:
        life.ready()
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    program.install("brief", body=brief)
    api = program.install("api", "brief", body=when_told)
    async with program.running():
        assert program.states == {"brief": "done", "api": "waiting"}
        assert not api.is_alive


async def test_e6_helpers_are_part_of_the_run_and_done_comes_after_them() -> None:
    program = Program()
    helper_may_end = trio.Event()

    async def with_helper(life: Life) -> None:
        life.ready()
        life.get.start_soon(helper_may_end.wait)

    db = program.install("db", body=with_helper)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        assert db.state == "started"
        helper_may_end.set()
        await engine.wait_state("db", "done")
        await program.settle()
        assert db.starts == 1


# -- left by a change ----


@pytest.mark.parametrize("way", ["inputs", "optional", "live"])
@pytest.mark.parametrize("body", [ready_and_return, return_at_once, missing])
async def test_e6_done_and_missing_are_left_when_an_input_bounces(body: Body, way: str) -> None:
    program = Program()
    program.install("config")
    if way == "inputs":
        once = program.install("once", "config", body=body)
    elif way == "optional":
        once = program.install("once", optional=("config",), body=body)
    else:
        once = program.install("once", live=("config",), body=body)
    async with program.running() as engine:
        before = once.starts
        once.body = serve
        engine.restart("config")
        await program.settle()
        assert once.state == "started"
        assert once.starts > before


@pytest.mark.parametrize("body", [ready_and_return, missing])
async def test_e6_done_and_missing_are_left_when_an_optional_input_comes(body: Body) -> None:
    program = Program()
    once = program.install("once", optional=("cache",), body=body)
    async with program.running():
        assert once.starts == 1
        program.install("cache")
        await program.settle()
        assert once.starts == 2


@pytest.mark.parametrize("body", [ready_and_return, missing])
async def test_e6_done_and_missing_are_left_when_a_live_input_goes(body: Body) -> None:
    program = Program()
    program.install("config")
    once = program.install("once", live=("config",), body=body)
    async with program.running() as engine:
        before = once.starts
        engine.hold("config")
        await program.settle()
        assert once.starts == before + 1


async def test_e6_missing_waits_visibly_and_for_ever_without_a_change(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    picky = program.install("picky", body=missing)
    async with program.running() as engine:
        await trio.sleep(10_000)
        assert (picky.starts, picky.state) == (1, "waiting")
        assert "not yet" in str(engine.explain("picky"))
        assert engine.report().manifolds["picky"].why == "Missing: not yet"


async def test_e6_a_change_elsewhere_wakes_nobody() -> None:
    program = Program()
    program.install("db")
    program.install("other")
    once = program.install("once", "db", body=ready_and_return)
    async with program.running() as engine:
        engine.restart("other")
        await program.settle()
        assert (once.starts, once.state) == (1, "done")


# -- no lost wake-up ----


@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.parametrize("goes", [True, False])
async def test_e6_a_live_input_that_changes_during_the_run_makes_it_run_again_at_once(
    verdict: bool,  # noqa: FBT001
    goes: bool,  # noqa: FBT001
) -> None:
    program = Program()
    if goes:
        program.install("config")
    once = program.install("once", live=("config",))
    async with program.running() as engine:
        if goes:
            engine.hold("config")
        else:
            program.install("config")
        await program.settle()
        assert once.starts == 1
        once.life.fail(Missing("looked too early")) if verdict else once.life.finish()
        await program.settle()
        assert (once.starts, once.state) == (2, "started")


async def test_e6_missing_because_of_an_input_that_came_meanwhile_is_no_lost_wake_up() -> None:
    program = Program()

    async def look(life: Life) -> None:
        view = life.get.live("config", str)
        seen = view.value
        config.life.get_ready()
        await wait_all_tasks_blocked()  # "config" comes while it thinks
        if seen is None:
            raise Missing("no config yet")
        await serve(life)

    config = program.install("config", body=when_told)
    reader = program.install("reader", "late", live=("config",), body=look)
    async with program.running(settle=False):
        program.install("late")
        await program.settle()
        assert (reader.starts, reader.state) == (2, "started")


async def test_e6_a_run_without_a_change_since_it_began_is_not_repeated() -> None:
    program = Program()
    program.install("config")
    once = program.install("once", "config", live=("other",))
    async with program.running():
        program.install("other")
        await program.settle()
        once.life.finish()  # runs again, for "other" came
        await program.settle()
        once.life.finish()
        await program.settle()
        assert (once.starts, once.state) == (2, "done")


async def test_e6_a_change_while_it_waits_for_an_input_is_not_counted_for_the_next_run() -> None:
    program = Program()
    config = program.install("config")
    reader = program.install("reader", "config", body=ready_and_return)
    async with program.running() as engine:
        assert reader.starts == 1
        engine.restart("config")
        await program.settle()
        assert (config.starts, reader.starts, reader.state) == (2, 2, "done")


async def test_e6_a_crash_of_a_required_input_during_a_run_that_ends_in_missing_wakes_it(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")

    async def give_up_when_stopped(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        except trio.Cancelled:
            raise Missing("my input went") from None

    api = program.install("api", "db", body=give_up_when_stopped)
    async with program.running():
        db.life.fail(OSError("gone"))
        await program.settle()
        assert (api.starts, api.state) == (2, "started")


async def test_e6_missing_raised_during_a_planned_stop_is_recorded_and_not_obeyed() -> None:
    program = Program()

    async def give_up_when_stopped(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        except trio.Cancelled:
            raise Missing("while stopping") from None

    api = program.install("api", body=give_up_when_stopped)
    async with program.running() as engine:
        engine.restart("api")
        await program.settle()
        assert (api.starts, api.state) == (2, "started")
        assert engine.report().manifolds["api"].history[-1].error == "Missing: while stopping"


async def test_e6_a_delay_is_cut_short_by_the_change_of_an_input() -> None:
    program = Program()
    program.install("api", "db", optional=("cache",), body=failing(OSError("no cache")))
    program.install("db")
    async with program.running(settle=False):
        await wait_all_tasks_blocked()
        assert program.states["api"] == "delayed"
        program.install("cache")
        await program.settle()
        assert program.states["api"] == "started"


async def test_e6_one_that_is_stopping_when_its_input_changes_runs_once_more() -> None:
    program = Program()
    program.install("config")
    once = program.install("once", live=("config",), body=linger)
    async with program.running() as engine:
        engine.restart("once")
        await wait_all_tasks_blocked()
        engine.restart("config")
        await wait_all_tasks_blocked()
        once.let_go.set()
        await program.settle()
        assert (once.starts, once.state) == (2, "started")
