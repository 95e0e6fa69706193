"""E9: what stops the engine, what it raises, and foreign code that misbehaves."""

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import RestartPolicy
from trioworker.dependency import Bounce, Engine, EngineConfig, Missing, Uninstall

from .harness import Life, Program, failing, failing_when_stopped, leave_softly, linger, serve


class Boom(Exception):
    """Fatal in these tests."""


class Domain(Exception):
    """A worker's own error, which knows no engine."""


def is_boom(exc: BaseException) -> bool:
    return isinstance(exc, Boom)


BOOM_IS_FATAL = EngineConfig(is_fatal=is_boom)


async def run_until_dead(program: Program) -> BaseException:
    """Run the engine to its end, in this task, and return what it raises."""
    try:
        await program.engine.run()
    except BaseException as exc:  # noqa: BLE001 - interrupts are what some tests are about
        program.check()
        return exc
    pytest.fail("the engine ended without an error")


def notes(exc: BaseException | None) -> list[str]:
    return list(getattr(exc, "__notes__", []))


# -- is_fatal ----


async def test_e9_nothing_is_fatal_by_default(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=failing(MemoryError(), RuntimeError(), AssertionError()))
    async with program.running() as engine:
        await engine.wait_settled()
        assert program.states == {"db": "started"}


async def test_e9_a_fatal_error_stops_the_engine_in_order_and_is_raised_itself() -> None:
    program = Program(BOOM_IS_FATAL)
    program.chain("db", "api", "web")
    error = Boom("at the top")
    program.install("top", "web", body=failing(error))

    assert await run_until_dead(program) is error

    assert program.ends == ["top", "web", "api", "db"]
    assert program.engine.state == "dead"


async def test_e9_a_fatal_error_of_a_running_one_stops_all_dependents_first() -> None:
    program = Program(BOOM_IS_FATAL)
    db, *_ = program.chain("db", "api", "web")
    error = Boom()
    with pytest.raises(Boom) as caught:
        async with program.running():
            db.life.fail(error)
            await trio.sleep_forever()
    assert caught.value is error
    assert program.ends == ["db", "web", "api"], "the crashed one itself is gone already"


async def test_e9_wait_raises_the_same_to_everybody_and_ever_after() -> None:
    error = Boom()
    program = Program(BOOM_IS_FATAL)
    program.install("db", body=failing(error))
    caught: list[BaseException] = []

    async def wait() -> None:
        try:
            await program.engine.wait()
        except Boom as exc:
            caught.append(exc)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert await run_until_dead(program) is error
    await wait()
    assert caught == [error] * 4


async def test_e9_is_fatal_is_asked_for_each_leaf_of_a_group() -> None:
    asked: list[BaseException] = []

    def is_fatal(exc: BaseException) -> bool:
        asked.append(exc)
        return is_boom(exc)

    a, b, c = Domain(), ValueError(), Boom()
    group = ExceptionGroup("three", [a, ExceptionGroup("two", [b, c])])
    program = Program(EngineConfig(is_fatal=is_fatal))
    program.install("db", body=failing(group))

    assert await run_until_dead(program) is group
    assert asked == [a, b, c]


async def test_e9_is_fatal_is_asked_about_verdicts_and_about_what_filters_made() -> None:
    error = Boom("made")
    program = Program(EngineConfig(is_fatal=is_boom, filter=lambda exc: error))
    program.install("db", body=failing(Missing()))

    assert await run_until_dead(program) is error


async def test_e9_a_filter_can_save_the_engine_from_a_fatal_error() -> None:
    program = Program(EngineConfig(is_fatal=is_boom, filter=lambda exc: None))
    program.install("db", body=failing(Boom()))
    async with program.running():
        assert program.states == {"db": "done"}


async def test_e9_is_fatal_that_raises_is_fatal_with_the_original_as_context() -> None:
    broken = ZeroDivisionError()
    original = Domain("the original")

    def is_fatal(exc: BaseException) -> bool:
        raise broken

    program = Program(EngineConfig(is_fatal=is_fatal))
    program.install("db", body=failing(original))

    error = await run_until_dead(program)

    assert error is broken
    assert broken.__context__ is original


