"""E18: a hook that counts and times what every run of every manifold does."""

import logging
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import EngineConfig, State

from .harness import (
    Program,
    failing,
    failing_when_stopped,
    return_at_once,
    starting_in,
    stopping_in,
)


class Told:
    """A hook that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.states: list[str] = []
        self.on_state: Callable[[], object] = bool

    def state(self, manifold: str, before: State, after: State) -> None:
        self.states.append(f"{manifold}: {before} -> {after}")
        self.on_state()

    def start(self, manifold: str, nth: int) -> None:
        self.calls.append(("start", manifold, nth))

    def ready(self, manifold: str, seconds: float) -> None:
        self.calls.append(("ready", manifold, seconds))

    def end(
        self,
        manifold: str,
        kind: str,
        error: type[BaseException] | None,
        stop_seconds: float | None,
    ) -> None:
        self.calls.append(("end", manifold, kind, error, stop_seconds))


async def test_e18_starts_and_their_durations_are_told(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db", body=starting_in(2.0))
    async with program.running():
        await program.settle()
        await wait_all_tasks_blocked()
        assert told.calls == [("start", "db", 1), ("ready", "db", 2.0)]


async def test_e18_stops_and_their_durations_are_told(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db", body=stopping_in(3.0))
    async with program.running() as engine:
        engine.restart("db")
        await program.settle()
        await wait_all_tasks_blocked()
        assert told.calls[2:] == [
            ("end", "db", "stopped", None, 3.0),
            ("start", "db", 2),
            ("ready", "db", 0.0),
        ]


async def test_e18_a_failure_is_told_by_its_type_and_has_no_time_to_stop(
    autojump_clock: MockClock,
) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db", body=failing(OSError("gone"), ExceptionGroup("", [KeyError()])))
    async with program.running():
        await program.settle()
        await wait_all_tasks_blocked()
        ends = [call for call in told.calls if call[0] == "end"]
        assert ends == [
            ("end", "db", "error", OSError, None),
            ("end", "db", "error", KeyError, None),
        ]


async def test_e18_an_error_while_stopping_is_told_with_both(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db", body=failing_when_stopped(OSError("in clean-up")))
    async with program.running() as engine:
        engine.hold("db")
        await program.settle()
        await wait_all_tasks_blocked()
        assert told.calls[-1] == ("end", "db", "error", OSError, 0.0)


async def test_e18_a_return_is_told_as_one(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("once", body=return_at_once)
    async with program.running():
        await program.settle()
        await wait_all_tasks_blocked()
        assert told.calls == [("start", "once", 1), ("end", "once", "returned", None, None)]


async def test_e18_every_state_is_told_from_absent_to_the_end(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db")
    async with program.running() as engine:
        engine.uninstall("db")
        await program.settle()
    assert told.states == [
        "db: absent -> waiting",
        "db: waiting -> starting",
        "db: starting -> started",
        "db: started -> draining",
        "db: draining -> stopping",
        "db: stopping -> absent",
    ]


async def test_e18_nothing_is_lost_at_the_end_of_the_engine(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db")
    async with program.running():
        pass
    assert told.calls[-1] == ("end", "db", "stopped", None, 0.0)
    assert told.states[-1] == "db: stopping -> stopped"


async def test_e18_a_hook_that_fails_is_logged_and_told_the_rest(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()

    def fail() -> None:
        raise OSError("the disk is full")

    told.on_state = fail
    program = Program(EngineConfig(metrics=told))
    program.install("db")
    async with program.running():
        await program.settle()
        assert program.states == {"db": "started"}
        assert told.calls == [("start", "db", 1), ("ready", "db", 0.0)]
    records = [r for r in caplog.records if "metrics hook" in r.message]
    assert {r.message for r in records} == {"the metrics hook's state() failed"}
    assert {r.levelno for r in records} == {logging.ERROR}
    assert all("the disk is full" in (r.exc_text or "") for r in records)


async def test_e18_a_hook_may_call_any_verb(autojump_clock: MockClock) -> None:
    told = Told()
    program = Program(EngineConfig(metrics=told))
    program.install("db")
    program.install("other")

    def meddle() -> None:
        if told.states[-1] == "db: starting -> started":
            program.engine.hold("other")

    told.on_state = meddle
    async with program.running():
        await program.settle()
        assert program.states == {"db": "started", "other": "held"}


async def test_e18_an_interrupt_in_a_hook_ends_the_engine(autojump_clock: MockClock) -> None:
    told = Told()

    def interrupt() -> None:
        told.on_state = bool
        raise KeyboardInterrupt

    program = Program(EngineConfig(metrics=told))
    program.install("db")
    with pytest.raises(KeyboardInterrupt):
        async with program.running():
            told.on_state = interrupt
            program.engine.restart("db")
            await trio.sleep_forever()
    assert told.states[-1] == "db: stopping -> stopped"


async def test_e18_a_hook_that_wants_to_know_is_told_of_events_that_readers_lost(
    autojump_clock: MockClock,
) -> None:
    class Dropping(Told):
        def drop(self) -> None:
            self.calls.append(("drop",))

    told = Dropping()
    program = Program(EngineConfig(metrics=told))
    program.install("db")
    async with program.running():
        await program.settle()
        with program.engine.events(capacity=2) as events:
            program.engine.restart("db")
            await program.settle()
            await wait_all_tasks_blocked()
            lost = events.dropped

    assert lost >= 1
    assert told.calls.count(("drop",)) == lost


async def test_e18_a_hook_that_does_not_is_left_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(EngineConfig(metrics=Told()))
    program.install("db")
    async with program.running():
        await program.settle()
        with program.engine.events(capacity=2) as events:
            program.engine.restart("db")
            await program.settle()
            await wait_all_tasks_blocked()
            assert events.dropped
    assert not [record for record in caplog.records if "metrics hook" in record.getMessage()]


async def test_e18_an_engine_with_a_hook_rests_when_it_is_idle(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(metrics=Told()))
    program.install("db")
    async with program.running():
        await wait_all_tasks_blocked()
        assert program.live_timers == 0


@pytest.mark.parametrize("hook", [object(), "statsd", Told])
def test_e18_what_is_no_hook_is_refused_by_name(hook: object) -> None:
    if hook is Told:
        EngineConfig(metrics=Told())
        return
    with pytest.raises(
        TypeError, match=r"EngineConfig\(metrics=...\) must be .*state, start, ready, end"
    ):
        EngineConfig(metrics=hook)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
