"""Timers from inside: when the heap is swept, when the alarm moves, who goes first when late."""

import math
import random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency._timers import _LATE, Timer, Timers


def nothing(argument: object) -> None:
    """Be fired."""


def spent_and_live(spent: int, live: int) -> Timers:
    """Timers of which so many were cancelled and so many were not, in a bad order for a heap."""
    timers = Timers()
    made = [timers.add(when, nothing, None) for when in range(spent + live)]
    for timer in made[:spent]:
        timers.cancel(timer, None)
    return timers


@pytest.mark.parametrize(
    "spent, live, kept",
    [
        (64, 10, 74),  # few spent ones are not worth it
        (65, 10, 10),
        (66, 66, 132),  # nor if they are no more than the live ones
        (67, 66, 66),
        (100, 150, 250),
    ],
)
def test_spent_timers_are_swept_out_when_there_are_many_and_more_than_live_ones(
    spent: int, live: int, kept: int
) -> None:
    timers = spent_and_live(spent, live)

    assert len(timers) == live
    assert len(timers._heap) == kept


async def test_after_a_sweep_the_others_still_fire_in_order(autojump_clock: MockClock) -> None:
    timers = Timers()
    fired: list[object] = []
    times = list(range(1, 301))
    random.Random(1).shuffle(times)
    made = [timers.add(when, fired.append, when) for when in times]
    for timer, when in zip(made[:200], times, strict=False):
        timers.cancel(timer, when)
    assert len(timers._heap) < 200
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(400)
        nursery.cancel_scope.cancel()

    assert fired == sorted(times[200:])


def test_the_alarm_moves_only_for_an_earlier_timer() -> None:
    timers = Timers()
    alarms: list[float] = []
    for when in (5, 5, 6, 4):
        timers.add(when, nothing, None)
        alarms.append(timers._armed)

    assert alarms == [5, 5, 5, 4]


def test_timers_of_one_moment_are_in_no_order() -> None:
    one, other = Timer(1.0, nothing, None), Timer(1.0, nothing, None)

    assert not one < other
    assert not other < one


async def test_rest_keeps_the_alarm_while_a_timer_is_live(autojump_clock: MockClock) -> None:
    timers = Timers()
    fired: list[object] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.add(5, fired.append, "live")
        await wait_all_tasks_blocked()
        timers.rest()
        await trio.sleep(6)
        nursery.cancel_scope.cancel()

    assert fired == ["live"]


# Trio takes the tasks of a step in either order, so one time says nothing.
@pytest.mark.parametrize("_", range(12))
async def test_who_is_due_as_well_goes_first_if_all_are_woken_late(
    _: int, mock_clock: MockClock
) -> None:
    """As after the program was stopped for a while: a jump of the clock over both deadlines."""
    timers = Timers()
    happened: list[object] = []

    async def other() -> None:
        await trio.sleep(0.2)
        happened.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        nursery.start_soon(other)
        timers.add(trio.current_time() + 0.1, happened.append, "timer")
        await wait_all_tasks_blocked()
        mock_clock.jump(0.25)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert happened == ["other", "timer"]


@pytest.mark.parametrize("late", [0.0, _LATE])
@pytest.mark.parametrize("_", range(12))
async def test_who_is_in_time_waits_for_nobody(late: float, _: int, mock_clock: MockClock) -> None:
    timers = Timers()
    happened: list[object] = []

    async def other() -> None:
        await trio.sleep(_LATE)
        await trio.lowlevel.checkpoint()
        happened.append("other, a step later")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        nursery.start_soon(other)
        timers.add(_LATE, happened.append, "timer")
        await wait_all_tasks_blocked()
        mock_clock.jump(_LATE + late)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert happened == ["timer", "other, a step later"]


def test_without_any_timer_the_alarm_is_never() -> None:
    assert Timers()._armed == math.inf
