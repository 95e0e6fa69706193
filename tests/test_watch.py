"""notify_worker() and strings_worker(): a watcher, a handler, and what may go wrong with them."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker._errors import TearDownTimeout, WatcherClosed
from trioworker._tomb import Tomb
from trioworker._util import name_of
from trioworker._watch import Watcher, notify_worker, strings_worker
from trioworker._worker import Worker, open_worker, stop

T = TypeVar("T")
Strings = tuple[str, ...]


class FakeWatcher(Generic[T]):
    """Sends what the test puts in; `body` lets it misbehave."""

    def __init__(self, body: Callable[[], Awaitable[object]] = trio.sleep_forever) -> None:
        self.send, self.changes = trio.open_memory_channel[T](math.inf)
        self.tomb = Tomb(name="fake")
        self.name = "fake"
        self._body = body

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self.tomb:
            task_status.started()
            await self._body()

    def kill(self, reason: BaseException | None = None) -> None:
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


async def nothing() -> None:
    pass


class Handler(Generic[T]):
    """Writes down what happens to it; the test replaces what should go wrong."""

    name = "handler"

    def __init__(self, watcher: FakeWatcher[T]) -> None:
        self.watcher = watcher
        self.story: list[object] = []
        self.setting_up: Callable[[], Awaitable[object]] = nothing
        self.handling: Callable[[], Awaitable[object]] = nothing
        self.tearing_down: Callable[[], Awaitable[object]] = nothing

    async def set_up(self) -> Watcher[T]:
        self.story.append("set_up")
        await self.setting_up()
        return self.watcher

    async def handle(self, *change: T) -> None:
        self.story.append(change[0] if change else "handle")
        await self.handling()

    async def tear_down(self) -> None:
        self.story.append("tear_down")
        await self.tearing_down()


class Bench:
    """A handler of each kind, its watcher, and how to make the worker."""

    def __init__(self, make: Callable[[Any], Worker]) -> None:
        self.watcher = FakeWatcher[Any]()
        self.handler = Handler[Any](self.watcher)
        self.make = make

    def worker(self) -> Worker:
        return self.make(self.handler)


@pytest.fixture(params=[notify_worker, strings_worker])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def fails(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


# -- handling --------------------------------------------------------------------------------------


async def test_strings_hands_over_every_event_in_order() -> None:
    watcher = FakeWatcher[Strings]()
    handler = Handler(watcher)
    handler.handling = trio.lowlevel.checkpoint
    async with open_worker(strings_worker(handler)):
        for change in [("a", "b"), (), ("c",), ("c",)]:
            watcher.send.send_nowait(change)
        await wait_all_tasks_blocked()

    assert handler.story == ["set_up", ("a", "b"), (), ("c",), ("c",), "tear_down"]


async def test_notify_answers_each_change_that_finds_it_idle() -> None:
    watcher = FakeWatcher[None]()
    handler = Handler(watcher)
    async with open_worker(notify_worker(handler)):
        for _ in range(3):
            watcher.send.send_nowait(None)
            await wait_all_tasks_blocked()

    assert handler.story == ["set_up", "handle", "handle", "handle", "tear_down"]


async def test_notify_answers_changes_that_came_meanwhile_by_one_call(
    autojump_clock: MockClock,
) -> None:
    watcher = FakeWatcher[None]()
    handler = Handler(watcher)

    async def slow() -> None:
        await trio.sleep(1)

    handler.handling = slow
    async with open_worker(notify_worker(handler)):
        watcher.send.send_nowait(None)
        await wait_all_tasks_blocked()
        for _ in range(5):
            watcher.send.send_nowait(None)
        await trio.sleep(10)

    assert handler.story == ["set_up", "handle", "handle", "tear_down"]


async def test_notify_also_drains_senders_that_are_blocked(autojump_clock: MockClock) -> None:
    watcher = FakeWatcher[None]()
    watcher.send, watcher.changes = trio.open_memory_channel[None](0)
    handler = Handler(watcher)
    async with open_worker(notify_worker(handler)), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(watcher.send.send, None)

    assert handler.story == ["set_up", "handle", "tear_down"]


async def test_it_counts_as_started_when_the_watcher_is(bench: Bench) -> None:
    release = trio.Event()
    started = trio.Event()
    bench.handler.setting_up = release.wait

    async with trio.open_nursery() as nursery:

        async def start() -> None:
            await nursery.start(worker.run)
            started.set()

        worker = bench.worker()
        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        assert not started.is_set()

        release.set()
        await wait_all_tasks_blocked()
        assert started.is_set()
        worker.kill()


# -- ends ------------------------------------------------------------------------------------------


async def test_kill_stops_the_watcher_and_tears_down(bench: Bench) -> None:
    async with open_worker(bench.worker()) as worker:
        await stop(worker)

    assert bench.watcher.tomb.is_dead
    assert bench.handler.story == ["set_up", "tear_down"]


async def test_killed_before_it_was_run_it_sets_nothing_up(bench: Bench) -> None:
    worker = bench.worker()
    worker.kill()
    await worker.run()

    assert bench.handler.story == []


async def test_an_error_in_handle_ends_it(bench: Bench) -> None:
    error = ValueError("cannot")
    bench.handler.handling = fails(error)
    bench.watcher.send.send_nowait(("x",))

    with pytest.raises(ValueError, match="cannot") as caught:
        await bench.worker().run()

    assert caught.value is error
    assert bench.handler.story[-1] == "tear_down"
    assert bench.watcher.tomb.is_dead


async def test_a_failed_set_up_is_torn_down_too(bench: Bench) -> None:
    error = OSError("no such table")
    bench.handler.setting_up = fails(error)

    with pytest.raises(OSError, match="no such table") as caught:
        await bench.worker().run()

    assert caught.value is error
    assert bench.handler.story == ["set_up", "tear_down"]


async def test_a_cancelled_set_up_is_torn_down_too(bench: Bench) -> None:
    bench.handler.setting_up = trio.sleep_forever
    worker = bench.worker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await wait_all_tasks_blocked()
        await stop(worker)

    assert bench.handler.story == ["set_up", "tear_down"]


async def test_an_error_in_the_watcher_ends_it(bench: Bench) -> None:
    error = ConnectionError("lost")
    bench.watcher = bench.handler.watcher = FakeWatcher(fails(error))

    with pytest.raises(ConnectionError, match="lost") as caught:
        await bench.worker().run()

    assert caught.value is error
    assert bench.handler.story == ["set_up", "tear_down"]


@pytest.mark.parametrize("returned", [None, "watcher", FakeWatcher, Tomb()])
async def test_set_up_returning_no_watcher_is_a_clear_error(bench: Bench, returned: Any) -> None:
    bench.handler.watcher = returned

    with pytest.raises(TypeError, match=r'"handler": set_up\(\) returned .* no watcher'):
        await bench.worker().run()

    assert bench.handler.story == ["set_up", "tear_down"]


# -- a watcher that stops --------------------------------------------------------------------------


async def test_a_closed_channel_is_an_error_naming_the_watcher(bench: Bench) -> None:
    bench.watcher.send.send_nowait(("x",))
    bench.watcher.send.close()

    with trio.fail_after(10), pytest.raises(WatcherClosed, match='"handler": its watcher "fake"'):
        await bench.worker().run()

    assert len(bench.handler.story) == 3  # what came before the end was handled


async def test_a_closed_channel_of_a_watcher_that_lives_on_does_not_hang(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.watcher.send.close()

    with trio.fail_after(10), pytest.raises(WatcherClosed):
        await bench.worker().run()

    assert bench.watcher.tomb.is_dead


async def test_the_watchers_own_error_is_the_better_reason(
    bench: Bench, autojump_clock: MockClock
) -> None:
    error = ConnectionError("lost")

    async def close_then_fail() -> None:
        bench.watcher.send.close()
        await trio.sleep(0.5)
        raise error

    bench.watcher = bench.handler.watcher = FakeWatcher(close_then_fail)

    with pytest.raises(ConnectionError, match="lost") as caught:
        await bench.worker().run()

    assert caught.value is error
    assert not hasattr(error, "__notes__")


async def test_a_watcher_that_ends_without_closing_its_channel_is_found_out(bench: Bench) -> None:
    go = trio.Event()
    bench.watcher = bench.handler.watcher = FakeWatcher(go.wait)
    async with trio.open_nursery() as nursery:

        async def expect() -> None:
            with pytest.raises(WatcherClosed):
                await bench.worker().run()

        nursery.start_soon(expect)
        await wait_all_tasks_blocked()
        go.set()


async def test_what_a_watcher_sent_before_its_silent_end_is_handled() -> None:
    watcher = FakeWatcher[Strings](nothing)
    handler = Handler(watcher)
    handler.handling = trio.lowlevel.checkpoint
    for name in "abc":
        watcher.send.send_nowait((name,))

    with pytest.raises(WatcherClosed):
        await strings_worker(handler).run()

    assert handler.story == ["set_up", ("a",), ("b",), ("c",), "tear_down"]


# -- tear_down -------------------------------------------------------------------------------------


async def test_tear_down_may_await_although_the_worker_is_cancelled(
    bench: Bench, autojump_clock: MockClock
) -> None:
    async def slow() -> None:
        await trio.sleep(5)
        bench.handler.story.append("torn down")

    bench.handler.tearing_down = slow
    with trio.move_on_after(1) as scope:
        await bench.worker().run()

    assert scope.cancelled_caught
    assert bench.handler.story == ["set_up", "tear_down", "torn down"]
    assert trio.current_time() == pytest.approx(6)


@pytest.mark.parametrize("make", [notify_worker, strings_worker])
async def test_tear_down_is_cut_short_after_its_time(
    make: Callable[..., Worker], autojump_clock: MockClock
) -> None:
    handler = Handler[Any](FakeWatcher())
    handler.tearing_down = trio.sleep_forever
    worker = make(handler, tear_down_timeout=3)

    with pytest.raises(TearDownTimeout, match=r'"handler": tear_down\(\) .* more than 3 s'):
        async with open_worker(worker):
            worker.kill()

    assert trio.current_time() == pytest.approx(3)


async def test_tear_down_has_10_seconds_by_default(bench: Bench, autojump_clock: MockClock) -> None:
    bench.handler.tearing_down = trio.sleep_forever
    worker = bench.worker()

    with pytest.raises(TearDownTimeout):
        async with open_worker(worker):
            worker.kill()

    assert trio.current_time() == pytest.approx(10)


async def test_an_error_in_tear_down_is_the_workers(bench: Bench) -> None:
    error = OSError("disk full")
    bench.handler.tearing_down = fails(error)
    worker = bench.worker()

    with pytest.raises(OSError, match="disk full") as caught:
        async with open_worker(worker):
            worker.kill()

    assert caught.value is error


async def test_an_error_in_tear_down_stands_beside_the_one_that_came_first(bench: Bench) -> None:
    error = ValueError("first")
    bench.handler.setting_up = fails(error)
    bench.handler.tearing_down = fails(OSError("second"))

    with pytest.raises(ValueError, match="first") as caught:
        await bench.worker().run()

    assert caught.value is error
    assert caught.value.__notes__ == ["also: OSError: second"]


# -- construction ----------------------------------------------------------------------------------


def test_they_are_workers_that_have_the_handlers_name(bench: Bench) -> None:
    worker = bench.worker()

    assert isinstance(worker, Worker)
    assert name_of(worker) == "handler"
    assert repr(worker) == "<worker 'handler' alive>"


@pytest.mark.parametrize("method", ["set_up", "handle", "tear_down"])
def test_a_missing_method_is_refused_by_name(bench: Bench, method: str) -> None:
    setattr(bench.handler, method, None)

    with pytest.raises(TypeError, match=rf"takes a handler.* which lacks {method}\(\)"):
        bench.worker()


@pytest.mark.parametrize("method", ["set_up", "handle", "tear_down"])
def test_a_method_that_is_not_async_is_refused(bench: Bench, method: str) -> None:
    setattr(bench.handler, method, lambda: None)

    with pytest.raises(TypeError, match=r"is not async: define it with 'async def', then "):
        bench.worker()


def test_a_handlers_class_is_refused(bench: Bench) -> None:
    bench.handler = Handler  # type: ignore[assignment]

    with pytest.raises(TypeError, match="'handler', the class; pass an instance of it"):
        bench.worker()


async def test_a_coroutine_is_refused_and_closed(bench: Bench) -> None:
    bench.handler = nothing()  # type: ignore[assignment]

    with pytest.raises(TypeError, match="got the coroutine nothing"):
        bench.worker()


@pytest.mark.parametrize(
    "value, error", [(0, ValueError), (-1, ValueError), (math.inf, ValueError), ("1", TypeError)]
)
@pytest.mark.parametrize("make", [notify_worker, strings_worker])
def test_a_broken_tear_down_timeout_is_refused_by_name(
    make: Callable[..., Worker], value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        make(Handler[Any](FakeWatcher()), tear_down_timeout=value)

    assert f"{make.__name__}(tear_down_timeout=...) must be " in str(caught.value)
