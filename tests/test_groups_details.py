"""Groups: kinds, contexts, depths, lengths, and who frees what was raised."""

import contextlib
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from trioworker._groups import attach, describe, only, pass_on, raise_unchanged, reduced


class Noise(BaseException):
    """What this file does not count."""


class Kept(ExceptionGroup[Exception]):
    """A group that stays what it is when it is split."""

    def derive(self, excs: Any) -> Any:
        return Kept(self.message, excs)


class Indivisible(ExceptionGroup[Exception]):
    """A group whose own code fails when it is split."""

    def derive(self, excs: Any) -> Any:
        raise RuntimeError


class Unnotable(ExceptionGroup[Exception]):
    """A group that takes no notes."""

    def derive(self, excs: Any) -> Any:
        return Unnotable(self.message, excs)

    def add_note(self, note: str, /) -> None:
        raise TypeError


def is_noise(exc: BaseException) -> bool:
    return isinstance(exc, Noise)


def notes(exc: BaseException) -> list[str]:
    return list(getattr(exc, "__notes__", []))


def deeply_nested(exc: BaseException) -> BaseException:
    """Return `exc` in more groups than Python's stack has frames."""
    for _ in range(20_000):
        exc = BaseExceptionGroup("deep", [exc])
    return exc


def test_reduced_keeps_whether_a_group_hides_its_context() -> None:
    group = BaseExceptionGroup("two", [ValueError(), Noise()])
    group.__context__ = OSError()
    left = reduced(group, is_noise)

    assert left is not None
    assert left.__suppress_context__ is False

    group.__suppress_context__ = True
    left = reduced(group, is_noise)

    assert left is not None
    assert left.__suppress_context__ is True


def test_reduced_keeps_the_kind_of_a_group() -> None:
    error = ValueError()
    group = Kept("two", [error, OSError()])

    left = reduced(group, lambda leaf: isinstance(leaf, OSError))

    assert isinstance(left, Kept)
    assert (left.message, left.exceptions) == ("two", (error,))


def test_reduced_of_a_group_that_cannot_be_split_is_a_plain_group() -> None:
    error = ValueError()
    group = Indivisible("two", [error, OSError()])

    left = reduced(group, lambda leaf: isinstance(leaf, OSError))

    assert type(left) is ExceptionGroup
    assert (left.message, left.exceptions) == ("two", (error,))


def test_reduced_of_a_group_that_takes_no_notes_goes_without_them() -> None:
    error = ValueError()
    group = Unnotable("two", [error, OSError()])
    group.__notes__ = ["seen at dawn"]

    left = reduced(group, lambda leaf: isinstance(leaf, OSError))

    assert isinstance(left, Unnotable)
    assert left.exceptions == (error,)
    assert notes(left) == []


def test_a_group_deeper_than_the_stack_is_left_as_it_is() -> None:
    deep = deeply_nested(ValueError())

    assert reduced(deep, is_noise) is deep


def test_only_keeps_a_group_deeper_than_the_stack_if_any_leaf_is_wanted() -> None:
    deep = deeply_nested(BaseExceptionGroup("two", [ValueError(), Noise()]))

    assert only(deep, is_noise) is deep
    assert only(deep, lambda leaf: isinstance(leaf, OSError)) is None


def test_describe_cuts_off_what_is_beyond_200_characters_and_nothing_before() -> None:
    fits = "x" * (200 - len("ValueError: "))

    assert describe(ValueError(fits)) == f"ValueError: {fits}"
    assert describe(ValueError(fits + "x")) == f"ValueError: {fits[:-1]}…"


def test_attach_adds_three_lines_at_most_with_the_count_of_what_was_not_kept() -> None:
    reason = ValueError()

    attach(reason, [OSError(str(n)) for n in range(3)], uncounted=5)

    assert notes(reason) == ["also: OSError: 0", "also: OSError: 1", "also: 6 more"]


@pytest.mark.parametrize("raising", [raise_unchanged, partial(pass_on, is_wanted=is_noise)])
def test_what_was_raised_is_freed_without_the_collector(
    raising: Callable[[BaseException], None],
) -> None:
    """No frame in the traceback holds the traceback."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        noise = Noise()
        gone = weakref.ref(noise)
        with contextlib.suppress(Noise):
            raising(noise)
        del noise
        assert gone() is None
    finally:
        if collecting:
            gc.enable()
