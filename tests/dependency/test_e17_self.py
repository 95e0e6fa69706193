"""E17: an engine as a part of the program that it runs, and engines inside engines."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, NotOffered, Reporter
from trioworker.dependency import (
    Engine,
    EngineConfig,
    EngineReport,
    Getter,
    Inspector,
    Installer,
    Manifold,
    Missing,
    Operator,
    self_manifold,
)

from .harness import Life, Program, failing, failing_when_stopped, leave_softly, serve


class Boom(Exception):
    """Fatal."""


def is_boom(exc: BaseException) -> bool:
    return isinstance(exc, Boom)


def with_self(config: EngineConfig | None = None) -> Program:
    program = Program(config)
    program.engine.install("self", self_manifold(program.engine))
    return program


def installer_of(life: Life) -> Installer:
    return life.get("self", Installer)


def reporter_of(life: Life) -> Reporter:
    return life.get("self", Reporter)


def doing(act: Callable[[Life], object]) -> Callable[[Life], Any]:
    """Serve, having done something first."""

    async def body(life: Life) -> None:
        act(life)
        await serve(life)

    return body


# -- the faces ----


async def test_e17_a_worker_installs_others_from_inside() -> None:
    program = with_self()
    child = program.make("child", "db")

    def install(life: Life) -> None:
        installer_of(life).install("child", child.manifold)

    program.install("db")
    program.install("parent", "self", body=doing(install))
    async with program.running():
        assert program.states["child"] == "started"


async def test_e17_a_worker_installs_and_uninstalls_several() -> None:
    program = with_self()
    children = {name: program.make(name).manifold for name in ("a", "b")}

    def install(life: Life) -> None:
        installer = installer_of(life)
        installer.install_all(children)
        installer.uninstall("a")

    program.install("parent", "self", body=doing(install))
    async with program.running() as engine:
        await engine.wait_settled()
        assert program.states == {"self": "started", "parent": "started", "b": "started"}


async def test_e17_a_worker_may_uninstall_itself() -> None:
    program = with_self()

    def leave(life: Life) -> None:
        installer_of(life).uninstall("leaver")

    leaver = program.install("leaver", "self", body=doing(leave))
    async with program.running() as engine:
        await engine.wait_settled()
        assert leaver.state == "absent"
        assert leaver.starts == 1


async def test_e17_a_worker_that_is_restarted_meets_its_children_and_can_tell() -> None:
    """What it installed outlives it: the names are taken."""
    program = with_self()
    child = program.make("child")
    met: list[str] = []

    def install_once(life: Life) -> None:
        if "child" not in program.states:
            installer_of(life).install("child", child.manifold)
        else:
            met.append("child")

    program.install("parent", "self", body=doing(install_once))
    async with program.running() as engine:
        engine.restart("parent")
        await engine.wait_settled()
        assert met == ["child"]
        assert child.starts == 1


async def test_e17_the_reporter_face_reports() -> None:
    program = with_self()
    reports: list[object] = []

    def report(life: Life) -> None:
        reports.append(reporter_of(life).report())

    program.install("page", "self", body=doing(report))
    async with program.running():
        (seen,) = reports
        assert isinstance(seen, EngineReport)
        assert seen.manifolds["page"].state == "starting"


@pytest.mark.parametrize("face", [Installer, Reporter])
@pytest.mark.parametrize("lever", ["kill", "wait", "run", "restart", "hold", "drain", "state"])
async def test_e17_no_face_hands_out_the_levers(face: type[object], lever: str) -> None:
    program = with_self()
    faces: list[object] = []

    def take(life: Life) -> None:
        faces.append(life.get("self", face))

    program.install("curious", "self", body=doing(take))
    async with program.running():
        assert not hasattr(faces[0], lever)


async def test_e17_the_engine_itself_is_not_offered() -> None:
    program = with_self()
    refusals: list[str] = []

    def take(life: Life) -> None:
        try:
            life.get("self", Engine)
        except NotOffered as exc:
            refusals.append(str(exc))

    program.install("curious", "self", body=doing(take))
    async with program.running():
        assert "it offers: Installer, Operator, Inspector, Reporter" in refusals[0]


async def test_e17_an_operator_can_hold_and_release_but_not_kill() -> None:
    program = with_self()
    program.install("other")
    faces: list[Operator] = []

    def take(life: Life) -> None:
        faces.append(life.get("self", Operator))

    program.install("curious", "self", body=doing(take))
    async with program.running():
        [operator] = faces
        operator.hold("other")
        await program.settle()
        assert program.states["other"] == "held"
        operator.release("other")
        operator.restart("other")
        await program.settle()
        assert program.states["other"] == "started"
        assert not hasattr(operator, "kill")
        operator.drain()
        await program.settle()
        assert set(program.states.values()) == {"held"}


async def test_e17_an_inspector_sees_everything_and_has_no_levers() -> None:
    program = with_self()
    program.install("other", "nothing")
    faces: list[Inspector] = []

    def take(life: Life) -> None:
        faces.append(life.get("self", Inspector))

    program.install("curious", "self", body=doing(take))
    async with program.running() as engine:
        [inspector] = faces
        assert inspector.report().manifolds.keys() == engine.report().manifolds.keys()
        seen = {name: one.state for name, one in inspector.view().manifolds.items()}
        assert seen == {name: one.state for name, one in engine.report().manifolds.items()}
        assert inspector.view().tomb == engine.report().tomb
        assert inspector.explain("other") == engine.explain("other")
        assert inspector.blast_radius("self") == ("curious",)
        assert inspector.stacks("curious") == engine.stacks("curious")
        with inspector.events() as events:
            engine.hold("other")
            assert (await anext(events)).manifold == "other"
        assert not any(hasattr(inspector, lever) for lever in ("kill", "restart", "install"))


async def test_e17_installing_into_a_dying_engine_is_an_ending_and_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = with_self()
    child = program.make("child")
    refused: list[Dying] = []

    async def body(life: Life) -> None:
        installer = installer_of(life)
        await leave_softly(life)
        try:
            installer.install("child", child.manifold)
        except Dying as exc:
            refused.append(exc)
            raise

    program.install("parent", "self", body=body, grace=5.0)
    async with program.running():
        pass
    assert len(refused) == 1
    history = program.engine.report().manifolds["parent"].history
    assert [end.kind for end in history] == ["dying"], "told, although it is the engine's own"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


# -- engines inside engines ----


def nested(program: Program, name: str = "inner", **config: Any) -> Program:
    """Install a second program's engine as a manifold of the first. It runs once."""
    inner = Program(EngineConfig(name=name, **config))
    program.engine.install(name, Manifold.from_worker(lambda get: inner.engine))  # pyright: ignore[reportUnknownLambdaType]
    return inner


