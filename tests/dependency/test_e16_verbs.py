"""E16: the operator's verbs, out of and into every state."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, NotFound, RestartPolicy
from trioworker.dependency import Engine, EngineConfig, Manifold, Missing, Uninstall

from .harness import (
    Double,
    Program,
    failing,
    failing_when_stopped,
    linger,
    ready_and_return,
    serve,
    when_told,
)

VERBS = ["restart", "hold", "release", "uninstall"]


def put(program: Program, state: str) -> Double:
    """Install `db` so that it will be in `state` once the engine runs and `reach` was called."""
    options: dict[str, Any] = {}
    match state:
        case "waiting for an input":
            return program.install("db", "nobody")
        case "missing":
            options["body"] = failing(Missing("config"))
        case "delayed":
            options["body"] = failing(OSError("gone"))
            options["restart"] = RestartPolicy(error_delay=1000.0, max_delay=1000.0)
        case "failed":
            options["body"] = failing(OSError("gone"))
            options["restart"] = RestartPolicy(max_restarts=0)
        case "starting":
            options["body"] = when_told
        case "stopping" | "draining":
            options["body"] = linger
        case "done":
            options["body"] = ready_and_return
        case _:
            pass
    db = program.install("db", **options)
    if state == "draining":
        program.install("api", "db", body=linger)
    return db


async def reach(program: Program, state: str) -> None:
    await wait_all_tasks_blocked()
    if state == "held":
        program.engine.hold("db")
    elif state in {"stopping", "draining"}:
        # What the engine itself would do, so that no intention is left behind.
        program.engine.restart("db")
    await wait_all_tasks_blocked()
    shown = {"waiting for an input": "waiting", "missing": "waiting"}.get(state, state)
    assert program.states["db"] == shown
    db = program.doubles["db"]
    if state != "waiting for an input":
        db.body = linger if state in {"stopping", "draining"} else serve


async def let_end(program: Program) -> None:
    for double in program.doubles.values():
        double.let_go.set()
    await wait_all_tasks_blocked()


STATES = [
    "waiting for an input",
    "missing",
    "delayed",
    "starting",
    "started",
    "draining",
    "stopping",
    "done",
    "failed",
    "held",
]


async def after(state: str, *verbs: str) -> str:
    """Bring a manifold into `state`, call `verbs`, let all runs end; return its last state."""
    program = Program()
    db = put(program, state)
    async with program.running(settle=False) as engine:
        await reach(program, state)
        for verb in verbs:
            if verb == "drain":
                engine.drain()
            else:
                getattr(engine, verb)("db")
        await let_end(program)
        starts, result = db.starts, db.state
        await wait_all_tasks_blocked()
        assert (db.starts, db.state) == (starts, result), "it has come to rest"
        return result


# -- each verb in each state ----


@pytest.mark.parametrize("state", STATES)
async def test_e16_restart_leads_out_of_every_state_but_held(
    state: str, autojump_clock: MockClock
) -> None:
    expected = {"waiting for an input": "waiting", "held": "held"}

    assert await after(state, "restart") == expected.get(state, "started")


@pytest.mark.parametrize("state", [s for s in STATES if s != "waiting for an input"])
async def test_e16_restart_starts_exactly_once_more(state: str, autojump_clock: MockClock) -> None:
    program = Program()
    db = put(program, state)
    async with program.running(settle=False) as engine:
        await reach(program, state)
        before = db.starts
        for _ in range(5):
            engine.restart("db")
        await let_end(program)
        # Five calls at once are one restart. Stopped before it has begun, a start counts for
        # nothing: the second call takes back what the first has started.
        assert db.starts == before + (state != "held")


@pytest.mark.parametrize("verb", ["hold", "drain"])
@pytest.mark.parametrize("state", STATES)
async def test_e16_hold_and_drain_lead_from_every_state_to_held(
    state: str, verb: str, autojump_clock: MockClock
) -> None:
    assert await after(state, verb) == "held"
    assert await after(state, verb, verb, "restart", verb) == "held"


@pytest.mark.parametrize("state", STATES)
async def test_e16_hold_and_release_lead_from_every_state_to_running(
    state: str, autojump_clock: MockClock
) -> None:
    expected = "waiting" if state == "waiting for an input" else "started"

    assert await after(state, "hold", "release") == expected
    assert await after(state, "drain", "release", "release") == expected


@pytest.mark.parametrize("state", [s for s in STATES if s != "held"])
async def test_e16_release_of_what_is_not_held_changes_nothing(
    state: str, autojump_clock: MockClock
) -> None:
    program = Program()
    db = put(program, state)
    async with program.running(settle=False) as engine:
        await reach(program, state)
        before = engine.report().manifolds["db"]
        engine.release("db")
        await wait_all_tasks_blocked()
        assert engine.report().manifolds["db"] == before
        db.let_go.set()
        await let_end(program)


@pytest.mark.parametrize("state", STATES)
async def test_e16_uninstall_leads_from_every_state_to_absent(
    state: str, autojump_clock: MockClock
) -> None:
    assert await after(state, "uninstall") == "absent"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("then", [[], ["hold"], ["restart"], ["release"]])
async def test_e16_kill_leads_from_every_state_to_stopped(
    state: str, then: list[str], autojump_clock: MockClock
) -> None:
    program = Program()
    db = put(program, state)
    async with program.running(settle=False) as engine:
        await reach(program, state)
        engine.kill()
        for verb in then:
            getattr(engine, verb)("db")
        await let_end(program)
    assert db.state == "stopped"


# -- intentions ----


@pytest.mark.parametrize(
    "verbs, state",
    [
        (["hold", "restart"], "held"),
        (["restart", "hold"], "held"),
        (["hold", "hold", "release"], "started"),
        (["restart", "hold", "release"], "started"),
        (["uninstall", "hold"], "absent"),
        (["hold", "uninstall"], "absent"),
        (["uninstall", "release"], "absent"),
        (["hold", "uninstall", "release"], "absent"),
        (["uninstall", "restart"], "absent"),
        (["uninstall", "drain"], "absent"),
        (["drain", "release", "drain"], "held"),
        (["kill", "uninstall"], "stopped"),
        (["uninstall", "kill"], "stopped"),
        (["kill", "release"], "stopped"),
    ],
    ids=" ".join,
)
async def test_e16_a_later_verb_raises_the_intention_and_only_release_lowers_hold(
    verbs: list[str], state: str
) -> None:
    """All of them while one run is stopping."""
    program = Program()
    db = program.install("db", body=linger)
    async with program.running() as engine:
        engine.restart("db")
        await wait_all_tasks_blocked()
        for verb in verbs:
            if verb in {"kill", "drain"}:
                getattr(engine, verb)()
            else:
                getattr(engine, verb)("db")
        assert db.state == "stopping"
        await let_end(program)
        assert db.state == state
    assert db.starts == (2 if state == "started" else 1)


async def test_e16_a_verdict_of_uninstall_outranks_hold_but_not_shutdown() -> None:
    program = Program()
    db = program.install("db", body=failing_when_stopped(Uninstall()))
    other = program.install("other", body=failing_when_stopped(Uninstall()))
    async with program.running() as engine:
        engine.hold("db")
        await engine.wait_settled()
        assert db.state == "absent"
        engine.kill()
    assert other.state == "stopped"


# -- planned stops ----


@pytest.mark.parametrize("verb", ["restart", "hold", "uninstall"])
async def test_e16_verbs_stop_dependents_first(verb: str) -> None:
    program = Program()
    program.chain("db", "api", "web")
    program.install("other")
    async with program.running() as engine:
        program.forget()
        getattr(engine, verb)("db")
        await engine.wait_settled()
        assert program.ends == ["web", "api", "db"]
        assert program.starts == (["db", "api", "web"] if verb == "restart" else [])
        assert program.states["other"] == "started"


async def test_e16_drain_stops_everything_dependents_first_and_the_engine_answers() -> None:
    program = Program()
    program.chain("db", "api", "web")
    async with program.running() as engine:
        engine.drain()
        await engine.wait_settled()
        assert program.ends == ["web", "api", "db"]
        assert set(program.states.values()) == {"held"}
        assert engine.state == "alive"
        assert str(engine.explain("web")).startswith("web is held by an operator")
        program.install("late")
        await engine.wait_settled()
        assert program.states["late"] == "started", "drain is about what is there"
        for name in "web", "api", "db":
            engine.release(name)
        await engine.wait_settled()
        assert set(program.states.values()) == {"started"}


async def test_e16_drain_starts_nothing_on_its_way() -> None:
    """A live reader that is done would start again because its input changes."""
    program = Program()
    program.install("config")
    program.install("job", body=ready_and_return, live=("config",))
    program.install("optional", body=ready_and_return, optional=("config",))
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        program.forget()
        engine.drain()
        await engine.wait_settled()
        assert program.starts == []
        assert set(program.states.values()) == {"held"}


async def test_e16_a_held_dependent_does_not_come_back_with_its_input() -> None:
    program = Program()
    program.chain("db", "api")
    async with program.running() as engine:
        engine.hold("api")
        engine.restart("db")
        await engine.wait_settled()
        assert program.states == {"db": "started", "api": "held"}


async def test_e16_dependents_of_a_held_one_wait_and_come_back_after_release() -> None:
    program = Program()
    program.chain("db", "api")
    async with program.running() as engine:
        engine.hold("db")
        await engine.wait_settled()
        assert program.states == {"db": "held", "api": "waiting"}
        engine.release("db")
        await engine.wait_settled()
        assert program.states == {"db": "started", "api": "started"}


async def test_e16_what_is_held_before_run_does_not_start() -> None:
    program = Program()
    db = program.install("db")
    program.engine.hold("db")
    async with program.running() as engine:
        assert db.state == "held"
        assert db.starts == 0
        engine.release("db")
        await engine.wait_settled()
        assert db.state == "started"


async def test_e16_restart_of_a_start_that_hangs_starts_it_again() -> None:
    program = Program()
    db = program.install("db", body=when_told)
    async with program.running(settle=False) as engine:
        db.body = serve
        engine.restart("db")
        await engine.wait_settled()
        assert db.state == "started"
        assert db.starts == 2


async def test_e16_restart_during_a_crash_takes_away_its_delay(autojump_clock: MockClock) -> None:
    async def slow_to_clean_up(life: Any) -> None:
        async def clean() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await life.double.let_go.wait()

        life.get.start_soon(clean)
        await serve(life)

    program = Program()
    db = program.install("db", body=slow_to_clean_up)
    async with program.running() as engine:
        db.life.fail(OSError())
        await wait_all_tasks_blocked()
        assert db.state == "stopping"
        db.body = serve
        engine.restart("db")
        await let_end(program)
        assert db.state == "started"
        assert trio.current_time() == 0
        assert engine.report().manifolds["db"].failures == 0


# -- names ----


def test_e16_every_verb_is_sync() -> None:
    for verb in [*VERBS, "drain", "kill", "install", "install_all"]:
        assert not inspect.iscoroutinefunction(getattr(Engine, verb)), verb


@pytest.mark.parametrize("verb", VERBS)
def test_e16_an_unknown_name_is_refused_with_those_that_are_near(verb: str) -> None:
    engine = Engine(EngineConfig(name="ingest"))
    for name in "database", "api", "web":
        engine.install(name, Manifold(Program().make(name).manifold.start))

    with pytest.raises(NotFound) as caught:
        getattr(engine, verb)("databse")

    assert str(caught.value) == (
        'no manifold "databse" is installed in "ingest" (did you mean "database"?)'
    )
    with pytest.raises(NotFound) as caught:
        getattr(engine, verb)("zzz")
    assert str(caught.value) == 'no manifold "zzz" is installed in "ingest"'


@pytest.mark.parametrize("verb", VERBS)
async def test_e16_a_name_that_is_only_declared_is_not_found(verb: str) -> None:
    program = Program()
    program.install("api", "db")
    async with program.running() as engine:
        with pytest.raises(NotFound):
            getattr(engine, verb)("db")


# -- a dying or dead engine ----


@pytest.mark.parametrize("verb", [*VERBS, "drain"])
@pytest.mark.parametrize("when", ["dying", "dead", "killed before run"])
async def test_e16_verbs_on_an_engine_that_ends_have_no_effect_and_raise_nothing(
    verb: str, when: str
) -> None:
    program = Program()
    db = program.install("db", body=linger)
    call: Callable[[], object] = (
        program.engine.drain if verb == "drain" else lambda: getattr(program.engine, verb)("db")
    )
    if when == "killed before run":
        program.engine.kill()
        call()
        await program.engine.run()
        assert db.starts == 0
    else:
        async with program.running() as engine:
            engine.kill()
            await wait_all_tasks_blocked()
            if when == "dying":
                call()
                await wait_all_tasks_blocked()
                assert db.state == "stopping"
            db.let_go.set()
        if when == "dead":
            call()
        assert db.starts == 1
    assert db.state == "stopped"


@pytest.mark.parametrize("when", ["dying", "dead"])
async def test_e16_installing_into_an_engine_that_ends_is_refused(when: str) -> None:
    program = Program()
    db = program.install("db", body=linger)
    late = program.make("late")
    async with program.running() as engine:
        engine.kill()
        await wait_all_tasks_blocked()
        if when == "dying":
            with pytest.raises(Dying, match='"engine" is dying'):
                engine.install("late", late.manifold)
        db.let_go.set()
    if when == "dead":
        with pytest.raises(Dying, match='"engine" is dead'):
            engine.install("late", late.manifold)
    assert list(program.states) == ["db"]


async def test_e16_unknown_names_are_refused_by_a_dead_engine_too() -> None:
    program = Program()
    async with program.running():
        pass
    with pytest.raises(NotFound):
        program.engine.restart("db")


async def test_e16_drain_copes_with_what_is_uninstalled_on_its_way() -> None:
    program = Program()

    def ask(value: object) -> None:
        program.engine.uninstall("idle")

    program.install("db", ask=ask)
    program.install("idle", body=ready_and_return)
    program.install("last")
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.drain()
        await engine.wait_settled()
        assert program.states == {"db": "held", "last": "held"}


async def test_e16_killing_twice_with_one_error_tells_it_once() -> None:
    program = Program()
    program.install("db")
    error = OSError("gone")
    with pytest.raises(OSError, match=r"^gone$") as caught:
        async with program.running() as engine:
            engine.kill(error)
            engine.kill(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert not getattr(error, "__notes__", [])
