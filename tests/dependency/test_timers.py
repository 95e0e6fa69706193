"""One heap, one task, one deadline."""

import math
import random

import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency._timers import Timer, Timers


async def test_timers_fire_at_their_time_in_the_order_of_their_times(
    autojump_clock: MockClock,
) -> None:
    timers = Timers()
    fired: list[tuple[float, object]] = []

    def fire(argument: object) -> None:
        fired.append((trio.current_time(), argument))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        times = list(range(1, 50))
        random.Random(1).shuffle(times)
        for when in times:
            timers.add(when, fire, when)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    assert fired == [(when, when) for when in range(1, 50)]
    assert len(timers) == 0


async def test_a_cancelled_timer_never_fires_and_cancelling_is_idempotent(
    autojump_clock: MockClock,
) -> None:
    timers = Timers()
    fired: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        kept = [timers.add(1 + i, fired.append, i) for i in range(10)]
        for i in range(0, 10, 2):
            timers.cancel(kept[i], i)
            timers.cancel(kept[i], i)
        timers.cancel(None, 1)
        assert len(timers) == 5
        await trio.sleep(20)
        timers.cancel(kept[1], 1)
        nursery.cancel_scope.cancel()

    assert fired == [1, 3, 5, 7, 9]
    assert len(timers) == 0


async def test_an_earlier_timer_moves_the_alarm_forward(autojump_clock: MockClock) -> None:
    timers = Timers()
    fired: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.add(100, fired.append, "late")
        await wait_all_tasks_blocked()
        timers.add(1, fired.append, "early")
        await trio.sleep(2)
        assert fired == ["early"]
        nursery.cancel_scope.cancel()


async def test_a_timer_may_add_and_cancel_others_while_it_fires(autojump_clock: MockClock) -> None:
    timers = Timers()
    fired: list[object] = []

    def fire(argument: object) -> None:
        fired.append(argument)
        timers.cancel(victim, "cancelled")
        timers.add(trio.current_time(), fired.append, "added, due now")
        timers.add(trio.current_time() + 1, fired.append, "added, due later")

    victim = timers.add(2, fired.append, "cancelled")
    timers.add(2 - 1e-9, fire, "first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()

    assert fired == ["first", "added, due now", "added, due later"]
    assert len(timers) == 0


async def test_a_timer_whose_time_has_passed_fires_at_once(autojump_clock: MockClock) -> None:
    timers = Timers()
    fired: list[float] = []
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.add(1, lambda _: fired.append(trio.current_time()), None)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert fired == [5]


async def test_without_a_live_timer_nobody_wakes(mock_clock: MockClock) -> None:
    timers = Timers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await wait_all_tasks_blocked()
        timers.cancel(timers.add(5, lambda _: None, None), None)
        timers.rest()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        nursery.cancel_scope.cancel()


def test_ten_thousand_cancelled_timers_leave_no_more_than_a_few_behind() -> None:
    timers = Timers()
    keep = timers.add(1e9, lambda _: None, None)
    for i in range(10_000):
        timers.cancel(timers.add(i, lambda _: None, None), None)

    assert len(timers) == 1
    assert len(timers._heap) < 200
    assert keep.arguments


async def test_those_of_one_instant_share_a_timer_and_are_called_in_turn(
    autojump_clock: MockClock,
) -> None:
    timers = Timers()
    fired: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        shared = timers.add(2, fired.append, 0)
        for i in range(1, 5):
            assert timers.add(2, fired.append, i) is shared
        assert len(timers) == 1
        assert timers.add(2, lambda _: None, 0) is not shared  # another thing to do
        assert timers.add(3, fired.append, 0) is not shared  # another instant
        timers.cancel(shared, 3)
        await trio.sleep(2.5)
        nursery.cancel_scope.cancel()

    assert fired == [0, 1, 2, 4]


async def test_who_shares_a_timer_may_cancel_and_add_while_it_fires(
    autojump_clock: MockClock,
) -> None:
    timers = Timers()
    fired: list[object] = []

    def fire(argument: str) -> None:
        fired.append(argument)
        if argument == "first":
            timers.cancel(timer, "cancelled")
            assert timers.add(2, fire, "added") is timer
        if argument == "added":
            timers.add(2, fire, "added last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timer = timers.add(2, fire, "first")
        for argument in ("cancelled", "second"):
            assert timers.add(2, fire, argument) is timer
        await trio.sleep(3)
        nursery.cancel_scope.cancel()

    assert fired == ["first", "second", "added", "added last"]
    assert len(timers) == 0


def test_a_spent_timer_is_not_shared() -> None:
    timers = Timers()
    spent = timers.add(2, print, 1)
    timers.cancel(spent, 1)

    assert timers.add(2, print, 2) is not spent
    assert len(timers) == 1


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 3)),
            st.tuples(st.just("cancel"), st.floats(0, 1)),
        )
    )
)
def test_the_count_of_live_timers_is_right_after_any_sequence(
    steps: list[tuple[str, float]],
) -> None:
    timers = Timers()
    live: list[tuple[Timer, int]] = []
    for i, (step, number) in enumerate(steps):
        if step == "add":
            live.append((timers.add(number, print, i), i))
        elif live:
            timers.cancel(*live.pop(int(number * (len(live) - 1))))

        assert len(timers) == len({timer for timer, _ in live})
        held = [(timer, i) for timer in timers._heap for i in timer.arguments]
        assert len(held) == len(live)
        assert set(held) == set(live)
