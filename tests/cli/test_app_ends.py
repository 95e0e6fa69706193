"""The command line in unusual company: interrupts, tracebacks, other streams, no rich."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioworker import __main__
from trioworker._cli import _app
from trioworker._cli._app import main

WORKERS = """
import trio
from trioworker import Engine, EngineConfig, Manifold

class Unspeakable(Exception):
    def __str__(self):
        raise ValueError

async def interrupts(get, *, task_status):
    raise KeyboardInterrupt

async def boom(get, *, task_status):
    raise RuntimeError("about sesame")

async def unspeakable(get, *, task_status):
    raise Unspeakable

def doomed(start):
    engine = Engine(EngineConfig(name="doomed", is_fatal=lambda e: True))
    engine.install("a", Manifold(start))
    return engine

def interrupted():
    return doomed(interrupts)

def failing():
    return doomed(boom)

def silent():
    return doomed(unspeakable)

def impatient():
    raise KeyboardInterrupt

def agents():
    return Manifold(boom)
"""
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_ends.py").write_text(WORKERS, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("cli_ends", None)


def test_a_program_that_is_interrupted_is_130_without_a_traceback(capsys: Output) -> None:
    assert main(["run", "cli_ends:interrupted"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("target", ["cli_ends:impatient", "agent.toml"])
def test_an_interrupt_while_a_program_is_being_read_is_130(
    folder: Path, capsys: Output, target: str
) -> None:
    """What the program calls may take long; Ctrl-C is no problem of the file."""
    (folder / "agent.toml").write_text('[manifolds.a]\nuse = "cli_ends:impatient"')

    assert main(["check", target]) == 130
    assert capsys.readouterr().err == ""


def test_run_with_debug_shows_the_traceback_after_the_line(capsys: Output) -> None:
    assert main(["run", "cli_ends:failing", "--debug"]) == 1
    _, _, told = capsys.readouterr().err.rpartition("trioworker: doomed failed: ")
    assert told.startswith("RuntimeError: about sesame\n")
    assert "Traceback (most recent call last)" in told
    assert "in boom" in told


def test_run_tells_also_of_an_error_whose_words_fail(capsys: Output) -> None:
    assert main(["run", "cli_ends:silent"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "trioworker: doomed failed: Unspeakable: <its message cannot be shown>"


def test_debug_adds_nothing_to_a_problem_that_nobody_raised(folder: Path, capsys: Output) -> None:
    (folder / "agent.toml").write_text('manifold.a = 1\n[manifolds.a]\nuse = "cli_ends:agents"')

    assert main(["check", "agent.toml", "--debug"]) == 2
    assert capsys.readouterr().err == (
        "$.manifold: unknown key; did you mean 'manifolds'? allowed: 'engine', 'manifolds'\n"
    )


def test_output_may_be_any_stream() -> None:
    """One that has no encoding needs no way round it."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["--version"]) == 0
    assert out.getvalue().strip()


def test_without_rich_run_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "trioworker._cli._render", raising=False)
    monkeypatch.delattr("trioworker._cli._render", raising=False)
    monkeypatch.setattr(sys, "argv", ["trioworker", "run", "cli_ends:failing"])

    with pytest.raises(SystemExit) as caught:
        __main__.main()

    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        'the trioworker command needs rich, which is not installed: pip install "trioworker[cli]"\n'
    )


def test_a_module_that_no_extra_has_is_not_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would be a broken installation, and pip install "trioworker[cli]" no way out."""
    monkeypatch.setitem(sys.modules, "trioworker._cli._app", None)

    with pytest.raises(ModuleNotFoundError, match=r"trioworker\._cli\._app"):
        __main__.main()


def test_an_interrupt_before_the_command_line_is_there_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(_app, "main", interrupted)

    with pytest.raises(SystemExit) as caught:
        __main__.main()

    assert caught.value.code == 130
    assert capsys.readouterr().err == ""


def test_what_needs_an_extra_only_when_it_prints_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def without_rich() -> int:
        raise ModuleNotFoundError("No module named 'rich'", name="rich.table")

    monkeypatch.setattr(_app, "main", without_rich)

    with pytest.raises(SystemExit) as caught:
        __main__.main()

    assert caught.value.code == 2
    assert 'pip install "trioworker[cli]"' in capsys.readouterr().err
