"""`check_alive`, `check_killed`, `clean_kill`, `dirty_kill`: what they find, and that they end.

The workers here come from `tests.doubles` and from scratch, not from `trioworker.testing`: the
checks must do with ``kill()`` and ``wait()``.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.doubles import (
    Deaf,
    Lives,
    Unkillable,
    ending,
    failing,
    failing_after,
    failing_when_stopped,
    stopping_slowly,
)
from trioworker import Worker
from trioworker.testing import _bounds, check_alive, check_killed, clean_kill, dirty_kill

Kill = Callable[[Worker], Awaitable[BaseException | None]]

kills = pytest.mark.parametrize("kill", [check_killed, clean_kill, dirty_kill])
any_check = pytest.mark.parametrize("check", [check_alive, check_killed, clean_kill, dirty_kill])


class Failure(Exception):
    pass


class Scratch:
    """Nothing but the three methods: no tomb, no name."""

    def __init__(self, wait: Callable[[], Awaitable[None]] = trio.sleep_forever) -> None:
        self.killed = trio.Event()
        self._wait = wait

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await self.killed.wait()

    def kill(self, reason: BaseException | None = None) -> None:
        self.killed.set()

    async def wait(self) -> None:
        await self._wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bounds, "PATIENCE", 0.05)


async def spin() -> None:
    while True:
        await trio.lowlevel.checkpoint()


# -- alive -----------------------------------------------------------------------------------------


async def test_a_running_worker_is_alive_and_goes_on(nursery: trio.Nursery) -> None:
    worker = Lives()
    nursery.start_soon(worker.run)

    await check_alive(worker)
    await check_alive(worker)

    assert worker.tomb.state == "alive"


async def test_a_worker_that_nobody_runs_has_not_ended() -> None:
    await check_alive(Lives())


async def test_a_worker_that_is_killed_but_takes_its_time_is_alive(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The clock does not move for it, not even one that jumps by itself."""
    worker = Lives(stopping_slowly(1.0))
    nursery.start_soon(worker.run)
    worker.kill()

    await check_alive(worker)

    assert trio.current_time() == 0


async def test_a_worker_that_ended_is_not_alive() -> None:
    worker = Lives(ending)
    await worker.run()

    with pytest.raises(AssertionError, match=r'^"lives" should be alive, but ended without error$'):
        await check_alive(worker)


async def test_a_worker_about_to_end_is_not_alive(nursery: trio.Nursery) -> None:
    worker = Lives()
    await nursery.start(worker.run)
    worker.kill()

    with pytest.raises(AssertionError, match="ended without error"):
        await check_alive(worker)


async def test_a_worker_that_failed_is_not_alive_and_its_error_is_the_cause() -> None:
    failure = Failure("broken")
    worker = Lives(failing(failure))
    with pytest.raises(Failure):
        await worker.run()

    with pytest.raises(AssertionError, match=r"but ended with Failure\('broken'\)$") as caught:
        await check_alive(worker)

    assert caught.value.__cause__ is failure


async def test_nobody_can_tell_while_a_task_never_blocks(
    nursery: trio.Nursery, autojump_clock: MockClock, impatient: None
) -> None:
    """And the virtual clock never gets to jump: the wall's clock ends the wait."""
    nursery.start_soon(spin)

    with pytest.raises(AssertionError, match="some task keeps running without ever blocking"):
        await check_alive(Lives())

    nursery.cancel_scope.cancel()


async def test_check_alive_can_be_cancelled() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await check_alive(Lives())

    assert scope.cancelled_caught


# -- killed ----------------------------------------------------------------------------------------


@kills
async def test_a_worker_that_ends_without_error_is_killed_by_any(
    kill: Kill, nursery: trio.Nursery
) -> None:
    worker = Lives()
    nursery.start_soon(worker.run)

    assert await kill(worker) is None
    assert worker.tomb.state == "dead"
    assert worker.kills == 1


@kills
async def test_nothing_is_needed_but_kill_and_wait(kill: Kill, nursery: trio.Nursery) -> None:
    worker = Scratch()
    worker._wait = worker.killed.wait
    nursery.start_soon(worker.run)

    assert await kill(worker) is None


@pytest.mark.parametrize("kill", [check_killed, dirty_kill])
@pytest.mark.parametrize("error", [Failure(), SystemExit(3), ExceptionGroup("two", [Failure()])])
async def test_the_error_it_ended_with_is_returned(kill: Kill, error: BaseException) -> None:
    worker = Lives(failing_when_stopped(error))
    ended: list[BaseException] = []

    async def own() -> None:
        try:
            await worker.run()
        except BaseException as exc:  # noqa: BLE001 - SystemExit too
            ended.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        await wait_all_tasks_blocked()

        assert await kill(worker) is error

    assert ended == [error]


