"""The Python of a page of the documentation: as a module with tests in it, or as snippets."""

import contextlib
import io
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import trio
from trio.testing import MockClock

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(page: str) -> dict[str, Callable[..., Awaitable[None]]]:
    """The page's tests by name. Each block keeps its place: errors name the page's lines."""
    path = DOCS / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    module = ModuleType(f"docs_{re.sub(r'[^a-z]', '_', page)}")
    for block in BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))
        exec(compile("\n" * lines_before + block[1], path, "exec"), vars(module))
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


class Snippet(NamedTuple):
    """A block of Python that is a program, with what the page says of it."""

    section: str
    kind: str
    """The bold words before it: "Wrong", "Right" or nothing."""
    code: str
    """With what it needs of the blocks before it, each on its line of the page."""
    outcome: str


PARTS = re.compile(
    r"^## (?P<section>[^\n]*)$"
    r"|^\*\*(?P<kind>[A-Z]\w*)[^*\n]*\*\*"
    r"|^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<outcome>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)


def snippets(page: str) -> Iterator[Snippet]:
    """The programs of a page: the blocks below which stands what they print.

    A block without that belongs to each program of its section; one before the first section, to
    each of the page.
    """
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    shared: dict[int, list[str]] = {}
    section, kind = "", ""
    for part in PARTS.finditer(text):
        if part["section"] is not None:
            section, kind = part["section"], ""
            shared = {line: code for line, code in shared.items() if line < 0}
        elif part["kind"] is not None:
            kind = part["kind"]
        else:
            line = text.count("\n", 0, part.start("code"))
            code = part["code"].splitlines()
            if part["outcome"] is None:
                shared[line if section else -line] = code
                continue
            needed = {abs(at): block for at, block in shared.items()} | {line: code}
            placed = list(lines)
            for at, block in needed.items():
                placed[at : at + len(block)] = block
            yield Snippet(section, kind, "\n".join(placed), part["outcome"])


def outcome(page: str, code: str) -> str:
    """What a program prints, and the last words of the error that it ends with."""
    module: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, DOCS / f"{page}.md", "exec"), module)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            trio.run(module["main"], clock=MockClock(autojump_threshold=0))
        except (Exception, trio.Cancelled) as error:  # noqa: BLE001 - it is shown
            said.write("".join(traceback.format_exception_only(error)))
    return re.sub(r"0x[0-9a-f]+", "0x...", said.getvalue())
