"""Agent files: unreadable ones, factories of every kind, and mistakes that lie on another."""

from pathlib import Path
from typing import Any

import pytest

from trioworker.agent import AgentFileError, load
from trioworker.agent._problems import one_line

from .conftest import Folder

ODD = """
from __future__ import annotations

import attrs
from trioworker import Manifold

async def forever(get, *, task_status):
    task_status.started()

largest = max

@attrs.frozen
class Config:
    port: int = 80
    share: float = 0.5

@attrs.frozen
class Lost:
    port: Nowhere = 80

def lost(config: Lost):
    return Manifold(forever)

class Service:
    def __new__(cls, config: Config):
        return Manifold(forever, live=(f"port-{config.port}-{config.share}",))

def good():
    return Manifold(forever)
"""


@pytest.fixture
def odd(folder: Folder) -> Folder:
    folder.module("odd", ODD)
    return folder


def test_a_file_that_cannot_be_opened_is_told_in_the_systems_words(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.symlink_to(path)

    with pytest.raises(AgentFileError, match=r"agent\.toml: cannot be read: Too many"):
        load(path)


def test_a_builtin_that_does_not_say_what_it_takes_is_no_factory(odd: Folder) -> None:
    [line] = odd.problems('[manifolds.a]\nuse = "odd:largest"')
    assert line.startswith("$.manifolds['a'].use: 'odd:largest' does not say what it takes: ")


def test_neither_is_it_offered_as_one(odd: Folder) -> None:
    assert odd.problems('[manifolds.a]\nuse = "odd:larges"') == [
        "$.manifolds['a'].use: 'odd' has no 'larges'; there are: 'good', 'lost'"
    ]


def test_a_config_whose_own_types_cannot_be_made_out_is_told(odd: Folder) -> None:
    [line] = odd.problems('[manifolds.a]\nuse = "odd:lost"')
    assert line.startswith("$.manifolds['a'].use: 'odd:lost': the types in Lost cannot be made out")
    assert line.endswith(": NameError: name 'Nowhere' is not defined")


def test_a_class_may_be_a_factory_and_a_number_come_from_the_environment(odd: Folder) -> None:
    odd.environ["SHARE"] = "2.5e-1"
    agent = odd.load(
        '[manifolds.a]\nuse = "odd:Service"\nconfig = { port = 8080, share = "${SHARE}" }'
    )
    assert agent.manifolds["a"].live == ("port-8080-0.25",)


def test_a_text_from_the_environment_that_is_no_number_is_told_and_not_shown(odd: Folder) -> None:
    odd.environ["SHARE"] = "a half"
    [line] = odd.problems('[manifolds.a]\nuse = "odd:Service"\nconfig = { share = "${SHARE}" }')
    assert line == "$.manifolds['a'].config.share: expected a number, got ${SHARE}"


def test_options_of_a_manifold_that_cannot_be_made_are_checked_all_the_same(odd: Folder) -> None:
    text = """
        [manifolds.a]
        use = "odd:Service"
        start_timeout = -5
        grace = 3
        stop_timeout = -1
        config = { port = "x" }

        [manifolds.b]
        use = "odd:nobody"
        grace = -1
    """
    assert [line.partition("; did")[0] for line in odd.problems(text)] == [
        "$.manifolds['a'].config.port: expected an integer, got 'x'",
        "$.manifolds['a'].start_timeout: must be greater than 0, in seconds, not -5.0",
        "$.manifolds['a'].stop_timeout: must be at least 0, in seconds, not -1.0",
        "$.manifolds['b'].grace: must be at least 0, in seconds, not -1.0",
        "$.manifolds['b'].use: 'odd' has no 'nobody'",
    ]


def test_a_role_that_is_not_declared_and_whose_target_is_unset_is_told_once(
    folder: Folder,
) -> None:
    text = '[manifolds.a]\nuse = "workers:web"\ninputs = { db = "b", dbx = "${UNSET}" }\n'
    assert folder.problems(text + '[manifolds.b]\nuse = "workers:plain"') == [
        "$.manifolds['a'].inputs.dbx: ${UNSET} is not set in the environment"
    ]


def test_an_input_that_the_file_names_and_nobody_is_is_told_where_it_is_named(
    folder: Folder,
) -> None:
    assert folder.problems('[manifolds.a]\nuse = "workers:web"\ninputs = ["db"]') == [
        "$.manifolds['a'].inputs[0]: there is no manifold 'db'; there are: 'a'"
    ]


def test_of_very_many_cycles_twenty_are_told(folder: Folder) -> None:
    text = '[manifolds.a{0}]\nuse = "workers:web"\ninputs = {{ db = "a{0}" }}\n'
    lines = folder.problems("".join(map(text.format, range(25))))

    assert len(lines) == 20
    assert all("waits for itself" in line for line in lines)


def test_an_error_whose_words_fail_is_told_all_the_same() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError

    told: Any = one_line(Unspeakable())
    assert told == "Unspeakable: <its message cannot be shown>"
