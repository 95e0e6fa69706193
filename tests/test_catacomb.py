"""A life with children: the rules C1 to C9. Each test carries the number of its rule.

That T1 to T12 hold of a catacomb as well is C1's last sentence: see the tests so named. What needs
a `KeyboardInterrupt` makes a Trio run of its own, as in test_tomb.py.
"""

import gc
import math
import random
import signal
import sys
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.doubles import (
    Deaf,
    Lives,
    Nameless,
    Owns,
    Status,
    Unhashable,
    Unkillable,
    ending,
    failing,
    failing_after,
    failing_when_stopped,
    forever,
    started_with,
    stopping_slowly,
)
from trioworker._catacomb import Catacomb
from trioworker._errors import Dying, LifetimeError
from trioworker._tomb import TombState
from trioworker._worker import open_worker

MockClock = trio.testing.MockClock
settle = trio.testing.wait_all_tasks_blocked


class Reason(Exception):
    """Why."""


class Other(Exception):
    """What else."""


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


async def started(worker: Lives | Owns, nursery: trio.Nursery) -> None:
    nursery.start_soon(worker.run)
    await settle()


async def outcome_of(async_fn: Callable[..., Awaitable[object]], *args: object) -> object:
    """Return what it returns or raises: both are results to compare."""
    try:
        return await async_fn(*args)
    except Exception as exc:  # noqa: BLE001 - the caller compares it
        return exc


# -- C1: the block is the life ------------------------------------------------------------------


async def test_c1_entering_is_no_checkpoint() -> None:
    catacomb = Catacomb()
    with trio.testing.assert_no_checkpoints():
        await catacomb.__aenter__()
    await catacomb.__aexit__(None, None, None)

    assert catacomb.state == "dead"


async def test_c1_returning_from_the_block_kills_the_children_and_waits_for_them(
    autojump_clock: MockClock,
) -> None:
    child = Lives(stopping_slowly(3))
    catacomb = Catacomb()
    began = trio.current_time()
    async with catacomb:
        catacomb.add(child)
        await settle()

    assert trio.current_time() - began == 3
    assert (child.tomb.state, catacomb.state, catacomb.reason) == ("dead", "dead", None)


