"""``${NAME}`` in the strings of a file, and how what came from there stays out of sight.

Two means, because a value can be seen in two ways:

- **What holds it hides it.** An expanded string is an `EnvStr`: it *is* the value, but its ``repr``
  is what the file says. A Config with anything from the environment has its ``repr`` masked
  (`hide`), because a number made of a string cannot hide itself: ``socket.getaddrinfo()`` takes
  no port that is a subclass of int.
- **What is printed is masked.** A program that formats a value into a message has the bare text.
  `Mask` finds it again in everything that trioworker prints or logs, and puts ``${NAME}`` there.
  The engine, which knows of no environment, shortens what it says of errors before that: so a mask
  also finds the beginning of a value where a text was cut off.

A boolean can be neither hidden nor found again, so none is made of the environment.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

from ._problems import Key, Place, Problems

if TYPE_CHECKING:
    from collections.abc import Callable

_DOLLAR = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\})?")

_ANYWHERE = 8  # a value of so many characters is recognised inside a word
_BEFORE_ELLIPSIS = 8  # and by so many at its beginning, where a text says that it was cut off
_AT_THE_END = 16  # or where it ends and does not say so

# Ours is the one character (`describe()`) or three dots (what a worker reports); others use both.
# Looks ahead only, because a value may have been cut off after a dot.
_ELLIPSIS = re.compile(r"(?=…|\.\.\.)")

_Span = tuple[int, int, str]

Used = tuple[tuple[str, str], ...]
"""The variables that a string was made of: name and value."""


@final
class EnvStr(str):
    """A string with parts from the environment. Its ``repr`` is what the file says.

    Attributes:
        source: what the file says.
        used: the variables in it, and their values.
    """

    __slots__ = ("source", "used")

    source: str
    used: Used

    def __new__(cls, value: str, source: str, used: Used) -> EnvStr:
        self = super().__new__(cls, value)
        self.source = source
        self.used = used
        return self

    def __repr__(self) -> str:
        match = _DOLLAR.fullmatch(self.source)
        return self.source if match else repr(self.source)

    def __getnewargs__(self) -> Any:
        return str(self), self.source, self.used


@final
class Mask:
    """Puts ``${NAME}`` where a text has the value of a variable; call it with the text.

    - A value of eight characters or more is found anywhere, and also a line of it alone; a shorter
      one only where it stands as a word.
    - The beginning of a value is found where a text was cut off: of eight characters before an
      ellipsis, of sixteen at the very end. Anywhere else it is left alone: paths share directories.
    - One or two characters are left alone, unless `least` says otherwise: they betray nothing,
      and no text would stay readable.

    Args:
        variables: name and value of each.
        least: the length of the shortest value that is masked.
    """

    def __init__(self, variables: Iterable[tuple[str, str]] = (), *, least: int = 3) -> None:
        self._shown: dict[str, str] = {}
        for name, value in dict(variables).items():
            for form in _forms(value):
                if len(form) >= least:
                    self._shown.setdefault(form, f"${{{name}}}")
        longest_first = sorted(self._shown, key=len, reverse=True)
        # Looks ahead only, so that of two values that overlap both are found.
        self._pattern = re.compile(f"(?=({'|'.join(map(self._regex, longest_first))}))")

    def __call__(self, text: str) -> str:
        """Return `text` without the values."""
        if not self._shown:
            return text
        parts: list[str] = []
        done, last = 0, ""
        for start, end, shown in sorted(self._found(text), key=lambda span: (span[0], -span[1])):
            if end > done:
                parts.append(text[done:start])
                if start >= done or shown != last:
                    parts.append(shown)
                done, last = end, shown
        return "".join(parts) + text[done:]

    def _found(self, text: str) -> Iterator[_Span]:
        """Yield what is to be masked, all of it found in the text as it came.

        Were one value replaced before the next is looked for, a short one inside a long one that
        was cut off would make the rest of the long one unrecognisable.
        """
        for match in self._pattern.finditer(text):
            yield match.start(1), match.end(1), self._shown[match[1]]
        cuts = [(match.start(), _BEFORE_ELLIPSIS) for match in _ELLIPSIS.finditer(text)]
        # A traceback ends with a newline that is no part of what was cut off.
        cuts += [(end, _AT_THE_END) for end in {len(text), len(text.rstrip())}]
        for form, shown in self._shown.items():
            for end, least in cuts:
                start = _beginning(text, end, form, least)
                if start != -1:
                    yield start, end, shown

    def _regex(self, value: str) -> str:
        pattern = re.escape(value)
        if len(value) >= _ANYWHERE:
            return pattern
        before = r"(?<!\w)" if re.match(r"\w", value) else ""
        after = r"(?!\w)" if re.search(r"\w\Z", value) else ""
        return before + pattern + after


_HIDDEN: dict[int, tuple[object, Mask]] = {}
"""The configs that hide something, by id. Kept alive, so that no id comes back as another's: they
are few, and live as long as their manifolds anyway."""


def hide(config: object, used: Used) -> None:
    """Mask the ``repr`` of `config`, and of no other instance of its class."""
    cls: Any = type(config)
    _HIDDEN[id(config)] = (config, Mask(used, least=1))
    plain = cls.__repr__
    if getattr(plain, "hides", False):
        return

    @functools.wraps(plain)
    def masked(self: object) -> str:
        text: str = plain(self)
        hidden = _HIDDEN.get(id(self))
        return text if hidden is None else hidden[1](text)

    masked.hides = True  # type: ignore[attr-defined]  # how a masked one is known
    cls.__repr__ = masked


def _forms(value: str) -> Iterator[str]:
    """Yield the shapes in which `value` is found in texts."""
    if not value:
        return
    yield value
    yield repr(value)[1:-1]
    yield " ".join(value.split())  # messages are made one line
    for line in value.splitlines():
        if len(line.strip()) >= _ANYWHERE:
            yield line.strip()


def _beginning(text: str, end: int, value: str, least: int) -> int:
    """Return where the beginning of `value` begins that `text` has before `end`, or -1."""
    if len(value) <= least:
        return -1
    head = value[:least]
    start = text.find(head, max(0, end - len(value)), end)
    while start != -1 and not value.startswith(text[start:end]):
        start = text.find(head, start + 1, end)
    return start


def expand(data: Any, place: Place, problems: Problems, environ: Mapping[str, str]) -> Any:
    """Return `data` with its strings expanded, at any depth; keys are left as they are."""
    if isinstance(data, str):
        return _expand_string(data, place, problems, environ)
    if isinstance(data, list):
        return [expand(item, (*place, i), problems, environ) for i, item in enumerate(data)]
    if isinstance(data, dict):
        named = place == ("manifolds",)
        return {
            key: expand(item, (*place, Key(key) if named else key), problems, environ)
            for key, item in data.items()
        }
    return data


def _expand_string(
    text: str, place: Place, problems: Problems, environ: Mapping[str, str]
) -> str | EnvStr:
    used: list[tuple[str, str]] = []

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if match[0] == "$$":
            return "$"
        if name is None:
            message = "a '$' alone; write '$$' for a dollar, '${NAME}' for a variable"
            problems.add_unusable(place, message)
        elif name not in environ:
            problems.add_unusable(place, f"${{{name}}} is not set in the environment")
        else:
            used.append((name, environ[name]))
            return environ[name]
        return match[0]

    expanded = _DOLLAR.sub(value, text)
    return EnvStr(expanded, text, tuple(used)) if used else expanded


def variables(data: Any) -> Iterator[tuple[str, str]]:
    """Yield the variables that the strings in `data` were made of."""
    if isinstance(data, EnvStr):
        yield from data.used
    elif isinstance(data, list):
        for item in data:
            yield from variables(item)
    elif isinstance(data, dict):
        for item in data.values():
            yield from variables(item)


def number_from(text: EnvStr, make: Callable[[str], Any], pattern: str) -> Any:
    """Return the number that the environment has, or ``None`` if it is none."""
    return make(text) if re.fullmatch(pattern, text.strip(), re.ASCII) else None
