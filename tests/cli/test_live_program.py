"""The commands against real programs: a crash, a stop, kill -9, Ctrl-C, a closed pipe.

Whoever waits, waits for a sign from the other process within `BOUND`, which only ends what hangs.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, final

import pytest

if sys.platform != "linux":
    pytest.skip("the terminals of these tests are of Linux", allow_module_level=True)

import pty
import select

from trioworker._cli._app import main

pytestmark = pytest.mark.full
Output = pytest.CaptureFixture[str]
BOUND = 60.0
WORKERS = """
import trio
from pathlib import Path
from trioworker import Manifold

def clock():
    return Manifold(forever)

def db():
    return Manifold(database)

def web():
    return Manifold(forever, inputs=("db",))

def page():
    return Manifold(forever, inputs=("web", "clock"))

def slow():
    return Manifold(until, ask=lambda _: None, grace=600.0)

async def forever(get, *, task_status):
    task_status.started()
    await trio.sleep_forever()

async def database(get, *, task_status):
    if Path("broken").exists():
        raise ConnectionError("no line to db.example")
    await forever(get, task_status=task_status)

async def until(get, *, task_status):
    task_status.started()
    while not Path("end").exists():
        await trio.sleep(0.01)
"""
AGENT = """
engine.name = "shop"
engine.restart = {error_delay = 30.0, max_delay = 30.0}
manifolds.introspection.use = "trioworker.workers.agent.introspection:manifold"
"""


TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the one that Ctrl-C comes from
from trioworker.__main__ import main
main()
"""