async def test_c1_children_end_before_the_catacomb_is_dead(autojump_clock: MockClock) -> None:
    record: list[str] = []
    child = Lives(stopping_slowly(3))
    owner = Owns(add_all(child))

    async def watch(name: str, wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        record.append(name)

    async with trio.open_nursery() as nursery:
        await started(owner, nursery)
        nursery.start_soon(watch, "catacomb", owner.wait)
        nursery.start_soon(watch, "child", child.wait)
        await settle()
        owner.kill()
        await settle()
        assert owner.catacomb.state == "dying"

    assert record == ["child", "catacomb"]


def add_all(*children: Lives | Owns | Deaf) -> Callable[[Catacomb], Awaitable[None]]:
    async def body(catacomb: Catacomb) -> None:
        for child in children:
            catacomb.add(child)
        await catacomb.wait_dying()

    return body


async def test_c1_a_body_that_only_owns_ends_in_wait_dying() -> None:
    owner = Owns()
    async with trio.open_nursery() as nursery:
        await started(owner, nursery)
        assert owner.catacomb.state == "alive"
        owner.kill()

    assert owner.catacomb.state == "dead"


async def test_c1_an_empty_block_is_a_whole_life() -> None:
    catacomb = Catacomb()
    async with catacomb:
        pass

    assert (catacomb.state, catacomb.reason) == ("dead", None)
    await catacomb.wait()


async def test_c1_t1_a_new_catacomb_is_alive() -> None:
    catacomb = Catacomb()

    assert (catacomb.state, catacomb.is_dying, catacomb.is_dead) == (TombState.ALIVE, False, False)


def test_c1_t1_kill_before_entry_works_outside_a_trio_run() -> None:
    catacomb = Catacomb()

    catacomb.kill()
    catacomb.kill(Reason())

    assert catacomb.state == "dying"


def test_c1_t1_kill_refuses_what_is_no_exception() -> None:
    with pytest.raises(TypeError, match="takes an exception or None"):
        Catacomb().kill("why")  # type: ignore[arg-type]  # the mistake


async def test_c1_t2_the_first_reason_wins_and_the_rest_is_suppressed_and_noted() -> None:
    catacomb, reason, other = Catacomb(), Reason(), Other("else")
    with pytest.raises(Reason) as caught:
        async with catacomb:
            catacomb.kill()
            catacomb.kill(reason)
            raise other

    assert caught.value is reason
    assert catacomb.suppressed == (other,)
    assert reason.__notes__ == ["also: Other: else"]


async def test_c1_t2_an_error_noted_by_a_child_is_not_noted_again() -> None:
    reason, other = Reason(), Other("else")

    async def body(status: Status) -> None:
        try:
            raise reason
        finally:
            child.kill(reason)
            child.kill(other)
            catacomb.kill(reason)
            catacomb.kill(other)

    catacomb, child = Catacomb(), Lives(body)
    with pytest.raises(Reason) as caught:
        async with catacomb:
            catacomb.add(child)
            await catacomb.wait_dying()

    assert caught.value is reason
    assert reason.__notes__ == ["also: Other: else"]


async def test_c1_t2_a_reason_can_be_superseded_and_the_children_are_asked() -> None:
    owner, child, reason, worse = Owns(), Lives(), Reason(), Reason()
    with pytest.raises(Reason) as caught:
        async with open_worker(owner):
            owner.catacomb.add(child)
            await trio.testing.wait_all_tasks_blocked()
            owner.catacomb.supersede(reason)
            owner.catacomb.supersede(worse)

    assert caught.value is worse
    assert owner.catacomb.suppressed == (reason,)
    assert child.tomb.is_dead


async def test_c1_t3_own_dying_is_no_reason() -> None:
    catacomb = Catacomb()
    async with catacomb:
        catacomb.kill()
        catacomb.add(Lives())  # raises Dying out of the block

    assert (catacomb.state, catacomb.reason) == ("dead", None)


async def test_c1_t3_kill_and_raise_is_always_right() -> None:
    catacomb, reason = Catacomb(), Reason()
    with pytest.raises(Reason) as caught:
        async with catacomb:
            try:
                raise reason
            except BaseException as exc:
                catacomb.kill(exc)
                raise

    assert caught.value is reason
    assert catacomb.suppressed == ()


@pytest.mark.parametrize("when", ["alive", "dying", "dead"])
async def test_c1_t4_a_second_entry_raises_and_changes_nothing(when: str) -> None:
    catacomb = Catacomb()

    async def enter() -> None:
        before = catacomb.report()
        with pytest.raises(LifetimeError):
            async with catacomb:
                raise AssertionError
        assert catacomb.report() == before

    async with catacomb:
        if when == "alive":
            await enter()
            await trio.lowlevel.checkpoint()  # not cancelled
            catacomb.add(Lives())
        elif when == "dying":
            catacomb.kill()
            await enter()
    if when == "dead":
        await enter()

    assert (catacomb.state, catacomb.reason) == ("dead", None)


async def test_c1_t5_all_waiters_wake() -> None:
    owner = Owns(add_all(Lives()))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(owner.wait)
            nursery.start_soon(owner.catacomb.wait_dying)
        await started(owner, nursery)
        owner.kill()


async def test_c1_t6_the_reason_is_raised_alone_also_when_an_outer_scope_is_cancelled() -> None:
    reason = Reason()
    owner = Owns(add_all(Lives(failing_when_stopped(reason)), Lives()))
    with trio.CancelScope() as scope, pytest.raises(Reason) as caught:
        async with open_worker(Lives()):
            scope.cancel()
            await owner.run()

    assert caught.value is owner.catacomb.reason is reason


@pytest.mark.parametrize("children", [0, 1, 3])
@pytest.mark.parametrize("left", [False, True])
async def test_c1_t6_cancelled_from_outside_passes(
    autojump_clock: MockClock, children: int, *, left: bool
) -> None:
    catacomb = Catacomb(grace=10)
    lives = [Lives(grace=20) for _ in range(children)]
    with trio.move_on_after(1) as scope:
        async with catacomb:
            for child in lives:
                await catacomb.start(child)
            if not left:
                await trio.sleep_forever()

    assert scope.cancelled_caught == (children > 0 or not left)
    assert (catacomb.state, catacomb.reason) == ("dead", None)
    assert all(child.tomb.state == "dead" for child in lives)
    await catacomb.wait()


async def test_c1_t6_several_errors_of_the_body_stay_one_group() -> None:
    async def fail(error: Exception) -> None:
        raise error

    catacomb, reason, other = Catacomb(), Reason(), Other()
    with pytest.raises(ExceptionGroup) as caught:
        async with catacomb, trio.open_nursery() as nursery:
            nursery.start_soon(fail, reason)
            nursery.start_soon(fail, other)

    assert caught.value is catacomb.reason
    assert set(caught.value.exceptions) == {reason, other}
    assert catacomb.suppressed == ()


async def test_c1_t7_wait_is_a_checkpoint_and_raises_the_same_object() -> None:
    catacomb, reason = Catacomb(), Reason()
    with pytest.raises(Reason):
        async with catacomb:
            raise reason

    with pytest.raises(Reason) as caught, trio.testing.assert_checkpoints():
        await catacomb.wait()
    assert caught.value is reason


async def test_c1_t8_killed_before_entry_it_ends_at_the_first_checkpoint() -> None:
    catacomb, reason = Catacomb(grace=math.inf), Reason()
    catacomb.kill(reason)
    with pytest.raises(Reason) as caught:
        async with catacomb:
            assert catacomb.state == "dying"
            await trio.sleep_forever()

    assert caught.value is reason


async def test_c1_t10_the_cancellation_names_the_catacomb_and_why() -> None:
    catacomb = Catacomb(name="uniter")
    seen: list[str | None] = []
    with pytest.raises(Reason):
        async with catacomb:
            catacomb.kill(Reason("disk full"))
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                seen.append(exc.reason)
                raise

    assert seen == ["uniter was killed because of Reason: disk full"]


async def test_c1_t11_a_call_in_flight_is_interrupted_when_a_child_fails() -> None:
    event, called, interrupted = trio.Event(), trio.Event(), list[bool]()
    owner = Owns(add_all(Lives(failing_after(Reason(), event))))

    async def own() -> None:
        with pytest.raises(Reason):
            await owner.run()

    async def call() -> None:
        with pytest.raises(Dying), owner.catacomb.while_alive():
            called.set()
            await trio.sleep_forever()
        interrupted.append(owner.catacomb.is_dying)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        nursery.start_soon(call)
        await settle()
        assert called.is_set()
        event.set()

    assert interrupted == [True]


async def test_c1_t11_new_calls_are_refused_from_dying_on() -> None:
    catacomb = Catacomb(grace=5)
    async with catacomb:
        catacomb.kill()
        with pytest.raises(Dying), catacomb.while_alive():
            raise AssertionError


async def test_c1_t12_it_tells_its_state_and_its_childrens() -> None:
    catacomb = Catacomb(name="uniter")
    async with catacomb:
        catacomb.add(Lives(name="first"))
        catacomb.add(Nameless())
        await settle()

        assert repr(catacomb) == "<Catacomb 'uniter' alive, 2 children>"
        assert catacomb.report().children == ("first", "Nameless")
        assert catacomb.report().tomb.state == "alive"


# -- C2: add() and start() ----------------------------------------------------------------------


async def test_c2_add_is_sync_and_the_child_runs_from_the_next_step_on() -> None:
    catacomb, child = Catacomb(), Lives()
    async with catacomb:
        catacomb.add(child)
        assert child.runs == 0
        await settle()
        assert (child.runs, child.tomb.state) == (1, "alive")


async def test_c2_start_returns_what_the_child_passed_to_started() -> None:
    catacomb = Catacomb()
    value = object()
    async with catacomb:
        assert await catacomb.start(Lives(started_with(value))) is value
        assert await catacomb.start(Lives()) is None


async def test_c2_start_waits_until_the_child_can_be_used(autojump_clock: MockClock) -> None:
    async def body(status: Status) -> None:
        await trio.sleep(2)
        status.started("ready")
        await trio.sleep_forever()

    catacomb = Catacomb()
    async with catacomb:
        began = trio.current_time()
        assert await catacomb.start(Lives(body)) == "ready"
        assert trio.current_time() - began == 2


async def test_c2_start_returns_none_if_the_child_ended_cleanly_before() -> None:
    catacomb = Catacomb()
    async with catacomb:
        assert await catacomb.start(Lives(ending)) is None
        assert catacomb.state == "alive"


async def test_c2_start_is_a_checkpoint() -> None:
    catacomb = Catacomb()
    async with catacomb:
        with trio.testing.assert_checkpoints():
            await catacomb.start(Lives())


async def test_c2_a_child_that_fails_before_started_kills_and_raises_the_same_object() -> None:
    reason = Reason()
    catacomb = Catacomb(grace=5)
    with pytest.raises(Reason) as of_catacomb:
        async with catacomb:
            with pytest.raises(Reason) as of_start:
                await catacomb.start(Lives(failing(reason)))
            assert of_start.value is reason
            assert catacomb.state == "dying"

    assert of_catacomb.value is catacomb.reason is reason
    assert catacomb.suppressed == ()


async def test_c2_a_child_that_fails_with_several_errors_raises_the_same_group() -> None:
    class Rude(Lives):
        """Has no tomb: what it raises is as Trio left it."""

        async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_on_cancel, Reason())
                nursery.start_soon(fail_on_cancel, Other())
                nursery.start_soon(trio.sleep_forever)

    async def fail_on_cancel(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    catacomb = Catacomb(grace=5)
    outcomes: list[object] = []

    async def client() -> None:
        outcomes.append(await outcome_of(catacomb.start, Rude()))

    async with trio.open_nursery() as nursery:
        with pytest.raises(ExceptionGroup) as caught:
            async with catacomb:
                nursery.start_soon(client)
                await settle()
                catacomb.kill(grace=0)

    assert outcomes == [caught.value]
    assert outcomes[0] is catacomb.reason
    assert catacomb.suppressed == ()


async def test_c2_a_child_that_fails_after_started_was_started() -> None:
    async def body(status: Status) -> None:
        status.started("ready")
        raise Reason

    catacomb = Catacomb(grace=5)
    with pytest.raises(Reason):
        async with catacomb:
            assert await catacomb.start(Lives(body)) == "ready"


async def test_c2_the_child_does_not_run_under_the_callers_scopes() -> None:
    catacomb, child = Catacomb(), Lives()
    async with catacomb:
        with trio.CancelScope() as scope:
            await catacomb.start(child)
            scope.cancel()
        await settle()
        assert child.tomb.state == "alive"


async def test_c2_a_cancelled_caller_leaves_the_child_to_the_catacomb(
    autojump_clock: MockClock,
) -> None:
    async def body(status: Status) -> None:
        await trio.sleep(2)
        status.started()
        await trio.sleep_forever()

    catacomb, child = Catacomb(), Lives(body)
    async with catacomb:
        with trio.move_on_after(1) as scope:
            await catacomb.start(child)
        assert scope.cancelled_caught
        await trio.sleep(5)
        assert (child.tomb.state, catacomb.state) == ("alive", "alive")

    assert (child.runs, child.tomb.state) == (1, "dead")


async def test_c2_a_client_may_start_from_another_task() -> None:
    owner, child = Owns(), Lives(started_with("ready"))
    async with trio.open_nursery() as nursery:
        await started(owner, nursery)
        assert await owner.catacomb.start(child) == "ready"
        assert child.tomb.state == "alive"
        owner.kill()


async def test_c2_started_twice_is_the_childs_error() -> None:
    async def body(status: Status) -> None:
        status.started(1)
        status.started(2)

    catacomb = Catacomb()
    with pytest.raises(RuntimeError, match="called twice"):
        async with catacomb:
            await catacomb.start(Lives(body))
            await catacomb.wait_dying()


async def test_c2_a_child_that_was_killed_before_is_run_all_the_same() -> None:
    catacomb, child = Catacomb(), Lives()
    child.kill()
    async with catacomb:
        catacomb.add(child)
        await settle()
        assert (child.runs, child.tomb.state, catacomb.state) == (1, "dead", "alive")


@pytest.mark.parametrize("make", [Unhashable, Nameless])
async def test_c2_little_is_asked_of_a_child(make: Callable[[], Lives]) -> None:
    catacomb, children = Catacomb(), [make(), make()]
    async with catacomb:
        for child in children:
            catacomb.add(child)
        await settle()

    assert [(child.runs, child.tomb.state) for child in children] == [(1, "dead"), (1, "dead")]


async def test_c2_a_child_whose_run_is_not_async_fails_the_catacomb() -> None:
    class NotAsync(Lives):
        def run(self, **kwargs: Any) -> Any:
            return None

    catacomb = Catacomb()
    with pytest.raises(TypeError):
        async with catacomb:
            catacomb.add(NotAsync())
            await catacomb.wait_dying()


async def test_c2_a_childs_task_has_its_name() -> None:
    names: list[str] = []

    async def body(status: Status) -> None:
        names.append(trio.lowlevel.current_task().name)

    catacomb = Catacomb()
    async with catacomb:
        await catacomb.start(Lives(body, name="pruner"))

    assert names == ["pruner"]


# -- C3: clean ends and failures ----------------------------------------------------------------


async def test_c3_a_child_that_ends_cleanly_is_forgotten_at_once() -> None:
    catacomb = Catacomb()
    async with catacomb:
        catacomb.add(Lives(ending))
        await settle()
        assert catacomb.report().children == ()
        assert catacomb.state == "alive"


async def test_c3_a_child_that_ends_cleanly_is_held_by_nobody() -> None:
    catacomb = Catacomb()
    async with catacomb:
        gc.disable()
        try:
            child = Lives(ending)
            catacomb.add(child)
            gone = weakref.ref(child)
            del child
            await settle()
            assert gone() is None
        finally:
            gc.enable()


async def test_c3_many_short_children_keep_memory_flat() -> None:
    class Short:
        async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
            pass

        def kill(self, reason: BaseException | None = None) -> None:
            pass

        async def wait(self) -> None:
            pass

    async def memory_after(count: int) -> int:
        for _ in range(count):
            await catacomb.start(Short())
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    catacomb = Catacomb()
    async with catacomb:
        tracemalloc.start()
        try:
            before = await memory_after(300)
            grown = await memory_after(2000) - before
        finally:
            tracemalloc.stop()
        assert grown < 20_000  # ten bytes each would be too much


async def test_c3_a_child_that_fails_kills_with_the_same_object() -> None:
    catacomb, reason, siblings = Catacomb(), Reason(), [Lives(), Lives()]
    with pytest.raises(Reason) as caught:
        async with catacomb:
            for sibling in siblings:
                await catacomb.start(sibling)
            catacomb.add(Lives(failing(reason)))
            await trio.sleep_forever()

    assert caught.value is catacomb.reason is reason
    assert [sibling.tomb.state for sibling in siblings] == ["dead", "dead"]


async def test_c3_a_childs_group_of_several_is_the_reason_as_it_is() -> None:
    group = ExceptionGroup("the program's", [Reason(), Other()])
    catacomb = Catacomb()
    with pytest.raises(ExceptionGroup) as caught:
        async with catacomb:
            catacomb.add(Lives(failing(group)))
            await trio.sleep_forever()

    assert caught.value is group


def test_c3_a_keyboard_interrupt_in_a_child_kills_with_it() -> None:
    async def body(status: Status) -> None:
        interrupt()

    sibling = Lives(stopping_slowly(1))
    catacomb = Catacomb()

    async def main() -> None:
        async with catacomb:
            await catacomb.start(sibling)
            catacomb.add(Lives(body))
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert caught.value is catacomb.reason
    assert (sibling.tomb.state, catacomb.state) == ("dead", "dead")


def test_c3_a_keyboard_interrupt_in_a_child_replaces_an_error() -> None:
    reason = Reason()
    catacomb = Catacomb()

    async def body(status: Status) -> None:
        status.started()
        try:
            await trio.sleep_forever()
        finally:
            interrupt()

    async def main() -> None:
        async with catacomb:
            await catacomb.start(Lives(body))
            raise reason

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)

    assert catacomb.suppressed == (reason,)


