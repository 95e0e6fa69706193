"""Observers from inside: who is answered, with what, and when nobody watches any more."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import Dying, Engine, LifetimeError, NotFound
from trioworker.dependency._node import Node
from trioworker.dependency._observers import EventStream, Observers
from trioworker.dependency._states import State


def test_nobody_watches_at_first() -> None:
    assert not Observers().active


async def test_of_several_who_wait_each_is_answered_by_its_own_state() -> None:
    observers, node = Observers(), Node("db")
    answers: dict[str, State] = {}

    async def wait(state: State) -> None:
        answers[state] = await observers.wait_state(node, {state})

    def move(state: State) -> None:
        before, node.state = node.state, state
        observers.moved(node, before, None, 0.0)

    async with trio.open_nursery() as nursery:
        for state in (State.STARTED, State.STARTING, State.WAITING):
            nursery.start_soon(wait, state)
        await wait_all_tasks_blocked()
        move(State.WAITING)
        move(State.STARTING)
        await wait_all_tasks_blocked()
        assert answers == {"waiting": State.WAITING, "starting": State.STARTING}
        assert observers.active
        move(State.STARTED)
        await wait_all_tasks_blocked()

    assert answers["started"] is State.STARTED
    assert not observers.active


@pytest.mark.parametrize("others", [0, 1])
async def test_the_first_of_two_states_that_pass_in_one_step_is_the_answer(others: int) -> None:
    observers, node = Observers(), Node("db")
    answers: list[State] = []

    async def wait() -> None:
        answers.append(await observers.wait_state(node, {State.STARTED, State.STOPPING}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for _ in range(others):
            nursery.start_soon(observers.wait_state, node, {State.DONE})
        await wait_all_tasks_blocked()
        for state in (State.STARTED, State.STOPPING):
            before, node.state = node.state, state
            observers.moved(node, before, None, 0.0)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert answers == [State.STARTED]


async def test_who_waits_for_what_is_uninstalled_is_told_what_it_waited_for() -> None:
    observers, node = Observers(), Node("db")
    node.state = State.WAITING
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(NotFound) as caught:
                await observers.wait_state(node, {State.STARTED, State.DONE})
            assert str(caught.value) == '"db" was uninstalled before it was done or started'

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        node.state = State.ABSENT
        observers.moved(node, State.WAITING, None, 0.0)


async def test_after_the_end_nobody_watches_from_that_moment_on() -> None:
    observers, node = Observers(), Node("db")
    refusal = Dying("the engine is dead")
    refused: list[BaseException] = []

    async def wait() -> None:
        try:
            await observers.wait_state(node, {State.STARTED})
        except Dying as exc:
            refused.append(exc)

    with EventStream(observers, 10) as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(observers.wait_change_of_quiet)
            await wait_all_tasks_blocked()
            observers.end(refusal)
            assert not observers.active
        assert [event async for event in events] == []

    with EventStream(observers, 10) as late:
        assert not observers.active
        assert [event async for event in late] == []
    assert refused == [refusal]


async def test_quiet_that_was_waited_for_is_no_longer_watched_for() -> None:
    observers = Observers()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(observers.wait_change_of_quiet)
        await wait_all_tasks_blocked()
        assert observers.active
        observers.quiet()
        assert not observers.active


async def test_a_stream_gives_all_it_has_at_once_and_goes_on() -> None:
    observers, node = Observers(), Node("db")
    with EventStream(observers, 10) as events:
        assert events.take() == []
        for state in (State.WAITING, State.STARTING, State.STARTED):
            before, node.state = node.state, state
            observers.moved(node, before, None, 0.0)
        first = await anext(events)
        assert [first.after, *(event.after for event in events.take())] == [
            "waiting",
            "starting",
            "started",
        ]
        assert events.take() == []
        node.state = State.DRAINING
        observers.moved(node, State.STARTED, None, 0.0)
        assert (await anext(events)).after == "draining"


async def test_a_stream_that_nobody_has_left_yet_costs_nothing_after_the_end() -> None:
    observers = Observers()
    with EventStream(observers, 10):
        observers.end(Dying("the engine is dead"))
        assert not observers.active


async def test_a_stream_that_was_not_entered_is_refused_instead_of_waiting_for_ever() -> None:
    stream = Engine().events()

    with pytest.raises(LifetimeError, match=r"write 'with engine.events\(\) as events:'"):
        await anext(stream)


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None, "x"])
def test_a_capacity_is_a_count(capacity: Any) -> None:
    with pytest.raises(ValueError, match=r"events\(capacity=...\) must be an int of at least 1"):
        Engine().events(capacity)
