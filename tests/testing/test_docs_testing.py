"""The tests that pages of the documentation show are run: all Python of a page, as one module."""

import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["testing", "manifolds", "coordination"]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(page: str) -> dict[str, Callable[..., Awaitable[None]]]:
    """The page's tests by name. Each block keeps its place: errors name the page's lines."""
    path = DOCS / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    module = ModuleType(f"docs_{page}")
    for block in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], path, "exec"), vars(module))
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


TESTS = {page: shown(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_tests_and_each_is_named_once(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    names = re.findall(r"^async def (test_\w+)", text, re.MULTILINE)

    assert names
    assert sorted(names) == sorted(TESTS[page])


@pytest.mark.parametrize("page, name", [(page, name) for page in PAGES for name in TESTS[page]])
async def test_what_the_page_shows_is_true(page: str, name: str, autojump_clock: MockClock) -> None:
    test = TESTS[page][name]
    offered: dict[str, Any] = {"autojump_clock": autojump_clock}
    async with trio.open_nursery() as offered["nursery"]:
        await test(**{wanted: offered[wanted] for wanted in inspect.signature(test).parameters})
        offered["nursery"].cancel_scope.cancel()