# -- C4: dying ----------------------------------------------------------------------------------


async def test_c4_every_child_is_asked_at_once_and_once() -> None:
    catacomb = Catacomb(grace=5)
    children = [Lives(grace=1) for _ in range(3)]
    async with catacomb:
        for child in children:
            await catacomb.start(child)
        catacomb.kill()
        assert [child.kills for child in children] == [1, 1, 1]
        assert [child.tomb.state for child in children] == ["dying"] * 3
        catacomb.kill(grace=0)
        catacomb.kill()

    assert [child.kills for child in children] == [1, 1, 1]


@pytest.mark.parametrize(
    "grace, childs_grace, expected",
    [(0, 5, 0), (5, 0, 0), (5, 2, 2), (5, 9, 5), (5, math.inf, 5), (math.inf, 9, 9)],
)
async def test_c4_the_catacombs_grace_bounds_the_childs(
    autojump_clock: MockClock, grace: float, childs_grace: float, expected: float
) -> None:
    catacomb, child = Catacomb(grace=grace), Lives(grace=childs_grace)
    began = trio.current_time()
    async with catacomb:
        await catacomb.start(child)

    assert trio.current_time() - began == expected


async def test_c4_the_body_has_the_same_grace(autojump_clock: MockClock) -> None:
    catacomb = Catacomb(grace=5)
    began = trio.current_time()
    async with catacomb:
        catacomb.kill()
        await trio.sleep_forever()

    assert trio.current_time() - began == 5


