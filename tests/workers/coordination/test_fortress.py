"""The fortress: guests, a guard, and who waits for whom."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Catacomb, Dying, NotOffered, Worker, open_worker, simple_worker
from trioworker.testing import ErrorWorker, check_alive, clean_kill, open_engine
from trioworker.workers.coordination.fortress import Fortress, Guard, Guest, manifold, occupy

from .taking import Taker, calling, nursery_to_leave


@pytest.fixture
async def fortress() -> AsyncIterator[Fortress]:
    fortress = Fortress()
    async with open_worker(fortress):
        yield fortress


@pytest.fixture
async def tasks() -> AsyncIterator[trio.Nursery]:
    async with nursery_to_leave() as nursery:
        yield nursery


def visiting(guest: Guest, leave: trio.Event | None = None) -> Callable[[], Awaitable[None]]:
    async def visit() -> None:
        async with guest.visit():
            if leave is not None:
                await leave.wait()

    return visit


async def assert_locked(guest: Guest, tasks: trio.Nursery) -> None:
    visit = await calling(tasks, visiting(guest))
    assert visit.blocks()
    visit.scope.cancel()
    await visit.ended.wait()
    assert visit.scope.cancelled_caught


async def assert_open(guest: Guest) -> None:
    with trio.fail_after(1):
        async with guest.visit():
            pass


# -- one after the other ---------------------------------------------------------------------------


async def test_it_starts_locked(fortress: Fortress, tasks: trio.Nursery) -> None:
    await assert_locked(fortress, tasks)


async def test_unlocked_it_can_be_visited(fortress: Fortress) -> None:
    fortress.unlock()

    await assert_open(fortress)


async def test_unlocking_twice_is_unlocking(fortress: Fortress) -> None:
    fortress.unlock()
    fortress.unlock()

    await assert_open(fortress)


async def test_lockdown_closes_what_was_open(fortress: Fortress, tasks: trio.Nursery) -> None:
    fortress.unlock()
    await fortress.lockdown()

    await assert_locked(fortress, tasks)


async def test_two_lockdowns_in_a_row_both_return(fortress: Fortress, tasks: trio.Nursery) -> None:
    fortress.unlock()
    await fortress.lockdown()
    await fortress.lockdown()

    await assert_locked(fortress, tasks)


async def test_a_lockdown_of_one_that_was_never_open_returns(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    await fortress.lockdown()

    await assert_locked(fortress, tasks)


async def test_closed_again_before_they_have_gone_in_nobody_goes_in(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    visit = await calling(tasks, visiting(fortress))
    fortress.unlock()
    await fortress.lockdown()
    await wait_all_tasks_blocked()

    assert visit.blocks()
    assert fortress.report().inside == 0


# -- many at once ----------------------------------------------------------------------------------


async def test_who_waits_at_the_door_comes_in_when_it_opens_and_raises_its_own_error(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    problem = ValueError("mine")

    async def visit() -> None:
        async with fortress.visit():
            raise problem

    call = await calling(tasks, visit)
    assert call.blocks()
    fortress.unlock()
    await call.ended.wait()

    assert call.error is problem
    assert fortress.report().inside == 0


async def test_a_visit_that_raises_is_over(fortress: Fortress) -> None:
    fortress.unlock()
    for error in (ValueError(), KeyError()):
        with pytest.raises(type(error)):
            async with fortress.visit():
                raise error

    with trio.fail_after(1):
        await fortress.lockdown()


async def test_ten_are_inside_together_and_an_eleventh_still_gets_in(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    leave = trio.Event()
    visits = [await calling(tasks, visiting(fortress, leave)) for _ in range(10)]
    assert fortress.report().inside == 10

    await assert_open(fortress)
    assert all(visit.blocks() for visit in visits)
    leave.set()
    await wait_all_tasks_blocked()

    assert not any(visit.blocks() for visit in visits)


async def test_a_lockdown_waits_for_who_is_inside_and_refuses_who_comes(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    leave = trio.Event()
    await calling(tasks, visiting(fortress, leave))
    lockdown = await calling(tasks, fortress.lockdown)
    assert lockdown.blocks()
    await assert_locked(fortress, tasks)
    assert lockdown.blocks()

    leave.set()
    await lockdown.ended.wait()

    assert lockdown.error is None


async def test_the_lockdown_ends_in_the_step_in_which_the_last_guest_leaves(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    lockdown = None
    async with fortress.visit():
        lockdown = await calling(tasks, fortress.lockdown)
        assert fortress.report().inside == 1
    assert fortress.report().inside == 0  # at once: leaving is no checkpoint

    await wait_all_tasks_blocked()
    assert not lockdown.blocks()


async def test_a_cancelled_lockdown_leaves_it_locked(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    visit = await calling(tasks, visiting(fortress, trio.Event()))
    lockdown = await calling(tasks, fortress.lockdown)
    lockdown.scope.cancel()
    await lockdown.ended.wait()

    assert lockdown.scope.cancelled_caught
    assert visit.blocks()
    await assert_locked(fortress, tasks)


async def test_after_a_cancelled_lockdown_it_can_be_unlocked_while_the_old_guest_is_inside(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    visit = await calling(tasks, visiting(fortress, trio.Event()))
    lockdown = await calling(tasks, fortress.lockdown)
    lockdown.scope.cancel()
    await lockdown.ended.wait()
    fortress.unlock()

    await assert_open(fortress)
    assert visit.blocks()


async def test_a_lockdown_of_an_empty_fortress_succeeds_though_it_was_cancelled(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    reached: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await fortress.lockdown()
        reached.append("the next line")

    assert reached
    await assert_locked(fortress, tasks)


async def test_a_lockdown_waits_for_those_inside_when_it_closed_and_for_nobody_later(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    """Waiting for an empty fortress instead could last for ever."""
    early, late = trio.Event(), trio.Event()
    fortress.unlock()
    await calling(tasks, visiting(fortress, early))
    first = await calling(tasks, fortress.lockdown)
    fortress.unlock()
    later_visit = await calling(tasks, visiting(fortress, late))
    assert first.blocks()

    early.set()
    await wait_all_tasks_blocked()

    assert not first.blocks()
    assert later_visit.blocks()


async def test_a_second_lockdown_waits_for_the_guests_of_all_waves(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    early, late = trio.Event(), trio.Event()
    fortress.unlock()
    await calling(tasks, visiting(fortress, early))
    first = await calling(tasks, fortress.lockdown)
    fortress.unlock()
    await calling(tasks, visiting(fortress, late))
    second = await calling(tasks, fortress.lockdown)
    assert fortress.report().inside == 2

    late.set()
    await wait_all_tasks_blocked()
    assert first.blocks()
    assert second.blocks()
    early.set()
    await wait_all_tasks_blocked()

    assert not first.blocks()
    assert not second.blocks()


# -- cancelling a visit ----------------------------------------------------------------------------


async def test_the_body_of_a_visit_is_cancelled_by_the_callers_scope_and_has_left_then(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    visit = await calling(tasks, visiting(fortress, trio.Event()))
    lockdown = await calling(tasks, fortress.lockdown)
    visit.scope.cancel()
    await lockdown.ended.wait()

    assert visit.scope.cancelled_caught
    assert lockdown.error is None


async def test_a_time_limit_can_be_for_the_door_alone(
    fortress: Fortress, autojump_clock: MockClock
) -> None:
    """As the module's docstring shows it."""
    with pytest.raises(trio.TooSlowError):
        async with contextlib.AsyncExitStack() as stack:
            with trio.fail_after(5):
                await stack.enter_async_context(fortress.visit())
    fortress.unlock()
    async with contextlib.AsyncExitStack() as stack:
        with trio.fail_after(5):
            await stack.enter_async_context(fortress.visit())
        await trio.sleep(50)

    assert fortress.report().inside == 0


