"""What the engine's transitions do beside the rules' main road: second verbs, odd moments, timers.

Each of these could once be broken without any test noticing.
"""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, InternalError, Missing, RestartPolicy
from trioworker.dependency import Engine, EngineConfig, Manifold, RetryAfter, Transition
from trioworker.dependency._states import TABLE, Event, State

from .harness import (
    Life,
    Program,
    failing,
    linger,
    serve,
    stopping_in,
    when_told,
)


def origin_of(seen: list[Transition], name: str, after: str) -> int:
    """Return the number of the latest transition of `name` to the state `after`."""
    return next(t.origin for t in reversed(seen) if (t.manifold, t.after) == (name, after))


async def deaf(life: Life) -> None:
    """Be a helper that does not end before its double is let go."""
    with trio.CancelScope(shield=True):
        await life.double.let_go.wait()


# -- origins ---------------------------------------------------------------------------------------


async def test_e15_what_starts_with_the_engine_follows_from_its_own_installation() -> None:
    program = Program()
    with program.engine.events() as events:
        program.install("a")
        program.install("b")
        async with program.running():
            seen = events.take()
    assert origin_of(seen, "a", "started") == origin_of(seen, "a", "waiting")
    assert origin_of(seen, "b", "started") == origin_of(seen, "b", "waiting")


async def test_e15_each_hold_and_each_release_is_something_new() -> None:
    program = Program()
    program.install("a")
    program.install("b")
    async with program.running() as engine:
        with engine.events() as events:
            for verb in (engine.hold, engine.release):
                verb("a")
                await program.settle()
                verb("b")
                await program.settle()
            seen = events.take()
    numbers = [origin_of(seen, name, state) for state in ("held", "waiting") for name in "ab"]
    assert numbers == sorted(set(numbers))


async def test_e15_a_drain_has_one_number_whatever_an_ask_does_meanwhile() -> None:
    program = Program()
    program.install("other", body=failing(Missing("nothing to do")))

    def ask(value: object) -> None:
        program.engine.restart("other")

    program.install("a", ask=ask)
    program.install("b", ask=ask)
    async with program.running() as engine:
        with engine.events() as events:
            engine.hold("other")
            engine.release("other")
            engine.drain()
            await program.settle()
            seen = events.take()
    numbers = {origin_of(seen, name, state) for name in "ab" for state in ("stopping", "held")}
    assert len(numbers) == 1


async def test_e15_what_a_filter_sets_off_is_told_apart_from_the_end_that_it_judges() -> None:
    program = Program()
    other = program.install("other")

    def translate(exc: Exception) -> Exception:
        program.engine.restart("other")
        return exc

    db = program.install("db", filter=translate)
    async with program.running() as engine:
        with engine.events() as events:
            db.life.fail(OSError())
            await wait_all_tasks_blocked()
            seen = events.take()
    assert other.starts == 2
    assert origin_of(seen, "db", "delayed") == origin_of(seen, "db", "stopping")
    assert origin_of(seen, "other", "stopping") != origin_of(seen, "db", "stopping")


