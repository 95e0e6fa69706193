"""The validators that our configs share: what they refuse, and in which words."""

import math

import attrs
import pytest

from trioworker.patterns import named, positive


@attrs.frozen
class Config:
    name: str = attrs.field(default="a", validator=named)
    term: float = attrs.field(default=1.0, validator=positive)


def test_what_can_be_used_is_taken() -> None:
    assert Config("b", 0.001) == Config(name="b", term=0.001)


def test_an_empty_name_is_refused_by_its_field() -> None:
    with pytest.raises(ValueError, match=r"^name must be a name, not empty$"):
        Config(name="")


@pytest.mark.parametrize("term", [0, -1.0, math.inf, math.nan])
def test_what_is_no_span_of_time_is_refused_by_its_field(term: float) -> None:
    with pytest.raises(ValueError, match=r"^term must") as caught:
        Config(term=term)

    assert str(caught.value) == f"term must be more than 0 and finite, not {term!r}"
