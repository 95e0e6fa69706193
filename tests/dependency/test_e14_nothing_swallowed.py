"""E14: every exception is in a history, in the engine's result or in the log; logged once."""

import logging
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, RestartPolicy
from trioworker._groups import leaves
from trioworker.dependency import Bounce, EngineConfig, Missing, RetryAfter, Uninstall

from .harness import Body, Life, Program, failing, failing_when_stopped, ready_and_return

LOGGER = "trioworker.engine"


class Boom(Exception):
    """Fatal."""


def is_boom(exc: BaseException) -> bool:
    return isinstance(exc, Boom)


ENDS: list[tuple[BaseException, int]] = [
    (OSError("the end"), logging.ERROR),
    (ExceptionGroup("g", [OSError("the end"), Bounce()]), logging.ERROR),
    (Dying("the end"), logging.INFO),
    (Bounce("the end"), logging.INFO),
    (Missing("the end"), logging.INFO),
    (RetryAfter(3, "the end"), logging.INFO),
    (Uninstall("the end"), logging.INFO),
    (ExceptionGroup("g", [Uninstall("the end"), Missing()]), logging.INFO),
    (Boom("the end"), logging.ERROR),
    (SystemExit("the end"), logging.ERROR),
    (KeyboardInterrupt("the end"), logging.ERROR),
]


def once(error: BaseException, when: str) -> Body:
    """End the first run with `error`, and serve in the others."""

    async def body(life: Life) -> None:
        when_now = "" if life.number > 1 else when
        if when_now == "start":
            raise error
        if when_now == "helper":
            life.get.start_soon(raise_, error)
        life.ready()
        if when_now == "run":
            await trio.sleep(1)
            raise error
        try:
            await life.obey()
        except trio.Cancelled:
            if when_now == "stop":
                raise error from None
            raise

    return body


async def raise_(error: BaseException) -> None:
    await trio.sleep(1)
    raise error


async def outcome_of(program: Program, *, restart: object = False) -> BaseException | None:
    """Run for 10 s, with a restart of `db` in their middle or not; return what was raised."""

    async def later() -> None:
        await trio.sleep(5)
        if restart:
            program.engine.restart("db")
        await trio.sleep(5)
        program.engine.kill()

    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        try:
            await program.engine.run()
        except BaseException as exc:  # noqa: BLE001 - interrupts are among them
            raised = exc
        nursery.cancel_scope.cancel()
    program.check()
    return raised


