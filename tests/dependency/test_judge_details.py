"""Judging: which error comes first, what foreign code did wrong, and what led to what."""

from typing import Any

from trioworker.dependency import EngineConfig, Manifold
from trioworker.dependency._judge import _after, judge, worst
from trioworker.dependency._verdicts import Kind


async def start(get: object, *, task_status: object) -> None:
    """Be of no interest."""


def first(a: BaseException, b: BaseException) -> BaseException:
    return a


def neither(a: BaseException, b: BaseException) -> Any:
    return 3


def three(exc: BaseException) -> Any:
    return 3


def test_an_interrupt_comes_first_and_the_others_keep_their_order() -> None:
    one, two, interrupt, later = OSError(), KeyError(), KeyboardInterrupt(), SystemExit()

    assert worst([one, two, interrupt, later], first) == [interrupt, one, two, later]


def test_a_comparison_that_chooses_neither_is_told_what_it_returned() -> None:
    one, two = OSError(), KeyError()
    *known, told = worst([one, two], neither)

    assert known == [one, two]
    assert (type(told), str(told)) == (TypeError, "worst_error(a, b) must return a or b, not 3")


def test_a_filter_that_returns_no_exception_is_told_what_it_returned() -> None:
    error = OSError()
    kind, told = judge(error, Manifold(start, filter=three), EngineConfig())

    assert kind is Kind.ERROR
    assert (type(told), str(told)) == (TypeError, "filter must return an exception or None, not 3")
    assert isinstance(told, TypeError)
    assert told.__context__ is error


def test_the_original_is_at_the_end_of_the_contexts() -> None:
    original, last, middle, error = OSError(), KeyError(), IndexError(), ValueError()
    error.__context__, middle.__context__ = middle, last

    assert _after(error, original) is error
    assert last.__context__ is original


def test_what_led_to_each_other_already_is_left_alone() -> None:
    original, error = OSError(), ValueError()
    original.__context__ = error

    assert _after(error, original).__context__ is None


def test_contexts_that_go_round_in_a_circle_are_followed_once() -> None:
    original, error, other = Exception("original"), Exception("error"), Exception("other")
    error.__context__, other.__context__ = other, error

    assert _after(error, original) is error
    assert other.__context__ is original
