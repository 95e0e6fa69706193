"""What the engine's transitions say, word for word: to workers, in histories, in the log."""

import logging

import pytest
import trio
from trio.testing import MockClock

from trioworker import InternalError
from trioworker.dependency import EngineConfig, RetryAfter, Transition
from trioworker.dependency._states import TABLE, Event, State

from ..interrupts import protection_noted, unprotected
from .harness import Body, Life, Program, failing, linger, serve, when_told


def why_cancelled(program: Program, name: str) -> str | None:
    """Return what the first run of `name` was told."""
    cancelled = program.doubles[name].lives[0].cancelled
    assert cancelled is not None
    return cancelled.reason


def last_error(program: Program, name: str) -> str | None:
    return program.engine.report().manifolds[name].history[-1].error


# -- to workers ------------------------------------------------------------------------------------


async def test_who_says_started_twice_is_told_to_say_it_once() -> None:
    program = Program()
    said: list[str] = []

    async def eager(life: Life) -> None:
        life.ready()
        try:
            life.status.started("again")
        except RuntimeError as exc:
            said.append(str(exc))
        await life.obey()

    program.install("db", body=eager)
    async with program.running():
        assert program.states == {"db": "started"}
    assert said == ['"db" manifold: started() was called twice; call it once, when ready']


async def test_one_whose_input_ends_is_told_which(autojump_clock: MockClock) -> None:
    program = Program()
    program.chain("db", "api")
    async with program.running():
        program.doubles["db"].life.finish()
        await program.settle()
    assert why_cancelled(program, "api") == "\"api\" is stopping: its input 'db' ended"


async def test_one_whose_optional_input_comes_is_told_which() -> None:
    program = Program()
    program.install("api", optional=("cache",))
    async with program.running():
        program.install("cache")
        await program.settle()
    assert why_cancelled(program, "api") == "\"api\" is stopping: its optional input 'cache' came"


async def test_one_that_is_late_is_told_and_its_error_says_where_it_was(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def connect(life: Life) -> None:
        await trio.sleep_forever()

    program.install("db", body=connect, start_timeout=2.5)
    async with program.running(settle=False):
        await trio.sleep(3)
        line = connect.__code__.co_firstlineno + 1
        assert last_error(program, "db") == (
            'StartTimeout: "db" manifold: started() was not called within 2.5 s; '
            f"it was at {__file__}:{line} in connect"
        )
    assert why_cancelled(program, "db") == '"db" is stopping: it was not ready after 2.5 s'


async def test_a_stored_cancelled_is_an_error_that_shows_the_way() -> None:
    program = Program()

    async def body(life: Life) -> None:
        stored: list[trio.Cancelled] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                stored.append(exc)
                raise
        raise stored[0]

    program.install("db", body=body)
    async with program.running(settle=False):
        error = last_error(program, "db")
    assert error == (
        'LifetimeError: "db" manifold: raised a Cancelled of a scope that it had left; '
        "never keep a trio.Cancelled to raise it later"
    )


async def test_the_errors_of_a_run_and_of_what_asked_it_to_stop_are_kept_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = Program()
    seen: list[Exception] = []

    def ask(value: object) -> None:
        raise KeyError("asked")

    def keep(exc: Exception) -> Exception:
        seen.append(exc)
        return exc

    async def stubborn(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            raise OSError("at the end")

    program.install("db", body=stubborn, ask=ask, filter=keep)
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        [both] = seen
    assert isinstance(both, ExceptionGroup)
    assert both.message == "ask and the run have failed"
    assert list(map(type, both.exceptions)) == [OSError, KeyError]


async def test_all_are_told_that_the_engine_has_contradicted_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = {event: after for event, after in TABLE[State.STOPPING].items() if event != Event.HOLD}
    monkeypatch.setitem(TABLE, State.STOPPING, row)
    program = Program(EngineConfig(name="ingest"))
    program.install("other")
    program.install("db")
    with pytest.RaisesGroup(pytest.RaisesExc(InternalError), allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.engine.run)
            await program.engine.wait_settled()
            program.engine.hold("db")
    assert why_cancelled(program, "other") == "ingest was stopped by an error of its own"


# -- in the log ------------------------------------------------------------------------------------


async def test_a_stuck_run_is_logged_with_all_its_frames(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    db = program.install("db", body=linger, stop_timeout=5)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(10)
        stuck = engine.report().manifolds["db"].stuck
        db.let_go.set()
        await program.settle()
    assert stuck is not None
    [record] = [r for r in caplog.records if "stuck" in r.getMessage()]
    assert record.getMessage() == (
        '"db" manifold is stuck: cancelled 5 s ago and still running; it stands at\n  '
        + "\n  ".join(stuck)
    )
    assert (record.name, record.levelno) == ("trioworker.engine.db", logging.ERROR)


async def test_one_that_is_stuck_before_its_first_step_stands_at_an_unknown_place(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """All its times are over in the very moment of its start."""
    program = Program()
    program.install("db", start_timeout=1e-300, stop_timeout=0, body=failing(RetryAfter(1)))
    async with program.running(settle=False):
        await trio.sleep(1.5)
    [line] = [r.getMessage() for r in caplog.records if "stuck" in r.getMessage()]
    assert line.endswith("still running; it stands at\n  an unknown place")


# -- what is told of a name that has gone ----------------------------------------------------------


async def test_who_needs_what_was_uninstalled_is_told_so() -> None:
    program = Program()
    program.chain("db", "api")
    program.engine.uninstall("db")

    assert str(program.engine.explain("api")) == (
        "api waits for db; db is not installed (it was uninstalled)"
    )


# -- interrupts ------------------------------------------------------------------------------------


async def test_what_a_timer_does_is_protected_against_keyboard_interrupt(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    bodies: list[Body] = [when_told, failing(OSError()), linger]

    async def body(life: Life) -> None:
        await (bodies.pop(0) if bodies else serve)(life)

    db = program.install("db", body=body, start_timeout=5, stop_timeout=5, grace=5)
    with protection_noted() as noted:
        async with program.running(settle=False) as engine:
            await engine.wait_state("db", "started")
            engine.restart("db")
            await trio.sleep(20)
            db.let_go.set()
            await program.settle()
    steps = ("_too_late", "_wake", "_ready", "_cancel", "_got_stuck", "end")

    assert unprotected(noted, *(f"Machine.{name}" for name in steps)) == []


# -- numbers ---------------------------------------------------------------------------------------


def test_what_sets_off_transitions_is_counted_from_one() -> None:
    program = Program()
    with program.engine.events() as events:
        program.install("a")
        program.install("b")
        taken: list[Transition] = events.take()

    assert [(t.manifold, t.origin) for t in taken] == [("a", 1), ("b", 2)]