# -- the end ---------------------------------------------------------------------------------------


async def test_it_lives_until_it_is_killed_and_ends_cleanly(fortress: Fortress) -> None:
    await check_alive(fortress)
    await clean_kill(fortress)


async def test_killed_it_refuses_everybody_and_who_waits_at_the_door(tasks: trio.Nursery) -> None:
    async with open_worker(Fortress(name="keep")) as fortress:
        visit = await calling(tasks, visiting(fortress))
        fortress.kill()
        with pytest.raises(Dying, match='"keep" is dying'):
            fortress.unlock()
        with pytest.raises(Dying, match='"keep" is dying'):
            await fortress.lockdown()
        await fortress.wait()

        assert isinstance(visit.error, Dying)
        with pytest.raises(Dying, match='"keep" is dead'):
            fortress.unlock()
        with pytest.raises(Dying, match='"keep" is dead'):
            await fortress.lockdown()
        with pytest.raises(Dying, match='"keep" is dead'):
            async with fortress.visit():
                pass


async def test_an_open_one_that_is_killed_admits_nobody_from_that_moment_on() -> None:
    for _ in range(20):  # whether the fortress or the guest goes on first, chance decides
        async with open_worker(Fortress()) as fortress:
            fortress.unlock()
            fortress.kill()
            with pytest.raises(Dying):
                async with fortress.visit():
                    raise AssertionError("it was admitted")


