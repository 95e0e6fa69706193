"""The demo as a process, seen from outside: its output, its directory, its status.

Nothing here trusts what the demo says about itself: `Books` counts on its own, from the manifest,
the directories and the database, with the standard library's sqlite3.

Whoever waits, waits for a sign (lines of output, files that are done with) within `BOUND`, which is
generous: it is there to end a test that hangs, not to measure anything.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from hashlib import sha256
from typing import IO, TYPE_CHECKING, Any, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

BOUND = 90.0
"""Seconds after which a sign will not come any more."""

COMMAND = (sys.executable, "-m", "trioworker", "demo")


def wait_for(sign: Callable[[], object], what: str) -> None:
    """Wait until `sign` is there."""
    end = time.monotonic() + BOUND
    while not sign():
        assert time.monotonic() < end, f"{what} did not happen within {BOUND:g} s"
        time.sleep(0.01)


def count(directory: Path) -> int:
    """Return how many files there are; none, if there is no such directory."""
    return len(list(directory.iterdir())) if directory.is_dir() else 0


@final
@attrs.frozen
class Outcome:
    """How a demo has ended."""

    status: int
    out: str
    err: str

    def expect(self, status: int, *told: str) -> None:
        """Check status and output: all of `told` is in it, and no traceback."""
        both = self.out + self.err
        assert self.status == status, both
        assert "Traceback" not in both, both
        for text in told:
            assert text in both, both

    @property
    def failures(self) -> list[str]:
        """The lines that tell what was not as it should have been."""
        return [line for line in self.out.splitlines() if line.startswith("FAILED: ")]


@final
class _Reader:
    """Takes what a process prints, as long as it does."""

    def __init__(self, stream: IO[str] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._lines.append(line)

    def join(self) -> None:
        self._thread.join(BOUND)

    @property
    def text(self) -> str:
        return "".join(self._lines)


@final
class Demo:
    """A demo that runs, for the length of a ``with`` block; killed at its end, if it still does."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        seconds: float = 1,
        files: int = 60,
        seed: int = 1,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.directory = directory
        numbers = (f"--seconds={seconds}", f"--files={files}", f"--seed={seed}")
        # Pipes and no files: the limits that a test sets are not about them.
        self.process = subprocess.Popen(
            [*command, *numbers, "--dir", str(directory), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._out, self._err = _Reader(self.process.stdout), _Reader(self.process.stderr)

    def __enter__(self) -> Demo:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._out.join()
        self._err.join()

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.text

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait_for(self, sign: Callable[[], object], what: str) -> None:
        """Wait for a sign, or for the end."""
        wait_for(lambda: self.has_ended or sign(), what)

    def wait_lines(self, number: int) -> None:
        """Wait until it has printed so many lines, or has ended."""
        self.wait_for(lambda: self.out.count("\n") >= number, f"{number} lines of output")

    def wait_done(self, number: int) -> None:
        """Wait until so many files are in ``done/``; it must not end before."""
        done = self.directory / "done"
        self.wait_for(lambda: count(done) >= number, f"{number} files in done/")
        assert not self.has_ended, self.outcome()

    def outcome(self) -> Outcome:
        """Wait for the end."""
        status = self.process.wait(timeout=BOUND)
        self._out.join()
        self._err.join()
        return Outcome(status, self.out, self._err.text)


def run(directory: Path, *options: str, **settings: Any) -> Outcome:
    """Run a demo to its end."""
    with Demo(directory, *options, **settings) as demo:
        return demo.outcome()


def go_on(directory: Path) -> Outcome:
    """Continue with what is there, without new files and without faults."""
    return run(directory, seconds=0, files=0)


@final
class Books:
    """What is in a demo's directory, counted from outside. Nobody may be running in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.dropped = list(self._manifest())
        with closing(sqlite3.connect(directory / "demo.db")) as database:
            tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('files', 'rows')"
            if database.execute(tables).fetchone() == (2,):
                self.files = dict(database.execute("SELECT sha256, lines FROM files").fetchall())
                self.rows = database.execute("SELECT sha256, line, body FROM rows").fetchall()
            else:  # killed before it had made them
                self.files, self.rows = {}, []

    def _manifest(self) -> list[dict[str, Any]]:
        path = self._directory / "manifest.jsonl"
        found: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # empty or torn
        return found

    def contents(self, place: str) -> list[bytes]:
        """Return what is in the files of a directory."""
        directory = self._directory / place
        return [path.read_bytes() for path in sorted(directory.glob("*.jsonl"))]

    def check(self) -> None:
        """What holds at any moment: what is done is stored, whole, and nothing twice."""
        by_file = Counter(key for key, _, _ in self.rows)
        for content in self.contents("done"):
            key = sha256(content).hexdigest()
            lines = content.decode().splitlines()
            stored = {line: body for other, line, body in self.rows if other == key}
            assert self.files.get(key) == len(lines), "a file in done/ is not stored"
            assert list(stored.values()) == lines or sorted(stored.values()) == sorted(lines)
            assert by_file[key] == len(lines), "a file is stored in part, or more than whole"
        assert by_file == Counter(self.files), "a file is stored in part, or more than whole"
        twice = [body for body, n in Counter(body for _, _, body in self.rows).items() if n > 1]
        assert not twice, f"stored twice: {twice}"

    def check_complete(self) -> None:
        """What holds in the end: every file that was dropped is where it belongs, once."""
        self.check()
        done = Counter(sha256(content).hexdigest() for content in self.contents("done"))
        bad = Counter(sha256(content).hexdigest() for content in self.contents("bad"))
        good = {d["sha256"] for d in self.dropped if d["number"] % 40}
        malformed = {d["sha256"] for d in self.dropped if d["number"] % 40 == 0}
        assert done == Counter(good)
        assert bad == Counter(malformed)
        assert self.contents("inbox") == self.contents("work") == []