async def test_c4_a_harder_kill_cuts_the_childrens_grace_short(autojump_clock: MockClock) -> None:
    catacomb, child = Catacomb(grace=math.inf), Lives(grace=math.inf)
    began = trio.current_time()
    async with catacomb:
        await catacomb.start(child)
        catacomb.kill()
        await trio.sleep(3)
        catacomb.kill(grace=2)
        await trio.sleep_forever()

    assert trio.current_time() - began == 5


async def test_c4_a_child_that_ignores_kill_ends_by_cancellation(
    autojump_clock: MockClock,
) -> None:
    catacomb, child = Catacomb(grace=5), Deaf()
    began = trio.current_time()
    async with catacomb:
        catacomb.add(child)
        await settle()

    assert child.ended
    assert trio.current_time() - began == 5
    assert catacomb.reason is None


async def test_c4_a_failing_child_leaves_its_siblings_their_grace(
    autojump_clock: MockClock,
) -> None:
    catacomb, sibling, event = Catacomb(grace=5), Lives(grace=3), trio.Event()
    began = trio.current_time()
    with pytest.raises(Reason):
        async with catacomb:
            await catacomb.start(sibling)
            await catacomb.start(Lives(failing_after(Reason(), event)))
            event.set()
            await catacomb.wait_dying()

    assert trio.current_time() - began == 3


