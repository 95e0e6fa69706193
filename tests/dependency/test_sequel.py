"""What follows the end of a run: each answer, and which of them comes first."""

from collections.abc import Callable
from typing import Any

import pytest

from trioworker import Bounce, Missing, RestartPolicy, RetryAfter
from trioworker.dependency import Manifold
from trioworker.dependency._node import Node, Run
from trioworker.dependency._sequel import sequel
from trioworker.dependency._states import Event, Intention
from trioworker.dependency._verdicts import Kind

NOW = 1000.0
POLICY = RestartPolicy(
    error_delay=3, factor=2, jitter=0, bounce_delay=0.5, reset_after=60, max_restarts=2, period=100
)
FAILED = (Kind.ERROR, OSError("no route"))
AGAIN = (Event.AGAIN, 0.0)


async def start(get: object, *, task_status: object) -> None:
    """Be of no interest."""


def ended(*, ready_for: float | None = 1.0, **fields: object) -> Run:
    """Return a run that has just ended, `ready_for` seconds after it became ready."""
    node = Node("n")
    run = Run(node, Manifold(start), NOW - 100, (), lambda run, value: None)
    run.ready = None if ready_for is None else NOW - ready_for
    for name, value in fields.items():
        setattr(node if name in ("intention", "changed") else run, name, value)
    return run


def middle() -> float:
    return 0.5


def unexpected() -> float:
    raise AssertionError("nothing is drawn when there is no delay")


def follows(
    run: Run,
    verdict: tuple[Kind, BaseException | None],
    policy: RestartPolicy = POLICY,
    random: Callable[[], float] = middle,
) -> tuple[Event, float]:
    return sequel(run, verdict, policy, NOW, random)


@pytest.mark.parametrize(
    "intention, event",
    [
        (Intention.HOLD, Event.HOLD),
        (Intention.UNINSTALL, Event.REMOVE),
        (Intention.SHUTDOWN, Event.SHUT_DOWN),
    ],
)
@pytest.mark.parametrize("planned", [True, False])
def test_what_the_node_is_meant_for_comes_before_all_else(
    *, intention: Intention, event: Event, planned: bool
) -> None:
    run = ended(intention=intention, planned=planned)

    assert follows(run, FAILED, random=unexpected) == (event, 0.0)
    assert run.node.restarts is None


@pytest.mark.parametrize("verdict", [FAILED, (Kind.RETURNED, None), (Kind.RETRY, RetryAfter(9))])
def test_an_end_that_the_engine_wanted_counts_as_no_failure(verdict: Any) -> None:
    run = ended(planned=True)

    assert follows(run, verdict, random=unexpected) == AGAIN
    assert run.node.restarts is None


def test_what_misses_an_input_starts_again_when_it_can() -> None:
    assert follows(ended(), (Kind.MISSING, Missing("db")), random=unexpected) == AGAIN


@pytest.mark.parametrize("changed, answer", [(False, (Event.RETURN, 0.0)), (True, AGAIN)])
def test_what_returned_is_done_unless_an_input_changed_meanwhile(
    *, changed: bool, answer: tuple[Event, float]
) -> None:
    assert follows(ended(changed=changed), (Kind.RETURNED, None), random=unexpected) == answer


def test_a_delay_that_was_asked_for_is_taken_from_within_a_group() -> None:
    error = ExceptionGroup("both", [OSError(), ExceptionGroup("inner", [RetryAfter(7)])])

    assert follows(ended(), (Kind.RETRY, error)) == (Event.LATER, 7)


def test_a_delay_that_was_asked_for_never_counts_towards_the_limit() -> None:
    run = ended()
    answers = {follows(run, (Kind.RETRY, RetryAfter(7))) for _ in range(5)}

    assert answers == {(Event.LATER, 7)}


def test_errors_grow_the_delay_until_they_are_too_many() -> None:
    run = ended(ready_for=None)

    assert [follows(run, FAILED) for _ in range(3)] == [
        (Event.LATER, 3),
        (Event.LATER, 6),
        (Event.GIVE_UP, 0.0),
    ]


def test_a_dying_dependency_waits_as_long_as_the_last_error_and_counts_for_nothing() -> None:
    run = ended(ready_for=None)
    follows(run, FAILED)
    answers = {follows(run, (Kind.DYING, None)) for _ in range(5)}

    assert len(answers) == 1
    assert follows(run, FAILED) == (Event.LATER, 6)


def test_a_bounce_waits_for_its_own_delay_and_counts_towards_the_limit() -> None:
    run = ended()
    answers = [follows(run, (Kind.BOUNCE, Bounce())) for _ in range(3)]

    assert answers == [(Event.LATER, 0.5), (Event.LATER, 0.5), (Event.GIVE_UP, 0.0)]


@pytest.mark.parametrize("delay, answer", [(1e-6, AGAIN), (2e-6, (Event.LATER, 2e-6))])
def test_a_delay_of_nothing_is_none(delay: float, answer: tuple[Event, float]) -> None:
    policy = RestartPolicy(error_delay=0, jitter=0, bounce_delay=delay)

    assert follows(ended(), (Kind.BOUNCE, Bounce()), policy) == answer


@pytest.mark.parametrize("ready_for, delay", [(59.9, 6), (60.0, 3)])
def test_health_for_long_enough_forgets_the_failures_before_it(
    ready_for: float, delay: float
) -> None:
    run = ended(ready_for=None)
    follows(run, FAILED)
    run.ready = NOW - ready_for

    assert follows(run, FAILED) == (Event.LATER, delay)


@pytest.mark.parametrize("planned", [True, False])
def test_health_counts_whatever_has_ended_it(*, planned: bool) -> None:
    run = ended(ready_for=None)
    follows(run, FAILED)
    run.ready, run.planned = NOW - 60, planned
    follows(run, (Kind.RETURNED, None))
    run.ready, run.planned = None, False

    assert follows(run, FAILED) == (Event.LATER, 3)


@pytest.mark.parametrize("drawn, delay", [(0.0, 2.4), (0.5, 3.0), (1.0, 3.6)])
def test_the_number_that_is_drawn_spreads_the_delay_both_ways(drawn: float, delay: float) -> None:
    policy = RestartPolicy(error_delay=3, jitter=0.2)

    event, seconds = follows(ended(), FAILED, policy, lambda: drawn)

    assert event is Event.LATER
    assert seconds == pytest.approx(delay)
