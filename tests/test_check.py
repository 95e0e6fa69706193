"""What `make check` is made of: it fails when a stage does, and says what it has not run."""

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return import_module("elsewhere")


@pytest.fixture
def check(elsewhere: Any) -> Any:
    return import_module("check")


def fake_python(path: Path, said: str, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{said}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def bounds() -> Iterator[tuple[str, str]]:
    """Each lower bound in pyproject.toml of what the tests elsewhere install."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = tables["project"]["optional-dependencies"]
    for lines in (
        tables["project"]["dependencies"],
        *extras.values(),
        tables["dependency-groups"]["test"],
    ):
        for line in lines:
            if found := re.fullmatch(r"([a-z_-]+)>=([0-9.]+)", line):
                yield found[1], found[2]


def test_a_stage_that_fails_says_what_it_said(
    check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "print('the reason'); raise SystemExit(3)"

    assert not check.stage("one", lambda: check.run([sys.executable, "-c", code]))

    assert re.fullmatch(r"the reason\n== one: FAILED, [0-9.]+ s\n", capsys.readouterr().out)


def test_a_stage_that_is_good_says_its_seconds_and_its_note_only(
    check: Any, elsewhere: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.stage("one", lambda: elsewhere.Done(0, "much", "12 passed"))

    assert re.fullmatch(r"== one: ok, [0-9.]+ s; 12 passed\n", capsys.readouterr().out)


def test_the_check_fails_when_one_stage_does(
    check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(status: int) -> list[str]:
        return [sys.executable, "-c", f"raise SystemExit({status})"]

    def none(*where: object) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr(check, "elsewhere", none)
    monkeypatch.setattr(check, "found_pythons", none)
    statuses = {}
    for reading, tests in [(0, 0), (1, 0), (0, 1)]:
        monkeypatch.setattr(check, "READING", {"bad": command(reading), "good": command(0)})
        monkeypatch.setattr(check, "TESTS", command(tests))
        statuses[reading, tests] = check.main()

    assert statuses == {(0, 0): 0, (1, 0): 1, (0, 1): 1}
    said = capsys.readouterr().out
    assert "== good: ok" in said
    assert re.findall(r"^== check: (\w+), [0-9.]+ s(.*)$", said, re.MULTILINE) == [
        ("ok", ""),
        ("FAILED", "; bad"),
        ("FAILED", "; tests and coverage"),
    ]


def test_what_is_not_run_is_told(check: Any) -> None:
    absent, *rest = check.not_run({minor: Path("python") for minor in range(11, 15)})

    assert absent == "the quick tests on Python 3.15: not found here"
    assert "the long tests: make stress" in rest


def test_the_first_python_that_can_make_an_environment_is_taken(
    elsewhere: Any, tmp_path: Path
) -> None:
    shim, good, later = tmp_path / "shims", tmp_path / "good", tmp_path / "later"
    fake_python(shim / "python3.12", "not this one", status=127)
    fake_python(shim / "python3.13", "pypy (3, 13) ")
    python = fake_python(good / "python3.12", "cpython (3, 12) ")
    fake_python(later / "python3.12", "cpython (3, 12) ")
    pyenv = fake_python(tmp_path / "pyenv/versions/3.13.0/bin/python", "cpython (3, 13) ")
    fake_python(tmp_path / "pyenv/versions/3.14.0/bin/python", "cpython (3, 14) t")

    path = os.pathsep.join(map(str, [shim, good, later]))
    found = elsewhere.found_pythons(path, tmp_path / "pyenv")

    assert found == {12: python, 13: pyenv}


def test_another_python_that_cannot_have_an_environment_is_no_failure_but_told(
    elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "HOME", tmp_path)
    python = fake_python(tmp_path / "python3.15", "there is no trio for it", status=1)

    def run(*, may_be_missing: bool) -> Any:
        place = elsewhere.Place("Python 3.15", python, "test.txt", may_be_missing)
        return elsewhere.run_in(place, tmp_path / "a.whl")

    assert run(may_be_missing=True) == (0, "", "not run: there is no trio for it")
    assert run(may_be_missing=False).code == 1


def test_every_place_is_one_of_the_pythons_the_lowest_dependencies_or_the_wheel(
    elsewhere: Any,
) -> None:
    here = sys.version_info.minor
    names = [place.name for place in elsewhere.places({here: Path("a"), here + 1: Path("b")})]

    assert names == [f"Python 3.{here + 1}", "lowest dependencies", "installed wheel"]


def test_what_is_left_out_elsewhere_is_there(elsewhere: Any) -> None:
    for name in elsewhere.LEFT_OUT:
        path, _, test = name.partition("::")
        assert test.partition("[")[0] in (ROOT / path).read_text(encoding="utf-8")


def test_the_lowest_dependencies_are_the_lower_bounds() -> None:
    """One that nothing can be resolved to would be a bound that nobody has tried."""
    pinned = dict(
        re.findall(
            r"^([a-z-]+)==([0-9.]+)", (ROOT / "requirements/lowest.txt").read_text(), re.MULTILINE
        )
    )
    lowest = dict(bounds())

    assert len(lowest) > 10
    assert {name: f"{pinned[name]}.".startswith(f"{low}.") for name, low in lowest.items()} == (
        dict.fromkeys(lowest, True)
    )