async def test_c4_a_failing_body_leaves_the_children_their_grace(
    autojump_clock: MockClock,
) -> None:
    catacomb, child = Catacomb(grace=5), Lives(grace=3)
    began = trio.current_time()
    with pytest.raises(Reason):
        async with catacomb:
            await catacomb.start(child)
            raise Reason

    assert trio.current_time() - began == 3


async def test_c4_a_child_that_fails_while_stopping_leaves_the_others_their_grace(
    autojump_clock: MockClock,
) -> None:
    catacomb = Catacomb(grace=5)
    began = trio.current_time()
    with pytest.raises(Reason):
        async with catacomb:
            await catacomb.start(Lives(grace=4))
            await catacomb.start(Lives(failing_when_stopped(Reason()), grace=1))

    assert trio.current_time() - began == 4


async def test_c4_what_children_raise_while_stopping_follows_t2() -> None:
    first, second, third = Reason(), Other("1"), Other("2")
    catacomb = Catacomb()
    with pytest.raises(Reason) as caught:
        async with catacomb:
            await catacomb.start(Lives(failing_when_stopped(second)))
            await catacomb.start(Lives(failing_when_stopped(third)))
            raise first

    assert caught.value is first
    assert set(catacomb.suppressed) == {second, third}
    assert sorted(first.__notes__) == ["also: Other: 1", "also: Other: 2"]


async def test_c4_what_a_child_raises_after_a_clean_kill_is_the_reason() -> None:
    reason = Reason()
    catacomb = Catacomb()
    with pytest.raises(Reason) as caught:
        async with catacomb:
            await catacomb.start(Lives(failing_when_stopped(reason)))
            catacomb.kill()

    assert caught.value is reason


@pytest.mark.parametrize("error", [Reason(), SystemExit(), KeyboardInterrupt()])
async def test_c4_a_kill_of_a_child_that_fails_is_an_error_and_the_others_are_asked(
    error: BaseException,
) -> None:
    catacomb, sibling = Catacomb(grace=5), Lives()
    with pytest.raises(type(error)) as caught:
        async with catacomb:
            catacomb.add(Unkillable(error))
            await catacomb.start(sibling)
            catacomb.kill()  # never raises
            assert sibling.kills == 1
            catacomb.kill(grace=0)
            await trio.sleep_forever()

    assert caught.value is error


async def test_c4_a_child_that_kills_the_catacomb_when_asked_does_no_harm() -> None:
    class KillsBack(Lives):
        def kill(self, reason: BaseException | None = None) -> None:
            super().kill(reason)
            catacomb.kill(reason)

    catacomb, child = Catacomb(), KillsBack()
    async with catacomb:
        await catacomb.start(child)
        catacomb.kill()

    assert (child.kills, catacomb.reason) == (1, None)


async def test_c4_killed_in_the_step_it_was_added_a_child_is_run_and_ends() -> None:
    catacomb, child, deaf = Catacomb(grace=math.inf), Lives(grace=math.inf), Deaf()
    async with catacomb:
        catacomb.add(child)
        catacomb.add(deaf)
        catacomb.kill()

    assert (child.runs, child.tomb.state) == (1, "dead")
    assert (deaf.runs, deaf.ended) == (1, True)


# -- C5: too late, too early --------------------------------------------------------------------


@pytest.mark.parametrize("grace", [0, math.inf])
async def test_c5_add_on_a_dying_catacomb_raises_dying_and_the_child_is_killed_and_run(
    grace: float,
) -> None:
    catacomb, child = Catacomb(grace=grace), Lives(grace=math.inf)
    async with catacomb:
        catacomb.kill()
        with pytest.raises(Dying) as caught:
            catacomb.add(child)
        assert caught.value.owner is catacomb._tomb
        assert child.kills == 1

    assert (child.runs, child.tomb.state) == (1, "dead")
    await child.wait()
    assert catacomb.reason is None


async def test_c5_add_on_a_dying_catacomb_reports_the_childs_error() -> None:
    """Juju's TestAddWhenDyingStopsWorker: and the error is not lost."""
    catacomb, reason = Catacomb(grace=math.inf), Reason()
    with pytest.raises(Reason) as caught:
        async with catacomb:
            catacomb.kill()
            with pytest.raises(Dying):
                catacomb.add(Lives(failing_when_stopped(reason)))

    assert caught.value is reason


@pytest.mark.parametrize("body", [forever, started_with(1), ending, stopping_slowly(4)])
async def test_c5_start_on_a_dying_catacomb_awaits_the_end_and_raises_dying(
    autojump_clock: MockClock, body: Callable[[Status], Awaitable[object]]
) -> None:
    """Also when the child called started(): there is nothing to use."""
    catacomb, child = Catacomb(grace=math.inf), Lives(body)
    async with catacomb:
        catacomb.kill()
        with pytest.raises(Dying):
            await catacomb.start(child)
        assert (child.runs, child.tomb.state) == (1, "dead")

    assert catacomb.reason is None


@pytest.mark.parametrize("body", [failing, failing_when_stopped])
async def test_c5_start_on_a_dying_catacomb_raises_the_childs_own_error(
    body: Callable[[BaseException], Callable[[Status], Awaitable[object]]],
) -> None:
    catacomb, reason = Catacomb(grace=math.inf), Reason()
    with pytest.raises(Reason) as of_catacomb:
        async with catacomb:
            catacomb.kill()
            with pytest.raises(Reason) as of_start:
                await catacomb.start(Lives(body(reason)))
            assert of_start.value is reason

    assert of_catacomb.value is reason


async def test_c5_start_on_a_dying_catacomb_ends_a_child_that_forgets_kill() -> None:
    catacomb, child = Catacomb(grace=math.inf), Deaf()
    async with catacomb:
        catacomb.kill()
        with pytest.raises(Dying):
            await catacomb.start(child)
        assert child.ended


