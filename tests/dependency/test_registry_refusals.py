"""E1: what is no mapping, what is no near name, and a verdict that says nothing."""

from typing import Any

import pytest

from trioworker import NotFound
from trioworker.dependency import Engine
from trioworker.dependency._verdicts import Kind, Verdict, judged

from .harness import Program


@pytest.mark.parametrize("wrong", [["db"], None, "db"])
def test_e1_install_all_takes_a_mapping(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a mapping from names to manifolds, not"):
        Engine().install_all(wrong)


def test_e1_among_very_many_names_no_likely_typo_is_looked_for() -> None:
    """It would hold up the program for longer than it helps anybody."""
    program = Program()
    for number in range(300):
        program.install(f"worker-{number}")
    with pytest.raises(NotFound) as caught:
        program.engine.restart("worker-3OO")

    assert str(caught.value) == 'no manifold "worker-3OO" is installed in "engine"'


def test_the_base_of_the_verdicts_says_nothing_and_is_an_error() -> None:
    exc = Verdict()

    assert judged(exc) == (Kind.ERROR, exc)
