"""The signal handler: one signal, one error, and no signal lost."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Bounce, Manifold, Uninstall, open_worker
from trioworker.testing import check_alive, clean_kill, open_engine
from trioworker.workers.coordination.simplesignalhandler import (
    ChannelClosed,
    Config,
    End,
    Signalled,
    Signals,
    SignalSource,
    SignalWatcher,
    SourceConfig,
    manifold,
    signal_handler,
    source,
)

from .facades import FakeSignals, offering
from .process import running
from .taking import Taker, calling, nursery_to_leave

HUP, USR1, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM
ERROR, OTHER = ValueError("terminate"), ValueError("restart")


@pytest.fixture
def signals() -> FakeSignals:
    return FakeSignals()


@pytest.fixture
async def tasks() -> AsyncIterator[trio.Nursery]:
    async with nursery_to_leave() as nursery:
        yield nursery


def never(number: signal.Signals) -> BaseException | None:
    raise AssertionError(f"called for {number}")


# -- the watcher -----------------------------------------------------------------------------------


async def test_it_ends_with_exactly_the_handlers_error_and_reads_no_second_signal(
    signals: FakeSignals, tasks: trio.Nursery
) -> None:
    asked: list[signal.Signals] = []

    def handler(number: signal.Signals) -> BaseException:
        asked.append(number)
        return ERROR

    watcher = SignalWatcher(signals.channel, handler)
    run = await calling(tasks, watcher.run)
    assert run.blocks()
    signals.tell(HUP)
    signals.tell(TERM)
    await run.ended.wait()

    assert run.error is ERROR
    assert asked == [HUP]
    assert signals.channel.receive_nowait() is TERM
    assert watcher.report().signal == "SIGHUP"


async def test_a_handler_that_says_nothing_is_a_clean_end(
    signals: FakeSignals, tasks: trio.Nursery
) -> None:
    run = await calling(tasks, SignalWatcher(signals.channel, lambda number: None).run)
    signals.tell(HUP)
    await run.ended.wait()

    assert run.error is None


async def test_a_channel_that_ends_is_an_error_and_the_handler_is_not_called(
    signals: FakeSignals, tasks: trio.Nursery
) -> None:
    run = await calling(tasks, SignalWatcher(signals.channel, never).run)
    signals.send.close()
    await run.ended.wait()

    assert isinstance(run.error, ChannelClosed)
    assert str(run.error) == '"signal-watcher": signal channel closed unexpectedly'


async def test_killed_while_it_waits_it_ends_cleanly_and_the_handler_is_not_called(
    signals: FakeSignals,
) -> None:
    async with open_worker(SignalWatcher(signals.channel, never)) as watcher:
        await check_alive(watcher)
        assert repr(watcher) == "<SignalWatcher 'signal-watcher' alive>"
        assert watcher.report().signal is None
        await clean_kill(watcher)


@pytest.mark.parametrize("first", ["the signal", "the kill"])
async def test_a_signal_at_the_moment_of_a_kill_is_taken(
    signals: FakeSignals, tasks: trio.Nursery, first: str
) -> None:
    """In the original, chance decides."""
    watcher = SignalWatcher(signals.channel, lambda number: ERROR)
    run = await calling(tasks, watcher.run)
    acts: list[Callable[[], object]] = [lambda: signals.tell(TERM), watcher.kill]
    for act in acts if first == "the signal" else reversed(acts):
        act()
    await run.ended.wait()

    assert run.error is ERROR


async def test_a_signal_from_before_the_start_is_not_lost(signals: FakeSignals) -> None:
    signals.tell(TERM)
    with pytest.raises(ValueError, match="terminate") as caught:
        await SignalWatcher(signals.channel, lambda number: ERROR).run()

    assert caught.value is ERROR


# -- handlers --------------------------------------------------------------------------------------


def test_a_handler_has_an_error_for_each_signal_and_a_default_for_the_others() -> None:
    assert signal_handler(ERROR, {})(HUP) is ERROR
    assert signal_handler(ERROR, {TERM: OTHER})(HUP) is ERROR
    assert signal_handler(ERROR, {TERM: OTHER})(TERM) is OTHER


def test_a_signal_with_no_error_has_that_and_not_the_default() -> None:
    assert signal_handler(ERROR, {TERM: None})(TERM) is None
    assert signal_handler(None, {})(TERM) is None


def test_what_the_config_can_say() -> None:
    assert isinstance(End.BOUNCE.of(HUP), Bounce)
    assert isinstance(End.UNINSTALL.of(HUP), Uninstall)
    assert End.FINISH.of(HUP) is None
    error = End.ERROR.of(HUP)
    assert isinstance(error, Signalled)
    assert (error.signal, str(error)) == (HUP, "SIGHUP came")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_what_cannot_be_caught_is_refused(name: str) -> None:
    for make in (
        lambda: SourceConfig(signals=[name]),
        lambda: Config(ends={name: End.BOUNCE}),
        lambda: signal_handler(None, {signal.Signals[name]: None}),
    ):
        with pytest.raises(ValueError, match=f"{name} cannot be caught"):
            make()


def test_the_configs_check_themselves_and_are_frozen() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SourceConfig(signals=[])
    for make in (lambda: SourceConfig(signals=["HUP"]), lambda: Config(ends={"HUP": End.ERROR})):
        with pytest.raises(ValueError, match="there is no signal 'HUP'; names are like 'SIGHUP'"):
            make()
    assert Config().default is End.ERROR
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().default = End.FINISH  # type: ignore[misc]  # which is the point


# -- in an engine ----------------------------------------------------------------------------------


async def test_a_bounce_restarts_who_depends_on_it_and_loses_no_signal(
    signals: FakeSignals, autojump_clock: MockClock
) -> None:
    starts: list[float] = []

    @Manifold.from_start(inputs=("watcher",))
    async def user(get: Any, *, task_status: trio.TaskStatus[None]) -> None:
        starts.append(trio.current_time())
        task_status.started()
        await trio.sleep_forever()

    parts = {
        "signals": offering(Signals, signals),
        "watcher": manifold(Config(ends={"SIGHUP": End.BOUNCE})),
        "user": user,
    }
    async with open_engine(parts) as engine:
        signals.tell(HUP)
        signals.tell(HUP)  # while the first is dealt with
        await trio.sleep(0.5)
        assert engine.report().manifolds["watcher"].starts == 3
        assert len(starts) >= 2
        assert engine.report().manifolds["user"].state == "started"


async def test_one_that_finishes_takes_no_further_signals(
    signals: FakeSignals, autojump_clock: MockClock
) -> None:
    parts = {
        "signals": offering(Signals, signals),
        "watcher": manifold(Config(default=End.FINISH)),
    }
    async with open_engine(parts, settle_within=None) as engine:
        signals.tell(HUP)
        await engine.wait_state("watcher", "done")
        signals.tell(HUP)
        await trio.sleep(1000)
        assert engine.report().manifolds["watcher"].starts == 1


async def test_a_handler_takes_the_place_of_the_config(
    signals: FakeSignals, autojump_clock: MockClock
) -> None:
    parts = {
        "signals": offering(Signals, signals),
        "watcher": manifold(handler=signal_handler(OTHER, {})),
    }
    async with open_engine(parts, settle_within=None) as engine:
        signals.tell(HUP)
        await engine.wait_state("watcher", "delayed")
        assert "restart" in str(engine.explain("watcher"))


# -- the source, with real signals -----------------------------------------------------------------


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


async def until(count: Callable[[], int], wanted: int) -> None:
    with trio.fail_after(30):
        while count() != wanted:  # noqa: ASYNC110 - nothing tells of it
            await trio.sleep(0.001)


async def test_what_comes_is_kept_until_somebody_reads() -> None:
    async with open_worker(SignalSource(SourceConfig(signals=["SIGUSR1", "SIGHUP"]))) as its:
        for number in (USR1, HUP):
            send(number)
            await until(lambda: its.report().waiting, 1 if number is USR1 else 2)
        assert its.report() == (its.report().tomb, ("SIGUSR1", "SIGHUP"), 2, 2)
        assert repr(its) == "<SignalSource 'signals' of SIGUSR1, SIGHUP alive>"
        assert [its.channel.receive_nowait() for _ in range(2)] == [USR1, HUP]


async def test_it_is_registered_when_it_is_ready_and_not_after_its_end() -> None:
    before = signal.getsignal(USR1)
    async with open_worker(SignalSource(SourceConfig(signals=["SIGUSR1"]))) as its:
        assert signal.getsignal(USR1) is not before
        await clean_kill(its)
        assert signal.getsignal(USR1) is before


async def test_a_signal_in_the_last_moment_hits_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Left in Trio's receiver, it would kill the process when that is closed."""
    async with open_worker(SignalSource(SourceConfig(signals=["SIGUSR1"]))) as its:
        its.kill()
        send(USR1)
        with trio.fail_after(5):
            await its.wait()

    told = caplog.text.count("SIGUSR1 came in the last moment, and is dropped")
    assert told + its.report().came == 1


