"""Whatever workers report becomes plain JSON of a bounded size."""

import enum
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import attrs
import pytest
from hypothesis import given, strategies as st

from trioworker import State, TombReport
from trioworker.dependency import End, Explanation, ManifoldReport, TaskStack, Transition
from trioworker.workers.agent.introspection._data import (
    DEEPEST,
    MOST_TEXT,
    MOST_THINGS,
    OURS_NAMED,
    dumped,
    explanation_data,
    manifold_data,
    masked,
    plain,
    stack_data,
    tomb_data,
    transition_data,
)


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Point(NamedTuple):
    x: int
    y: object


@attrs.frozen
class Thing:
    size: int


class Hostile:
    """Fails wherever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        n = 0
        while True:
            n += 1
            yield str(n)

    def __len__(self) -> int:
        return 1


class Lying(str):
    """A string that would be something else."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("x", "x"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (2**53 - 1, 2**53 - 1),
        (2**53, str(2**53)),
        (-(2**60), str(-(2**60))),
        (State.STARTED, "started"),
        (Color.RED, "red"),
        (Number.ONE, "1"),
        (b"\x00", "b'\\x00'"),
        ((1, [2, {3}]), [1, [2, [3]]]),
        (Point(1, Point(2, None)), {"x": 1, "y": {"x": 2, "y": None}}),
        (OrderedDict({"a": {1: 2}}), {"a": {"1": 2}}),
        ({(1, 2): "x", None: "y"}, {"(1, 2)": "x", "None": "y"}),
        (Thing(3), "Thing(size=3)"),
        (3j, "3j"),
    ],
)
def test_each_kind_becomes_what_json_has(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert json.loads(dumped(plain(value))) == expected


def test_what_fails_when_it_is_looked_at_says_so_and_the_rest_is_told() -> None:
    told = plain([1, Hostile(), Lying("x"), 2])

    assert told == [
        1,
        "... (RuntimeError when looking at it)",
        "... (RuntimeError when looking at it)",
        2,
    ]


def test_what_contains_itself_ends() -> None:
    loop: list[object] = []
    loop.append(loop)
    told = dumped(plain(loop))

    assert told == "[" * DEEPEST + '"... (nested deeper)"' + "]" * DEEPEST


def test_what_has_no_end_is_cut_off() -> None:
    told = plain({"a": Endless(), "b": 1})

    assert isinstance(told, dict)
    assert isinstance(told["a"], dict)
    assert told["a"]["..."] == "there is more"
    assert len(told["a"]) <= MOST_THINGS
    assert told["..."] == "there is more"
    assert len(dumped(plain([[0] * 1000] * 1000))) < 10 * MOST_THINGS


def test_a_long_text_is_cut_off() -> None:
    told = plain({"k" * 20_000: "x" * 20_000})

    [(key, value)] = told.items()  # type: ignore[union-attr]  # it is an object
    assert len(key) == len(value) == MOST_TEXT + 3


@given(st.text())
def test_any_text_comes_back_as_it_was_and_as_ascii(text: str) -> None:
    told = dumped(plain({text: text}))

    assert told.isascii()
    assert json.loads(told) == {text: text}
    assert not set(told) & {"\n", "\r", "\0"}  # so it is one line of an event stream


def report_with(**changes: Any) -> ManifoldReport:
    end = End(1.0, "error", "ValueError: x", ("a.py:1 in f",), None, 0.5, True, 3)
    plain_one: dict[str, Any] = {
        "name": "web",
        "state": "delayed",
        "since": 1.5,
        "inputs": ("db",),
        "optional": (),
        "live": (),
        "roles": {"database": "db"},
        "waiting_for": (),
        "starts": 1,
        "ends": 1,
        "failures": 1,
        "retry_in": 2.0,
        "why": "ValueError: x",
        "stop_cause": None,
        "stuck": None,
        "history": (end,),
        "worker": None,
    }
    return ManifoldReport(**{**plain_one, **changes})


def test_a_manifold_s_report_has_its_fields_and_its_history() -> None:
    told = json.loads(dumped(manifold_data(report_with(worker=Thing(1)))))

    assert list(told) == list(ManifoldReport._fields)
    assert told["roles"] == {"database": "db"}
    assert told["worker"] == "Thing(size=1)"
    [end] = told["history"]
    assert list(end) == list(End._fields)
    assert end["traceback"] == ["a.py:1 in f"]


def test_a_delay_without_end_is_no_number() -> None:
    assert json.loads(dumped(manifold_data(report_with(retry_in=float("inf")))))["retry_in"] is None


def test_an_explanation_is_a_chain_and_a_sentence() -> None:
    root = Explanation("db", "failed", "db was restarted too often")
    told = explanation_data(Explanation("web", "waiting", "web waits for db", root), ("front",))

    assert told == {
        "manifold": "web",
        "state": "waiting",
        "sentence": "web waits for db; db was restarted too often",
        "chain": [
            {"manifold": "web", "state": "waiting", "text": "web waits for db"},
            {"manifold": "db", "state": "failed", "text": "db was restarted too often"},
        ],
        "blast_radius": ["front"],
    }


def test_a_chain_of_a_thousand_is_told() -> None:
    link = Explanation("m0", "failed", "m0 failed")
    for n in range(1, 5000):
        link = Explanation(f"m{n}", "waiting", f"m{n} waits for m{n - 1}", link)

    assert len(explanation_data(link, ())["chain"]) == 5000


def test_transitions_stacks_and_lives_are_told() -> None:
    transition = Transition(1.0, "web", State.STARTED, State.STOPPING, "restart('web')", 7)
    assert json.loads(dumped(transition_data(transition))) == {
        "time": 1.0,
        "manifold": "web",
        "before": "started",
        "after": "stopping",
        "cause": "restart('web')",
        "origin": 7,
        "text": "web: started -> stopping (restart('web'))",
    }
    stack = TaskStack("web", ("a.py:1 in f",), (TaskStack("inner", ()),))
    assert stack_data(stack) == {
        "name": "web",
        "frames": ["a.py:1 in f"],
        "children": [{"name": "inner", "frames": [], "children": []}],
    }
    told = tomb_data(TombReport("web", "dead", "ValueError: x", (), 0, False))
    assert isinstance(told, dict)
    assert told["reason"] == "ValueError: x"


def test_what_is_masked_is_masked_everywhere_but_in_keys() -> None:
    data = {"secret": ["a secret", {"x": ("secret",)}], "n": 1}

    assert masked(data, lambda text: text.replace("secret", "${S}")) == {
        "secret": ["a ${S}", {"x": ["${S}"]}],
        "n": 1,
    }


def test_what_the_engine_says_in_its_own_words_is_never_masked() -> None:
    """A variable may have the value ``error``, or that of a manifold's name."""

    def mask(text: str) -> str:
        for value in ("error", "delayed", "db", "web"):
            text = text.replace(value, "${X}")
        return text

    told = masked(manifold_data(report_with(waiting_for=("db",))), mask, OURS_NAMED)

    assert told["name"] == "web"
    assert told["state"] == "delayed"
    assert told["inputs"] == told["waiting_for"] == ("db",)
    assert told["history"][0]["kind"] == "error"
    step = explanation_data(Explanation("web", "waiting", "web waits for db"), ("web",))
    assert masked(step, mask) == {
        "manifold": "web",
        "state": "waiting",
        "sentence": "${X} waits for ${X}",
        "chain": [{"manifold": "web", "state": "waiting", "text": "${X} waits for ${X}"}],
        "blast_radius": ["web"],
    }


def test_all_that_a_worker_reports_is_masked_keys_and_numbers_too() -> None:
    report = {"pin-1234": 1234, "state": "1234", "deep": [{"pi": 3.25, "x": 1234}], "on": True}

    def mask(text: str) -> str:
        return text.replace("1234", "${PIN}").replace("3.25", "${PI}").replace("True", "${ON}")

    told = masked(manifold_data(report_with(worker=report, starts=1234)), mask)

    assert told["worker"] == {
        "pin-${PIN}": "${PIN}",
        "state": "${PIN}",
        "deep": [{"pi": "${PI}", "x": "${PIN}"}],
        "on": True,
    }
    assert told["starts"] == 1234
