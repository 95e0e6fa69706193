"""The programs that the documentation shows run, and print what it says they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "docs" / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_prints_what_its_page_shows(path: Path) -> None:
    expected = path.with_suffix(".out")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=path.parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert timeless(done.stdout) == timeless(expected.read_text(encoding="utf-8"))


def timeless(text: str) -> str:
    """How long something takes is the machine's to say."""
    return re.sub(r"\d+(\.\d+)? s\b", "N s", text)


@pytest.mark.parametrize(
    "page, language, shown",  # what is shown, as seen from docs/examples
    [
        ("README.md", "python", "readme.py"),
        ("README.md", "text", "readme.out"),
        ("docs/getting-started.md", "python", "first.py"),
        ("docs/getting-started.md", "text", "first.out"),
        ("docs/agent-files.md", "toml", "shop/agent.toml"),
        ("docs/agent-files.md", "python", "shop/shop.py"),
        ("docs/demo.md", "toml", "../../trioworker/_demo/agent.toml"),
    ],
)
def test_a_page_shows_the_example_as_it_is(page: str, language: str, shown: str) -> None:
    """As text of its own, because pages are also read where no include is followed."""
    docs = EXAMPLES[0].parents[1]
    text = (docs.parent / page).read_text(encoding="utf-8")
    example = (docs / "examples" / shown).read_text(encoding="utf-8")

    assert f"```{language}\n{example}```" in text