def until(sign: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + BOUND
    while not sign():
        assert time.monotonic() < end, f"{what} did not happen within {BOUND:g} s"
        time.sleep(0.02)


@final
class Process:
    """A command as a process, for the length of a ``with`` block; its output line by line."""

    def __init__(
        self, *arguments: str, folder: Path | None = None, stdout: int = subprocess.PIPE
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trioworker", *arguments],
            cwd=folder,
            text=True,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in (
                (self._process.stdout, self.lines),
                (self._process.stderr, self.errors),
            )
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        with stream:
            lines.extend(stream)

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self.status()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def status(self) -> int:
        """Wait for its end."""
        status: int = self._process.wait(BOUND)
        for reader in self._readers:
            reader.join(BOUND)
        return status

    def wait_line(self, text: str) -> None:
        until(lambda: any(text in line for line in self.lines), f"{text!r} in the output")


@pytest.fixture
def folder(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program is; it listens in `runtime`."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # some of these are killed
    monkeypatch.delenv("COVERAGE_PROCESS_START", raising=False)
    (tmp_path / "workers.py").write_text(WORKERS)
    names = ("clock", "db", "web", "page")
    lines = [f'manifolds.{name}.use = "workers:{name}"' for name in names]
    (tmp_path / "agent.toml").write_text("\n".join([AGENT, *lines]))
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Iterator[Process]:
    """A program that is ready."""
    with Process("run", "agent.toml", folder=folder) as program:
        assert main(["wait", "--timeout", str(BOUND)]) == 0
        yield program


def shown(capsys: Output, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


# -- what has happened -----------------------------------------------------------------------------


def test_a_crash_is_explained_down_to_its_root(shop: Process, folder: Path, capsys: Output) -> None:
    assert shown(capsys, "status")[0] == 0
    (folder / "broken").touch()
    assert shown(capsys, "restart", "db") == (0, "db: asked for restart\n", "")
    shop.wait_line("db: stopping -> delayed")

    status, out, _ = shown(capsys, "explain", "page")
    assert status == 0
    assert out.startswith("page waits for web; web waits for db; db is backing off ")
    assert "ConnectionError: no line to db.example" in out
    assert "\nroot cause: db\n" in out
    status, out, _ = shown(capsys, "status")
    assert status == 1
    assert re.search(r"^page +waiting .* waits for web, because of db$", out, re.MULTILINE)
    assert re.search(r"^db +delayed .* ConnectionError: no line .* ago\)$", out, re.MULTILINE)
    status, out, err = shown(capsys, "wait", "--timeout", "0.1")
    assert (status, out) == (1, "")
    assert err.startswith("trioworker: not ready\n    db is backing off ")
    status, out, _ = shown(capsys, "events")
    assert re.search(r" db +error .* ConnectionError: no line to db.example$", out, re.MULTILINE)

    (folder / "broken").unlink()
    assert shown(capsys, "restart", "db")[0] == 0
    assert shown(capsys, "wait", "--timeout", str(BOUND)) == (0, "ready\n", "")
    assert shown(capsys, "explain", "web")[1].startswith("web has been started for ")


def test_an_operator_holds_and_releases(shop: Process, capsys: Output) -> None:
    assert shown(capsys, "hold", "db")[0] == 0
    shop.wait_line("db: stopping -> held")
    out = shown(capsys, "explain", "page")[1]
    assert re.search(r"db +held +is held by an operator", out)
    assert "root cause: db" in out
    assert shown(capsys, "release", "db")[0] == 0
    assert shown(capsys, "wait", "--timeout", str(BOUND))[0] == 0


def test_names_and_paths_are_the_programs_own(
    shop: Process, tmp_path: Path, capsys: Output
) -> None:
    status, out, err = shown(capsys, "explain", "pgae")
    assert (status, out) == (2, "")
    assert err == "trioworker: there is no manifold 'pgae'\n  did you mean 'page'?\n"
    assert "forever" in shown(capsys, "stacks", "clock")[1]
    assert shown(capsys, "trace", "-o", str(tmp_path / "trace.json"))[0] == 0
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert {"clock", "db", "web", "page"} <= {
        event["args"].get("name") for event in trace["traceEvents"]
    }


def test_json_of_a_program_is_what_it_says(shop: Process, capsys: Output) -> None:
    report = json.loads(shown(capsys, "status", "--json")[1])
    assert report["ready"] is True
    assert report["manifolds"]["db"]["state"] == "started"
    assert json.loads(shown(capsys, "explain", "db", "--json")[1])["blast_radius"] == [
        "web",
        "page",
    ]
    assert json.loads(shown(capsys, "stacks", "--json")[1])["clock"]


def test_a_program_that_stops_says_who_holds_it_up(folder: Path, capsys: Output) -> None:
    with (folder / "agent.toml").open("a") as agent:
        agent.write('\nmanifolds.slow.use = "workers:slow"\n')
    with Process("run", "agent.toml", folder=folder) as program:
        assert main(["wait", "--timeout", str(BOUND)]) == 0
        program.signal(signal.SIGTERM)
        program.wait_line("db: stopping -> stopped")

        status, out, _ = shown(capsys, "status")
        assert status == 1
        assert re.search(r"^slow +stopping ", out, re.MULTILINE)
        assert "\nshop  stopping" in out
        assert "it was asked and not cancelled yet" in shown(capsys, "explain", "slow")[1]
        (folder / "end").touch()
        assert program.status() == 0
    assert shown(capsys, "status")[0] == 3


# -- following and watching ------------------------------------------------------------------------


def test_followed_events_end_with_the_program(shop: Process, runtime: Path) -> None:
    with Process("events", "--follow", "--socket", str(runtime / "shop.sock")) as follower:
        touch_until(follower, "clock: stopping -> waiting")
        shop.signal(signal.SIGTERM)
        assert follower.status() == 0, follower.errors
    assert any("db: stopping -> stopped" in line for line in follower.lines)
    assert follower.errors == []
    assert shop.status() == 0


def test_a_program_that_is_killed_while_it_is_followed_is_no_end(
    shop: Process, runtime: Path
) -> None:
    with Process("events", "--follow", "--socket", str(runtime / "shop.sock")) as follower:
        touch_until(follower, "clock: stopping -> waiting")
        shop.signal(signal.SIGKILL)
        assert follower.status() == 4
    [error] = follower.errors
    assert "the answer broke off: the program has ended, or was killed" in error


def test_ctrl_c_ends_following_and_watching_without_a_word(shop: Process, runtime: Path) -> None:
    for command, sign in (("events", "--follow"), ("status", "--watch")):
        with Process(command, sign, "--socket", str(runtime / "shop.sock")) as follower:
            touch_until(follower, "clock")
            follower.signal(signal.SIGINT)
            assert follower.status() == 130
        assert follower.errors == []


def test_a_reader_that_has_enough_ends_following_without_a_word(
    shop: Process, runtime: Path
) -> None:
    reader, writer = os.pipe()
    socket = str(runtime / "shop.sock")
    with Process("events", "--follow", "--socket", socket, stdout=writer) as follower:
        os.close(writer)
        until(lambda: touched() and ready_to_read(reader), "a first line")
        os.close(reader)
        until(lambda: touched() and follower.has_ended, "the end")
        assert follower.status() == 1
    assert follower.errors == []


def test_watched_without_a_terminal_each_change_is_a_table_or_a_line(
    shop: Process, runtime: Path, capsys: Output
) -> None:
    socket = str(runtime / "shop.sock")
    with (
        Process("status", "--watch", "--socket", socket) as plain,
        Process("status", "--watch", "--json", "--socket", socket) as lines,
    ):
        plain.wait_line("shop  ready: ")
        until(lambda: len(lines.lines) > 0, "a first line")
        assert main(["hold", "clock"]) == 0
        plain.wait_line("shop  not ready: ")
        until(lambda: json.loads(lines.lines[-1])["ready"] is False, "a second line")
        shop.signal(signal.SIGTERM)
        assert plain.status() == lines.status() == 3
    assert len(lines.lines) < 15, "only what has changed"


def test_a_program_that_is_killed_while_it_is_watched_leaves_a_terminal_in_order(
    shop: Process, runtime: Path
) -> None:
    with Terminal("status", "--watch", "--socket", str(runtime / "shop.sock")) as watched:
        watched.wait("shop  ready: 6 manifolds, 6 started")
        watched.wait("Ctrl-C ends this")
        shop.signal(signal.SIGKILL)
        assert watched.status() in {3, 4}
    assert "Traceback" not in watched.text
    assert re.search(
        r"trioworker: \S+shop.sock: (nobody listens any more|the answer broke)", watched.text
    )
    assert watched.raw.count("\x1b[?25l") == watched.raw.count("\x1b[?25h") == 1, "the cursor"


def test_ctrl_c_on_a_watched_terminal_leaves_it_in_order(shop: Process, runtime: Path) -> None:
    with Terminal("status", "--watch", "--socket", str(runtime / "shop.sock")) as watched:
        watched.wait("Ctrl-C ends this")
        watched.type("\x03")
        assert watched.status() == 130
    assert "Traceback" not in watched.text
    assert watched.raw.endswith("\x1b[?25h")


def test_a_program_that_is_stopped_for_a_while_is_still_watched(
    shop: Process, runtime: Path
) -> None:
    with Terminal("status", "--watch", "--socket", str(runtime / "shop.sock")) as watched:
        watched.wait("Ctrl-C ends this")
        shop.signal(signal.SIGSTOP)
        watched.wait("no answer in time: the program's event loop may be blocked")
        shop.signal(signal.SIGCONT)
        mark = len(watched.raw)
        until(lambda: "Ctrl-C ends this" in watched.raw[mark:], "going on")
        watched.type("\x03")
        assert watched.status() == 130


# -- several, and none -----------------------------------------------------------------------------


def test_what_a_killed_program_leaves_is_said_to_be_left_and_then_replaced(
    shop: Process, folder: Path, runtime: Path, capsys: Output
) -> None:
    shop.signal(signal.SIGKILL)
    shop.status()
    status, out, err = shown(capsys, "status")
    assert (status, out) == (3, "")
    assert f"{runtime}/shop.sock is left over from a program that was killed" in err
    with Process("run", "agent.toml", folder=folder):
        assert shown(capsys, "wait", "--timeout", str(BOUND)) == (0, "ready\n", "")


def touched() -> bool:
    """Have something happen in the program."""
    return main(["restart", "clock"]) == 0


def touch_until(follower: Process, text: str) -> None:
    """Have something happen until it is seen: it begins to follow at a moment of its own."""
    until(lambda: touched() and any(text in line for line in follower.lines), f"seeing {text!r}")


def ready_to_read(reader: int) -> bool:
    return bool(select.select([reader], [], [], 0)[0])


@final
class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", TERMINAL, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._ours, 4096)
            except OSError:  # the other side is closed
                return
            if not data:
                return
            self.raw += data.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """All that was printed, without what moves and colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(BOUND)
        os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait(self, text: str) -> None:
        until(lambda: text in self.text, f"{text!r} on the terminal")

    def status(self) -> int:
        status = self._process.wait(BOUND)
        self._reader.join(BOUND)
        return status
