"""The commands, called in this process: what they print and return."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioworker._cli._app import main

WORKERS = """
import attrs, trio
from trioworker import Engine, EngineConfig, Manifold

@attrs.frozen
class Config:
    port: int = 80
    token: str = ""

async def forever(get, *, task_status):
    task_status.started()
    await trio.sleep_forever()

async def boom(get, *, task_status):
    raise ExceptionGroup("two", [ValueError("sesame"), KeyError("b")])

def plain() -> Manifold:
    return Manifold(forever)

def web(config: Config):
    return Manifold(forever, inputs=("db",), optional=("cache",), live=("settings",))

def leaky(config: Config):
    raise ValueError(config.token)

mapping = {"a": Manifold(forever), "b": Manifold(forever, inputs=("a",))}
engine = Engine(EngineConfig(name="mine"))
engine.install("a", Manifold(forever))
bad_mapping = {"a": Manifold(forever, inputs=("nope",))}
one = Manifold(forever)
number = 3
config = {"port": 80}

def pair(a, b):
    pass

def function():
    return mapping

def broken():
    raise LookupError("gone")

def exits():
    raise SystemExit(0)

async def coroutine():
    pass

def fatal():
    engine = Engine(EngineConfig(name="doomed", is_fatal=lambda e: True))
    engine.install("a", Manifold(boom))
    return engine

async def quits(get, *, task_status):
    raise SystemExit(0)

def quitter():
    return {"a": Manifold(quits)}
"""
PYTHON = "a Python program is given as module:attribute"
AGENT = """
engine.name = "shop"
manifolds.db.use = "cli_workers:plain"
manifolds.web.use = "cli_workers:web"
manifolds.web.config.token = "${TOKEN}"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "sesame")
    (tmp_path / "cli_workers.py").write_text(WORKERS, encoding="utf-8")
    (tmp_path / "agent.toml").write_text(AGENT, encoding="utf-8")
    yield tmp_path
    sys.modules.pop("cli_workers", None)


Output = pytest.CaptureFixture[str]


def test_check_says_how_many_are_fine(capsys: Output) -> None:
    assert main(["check", "agent.toml"]) == 0
    assert capsys.readouterr() == ("agent.toml: 2 manifolds are fine\n", "")


def test_check_counts_what_the_file_says_and_not_the_built_in_engine(
    folder: Path, capsys: Output
) -> None:
    more = '[manifolds.it]\nuse = "trioworker.workers.agent.introspection:manifold"\n'
    (folder / "agent.toml").write_text(f"{AGENT}\n{more}", encoding="utf-8")

    assert main(["check", "agent.toml"]) == 0
    assert capsys.readouterr() == ("agent.toml: 3 manifolds are fine\n", "")


def test_check_prints_the_problems_and_nothing_else(folder: Path, capsys: Output) -> None:
    (folder / "agent.toml").write_text(AGENT + "manifolds.web.config.port = 'x'\nmanifold.a = 1")

    assert main(["check", "agent.toml"]) == 2
    assert capsys.readouterr() == (
        "",
        (
            "$.manifold: unknown key; did you mean 'manifolds'? allowed: 'engine', 'manifolds'\n"
            "$.manifolds['web'].config.port: expected an integer, got 'x'\n"
        ),
    )


@pytest.mark.parametrize("command", ["run", "check", "graph"])
@pytest.mark.parametrize(
    "target, cause",
    [
        ("nowhere.toml", "there is no such file"),
        ("cli_workers", f"there is no such file; {PYTHON}"),
        ("a b:c", f"there is no such file; {PYTHON}"),
        (".", f"is a directory; name the file in it; {PYTHON}"),
        ("empty.toml", "is empty"),
        ("binary.toml", "is not UTF-8: byte 0xff in line 1"),
        ("large.toml", "is too large: 10 MB or more"),
        (
            "syntax.toml",
            "is not TOML: Expected '=' after a key in a key/value pair (at line 1, column 4)",
        ),
        (
            "cli_workers.py",
            (
                "is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 8); "
                f"{PYTHON}"
            ),
        ),
        (
            "cli_workers:engin",
            (
                "'cli_workers' has no 'engin'; did you mean 'engine'? there are: 'bad_mapping', "
                "'broken', 'engine', 'exits', 'fatal', 'function', 'mapping', 'quitter'"
            ),
        ),
        (
            "cli_worker:x",
            (
                "there is no module 'cli_worker'; did you mean 'cli_workers'? "
                "in the current directory: 'cli_workers'"
            ),
        ),
        ("cli_workers:one", "one is a Manifold; wrap it: {'one': one}"),
        ("cli_workers:plain", "plain() is a Manifold; wrap it: {'plain': plain()}"),
        (
            "cli_workers:web",
            (
                "it takes (config); name a function without arguments "
                "(this one is a factory for an agent file)"
            ),
        ),
        ("cli_workers:pair", "it takes (a, b); name a function without arguments"),
        ("cli_workers:forever", "it is async; name a plain function"),
        (
            "cli_workers:number",
            (
                "expected an Engine, a mapping of names to Manifolds, or a "
                "function that returns either, got a value of type int"
            ),
        ),
        ("cli_workers:broken", "LookupError: gone"),
        ("cli_workers:exits", "SystemExit: 0"),
        ("cli_workers:coroutine", "it is async; name a plain function"),
        (
            "cli_workers:bad_mapping",
            (
                'inputs that nothing provides: "a" needs "nope". '
                "Install them with the others, or say that they come later: later={...}"
            ),
        ),
    ],
)
def test_what_cannot_be_run_is_one_line(
    folder: Path, capsys: Output, command: str, target: str, cause: str
) -> None:
    (folder / "empty.toml").touch()
    (folder / "binary.toml").write_bytes(b"\xff")
    (folder / "large.toml").write_bytes(b"#" * 10**7)
    (folder / "syntax.toml").write_text("no toml")

    assert main([command, target]) == 2
    assert capsys.readouterr() == ("", f"{target}: {cause}\n")


