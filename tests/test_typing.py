"""Both type checkers really read what tests/typing/api.py pins."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
API = ROOT / "tests" / "typing" / "api.py"
BIN = Path(sys.executable).parent
IGNORES = {
    "mypy": re.compile(r"  # type: ignore\[.*?\]"),
    "pyright": re.compile(r"  # pyright: .*"),
}

pytestmark = pytest.mark.full  # each starts a type checker


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the checkers need to read the file as it is read here, to be changed."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "trioworker").symlink_to(ROOT / "trioworker")
    (tmp_path / ".venv").symlink_to(BIN.parent)
    (tmp_path / "tests" / "typing").mkdir(parents=True)
    return tmp_path


def expected(checker: str) -> set[int]:
    lines = API.read_text(encoding="utf-8").splitlines()
    return {n for n, line in enumerate(lines, 1) if IGNORES[checker].search(line)}


def without_ignores(checkout: Path) -> str:
    text = API.read_text(encoding="utf-8")
    for ignore in IGNORES.values():
        text = ignore.sub("", text)
    path = checkout / API.relative_to(ROOT)
    path.write_text(text, encoding="utf-8")
    return str(path.relative_to(checkout))


def said(checkout: Path, *command: str | Path) -> str:
    environ = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=checkout, env=environ, check=False, capture_output=True, text=True, timeout=300
    )
    return done.stdout


def test_there_is_much_to_expect() -> None:
    assert len(expected("mypy")) > 50
    assert len(expected("pyright")) > 50


def test_mypy_finds_each_error_and_no_other(checkout: Path) -> None:
    path = without_ignores(checkout)

    output = said(checkout, BIN / "mypy", "--cache-dir", ROOT / ".mypy_cache", path)

    errors = re.findall(rf"^{re.escape(path)}:(\d+): error", output, re.MULTILINE)
    assert {int(number) for number in errors} == expected("mypy"), output


def test_pyright_finds_each_error_and_no_other(checkout: Path) -> None:
    path = without_ignores(checkout)

    output = said(checkout, BIN / "pyright", "--outputjson", path)

    errors = json.loads(output)["generalDiagnostics"]
    assert {1 + e["range"]["start"]["line"] for e in errors} == expected("pyright"), output