async def test_it_is_not_dead_before_the_last_guest_has_left(tasks: trio.Nursery) -> None:
    async with open_worker(Fortress()) as fortress:
        fortress.unlock()
        leave = trio.Event()
        visit = await calling(tasks, visiting(fortress, leave))
        fortress.kill()
        waiting = await calling(tasks, fortress.wait)

        assert visit.blocks()
        assert waiting.blocks()
        leave.set()
        await waiting.ended.wait()
        assert not visit.blocks()
        assert visit.error is None


async def test_a_lockdown_accepted_before_the_kill_returns_when_the_last_guest_leaves(
    tasks: trio.Nursery,
) -> None:
    async with open_worker(Fortress()) as fortress:
        fortress.unlock()
        leave = trio.Event()
        await calling(tasks, visiting(fortress, leave))
        lockdown = await calling(tasks, fortress.lockdown)
        fortress.kill()
        await wait_all_tasks_blocked()
        assert lockdown.blocks()

        leave.set()
        await lockdown.ended.wait()
        assert lockdown.error is None


async def test_cancelled_from_outside_it_admits_nobody_and_waits_for_who_is_inside(
    tasks: trio.Nursery,
) -> None:
    fortress = Fortress()
    fortress.unlock()
    owner = await calling(tasks, fortress.run)
    leave = trio.Event()
    visit = await calling(tasks, visiting(fortress, leave))
    owner.scope.cancel()
    await wait_all_tasks_blocked()

    assert owner.blocks()
    assert visit.blocks()
    with pytest.raises(Dying):
        async with fortress.visit():
            pass
    leave.set()
    await owner.ended.wait()
    assert owner.scope.cancelled_caught


async def test_the_report_tells_how_it_stands(fortress: Fortress, tasks: trio.Nursery) -> None:
    await calling(tasks, visiting(fortress, trio.Event()))
    assert fortress.report() == (fortress.report().tomb, False, 0, 1)
    assert repr(fortress) == "<Fortress 'fortress' alive, locked>"
    fortress.unlock()
    await wait_all_tasks_blocked()

    assert fortress.report() == (fortress.report().tomb, True, 1, 0)
    assert repr(fortress) == "<Fortress 'fortress' alive, open>"


# -- occupying -------------------------------------------------------------------------------------


