"""The numbers in a report, from made-up nodes and a made-up clock."""

from trioworker import Tomb
from trioworker.dependency._manifold import Manifold
from trioworker.dependency._node import Node, Run
from trioworker.dependency._report import WORKERS_TIME, engine_report, engine_view
from trioworker.dependency._states import State
from trioworker.dependency._timers import Timer


class Telling:
    def report(self) -> str:
        return "fine"


async def start(get: object, *, task_status: object) -> None:
    """Be of no interest."""


def serving(name: str) -> Node:
    node = Node(name)
    node.state, node.since = State.STARTED, 97.0
    node.run = Run(node, Manifold(start), 97.0, (), lambda run, value: None)
    node.run.ready, node.run.value = 97.0, Telling()
    return node


def test_workers_are_asked_until_their_time_is_over_and_not_at_its_end() -> None:
    end = 5.0 + WORKERS_TIME
    readings = iter([5.0, end - 1e-6, end, end + 1.0])

    report = engine_report(
        "engine",
        Tomb().report(),
        [serving("a"), serving("b"), serving("c")],
        100.0,
        lambda: next(readings),
    )

    assert [manifold.worker for manifold in report.manifolds.values()] == [
        "fine",
        "not asked: the others took too long",
        "not asked: the others took too long",
    ]


def test_a_view_asks_workers_until_their_time_is_over_however_long_nobody_looks() -> None:
    half = WORKERS_TIME / 2
    readings = iter([0.0, half, 100.0, 100.0 + half, 200.0, 200.0])
    nodes = [serving("a"), serving("b"), serving("c")]

    view = engine_view("engine", Tomb().report(), nodes, (lambda: 100.0, lambda: next(readings)))

    assert [manifold.worker for manifold in view.manifolds.values()] == [
        "fine",
        "fine",
        "not asked: the others took too long",
    ]


def test_a_view_asks_no_worker_at_the_very_end_of_their_time() -> None:
    readings = iter([0.0, 0.0, 0.0, WORKERS_TIME, 7.0, 7.0])
    nodes = [serving("a"), serving("b"), serving("c")]

    view = engine_view("engine", Tomb().report(), nodes, (lambda: 100.0, lambda: next(readings)))

    assert [manifold.worker for manifold in view.manifolds.values()] == [
        "fine",
        "fine",
        "not asked: the others took too long",
    ]


def test_what_a_view_counts_is_the_time_that_a_worker_takes_whatever_the_clock_shows() -> None:
    nodes = [serving("a"), serving("b")]

    view = engine_view("engine", Tomb().report(), nodes, (lambda: 100.0, lambda: 5000.0))

    assert [manifold.worker for manifold in view.manifolds.values()] == ["fine", "fine"]


def test_the_unready_are_in_the_order_of_installation_but_the_causes_come_first() -> None:
    states = {
        "d": State.WAITING,
        "c": State.DELAYED,
        "b": State.WAITING,
        "a": State.STARTING,
        "e": State.STARTED,
    }
    nodes = [serving(name) for name in states]
    for node in nodes:
        node.state = states[node.name]

    report = engine_report("engine", Tomb().report(), nodes, 100.0, lambda: 0.0)

    assert [manifold.name for manifold in report.unready()] == ["c", "a", "d", "b"]


def test_a_view_is_made_when_it_is_looked_at() -> None:
    node = serving("a")
    view = engine_view("engine", Tomb().report(), [node], (lambda: 100.0, lambda: 0.0))
    node.state = State.STOPPING

    assert (list(view.manifolds), len(view.manifolds)) == (["a"], 1)
    assert view.manifolds["a"].state == "stopping"
    assert view.manifolds["a"].since == 3.0
    assert "b" not in view.manifolds


def test_times_in_a_report_are_seconds_from_now() -> None:
    node = serving("a")
    node.delay = Timer(102.5, lambda _: None, None)
    late = serving("b")
    late.delay = Timer(99.0, lambda _: None, None)

    report = engine_report("engine", Tomb().report(), [node, late], 100.0, lambda: 0.0)

    assert report.manifolds["a"].since == 3.0
    assert report.manifolds["a"].retry_in == 2.5
    assert report.manifolds["b"].retry_in == 0.0
