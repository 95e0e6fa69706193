"""Owning one worker: `stop`, `open_worker`, and what counts as a worker at all."""

import gc
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import (
    Deaf,
    Lives,
    Nameless,
    Status,
    Unhashable,
    Unkillable,
    ending,
    failing,
    failing_after,
    failing_when_stopped,
    forever,
    stopping_slowly,
)
from trioworker._errors import LifetimeError
from trioworker._groups import NURSERY_MESSAGE
from trioworker._worker import Worker, open_worker, stop

MockClock = trio.testing.MockClock
settle = trio.testing.wait_all_tasks_blocked


class Failure(Exception):
    """The worker's."""


class BlockFailure(Exception):
    """The block's."""


# -- what is a worker ---------------------------------------------------------------------------


def test_a_worker_is_known_by_its_three_methods() -> None:
    assert isinstance(Lives(), Worker)
    assert isinstance(Deaf(), Worker)
    assert not isinstance(object(), Worker)


async def test_a_worker_runs_in_a_bare_nursery() -> None:
    worker = Lives()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await settle()
        worker.kill()

    await worker.wait()


async def test_a_worker_starts_in_a_bare_nursery() -> None:
    worker = Lives()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        assert worker.tomb.state == "alive"
        worker.kill()


async def test_run_raises_the_error_to_its_owner_and_wait_to_each_observer() -> None:
    failure = Failure()
    worker = Lives(failing(failure))

    with pytest.raises(Failure) as of_owner:
        await worker.run()
    with pytest.raises(Failure) as of_observer:
        await worker.wait()

    assert of_owner.value is of_observer.value is failure


# -- stop ---------------------------------------------------------------------------------------


async def test_stop_kills_and_waits_until_dead(autojump_clock: MockClock) -> None:
    worker = Lives(stopping_slowly(3))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        began = trio.current_time()

        await stop(worker)

        assert trio.current_time() - began == 3
        assert worker.tomb.state == "dead"


async def test_stop_raises_the_error_that_ended_it() -> None:
    failure = Failure()
    worker = Lives(failing_when_stopped(failure))

    async def own() -> None:
        with pytest.raises(Failure):
            await worker.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        await settle()
        with pytest.raises(Failure) as caught:
            await stop(worker)

    assert caught.value is failure


async def test_stop_of_a_dead_worker_returns_and_is_a_checkpoint() -> None:
    worker = Lives(ending)
    await worker.run()

    with trio.testing.assert_checkpoints():
        await stop(worker)


async def test_stop_of_a_worker_nobody_runs_waits_for_its_owner() -> None:
    worker = Lives()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, worker)
        await settle()
        assert worker.tomb.state == "dying"
        await worker.run()

    assert worker.tomb.state == "dead"


# -- open_worker --------------------------------------------------------------------------------


async def test_open_worker_begins_when_the_worker_can_be_used(autojump_clock: MockClock) -> None:
    async def body(status: Status) -> None:
        await trio.sleep(2)
        status.started()
        await trio.sleep_forever()

    began = trio.current_time()
    async with open_worker(Lives(body)) as worker:
        assert trio.current_time() - began == 2
        assert worker.tomb.state == "alive"


async def test_open_worker_gives_the_worker_and_runs_it_once() -> None:
    given = Lives()
    async with open_worker(given) as worker:
        assert worker is given

    assert worker.runs == 1


async def test_open_worker_begins_when_the_worker_ended_cleanly_before() -> None:
    reached = False
    async with open_worker(Lives(ending)) as worker:
        await worker.wait()
        reached = True

    assert reached


async def test_open_worker_kills_and_reaps_at_the_end(autojump_clock: MockClock) -> None:
    async with open_worker(Lives(stopping_slowly(3))) as worker:
        began = trio.current_time()

    assert trio.current_time() - began == 3
    assert worker.tomb.state == "dead"


async def test_open_worker_leaves_the_worker_its_grace(autojump_clock: MockClock) -> None:
    worker = Lives(grace=7)
    began = trio.current_time()
    async with open_worker(worker):
        pass

    assert trio.current_time() - began == 7


async def test_open_worker_leaves_the_worker_its_grace_when_the_block_fails(
    autojump_clock: MockClock,
) -> None:
    worker = Lives(grace=7)
    began = trio.current_time()
    with pytest.raises(BlockFailure):
        async with open_worker(worker):
            raise BlockFailure

    assert trio.current_time() - began == 7


async def test_open_worker_raises_the_worker_s_error_and_never_begins() -> None:
    failure = Failure()
    with pytest.raises(Failure) as caught:
        async with open_worker(Lives(failing(failure))):
            raise AssertionError

    assert caught.value is failure
    assert failure.__context__ is None


async def test_open_worker_cancels_the_block_when_the_worker_fails() -> None:
    failure, event = Failure(), trio.Event()
    with pytest.raises(Failure) as caught:
        async with open_worker(Lives(failing_after(failure, event))):
            event.set()
            await trio.sleep_forever()

    assert caught.value is failure
    assert failure.__context__ is None


async def test_open_worker_raises_what_the_worker_raises_while_stopping() -> None:
    failure = Failure()
    with pytest.raises(Failure) as caught:
        async with open_worker(Lives(failing_when_stopped(failure))):
            pass

    assert caught.value is failure


async def test_open_worker_raises_a_worker_s_error_once_when_the_block_waited_for_it() -> None:
    failure, event = Failure(), trio.Event()
    with pytest.raises(Failure) as caught:
        async with open_worker(Lives(failing_after(failure, event))) as worker:
            event.set()
            with trio.CancelScope(shield=True):
                await worker.wait()

    assert caught.value is failure