async def test_c5_start_raises_dying_when_the_catacomb_dies_meanwhile() -> None:
    owner, outcomes = Owns(), list[object]()

    async def client() -> None:
        outcomes.append(await outcome_of(owner.catacomb.start, Lives(never_ready)))

    async with trio.open_nursery() as nursery:
        await started(owner, nursery)
        nursery.start_soon(client)
        await settle()
        owner.kill()

    assert [type(outcome) for outcome in outcomes] == [Dying]
    assert owner.catacomb.reason is None


async def test_c5_start_raises_dying_when_the_owner_is_cancelled_meanwhile() -> None:
    owner, outcomes = Owns(), list[object]()

    async def client() -> None:
        outcomes.append(await outcome_of(owner.catacomb.start, Lives(never_ready)))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as own:
                await started(owner, own)
                nursery.start_soon(client)
                await settle()
                scope.cancel()

    assert [type(outcome) for outcome in outcomes] == [Dying]


async def test_c5_a_killed_child_is_refused_as_well_when_the_body_has_left(
    autojump_clock: MockClock,
) -> None:
    owner = Owns(leave_with(Lives(stopping_slowly(5))))
    late, later = Lives(), Lives()
    async with trio.open_nursery() as nursery:
        await started(owner, nursery)
        assert owner.catacomb.state == "dying"
        with pytest.raises(Dying):
            owner.catacomb.add(late)
        with pytest.raises(Dying):
            await owner.catacomb.start(later)

    assert (late.runs, late.tomb.state) == (1, "dead")
    assert (later.runs, later.tomb.state) == (1, "dead")


def leave_with(child: Lives) -> Callable[[Catacomb], Awaitable[None]]:
    async def body(catacomb: Catacomb) -> None:
        await catacomb.start(child)

    return body


