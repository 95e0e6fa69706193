"""The command as a process: statuses, signals, and what it does without the extra.

Each of these starts an interpreter, so there are few. They wait for lines, never for time.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

WORKERS = """
import time
import trio
from trioworker import Manifold

async def forever(get, *, task_status):
    task_status.started()
    await trio.sleep_forever()

async def shielded(get, *, task_status):
    task_status.started()
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

def polite():
    return Manifold(forever)

def slow():
    return Manifold(forever, ask=lambda _: None, grace=600.0)

async def blocking(get, *, task_status):
    task_status.started()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass
    await trio.sleep_forever()

def busy():
    return Manifold(blocking)

def deaf():
    return Manifold(shielded)
"""
posix = pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process")


def agent(folder: Path, factory: str) -> Path:
    (folder / "workers.py").write_text(WORKERS, encoding="utf-8")
    path = folder / "agent.toml"
    path.write_text(f'[manifolds.a]\nuse = "workers:{factory}"\n', encoding="utf-8")
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "trioworker", *arguments]


def signalled(path: Path, *signals: signal.Signals, options: Sequence[str] = ()) -> tuple[int, str]:
    """Run an agent; send each signal once the line that calls for it is there."""
    with subprocess.Popen(
        command("run", str(path), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        assert process.stdout is not None
        lines: list[str] = []
        triggers = ["starting -> started", "draining -> stopping"]
        for number in signals:
            trigger = triggers.pop(0)
            for line in process.stdout:
                lines.append(line)
                if trigger in line:
                    break
            process.send_signal(number)
        lines += process.stdout
        status = process.wait()
        watchdog.cancel()
    return status, "".join(lines)


@posix
def test_sigterm_is_a_clean_stop(tmp_path: Path) -> None:
    status, output = signalled(agent(tmp_path, "polite"), signal.SIGTERM)

    assert status == 0, output
    assert "a: stopping -> stopped" in output
    [line] = [line for line in output.splitlines() if "SIGTERM" in line]
    assert "SIGTERM: stopping, the engine is killed; a second signal stops hard" in line


@posix
def test_two_sigints_are_130(tmp_path: Path) -> None:
    status, output = signalled(agent(tmp_path, "slow"), signal.SIGINT, signal.SIGINT)

    assert status == 130, output
    assert "a: stopping -> stopped" in output


@posix
def test_what_will_not_end_is_left_behind_by_a_second_signal(tmp_path: Path) -> None:
    status, output = signalled(agent(tmp_path, "deaf"), signal.SIGINT, signal.SIGTERM)

    assert status == 143, output
    assert "still running, and left behind: a" in output


@posix
def test_a_watchdog_says_that_the_loop_was_blocked(tmp_path: Path) -> None:
    status, output = signalled(
        agent(tmp_path, "busy"), signal.SIGTERM, options=["--watchdog", "0.1"]
    )

    assert status == 0
    assert "the event loop" in output
    assert "blocked for 0." in output


def test_a_broken_file_is_status_2_without_a_traceback(tmp_path: Path) -> None:
    path = agent(tmp_path, "politer")
    ended = subprocess.run(command("run", str(path)), capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert ended.stderr == (
        "$.manifolds['a'].use: 'workers' has no 'politer'; did you mean 'polite'? "
        "there are: 'busy', 'deaf', 'polite', 'slow'\n"
    )


@pytest.mark.parametrize("package, arguments", [("cyclopts", ["--help"]), ("rich", ["--help"])])
def test_without_the_extra_the_command_says_how_to_install_it(
    package: str, arguments: list[str]
) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv[1:] = {arguments!r}; "
        "from trioworker.__main__ import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        (
            f"the trioworker command needs {package}, which is not installed: "
            'pip install "trioworker[cli]"'
        )
    ]


@posix
def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    path = agent(tmp_path, "polite")
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        command("check", str(path)), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)

    assert ended.returncode == 1
    assert ended.stderr == ""