async def test_open_worker_raises_the_block_s_error() -> None:
    error, worker = BlockFailure(), Lives()
    with pytest.raises(BlockFailure) as caught:
        async with open_worker(worker):
            raise error

    assert caught.value is error
    assert worker.tomb.state == "dead"
    await worker.wait()  # it was stopped cleanly


async def test_open_worker_unwraps_the_block_s_nursery() -> None:
    error = BlockFailure()

    async def fail() -> None:
        raise error

    with pytest.raises(BlockFailure) as caught:
        async with open_worker(Lives()), trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    assert caught.value is error


async def test_open_worker_raises_both_errors_as_a_group() -> None:
    failure, error = Failure(), BlockFailure()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_worker(Lives(failing_when_stopped(failure))):
            raise error

    assert set(caught.value.exceptions) == {failure, error}
    assert caught.value.message != NURSERY_MESSAGE


async def test_open_worker_tells_equal_and_unhashable_errors_apart() -> None:
    class Equal(Exception):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]  # as a dataclass has it

    failure, error = Equal(), Equal()
    with pytest.raises(ExceptionGroup) as caught:
        async with open_worker(Lives(failing_when_stopped(failure))):
            raise error

    assert [id(exc) for exc in caught.value.exceptions] == [id(error), id(failure)]


async def test_open_worker_passes_a_cancellation_from_outside() -> None:
    worker = Lives()
    with trio.CancelScope() as scope:
        async with open_worker(worker):
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert worker.tomb.state == "dead"


async def test_open_worker_raises_the_worker_s_error_also_when_cancelled_from_outside() -> None:
    failure = Failure()
    with trio.CancelScope() as scope, pytest.raises(Failure) as caught:
        async with open_worker(Lives(failing_when_stopped(failure))):
            scope.cancel()
            await trio.sleep_forever()

    assert caught.value is failure


async def test_open_worker_raises_the_block_s_error_also_when_cancelled_from_outside() -> None:
    error = BlockFailure()
    with trio.CancelScope() as scope, pytest.raises(BlockFailure) as caught:
        async with open_worker(Lives()):
            scope.cancel()
            raise error

    assert caught.value is error


async def test_open_worker_in_a_cancelled_scope_still_runs_and_reaps_the_worker() -> None:
    worker = Lives()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_worker(worker):
            raise AssertionError

    assert scope.cancelled_caught
    assert (worker.runs, worker.tomb.state) == (1, "dead")


async def test_open_worker_does_not_mind_a_worker_that_others_killed() -> None:
    async with open_worker(Lives()) as worker:
        worker.kill()
        await worker.wait()
        await trio.lowlevel.checkpoint()  # the block goes on

    assert worker.tomb.state == "dead"


async def test_open_worker_raises_the_reason_a_worker_was_killed_with() -> None:
    failure = Failure()
    with pytest.raises(Failure) as caught:
        async with open_worker(Lives()) as worker:
            worker.kill(failure)
            await trio.sleep_forever()

    assert caught.value is failure


async def test_open_worker_of_a_worker_that_lived_before_fails() -> None:
    worker = Lives()
    async with open_worker(worker):
        pass

    with pytest.raises(LifetimeError):
        async with open_worker(worker):
            raise AssertionError


async def test_open_worker_reports_a_kill_that_fails() -> None:
    failure = Failure()
    with pytest.raises(Failure) as caught:
        async with open_worker(Unkillable(failure)):
            pass

    assert caught.value is failure


@pytest.mark.parametrize("make", [Unhashable, Nameless])
async def test_open_worker_asks_little_of_a_worker(make: Callable[[], Lives]) -> None:
    async with open_worker(make()) as worker:
        assert worker.tomb.state == "alive"

    assert worker.tomb.state == "dead"


@pytest.mark.parametrize("in_worker", [True, False])
def test_open_worker_raises_a_keyboard_interrupt_and_stops_the_worker(*, in_worker: bool) -> None:
    event = trio.Event()

    async def body(status: Status) -> None:
        status.started()
        await event.wait()
        if in_worker:
            signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    worker = Lives(body)

    async def main() -> None:
        async with open_worker(worker):
            event.set()
            if not in_worker:
                signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert worker.tomb.state == "dead"


def test_open_worker_raises_a_keyboard_interrupt_that_comes_while_reaping() -> None:
    async def body(status: Status) -> None:
        status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                trio.lowlevel.spawn_system_task(interrupt)
                await trio.sleep(1)

    async def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    worker = Lives(body)

    async def main() -> None:
        async with open_worker(worker):
            pass

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert worker.tomb.state == "dead"


@pytest.mark.parametrize("body", [forever, ending])
async def test_open_worker_leaves_nothing_to_the_collector(
    body: Callable[[Status], Awaitable[None]],
) -> None:
    async def use() -> None:
        async with open_worker(Lives(body)):
            pass

    await use()
    gc.collect()
    gc.disable()
    old = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await use()
        gc.collect()
        garbage = [type(thing).__name__ for thing in gc.garbage]
    finally:
        gc.set_debug(old)
        gc.garbage.clear()
        gc.enable()

    assert "Lives" not in garbage
    assert "traceback" not in garbage


async def test_a_block_that_is_refused_by_the_dead_worker_adds_nothing_to_its_error() -> None:
    """The worker's `Dying` is what its failure looks like from the block, and no second failure."""
    reason = Failure()
    worker = Lives(failing(reason))

    with pytest.raises(Failure) as caught:
        async with open_worker(worker):
            with trio.CancelScope(shield=True):
                await settle()
                with worker.tomb.while_alive():
                    await trio.sleep_forever()

    assert caught.value is reason


@pytest.mark.parametrize("wrong", [Lives, trio.sleep_forever])
async def test_a_class_or_a_function_is_refused_showing_the_right_call(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a worker, got .*; write open_worker\("):
        async with open_worker(wrong):
            pass