async def test_given_up_at_the_door_nothing_is_built(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    built: list[Worker] = []

    def build() -> Worker:
        built.append(simple_worker(trio.sleep_forever))
        return built[0]

    async def occupied() -> None:
        await occupy(fortress, build)

    call = await calling(tasks, occupied)
    call.scope.cancel()
    await call.ended.wait()

    assert call.scope.cancelled_caught
    assert built == []


async def test_an_error_of_building_passes_and_the_fortress_is_free(fortress: Fortress) -> None:
    problem = ValueError("no")

    def build() -> Worker:
        raise problem

    fortress.unlock()
    with pytest.raises(ValueError, match="no") as caught:
        await occupy(fortress, build)

    assert caught.value is problem
    with trio.fail_after(1):
        await fortress.lockdown()


async def test_the_visit_lasts_as_long_as_the_worker(
    fortress: Fortress, tasks: trio.Nursery
) -> None:
    fortress.unlock()
    worker = simple_worker(trio.sleep_forever)
    assert await tasks.start(occupy, fortress, lambda: worker) is worker
    lockdown = await calling(tasks, fortress.lockdown)
    assert lockdown.blocks()

    worker.kill()
    await lockdown.ended.wait()

    assert lockdown.error is None


async def test_the_error_of_a_worker_goes_to_who_runs_it_and_the_fortress_is_free(
    fortress: Fortress,
) -> None:
    fortress.unlock()
    worker = ErrorWorker(OSError("broken"))
    worker.kill()
    with pytest.raises(OSError, match="broken"):
        await occupy(fortress, lambda: worker)

    with trio.fail_after(1):
        await fortress.lockdown()


# -- in an engine ----------------------------------------------------------------------------------


async def test_each_start_makes_a_new_fortress_and_two_are_independent(
    autojump_clock: MockClock, tasks: trio.Nursery
) -> None:
    one, other = Taker("one", Guard, Guest), Taker("other", Guard, Guest)
    both = manifold()
    parts = {"one": both, "other": both, "a": one.manifold(), "b": other.manifold()}
    async with open_engine(parts) as engine:
        one[Guard].unlock()
        await assert_open(one[Guest])
        await assert_locked(other[Guest], tasks)

        engine.restart("one")
        await engine.wait_settled()
        assert one.starts == 2
        await assert_locked(one[Guest], tasks)


async def test_guard_and_guest_have_nothing_but_their_own_methods() -> None:
    taker = Taker("fortress", Guard, Guest)
    async with open_engine({"fortress": manifold(), "taker": taker.manifold()}):
        for face, methods in ((Guard, {"unlock", "lockdown"}), (Guest, {"visit"})):
            assert {name for name in dir(taker[face]) if not name.startswith("_")} == methods


async def test_asked_for_something_else_it_lists_what_it_offers(autojump_clock: MockClock) -> None:
    taker = Taker("fortress", Fortress)
    parts = {"fortress": manifold(), "taker": taker.manifold()}
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("taker", "delayed")

        end = str(engine.explain("taker"))
        assert NotOffered.__name__ in end
        assert "it offers: Guard, Guest" in end


async def test_a_guest_that_does_not_leave_is_told_as_stuck_and_no_new_fortress_opens(
    autojump_clock: MockClock,
) -> None:
    """Somebody outside the engine holds the fortress: a new one would know nothing of it."""
    taker = Taker("fortress", Guard, Guest)
    async with open_engine({"fortress": manifold(), "taker": taker.manifold()}) as engine:
        taker[Guard].unlock()
        guest = taker[Guest]
        async with guest.visit():
            engine.restart("fortress")
            await trio.sleep(60)
            assert engine.report().manifolds["fortress"].stuck
            assert taker.starts == 1
        await engine.wait_state("taker", "started")
        assert taker.starts == 2


async def test_ten_thousand_at_the_door_come_in_together(tasks: trio.Nursery) -> None:
    fortress = Fortress()
    inside = 0
    leave = trio.Event()

    async def visit() -> None:
        nonlocal inside
        async with fortress.visit():
            inside += 1
            await leave.wait()

    for _ in range(10_000):
        tasks.start_soon(visit)
    await wait_all_tasks_blocked()
    assert fortress.report().at_the_door == 10_000
    fortress.unlock()
    await wait_all_tasks_blocked()
    assert inside == fortress.report().inside == 10_000
    leave.set()
    with trio.fail_after(5):
        await fortress.lockdown()


def test_a_worker_of_ones_own_can_hold_a_fortress_without_an_engine() -> None:
    """The module needs nothing but lifetimes: a catacomb, for one."""
    story: list[str] = []

    async def main() -> None:
        async with Catacomb() as catacomb:
            fortress = await catacomb.start(Fortress())
            assert isinstance(fortress, Fortress)
            fortress.unlock()
            async with fortress.visit():
                story.append("inside")
            catacomb.kill()
            await catacomb.wait_dying()

    trio.run(main)
    assert story == ["inside"]
