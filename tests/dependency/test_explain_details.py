"""What is said of a manifold in each state, word for word, from made-up nodes."""

import pytest

from trioworker._restart import Restarts
from trioworker.dependency._explain import _holding_up, explained
from trioworker.dependency._manifold import Manifold
from trioworker.dependency._node import Entry, Node, Run
from trioworker.dependency._states import State
from trioworker.dependency._timers import Timer

NOW = 100.0


def node_in(state: State, name: str = "api", *, since: float = 97.0) -> Node:
    node = Node(name)
    node.state = state
    node.since = since
    return node


def others(*names: str, state: State = State.WAITING) -> tuple[Node, ...]:
    return tuple(node_in(state, name) for name in names)


def said(node: Node, *, is_open: bool = True) -> str:
    return str(explained(node, NOW, is_open=is_open))


def give_run(node: Node, *, cause: str | None = None) -> Run:
    async def start(get: object, *, task_status: object) -> None:
        """Be of no interest."""

    run = node.run = Run(node, Manifold(start), node.since, (), lambda run, value: None)
    run.cause = cause
    return run


def give_delay(node: Node, seconds: float, failures: int = 0) -> None:
    node.delay = Timer(NOW + seconds, lambda _: None, None)
    node.restarts = Restarts()
    node.restarts.failures = failures


def ended(*, kind: str = "returned", error: str | None = None, ready: bool = True) -> Entry:
    return (90.0, kind, error, (), None, 1.0, ready, 0)


def test_a_missing_one_names_all_its_inputs() -> None:
    node = node_in(State.WAITING)
    node.missing = "Missing: no key"
    node.required, node.optional, node.live = others("db"), others("cache"), others("config")

    assert said(node) == "api waits for a change of its inputs (db, cache, config): Missing: no key"


def test_a_missing_one_without_inputs_has_none() -> None:
    node = node_in(State.WAITING)
    node.missing = "Missing: no key"

    assert said(node) == "api waits for a change of its inputs (it has none): Missing: no key"


def test_one_that_waits_for_several_names_them_and_goes_on_with_one_that_does_not_wait() -> None:
    node = node_in(State.WAITING)
    node.required = (
        *others("a", "b"),
        node_in(State.HELD, "c"),
        node_in(State.STARTED, "d"),
    )

    assert said(node) == "api waits for a, b, c; c is held by an operator, for 3 s"


def test_one_that_waits_for_optional_inputs_names_them() -> None:
    node = node_in(State.WAITING)
    node.optional = others("a", "b", state=State.STOPPING)

    assert said(node) == (
        "api waits until its optional a, b has settled; a has been stopping for 3 s"
    )


def test_one_that_could_start() -> None:
    assert said(node_in(State.WAITING)) == "api is about to start"
    assert said(node_in(State.WAITING), is_open=False) == "api waits for the engine to run"


@pytest.mark.parametrize(
    "failures, nth",
    [
        (0, ""),
        (1, ""),
        (2, ", 2nd failure"),
        (3, ", 3rd failure"),
        (4, ", 4th failure"),
        (10, ", 10th failure"),
        (11, ", 11th failure"),
        (12, ", 12th failure"),
        (13, ", 13th failure"),
        (14, ", 14th failure"),
        (21, ", 21st failure"),
        (22, ", 22nd failure"),
        (23, ", 23rd failure"),
        (101, ", 101st failure"),
        (111, ", 111th failure"),
        (112, ", 112th failure"),
        (113, ", 113th failure"),
        (1002, ", 1002nd failure"),
    ],
)
def test_one_that_backs_off_counts_its_failures(failures: int, nth: str) -> None:
    node = node_in(State.DELAYED)
    node.why = "OSError: gone"
    give_delay(node, 2.5, failures)

    assert said(node) == f"api is backing off 2.5 s more after OSError: gone{nth}"


def test_one_whose_delay_is_over_or_unknown_backs_off_no_more() -> None:
    node = node_in(State.DELAYED)
    assert said(node) == "api is backing off 0 ms more"

    give_delay(node, -3.0)
    assert said(node) == "api is backing off 0 ms more"


def test_one_whose_start_has_no_task_yet() -> None:
    node = node_in(State.STARTING)
    told = "api has been starting for 3 s without calling started(); it has not begun to run"
    assert said(node) == told

    give_run(node)
    assert said(node) == told


def test_one_that_starts_again_says_why() -> None:
    node = node_in(State.STARTING)
    node.history = (ended(),)

    assert said(node) == (
        "api has been starting for 3 s without calling started(); it has not begun to run; "
        "its last run ended (returned)"
    )


def test_one_that_is_started_says_for_how_long_and_no_more() -> None:
    assert said(node_in(State.STARTED)) == "api has been started for 3 s"


def test_one_that_is_started_names_the_optional_inputs_that_are_not_there() -> None:
    node = node_in(State.STARTED)
    node.history = (ended(),)
    node.optional = others("a", "b", state=State.ABSENT)

    assert said(node) == (
        "api has been started for 3 s; its last run ended (returned); "
        "its optional a, b is not installed"
    )


def test_one_that_drains_names_all_its_users() -> None:
    node = node_in(State.DRAINING)
    give_run(node, cause="hold('api')")
    users = others("a", "b", state=State.STOPPING)
    node.required_by = dict.fromkeys(users)
    for user in users:
        give_run(user).uses = (node,)

    assert said(node) == (
        "api stops (hold('api')) once a, b has ended; a has been stopping for 3 s"
    )


def test_one_that_drains_without_users_is_about_to_stop() -> None:
    node = node_in(State.DRAINING)
    give_run(node, cause="hold('api')")

    assert said(node) == "api is about to stop (hold('api'))"


def test_one_that_stops_says_for_how_long_why_and_how() -> None:
    node = node_in(State.STOPPING)
    run = give_run(node, cause="hold('api')")
    assert said(node) == "api has been stopping for 3 s (hold('api'))"

    run.soft = True
    assert said(node) == (
        "api has been stopping for 3 s (hold('api')); it was asked and not cancelled yet"
    )

    run.stuck, run.place = ("app.py:1 in run",), "app.py:1 in run"
    assert said(node) == (
        "api has been stopping for 3 s (hold('api')) and is stuck at app.py:1 in run"
    )


def test_one_that_is_done_says_since_when_and_whether_it_was_ever_ready() -> None:
    node = node_in(State.DONE)
    assert said(node) == "api is done: it returned without error 3 s ago"

    node.history = (ended(ready=True),)
    assert said(node) == "api is done: it returned without error 3 s ago"

    node.history = (ended(ready=False),)
    assert said(node) == (
        "api is done: it returned without error and without having called started(), 3 s ago"
    )


def test_one_that_failed_says_after_what() -> None:
    node = node_in(State.FAILED)
    assert said(node) == "api was restarted too often and failed"

    node.why = "OSError: gone"
    assert said(node) == "api was restarted too often and failed after OSError: gone"


def test_waiting_in_a_circle_is_said_once() -> None:
    a, b = node_in(State.WAITING, "a"), node_in(State.WAITING, "b")
    a.required, b.required = (b,), (a,)

    assert said(a) == "a waits for b; b waits for a"


def test_who_does_not_hold_it_up_does_not_bring_in_his_own_users() -> None:
    db, api = node_in(State.DRAINING, "db"), node_in(State.STOPPING)
    web = node_in(State.STARTED, "web")
    db.required_by, api.required_by = {api: None}, {web: None}
    stuck = give_run(api)
    stuck.uses, stuck.stuck = (db,), ("app.py:1 in run",)
    give_run(web).uses = (api,)

    assert _holding_up(db) == []
