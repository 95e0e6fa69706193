"""The tests that pages of the documentation show are run: all Python of a page, as one module."""

import inspect
import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ..pages import DOCS, shown

PAGES = ["testing", "manifolds", "coordination", "data"]
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