async def test_e17_an_engine_is_a_worker_and_runs_inside_another() -> None:
    program = Program()
    inner = nested(program)
    inner.chain("db", "api")
    async with program.running():
        await inner.engine.wait_settled()
        assert program.states == {"inner": "started"}
        assert inner.states == {"db": "started", "api": "started"}
    assert inner.engine.state == "dead"
    assert inner.ends == ["api", "db"]
    inner.check()


async def test_e17_a_nested_engine_is_drained_like_any_input() -> None:
    program = Program()
    inner = nested(program)
    db = inner.install("db")

    async def body(life: Life) -> None:
        life.get("inner", Engine)
        life.ready()
        try:
            await life.obey()
        finally:
            assert db.is_alive, "the inner one still runs: we use it"
            life.double.note("saw it alive")

    program.install("user", "inner", body=body)
    async with program.running():
        await inner.engine.wait_settled()
    assert "saw it alive user" in program.record


async def test_e17_inner_trouble_stays_inside(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(is_fatal=is_boom))
    inner = nested(program)
    inner.install("crashes", body=failing(*(Boom(f"inner {i}") for i in range(5))))
    inner.install("misses", body=failing(Missing()))
    async with program.running() as engine:
        await inner.engine.wait_settled()
        assert engine.report().manifolds["inner"].ends == 0
        assert inner.engine.report().manifolds["crashes"].ends == 5
        assert inner.states == {"crashes": "started", "misses": "waiting"}


