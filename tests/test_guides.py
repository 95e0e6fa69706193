"""The guides of the documentation are true: each is a module with tests, and these are run here."""

import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from .pages import DOCS, Snippet, outcome, shown, snippets

NEEDS = {"howto/asgi": "anycorn", "howto/from-asyncio": "anyio"}
"""What a page imports that an environment with the lowest versions need not have."""

GUIDES = {
    page: shown(page)
    for path in sorted((DOCS / "howto").glob("*.md"))
    if "def test_" in path.read_text(encoding="utf-8")
    if (page := f"howto/{path.stem}") not in NEEDS or find_spec(NEEDS[page])
}

for _page, _tests in GUIDES.items():
    for _name, _test in _tests.items():
        # As functions of this module, so that pytest gives them the fixtures that they ask for.
        globals()[f"test_{re.sub('[^a-z]', '_', _page)}__{_name.removeprefix('test_')}"] = _test


@pytest.mark.parametrize("page", GUIDES)
def test_each_test_of_a_guide_has_a_name_of_its_own(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    names = re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)

    assert sorted(names) == sorted(GUIDES[page])


def names_of_ours(page: str) -> list[str]:
    """What stands in backticks in the second column of the page's tables."""
    rows = re.findall(r"^\| .* \| (.*) \| .*\|$", page, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]


def is_a_name(dotted: str) -> bool:
    """Whether it is a public name of the package, or of a wing that has the workers."""
    name, _, rest = dotted.partition(".")
    for package in ("trioworker", "trioworker.workers.coordination", "trioworker.workers.data"):
        found: object = import_module(package)
        if find_spec(f"{package}.{name}"):
            found, last = import_module(f"{package}.{name}"), rest
        else:
            last = dotted
        for attribute in last.split("."):
            found = getattr(found, attribute, getattr(found, "__annotations__", {}).get(attribute))
        if found is not None:
            return True
    return False


def test_the_table_for_those_who_come_from_go_names_what_there_is() -> None:
    page = (DOCS / "howto" / "from-juju-worker.md").read_text(encoding="utf-8")
    names = names_of_ours(page)

    assert len(names) > 80
    assert [name for name in names if not is_a_name(name)] == []


SNIPPETS = [(page, it) for page in ("writing-workers", "explanation") for it in snippets(page)]
HABITS = [it for page, it in SNIPPETS if page == "writing-workers"]
SECTIONS = list(dict.fromkeys(it.section for it in HABITS))


@pytest.mark.parametrize(
    "page, snippet", SNIPPETS, ids=[f"{page}, {it.kind} {it.section}" for page, it in SNIPPETS]
)
def test_a_snippet_says_what_stands_below_it(page: str, snippet: Snippet) -> None:
    assert outcome(page, snippet.code) == snippet.outcome


def test_each_habit_is_shown_wrong_and_right() -> None:
    page = (DOCS / "writing-workers.md").read_text(encoding="utf-8")
    kinds = {section: {it.kind for it in HABITS if it.section == section} for section in SECTIONS}

    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS
    assert len(SECTIONS) == 15
    assert all(kind == {"Wrong", "Right"} for kind in kinds.values())
