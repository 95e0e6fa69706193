"""The table of states, walked completely: every pair is in the table, or refused."""

import itertools

import pytest

from trioworker import InternalError
from trioworker.dependency._engine import Engine
from trioworker.dependency._node import Node
from trioworker.dependency._states import (
    BUSY,
    MOVING,
    RUNNING,
    TABLE,
    Event,
    Intention,
    State,
)

PAIRS = list(itertools.product(State, Event))
ENDS = {
    Event.AGAIN,
    Event.LATER,
    Event.RETURN,
    Event.GIVE_UP,
    Event.HOLD,
    Event.SHUT_DOWN,
    Event.REMOVE,
}


def node_in(state: State) -> Node:
    node = Node("api")
    node.state = state
    node.since = 1.0
    return node


@pytest.mark.parametrize("state, event", [(s, e) for s, e in PAIRS if e in TABLE[s]], ids=str)
def test_a_pair_in_the_table_moves_to_where_the_table_says(state: State, event: Event) -> None:
    engine, node = Engine(), node_in(state)

    engine._machine._move(node, event, 2.0)

    assert node.state is TABLE[state][event]
    assert node.since == (1.0 if node.state is state else 2.0)


@pytest.mark.parametrize("state, event", [(s, e) for s, e in PAIRS if e not in TABLE[s]], ids=str)
def test_a_pair_that_is_not_in_the_table_is_refused_naming_both(state: State, event: Event) -> None:
    engine, node = Engine(), node_in(state)

    with pytest.raises(InternalError) as caught:
        engine._machine._move(node, event, 2.0)

    assert node.state is state
    assert node.since == 1.0
    assert '"api"' in str(caught.value)
    assert str(event) in str(caught.value)
    assert str(state) in str(caught.value)
    assert "report" in str(caught.value)


@pytest.mark.parametrize("state, event", [(s, e) for s, e in PAIRS if e not in TABLE[s]], ids=str)
def test_a_refused_pair_changes_nothing_in_the_node(state: State, event: Event) -> None:
    engine, node = Engine(), node_in(state)
    before = {slot: getattr(node, slot) for slot in Node.__slots__}

    with pytest.raises(InternalError):
        engine._machine._move(node, event, 2.0)

    assert {slot: getattr(node, slot) for slot in Node.__slots__} == before
    assert engine._machine.moving == 0


def test_the_table_has_a_row_for_every_state_and_leads_only_to_states() -> None:
    assert set(TABLE) == set(State)
    assert {after for row in TABLE.values() for after in row.values()} <= set(State)
    assert {event for row in TABLE.values() for event in row} == set(Event)


def test_every_state_can_be_reached_from_absent_and_absent_from_every_state() -> None:
    def reach(start: State) -> set[State]:
        seen, todo = {start}, [start]
        while todo:
            for after in TABLE[todo.pop()].values():
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return seen

    assert reach(State.ABSENT) == set(State)
    for state in State:
        assert State.ABSENT in reach(state), state


def test_running_are_the_states_that_a_run_can_end_in() -> None:
    """AGAIN is an end only a run can have: resting ends are also had by those without a run."""
    assert {state for state, row in TABLE.items() if Event.AGAIN in row} == RUNNING
    for state in RUNNING:
        assert set(TABLE[state]) >= ENDS, state


def test_only_start_leads_from_no_run_to_a_run_and_only_ends_lead_out() -> None:
    for state, row in TABLE.items():
        for event, after in row.items():
            if state not in RUNNING and after in RUNNING:
                assert event is Event.START
            if state in RUNNING and after not in RUNNING:
                assert event in ENDS


def test_started_is_entered_only_by_ready_and_only_from_starting() -> None:
    ways = {
        (s, e) for s, row in TABLE.items() for e, after in row.items() if after is State.STARTED
    }

    assert ways == {(State.STARTING, Event.READY)}


def test_a_run_that_was_asked_to_stop_never_goes_back_up() -> None:
    """Down is draining, stopping, out: whatever else happens to it."""
    assert set(TABLE[State.DRAINING].values()) & RUNNING == {State.DRAINING, State.STOPPING}
    assert set(TABLE[State.STOPPING].values()) & RUNNING == {State.STOPPING}


def test_moving_are_busy_and_delayed() -> None:
    assert BUSY | {State.DELAYED} == MOVING
    assert RUNNING - {State.STARTED} == BUSY


def test_a_held_manifold_is_left_only_by_release_shutdown_and_removal() -> None:
    assert {e for e, after in TABLE[State.HELD].items() if after is not State.HELD} == {
        Event.RELEASE,
        Event.SHUT_DOWN,
        Event.REMOVE,
    }


def test_stopped_is_left_only_by_removal() -> None:
    assert {e for e, after in TABLE[State.STOPPED].items() if after is not State.STOPPED} == {
        Event.REMOVE
    }


def test_every_state_can_be_shut_down_but_absent() -> None:
    for state in set(State) - {State.ABSENT}:
        assert TABLE[state][Event.SHUT_DOWN] is State.STOPPED


def test_intentions_are_ordered_from_again_to_shutdown() -> None:
    assert Intention.AGAIN < Intention.HOLD < Intention.UNINSTALL < Intention.SHUTDOWN
    assert sorted(Intention) == list(Intention)


@pytest.mark.parametrize("kind", [State, Event])
def test_members_are_strings_that_hash_like_strings(kind: type[State] | type[Event]) -> None:
    for member in kind:
        assert member == str(member)
        assert {str(member): 1}[member] == 1
