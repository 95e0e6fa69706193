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


def test_the_readme_shows_the_example_and_its_output() -> None:
    readme = (EXAMPLES[0].parents[2] / "README.md").read_text(encoding="utf-8")
    example = EXAMPLES[0].parent / "readme.py"

    assert f"```python\n{example.read_text(encoding='utf-8')}```" in readme
    assert f"```text\n{example.with_suffix('.out').read_text(encoding='utf-8')}```" in readme
