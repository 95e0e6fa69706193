"""Draw how the package is built, and the demo's graph, from the code.

    python docs/_scripts/draw_house.py

writes `docs/house.svg`: the floors of the package, and which of the lower ones each really imports
from; and `docs/demo.svg`: who needs whom in the demo's agent file, as
`trioworker graph` draws it. A test fails when they are no longer what is drawn here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib.util import resolve_name
from pathlib import Path

import trioworker
from trioworker._drawing import graph_of, svg
from trioworker.agent import load

DOCS = Path(__file__).resolve().parent.parent
PACKAGE = Path(trioworker.__file__).parent

WIDTH, TOP, FLOOR, COLUMN = 860, 40, 46, 34
STYLE = """
.ground { fill: #ffffff }
.end { text-anchor: end }
.not { fill: none; stroke: #b8c2cf }
.name { font-weight: bold }
.floor { fill: #eef2f7; stroke: #b8c2cf }
.uses { fill: #4a7fb5 }
text { font: 12px sans-serif; fill: #1f2d3a }
.note { fill: #566573 }
.centre { text-anchor: middle }
@media (prefers-color-scheme: dark) {
  .ground { fill: #1b1f24 }
  .floor { fill: #262c34; stroke: #4a545f }
  .uses { fill: #6ba3d6 }
  text { fill: #e6e9ec }
  .note { fill: #a3adb8 }
}
"""


def floors() -> dict[str, int]:
    """Return the floor of each module and package, from the table that a test holds them to."""
    tree = ast.parse((DOCS.parent / "tests" / "test_layering.py").read_text(encoding="utf-8"))
    [table] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS"
    ]
    return {module: floor for floor, modules in table.items() for module in modules}


def names() -> dict[int, str]:
    """Return what the docstring of the package says of each floor."""
    listed = re.findall(r"^- (\d): (.*?)[;.]$", trioworker.__doc__ or "", re.MULTILINE | re.DOTALL)
    return {int(floor): " ".join(text.replace("`", "").split()) for floor, text in listed}


def uses() -> set[tuple[int, int]]:
    """Return which floor imports from which: pairs of numbers."""
    floor = floors()
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        package = ".".join(parts[:-1])
        if path.name == "__init__.py" and len(parts) == 2:  # noqa: PLR2004 - the package itself
            continue  # which imports from all floors that it exports
        for imported in _imported(ast.parse(path.read_text(encoding="utf-8")), package):
            there = (*imported.split("."), "", "")
            if there[0] == "trioworker":
                target = there[1] if there[1] in floor else ""
                found.add((floor[parts[1]], floor[target]))
    return {(upper, lower) for upper, lower in found if upper != lower}


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def house() -> str:
    """Return the picture of the floors."""
    what, pairs = names(), uses()
    count = len(what)
    height = TOP + count * FLOOR + 10
    right = WIDTH - 16 - COLUMN * (count - 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>The floors of the package, and which of the lower ones each imports from</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        '<text class="note" x="16" y="24">floor</text>',
        f'<text class="note end" x="{right - 12}" y="24">imports from</text>',
    ]
    for lower in range(count - 1):
        x = right + COLUMN * (count - 2 - lower) + COLUMN // 2
        parts.append(f'<text class="note centre" x="{x}" y="24">{lower}</text>')
    for floor, text in what.items():
        y = TOP + (count - 1 - floor) * FLOOR
        parts.append(
            f'<rect class="floor" x="8" y="{y}" width="{WIDTH - 16}" height="{FLOOR - 6}" rx="5"/>'
        )
        parts.append(f'<text class="name" x="20" y="{y + 25}">{floor}</text>')
        parts.append(f'<text x="44" y="{y + 25}">{escape(text)}</text>')
        for lower in range(floor):
            x = right + COLUMN * (count - 2 - lower) + COLUMN // 2
            kind = "uses" if (floor, lower) in pairs else "not"
            parts.append(f'<circle class="{kind}" cx="{x}" cy="{y + 20}" r="5"/>')
    return "\n".join([*parts, "</svg>", ""])


def demo() -> str:
    """Return the picture of the demo's program, on a white ground: its colours are for that."""
    environ = {"TRIOWORKER_DEMO_DIR": "anywhere", "TRIOWORKER_DEMO_SEED": "1"}
    agent = load(PACKAGE / "_demo" / "agent.toml", environ=environ)
    picture = svg(graph_of(agent.engine().report(), agent.mask))
    ground = '<rect width="100%" height="100%" rx="6" fill="#fff"/>'
    return picture.replace("<defs>", f"{ground}\n<defs>", 1).rstrip() + "\n"


PICTURES: Mapping[str, Callable[[], str]] = {"house.svg": house, "demo.svg": demo}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
