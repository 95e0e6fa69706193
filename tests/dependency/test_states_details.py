"""The table of states and its sets, told a second time: changing one is meant to be seen here."""

import pytest

from trioworker import InternalError
from trioworker.dependency._states import (
    BUSY,
    MOVING,
    RUNNING,
    TABLE,
    Event,
    Intention,
    State,
    impossible,
)

WITHOUT_RUN = "hold>held, shut down>stopped, remove>absent"
END = "again>waiting, later>delayed, return>done, give up>failed, " + WITHOUT_RUN
ROWS = {
    "absent": "install>waiting",
    "waiting": f"start>starting, restart>waiting, {WITHOUT_RUN}",
    "delayed": f"wake>waiting, restart>waiting, {WITHOUT_RUN}",
    "starting": f"ready>started, stop>draining, fall>stopping, {END}",
    "started": f"stop>draining, fall>stopping, {END}",
    "draining": f"ready>draining, stop>draining, drained>stopping, fall>stopping, {END}",
    "stopping": f"ready>stopping, stop>stopping, fall>stopping, {END}",
    "done": f"wake>waiting, restart>waiting, {WITHOUT_RUN}",
    "failed": f"restart>waiting, {WITHOUT_RUN}",
    "held": f"release>waiting, {WITHOUT_RUN}",
    "stopped": "shut down>stopped, remove>absent",
}


@pytest.mark.parametrize("state", ROWS)
def test_a_state_has_these_events_and_no_others(state: str) -> None:
    told = {f"{event}>{after}" for event, after in TABLE[State(state)].items()}

    assert told == set(ROWS[state].split(", "))


def test_the_sets_of_states() -> None:
    assert {*map(str, RUNNING)} == {"starting", "started", "draining", "stopping"}
    assert {*map(str, MOVING)} == {"delayed", "starting", "draining", "stopping"}
    assert {*map(str, BUSY)} == {"starting", "draining", "stopping"}


def test_a_later_intention_outranks_an_earlier_one() -> None:
    assert [intention.name for intention in sorted(Intention)] == [
        "AGAIN",
        "HOLD",
        "UNINSTALL",
        "SHUTDOWN",
    ]
    assert [*map(int, Intention)] == [0, 1, 2, 3]


def test_an_impossible_pair_is_told_as_what_it_is() -> None:
    error = impossible("db", State.DONE, Event.GIVE_UP)

    assert isinstance(error, InternalError)
    assert str(error) == (
        '"db" manifold: "give up" is impossible while it is done; please report this'
    )
