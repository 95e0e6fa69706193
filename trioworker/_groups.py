"""Reading exception groups: their leaves, what is left of them, and what else went wrong.

Pure functions; what counts as *noise* (in Trio: ``Cancelled``) is the caller's to say.

An error that crosses a Trio nursery comes out wrapped in a group of Trio's own making. Users did
not write that group, so a group of one is unwrapped; a group that the program raised itself is part
of its meaning and stays. Trio gives no mark to tell them apart but the message, so the message is
what we look at (``tests/test_groups.py`` fails loudly if Trio changes it).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

NURSERY_MESSAGE = "Exceptions from Trio nursery"
"""The message of the groups that ``trio.open_nursery()`` raises (Trio 0.22 to 0.35)."""

MAX_NOTES = 3
MAX_NOTE_LENGTH = 200


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group that are no groups, depth first; of another, itself."""
    pending = [exc]
    while pending:
        exc = pending.pop()
        if isinstance(exc, BaseExceptionGroup):
            pending.extend(reversed(exc.exceptions))
        else:
            yield exc


def reduced(exc: BaseException, is_noise: Callable[[BaseException], bool]) -> BaseException | None:
    """Return what is real in `exc`: without noise, and without a nursery's group around one error.

    - nothing but noise: ``None``;
    - no noise and nothing to unwrap: `exc` itself, the same object;
    - a group of which something is left: a group of the same kind around the rest, which keeps
      traceback, cause, context and notes (``BaseExceptionGroup.derive``);
    - a group nested deeper than Python's stack: `exc` itself.
    """
    try:
        return _reduced(exc, is_noise)
    except RecursionError:
        return exc


def _reduced(exc: BaseException, is_noise: Callable[[BaseException], bool]) -> BaseException | None:
    if not isinstance(exc, BaseExceptionGroup):
        return None if is_noise(exc) else exc
    kept = [real for child in exc.exceptions if (real := _reduced(child, is_noise)) is not None]
    if not kept:
        return None
    if len(kept) == 1 and exc.message == NURSERY_MESSAGE:
        return kept[0]
    if len(kept) == len(exc.exceptions) and all(map(_is, kept, exc.exceptions)):
        return exc
    return _derived(exc, kept)


def only(exc: BaseException, is_wanted: Callable[[BaseException], bool]) -> BaseException | None:
    """Return the part of `exc` whose leaves are wanted, in its groups, or ``None``.

    Of a group nested deeper than Python's stack, `exc` itself if any of its leaves is wanted.
    """
    try:
        return _only(exc, is_wanted)
    except RecursionError:
        return exc if any(map(is_wanted, leaves(exc))) else None


def _only(exc: BaseException, is_wanted: Callable[[BaseException], bool]) -> BaseException | None:
    if not isinstance(exc, BaseExceptionGroup):
        return exc if is_wanted(exc) else None
    kept = [part for child in exc.exceptions if (part := _only(child, is_wanted)) is not None]
    if len(kept) == len(exc.exceptions) and all(map(_is, kept, exc.exceptions)):
        return exc
    return _derived(exc, kept) if kept else None


def describe(exc: BaseException) -> str:
    """Say `exc` in one line of at most 200 characters: a group by its leaves; never raises."""
    text = "; ".join(map(_describe_leaf, leaves(exc)))
    if len(text) > MAX_NOTE_LENGTH:
        text = text[: MAX_NOTE_LENGTH - 1] + "…"
    return text


def attach(reason: BaseException, others: Iterable[BaseException], uncounted: int = 0) -> None:
    """Add `others` to `reason` as notes: at most three lines, none twice, none already there.

    Args:
        reason: the exception that will be raised.
        others: what went wrong beside it.
        uncounted: how many more there were that nobody kept.
    """
    noted = _notes(reason)
    lines = dict.fromkeys(f"also: {describe(other)}" for other in others)
    fresh = [line for line in lines if line not in noted]
    if len(fresh) + bool(uncounted) > MAX_NOTES:
        uncounted += len(fresh) - (MAX_NOTES - 1)
        del fresh[MAX_NOTES - 1 :]
    if uncounted:
        fresh.append(f"also: {uncounted} more")
    # The program may have replaced __notes__ by something that is no list, or frozen the class: its
    # notes are its own then, and dying for good must not depend on them.
    with suppress(Exception):
        for line in fresh:
            reason.add_note(line)


def raise_unchanged(exc: BaseException) -> NoReturn:
    """Raise `exc` with the context it has, not with what is being handled where this is called.

    The history of the error counts, not the observer's.
    """
    context = exc.__context__
    try:
        raise exc
    finally:
        set_context(exc, context)
        del exc, context  # a frame in a traceback must not hold the traceback


def pass_on(exc: BaseException, is_wanted: Callable[[BaseException], bool]) -> None:
    """Raise the part of `exc` whose leaves are wanted, if there is one; unchanged."""
    part = only(exc, is_wanted)
    try:
        if part is not None:
            raise_unchanged(part)
    finally:
        del exc, part  # a frame in a traceback must not hold the traceback


def set_context(exc: BaseException, context: BaseException | None) -> None:
    """Set the context as Python does it: also of an exception whose class is frozen."""
    object.__setattr__(exc, "__context__", context)


def _describe_leaf(exc: BaseException) -> str:
    try:
        text = " ".join(str(exc).split())
    except Exception:  # noqa: BLE001 - __str__ is foreign code, and a message must not fail
        text = "<its message cannot be shown>"
    name = type(exc).__name__
    return f"{name}: {text}" if text else name


def _notes(exc: BaseException) -> list[str]:
    notes = getattr(exc, "__notes__", None)
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []


def _is(a: object, b: object) -> bool:
    return a is b


def _derived(
    group: BaseExceptionGroup[BaseException], parts: list[BaseException]
) -> BaseExceptionGroup[BaseException]:
    try:
        new: object = group.derive(parts)
    except Exception:  # noqa: BLE001 - a subclass's own code, and what it was to keep counts more
        new = None
    if not isinstance(new, BaseExceptionGroup):
        new = BaseExceptionGroup(group.message, parts)
    for name in ("__traceback__", "__cause__", "__context__", "__suppress_context__"):
        object.__setattr__(new, name, getattr(group, name))  # also if the class is frozen
    with suppress(Exception):  # a class may refuse notes
        for note in _notes(group):
            new.add_note(note)
    return new
