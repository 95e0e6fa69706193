"""Groups: what is real in them, what is left of them, what is said about them."""

from dataclasses import dataclass

import pytest
import trio
from hypothesis import given, strategies as st

from trioworker._groups import (
    MAX_NOTE_LENGTH,
    NURSERY_MESSAGE,
    attach,
    describe,
    leaves,
    only,
    pass_on,
    raise_unchanged,
    reduced,
)


class Noise(BaseException):
    """What this file does not count."""


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have any of its attributes set, and cannot be hashed because of its list."""

    items: list[int]


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError


def is_noise(exc: BaseException) -> bool:
    return isinstance(exc, Noise)


def nursery_group(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup(NURSERY_MESSAGE, parts)


def program_group(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("the program's", parts)


def notes(exc: BaseException) -> list[str]:
    return list(getattr(exc, "__notes__", []))


async def test_trio_still_marks_its_groups_with_the_message_we_look_for() -> None:
    """If this fails, NURSERY_MESSAGE has to follow Trio."""
    error = ValueError()
    caught: BaseException | None = None
    try:
        async with trio.open_nursery():
            raise error
    except* ValueError as group:
        caught = group
    assert isinstance(caught, ExceptionGroup)

    assert reduced(caught, is_noise) is error


def test_leaves_come_depth_first() -> None:
    a, b, c = ValueError("a"), ValueError("b"), ValueError("c")

    assert list(leaves(program_group(a, program_group(b), c))) == [a, b, c]


def test_leaves_of_a_plain_error_is_itself() -> None:
    error = ValueError()

    assert list(leaves(error)) == [error]


def test_reduced_keeps_a_plain_error() -> None:
    error = ValueError()

    assert reduced(error, is_noise) is error


def test_reduced_drops_noise() -> None:
    assert reduced(Noise(), is_noise) is None


def test_reduced_drops_a_group_of_noise_at_any_depth() -> None:
    assert reduced(program_group(Noise(), nursery_group(Noise())), is_noise) is None


def test_reduced_unwraps_a_nursery_around_one() -> None:
    error = ValueError()

    assert reduced(nursery_group(nursery_group(error, Noise())), is_noise) is error


def test_reduced_leaves_a_programs_group_of_one() -> None:
    group = program_group(ValueError())

    assert reduced(group, is_noise) is group
    assert reduced(nursery_group(group), is_noise) is group


def test_reduced_keeps_a_group_without_noise_as_the_same_object() -> None:
    group = nursery_group(ValueError(), program_group(KeyError(), OSError()))

    assert reduced(group, is_noise) is group


def test_reduced_takes_noise_out_of_a_group_and_keeps_what_it_carried() -> None:
    first, second = ValueError("1"), ValueError("2")
    group = program_group(first, Noise(), second)
    group.add_note("seen at dawn")
    group.__cause__ = OSError("cause")
    group.__context__ = OSError("context")
    try:
        raise group
    except BaseExceptionGroup as exc:
        traceback = exc.__traceback__

    left = reduced(group, is_noise)

    assert isinstance(left, ExceptionGroup)
    assert (left.message, left.exceptions) == ("the program's", (first, second))
    assert notes(left) == ["seen at dawn"]
    assert left.__cause__ is group.__cause__
    assert left.__context__ is group.__context__
    assert left.__traceback__ is traceback


def test_reduced_copes_with_notes_that_are_none() -> None:
    group = program_group(ValueError(), Noise())
    group.__notes__ = 5  # type: ignore[assignment]  # as a careless program might

    assert isinstance(reduced(group, is_noise), ExceptionGroup)


@given(
    st.recursive(
        st.booleans(),
        lambda parts: st.tuples(st.booleans(), st.lists(parts, min_size=1, max_size=4)),
        max_leaves=12,
    )
)
def test_reduced_loses_no_real_leaf_and_keeps_no_noise(shape: object) -> None:
    def build(shape: object) -> BaseException:
        if isinstance(shape, tuple):
            from_nursery, parts = shape
            return (nursery_group if from_nursery else program_group)(*map(build, parts))
        return ValueError() if shape else Noise()

    exc = build(shape)
    real = [leaf for leaf in leaves(exc) if not is_noise(leaf)]
    left = reduced(exc, is_noise)

    assert list(map(id, leaves(left) if left is not None else ())) == list(map(id, real))


def test_only_keeps_the_wanted_leaves_in_their_groups() -> None:
    noise = Noise()
    part = only(nursery_group(ValueError(), noise), is_noise)

    assert isinstance(part, BaseExceptionGroup)
    assert part.exceptions == (noise,)


def test_only_keeps_what_is_wholly_wanted_as_the_same_object() -> None:
    group = nursery_group(Noise(), nursery_group(Noise()))
    noise = Noise()

    assert only(group, is_noise) is group
    assert only(noise, is_noise) is noise


def test_only_returns_none_when_nothing_is_wanted() -> None:
    assert only(nursery_group(ValueError()), is_noise) is None
    assert only(ValueError(), is_noise) is None


def test_pass_on_raises_the_wanted_part_with_its_own_context() -> None:
    noise, handled = Noise(), ValueError()
    noise.__context__ = before = KeyError()
    with pytest.raises(Noise) as caught:
        try:
            raise handled
        except ValueError:
            pass_on(noise, is_noise)

    assert caught.value is noise
    assert noise.__context__ is before


def test_pass_on_of_what_is_not_wanted_does_nothing() -> None:
    pass_on(nursery_group(ValueError()), is_noise)


@pytest.mark.parametrize(
    "exc, line",
    [
        (ValueError("bad"), "ValueError: bad"),
        (ValueError(), "ValueError"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (program_group(ValueError("a"), KeyError("b")), "ValueError: a; KeyError: 'b'"),
        (Silent(), "Silent: <its message cannot be shown>"),
    ],
)
def test_describe_says_it_in_one_line(exc: BaseException, line: str) -> None:
    assert describe(exc) == line


def test_describe_is_short() -> None:
    assert len(describe(ValueError("x" * 1000))) == MAX_NOTE_LENGTH


def test_attach_notes_each_other_error() -> None:
    reason = ValueError()

    attach(reason, [KeyError("a"), OSError("b")])

    assert notes(reason) == ["also: KeyError: 'a'", "also: OSError: b"]


def test_attach_adds_three_lines_at_most_and_counts_the_rest() -> None:
    reason = ValueError()

    attach(reason, [OSError(str(n)) for n in range(5)], uncounted=10)

    assert notes(reason) == ["also: OSError: 0", "also: OSError: 1", "also: 13 more"]


def test_attach_needs_no_count_for_three() -> None:
    reason = ValueError()

    attach(reason, [OSError(str(n)) for n in range(3)])

    assert notes(reason) == [f"also: OSError: {n}" for n in range(3)]


def test_attach_counts_what_was_not_kept() -> None:
    reason = ValueError()

    attach(reason, [], uncounted=2)

    assert notes(reason) == ["also: 2 more"]


def test_attach_adds_nothing_twice() -> None:
    reason = ValueError()

    attach(reason, [OSError("a"), OSError("a")])
    attach(reason, [OSError("a")])

    assert notes(reason) == ["also: OSError: a"]


@pytest.mark.parametrize("own", [5, ("a",), [["unhashable"]], None])
def test_attach_copes_with_notes_that_are_none(own: object) -> None:
    reason = ValueError()
    reason.__notes__ = own  # type: ignore[assignment]  # as a careless program might

    attach(reason, [OSError("a")])  # does not raise


def test_attach_copes_with_an_error_that_cannot_be_changed() -> None:
    attach(Frozen([1]), [OSError("a")])  # does not raise


def test_raise_unchanged_keeps_the_context() -> None:
    error, context = ValueError("why"), OSError()
    error.__context__ = context

    with pytest.raises(ValueError, match="why") as caught:
        try:
            raise KeyError
        except KeyError:
            raise_unchanged(error)

    assert caught.value is error
    assert error.__context__ is context


def test_raise_unchanged_keeps_the_cause_and_whether_it_hides_the_context() -> None:
    error = ValueError("why")
    error.__cause__ = OSError()
    error.__suppress_context__ = False

    with pytest.raises(ValueError, match="why"):
        raise_unchanged(error)

    assert isinstance(error.__cause__, OSError)
    assert not error.__suppress_context__


def test_raise_unchanged_raises_what_cannot_be_changed() -> None:
    error = Frozen([1])

    with pytest.raises(Frozen) as caught:
        raise_unchanged(error)

    assert caught.value is error
