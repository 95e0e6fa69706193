"""The programs that the documentation shows run, and print what it says they print."""

import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PROGRAMS = DOCS / "examples" / "tutorial"
BOUND = 60.0
"""Seconds within which a process has ended, or hangs."""

# What each page of the tutorial shows. Of the first five, the first file is run as it stands.
TUTORIAL = {
    "1-first-worker": ["headlines.py"],
    "2-dying": ["thumbnails.py"],
    "3-children": ["mail.py"],
    "4-graph": ["greeter.py"],
    "5-breaking": ["rates.py", "rates_page.py"],
    "6-testing": ["test_headlines.py", "pytest.ini"],
    "7-agent-file": ["courier/courier.py", "courier/agent.toml", "courier/courier.service"],
    "8-several-machines": ["reporter/reporter.py", "reporter/agent.toml"],  # run in integration/
}


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
    return re.sub(r"\d+(\.\d+)? ?s\b", "N s", text)


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
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    example = (DOCS / "examples" / shown).read_text(encoding="utf-8")

    assert f"```{language}\n{example}```" in text


# -- the tutorial ---------------------------------------------------------------------------------


def page_of(name: str) -> str:
    return (DOCS / "tutorial" / f"{name}.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", TUTORIAL)
def test_a_tutorial_shows_its_programs_whole_and_quotes_them_as_they_are(name: str) -> None:
    page = page_of(name)
    programs = [(PROGRAMS / file).read_text(encoding="utf-8") for file in TUTORIAL[name]]
    shown = [block for kind in ("python", "toml", "ini") for block in blocks(page, kind)]

    assert [program for program in programs if program not in shown] == []
    lines = [line.strip() for program in programs for line in program.splitlines()]
    whole = "\n".join(lines)
    quotes = ["\n".join(line.strip() for line in block.splitlines()) for block in shown]
    assert [quote for quote in quotes if quote not in whole] == []


@pytest.mark.parametrize("name", list(TUTORIAL)[:5])
def test_a_tutorial_prints_what_its_page_shows(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On a clock that jumps, of which the program knows nothing."""
    monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    monkeypatch.chdir(tmp_path)

    runpy.run_path(str(PROGRAMS / TUTORIAL[name][0]), run_name="__main__")

    assert capsys.readouterr().out in blocks(page_of(name), "text")


@pytest.mark.parametrize("script", ["draw_lives.py", "draw_house.py"])
def test_the_pictures_show_what_happens_today(script: str) -> None:
    drawn = runpy.run_path(str(DOCS / "_scripts" / script))["PICTURES"]

    for file, draw in drawn.items():
        shown = (DOCS / file).read_text(encoding="utf-8")
        assert shown == draw(), f"run docs/_scripts/{script}"


# -- its programs that are processes --------------------------------------------------------------


def process(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """Mark a test of what only Linux has, which needs a process or two."""
    linux = pytest.mark.skipif(sys.platform != "linux", reason="asks over Unix sockets")
    return pytest.mark.full(linux(test))


@contextmanager
def running(*command: str, folder: Path, **environ: str) -> Generator[subprocess.Popen[str]]:
    """A process of ours, which is killed if it takes much too long."""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        watchdog = threading.Timer(BOUND, program.kill)
        watchdog.start()
        try:
            yield program
        finally:
            watchdog.cancel()
            program.kill()


def printed(*command: str, folder: Path, **environ: str) -> str:
    with running(*command, folder=folder, **environ) as program:
        return program.communicate()[0]


def test_the_tutorial_on_testing_tests(tmp_path: Path) -> None:
    shutil.copytree(PROGRAMS, tmp_path, dirs_exist_ok=True)
    [shown] = blocks(page_of("6-testing"), "text")

    options = ("-q", "-W", "ignore", "--color=no", "-p", "no:cacheprovider")
    told = printed("pytest", *options, "test_headlines.py", folder=tmp_path, COLUMNS="80")

    assert timeless(told) == timeless(shown)


@process
def test_the_courier_of_the_tutorial_brings_its_letter_when_it_is_stopped(tmp_path: Path) -> None:
    """In whichever order the two folders move, and should the signal come late, also the others."""
    shutil.copytree(PROGRAMS / "courier", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "agent.toml"
    file.write_text(file.read_text().replace("takes = 5", "takes = 0.5"))  # to be done sooner
    shown = blocks(page_of("7-agent-file"), "text")
    lines: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = str(tmp_path / "notify")
        systemd.bind(address)
        systemd.settimeout(BOUND)
        start = ("trioworker", "run", "agent.toml", "--level", "error")
        with running(
            *start, folder=tmp_path, COURIER_HOME="post", NOTIFY_SOCKET=address
        ) as program:
            told = [said(systemd, "READY=1")]
            (tmp_path / "post" / "out" / "ada").write_text("Dear Ada")
            assert program.stdout is not None
            for line in program.stdout:
                lines.append(line)
                if line == "carries ada\n":
                    program.send_signal(signal.SIGTERM)
            told.append(said(systemd, "STOPPING=1"))
            assert program.wait() == 0

    assert sorted(lines) == sorted(shown[0].splitlines(keepends=True))
    assert (tmp_path / "post" / "in" / "ada").exists()
    assert "".join(f"{message}\n" for message in told) == shown[2]


def said(systemd: socket.socket, beginning: str) -> str:
    while not (message := systemd.recv(10_000).decode()).startswith(beginning):
        pass
    return message


@process
def test_what_is_wrong_with_a_courier_is_told_as_its_page_says(tmp_path: Path) -> None:
    shutil.copytree(PROGRAMS / "courier", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "agent.toml"
    file.write_text(re.sub("takes = .*", 'takes = "long" }', file.read_text()))

    told = printed("trioworker", "check", "agent.toml", folder=tmp_path, COURIER_HOME="post")

    assert told == blocks(page_of("7-agent-file"), "text")[1]


@process
def test_the_shop_of_the_tutorial_says_why_and_has_a_page(tmp_path: Path) -> None:
    """As its page says, but for numbers: those tell when somebody asked."""
    shutil.copytree(PROGRAMS, tmp_path, dirs_exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program = tmp_path / "rates_page.py"
    program.write_text(program.read_text().replace("8321", str(port)))
    (tmp_path / "run").mkdir(mode=0o700)
    [shown] = [b for b in blocks(page_of("5-breaking"), "console") if "explain shop" in b]
    asked = ["explain shop", "status"]
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    with running("trioworker", "run", "rates_page:engine", folder=tmp_path, **environ):
        end = time.monotonic() + BOUND
        told = ""
        while timeless_words(told) != timeless_words(shown):
            assert time.monotonic() < end, told
            told = "".join(
                f"$ trioworker {words}\n"
                + printed("trioworker", *words.split(), folder=tmp_path, **environ)
                for words in asked
            )
        token = {"Authorization": "Bearer change-this-token"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers=token)
        with urllib.request.urlopen(request, timeout=BOUND) as page:
            assert "<title>shop" in page.read().decode()


def timeless_words(text: str) -> list[str]:
    """The words, in columns of any width, without the numbers."""
    return re.sub(r"\d+(\.\d+)?(st|nd|rd|th)?", "N", text).split()
