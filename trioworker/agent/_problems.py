"""What is wrong with an agent file: collected, then told all at once.

A place in a file is a tuple of keys and indices; `where` writes it as ``$.manifolds['web'].port``.
A key that is a name somebody chose is a `Key` and stands in brackets, others after a dot.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TypeAlias, final

import attrs

from trioworker import TrioworkerError

Place: TypeAlias = tuple[str | int, ...]
Masking: TypeAlias = Callable[[str], str]

MOST_CHOICES = 8
"""How many allowed choices a message lists, or one more; the nearest are named in any case."""


@final
class Key(str):
    """A key that the author of the file chose."""

    __slots__ = ()


def where(place: Place) -> str:
    """Write `place` as it is written in messages."""
    text = "$"
    for part in place:
        if isinstance(part, str) and not isinstance(part, Key) and part.isidentifier():
            text += f".{part}"
        else:
            text += f"[{str(part)!r}]" if isinstance(part, str) else f"[{part}]"
    return text


@final
@attrs.frozen
class Problem:
    """One thing that is wrong with a file; ``str()`` is its line."""

    path: str
    """Where: ``$.manifolds['web'].config.port``, or the path of a file that cannot be read."""
    message: str
    cause: BaseException | None = attrs.field(default=None, eq=False, repr=False)
    """What was raised, if it was foreign code that failed: its traceback tells more."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@final
class AgentFileError(TrioworkerError):
    """An agent file cannot be used; the message has one line for each problem, sorted by path.

    Attributes:
        problems: the same, one by one.
        mask: to be called with what else is printed of them, such as the traceback of a cause.
    """

    def __init__(self, problems: Iterable[Problem], mask: Callable[[str], str] = str) -> None:
        self.mask: Callable[[str], str] = mask
        self.problems: tuple[Problem, ...] = tuple(
            sorted(problems, key=lambda p: (p.path, p.message))
        )
        super().__init__("\n".join(map(str, self.problems)))


@final
class Problems:
    """Collects; a message may name values of the environment, which are masked here."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}
        self._broken: list[Place] = []

    def add(
        self,
        place: Place,
        message: str,
        *,
        mask: Masking | None = None,
        cause: BaseException | None = None,
    ) -> None:
        """Add what is wrong at `place`; the same twice counts once."""
        if mask is not None:
            message = mask(message)
        message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        problem = Problem(where(place), message, cause)
        self._found.setdefault(str(problem), problem)

    def add_unusable(self, place: Place, message: str) -> None:
        """Add that the value at `place` could not even be made out: nothing more is said of it."""
        self._broken.append(place)
        self.add(place, message)

    def is_unusable(self, place: Place) -> bool:
        """Whether `place` has, or lies in, a value that could not be made out."""
        return any(
            broken[: len(place)] == place or place[: len(broken)] == broken
            for broken in self._broken
        )

    @property
    def found(self) -> list[Problem]:
        """What was added so far."""
        return list(self._found.values())

    def raise_if_any(self, mask: Masking) -> None:
        """Raise the `AgentFileError` of all that was found, if anything was."""
        if self._found:
            found = [attrs.evolve(p, message=mask(p.message)) for p in self.found]
            raise AgentFileError(found, mask)


def choices(wrong: str, allowed: Iterable[str], what: str = "allowed") -> str:
    """Return the end of a message: the nearest of what is allowed, and some of it."""
    names = list(allowed)
    near = difflib.get_close_matches(wrong, names, n=3)
    guess = f"; did you mean {' or '.join(map(quoted, near))}?" if near else ""
    some = [quoted(name) for name in names]
    if len(some) > MOST_CHOICES + 1:  # "and 1 more" would be no shorter than the one
        some[MOST_CHOICES:] = [f"and {len(names) - MOST_CHOICES} more"]
    return f"{guess or ';'} {what}: {', '.join(some) or 'none'}"


def quoted(text: str) -> str:
    """Return `text` in quotes; what came from the environment as its ``${NAME}``."""
    return repr(text)


def one_line(exc: BaseException) -> str:
    """Say what `exc` says, in one line, after the name of its type; never raises."""
    try:
        text = " ".join(str(exc).split())
    except Exception:  # noqa: BLE001 - __str__ is foreign code, and a message must not fail
        text = "<its message cannot be shown>"
    name = type(exc).__name__
    return f"{name}: {text}" if text else name
