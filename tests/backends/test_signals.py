"""Signals: each is taken once, none hits the process, and nothing waits for one."""

import signal
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.backends.signals import SignalInbox

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture
def heard() -> list[int]:
    """What reaches the handlers from before."""
    return []


@pytest.fixture(autouse=True)
def _handlers(heard: list[int]) -> Iterator[None]:
    def hear(number: int, frame: object) -> None:
        heard.append(number)

    before = {number: signal.signal(number, hear) for number in (USR1, USR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_they_are_received_in_the_order_in_which_they_came() -> None:
    with SignalInbox(USR1, USR2) as inbox:
        for number in (USR2, USR1):
            signal.raise_signal(number)
        assert [await inbox.receive(), await inbox.receive()] == [USR2, USR1]


async def test_equal_ones_that_nobody_has_received_are_one() -> None:
    with SignalInbox(USR1) as inbox:
        for _ in range(3):
            signal.raise_signal(USR1)
        assert inbox.take_all() == (USR1,)
        signal.raise_signal(USR1)
        assert inbox.take_all() == (USR1,)


async def test_one_that_comes_wakes_who_waits_for_it(mock_clock: MockClock) -> None:
    received: list[signal.Signals] = []

    async def wait() -> None:
        received.append(await inbox.receive())

    async with trio.open_nursery() as nursery:
        with SignalInbox(USR1) as inbox:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert received == []
            signal.raise_signal(USR1)
            await wait_all_tasks_blocked()
            assert received == [USR1]


async def test_what_nobody_received_is_there_after_the_block_and_hits_nobody(
    heard: list[int],
) -> None:
    """Trio's receiver sends it again."""
    with SignalInbox(USR1) as inbox:
        signal.raise_signal(USR1)
    await wait_all_tasks_blocked()

    assert heard == []
    assert inbox.take_all() == (USR1,)
    assert inbox.take_all() == ()


async def test_after_the_block_a_signal_does_what_it_did_before(heard: list[int]) -> None:
    with SignalInbox(USR1) as inbox:
        pass
    signal.raise_signal(USR1)

    assert (heard, inbox.take_all()) == ([USR1], ())


async def test_receiving_is_a_checkpoint_and_loses_nothing_when_cancelled() -> None:
    with SignalInbox(USR1) as inbox:
        signal.raise_signal(USR1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await inbox.receive()
        assert scope.cancelled_caught
        assert await inbox.receive() is USR1


async def test_if_one_cannot_be_registered_none_is(heard: list[int]) -> None:
    with pytest.raises(OSError, match="Invalid argument"), SignalInbox(USR1, signal.SIGKILL):
        pass
    signal.raise_signal(USR1)

    assert heard == [USR1]


async def test_outside_the_main_thread_python_refuses() -> None:
    def enter() -> None:
        with pytest.raises(ValueError, match="main thread"):
            trio.run(entering)

    async def entering() -> None:
        with SignalInbox(USR1):
            pass

    await trio.to_thread.run_sync(enter)