async def test_e15_what_a_stuck_run_held_up_goes_on_with_the_number_of_its_stop(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("a")
    program.install("b", "a", body=linger, stop_timeout=5)
    program.install("other")
    async with program.running() as engine:
        with engine.events() as events:
            engine.hold("a")
            engine.restart("other")
            await trio.sleep(10)
            seen = events.take()
    assert origin_of(seen, "a", "held") == origin_of(seen, "a", "draining")
    assert origin_of(seen, "a", "held") != origin_of(seen, "other", "started")


async def test_e15_a_start_after_a_delay_has_the_number_of_the_delay(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("other")
    db = program.install("db")
    async with program.running() as engine:
        with engine.events() as events:
            db.life.fail(OSError())
            await wait_all_tasks_blocked()
            engine.restart("other")
            await program.settle()
            seen = events.take()
    assert origin_of(seen, "db", "started") == origin_of(seen, "db", "delayed")
    assert origin_of(seen, "other", "started") != origin_of(seen, "db", "delayed")


async def test_e15_an_error_in_the_middle_of_a_drain_belongs_to_the_drain(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    db = program.install("db")
    program.install("api", "db", body=stopping_in(5))
    async with program.running() as engine:
        with engine.events() as events:
            engine.restart("db")
            await trio.sleep(1)
            db.life.fail(OSError())
            await wait_all_tasks_blocked()
            seen = events.take()
    assert origin_of(seen, "db", "stopping") == origin_of(seen, "db", "draining")


# -- what changes nothing --------------------------------------------------------------------------


async def test_e16_a_verb_that_changes_no_state_is_no_transition(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db")
    program.engine.hold("db")
    program.install("api", "db")
    async with program.running() as engine:
        await trio.sleep(3)
        with engine.events() as events:
            engine.hold("db")
            engine.restart("api")
            assert events.take() == []
        assert engine.report().manifolds["db"].since == 3
        assert engine.report().manifolds["api"].since == 3


async def test_e16_the_first_verb_that_stops_a_run_is_why_it_stopped() -> None:
    program = Program()
    program.install("db", body=linger)
    async with program.running() as engine:
        engine.hold("db")
        engine.uninstall("db")
        assert engine.report().manifolds["db"].stop_cause == "hold('db')"


async def test_e8_a_restart_by_an_operator_forgives_only_what_has_failed(
    autojump_clock: MockClock,
) -> None:
    policy = RestartPolicy(error_delay=1.0, factor=1.0, max_restarts=2, period=100.0)
    program = Program(EngineConfig(restart=policy))
    db = program.install("db", body=failing(*(OSError() for _ in range(9))))
    async with program.running(settle=False) as engine:
        engine.restart("db")
        await program.settle()
        assert (db.state, db.starts) == ("failed", 3)


async def test_e16_one_that_is_held_in_its_delay_is_not_tried_again(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=failing(OSError()))
    async with program.running(settle=False) as engine:
        assert engine.report().manifolds["db"].retry_in == 1.0
        engine.hold("db")
        assert engine.report().manifolds["db"].retry_in is None


async def test_who_needs_what_was_uninstalled_while_it_ran_is_told_so() -> None:
    program = Program()
    program.install("db")
    program.install("api", "db")
    async with program.running() as engine:
        engine.uninstall("db")
        await program.settle()
        assert str(engine.explain("api")) == (
            "api waits for db; db is not installed (it was uninstalled)"
        )


def test_what_was_installed_without_a_clock_waits_since_the_engine_runs() -> None:
    engine = Engine()

    async def start(get: object, *, task_status: object) -> None:
        """Is never called."""

    with engine.events() as events:
        engine.install("api", Manifold(start, inputs=("db",)))
        assert [t.time for t in events.take()] == [0.0]
    clock = MockClock()
    clock.jump(1000)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_settled()
            assert engine.report().manifolds["api"].since == 0.0
            engine.kill()

    trio.run(main, clock=clock)


# -- inputs that come ------------------------------------------------------------------------------


async def test_e7_a_live_input_that_comes_at_once_shortens_a_delay_to_that_of_a_bounce(
    autojump_clock: MockClock,
) -> None:
    """And not to nothing: two that read each other would end each other's delay for ever."""
    program = Program(EngineConfig(restart=RestartPolicy(error_delay=5.0, bounce_delay=0.5)))
    program.install("config")
    program.engine.hold("config")
    db = program.install("db", live=("config",), body=failing(OSError()))
    async with program.running(settle=False) as engine:
        engine.release("config")
        await wait_all_tasks_blocked()
        assert engine.report().manifolds["db"].retry_in == 0.5
        await trio.sleep(0.6)
        assert (db.state, db.starts) == ("started", 2)
        await trio.sleep(10)
        assert (db.state, db.starts) == ("started", 2)


async def test_e7_a_live_input_that_comes_at_once_lengthens_no_delay(
    autojump_clock: MockClock,
) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(bounce_delay=0.5)))
    program.install("config")
    program.engine.hold("config")
    program.install("db", live=("config",), body=failing(RetryAfter(0.25)))
    async with program.running(settle=False) as engine:
        engine.release("config")
        await wait_all_tasks_blocked()
        assert engine.report().manifolds["db"].retry_in == 0.25


async def test_e5_a_start_does_not_wait_for_an_optional_input_that_waits_itself() -> None:
    program = Program()
    program.install("slow", body=when_told)
    program.install("middle", optional=("slow",))
    program.install("api", optional=("middle",))
    async with program.running(settle=False):
        assert program.states == {"slow": "starting", "middle": "waiting", "api": "started"}


async def test_e7_a_start_that_never_got_ready_was_never_healthy(
    autojump_clock: MockClock,
) -> None:
    policy = RestartPolicy(error_delay=1.0, factor=2.0, reset_after=0.5)
    program = Program(EngineConfig(restart=policy))
    program.install("db", body=failing(OSError(), OSError(), OSError()))
    async with program.running() as engine:
        assert trio.current_time() == 1 + 2 + 4
        assert engine.report().manifolds["db"].failures == 3


# -- soft and hard ---------------------------------------------------------------------------------


def soft(engine: Engine, name: str) -> bool:
    return "it was asked and not cancelled yet" in str(engine.explain(name))


async def test_e11_ask_without_grace_is_followed_by_the_cancellation_in_the_same_step() -> None:
    program = Program()
    program.install("db", ask=lambda value: None, body=linger)
    async with program.running() as engine:
        engine.hold("db")
        assert not soft(engine, "db")


async def test_e11_a_grace_of_less_than_a_second_is_one(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", grace=0.5)
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        assert trio.current_time() == 0.5
        assert db.state == "held"


async def test_e11_an_endless_grace_has_no_timer() -> None:
    program = Program()
    db = program.install("db", grace=float("inf"))
    async with program.running() as engine:
        engine.hold("db")
        await wait_all_tasks_blocked()
        assert program.live_timers == 0
        assert soft(engine, "db")
        db.life.finish()
        await program.settle()


async def test_e11_after_its_grace_a_run_is_said_to_be_cancelled(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", grace=2, body=linger)
    async with program.running() as engine:
        engine.hold("db")
        assert soft(engine, "db")
        await trio.sleep(3)
        assert not soft(engine, "db")


async def test_e11_a_helper_is_told_why_it_is_cancelled() -> None:
    program = Program()
    told: list[str | None] = []

    async def listen() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            told.append(exc.reason)
            raise

    async def helped(life: Life) -> None:
        life.get.start_soon(listen)
        await serve(life)

    program.install("db", body=helped)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await program.settle()
    assert told == ["\"db\" is stopping: hold('db')"]


async def test_e11_a_harder_kill_leaves_nothing_of_the_grace_before(
    autojump_clock: MockClock,
) -> None:
    """The end of the longer grace would be a second cancellation, and put off being stuck."""
    program = Program()
    program.install("db", grace=10, stop_timeout=9, body=linger)
    async with program.running(settle=False) as engine:
        engine.kill()
        engine.kill(grace=2)
        await trio.sleep(10.5)
        assert engine.report().manifolds["db"].stuck is None
        await trio.sleep(1)
        assert engine.report().manifolds["db"].stuck is not None


async def test_e11_a_softer_kill_afterwards_gives_nobody_more(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("a", grace=100)
    program.install("b", "a", grace=100)
    async with program.running() as engine:
        engine.kill(grace=2)
        engine.kill(grace=50)
        await engine.wait()
        assert trio.current_time() == 4


@pytest.mark.parametrize("grace", [0.5, 1])
async def test_e11_kill_with_a_grace_of_a_second_or_less_gives_it(
    grace: float, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("db", grace=100)
    async with program.running() as engine:
        engine.kill()
        await trio.sleep(3)
        engine.kill(grace=grace)
        await engine.wait()
        assert trio.current_time() == 3 + grace


# -- helpers and failures --------------------------------------------------------------------------


async def test_e11_a_helper_that_outlasts_the_failure_of_its_start_function_is_stuck_in_time(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def helped(life: Life) -> None:
        life.get.start_soon(deaf, life)
        await serve(life)

    db = program.install("db", body=helped, stop_timeout=5)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        db.life.fail(OSError())
        await trio.sleep(4)
        assert engine.report().manifolds["db"].stuck is None
        await trio.sleep(2)
        assert engine.report().manifolds["db"].stuck is not None


async def test_e11_a_failure_ends_the_soft_phase_for_the_helpers_too(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def helped(life: Life) -> None:
        life.get.start_soon(deaf, life)
        await serve(life)

    db = program.install("db", body=helped, stop_timeout=5, grace=100)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        db.life.fail(OSError())
        await trio.sleep(1)
        assert not soft(engine, "db")
        await trio.sleep(5)
        assert engine.report().manifolds["db"].stuck is not None


async def test_e11_an_error_of_one_helper_does_not_put_off_that_another_is_stuck(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            raise OSError

    async def helped(life: Life) -> None:
        life.get.start_soon(deaf, life)
        life.get.start_soon(fail_late)
        await serve(life)

    program.install("db", body=helped, stop_timeout=5)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await trio.sleep(6)
        assert engine.report().manifolds["db"].stuck is not None


async def test_e11_a_shielded_helper_that_waits_to_be_asked_hears_of_a_failure() -> None:
    program = Program()

    async def wait_asked(life: Life) -> None:
        with trio.CancelScope(shield=True):
            await life.get.wait_stopping()

    async def helped(life: Life) -> None:
        life.get.start_soon(wait_asked, life)
        await serve(life)

    db = program.install("db", body=helped)
    async with program.running():
        await wait_all_tasks_blocked()
        db.life.fail(OSError())
        await wait_all_tasks_blocked()
        assert db.state == "delayed"


async def test_who_waits_outside_of_a_run_for_its_stop_hears_of_its_end() -> None:
    program = Program()
    db = program.install("db")
    heard: list[str] = []

    async def wait_stopping() -> None:
        await db.life.get.wait_stopping()
        heard.append("stopping")

    async with program.running(), trio.open_nursery() as nursery:
        nursery.start_soon(wait_stopping)
        await wait_all_tasks_blocked()
        db.life.finish()
        await wait_all_tasks_blocked()
        assert heard == ["stopping"]
        nursery.cancel_scope.cancel()


async def test_e12_a_helper_that_outlasts_a_failed_start_does_not_make_it_late(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def helped(life: Life) -> None:
        life.get.start_soon(deaf, life)
        await life.obey()

    db = program.install("db", body=helped, start_timeout=5)
    async with program.running(settle=False) as engine:
        db.life.fail(OSError("gone"))
        await trio.sleep(6)
        db.let_go.set()
        await wait_all_tasks_blocked()
        assert engine.report().manifolds["db"].history[-1].error == "OSError: gone"


# -- the end of it all -----------------------------------------------------------------------------


async def test_wait_settled_after_a_kill_waits_for_the_end() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        engine.kill()
        await engine.wait_settled()
        assert engine.state == "dead"


@pytest.mark.parametrize("interrupt_first", [True, False])
async def test_e10_a_fatal_error_and_an_interrupt_are_not_two_interrupts(
    autojump_clock: MockClock,
    *,
    interrupt_first: bool,
) -> None:
    program = Program()
    program.install("db", grace=5)
    errors = [ValueError("fatal"), KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        async with program.running() as engine:
            for error in reversed(errors) if interrupt_first else errors:
                engine.kill(error)
            await engine.wait()
    assert trio.current_time() == 5


async def test_e10_an_exit_in_a_group_is_not_noted_on_itself() -> None:
    program = Program()
    one = program.install("one")
    exit_ = SystemExit(4)
    with pytest.raises(SystemExit):
        async with program.running() as engine:
            one.life.fail(BaseExceptionGroup("mine", [OSError("beside it"), exit_]))
            await engine.wait()
    assert exit_.__notes__ == ["also: OSError: beside it"]


# -- a contradiction -------------------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, state: State, event: Event) -> None:
    row = {known: after for known, after in TABLE[state].items() if known is not event}
    monkeypatch.setitem(TABLE, state, row)


async def test_an_engine_that_contradicts_itself_in_a_verb_tells_the_caller_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, State.STARTED, Event.STOP)
    program = Program()
    program.install("db")
    other = program.install("other")
    program.engine.hold("other")
    told: list[InternalError] = []
    with pytest.raises(InternalError) as raised:
        async with program.running() as engine:
            try:
                engine.hold("db")
            except InternalError as exc:
                told.append(exc)
            assert engine.state == "dying"
            with pytest.raises(Dying):
                engine.install("late", other.manifold)
            engine.release("other")
            engine.kill()
            await engine.wait()
    assert list(map(str, told)) == [
        '"db" manifold: "stop" is impossible while it is started; please report this'
    ]
    assert raised.value is told[0]
    assert other.starts == 0


async def test_an_engine_that_contradicts_itself_before_it_runs_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, State.WAITING, Event.HOLD)
    program = Program()
    db = program.install("db")
    with pytest.raises(InternalError) as told:
        program.engine.hold("db")
    with pytest.raises(InternalError) as raised, trio.fail_after(5):
        await program.engine.run()

    assert raised.value is told.value
    assert db.starts == 0
