"""What leaves a run is read once: alone, in groups, in groups of groups."""

import itertools
import math

import pytest

from trioworker import Dying
from trioworker.dependency import Bounce, Missing, RetryAfter, Uninstall
from trioworker.dependency._verdicts import Kind, judged

# In the order of precedence: FATAL before ERROR, and so on.
SAMPLES: dict[Kind, BaseException] = {
    Kind.FATAL: KeyboardInterrupt(),
    Kind.ERROR: OSError("gone"),
    Kind.DYING: Dying("db is dying"),
    Kind.UNINSTALL: Uninstall("not here"),
    Kind.MISSING: Missing("no config"),
    Kind.RETRY: RetryAfter(3),
    Kind.BOUNCE: Bounce("new config"),
}


def group(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", parts)


def test_nothing_is_returned() -> None:
    assert judged(None) == (Kind.RETURNED, None)


@pytest.mark.parametrize("kind", SAMPLES)
def test_alone_each_is_what_it_is(kind: Kind) -> None:
    assert judged(SAMPLES[kind]) == (kind, SAMPLES[kind])


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_group_of_one_counts_as_the_one(kind: Kind) -> None:
    assert judged(group(group(SAMPLES[kind]))) == (kind, SAMPLES[kind])


@pytest.mark.parametrize(
    "worse, other", list(itertools.combinations(SAMPLES, 2)), ids=lambda kind: str(kind.value)
)
def test_of_two_the_one_that_leaves_less_running_wins(worse: Kind, other: Kind) -> None:
    a, b = SAMPLES[worse], SAMPLES[other]

    assert judged(group(a, b)) == (worse, a)
    assert judged(group(b, a)) == (worse, a)
    assert judged(group(b, group(b, group(a)))) == (worse, a)


@pytest.mark.parametrize(
    "exc", [SystemExit(3), GeneratorExit(), type("Odd", (BaseException,), {})()]
)
def test_whatever_is_no_exception_is_fatal(exc: BaseException) -> None:
    assert judged(group(ValueError(), exc)) == (Kind.FATAL, exc)


def test_the_first_of_its_kind_is_the_one_that_says_it() -> None:
    first, second = RetryAfter(1), RetryAfter(2)

    assert judged(group(Bounce(), first, second)) == (Kind.RETRY, first)


@pytest.mark.parametrize("kind", set(SAMPLES) - {Kind.ERROR, Kind.FATAL})
def test_cause_and_context_are_never_searched(kind: Kind) -> None:
    error = ValueError("deliberate")
    error.__cause__ = SAMPLES[kind]
    error.__context__ = SAMPLES[kind]

    assert judged(error) == (Kind.ERROR, error)


def test_neither_are_those_of_a_group() -> None:
    error = ValueError("deliberate")
    outer = group(error)
    outer.__cause__ = KeyboardInterrupt()
    outer.__context__ = Missing()

    assert judged(outer) == (Kind.ERROR, error)


def test_an_error_raised_from_a_verdict_does_not_become_one_nor_the_other_way_round() -> None:
    verdict = Missing("no config")
    verdict.__cause__ = OSError("gone")

    assert judged(verdict) == (Kind.MISSING, verdict)


def test_verdicts_have_no_error_in_their_name_and_are_exceptions() -> None:
    for verdict in (Bounce, Missing, RetryAfter, Uninstall):
        assert issubclass(verdict, Exception)
        assert not verdict.__name__.endswith("Error")


@pytest.mark.parametrize("seconds", [-1, -0.001, math.nan, math.inf, -math.inf])
def test_retry_after_refuses_what_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"RetryAfter\(seconds\) must be at least 0"):
        RetryAfter(seconds)


def test_retry_after_says_when_and_why() -> None:
    assert str(RetryAfter(2.5)) == "in 2.5 s"
    assert str(RetryAfter(2.5, "busy")) == "in 2.5 s: busy"
    assert RetryAfter(0).seconds == 0


def test_the_kinds_of_ends_are_words_for_reports() -> None:
    assert [*map(str, Kind)] == [
        "fatal",
        "error",
        "dying",
        "uninstall",
        "missing",
        "retry",
        "bounce",
        "returned",
    ]