@pytest.mark.parametrize("truth", [1, "yes", [0]])
async def test_e9_is_fatal_may_answer_with_anything_true(truth: object) -> None:
    error = Domain()
    program = Program(EngineConfig(is_fatal=lambda exc: truth))  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
    program.install("db", body=failing(error))

    assert await run_until_dead(program) is error


# -- worst_error ----


def three_fatal(config: EngineConfig, *errors: Exception) -> Program:
    """Three that fail one after the other, during one shutdown."""
    program = Program(config)
    first, *others = errors
    previous: tuple[str, ...] = ()
    for i, error in enumerate(others):
        program.install(f"m{i}", *previous, body=failing_when_stopped(error))
        previous = (f"m{i}",)
    program.install("last", *previous, body=failing(first))
    return program


async def test_e9_the_first_fatal_error_is_raised_and_the_others_are_its_notes() -> None:
    first, second, third = Boom("first"), Boom("second"), Boom("third")
    program = three_fatal(BOOM_IS_FATAL, first, third, second)

    error = await run_until_dead(program)

    assert error is first
    assert notes(error) == ["also: Boom: second", "also: Boom: third"]
    assert program.engine.report().tomb.reason == "Boom: first"
    assert program.engine.report().tomb.suppressed == ("Boom: second", "Boom: third")


async def test_e9_worst_error_picks_what_is_raised() -> None:
    def longest(a: BaseException, b: BaseException) -> BaseException:
        return max(a, b, key=lambda exc: len(str(exc)))

    first, second, third = Boom("1"), Boom("333"), Boom("22")
    program = three_fatal(EngineConfig(is_fatal=is_boom, worst_error=longest), first, third, second)

    error = await run_until_dead(program)

    assert error is second
    assert notes(error) == ["also: Boom: 1", "also: Boom: 22"]


async def test_e9_none_of_many_fatal_errors_is_dropped() -> None:
    errors = [Boom(f"number {i}") for i in range(30)]
    program = Program(BOOM_IS_FATAL)
    for i, boom in enumerate(errors):
        program.install(f"m{i}", body=failing_when_stopped(boom))
    with pytest.raises(Boom) as caught:
        async with program.running() as engine:
            engine.kill()
            await trio.sleep_forever()
    report = program.engine.report()
    assert 1 + len(report.tomb.suppressed) + report.tomb.uncounted == 30
    assert any("more" in note for note in notes(caught.value))
    recorded = {end.error for m in report.manifolds.values() for end in m.history}
    assert recorded == {f"Boom: number {i}" for i in range(30)}


async def test_e9_worst_error_that_raises_leaves_the_order_and_is_noted() -> None:
    def broken(a: BaseException, b: BaseException) -> BaseException:
        raise ZeroDivisionError("worst_error")

    program = three_fatal(
        EngineConfig(is_fatal=is_boom, worst_error=broken), Boom("first"), Boom("second")
    )

    error = await run_until_dead(program)

    assert str(error) == "first"
    assert notes(error) == ["also: Boom: second", "also: ZeroDivisionError: worst_error"]


async def test_e9_worst_error_that_makes_one_up_is_told_so() -> None:
    program = three_fatal(
        EngineConfig(is_fatal=is_boom, worst_error=lambda a, b: Boom("made up")),
        Boom("first"),
        Boom("second"),
    )

    error = await run_until_dead(program)

    assert str(error) == "first"
    assert notes(error)[0] == "also: Boom: second"
    assert "worst_error(a, b) must return a or b" in notes(error)[1]


async def test_e9_worst_error_that_kills_the_engine_loses_nothing() -> None:
    def kills(a: BaseException, b: BaseException) -> BaseException:
        program.engine.kill(Boom("late"))
        return a

    program = three_fatal(
        EngineConfig(is_fatal=is_boom, worst_error=kills), Boom("first"), Boom("second")
    )

    error = await run_until_dead(program)

    assert str(error) == "first"
    assert notes(error) == ["also: Boom: second", "also: Boom: late"]


async def test_e9_worst_error_is_not_asked_about_a_single_one() -> None:
    asked: list[object] = []

    def worse(a: BaseException, b: BaseException) -> BaseException:
        asked.append((a, b))
        return a

    program = Program(EngineConfig(is_fatal=is_boom, worst_error=worse))
    program.install("db", body=failing(Boom()))

    assert isinstance(await run_until_dead(program), Boom)
    assert asked == []


