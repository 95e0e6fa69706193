"""E5: what happens to dependents when an input comes, required, optional or live."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Missing, RetryAfter

from .harness import (
    Body,
    Life,
    Program,
    failing,
    linger,
    ready_and_return,
    seen_in,
    serve,
    starting_in,
    stopping_in,
    when_told,
)

# -- required ----


async def test_e5_waiting_dependents_start_when_an_input_comes() -> None:
    program = Program()
    program.install("api", "db")
    program.install("web", "db")
    async with program.running():
        program.install("db")
        await program.settle()
        assert program.starts[0] == "db"
        assert sorted(program.starts[1:]) == ["api", "web"]


async def test_e5_dependents_start_again_when_an_input_comes_back(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db, api, web = program.chain("db", "api", "web")
    async with program.running():
        db.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert program.states == {"db": "delayed", "api": "waiting", "web": "waiting"}
        await program.settle()
        assert (db.starts, api.starts, web.starts) == (2, 2, 2)


async def test_e5_one_bounce_of_a_required_input_is_one_restart_of_each_dependent() -> None:
    program = Program()
    program.install("root")
    for name in ("a", "b", "c"):
        program.install(name, "root")
    program.install("top", "a", "b", "c")
    async with program.running() as engine:
        engine.restart("root")
        await program.settle()
        assert [double.starts for double in program.doubles.values()] == [2] * 5


async def test_e5_a_dependent_gets_the_new_value_after_a_bounce() -> None:
    program = Program()
    seen: list[str] = []

    async def look(life: Life) -> None:
        seen.append(life.get("db", str))
        await serve(life)

    db = program.install("db", value="one")
    program.install("api", "db", body=look)
    async with program.running() as engine:
        db.value = "two"
        engine.restart("db")
        await program.settle()
        assert seen == ["one", "two"]


# -- optional: whether a start waits for it ----


async def test_e5_a_missing_optional_input_holds_up_nobody() -> None:
    program = Program()
    program.install("api", optional=("cache",))
    async with program.running():
        assert program.starts == ["api"]
        assert program.doubles["api"].life.get.optional("cache", str) is None


@pytest.mark.parametrize("reverse", [False, True])
async def test_e5_a_start_waits_while_an_optional_input_is_starting(reverse: bool) -> None:  # noqa: FBT001
    program = Program()
    if reverse:
        program.install("api", optional=("cache",))
    cache = program.install("cache", body=when_told)
    if not reverse:
        program.install("api", optional=("cache",))
    async with program.running(settle=False) as engine:
        assert program.states == {"cache": "starting", "api": "waiting"}
        assert "cache" in str(engine.explain("api"))
        cache.life.get_ready()
        await wait_all_tasks_blocked()
        assert program.starts == ["cache", "api"]
        assert program.doubles["api"].life.get.optional("cache", str) == "cache"


async def test_e5_a_start_waits_while_an_optional_input_is_draining_or_stopping() -> None:
    program = Program()
    program.install("cache", body=linger)
    other = program.install("other", "cache", body=linger)
    async with program.running() as engine:
        engine.hold("cache")
        await wait_all_tasks_blocked()
        assert program.states["cache"] == "draining"
        api = program.install("api", optional=("cache",))
        await wait_all_tasks_blocked()
        assert api.state == "waiting"
        other.let_go.set()
        await wait_all_tasks_blocked()
        assert program.states["cache"] == "stopping"
        assert api.state == "waiting"
        program.doubles["cache"].let_go.set()
        await wait_all_tasks_blocked()
        assert program.states["cache"] == "held"
        assert (api.starts, api.state) == (1, "started")


@pytest.mark.parametrize(
    "body, state",
    [
        (failing(OSError("no")), "delayed"),
        (failing(RetryAfter(5)), "delayed"),
        (failing(Missing("not yet")), "waiting"),
        (ready_and_return, "done"),
    ],
    ids=["error", "retry", "missing", "done"],
)
async def test_e5_a_start_does_not_wait_while_an_optional_input_rests(
    body: Body, state: str, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("cache", body=body)
    async with program.running(settle=False):
        await wait_all_tasks_blocked()
        assert program.states == {"cache": state}
        api = program.install("api", optional=("cache",))
        await wait_all_tasks_blocked()
        assert (api.starts, api.state) == (1, "started")


async def test_e5_a_start_does_not_wait_for_an_optional_input_that_is_held_or_waits() -> None:
    program = Program()
    program.install("held")
    program.install("waits", "nobody")
    async with program.running() as engine:
        engine.hold("held")
        await program.settle()
        program.forget()
        program.install("api", optional=("held", "waits"))
        await program.settle()
        assert program.starts == ["api"]


async def test_e5_a_start_that_waited_goes_on_without_an_optional_input_that_failed() -> None:
    program = Program()
    cache = program.install("cache", body=when_told)
    api = program.install("api", optional=("cache",))
    async with program.running(settle=False):
        assert api.starts == 0
        cache.life.fail(OSError("no"))
        await wait_all_tasks_blocked()
        assert (cache.state, api.state) == ("delayed", "started")


async def test_e5_a_start_that_waited_goes_on_without_an_optional_input_that_was_removed() -> None:
    program = Program()
    program.install("cache", body=when_told)
    api = program.install("api", optional=("cache",))
    async with program.running(settle=False) as engine:
        engine.uninstall("cache")
        await wait_all_tasks_blocked()
        assert api.state == "started"


# -- optional: coming and going ----


async def test_e5_an_optional_input_that_comes_restarts_one_that_is_started() -> None:
    program = Program()
    api = program.install("api", optional=("cache",))
    async with program.running():
        program.install("cache")
        await program.settle()
        assert program.record == [
            "start api",
            "ready api",
            "start cache",
            "ready cache",
            "end api",
            "start api",
            "ready api",
        ]
        assert api.life.get.optional("cache", str) == "cache"


async def test_e5_an_optional_input_that_comes_restarts_one_that_is_starting() -> None:
    program = Program()
    api = program.install("api", optional=("cache",), body=when_told)
    async with program.running(settle=False):
        program.install("cache")
        await wait_all_tasks_blocked()
        assert program.starts == ["api", "cache", "api"]
        api.life.get_ready()
        await program.settle()
        assert api.starts == 2


async def test_e5_an_optional_input_that_comes_restarts_with_dependents_first() -> None:
    program = Program()
    program.install("api", optional=("cache",))
    program.install("web", "api")
    async with program.running():
        program.install("cache")
        await program.settle()
        assert program.ends == ["web", "api"]
        assert program.starts == ["api", "web", "cache", "api", "web"]


@pytest.mark.parametrize("seconds", [0, 5])
async def test_e5_one_bounce_of_an_optional_input_is_one_restart_of_ours(
    seconds: int, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("cache", body=starting_in(seconds))
    api = program.install("api", optional=("cache",), body=stopping_in(seconds))
    web = program.install("web", "api", body=stopping_in(seconds))
    async with program.running() as engine:
        assert (api.starts, web.starts) == (1, 1)
        program.forget()
        engine.restart("cache")
        await program.settle()
        assert program.ends == ["web", "api", "cache"]
        assert program.starts == ["cache", "api", "web"]


async def test_e5_one_bounce_of_two_optional_inputs_is_one_restart_of_ours() -> None:
    program = Program()
    program.install("a")
    program.install("b", optional=("a",))
    api = program.install("api", optional=("b", "a"))
    async with program.running() as engine:
        assert program.starts == ["a", "b", "api"]
        engine.restart("a")
        await program.settle()
        assert [program.doubles[n].starts for n in ("a", "b", "api")] == [2, 2, 2]
        assert api.life.get.optional("b", str) == "b"


async def test_e5_a_stop_of_an_optional_input_for_good_is_one_restart_without_it() -> None:
    program = Program()
    program.install("cache")
    api = program.install("api", optional=("cache",))
    async with program.running() as engine:
        engine.uninstall("cache")
        await program.settle()
        assert program.ends == ["api", "cache"]
        assert (api.starts, api.state) == (2, "started")
        assert api.life.get.optional("cache", str) is None


async def test_e5_an_optional_input_that_returns_restarts_those_that_began_with_it() -> None:
    program = Program()
    cache = program.install("cache")
    api = program.install("api", optional=("cache",))
    async with program.running():
        cache.life.finish()
        await program.settle()
        assert program.states == {"cache": "done", "api": "started"}
        assert api.starts == 2


@pytest.mark.parametrize("order", ["root cache api", "root api cache", "api cache root"])
async def test_e5_siblings_that_come_together_start_in_the_right_order(order: str) -> None:
    # Both wait for "root"; "api" must not start first only to be restarted by "cache".
    program = Program()
    for name in order.split():
        if name == "root":
            program.install("root", body=when_told)
        elif name == "cache":
            program.install("cache", "root")
        else:
            program.install("api", "root", optional=("cache",))
    async with program.running(settle=False) as engine:
        program.doubles["root"].life.get_ready()
        await program.settle()
        assert program.starts == ["root", "cache", "api"]
        program.doubles["root"].body = serve
        engine.restart("root")
        await program.settle()
        assert program.doubles["api"].starts == 2


async def test_e5_siblings_that_a_change_wakes_start_in_the_right_order(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("api", "root", optional=("cache",))
    program.install("cache", "root", body=ready_and_return)
    program.install("root")
    async with program.running() as engine:
        assert program.states["cache"] == "done"
        program.doubles["cache"].body = serve
        program.forget()
        engine.restart("root")
        await program.settle()
        assert program.starts == ["root", "cache", "api"]


async def test_e5_one_that_is_about_to_start_again_is_waited_for_whatever_it_ended_with(
    autojump_clock: MockClock,
) -> None:
    # It misses what has come meanwhile: so it starts at once, and "api" not before it.
    async def missing_too_late(life: Life) -> None:
        async def fail() -> None:
            await trio.sleep(1)
            raise Missing("no prices")

        async def linger() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)

        if "prices" not in program.doubles:
            life.get.start_soon(fail)
            life.get.start_soon(linger)
        await serve(life)

    program = Program()
    program.install("cache", live=("prices",), body=missing_too_late)
    api = program.install("api", optional=("cache",))
    async with program.running():
        program.install("prices")
        await trio.sleep(1.5)
        assert (api.starts, api.state) == (1, "waiting")
        await program.settle()
        assert program.starts == ["cache", "api", "prices", "cache", "api"]


async def test_e5_a_name_that_is_required_by_one_and_optional_for_another_serves_both() -> None:
    program = Program()
    program.install("db")
    program.install("needs", "db")
    program.install("likes", optional=("db",))
    async with program.running() as engine:
        engine.restart("db")
        await program.settle()
        assert program.doubles["needs"].starts == 2
        assert program.doubles["likes"].starts == 2


# -- live ----


async def test_e5_live_readers_start_without_waiting_and_are_never_restarted() -> None:
    program = Program()
    config = program.install("config", body=when_told)
    reader = program.install("reader", live=("config",))
    async with program.running(settle=False) as engine:
        assert reader.state == "started"
        view = reader.life.get.live("config", str)
        assert seen_in(view) is None
        config.life.get_ready()
        await wait_all_tasks_blocked()
        assert seen_in(view) == "config"
        config.body = serve
        config.value = "new"
        engine.restart("config")
        await program.settle()
        assert seen_in(view) == "new"
        engine.uninstall("config")
        await program.settle()
        assert seen_in(view) is None
        assert reader.starts == 1


async def test_e5_a_live_reader_can_wait_for_the_value() -> None:
    program = Program()
    got = trio.Event()

    async def wait(life: Life) -> None:
        life.ready()
        view = life.get.live("config", str)
        assert await view.wait_value(lambda value: value is not None) == "late"
        got.set()
        await life.obey()

    program.install("reader", live=("config",), body=wait)
    async with program.running():
        assert not got.is_set()
        program.install("config", value="late")
        await got.wait()
