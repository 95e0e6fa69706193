"""What has happened, for trace viewers."""

from typing import Any

import trio
from trio.testing import MockClock

from trioworker import Engine, Getter, Manifold, State
from trioworker.dependency import Transition
from trioworker.workers.agent.introspection import Recorder
from trioworker.workers.agent.introspection._trace import trace_events

from .asking import hang

W, G, D, S, A = State.WAITING, State.STARTING, State.STARTED, State.STOPPING, State.ABSENT


def bars(*transitions: Transition, now: float = 100.0) -> list[tuple[str, str, float, float]]:
    """Return row, state, begin and length of each bar, in seconds."""
    events = list(trace_events(transitions, now, "shop"))
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    return [
        (rows[e["tid"]], e["name"], e["ts"] / 1e6, e["dur"] / 1e6) for e in events if e["ph"] == "X"
    ]


def move(time: float, name: str, before: State, after: State) -> Transition:
    return Transition(time, name, before, after, "why", 5)


def test_each_state_is_a_bar_in_the_row_of_its_manifold() -> None:
    assert bars(
        move(10, "db", W, G), move(10, "web", A, W), move(12, "db", G, D), move(12, "web", W, G)
    ) == [
        ("db", "starting", 0, 2),
        ("web", "waiting", 0, 2),
        ("db", "started", 2, 88),
        ("web", "starting", 2, 88),
    ]


def test_what_was_before_the_clock_begins_with_it() -> None:
    assert bars(move(0, "db", A, W), move(10, "db", W, G), now=11) == [
        ("db", "waiting", 0, 0),
        ("db", "starting", 0, 1),
    ]
    assert bars(move(0, "db", A, W)) == []


def test_what_is_uninstalled_is_not_shown() -> None:
    assert bars(move(10, "db", A, W), move(11, "db", W, A), now=20) == [("db", "waiting", 0, 1)]


def test_cause_and_origin_are_told_and_the_program_is_named() -> None:
    process, _, bar = trace_events([move(10, "db", W, G)], 11, "shop")

    assert process == {
        "ph": "M",
        "name": "process_name",
        "pid": 1,
        "tid": 0,
        "args": {"name": "shop"},
    }
    assert bar["args"] == {"cause": "why", "origin": 5}


def test_nothing_is_no_trace() -> None:
    assert len(list(trace_events([], 1.0, "shop"))) == 1


# -- the recorder ----


async def test_it_keeps_the_latest_and_counts_the_others(autojump_clock: MockClock) -> None:
    engine = Engine()
    recorder = Recorder(engine, most=10)
    engine.install("a", Manifold(returning))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        for _ in range(4):
            await engine.wait_settled()
            engine.restart("a")
        await engine.wait_settled()
        engine.kill()

    first = recorder.transitions()
    assert len(first) == 10
    assert recorder.transitions() == first
    total = 1 + 5 * 2 + 4 + 1  # installed, five runs, restarted, and stopped
    assert recorder.forgotten == total - 10


async def returning(get: Getter, *, task_status: Any) -> None:
    await trio.lowlevel.checkpoint()


async def test_while_somebody_reads_it_loses_nothing_and_is_no_slow_reader(
    autojump_clock: MockClock,
) -> None:
    engine = Engine()
    recorder = Recorder(engine, most=10)
    engine.install("a", Manifold(returning))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(recorder.run)
        nursery.start_soon(engine.run)
        for _ in range(10):
            await engine.wait_settled()
            engine.restart("a")
        await engine.wait_settled()
        engine.kill()  # and with the engine the reading ends

    assert len(recorder.transitions()) == 10
    assert recorder._stream.dropped == 0


async def test_one_that_comes_late_knows_since_when_each_is_as_it_is(
    autojump_clock: MockClock,
) -> None:
    engine = Engine()
    engine.install("a", Manifold(hang))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        begun = trio.current_time()
        await engine.wait_state("a", "starting")
        await trio.sleep(5)
        recorder = Recorder(engine)
        recorder.add_past(engine.report(), trio.current_time())
        engine.kill()
        await engine.wait()
        past, *later = recorder.transitions()

    assert (past.time, past.manifold, past.after) == (begun, "a", "starting")
    assert [one.after for one in later] == ["draining", "stopping", "stopped"]


async def test_a_closed_recorder_costs_the_engine_nothing(autojump_clock: MockClock) -> None:
    engine = Engine()
    recorder = Recorder(engine)
    assert engine._machine.observers.active
    recorder.close()
    assert not engine._machine.observers.active
