"""`FakeWatcher`: what a listener hears from it, and the ways in which it ends."""

import pytest
import trio
from trio.testing import MockClock

from trioworker import (
    LifetimeError,
    Watcher,
    WatcherClosed,
    Worker,
    open_worker,
    stop,
    strings_worker,
)
from trioworker.testing import FakeWatcher, check_alive, check_killed, clean_kill

Strings = tuple[str, ...]


class Failure(Exception):
    pass


class Listener:
    """A handler that writes down what it hears."""

    def __init__(self, watcher: Watcher[Strings]) -> None:
        self.watcher = watcher
        self.heard: list[Strings] = []

    async def set_up(self) -> Watcher[Strings]:
        return self.watcher

    async def handle(self, change: Strings) -> None:
        self.heard.append(change)

    async def tear_down(self) -> None:
        pass


def test_it_is_a_watcher() -> None:
    watcher: Watcher[int] = FakeWatcher(1)

    assert isinstance(watcher, Watcher)
    assert isinstance(watcher, Worker)
    assert repr(watcher) == "<FakeWatcher 'FakeWatcher' alive>"


async def test_a_listener_hears_the_first_changes_and_what_is_sent_later() -> None:
    watcher = FakeWatcher[Strings](("a",), ("b",))
    watcher.send(("c",))
    listener = Listener(watcher)
    worker = strings_worker(listener)
    async with open_worker(worker):
        await check_alive(worker)
        watcher.send(("d",))
        await check_alive(worker)

    assert listener.heard == [("a",), ("b",), ("c",), ("d",)]


async def test_killed_it_ends_cleanly_and_so_does_its_channel() -> None:
    watcher = FakeWatcher[int]()
    async with open_worker(watcher):
        await check_alive(watcher)
        await clean_kill(watcher)

        with pytest.raises(trio.EndOfChannel):
            await watcher.changes.receive()


async def test_what_was_sent_is_received_also_when_it_has_ended() -> None:
    watcher = FakeWatcher(1)
    async with open_worker(watcher):
        pass

    assert await watcher.changes.receive() == 1


async def test_closed_it_lives_on_and_its_listener_fails(autojump_clock: MockClock) -> None:
    watcher = FakeWatcher[Strings](())
    worker = strings_worker(Listener(watcher))

    with pytest.raises(WatcherClosed):
        async with open_worker(worker):
            watcher.close()
            await trio.sleep_forever()


async def test_closed_it_lives_on_until_killed(nursery: trio.Nursery) -> None:
    watcher = FakeWatcher[int]()
    nursery.start_soon(watcher.run)
    watcher.close()
    await check_alive(watcher)

    with pytest.raises(trio.EndOfChannel):
        await watcher.changes.receive()

    await clean_kill(watcher)


async def test_failing_it_ends_its_channel_and_then_itself() -> None:
    failure = Failure()
    watcher = FakeWatcher[int]()
    with pytest.raises(Failure) as caught:
        async with open_worker(watcher):
            watcher.fail(failure)
            with pytest.raises(trio.EndOfChannel):
                watcher.changes.receive_nowait()
            await trio.sleep_forever()

    assert caught.value is failure
    assert await check_killed(watcher) is failure


async def test_its_listener_fails_with_its_error() -> None:
    failure = Failure()
    watcher = FakeWatcher[Strings](())

    with pytest.raises(Failure) as caught:
        async with open_worker(strings_worker(Listener(watcher))):
            watcher.fail(failure)
            await trio.sleep_forever()

    assert caught.value is failure


async def test_told_to_fail_before_it_runs_it_does_so_then() -> None:
    watcher = FakeWatcher[int]()
    watcher.fail(Failure())

    with pytest.raises(Failure):
        await watcher.run()


def test_an_error_that_is_no_exception_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^FakeWatcher.fail\(error\) takes an exception"):
        FakeWatcher[int]().fail("why")  # type: ignore[arg-type]  # the point


async def test_what_is_sent_too_late_is_refused_and_the_message_says_why() -> None:
    closed, failed, ended, unheard = (FakeWatcher[int]() for _ in range(4))
    closed.close()
    failed.fail(Failure())
    async with open_worker(ended):
        await stop(ended)
    unheard.changes.close()

    for watcher, why in [
        (closed, r"close\(\) was called"),
        (failed, r"fail\(\) was called"),
        (ended, "it has ended"),
        (unheard, "its listener has closed the channel"),
    ]:
        with pytest.raises(LifetimeError, match=rf"send\(\) came too late: {why}; make a new"):
            watcher.send(1)
