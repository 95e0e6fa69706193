"""The Python of a page of the documentation, as one module with tests in it."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

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
