"""The quick tests elsewhere: on other Pythons, on the lowest dependencies, on the wheel alone.

A place is an interpreter and a file of pins. It gets an environment of its own below
build/elsewhere/, with exactly those pins and the wheel that is built from the checkout, and is made
anew when either changes. The tests run from a copy of what they read, in a temporary directory, so
that what they import is what was installed: of the checkout's own package there is no copy.

What cannot be had is no failure but is always told: an interpreter that this machine does not have,
or for which there are no dependencies yet.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "build" / "elsewhere"
MINORS = range(11, 16)  # of Python 3: from the lowest we support to the one in the making

# What the tests read; never the package itself.
COPIED = ("tests", "docs", "benchmarks", "pyproject.toml", "README.md")
# These are about the checkout, or need what only its environment has.
LEFT_OUT = {
    "tests/test_docs.py": "needs Sphinx",
    "tests/test_check.py": "reads tools/ and requirements/",
    "tests/test_typing.py": "needs the type checkers",
    "tests/test_examples.py::test_a_page_shows_the_example_as_it_is"
    "[docs/demo.md-toml-../../trioworker/_demo/agent.toml]": "reads the sources",
}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


class Place(NamedTuple):
    """Where the quick tests run once more."""

    name: str
    python: Path
    pins: str
    may_be_missing: bool


class Done(NamedTuple):
    """What became of something: its status, all that it said, and what is worth saying always."""

    code: int
    output: str
    note: str = ""


class CannotMakeError(Exception):
    """An environment cannot be made; the message is what the command said that failed."""


def places(pythons: Mapping[int, Path]) -> list[Place]:
    """Return where to run: the wheel, the lowest dependencies, and every other Python."""
    here = Path(sys.executable)
    others = [
        Place(f"Python 3.{minor}", python, "test.txt", may_be_missing=True)
        for minor, python in sorted(pythons.items())
        if minor != sys.version_info.minor
    ]
    return [
        *others,
        Place("lowest dependencies", here, "lowest.txt", may_be_missing=False),
        Place("installed wheel", here, "test.txt", may_be_missing=False),
    ]


def found_pythons(path: str, pyenv: Path) -> dict[int, Path]:
    """Return the first CPython of each minor version in `path`, else among those of `pyenv`."""
    found: dict[int, Path] = {}
    for minor in MINORS:
        for candidate in _candidates(minor, path, pyenv):
            if _is_usable(candidate, minor):
                found[minor] = candidate
                break
    return found


def _candidates(minor: int, path: str, pyenv: Path) -> Iterator[Path]:
    for folder in path.split(os.pathsep):
        yield Path(folder) / f"python3.{minor}"
    yield from sorted((pyenv / "versions").glob(f"3.{minor}.*/bin/python"), reverse=True)


def _is_usable(python: Path, minor: int) -> bool:
    """Whether this is that CPython, and can make an environment; pyenv's shims often are not."""
    if not python.exists():
        return False
    question = (
        "import sys, venv; print(sys.implementation.name, sys.version_info[:2], sys.abiflags)"
    )
    done = subprocess.run([python, "-c", question], check=False, capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.split("\n")[0] == f"cpython (3, {minor}) "


def build_wheel() -> Path:
    """Build the wheel of the checkout and return it.

    Raises:
        CannotMakeError: it cannot be built.
    """
    folder = HOME / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    _make(*PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def run_in(place: Place, wheel: Path) -> Done:
    """Run the quick tests in `place`."""
    try:
        python = _environment(place, wheel)
    except CannotMakeError as exc:
        told = str(exc).strip() or "for no reason that was told"
        if place.may_be_missing:
            return Done(0, "", f"not run: {told.splitlines()[-1]}")
        return Done(1, f"{told}\n")
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        _copy_tests(copy)
        return _run_tests(python, copy)


def _environment(place: Place, wheel: Path) -> Path:
    """Make the environment of `place`, unless it is there, and return its interpreter."""
    folder = HOME / place.name.replace(" ", "-")
    python = folder / "bin" / "python"
    pins = ROOT / "requirements" / place.pins
    key = hashlib.sha256(f"{place.python.resolve()}\n{pins.read_text()}".encode()).hexdigest()
    stamp = folder / "made-of"
    if not stamp.exists() or stamp.read_text() != key:
        _make(place.python, "-m", "venv", "--clear", "--without-pip", folder)
        _install(python, "--require-hashes", "-r", pins)
        stamp.write_text(key)
    _install(python, "--no-deps", "--force-reinstall", wheel)
    return python


def _install(python: Path, *what: str | Path) -> None:
    _make(*PIP, "--python", python, "install", "--quiet", *what)


def _make(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotMakeError(done.stdout + done.stderr)


def _copy_tests(to: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "_build")
            )
        else:
            shutil.copy(ROOT / name, to)


def _run_tests(python: Path, copy: Path) -> Done:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }

    def run(*arguments: str) -> Done:
        done = subprocess.run(
            [python, *arguments], cwd=copy, env=environ, check=False, capture_output=True, text=True
        )
        return Done(done.returncode, done.stdout + done.stderr)

    imported = run("-c", "import trioworker; print(trioworker.__file__)")
    if imported.code or not Path(imported.output.strip()).is_relative_to(python.parent.parent):
        return Done(1, f"imports something else than what was installed: {imported.output}\n")
    left_out = (f"--deselect={name}" if "::" in name else f"--ignore={name}" for name in LEFT_OUT)
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--tier=quick", *left_out)
    return tests._replace(note=closing(tests.output))


def closing(output: str) -> str:
    """Return the line that pytest closed with, without its seconds, if it came that far."""
    found = re.findall(r"^=* ?((?:\d+ [a-z]+, )*\d+ [a-z]+) in [0-9.]+s", output, re.MULTILINE)
    return found[-1] if found else "pytest did not get to its closing line"
