"""Where mistakes are in what is not an attrs class, and what validators of any kind may raise."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

import attrs
import pytest

from trioworker.agent._problems import Problems
from trioworker.agent._structure import FAILED, structure


@dataclass
class Address:
    host: str
    port: int


class Point(NamedTuple):
    x: int


class Colours(TypedDict):
    front: str


def refuse(instance: Any, attribute: Any, value: Any) -> None:
    raise LookupError("no such shop")


@attrs.frozen
class Validated:
    shop: int = attrs.field(validator=refuse)


@attrs.frozen
class Choosing:
    which: int | Literal["all"]


@attrs.frozen
class Span:
    low: int = 0
    high: int = 10

    def __attrs_post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


@attrs.frozen
class Even:
    number: int
    twice: int = 0

    def __attrs_post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("the number is odd")


def at_most_base(instance: Any, attribute: Any, value: int) -> None:
    if value > instance.base:
        raise ValueError("it is above base")


def stripped(name: str) -> str:
    return name.strip()


def part_of_one(parts: int) -> float:
    return 1 / parts


@attrs.frozen(slots=True, kw_only=True)
class Checked:
    base: int
    name: str = attrs.field(default="a", converter=stripped, validator=attrs.validators.min_len(1))
    level: int = attrs.field(default=0, validator=[attrs.validators.ge(0), at_most_base])
    share: float = attrs.field(default=1, converter=part_of_one)


@pytest.mark.parametrize(
    "type_, given, lines",
    [
        (
            Address,
            {"host": 1, "port": "a"},
            ["$.c.host: expected a string, got 1", "$.c.port: expected an integer, got 'a'"],
        ),
        (
            list[Address],
            [{"port": 1}],
            ["$.c[0].host: missing; it is required"],
        ),
        (
            dict[str, Address],
            {"main": {"host": "h"}},
            ["$.c['main'].port: missing; it is required"],
        ),
        (Colours, {"front": 1}, ["$.c.front: expected a string, got 1"]),
        (Colours, {}, ["$.c.front: missing; it is required"]),
        (Point, ["a"], ["$.c[0]: expected an integer, got 'a'"]),
        (
            tuple[int, str],
            ["a"],
            [
                "$.c[0]: expected an integer, got 'a'",
                "$.c: Not enough values in ['a'] to structure as tuple[int, str]",
            ],
        ),
        (Validated, {"shop": 1}, ["$.c.shop: LookupError: no such shop"]),
        # What goes well with the defaults is not to blame.
        (Span, {"low": 20, "high": 5}, ["$.c.low: low is above high"]),
        # No field with a default can be, if it is wrong without all of them.
        (Even, {"number": 1, "twice": 2}, ["$.c: the number is odd"]),
        # Where some fields are wrong, the others are checked all the same, each by itself.
        (
            Checked,
            {"base": "x", "name": " ", "level": -1, "share": 0},
            [
                "$.c.base: expected an integer, got 'x'",
                "$.c.share: ZeroDivisionError: float division by zero",
                "$.c.name: Length of 'name' must be >= 1: 0",
                "$.c.level: 'level' must be >= 0: -1",
            ],
        ),
        (
            Checked,
            {"name": " "},
            [
                "$.c.base: missing; it is required (an integer)",
                "$.c.name: Length of 'name' must be >= 1: 0",
            ],
        ),
        (
            Checked,
            {"base": 1, "level": 2, "nosuch": 3},
            [
                "$.c.nosuch: unknown key; allowed: 'base', 'name', 'level', 'share'",
                "$.c.level: it is above base",
            ],
        ),
        # What the others are checked against is wrong itself.
        (Checked, {"base": "x", "level": 2}, ["$.c.base: expected an integer, got 'x'"]),
        (Span, {"low": 20, "high": "x"}, ["$.c.high: expected an integer, got 'x'"]),
        (Choosing, {"which": 1.5}, ["$.c.which: expected an integer or 'all', got 1.5"]),
        (Choosing, {}, ["$.c.which: missing; it is required (an integer or 'all')"]),
    ],
)
def test_a_mistake_is_told_where_it_is(type_: Any, given: object, lines: list[str]) -> None:
    problems = Problems()

    assert structure(given, type_, ("c",), problems) is FAILED
    assert [str(problem) for problem in problems.found] == lines


def test_what_is_right_in_them_is_taken() -> None:
    problems = Problems()

    assert structure({"host": "h", "port": 1}, Address, ("c",), problems) == Address("h", 1)
    assert not problems.found