async def test_the_end_of_a_source_needs_no_time(mock_clock: MockClock) -> None:
    """It waited for signals of its last moment, for ever on a clock that stands still."""
    async with open_worker(SignalSource(SourceConfig(signals=["SIGUSR1"]))) as its:
        await clean_kill(its)


async def test_more_than_anybody_takes_is_dropped_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_worker(SignalSource(SourceConfig(signals=["SIGUSR1"]))) as its:
        for count in range(1, 66):
            send(USR1)
            await until(lambda: its.report().came, count)
        assert its.report().waiting == 64

    assert "SIGUSR1 is dropped: nobody reads" in caplog.text


async def test_a_real_signal_ends_the_watcher_and_the_source_lives_on() -> None:
    taker = Taker("signals", Signals)
    parts = {
        "signals": source(SourceConfig(signals=["SIGUSR1"])),
        "watcher": manifold(Config(default=End.BOUNCE)),
        "taker": taker.manifold(),
    }
    async with open_engine(parts) as engine:
        for starts in (2, 3):
            send(USR1)
            await until(lambda: engine.report().manifolds["watcher"].starts, starts)
        assert engine.report().manifolds["signals"].starts == 1
        assert [name for name in dir(taker[Signals]) if name[0] != "_"] == ["channel"]
        await wait_all_tasks_blocked()


async def test_a_source_around_the_engine_takes_signals_until_everything_has_stopped(
    tmp_path: Path,
) -> None:
    """In a real process: a second signal while it stops slowly neither kills it nor hangs it."""
    go = tmp_path / "go"
    async with running("obey", go) as process:
        await process.wait_lines(1)
        process.send(HUP)
        await process.wait_lines(2)
        process.send(TERM)
        go.touch()
        await process.wait_lines(4)

    assert process.lines == ["working", "stopping", "stopped", "SIGHUP"]
