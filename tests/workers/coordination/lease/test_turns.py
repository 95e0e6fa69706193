"""Turns: those in a hurry first, and none is lost."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.workers.coordination.lease._turns import Turns


async def test_who_is_in_a_hurry_goes_first_and_others_in_their_order(
    autojump_clock: MockClock,
) -> None:
    turns, order = Turns(1), list[str]()

    async def go(name: str) -> None:
        async with turns.turn(hurry=name.startswith("hurried")):
            order.append(name)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for name in ("one", "two", "three", "hurried-1", "hurried-2"):
            nursery.start_soon(go, name)
            await wait_all_tasks_blocked()

    assert order == ["one", "hurried-1", "hurried-2", "two", "three"]


async def test_a_turn_is_not_lost_by_who_gives_up(autojump_clock: MockClock) -> None:
    turns = Turns(1)
    async with turns.turn(hurry=False):
        with trio.move_on_after(1):
            async with turns.turn(hurry=True):
                raise AssertionError

    with trio.fail_after(1):
        async with turns.turn(hurry=False):
            pass


async def test_who_is_woken_and_cancelled_at_that_moment_passes_it_on() -> None:
    turns = Turns(1)
    scope = trio.CancelScope()

    async def waiting() -> None:
        with scope:
            async with turns.turn(hurry=False):
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        async with turns.turn(hurry=False):
            nursery.start_soon(waiting)
            await wait_all_tasks_blocked()
        scope.cancel()

    with trio.fail_after(1):
        async with turns.turn(hurry=False):
            pass
