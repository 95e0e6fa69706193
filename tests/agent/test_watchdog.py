"""A blocked event loop is told of once, with what blocks it; an idle one is left alone."""

import logging
import threading
import time
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from trioworker import Engine, Getter, Manifold, open_worker
from trioworker.agent import Watchdog
from trioworker.agent._watchdog import _Rounds

PATIENCE = 20.0
"""Seconds of real time until the watching thread must have done what is waited for."""


def block_until(is_enough: Callable[[], object]) -> None:
    """Block this thread, as a worker with a fault would, until somebody else has seen it."""
    end = time.monotonic() + PATIENCE
    while not is_enough():
        assert time.monotonic() < end, "nobody has seen it"
        time.sleep(0.001)


def block_for(seconds: float) -> None:
    time.sleep(seconds)


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name == "trioworker.agent"
    ]


async def test_what_blocks_the_loop_is_told_once_with_its_manifold_and_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        block_until(lambda: told(caplog))
        block_for(0.2)

    engine = Engine()
    engine.install("db", Manifold(start))
    async with open_worker(Watchdog(0.05)) as watchdog, open_worker(engine):
        await engine.wait_state("db", "done")
        await trio.lowlevel.checkpoint()

    [blocked] = told(caplog)
    first, *places = blocked.splitlines()
    assert first.startswith("the event loop has been blocked for 0.")
    assert first.endswith(' s by "db" manifold, task db; it stands at')
    assert "trio/_core" not in blocked
    assert places[-1].partition(":")[0].strip() == __file__
    assert any(place.endswith("in block_until") for place in places)
    [over] = [text for text in told(caplog, logging.INFO) if "goes on" in text]
    assert over.startswith("the event loop goes on; it was blocked for ")
    assert watchdog.stalls == 1
    assert watchdog.seconds > 0.2


async def test_a_task_of_nobody_is_called_by_its_own_name(caplog: pytest.LogCaptureFixture) -> None:
    async def culprit() -> None:
        await trio.lowlevel.checkpoint()
        block_until(lambda: told(caplog))

    async with open_worker(Watchdog(0.05)), trio.open_nursery() as nursery:
        nursery.start_soon(culprit, name="the culprit")

    assert " by task the culprit; it stands at" in told(caplog)[0]


async def test_each_stall_is_told() -> None:
    stalls: list[float] = []

    async with open_worker(Watchdog(0.05, on_stall=stalls.append)) as watchdog:
        for _ in range(2):
            block_for(0.1)
            await trio.lowlevel.checkpoint()

    assert watchdog.stalls == len(stalls) == 2
    assert min(stalls) >= 0.1
    assert watchdog.seconds == pytest.approx(sum(stalls))


def test_a_stall_between_two_looks_is_told_without_its_place(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stalls: list[float] = []
    rounds = _Rounds(lambda seconds: seconds > 2, stalls.append)
    for busy in (1.0, 2.0, 2.5):
        now += 10  # waiting for I/O is no stall
        rounds.after_io_wait(10)
        now += busy
        rounds.before_io_wait(0)

    assert stalls == [2.5]
    assert told(caplog) == [
        "the event loop was blocked for 2.50 s; that was over before it was seen by what"
    ]


async def test_the_thread_does_not_wake_an_idle_loop() -> None:
    class Counting(trio.abc.Instrument):
        rounds = 0

        def after_io_wait(self, timeout: float) -> None:
            self.rounds += 1

    counting, looks, enough = Counting(), 0, threading.Event()

    def feed() -> None:
        nonlocal looks
        looks += 1
        if looks == 20:
            enough.set()

    async with open_worker(Watchdog(feed=feed, feed_within=0.01)):
        trio.lowlevel.add_instrument(counting)
        await trio.to_thread.run_sync(enough.wait, PATIENCE)
        trio.lowlevel.remove_instrument(counting)

    assert looks >= 20
    assert counting.rounds < 10


async def test_nobody_is_fed_while_the_loop_is_blocked(caplog: pytest.LogCaptureFixture) -> None:
    fed: list[None] = []

    async with open_worker(Watchdog(0.1, feed=lambda: fed.append(None), feed_within=0.01)):
        await trio.to_thread.run_sync(block_until, lambda: fed)
        block_until(lambda: told(caplog))
        before = len(fed)
        block_for(0.2)
        assert len(fed) == before
        await trio.lowlevel.checkpoint()
        await trio.to_thread.run_sync(block_until, lambda: len(fed) > before)

    assert len(fed) > before


async def test_it_ends_with_its_thread_and_its_instrument() -> None:
    fed: list[None] = []
    async with open_worker(Watchdog(feed=lambda: fed.append(None), feed_within=0.001)):
        await trio.to_thread.run_sync(block_until, lambda: fed)
    before = len(fed)
    block_for(0.05)

    assert len(fed) == before
    assert not [t for t in threading.enumerate() if "watchdog" in t.name.lower()]


async def test_it_ends_when_it_is_cancelled_from_outside() -> None:
    with trio.move_on_after(0.01) as scope:
        await Watchdog().run()

    assert scope.cancelled_caught


async def test_what_is_told_of_stalls_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    def on_stall(seconds: float) -> None:
        raise OSError("gone")

    async with open_worker(Watchdog(0.01, on_stall=on_stall)) as watchdog:
        for _ in range(2):
            block_for(0.05)
            await trio.lowlevel.checkpoint()

    assert watchdog.stalls >= 2  # a busy machine may stall us once more
    assert told(caplog, logging.ERROR) == ["what is told of stalls failed"] * watchdog.stalls


@pytest.mark.parametrize(
    "threshold, idle, busy", [(2.0, 1.0, 1.0), (9.0, 1.0, 1.0), (0.2, 1.0, 0.1)]
)
def test_it_looks_once_a_second_at_an_idle_loop_and_twice_a_threshold_at_another(
    threshold: float, idle: float, busy: float
) -> None:
    pause = Watchdog(threshold)._pause

    assert [pause(is_idle=True), pause(is_idle=False)] == pytest.approx([idle, busy])


@pytest.mark.parametrize("threshold", [0, -1, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"Watchdog\(threshold=...\) must be more than 0 s, not"):
        Watchdog(threshold)


async def test_under_a_mock_clock_it_measures_real_time(autojump_clock: MockClock) -> None:
    async with open_worker(Watchdog(0.5)) as watchdog:
        await trio.sleep(1000)

    assert watchdog.stalls == 0