async def test_e9_reasons_given_to_kill_are_ranked_with_the_fatal_errors() -> None:
    program = Program(BOOM_IS_FATAL)
    program.install("db", body=failing_when_stopped(Boom("second")))
    with pytest.raises(Domain) as caught:
        async with program.running() as engine:
            engine.kill(Domain("first"))
            await trio.sleep_forever()
    assert notes(caught.value) == ["also: Boom: second"]


# -- interrupts ----


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3), GeneratorExit("odd")])
async def test_e9_what_is_no_exception_is_fatal_and_raised_bare(interrupt: BaseException) -> None:
    asked: list[BaseException] = []

    def is_fatal(exc: BaseException) -> bool:
        asked.append(exc)
        return False

    program = Program(EngineConfig(is_fatal=is_fatal, filter=lambda exc: None))
    program.install("db", body=failing(interrupt))

    assert await run_until_dead(program) is interrupt
    assert asked == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
async def test_e9_an_interrupt_in_a_group_is_raised_bare_too(interrupt: BaseException) -> None:
    program = Program()
    group = BaseExceptionGroup("both", [Domain("beside it"), interrupt])
    program.install("db", body=failing(group))

    error = await run_until_dead(program)

    assert error is interrupt
    assert any("Domain: beside it" in note for note in notes(error))
    history = program.engine.report().manifolds["db"].history
    assert [end.kind for end in history] == ["fatal"]
    assert history[0].error is not None
    assert "Domain: beside it" in history[0].error


async def test_e9_an_interrupt_outranks_an_earlier_fatal_error_without_asking() -> None:
    asked: list[object] = []

    def worse(a: BaseException, b: BaseException) -> BaseException:
        asked.append((a, b))
        return a

    program = Program(EngineConfig(is_fatal=is_boom, worst_error=worse))
    program.install("db", body=failing_when_stopped(SystemExit(3)))
    program.install("api", "db", body=failing(Boom("first")))

    error = await run_until_dead(program)

    assert isinstance(error, SystemExit)
    assert notes(error) == ["also: Boom: first"]
    assert asked == []


async def test_e9_an_interrupt_leaves_the_others_their_grace(autojump_clock: MockClock) -> None:
    async def flush(life: Life) -> None:
        await leave_softly(life)
        await trio.sleep(3)
        life.double.note("flushed")

    program = Program()
    program.install("db", body=flush, grace=5.0)
    api = program.install("api", "db")
    with pytest.raises(SystemExit):
        async with program.running():
            api.life.fail(SystemExit(1))
            await trio.sleep_forever()
    assert trio.current_time() == 3
    assert "flushed db" in program.record


async def test_e9_a_second_interrupt_cancels_all_at_once(autojump_clock: MockClock) -> None:
    async def flush(life: Life) -> None:
        await leave_softly(life)
        await trio.sleep(3)
        life.double.note("flushed")

    program = Program()
    program.install("db", body=flush, grace=5.0)
    program.install("api", "db", body=failing_when_stopped(KeyboardInterrupt("second")))
    with pytest.raises(KeyboardInterrupt) as caught:
        async with program.running() as engine:
            engine.kill(KeyboardInterrupt("first"))
            await trio.sleep_forever()
    assert str(caught.value) == "first"
    assert notes(caught.value) == ["also: KeyboardInterrupt: second"]
    assert trio.current_time() == 0
    assert "flushed db" not in program.record


# -- filter ----


async def test_e9_the_manifolds_filter_comes_first_and_the_engines_sees_its_answer() -> None:
    seen: list[tuple[str, Exception]] = []
    original, first, second = Domain("original"), ValueError("first"), Missing("second")

    def own(exc: Exception) -> BaseException:
        seen.append(("own", exc))
        return first

    def engines(exc: Exception) -> BaseException:
        seen.append(("engine's", exc))
        return second

    program = Program(EngineConfig(filter=engines))
    program.install("db", body=failing(original), filter=own)
    async with program.running() as engine:
        assert seen == [("own", original), ("engine's", first)]
        assert engine.report().manifolds["db"].history[0].kind == "missing"
        assert engine.report().manifolds["db"].why == "Missing: second"


async def test_e9_after_none_the_engines_filter_is_not_asked() -> None:
    seen: list[Exception] = []

    def engines(exc: Exception) -> BaseException:
        seen.append(exc)
        return exc

    program = Program(EngineConfig(filter=engines))
    program.install("db", body=failing(Domain()), filter=lambda exc: None)
    async with program.running():
        assert program.states == {"db": "done"}
        assert seen == []


