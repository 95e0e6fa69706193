"""What a start function can say about its own future.

A verdict is no fault: it is an instruction to the engine, raised by a start function or produced by
a manifold's ``filter``, so that a worker raises its own domain's errors and knows no engine.

`judged` reads a verdict off what left a run: the exception itself or a leaf of a group.
``__cause__`` and ``__context__`` are never searched: a deliberate error must not become a silent
wait because of what it was raised from. In a group an error outranks every verdict, and of several
verdicts the one that leaves least running wins.
"""

from __future__ import annotations

import enum
from typing import final

from .._errors import Dying
from .._groups import leaves
from .._util import check_seconds


class Verdict(Exception):
    """The base of the four; not to be raised itself."""


@final
class Bounce(Verdict):
    """Restart me now (after ``bounce_delay``, so that a bouncing worker does not spin)."""


@final
class Missing(Verdict):
    """I cannot run until one of my inputs changes."""


@final
class RetryAfter(Verdict):
    """Start me again after `seconds`.

    Raises:
        ValueError: `seconds` is negative, NaN or infinite.
    """

    def __init__(self, seconds: float, *why: object) -> None:
        check_seconds("RetryAfter(seconds)", seconds)
        super().__init__(*why)
        self.seconds = seconds

    def __str__(self) -> str:
        why = super().__str__()
        return f"in {self.seconds:g} s" + (f": {why}" if why else "")


@final
class Uninstall(Verdict):
    """Remove me for good."""


@final
class Kind(enum.StrEnum):
    """How a run ended, in the order of precedence within a group."""

    # Enum's own hash is a Python function, and every end looks something up by its kind.
    __hash__ = str.__hash__

    FATAL = "fatal"
    """A `KeyboardInterrupt`, `SystemExit` or other non-``Exception``; or ``is_fatal`` said so."""
    ERROR = "error"
    DYING = "dying"
    """Only refusals of somebody else who is dying: no fault of ours."""
    UNINSTALL = "uninstall"
    MISSING = "missing"
    RETRY = "retry"
    BOUNCE = "bounce"
    RETURNED = "returned"
    """Without an error."""


_RANK = {kind: rank for rank, kind in enumerate(Kind)}

_KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (Dying, Kind.DYING),
    (Uninstall, Kind.UNINSTALL),
    (Missing, Kind.MISSING),
    (RetryAfter, Kind.RETRY),
    (Bounce, Kind.BOUNCE),
)


def judged(exc: BaseException | None) -> tuple[Kind, BaseException | None]:
    """Return what `exc` says about its run, and the leaf that says it.

    `exc` has no ``Cancelled`` in it. Whether an error is fatal beyond the non-``Exception``s is the
    engine's to ask.
    """
    if exc is None:
        return Kind.RETURNED, None
    if not isinstance(exc, BaseExceptionGroup):
        return _kind(exc), exc
    found = [(_kind(leaf), leaf) for leaf in leaves(exc)]
    return min(found, key=lambda each: _RANK[each[0]])


def _kind(leaf: BaseException) -> Kind:
    if not isinstance(leaf, Exception):
        return Kind.FATAL
    return next((kind for cls, kind in _KINDS if isinstance(leaf, cls)), Kind.ERROR)