def test_an_empty_target_is_called_that(capsys: Output) -> None:
    assert main(["check", ""]) == 2
    assert capsys.readouterr().err == (
        "the target: is empty; name an agent file, or module:attribute\n"
    )


def test_debug_shows_the_traceback_masked(folder: Path, capsys: Output) -> None:
    path = folder / "agent.toml"
    path.write_text('[manifolds.a]\nuse = "cli_workers:leaky"\nconfig = { token = "${TOKEN}" }')

    assert main(["check", "agent.toml"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["check", "agent.toml", "--debug"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "ValueError: ${TOKEN}" in error
    assert "sesame" not in error


@pytest.mark.parametrize("target", ["engine", "mapping", "function"])
def test_a_target_may_be_an_object(capsys: Output, target: str) -> None:
    assert main(["check", f"cli_workers:{target}"]) == 0
    assert capsys.readouterr().out.startswith(f"cli_workers:{target}: ")


def test_a_file_with_a_colon_is_a_file(folder: Path, capsys: Output) -> None:
    if os.name == "nt":
        pytest.skip("no such names")
    (folder / "a:b").write_text(AGENT)

    assert main(["check", "a:b"]) == 0


@pytest.mark.parametrize(
    "format_, beginning",
    [("text", "shop: 2 manifolds"), ("dot", "digraph"), ("mermaid", "flowchart"), ("svg", "<svg")],
)
def test_graph_draws(capsys: Output, format_: str, beginning: str) -> None:
    assert main(["graph", "agent.toml", "--format", format_]) == 0
    drawn = capsys.readouterr().out
    assert drawn.startswith(beginning)
    assert "cache" in drawn
    assert "settings" in drawn


@pytest.mark.parametrize("command", ["run", "check", "graph", "demo"])
def test_help_shows_an_example(capsys: Output, command: str) -> None:
    assert main([command, "--help"]) == 0
    assert f"trioworker {command}" in capsys.readouterr().out.partition("Example:")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["run"],
        ["check", "a", "b"],
        ["run", "a", "--nope"],
        ["graph", "a", "--format", "gif"],
    ],
)
def test_a_bad_command_line_is_status_2(capsys: Output, arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err


def test_without_a_command_there_is_help(capsys: Output) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("run", "check", "graph"))


def test_version(capsys: Output) -> None:
    import trioworker

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == trioworker.__version__


def test_run_ends_with_the_error_of_the_program(capsys: Output) -> None:
    assert main(["run", "cli_workers:fatal"]) == 1
    out, err = capsys.readouterr()
    assert "a: waiting -> starting" in out.splitlines()
    assert err.splitlines()[-1] == "trioworker: doomed failed: ValueError: sesame; KeyError: 'b'"
    assert err.count('"a" manifold failed') == 1, "logged once"
    assert err.count("failed: ValueError: sesame; KeyError: 'b'\n") == 1, "and told once at the end"


def test_a_worker_that_exits_is_an_error(capsys: Output) -> None:
    assert main(["run", "cli_workers:quitter"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "trioworker: engine failed: SystemExit: 0"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_watchdog_needs_a_threshold(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "agent.toml", "--watchdog", seconds]) == 2

    told = capsys.readouterr().err
    assert told == f"--watchdog must be more than 0 seconds, not {float(seconds):g}\n"


def test_schema_prints_what_an_editor_reads(capsys: Output) -> None:
    assert main(["schema"]) == 0
    without = json.loads(capsys.readouterr().out)
    assert main(["schema", "agent.toml"]) == 0
    with_file = json.loads(capsys.readouterr().out)

    assert "cli_workers.Config" not in without["definitions"]
    assert "cli_workers.Config" in with_file["definitions"]


def test_schema_of_no_file_says_so(capsys: Output) -> None:
    assert main(["schema", "nowhere.toml"]) == 2
    assert capsys.readouterr() == ("", "nowhere.toml: there is no such file\n")
