"""E1: installing and uninstalling: what is refused, what stays as it was, what comes of it."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import AlreadyExists, CycleError, Dying, MisuseError, NotFound, UnknownInput
from trioworker.dependency import Engine, Manifold

from .harness import Program, failing, failing_when_stopped, linger, serve, when_told


def manifold(*inputs: str, **options: Any) -> Manifold:
    async def start(get: Any, *, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("up")
        await trio.sleep_forever()

    return Manifold(start, inputs=inputs, **options)


def names(engine: Engine) -> list[str]:
    return list(engine.report().manifolds)


# -- when ----


def test_e1_install_is_sync_and_works_before_run_and_outside_of_trio() -> None:
    engine = Engine()
    engine.install("db", manifold())
    engine.install("api", manifold("db"))

    assert names(engine) == ["db", "api"]


async def test_e1_what_is_installed_before_run_starts_with_run() -> None:
    program = Program()
    program.chain("db", "api")
    await wait_all_tasks_blocked()
    assert program.record == []

    async with program.running():
        assert program.starts == ["db", "api"]


async def test_e1_what_is_installed_during_run_starts_at_once() -> None:
    program = Program()
    async with program.running():
        program.install("db")
        await wait_all_tasks_blocked()
        assert program.starts == ["db"]
        program.install("api", "db")
        await wait_all_tasks_blocked()
        assert program.starts == ["db", "api"]


async def test_e1_dependents_may_be_installed_before_their_inputs() -> None:
    program = Program()
    async with program.running():
        program.install("web", "api")
        program.install("api", "db")
        await wait_all_tasks_blocked()
        assert program.starts == []
        program.install("db")
        await wait_all_tasks_blocked()
        assert program.starts == ["db", "api", "web"]


async def test_e1_a_worker_may_install_others_from_its_start() -> None:
    program = Program()
    child = program.make("child")

    async def parent(life: Any) -> None:
        program.engine.install("child", child.manifold)
        await serve(life)

    program.install("parent", body=parent)
    async with program.running():
        assert program.states == {"parent": "started", "child": "started"}


async def test_e1_an_input_that_is_not_installed_is_a_visible_wait() -> None:
    program = Program()
    program.install("api", "db")
    async with program.running():
        api = program.engine.report().manifolds["api"]
        assert (api.state, api.waiting_for) == ("waiting", ("db",))
        assert "db" in str(program.engine.explain("api"))
        assert "installed" in str(program.engine.explain("api"))


async def test_e1_installing_on_a_dying_engine_is_refused_with_dying() -> None:
    program = Program()
    program.install("slow", body=linger)
    async with program.running() as engine:
        engine.kill()
        with pytest.raises(Dying, match="engine"):
            engine.install("late", manifold())
        with pytest.raises(Dying, match="engine"):
            engine.install_all({"late": manifold()})
        assert names(engine) == ["slow"]
        program.doubles["slow"].let_go.set()


async def test_e1_installing_on_a_dead_engine_is_refused_with_dying() -> None:
    program = Program()
    async with program.running():
        pass
    with pytest.raises(Dying):
        program.engine.install("late", manifold())
    with pytest.raises(Dying):
        program.engine.install_all({})


async def test_e1_installing_on_an_engine_killed_before_run_is_refused_with_dying() -> None:
    engine = Engine()
    engine.kill()
    with pytest.raises(Dying):
        engine.install("late", manifold())
    await engine.run()


# -- names ----


@pytest.mark.parametrize("during_run", [False, True])
async def test_e1_a_duplicate_name_is_an_error_and_changes_nothing(during_run: bool) -> None:  # noqa: FBT001
    program = Program()
    program.install("db")

    def refused() -> None:
        with pytest.raises(AlreadyExists, match='"db"'):
            program.engine.install("db", manifold("other"))

    if not during_run:
        refused()
    async with program.running():
        if during_run:
            refused()
        await wait_all_tasks_blocked()
        assert program.states == {"db": "started"}
        assert program.starts == ["db"]


async def test_e1_a_name_stays_taken_until_its_run_has_ended() -> None:
    program = Program()
    db = program.install("db", body=linger)
    async with program.running() as engine:
        engine.uninstall("db")
        await wait_all_tasks_blocked()
        with pytest.raises(AlreadyExists, match="ended"):
            engine.install("db", manifold())
        db.let_go.set()
        await engine.wait_state("db", "absent")
        engine.install("db", manifold())
        await program.settle()
        assert program.states == {"db": "started"}


async def test_e1_a_name_stays_taken_while_its_dependents_still_drain() -> None:
    program = Program()
    program.install("db")
    api = program.install("api", "db", body=linger)
    async with program.running() as engine:
        engine.uninstall("db")
        await wait_all_tasks_blocked()
        assert program.states == {"db": "draining", "api": "stopping"}
        with pytest.raises(AlreadyExists):
            engine.install("db", manifold())
        api.let_go.set()
        await engine.wait_state("db", "absent")


async def test_e1_the_name_of_a_stuck_run_stays_taken(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.uninstall("db")
        await trio.sleep(100)
        with pytest.raises(AlreadyExists):
            engine.install("db", manifold())
        db.let_go.set()
        await engine.wait_state("db", "absent")


@pytest.mark.parametrize("name", ["", 7, None, b"db"])
def test_e1_a_name_is_a_string(name: Any) -> None:
    with pytest.raises(TypeError, match="name"):
        Engine().install(name, manifold())


def test_e1_what_is_no_manifold_is_refused_and_the_right_call_shown() -> None:
    engine = Engine()
    start: Any = manifold().start
    with pytest.raises(TypeError, match=r'install\("db", Manifold'):
        engine.install("db", start)
    assert names(engine) == []


# -- cycles ----


def test_e1_a_manifold_that_needs_itself_is_a_cycle() -> None:
    engine = Engine()
    with pytest.raises(CycleError, match="a -> a") as caught:
        engine.install("a", manifold("a"))
    assert caught.value.path == ("a", "a")
    assert names(engine) == []


def test_e1_a_cycle_of_two_names_its_path() -> None:
    engine = Engine()
    engine.install("b", manifold("a"))
    with pytest.raises(CycleError, match="a -> b -> a") as caught:
        engine.install("a", manifold("b"))
    assert caught.value.path == ("a", "b", "a")


def test_e1_a_long_cycle_names_its_path_along_the_inputs() -> None:
    engine = Engine()
    engine.install("b", manifold("c"))
    engine.install("c", manifold("x", "d"))
    engine.install("d", manifold("y", "a"))
    engine.install("x", manifold())
    with pytest.raises(CycleError, match="a -> b -> c -> d -> a") as caught:
        engine.install("a", manifold("x", "b"))
    assert caught.value.path == ("a", "b", "c", "d", "a")
    assert isinstance(caught.value, MisuseError)


@pytest.mark.parametrize(
    "closing",
    [manifold("b"), manifold(optional=("b",)), manifold("role").bind({"role": "b"})],
    ids=["inputs", "optional", "bound"],
)
@pytest.mark.parametrize("first", [manifold("a"), manifold(optional=("a",))], ids=["req", "opt"])
def test_e1_cycles_run_over_required_and_optional_inputs(
    first: Manifold, closing: Manifold
) -> None:
    engine = Engine()
    engine.install("b", first)
    with pytest.raises(CycleError) as caught:
        engine.install("a", closing)
    assert caught.value.path == ("a", "b", "a")


def test_e1_a_role_bound_to_ones_own_name_is_a_cycle() -> None:
    with pytest.raises(CycleError, match="a -> a"):
        Engine().install("a", manifold("role").bind({"role": "a"}))


async def test_e1_live_inputs_do_not_count_for_cycles() -> None:
    program = Program()
    program.install("a", live=("b",))
    program.install("b", "a")
    program.install("self", live=("self",))
    async with program.running():
        assert set(program.states.values()) == {"started"}
        assert sorted(program.starts) == ["a", "b", "self"]


async def test_e1_a_refused_cycle_leaves_no_trace() -> None:
    program = Program()
    program.install("b", "a")
    with pytest.raises(CycleError):
        program.engine.install("a", manifold("b", "ghost", live=("phantom",)))
    assert names(program.engine) == ["b"]
    for name in ("ghost", "phantom"):
        with pytest.raises(NotFound):
            program.engine.explain(name)
    program.install("a")
    async with program.running():
        assert program.starts == ["a", "b"]


async def test_e1_a_cycle_is_refused_during_run_too_and_disturbs_nobody() -> None:
    program = Program()
    program.install("b", optional=("a",))
    async with program.running() as engine:
        with pytest.raises(CycleError):
            engine.install("a", manifold("b"))
        await wait_all_tasks_blocked()
        assert program.states == {"b": "started"}
        assert program.starts == ["b"]


async def test_e1_a_cycle_that_an_uninstall_has_opened_is_none() -> None:
    program = Program()
    program.chain("a", "b")
    async with program.running() as engine:
        engine.uninstall("b")
        await engine.wait_state("b", "absent")
        engine.uninstall("a")
        await engine.wait_state("a", "absent")
        program.forget()
        program.install("a", "b")
        program.install("b")
        await program.settle()
        assert program.starts == ["b", "a"]


def test_e1_a_diamond_is_no_cycle() -> None:
    engine = Engine()
    engine.install("top", manifold("left", "right"))
    engine.install("left", manifold("root"))
    engine.install("right", manifold("root", "left"))
    engine.install("root", manifold())
    assert len(names(engine)) == 4


# -- install_all ----


async def test_e1_install_all_installs_all_in_any_order() -> None:
    program = Program()
    web, api, db = (program.make("web", "api"), program.make("api", "db"), program.make("db"))
    async with program.running() as engine:
        engine.install_all({"web": web.manifold, "api": api.manifold, "db": db.manifold})
        await program.settle()
        assert program.starts == ["db", "api", "web"]


BROKEN: dict[str, tuple[type[Exception], dict[Any, Any]]] = {
    "taken": (AlreadyExists, {"db": manifold()}),
    "cycle": (CycleError, {"x": manifold("y"), "y": manifold("x")}),
    "optional cycle": (CycleError, {"x": manifold("y"), "y": manifold(optional=("x",))}),
    "cycle with the installed": (CycleError, {"ghost": manifold("waiter")}),
    "self": (CycleError, {"x": manifold("x")}),
    "unknown": (UnknownInput, {"x": manifold("nobody")}),
    "no manifold": (TypeError, {"x": object()}),
    "no name": (TypeError, {"": manifold()}),
    "name is no string": (TypeError, {7: manifold()}),
}


@pytest.mark.parametrize("bad_first", [True, False])
@pytest.mark.parametrize("case", list(BROKEN))
async def test_e1_install_all_is_all_or_nothing(case: str, bad_first: bool) -> None:  # noqa: FBT001
    error, broken = BROKEN[case]
    good: dict[str, Any] = {"good": manifold(), "better": manifold("good", "db")}
    program = Program()
    program.install("db")
    program.install("waiter", "ghost")
    async with program.running() as engine:
        before = program.states
        with pytest.raises(error):
            engine.install_all({**broken, **good} if bad_first else {**good, **broken})
        await wait_all_tasks_blocked()
        assert program.states == before
        for name in ("good", "better", "x", "y", "nobody"):
            with pytest.raises(NotFound):
                engine.explain(name)
        engine.install_all(good)  # nothing is left in the way
        await program.settle()
        assert program.states == {**before, "good": "started", "better": "started"}


def test_e1_install_all_names_every_unknown_input_and_a_likely_typo() -> None:
    engine = Engine()
    with pytest.raises(UnknownInput) as caught:
        engine.install_all({"database": manifold(), "api": manifold("databse", "clock")})
    message = str(caught.value)
    for word in ('"databse"', '"clock"', '"api"', '"database"', "later"):
        assert word in message


async def test_e1_install_all_accepts_inputs_that_come_later_if_told() -> None:
    program = Program()
    api = program.make("api", "db")
    async with program.running() as engine:
        engine.install_all({"api": api.manifold}, later={"db"})
        await program.settle()
        assert program.states == {"api": "waiting"}
        program.install("db")
        await program.settle()
        assert program.starts == ["db", "api"]


def test_e1_install_all_accepts_inputs_that_are_installed_and_unknown_optional_and_live_ones() -> (
    None
):
    engine = Engine()
    engine.install("db", manifold())
    engine.install_all({"api": manifold("db", optional=("cache",), live=("config",))})
    assert names(engine) == ["db", "api"]


def test_e1_an_input_that_is_only_declared_by_others_is_unknown_to_install_all() -> None:
    engine = Engine()
    engine.install("api", manifold("db"))
    with pytest.raises(UnknownInput):
        engine.install_all({"web": manifold("db")})


def test_e1_install_all_of_nothing_is_fine() -> None:
    engine = Engine()
    engine.install_all({})
    assert names(engine) == []


async def test_e1_install_all_does_not_restart_what_sees_an_optional_input_come_with_it() -> None:
    program = Program()
    api = program.make("api", optional=("cache",))
    cache = program.make("cache")
    async with program.running() as engine:
        engine.install_all({"api": api.manifold, "cache": cache.manifold})
        await program.settle()
        assert program.starts == ["cache", "api"]


# -- uninstall ----


async def test_e1_uninstall_stops_dependents_first() -> None:
    program = Program()
    program.chain("db", "api", "web")
    async with program.running() as engine:
        engine.uninstall("db")
        await program.settle()
        assert program.ends == ["web", "api", "db"]


async def test_e1_dependents_of_the_uninstalled_stay_and_wait_and_say_why() -> None:
    program = Program()
    program.chain("db", "api", "web")
    async with program.running() as engine:
        engine.uninstall("db")
        await program.settle()
        assert program.states == {"api": "waiting", "web": "waiting"}
        assert "uninstalled" in str(engine.explain("api"))
        with pytest.raises(NotFound):
            engine.restart("db")


async def test_e1_dependents_start_again_when_the_name_is_installed_again() -> None:
    program = Program()
    program.chain("db", "api", "web")
    async with program.running() as engine:
        engine.uninstall("db")
        await engine.wait_state("db", "absent")
        program.forget()
        program.install("db")
        await program.settle()
        assert program.starts == ["db", "api", "web"]


async def test_e1_uninstall_leaves_inputs_alone() -> None:
    program = Program()
    db, api = program.chain("db", "api")
    async with program.running() as engine:
        engine.uninstall("api")
        await program.settle()
        assert program.states == {"db": "started"}
        assert (db.starts, api.is_alive) == (1, False)


async def test_e1_uninstall_is_sync_and_idempotent_while_the_run_lasts() -> None:
    program = Program()
    db = program.install("db", body=linger)
    async with program.running() as engine:
        engine.uninstall("db")
        engine.uninstall("db")
        await wait_all_tasks_blocked()
        engine.uninstall("db")
        assert program.states == {"db": "stopping"}
        db.let_go.set()
        await engine.wait_state("db", "absent")
        with pytest.raises(NotFound, match='"db"'):
            engine.uninstall("db")


def test_e1_uninstall_before_run_is_immediate() -> None:
    engine = Engine()
    engine.install("db", manifold())
    engine.install("api", manifold("db"))
    engine.uninstall("db")
    assert names(engine) == ["api"]
    engine.install("db", manifold())
    assert sorted(names(engine)) == ["api", "db"]


async def test_e1_uninstall_of_one_that_starts_cancels_the_start() -> None:
    program = Program()
    program.install("db", body=when_told)
    async with program.running(settle=False) as engine:
        engine.uninstall("db")
        await program.settle()
        assert program.states == {}
        assert program.record == ["start db", "end db"]


async def test_e1_uninstall_of_one_that_waits_for_its_delay_needs_no_wait() -> None:
    program = Program()
    program.install("db", body=failing(OSError("no")))
    async with program.running(settle=False) as engine:
        assert program.states == {"db": "delayed"}
        engine.uninstall("db")
        assert program.states == {}
        await program.settle()
        assert program.starts == ["db"]


async def test_e1_uninstall_is_obeyed_whatever_the_stopping_raises() -> None:
    program = Program()
    program.install("db", body=failing_when_stopped(OSError("flush")))
    async with program.running() as engine:
        engine.uninstall("db")
        await program.settle()
        assert program.states == {}


async def test_e1_uninstall_from_within_ones_own_run_stops_it() -> None:
    program = Program()

    async def leave(life: Any) -> None:
        life.ready()
        program.engine.uninstall("db")
        await trio.sleep_forever()

    program.install("db", body=leave)
    async with program.running():
        assert program.states == {}
        assert program.record == ["start db", "ready db", "end db"]


def test_e1_uninstalling_what_is_only_declared_is_not_found() -> None:
    engine = Engine()
    engine.install("api", manifold("db"))
    with pytest.raises(NotFound):
        engine.uninstall("db")


def test_e1_removed_names_leave_nothing_behind() -> None:
    engine = Engine()
    for i in range(10):
        engine.install(f"api{i}", manifold(f"db{i}", optional=("cache",), live=("config",)))
    for i in range(10):
        engine.uninstall(f"api{i}")
    assert repr(engine).endswith("0 names>")


# -- cost ----


def test_e1_installing_a_chain_of_3000_both_ways_does_not_recurse_and_refuses_its_cycle() -> None:
    size = 3000
    for order in (range(size), range(size - 1, -1, -1)):
        engine = Engine()
        for i in order:
            engine.install(f"m{i}", manifold(*([f"m{i - 1}"] if i else [])))
        engine.uninstall("m0")
        with pytest.raises(CycleError) as caught:
            engine.install("m0", manifold(f"m{size - 1}"))
        assert len(caught.value.path) == size + 1


def test_e1_an_install_that_nobody_depends_on_looks_at_nobody_but_its_inputs() -> None:
    engine = Engine()
    engine.install_all(
        {f"m{i}": manifold(*([f"m{i - 1}"] if i else [])) for i in range(200)},
    )
    nodes = engine._registry._nodes
    seen: list[str] = []

    class Watched(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            seen.append(key)
            return super().get(key, default)

    engine._registry._nodes = Watched(nodes)
    engine.install("new", manifold("m199", "m0"))
    assert set(seen) == {"new", "m199", "m0"}