async def test_e9_a_filter_sees_ends_of_start_and_of_run_alike(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    def note(exc: Exception) -> Exception:
        seen.append(str(exc))
        return exc

    program = Program()
    db = program.install("db", body=failing(Domain("start")), filter=note)
    async with program.running() as engine:
        await engine.wait_state("db", "started")
        db.life.fail(Domain("run"))
        await engine.wait_state("db", "delayed")
        await engine.wait_settled()
        db.body = serve
        engine.restart("db")
        await engine.wait_settled()
    assert seen == ["start", "run"]


async def test_e9_a_filter_never_sees_clean_ends_cancellation_or_interrupts() -> None:
    seen: list[Exception] = []

    def note(exc: Exception) -> Exception:
        seen.append(exc)
        return exc

    async def end(life: Life) -> None:
        life.ready()

    program = Program(EngineConfig(filter=note))
    program.install("serving", filter=note)
    program.install("returning", body=end, filter=note)
    program.install("exiting", "serving", body=failing(SystemExit(1)), filter=note)
    both = BaseExceptionGroup("both", [Boom(), SystemExit(2)])
    program.install("both", body=failing_when_stopped(both), filter=note)
    assert isinstance(await run_until_dead(program), SystemExit)
    assert seen == []


async def test_e9_a_filter_sees_a_group_without_cancellation(autojump_clock: MockClock) -> None:
    seen: list[Exception] = []

    def note(exc: Exception) -> None:
        seen.append(exc)

    async def body(life: Life) -> None:
        async def fail(error: Exception) -> None:
            await life.wait_told_ready()
            raise error

        life.ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, Domain("a"))
            nursery.start_soon(fail, Domain("b"))
            nursery.start_soon(trio.sleep_forever)

    program = Program()
    db = program.install("db", body=body, filter=note)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        db.life.get_ready()
        await engine.wait_state("db", "done")
        (group,) = seen
        assert isinstance(group, ExceptionGroup)
        assert sorted(map(str, group.exceptions)) == ["a", "b"]


async def test_e9_a_single_error_out_of_a_nursery_is_seen_bare(autojump_clock: MockClock) -> None:
    seen: list[Exception] = []

    def note(exc: Exception) -> None:
        seen.append(exc)

    error = Domain()

    async def body(life: Life) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    program = Program()
    program.install("db", body=body, filter=note)
    async with program.running():
        assert seen == [error]


async def test_e9_a_filter_that_raises_replaces_the_error_with_the_original_as_context(
    autojump_clock: MockClock,
) -> None:
    original, broken = Domain("original"), Boom("of the filter")
    seen: list[Exception] = []

    def own(exc: Exception) -> Exception:
        raise broken

    def engines(exc: Exception) -> Exception:
        seen.append(exc)
        return exc

    program = Program(EngineConfig(filter=engines))
    program.install("db", body=failing(original), filter=own)
    async with program.running(settle=False) as engine:
        report = engine.report().manifolds["db"]
        assert report.state == "delayed"
        assert report.history[0].error == "Boom: of the filter"
        assert broken.__context__ is original
        assert seen == [broken]


@pytest.mark.parametrize("verdict", [Uninstall(), Missing("config"), Bounce()])
async def test_e9_a_filter_may_raise_its_verdict_instead_of_returning_it(
    verdict: Exception, autojump_clock: MockClock
) -> None:
    def own(exc: Exception) -> Exception:
        raise verdict

    program = Program()
    db = program.install("db", body=failing(Domain()), filter=own)
    async with program.running(settle=False):
        await wait_all_tasks_blocked()
        expected = {"Uninstall": "absent", "Missing": "waiting", "Bounce": "delayed"}
        assert db.state == expected[type(verdict).__name__]