async def test_a_clean_kill_fails_of_an_error_which_is_the_cause() -> None:
    failure = Failure("while stopping")
    worker = Lives(failing(failure))
    with pytest.raises(Failure):
        await worker.run()

    message = r"should have ended without error, but ended with Failure\('while stopping'\)$"
    with pytest.raises(AssertionError, match=message) as caught:
        await clean_kill(worker)

    assert caught.value.__cause__ is failure


@kills
@pytest.mark.parametrize("make", [Deaf, Scratch, Lives], ids=["deaf", "scratch", "nobody's"])
async def test_a_worker_that_does_not_end_is_named(
    kill: Kill, make: Callable[[], Worker], autojump_clock: MockClock
) -> None:
    worker = make()
    name = "lives" if isinstance(worker, Lives) else type(worker).__name__

    with pytest.raises(AssertionError, match=f'^"{name}" did not end within 10 s of its kill'):
        await kill(worker)

    assert trio.current_time() == 10


@kills
async def test_a_slow_end_is_waited_for(
    kill: Kill, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    worker = Lives(stopping_slowly(9.0))
    nursery.start_soon(worker.run)
    await wait_all_tasks_blocked()

    assert await kill(worker) is None
    assert trio.current_time() == 9


async def test_the_bound_may_be_chosen(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match=r"within 0\.5 s"):
        await check_killed(Deaf(), within=0.5)

    assert trio.current_time() == 0.5


@pytest.mark.parametrize("check", [check_killed, clean_kill, dirty_kill])
async def test_they_end_also_when_the_clock_stands_still(
    check: Callable[..., Awaitable[object]], mock_clock: MockClock
) -> None:
    with pytest.raises(AssertionError, match="did not end"):
        await check(Deaf(), within=0.02)


async def test_they_end_also_when_a_task_never_blocks(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(spin)

    with pytest.raises(AssertionError, match="did not end"):
        await check_killed(Deaf(), within=0.02)

    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("check", [check_killed, clean_kill])
async def test_a_cancelled_test_stops_waiting(check: Kill) -> None:
    worker = Deaf()
    with trio.CancelScope() as scope:
        scope.cancel()
        await check(worker)

    assert scope.cancelled_caught


async def test_a_dirty_kill_works_in_a_test_that_is_being_cancelled(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    failure = Failure()
    worker = Lives(stopping_slowly(1.0))
    nursery.start_soon(worker.run)
    ended = False
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            assert await dirty_kill(worker) is None
            ended = worker.tomb.is_dead

    assert ended
    assert failure.__traceback__ is None


async def test_the_bound_of_a_dirty_kill_holds_in_a_test_that_is_being_cancelled(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(AssertionError, match="did not end"), trio.CancelScope() as scope:
        scope.cancel()
        await dirty_kill(Deaf(), within=2)

    assert trio.current_time() == 2


@any_check
async def test_a_keyboard_interrupt_is_nobodys_end(check: Kill) -> None:
    """The test's own, as far as anybody can tell."""

    async def interrupted() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
        await check(Scratch(interrupted))

    assert caught.type is KeyboardInterrupt or caught.group_contains(KeyboardInterrupt)


@any_check
async def test_a_wait_that_uses_a_nursery_can_be_cancelled(check: Kill) -> None:
    """Then `Cancelled` comes in a group, which is not the worker's error."""

    async def in_a_nursery() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()

    worker = Scratch(in_a_nursery)
    if check is check_alive:
        await check(worker)
    else:
        with pytest.raises(AssertionError, match="did not end"):
            await check(worker, within=0.01)  # type: ignore[call-arg]  # all but check_alive


@kills
async def test_an_error_from_kill_itself_passes(kill: Kill) -> None:
    failure = Failure()

    with pytest.raises(Failure) as caught:
        await kill(Unkillable(failure))

    assert caught.value is failure


# -- misuse ----------------------------------------------------------------------------------------


@any_check
@pytest.mark.parametrize("wrong", [None, Lives, object()])
async def test_what_is_no_worker_is_refused(check: Any, wrong: object) -> None:
    message = rf"^{check.__name__}\(\) takes a worker, which has run\(\), kill\(\) and wait\(\)"
    with pytest.raises(TypeError, match=message):
        await check(wrong)


@kills
@pytest.mark.parametrize("within", [0, -1, float("nan"), float("inf")])
async def test_a_bound_that_is_none_is_refused(kill: Any, within: float) -> None:
    worker = Lives()

    with pytest.raises(ValueError, match=rf"^{kill.__name__}\(within=\.\.\.\) must be greater"):
        await kill(worker, within=within)

    assert worker.kills == 0


async def test_an_error_by_itself_is_found_as_soon_as_all_is_quiet(nursery: trio.Nursery) -> None:
    """check_alive() sees what is already under way, however many steps it takes."""
    event = trio.Event()
    worker = Lives(failing_after(Failure(), event))

    async def own() -> None:
        with pytest.raises(Failure):
            await worker.run()

    async def fuse() -> None:
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        event.set()

    nursery.start_soon(own)
    nursery.start_soon(fuse)

    with pytest.raises(AssertionError, match="ended with Failure"):
        await check_alive(worker)
