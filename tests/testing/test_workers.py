"""`ErrorWorker`, `DeadWorker`, `ForeverWorker`: in their normal use, and misused."""

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Catacomb, LifetimeError, Worker, open_worker, stop
from trioworker.testing import (
    DeadWorker,
    ErrorWorker,
    ForeverWorker,
    check_alive,
    check_killed,
    clean_kill,
)


class Failure(Exception):
    pass


class Reason(Exception):
    pass


@pytest.mark.parametrize("make", [lambda: ErrorWorker(Failure()), DeadWorker, ForeverWorker])
def test_each_is_a_worker_and_says_its_name(make: Callable[[], Worker]) -> None:
    worker = make()

    assert isinstance(worker, Worker)
    assert type(worker).__name__ in repr(worker)


@pytest.mark.parametrize("make", [ErrorWorker, DeadWorker])
@pytest.mark.parametrize("wrong", [Failure, "why"])
def test_an_error_that_is_no_exception_is_refused(
    make: Callable[[object], object], wrong: object
) -> None:
    with pytest.raises(TypeError, match=r"\(error\) takes an exception, such as RuntimeError"):
        make(wrong)


# -- ErrorWorker -----------------------------------------------------------------------------------


async def test_an_error_worker_runs_until_killed_and_ends_with_its_error() -> None:
    failure = Failure()
    worker = ErrorWorker(failure)
    with pytest.raises(Failure) as of_owner:
        async with open_worker(worker):
            await check_alive(worker)
            assert await check_killed(worker) is failure

    assert of_owner.value is failure


async def test_an_error_worker_that_is_killed_with_a_reason_ends_with_the_reason() -> None:
    """Its own error comes second, as of any worker that fails while it stops."""
    reason = Reason()
    worker = ErrorWorker(Failure("while stopping"))
    with pytest.raises(Reason) as caught:
        async with open_worker(worker):
            worker.kill(reason)
            await trio.sleep_forever()

    assert caught.value is reason
    assert any("while stopping" in note for note in reason.__notes__)


async def test_an_error_worker_crashes_on_demand() -> None:
    worker = ErrorWorker(Failure())

    with pytest.raises(Failure):
        async with open_worker(worker):
            worker.fail()
            await trio.sleep_forever()


async def test_an_error_worker_told_to_fail_before_it_runs_does_so_then() -> None:
    worker = ErrorWorker(Failure())
    worker.fail()
    await check_alive(worker)

    with pytest.raises(Failure):
        await worker.run()


async def test_an_error_worker_fails_also_when_cancelled_from_outside() -> None:
    worker = ErrorWorker(Failure())

    with pytest.raises(Failure), trio.CancelScope() as scope:
        scope.cancel()
        await worker.run()


# -- DeadWorker ------------------------------------------------------------------------------------


async def test_a_dead_worker_has_ended_before_it_is_run() -> None:
    worker = DeadWorker()

    await worker.wait()
    await worker.run()
    await clean_kill(worker)


async def test_a_dead_worker_ends_with_its_error_for_owner_and_observers() -> None:
    failure = Failure()
    worker = DeadWorker(failure)

    assert await check_killed(worker) is failure
    with pytest.raises(Failure) as caught:
        await worker.run()
    assert caught.value is failure
    assert await check_killed(worker) is failure


async def test_a_dead_worker_never_says_that_it_started() -> None:
    async with Catacomb() as catacomb:
        assert await catacomb.start(DeadWorker()) is None

    async with trio.open_nursery() as nursery:
        with pytest.raises(RuntimeError, match="started"):
            await nursery.start(DeadWorker().run)


async def test_a_dead_workers_error_wins_over_a_cancellation() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(Failure):
            await DeadWorker(Failure()).run()


async def test_a_dead_worker_is_run_once_like_any_other() -> None:
    worker = DeadWorker()
    await worker.run()

    with pytest.raises(LifetimeError, match=r'^"DeadWorker": run\(\) twice; make a new one'):
        await worker.run()


def test_a_dead_worker_refuses_to_be_killed_by_what_is_no_exception() -> None:
    with pytest.raises(TypeError, match="write kill"):
        DeadWorker().kill("why")  # type: ignore[arg-type]  # the point


# -- ForeverWorker ---------------------------------------------------------------------------------


async def test_a_forever_worker_ignores_every_kill_until_it_is_really_killed(
    nursery: trio.Nursery,
) -> None:
    worker = ForeverWorker()
    await nursery.start(worker.run)

    worker.kill()
    worker.kill()
    await check_alive(worker)
    assert worker.kills == 2

    worker.really_kill()
    await worker.wait()


async def test_a_forever_worker_does_not_end_in_time(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    with ForeverWorker(name="rock") as worker:
        nursery.start_soon(worker.run)
        await wait_all_tasks_blocked()

        with pytest.raises(AssertionError, match=r'^"rock" did not end within 10 s'):
            await check_killed(worker)


async def test_a_forever_worker_survives_cancellation(nursery: trio.Nursery) -> None:
    scope = trio.CancelScope()

    async def own(worker: Worker) -> None:
        with scope:
            await worker.run()

    with ForeverWorker() as worker:
        nursery.start_soon(own, worker)
        await wait_all_tasks_blocked()
        scope.cancel()
        await check_alive(worker)

    await worker.wait()
    await wait_all_tasks_blocked()
    assert scope.cancelled_caught


async def test_a_forever_worker_that_was_killed_before_it_ran_runs_all_the_same(
    nursery: trio.Nursery,
) -> None:
    with ForeverWorker() as worker:
        worker.kill()
        nursery.start_soon(worker.run)
        await check_alive(worker)


async def test_a_forever_worker_ends_with_the_first_reason_it_was_given() -> None:
    reason = Reason()
    worker = ForeverWorker()
    with pytest.raises(Reason) as caught:
        async with open_worker(worker):
            worker.kill(reason)
            await check_alive(worker)
            worker.really_kill(Failure())

    assert caught.value is reason


async def test_a_test_that_fails_inside_the_block_does_not_hang() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            with ForeverWorker() as worker:
                nursery.start_soon(worker.run)
                await wait_all_tasks_blocked()
                raise Failure

    assert caught.group_contains(Failure)


async def test_stop_waits_for_a_forever_worker(nursery: trio.Nursery) -> None:
    with ForeverWorker() as worker:
        nursery.start_soon(worker.run)
        nursery.start_soon(stop, worker)
        await check_alive(worker)
