"""E15: explanations in rare moments, and observers that come and go."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import InternalError
from trioworker.dependency import Engine, Getter, Manifold, Missing, RetryAfter, Uninstall
from trioworker.dependency._states import TABLE, Event, State

from .harness import Program, failing, linger


async def test_e15_explain_says_of_one_that_was_restarted_how_its_last_run_ended(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=failing(OSError("gone")))
    async with program.running(settle=False) as engine:
        await engine.wait_settled()
        await trio.sleep(3)
        assert str(engine.explain("db")) == (
            "db has been started for 3 s; its last run ended (OSError: gone)"
        )
        engine.restart("db")
        await engine.wait_settled()
        assert str(engine.explain("db")).endswith("; its last run ended (restart('db'))")


async def test_e15_an_explanation_shows_itself_as_its_sentence() -> None:
    program = Program()
    program.install("api", "db")
    async with program.running() as engine:
        assert repr(engine.explain("api")) == (
            "<Explanation 'api waits for db; db is not installed'>"
        )


async def test_e15_explain_answers_in_the_moment_between_an_end_and_the_next_start() -> None:
    """Asked by the `ask` of an old input, which the end of one that starts again has released."""
    program = Program()
    told: list[str] = []

    def ask(value: object) -> None:
        told.append(str(program.engine.explain("api")))

    old = program.install("old", ask=ask)
    db = program.install("db", "old")
    api = program.install("api", "db", body=linger)
    async with program.running() as engine:
        db.life.fail(Uninstall())  # its run holds up `old` for as long as api uses it
        await wait_all_tasks_blocked()
        program.install("db")  # and the next one does not need it
        engine.hold("old")
        await wait_all_tasks_blocked()
        assert (old.state, api.state) == ("draining", "stopping")
        api.let_go.set()
        await wait_all_tasks_blocked()
        assert told == ["api is about to start"]
        assert (old.state, api.state) == ("held", "started")


async def test_e15_an_engine_that_has_contradicted_itself_still_explains_and_reports(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Its own code is wrong then; the end is a plain Trio one, and what it says may be old."""
    # A row of its own: a key that is taken out and put back would be the last one.
    row = {event: after for event, after in TABLE[State.STOPPING].items() if event != Event.HOLD}
    monkeypatch.setitem(TABLE, State.STOPPING, row)
    engine = Engine()

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    engine.install("db", Manifold(start))
    with pytest.RaisesGroup(pytest.RaisesExc(InternalError, match="please report this")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_settled()
            engine.hold("db")

    assert engine.report().manifolds["db"].state == "stopping"
    assert str(engine.explain("db")) == "db has been stopping for 0 ms"


async def test_e15_one_of_two_who_wait_for_a_state_may_give_up() -> None:
    program = Program()
    program.install("db", body=failing(Missing()))
    seen: list[str] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            seen.append(await program.engine.wait_state("db", "held"))

    async with program.running() as engine, trio.open_nursery() as nursery:
        impatient = trio.CancelScope()
        nursery.start_soon(wait, impatient)
        nursery.start_soon(wait, trio.CancelScope())
        await wait_all_tasks_blocked()
        impatient.cancel()
        await wait_all_tasks_blocked()
        engine.hold("db")

    assert seen == ["held"]


async def test_e12_one_that_is_too_late_before_its_first_step_is_never_called(
    autojump_clock: MockClock,
) -> None:
    """Its time is over in the very moment of its start, by the timer that ended its delay."""
    program = Program()
    db = program.install("db", start_timeout=1e-300, body=failing(RetryAfter(1)))
    async with program.running(settle=False) as engine:
        await trio.sleep(10)
        report = engine.report().manifolds["db"]
        assert report.starts == report.ends > 2
        assert db.starts == 1
        error = report.history[-1].error
        assert error is not None
        assert error.endswith("within 1e-300 s; it was at an unknown place")