@pytest.mark.parametrize("answer", [Domain, "missing", 5, False])
async def test_e9_a_filter_that_returns_nonsense_is_an_error_that_says_so(
    answer: object, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("db", body=failing(Boom()), filter=lambda exc: answer)  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
    async with program.running(settle=False) as engine:
        error = engine.report().manifolds["db"].history[0].error
        assert error is not None
        assert "filter must return an exception or None" in error
        assert repr(answer) in error


async def test_e9_a_filter_may_raise_an_interrupt_and_it_is_raised_bare() -> None:
    def own(exc: Exception) -> Exception:
        raise SystemExit(4)

    program = Program()
    program.install("db", body=failing(Domain()), filter=own)

    error = await run_until_dead(program)

    assert isinstance(error, SystemExit)
    assert isinstance(error.__context__, Domain)


# -- foreign code that calls verbs ----

Verb = Callable[[Engine], object]


def kill(engine: Engine) -> None:
    engine.kill()


def kill_hard(engine: Engine) -> None:
    engine.kill(grace=0)


def kill_with_reason(engine: Engine) -> None:
    engine.kill(Domain("killed"))


def restart(engine: Engine) -> None:
    engine.restart("db")


def hold(engine: Engine) -> None:
    engine.hold("db")


def uninstall(engine: Engine) -> None:
    engine.uninstall("db")


def drain(engine: Engine) -> None:
    engine.drain()


def look(engine: Engine) -> None:
    engine.report()
    str(engine.explain("db"))
    engine.blast_radius("clock")


AFTERWARDS: list[tuple[Verb, str]] = [
    (kill, "stopped"),
    (kill_hard, "stopped"),
    (restart, "started"),
    (hold, "held"),
    (uninstall, "absent"),
    (drain, "held"),
    (look, "started"),
]


@pytest.mark.parametrize("verb, state", AFTERWARDS)
@pytest.mark.parametrize("hook", ["filter", "engine filter", "is_fatal", "ask", "adapter"])
async def test_e9_foreign_code_may_call_any_verb(
    hook: str, verb: Verb, state: str, autojump_clock: MockClock
) -> None:
    called: list[str] = []

    def act(value: object = None) -> None:
        if not called:
            called.append(hook)
            verb(program.engine)

    def filter_(exc: Exception) -> Exception:
        act()
        return exc

    def is_fatal(exc: BaseException) -> bool:
        act()
        return False

    def adapter(value: object) -> str:
        act()
        return "face"

    program = Program(
        EngineConfig(
            filter=filter_ if hook == "engine filter" else None,
            is_fatal=is_fatal if hook == "is_fatal" else lambda exc: False,
            restart=RestartPolicy(error_delay=1.0),
        )
    )
    program.install("clock", outputs={str: adapter} if hook == "adapter" else {})

    async def body(life: Life) -> None:
        if hook == "adapter":
            life.get("clock", str)
        await serve(life)

    db = program.install(
        "db",
        "clock",
        body=body,
        filter=filter_ if hook == "filter" else None,
        ask=act if hook == "ask" else lambda value: None,
    )
    program.install("web", "db")
    async with program.running(settle=False) as engine:
        await wait_all_tasks_blocked()
        if hook == "ask":
            engine.restart("db")
        elif hook != "adapter":
            db.life.fail(Domain())
        await wait_all_tasks_blocked()
        assert called == [hook]
        await engine.wait_settled()
        assert db.state == state


async def test_e9_a_filter_that_uninstalls_its_own_manifold_is_obeyed() -> None:
    def uninstalls(exc: Exception) -> Exception:
        program.engine.uninstall("db")
        return exc

    program = Program()
    db = program.install("db", body=failing(Domain()), filter=uninstalls)
    async with program.running():
        assert db.state == "absent"
        assert db.starts == 1
        program.install("db")
        await wait_all_tasks_blocked()
        assert program.states == {"db": "started"}


async def test_e9_a_filter_that_kills_with_a_reason_is_ranked_before_its_own_error() -> None:
    def kills(exc: Exception) -> Exception:
        kill_with_reason(program.engine)
        return Boom("second")

    program = Program(BOOM_IS_FATAL)
    program.install("db", body=failing(OSError()), filter=kills)

    error = await run_until_dead(program)

    assert isinstance(error, Domain)
    assert notes(error) == ["also: Boom: second"]


async def test_e9_ask_that_kills_the_engine_hard_is_cancelled_with_the_others(
    autojump_clock: MockClock,
) -> None:
    def kills(value: object) -> None:
        program.engine.kill(grace=0)

    program = Program()
    program.install("db", body=serve, ask=kills, grace=60.0)
    program.install("other", body=leave_softly, ask=lambda value: None, grace=60.0)
    stubborn = program.install("stubborn", body=serve, ask=lambda value: None, grace=60.0)
    async with program.running() as engine:
        engine.hold("stubborn")
        await trio.sleep(5)
        assert stubborn.is_alive
        engine.restart("db")
        await trio.sleep_forever() if engine.state == "alive" else None
    assert trio.current_time() == 5


async def test_e9_a_filter_may_install_what_its_error_calls_for() -> None:
    def installs(exc: Exception) -> Exception:
        program.install("config")
        return Missing("config")

    program = Program()
    program.install("db", body=failing(Domain()), filter=installs, live=("config",))
    async with program.running():
        assert program.states == {"db": "started", "config": "started"}


# -- ask ----


async def test_e9_ask_that_raises_ends_the_grace_and_its_error_is_recorded(
    autojump_clock: MockClock,
) -> None:
    def broken(value: object) -> None:
        raise Domain(f"cannot ask {value}")

    program = Program()
    db = program.install("db", ask=broken, grace=60.0)
    async with program.running() as engine:
        engine.restart("db")
        await engine.wait_settled()
        assert trio.current_time() == 0
        assert db.starts == 2
        assert engine.report().manifolds["db"].history[0].error == "Domain: cannot ask db"


async def test_e9_an_error_of_ask_is_not_lost_beside_one_of_the_run(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioworker.engine")

    def broken(value: object) -> None:
        raise Domain("ask")

    program = Program()
    program.install("db", body=failing_when_stopped(Bounce("run")), ask=broken)
    async with program.running() as engine:
        engine.hold("db")
        await engine.wait_settled()
        error = engine.report().manifolds["db"].history[0].error
        assert error == "Bounce: run; Domain: ask"
    assert [r.levelno for r in caplog.records if "Domain: ask" in r.message] == [logging.ERROR]


async def test_e9_an_error_of_ask_is_judged_by_is_fatal() -> None:
    error = Boom("ask")

    def broken(value: object) -> None:
        raise error

    program = Program(BOOM_IS_FATAL)
    program.install("db", ask=broken)
    program.install("other")
    with pytest.raises(Boom) as caught:
        async with program.running() as engine:
            engine.restart("db")
            await trio.sleep_forever()
    assert caught.value is error


@pytest.mark.parametrize("verb", ["hold", "kill", "drain"])
async def test_e9_ask_that_raises_an_interrupt_stops_nothing_half_way(verb: str) -> None:
    interrupt = SystemExit(5)

    def broken(value: object) -> None:
        raise interrupt

    program = Program()
    program.install("db", ask=broken)
    program.install("other", body=leave_softly, ask=lambda value: None, grace=5.0)
    with pytest.raises(SystemExit) as caught:
        async with program.running() as engine:
            if verb == "hold":
                engine.hold("db")
            else:
                getattr(engine, verb)()
            await trio.sleep_forever()
    assert caught.value is interrupt
    assert sorted(program.ends) == ["db", "other"]


# -- while stopping ----


async def test_e9_a_fatal_error_while_stopping_is_raised_although_kill_was_clean() -> None:
    program = Program(BOOM_IS_FATAL)
    program.install("db", body=failing_when_stopped(Boom("while stopping")))
    with pytest.raises(Boom, match="while stopping"):
        async with program.running():
            pass


async def test_e9_an_error_while_stopping_that_is_not_fatal_is_recorded_only() -> None:
    program = Program()
    program.install("db", body=failing_when_stopped(Domain("while stopping")))
    async with program.running():
        pass
    history = program.engine.report().manifolds["db"].history
    assert [end.error for end in history] == ["Domain: while stopping"]


async def test_e9_a_fatal_error_during_the_drain_of_another_stops_all(
    autojump_clock: MockClock,
) -> None:
    program = Program(BOOM_IS_FATAL)
    db = program.install("db", body=linger)
    program.install("api", "db", body=linger)
    other = program.install("other")
    with pytest.raises(Boom):
        async with program.running() as engine:
            engine.hold("db")
            await wait_all_tasks_blocked()
            other.life.fail(Boom())
            await wait_all_tasks_blocked()
            assert engine.state == "dying"
            program.doubles["api"].let_go.set()
            db.let_go.set()
            await trio.sleep_forever()
    assert program.ends == ["other", "api", "db"]
    assert program.states["db"] == "stopped"
