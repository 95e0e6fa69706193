"""What a Config may be made of, and how strictly a file has to fit it."""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional
from uuid import UUID

import attrs
import pytest

from trioworker.agent._problems import Problems
from trioworker.agent._structure import FAILED, structure


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Word(enum.StrEnum):
    ON = "on"


class Level(enum.IntEnum):
    LOW = 1


class Old(str, enum.Enum):  # noqa: UP042 - as many still write it
    NEW = "new"


@attrs.frozen
class Inner:
    x: int
    y: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@attrs.frozen
class Pair:
    low: int = 0
    high: int = 10

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


@attrs.frozen
class Private:
    _secret: str


@attrs.frozen
class Tree:
    name: str
    children: tuple["Tree", ...] = ()


Port = NewType("Port", int)
WHEN = dt.datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001 - TOML has such


@pytest.mark.parametrize(
    "type_, given, value",
    [
        (int, 1, 1),
        (float, 1, 1.0),
        (float, 1.5, 1.5),
        (bool, True, True),
        (str, "a", "a"),
        (Any, [1], [1]),
        (Path, "a/b", Path("a/b")),
        (Port, 80, 80),
        (Annotated[int, "port"], 80, 80),
        (int | None, 1, 1),
        (Optional[str], "a", "a"),  # noqa: UP045 - people write it
        (int | str, "a", "a"),
        (int | str, 1, 1),
        (list[int] | str, [1], [1]),
        (Inner | str, {"x": 1}, Inner(1)),
        (Literal["a", 1], 1, 1),
        (Colour, "red", Colour.RED),
        (Word, "on", Word.ON),
        (Level, 1, Level.LOW),
        (Old, "new", Old.NEW),
        (tuple[Word, ...], ["on"], (Word.ON,)),
        (list[int], [1, 2], [1, 2]),
        (Sequence[int], [1, 2], (1, 2)),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[str], ["a"], {"a"}),
        (frozenset[str], ["a"], frozenset("a")),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Mapping[str, Inner], {"a": {"x": 1}}, {"a": Inner(1)}),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (dt.datetime, WHEN, WHEN),
        (dt.date, WHEN.date(), WHEN.date()),
        (dt.time, WHEN.time(), WHEN.time()),
        (Private, {"secret": "a"}, Private("a")),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", (Tree("b"),))),
    ],
)
def test_what_fits_is_taken(type_: Any, given: object, value: object) -> None:
    problems = Problems()
    made = structure(given, type_, (), problems)

    assert problems.found == []
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    "type_, given, lines",
    [
        (int, "1", ["$: expected an integer, got '1'"]),
        (int, 1.0, ["$: expected an integer, got 1.0"]),
        (int, True, ["$: expected an integer, got true"]),
        (float, "1", ["$: expected a number, got '1'"]),
        (float, False, ["$: expected a number, got false"]),
        (float, 10**400, ["$: expected a number below 1.8e308, got " + "1" + "0" * 98 + "…"]),
        (bool, 1, ["$: expected true or false, got 1"]),
        (bool, "true", ["$: expected true or false, got 'true'"]),
        (str, 1, ["$: expected a string, got 1"]),
        (str, [], ["$: expected a string, got an array"]),
        (Path, 1, ["$: expected a string, got 1"]),
        (int | None, "1", ["$: expected an integer, got '1'"]),
        (int | str, 1.5, ["$: expected an integer or a string, got 1.5"]),
        (Inner | str, {"x": "1"}, ["$.x: expected an integer, got '1'"]),
        (list[int] | str, ["1"], ["$[0]: expected an integer, got '1'"]),
        (Literal["a", "b"], "c", ["$: expected 'a' or 'b', got 'c'"]),
        (Literal[1], True, ["$: expected 1, got true"]),
        (Word, "off", ["$: expected 'on', got 'off'"]),
        (Level, 2, ["$: expected 1, got 2"]),
        (Colour, "green", ["$: expected 'red' or 'blue', got 'green'"]),
        (list[int], "12", ["$: expected an array, got '12'"]),
        (list[int], {"a": 1}, ["$: expected an array, got a table"]),
        (set[str], "ab", ["$: expected an array, got 'ab'"]),
        (
            tuple[int, ...],
            [1, "a", 2, "b"],
            [
                "$[1]: expected an integer, got 'a'",
                "$[3]: expected an integer, got 'b'",
            ],
        ),
        (dict[str, int], [1], ["$: expected a table, got an array"]),
        (
            dict[str, int],
            {"a": "x", "b-c": "y"},
            [
                "$['a']: expected an integer, got 'x'",
                "$['b-c']: expected an integer, got 'y'",
            ],
        ),
        (dt.date, WHEN, ["$: expected a date, got 2026-01-02T03:04:00"]),
        (dt.datetime, "2026", ["$: expected a date with a time, got '2026'"]),
        (Inner, {}, ["$.x: missing; it is required (an integer)"]),
        (Inner, [1], ["$: expected a table, got an array"]),
        (Inner, {"x": 1, "y": 0}, ["$.y: 'y' must be >= 1: 0"]),
        (
            Inner,
            {"x": "1", "z": 1},
            [
                "$.x: expected an integer, got '1'",
                "$.z: unknown key; allowed: 'x', 'y'",
            ],
        ),
        (Pair, {"low": 20}, ["$.low: low is above high"]),
        (Pair, {"low": 20, "high": 30}, []),
        (
            Private,
            {"_secret": "a"},
            [
                "$._secret: unknown key; did you mean 'secret'? allowed: 'secret'",
                "$.secret: missing; it is required (a string)",
            ],
        ),
        (
            Tree,
            {"name": "a", "children": [{"nam": 1}]},
            [
                "$.children[0].nam: unknown key; did you mean 'name'? allowed: 'name', 'children'",
                "$.children[0].name: missing; it is required (a string)",
            ],
        ),
        (UUID, "x", [f"$: its type {UUID!r} cannot be read from a file"]),
    ],
)
def test_what_does_not_fit_is_told(type_: Any, given: object, lines: list[str]) -> None:
    problems = Problems()
    made = structure(given, type_, (), problems)

    assert sorted(map(str, problems.found)) == lines
    assert (made is FAILED) == bool(lines)


@pytest.mark.parametrize("type_, given", [(Word, "on"), (Level, 1), (Old, "new"), (Colour, "red")])
def test_an_enum_that_is_a_string_or_a_number_too_is_still_an_enum(
    type_: type[enum.Enum], given: object
) -> None:
    """It was left the plain string, which is equal, and no other string was refused."""
    value = structure(given, type_, (), Problems())

    assert type(value) is type_