async def test_e17_an_inner_fatal_error_is_an_error_of_the_outer_manifold(
    autojump_clock: MockClock,
) -> None:
    engines: list[Engine] = []

    def build(get: Getter) -> Engine:
        inner = Program(EngineConfig(name="inner", is_fatal=is_boom))
        inner.install("db", body=failing(Boom()) if not engines else serve)
        engines.append(inner.engine)
        return inner.engine

    program = Program()
    program.engine.install("inner", Manifold.from_worker(build))
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        await engine.wait_settled()
        assert len(engines) == 2, "it was restarted, as any worker is"
        report = engine.report().manifolds["inner"]
        assert report.state == "started"
        assert [end.error for end in report.history] == ["Boom"]
        assert [e.state for e in engines] == ["dead", "alive"]


async def test_e17_what_is_fatal_to_both_stops_both() -> None:
    error = Boom()
    program = Program(EngineConfig(is_fatal=is_boom))
    inner = nested(program, is_fatal=is_boom)
    inner.install("db", body=failing(error))
    with pytest.raises(Boom) as caught:
        await program.engine.run()
    assert caught.value is error
    assert (inner.engine.state, program.engine.state) == ("dead", "dead")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
async def test_e17_an_interrupt_inside_leaves_the_outermost_bare(interrupt: BaseException) -> None:
    program = Program()
    middle = nested(program, "middle")
    inner = nested(middle, "inner")
    inner.install("db", body=failing(interrupt))
    inner.install("api", body=failing_when_stopped(Boom("beside it")))
    with pytest.raises(type(interrupt)) as caught:
        await program.engine.run()
    assert caught.value is interrupt


async def test_e17_killing_the_outer_engine_leaves_the_inner_its_grace(
    autojump_clock: MockClock,
) -> None:
    async def flush(life: Life) -> None:
        await leave_softly(life)
        await trio.sleep(3)
        life.double.note("flushed")

    program = Program()
    inner = Program(EngineConfig(name="inner"))
    inner.install("db", body=flush, grace=10.0)
    program.engine.install(
        "inner",
        Manifold.from_worker(lambda get: inner.engine, grace=20.0),  # pyright: ignore[reportUnknownLambdaType]
    )
    async with program.running():
        await inner.engine.wait_settled()
    assert trio.current_time() == 3
    assert "flushed db" in inner.record


async def test_e17_without_grace_the_inner_engine_is_stopped_hard_in_its_order() -> None:
    program = Program()
    inner = nested(program)
    inner.chain("db", "api", "web")
    inner.install("soft", body=serve, grace=60.0)
    async with program.running():
        await inner.engine.wait_settled()
    assert [name for name in inner.ends if name != "soft"] == ["web", "api", "db"]
    inner.check()


async def test_e17_a_killed_inner_engine_is_done() -> None:
    program = Program()
    inner = nested(program)
    inner.install("db")
    async with program.running() as engine:
        await inner.engine.wait_settled()
        inner.engine.kill()
        await engine.wait_state("inner", "done")
        assert inner.states == {"db": "stopped"}
        assert program.states == {"inner": "done"}


async def test_e17_a_dying_of_an_inner_engine_is_no_fault_of_who_uses_it(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    other = Program(EngineConfig(name="other"))
    other.engine.kill()

    async def body(life: Life) -> None:
        other.engine.install("child", other.make("child").manifold)

    program.install("parent", body=body)
    async with program.running(settle=False):
        report = program.engine.report().manifolds["parent"]
        assert report.history[0].kind == "dying"
        assert report.failures == 0
        assert report.state == "delayed"
