"""What the documentation's scripts write is up to date, and says what the code says."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from sphinx.pycode import ModuleAnalyzer

from trioworker._cli._app import app
from trioworker.dependency import State

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
RULE = re.compile(r"`(test_[a-z]+\d+_)\.\.\.`")


@pytest.fixture
def draw() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "_scripts" / "draw_states.py"))


def test_the_drawn_states_are_those_of_the_table(draw: dict[str, Any]) -> None:
    assert (DOCS / "states.svg").read_text() == draw["svg"](), "run docs/_scripts/draw_states.py"
    assert (DOCS / "states.md").read_text() == draw["page"](), "run docs/_scripts/draw_states.py"


def test_a_transition_without_a_place_in_the_picture_is_an_error(draw: dict[str, Any]) -> None:
    del draw["svg"].__globals__["ROUTES"]["done", State.WAITING]
    with pytest.raises(ValueError, match="done -> waiting"):
        draw["svg"]()


def rules_and_prefixes(name: str) -> tuple[list[str], list[str]]:
    page = (DOCS / "contracts" / f"{name}.md").read_text(encoding="utf-8")
    return re.findall(r"^### ([A-Z]\d+)\.", page, re.MULTILINE), RULE.findall(page)


@pytest.mark.parametrize("name", ["lifetimes", "engine"])
def test_each_rule_of_a_contract_names_its_tests(name: str) -> None:
    rules, prefixes = rules_and_prefixes(name)

    assert rules
    assert prefixes == [f"test_{rule.lower()}_" for rule in rules]


@pytest.mark.parametrize("name", ["lifetimes", "engine"])
def test_the_tests_that_a_contract_names_are_there(name: str) -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))

    assert not [p for p in rules_and_prefixes(name)[1] if f"def {p}" not in tests]


@pytest.mark.parametrize(
    "package, field",
    [
        ("trioworker", ("RunnerConfig", "is_fatal")),
        ("trioworker", ("TombReport", "reason")),
        ("trioworker", ("Manifold", "outputs")),
        ("trioworker", ("EngineConfig", "on_failed")),
        ("trioworker.dependency", ("ManifoldReport", "waiting_for")),
        ("trioworker.dependency", ("Explanation", "text")),
    ],
)
def test_autodoc_finds_what_stands_under_a_field(package: str, field: tuple[str, str]) -> None:
    """That each field is in the reference, the build itself checks: see `check_complete`."""
    runpy.run_path(str(DOCS / "conf.py"))["merge_sources"](package)

    analyzer = ModuleAnalyzer.for_module(package)

    assert "".join(analyzer.attr_docs[field])
    assert ".".join(field) in analyzer.tagorder


def test_the_page_of_the_command_line_tells_of_each_command() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    commands = [name for name in app if not name.startswith("-")]

    assert "run" in commands
    assert not [name for name in commands if f"$ trioworker {name}" not in page]


def test_the_table_of_others_is_that_of_the_page_about_them() -> None:
    def table(page: Path) -> str:
        text = page.read_text(encoding="utf-8")
        [found] = re.findall(r"^\| \| what it.*?\n\n", text, re.DOTALL | re.MULTILINE)
        return re.sub(r"\[([^]]*)\]\(#[^)]*\)", r"\1", found)

    assert table(DOCS.parent / "README.md") == table(DOCS / "comparison.md")