class LastStep(trio.abc.Instrument):
    """Calls when a task has ended: with a nursery's last one, it has closed."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self.name = name
        self.call = call

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task.name == self.name:
            self.call()


@pytest.mark.parametrize("outside", [False, True])
async def test_c5_accepted_in_the_very_last_step_children_are_run_all_the_same(
    *, outside: bool
) -> None:
    """The nursery has closed, and the catacomb is not dead: that makes no difference."""
    catacomb, reason = Catacomb(), Reason()
    late: list[Lives | Deaf] = [Lives(), Lives(failing(reason)), Deaf()]
    states: list[str] = []
    refused: list[Dying] = []

    def add_late() -> None:
        states.append(catacomb.state)
        for child in late:
            try:
                catacomb.add(child)
            except Dying as exc:
                refused.append(exc)

    instrument = LastStep("last", add_late)
    trio.lowlevel.add_instrument(instrument)
    with trio.CancelScope() as scope, pytest.raises(Reason) as caught:
        async with catacomb:
            await catacomb.start(Lives(name="last"))
            if outside:
                scope.cancel()
    trio.lowlevel.remove_instrument(instrument)

    assert (states, len(refused)) == (["dying"], 3)
    assert [child.runs for child in late] == [1, 1, 1]
    assert caught.value is reason
    assert catacomb.report().children == ()


@pytest.mark.parametrize("how", ["return", "error", "outside"])
async def test_c5_a_dead_catacomb_refuses_and_does_not_accept(how: str) -> None:
    catacomb, child = Catacomb(), Lives()
    with trio.CancelScope() as scope:
        try:
            async with catacomb:
                if how == "error":
                    raise Reason
                if how == "outside":
                    scope.cancel()
                    await trio.sleep_forever()
        except Reason:
            pass

    with pytest.raises(Dying):
        catacomb.add(child)
    with pytest.raises(Dying):
        await catacomb.start(child)
    await settle()
    assert (child.runs, child.kills, child.tomb.state) == (0, 0, "alive")


@pytest.mark.parametrize("killed", [False, True])
async def test_c5_a_catacomb_not_entered_refuses_and_does_not_accept(*, killed: bool) -> None:
    catacomb, child = Catacomb(), Lives()
    if killed:
        catacomb.kill()

    with pytest.raises(LifetimeError, match=r"add\(\) before it was entered"):
        catacomb.add(child)
    with pytest.raises(LifetimeError, match=r"start\(\) before it was entered"):
        await catacomb.start(child)

    async with catacomb:
        pass
    assert (child.runs, child.kills) == (0, 0)


# -- C6: a body that raises ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [Reason(), KeyboardInterrupt(), SystemExit(), GeneratorExit(), BaseException()]
)
async def test_c6_a_body_that_raises_anything_stops_every_child_first(
    autojump_clock: MockClock, error: BaseException
) -> None:
    catacomb = Catacomb()
    children = [Lives(stopping_slowly(n)) for n in range(3)]
    with pytest.raises(type(error)) as caught:
        async with catacomb:
            for child in children:
                await catacomb.start(child)
            raise error

    assert caught.value is catacomb.reason is error
    assert [child.tomb.state for child in children] == ["dead"] * 3


def test_c6_a_keyboard_interrupt_in_the_body_stops_every_child_first() -> None:
    child, catacomb = Lives(stopping_slowly(3)), Catacomb()

    async def main() -> None:
        async with catacomb:
            await catacomb.start(child)
            interrupt()
            raise AssertionError

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert caught.value is catacomb.reason
    assert (child.tomb.state, catacomb.state) == ("dead", "dead")


def test_c6_a_keyboard_interrupt_while_children_stop_is_the_reason() -> None:
    child, catacomb = Lives(grace=3), Catacomb(grace=5)

    async def late_interrupt() -> None:
        await trio.sleep(1)
        interrupt()

    async def main() -> None:
        async with catacomb:
            await catacomb.start(child)
            trio.lowlevel.spawn_system_task(late_interrupt)

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert caught.value is catacomb.reason
    assert (child.tomb.state, catacomb.state) == ("dead", "dead")


@pytest.mark.parametrize("function", ["_run_child", "_accept", "__aenter__", "__aexit__", "_open"])
def test_c6_accepting_and_reaping_are_protected_against_keyboard_interrupt(function: str) -> None:
    """At whatever line of ours ^C comes, no child is left behind."""
    lines = 0
    while True:
        lines += 1
        seen, fired = 0, False
        catacomb, child = Catacomb(), Lives(ending)

        def trace(
            frame: Any, event: str, arg: object, catacomb: Catacomb = catacomb, lines: int = lines
        ) -> Any:
            nonlocal seen, fired
            if frame.f_code.co_name != function or "_catacomb" not in frame.f_code.co_filename:
                return None
            if event == "line":
                seen += 1
                if seen == lines:
                    fired = True
                    interrupt()
            return trace

        async def main(
            catacomb: Catacomb = catacomb, child: Lives = child, trace: Any = trace
        ) -> None:
            others = sys.gettrace()  # a debugger's, or coverage's
            sys.settrace(trace)
            try:
                async with catacomb:
                    await catacomb.start(child)
            finally:
                sys.settrace(others)

        outcome: BaseException | None = None
        try:
            trio.run(main)
        except KeyboardInterrupt as exc:
            outcome = exc

        assert catacomb.state == "dead"
        assert catacomb.report().children == ()
        # It may have come before start(), in which case the child was never accepted.
        assert child.tomb.state == ("dead" if child.runs else "alive")
        if not fired:
            assert outcome is None
            break

    assert lines > 2


def test_c6_the_code_of_a_child_is_not_protected() -> None:
    """Otherwise a child that never yields could not be interrupted at all."""
    protected: list[bool] = []

    async def body(status: Status) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async def main() -> None:
        catacomb = Catacomb()
        async with catacomb:
            await catacomb.start(Lives(body))
            protected.append(trio.lowlevel.currently_ki_protected())
            catacomb.kill()
            with pytest.raises(Dying):
                await catacomb.start(Lives(body))

    trio.run(main)
    assert protected == [False, False, False]


# -- C7: anyone may kill a child ----------------------------------------------------------------


async def test_c7_a_child_may_be_killed_by_anyone() -> None:
    catacomb, child, sibling = Catacomb(), Lives(), Lives()
    async with catacomb:
        await catacomb.start(child)
        await catacomb.start(sibling)
        child.kill()
        await child.wait()
        await settle()
        assert (catacomb.state, sibling.tomb.state) == ("alive", "alive")


async def test_c7_a_child_killed_with_a_reason_is_an_error_from_it() -> None:
    catacomb, child, reason = Catacomb(), Lives(), Reason()
    with pytest.raises(Reason) as caught:
        async with catacomb:
            await catacomb.start(child)
            child.kill(reason)
            await trio.sleep_forever()

    assert caught.value is reason


async def test_c7_a_child_killed_before_its_first_step_ends_cleanly() -> None:
    catacomb, child = Catacomb(), Lives()
    async with catacomb:
        catacomb.add(child)
        child.kill()
        await child.wait()
        await settle()
        assert catacomb.state == "alive"


async def test_c7_starting_a_child_that_somebody_kills_returns_none() -> None:
    catacomb, child = Catacomb(), Lives(never_ready)
    async with catacomb, trio.open_nursery() as nursery:
        nursery.start_soon(settle_then_kill, child)
        assert await catacomb.start(child) is None
        assert catacomb.state == "alive"


async def never_ready(status: Status) -> None:
    await trio.sleep_forever()


async def settle_then_kill(child: Lives) -> None:
    await settle()
    child.kill()


# -- C8: nested, and in oneself -----------------------------------------------------------------


async def test_c8_anothers_dying_from_a_child_is_an_ordinary_error() -> None:
    dead = Catacomb()
    async with dead:
        pass

    async def body(status: Status) -> None:
        dead.add(Lives())

    catacomb = Catacomb()
    with pytest.raises(Dying) as caught:
        async with catacomb:
            catacomb.add(Lives(body))
            await trio.sleep_forever()

    assert caught.value is catacomb.reason


async def test_c8_an_inner_catacombs_dying_is_an_ordinary_error_to_the_outer() -> None:
    async def add_late(catacomb: Catacomb) -> None:
        catacomb.kill()
        try:
            catacomb.add(Lives())
        except Dying as exc:
            raised.append(exc)
            outer.kill(exc)
            raise

    raised: list[Dying] = []
    outer, inner = Catacomb(), Owns(add_late)
    with pytest.raises(Dying) as caught:
        async with outer:
            outer.add(inner)
            await trio.sleep_forever()

    assert caught.value is raised[0]
    assert inner.catacomb.reason is None


async def test_c8_own_dying_from_a_child_is_no_error() -> None:
    async def body(status: Status) -> None:
        status.started()
        await catacomb.wait_dying()
        catacomb.add(Lives())

    catacomb = Catacomb(grace=5)
    async with catacomb:
        await catacomb.start(Lives(body, grace=5))
        catacomb.kill()

    assert (catacomb.state, catacomb.reason) == ("dead", None)


async def test_c8_a_worker_added_to_its_own_catacomb_fails_and_deadlocks_nothing() -> None:
    async def add_itself(catacomb: Catacomb) -> None:
        catacomb.add(owner)
        await catacomb.wait_dying()

    owner = Owns(add_itself)
    with pytest.raises(LifetimeError) as caught:
        await owner.run()

    assert caught.value is owner.catacomb.reason
    assert owner.catacomb.state == "dead"


async def test_c8_a_worker_started_in_its_own_catacomb_fails_and_deadlocks_nothing() -> None:
    async def start_itself(catacomb: Catacomb) -> None:
        await catacomb.start(owner)

    owner = Owns(start_itself)
    with pytest.raises(LifetimeError):
        await owner.run()

    assert owner.catacomb.state == "dead"


async def test_c8_a_worker_added_twice_fails_and_the_first_life_is_reaped() -> None:
    catacomb, child = Catacomb(), Lives()
    with pytest.raises(LifetimeError):
        async with catacomb:
            catacomb.add(child)
            catacomb.add(child)
            await trio.sleep_forever()

    assert child.tomb.state == "dead"


async def test_c8_an_error_travels_through_nested_catacombs_as_the_same_object() -> None:
    reason, event = Reason(), trio.Event()
    inner = Owns(add_all(Lives(failing_after(reason, event))), name="inner")
    middle = Owns(add_all(inner, Lives()), name="middle")
    outer = Owns(add_all(middle), name="outer")

    async def fail_later() -> None:
        await settle()
        event.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_later)
        with pytest.raises(Reason) as caught:
            await outer.run()

    assert caught.value is reason
    for owner in (inner, middle, outer):
        assert owner.catacomb.reason is reason
        assert owner.catacomb.suppressed == ()
        assert owner.catacomb.state == "dead"


async def test_c8_killing_the_outermost_stops_the_innermost(autojump_clock: MockClock) -> None:
    child = Lives(stopping_slowly(2))
    inner = Owns(add_all(child), grace=9)
    outer = Owns(add_all(inner), grace=9)
    async with trio.open_nursery() as nursery:
        await started(outer, nursery)
        outer.kill()
        assert (inner.catacomb.state, child.tomb.state) == ("dying", "dying")

    assert (outer.catacomb.state, inner.catacomb.state, child.tomb.state) == ("dead",) * 3


# -- C9: races ----------------------------------------------------------------------------------


class Storm:
    """Clients that add, start and kill at random times, and a record of what they gave away."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.owner = Owns(grace=self.random.choice([0, 0, 1, 5]))
        self.given: list[Lives] = []
        self.refused_when_dead: list[Lives] = []

    def child(self) -> Lives:
        body = self.random.choice(
            [
                forever,
                forever,
                ending,
                stopping_slowly(self.random.random()),
                failing(Reason()),
                failing_when_stopped(Other()),
                started_with(1),
            ]
        )
        return Lives(body, grace=self.random.choice([0, 0, 2, math.inf]))

    async def client(self) -> None:
        catacomb = self.owner.catacomb
        for _ in range(self.random.randrange(1, 12)):
            for _ in range(self.random.randrange(4)):
                await trio.lowlevel.checkpoint()
            if self.random.random() < 0.3:
                await trio.sleep(self.random.random() * 2)
            child = self.child()
            dead = catacomb.is_dead
            (self.refused_when_dead if dead else self.given).append(child)
            try:
                if self.random.random() < 0.5:
                    catacomb.add(child)
                else:
                    with trio.move_on_after(self.random.choice([0, 0.5, math.inf])):
                        await catacomb.start(child)
            except (Dying, Reason, Other):
                pass
            if self.random.random() < 0.2:
                self.random.choice(self.given or [child]).kill()

    async def killer(self) -> None:
        await trio.sleep(self.random.random() * 3)
        for _ in range(self.random.randrange(10)):
            await trio.lowlevel.checkpoint()
        self.owner.kill(self.random.choice([None, Reason()]))
        if self.random.random() < 0.5:
            self.owner.catacomb.kill(grace=0)

    async def own(self) -> None:
        # CancelScope: sometimes the owner is cancelled from outside as well.
        with trio.move_on_after(self.random.choice([2, 30])):
            outcome = await outcome_of(self.owner.run)
            assert outcome is self.owner.catacomb.reason
        # What is left at this very moment has outlived the catacomb.
        self.alive_after = [child for child in self.given if child.tomb.state != "dead"]

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.own)
            while not self.owner.catacomb._nursery:
                await trio.lowlevel.checkpoint()
            nursery.start_soon(self.killer)
            for _ in range(self.random.randrange(1, 6)):
                nursery.start_soon(self.client)