@pytest.mark.parametrize("error, level", ENDS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("when", ["start", "run", "helper", "stop"])
async def test_e14_every_end_is_logged_once_at_the_level_it_deserves(
    when: str,
    error: BaseException,
    level: int,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    program = Program(EngineConfig(is_fatal=is_boom))
    program.install("db", body=once(error, when))
    program.install("other")

    raised = await outcome_of(program, restart=when == "stop")

    told = [r for r in caplog.records if "the end" in r.getMessage()]
    assert [r.levelno for r in told] == [level]
    assert '"db" manifold' in told[0].getMessage()
    is_fatal = isinstance(error, (Boom, SystemExit, KeyboardInterrupt))
    assert raised is (error if is_fatal else None)
    report = program.engine.report().manifolds.get("db")
    if report is not None:
        assert report.history[0].error is not None
        assert "the end" in report.history[0].error


@pytest.mark.parametrize("error, level", ENDS, ids=lambda v: type(v).__name__)
async def test_e14_an_errors_record_has_its_traceback_and_a_verdicts_has_none(
    error: BaseException, level: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    program = Program(EngineConfig(is_fatal=is_boom))
    program.install("db", body=once(error, "start"))

    await outcome_of(program)

    (record,) = [r for r in caplog.records if "the end" in r.getMessage()]
    wanted = level == logging.ERROR and isinstance(error, Exception)
    assert (record.exc_info is not None and record.exc_info[1] is error) == wanted


async def test_e14_a_clean_end_is_told_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    program = Program()
    program.install("db", body=ready_and_return)
    program.install("api")
    async with program.running():
        pass
    assert caplog.records == []


async def test_e14_an_engines_reason_is_raised_and_not_logged_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    program = Program()
    with pytest.raises(Boom):
        async with program.running() as engine:
            engine.kill(Boom("the reason"))
            await trio.sleep_forever()
    assert not any(r.exc_info for r in caplog.records)


async def test_e14_what_a_filter_hides_is_hidden_on_purpose_but_what_it_makes_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    program = Program()
    program.install("hidden", body=failing(OSError("hidden")), filter=lambda exc: None)
    program.install("shown", body=failing(OSError()), filter=lambda exc: Missing("made"))
    async with program.running():
        pass
    assert [("made" in r.getMessage(), r.levelno) for r in caplog.records] == [(True, logging.INFO)]


async def test_e14_an_error_of_a_broken_filter_shows_the_original_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(exc: Exception) -> Exception:
        raise ZeroDivisionError("of the filter")

    program = Program()
    program.install("db", body=failing(OSError("the original")), filter=broken)
    async with program.running(settle=False):
        pass
    assert "of the filter" in caplog.text
    assert "the original" in caplog.text


async def test_e14_an_error_of_one_that_is_uninstalled_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = Program()
    program.install("db", body=failing_when_stopped(OSError("on its way out")))
    async with program.running() as engine:
        engine.uninstall("db")
        await engine.wait_settled()
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "on its way out" in caplog.text
    assert "and is uninstalled" in caplog.text


async def test_e14_errors_while_all_are_cancelled_at_once_are_not_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    program = Program()
    program.chain("db", "api")
    program.install("web", "api", body=failing_when_stopped(OSError("cut short")))
    program.install("slow", "api")
    with pytest.raises(KeyboardInterrupt):
        async with program.running() as engine:
            engine.kill(KeyboardInterrupt("first"))
            engine.kill(KeyboardInterrupt("second"))
            await trio.sleep_forever()
    history = program.engine.report().manifolds["web"].history
    assert [end.error for end in history] == ["OSError: cut short"]
    assert caplog.text.count("is stopped with its engine: OSError: cut short") == 1


@pytest.mark.parametrize("stop", ["kill", "cancel"])
async def test_e14_errors_of_a_shutdown_are_recorded_for_each(
    stop: str, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    for name in "abc":
        program.install(name, body=failing_when_stopped(OSError(f"of {name}")))
    with trio.CancelScope() as scope:
        async with program.running() as engine:
            if stop == "kill":
                engine.kill()
            else:
                scope.cancel()
            await trio.sleep_forever() if stop == "cancel" else await engine.wait()
    for name in "abc":
        (end,) = program.engine.report().manifolds[name].history
        assert end.error == f"OSError: of {name}"
        assert caplog.text.count(f"is stopped with its engine: OSError: of {name}") == 1


async def test_e14_a_stored_cancelled_that_is_raised_later_is_an_error_that_says_so(
    autojump_clock: MockClock,
) -> None:
    async def body(life: Life) -> None:
        stored: list[BaseException] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as exc:
                stored.append(exc)
                raise
        raise stored[0]

    program = Program()
    program.install("db", body=body)
    async with program.running(settle=False):
        (end,) = program.engine.report().manifolds["db"].history[:1]
        assert end.kind == "error"
        assert end.error is not None
        assert "never keep a trio.Cancelled" in end.error


leaf = st.sampled_from([OSError, KeyError, Missing, Bounce, Uninstall, Boom])
trees: st.SearchStrategy[Any] = st.recursive(leaf, lambda t: st.lists(t, min_size=1, max_size=3))


def grown(tree: Any, made: list[Exception]) -> Exception:
    """Make a group of the shape of `tree`; each leaf has a number in its text."""
    if isinstance(tree, list):
        return ExceptionGroup("g", [grown(branch, made) for branch in tree])
    error: Exception = tree(f"n{len(made)}")
    made.append(error)
    return error


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees, when=st.sampled_from(["start", "run", "stop"]))
def test_e14_every_leaf_of_any_group_is_found_again(tree: Any, when: str) -> None:
    made: list[Exception] = []
    error = grown(tree, made)
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    async def main() -> None:
        program = Program(EngineConfig(is_fatal=is_boom, restart=RestartPolicy(error_delay=1.0)))
        program.install("db", body=once(error, when))
        raised = await outcome_of(program, restart=when == "stop")
        # Trio rebuilds a group that leaves a cancelled scope; its leaves stay.
        found = [] if raised is None else list(leaves(raised))
        assert found == (made if any(map(is_boom, made)) else [])

    handler = Keep()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    told = [line for line in lines if "n0" in line]
    assert len(told) == 1
    for i in range(min(len(made), 8)):  # more do not fit into a line
        assert f"n{i}" in told[0]


async def test_e14_a_broken_str_does_not_break_the_engine(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    program = Program()
    program.install("db", body=failing(Silent()))
    async with program.running(settle=False) as engine:
        await wait_all_tasks_blocked()
        assert engine.report().manifolds["db"].history[0].error == (
            "Silent: <its message cannot be shown>"
        )
        await engine.wait_settled()
        assert program.states == {"db": "started"}
    assert len(caplog.records) == 1
