"""The tests that `docs/testing.md` shows are run: all its Python, as one module."""

import inspect
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown() -> dict[str, Callable[..., Awaitable[None]]]:
    """The page's tests by name. Each block keeps its place: errors name the page's lines."""
    text = PAGE.read_text(encoding="utf-8")
    module = ModuleType("docs_testing")
    for block in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], PAGE, "exec"), vars(module))
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


TESTS = shown()


def test_the_page_has_tests_and_each_is_named_once() -> None:
    names = re.findall(r"^async def (test_\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert names
    assert sorted(names) == sorted(TESTS)


@pytest.mark.parametrize("name", TESTS)
async def test_what_the_page_shows_is_true(name: str, autojump_clock: MockClock) -> None:
    offered: dict[str, Any] = {"autojump_clock": autojump_clock}
    async with trio.open_nursery() as offered["nursery"]:
        await TESTS[name](
            **{wanted: offered[wanted] for wanted in inspect.signature(TESTS[name]).parameters}
        )
        offered["nursery"].cancel_scope.cancel()