@pytest.mark.parametrize("seed", range(300))
def test_c9_no_child_runs_twice_none_is_lost_none_outlives(seed: int) -> None:
    storm = Storm(seed)

    trio.run(storm.run, clock=MockClock(autojump_threshold=0))

    assert storm.owner.catacomb.state == "dead"
    assert storm.owner.catacomb.report().children == ()
    assert [child.runs for child in storm.given] == [1] * len(storm.given)
    assert [child.runs for child in storm.refused_when_dead] == [0] * len(storm.refused_when_dead)
    assert storm.alive_after == []


async def test_c9_every_wait_on_an_accepted_child_returns() -> None:
    catacomb = Catacomb()
    children = [Lives() for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for child in children:
            nursery.start_soon(child.wait)
        async with catacomb:
            for number, child in enumerate(children):
                if number == 10:
                    catacomb.kill()
                try:
                    catacomb.add(child)
                except Dying:
                    assert number >= 10


# -- memory -------------------------------------------------------------------------------------


async def live_and_die_cleanly(how: str) -> None:
    owner = Owns(add_all(Lives(), Deaf()))
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            await started(owner, nursery)
            if how == "kill":
                owner.kill()
            elif how == "cancel":
                nursery.cancel_scope.cancel()
                scope.cancel()


@pytest.mark.parametrize("how", ["kill", "cancel"])
async def test_t7_a_clean_death_with_children_leaves_nothing_to_the_collector(how: str) -> None:
    await live_and_die_cleanly(how)
    gc.collect()
    gc.disable()
    old = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await live_and_die_cleanly(how)
        gc.collect()
        garbage = [type(thing).__name__ for thing in gc.garbage]
    finally:
        gc.set_debug(old)
        gc.garbage.clear()
        gc.enable()

    assert "Catacomb" not in garbage
    assert "Tomb" not in garbage
    assert "traceback" not in garbage


async def test_t12_a_child_that_adds_another_while_it_reports_disturbs_nothing() -> None:
    class Adds(Lives):
        def report(self) -> str:
            catacomb.add(Lives(forever))
            return "added"

    catacomb = Catacomb()
    async with catacomb:
        catacomb.add(Adds(forever))

        assert catacomb.report().children == ("added",)
