"""The demo as a whole: the command itself, run for a second, interrupted, killed, continued."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker import Dying, Engine, Getter, Manifold, Missing
from trioworker._demo import inbox, program
from trioworker._demo.chaos import VICTIMS
from trioworker._demo.faults import InjectedFault
from trioworker._demo.folder import Folder
from trioworker._demo.inbox import Arrivals
from trioworker._demo.program import (
    AGENT_FILE,
    CannotRun,
    Ledger,
    Logs,
    Settings,
    Show,
    open_folder,
)
from trioworker.agent import load
from trioworker.testing import open_engine

COMMAND = [sys.executable, "-m", "trioworker", "demo"]


def queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def demo(*options: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], check=False, capture_output=True, text=True, timeout=timeout
    )


def begin(*options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *options], stdout=subprocess.DEVNULL)


def await_files(directory: Path, count: int) -> None:
    """Wait until so many files are done with: a sign of life from another process."""
    end = time.monotonic() + 20
    while not directory.is_dir() or len(list(directory.iterdir())) < count:
        assert time.monotonic() < end, f"no {count} files in {directory.name}/"
        time.sleep(0.02)


@pytest.mark.full
def test_the_demo_runs_and_says_what_became_of_every_file() -> None:
    began = time.monotonic()
    done = demo("--seconds", "1", "--files", "40", "--seed", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 15
    lines = done.stdout.splitlines()
    assert lines[0] == "seed 1"
    assert lines[1:3] == [
        (
            f"real agent graph {number} of 2: {count} manifolds, one start each; "
            "3 roots bounced, exactly their dependents restarted; down in order"
        )
        for number, count in ((1, 32), (2, 29))
    ]
    [settling] = [line for line in lines if line.startswith("-- settle")]
    assert re.fullmatch(
        r"-- settle, at most 15 s; "
        r"faults set: raise \d+, group \d+, hang \d+, slow \d+; faults carried out: \d+",
        settling,
    )
    assert lines[-1].startswith("ingested 39 of 39 good files, 1 rejected, 0 lost, 0 duplicated; ")
    assert "clean stop in" in lines[-1]
    assert done.stderr == ""


@pytest.mark.full
def test_a_directory_is_kept_and_continued_from(tmp_path: Path) -> None:
    options = ("--seconds", "0.3", "--files", "10", "--seed", "1", "--dir", str(tmp_path / "data"))

    assert "ingested 10 of 10 good files, 0 rejected" in demo(*options).stdout
    assert "ingested 20 of 20 good files, 0 rejected" in demo(*options).stdout


def test_no_files_and_no_time_is_a_run_too() -> None:
    done = demo("--seconds", "0", "--files", "0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "ingested 0 of 0 good files" in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("moment", [1, 20, 60])
def test_killed_with_9_and_continued_it_has_lost_and_duplicated_nothing(
    tmp_path: Path, moment: int
) -> None:
    data = tmp_path / "data"
    process = begin("--seconds", "2", "--files", "200", "--seed", "5", "--dir", str(data))
    try:
        await_files(data / "done", moment)
    finally:
        process.kill()
        process.wait()

    done = demo("--seconds", "0.5", "--files", "10", "--seed", "6", "--dir", str(data))

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost, 0 duplicated; " in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_is_there_can_be_continued(
    tmp_path: Path, number: signal.Signals
) -> None:
    data = tmp_path / "data"
    process = begin("--seconds", "20", "--files", "200", "--seed", "5", "--dir", str(data))
    try:
        await_files(data / "done", 1)
        process.send_signal(number)

        assert process.wait(timeout=10) == 128 + number
    finally:
        process.kill()
        process.wait()
    assert demo("--seconds", "0", "--files", "0", "--dir", str(data)).returncode == 0


def test_only_one_demo_at_a_time_uses_a_directory(tmp_path: Path) -> None:
    with open_folder(tmp_path):
        done = demo("--dir", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr == f"trioworker demo: {tmp_path}: another demo is using it\n"


@pytest.mark.full
def test_a_file_that_cannot_be_accounted_for_fails_the_demo_by_name(tmp_path: Path) -> None:
    options = ("--seconds", "0", "--files", "5", "--seed", "1", "--dir", str(tmp_path))
    assert demo(*options).returncode == 0
    (tmp_path / "done" / "001-00003.jsonl").write_text('{"somebody": "changed it"}\n')

    done = demo(*options)

    # What it was is taken for lost and arrives again, and is known; what it is now is in no row.
    assert done.returncode == 1
    assert "FAILED: 001-00003.jsonl: is in done/, but not in the database" in done.stdout


@pytest.mark.parametrize(
    "options, told",
    [
        (["--files", "-1"], "--files must be at least 0, not -1"),
        (["--seconds", "-1"], "--seconds must be from 0 to 86400, not -1"),
        (["--seconds", "nan"], "--seconds must be from 0 to 86400, not nan"),
        (["--dir", "/dev/null"], "/dev/null: Not a directory"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(options: list[str], told: str) -> None:
    done = demo(*options)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"trioworker demo: {told}\n"


def test_what_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "demo.db").write_bytes(b"no database" * 1000)
    done = demo("--dir", str(tmp_path))

    assert done.returncode == 2
    assert done.stderr == f"trioworker demo: {tmp_path}/demo.db: file is not a database\n"


@pytest.mark.parametrize(
    "prepare, told",
    [
        ("sys.platform = 'darwin'", "the demo needs inotify, which Linux has and darwin has not"),
        (
            "sys.modules['h11'] = None",
            'trioworker.backends.http needs h11: pip install "trioworker[introspection]"',
        ),
        (
            "sys.modules['apsw'] = None",
            'trioworker.backends.sqlite needs apsw: pip install "trioworker[sqlite]"',
        ),
    ],
)
def test_where_something_is_missing_it_refuses_in_one_line(prepare: str, told: str) -> None:
    code = f"import sys, trio; {prepare}; from trioworker._cli._demo import demo; sys.exit(demo())"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"trioworker demo: {told}\n"


def test_a_temporary_directory_is_removed() -> None:
    with open_folder(None) as folder:
        assert folder.inbox.is_dir()

    assert not folder.root.exists()


def test_settings_check_themselves() -> None:
    assert Settings().files == 200
    assert Settings().seconds == 8
    with pytest.raises(CannotRun, match="--files"):
        Settings(files=-1)


def test_the_agent_file_is_in_the_package_and_complete(tmp_path: Path) -> None:
    environ = {"TRIOWORKER_DEMO_DIR": str(tmp_path), "TRIOWORKER_DEMO_SEED": "1"}

    agent = load(AGENT_FILE, environ=environ)

    assert list(agent.manifolds) == [*VICTIMS, "chaos", "introspection"]
    assert {agent.manifolds[name].start_timeout for name in agent.manifolds} == {0.5, None}
    assert agent.config.restart.error_delay == 0.05
    assert agent.config.restart.max_delay == 0.5
    assert not list(tmp_path.iterdir())  # reading it has started nothing


async def test_files_that_came_while_the_inbox_was_down_are_found(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    (folder.inbox / "before.jsonl").touch()
    taken: list[str] = []

    async def take(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        arrivals = get("inbox", Arrivals)
        task_status.started()
        while True:
            name = await arrivals.take()
            assert folder.claim(name) is not None
            taken.append(name)

    async def wait_taken(*names: str) -> None:
        with trio.fail_after(5):
            while taken != list(names):  # noqa: ASYNC110 - a list is no event
                await trio.sleep(0.001)

    manifolds = {
        "inbox": inbox.manifold(inbox.Config(tmp_path)),
        "take": Manifold(take, inputs=("inbox",)),
    }
    async with open_engine(manifolds) as engine:
        await wait_taken("before.jsonl")
        engine.hold("inbox")
        await engine.wait_state("inbox", "held")
        (folder.inbox / "while.jsonl").touch()
        engine.release("inbox")
        await wait_taken("before.jsonl", "while.jsonl")
        (folder.inbox / "after.jsonl").touch()
        await wait_taken("before.jsonl", "while.jsonl", "after.jsonl")


async def test_files_whose_events_the_kernel_dropped_are_found(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    taken = trio.Event()

    async def take(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        arrivals = get("inbox", Arrivals)
        task_status.started()
        assert await arrivals.take() == "late.jsonl"
        taken.set()
        await trio.sleep_forever()

    manifolds = {
        "inbox": inbox.manifold(inbox.Config(tmp_path)),
        "take": Manifold(take, inputs=("inbox",)),
    }
    limit = queue_limit()
    if limit > 100_000:
        pytest.skip(f"the kernel's queue takes {limit} events")
    async with open_engine(manifolds):
        for _ in range(limit // 2 + 1):  # in one go, so that nobody reads meanwhile
            (folder.inbox / ".a").write_bytes(b"")
            (folder.inbox / ".b").write_bytes(b"")
        (folder.inbox / "late.jsonl").touch()
        with trio.fail_after(10):
            await taken.wait()


# -- what must not happen, and is told if it does --------------------------------------------------

NOTHING = Settings(files=0, seconds=0, seed=1)


class Blind:
    """Shows nothing; `act` is called with the engine when the first phase begins."""

    def __init__(self, act: Callable[[Engine], None] = lambda _: None) -> None:
        self._act = act
        self.caption = ""

    @asynccontextmanager
    async def __call__(self, engine: Engine) -> AsyncGenerator[Show]:
        self._engine = engine
        yield self

    def print(self, text: str) -> None:
        if text.startswith("-- drop"):
            self._act(self._engine)


def test_what_does_not_settle_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "SETTLE_LIMIT", 0.3)
    Folder(tmp_path).create()
    os.mkfifo(tmp_path / "inbox" / "pipe")
    settings = attrs.evolve(NOTHING, directory=tmp_path)

    assert program.run(settings, Blind()) == 1
    assert "FAILED: not settled: pipe is still in inbox/\n" in capsys.readouterr().out


def test_a_manifold_that_does_not_come_back_is_named_and_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "SETTLE_LIMIT", 0.3)

    assert program.run(NOTHING, Blind(lambda engine: engine.hold("db"))) == 1
    out = capsys.readouterr().out
    assert "FAILED: not settled: db is held" in out
    assert "FAILED: not settled: ingest waits for db; db is held" in out
    assert "to look closer: trioworker demo --seed 1 --dir DIRECTORY\n" in out


def test_an_engine_that_fails_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def kill(engine: Engine) -> None:
        engine.kill(RuntimeError("broken"))

    assert program.run(NOTHING, Blind(kill)) == 1
    assert "FAILED: the engine failed: RuntimeError: broken\n" in capsys.readouterr().out


def test_a_graph_that_fails_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(_: str) -> dict[str, list[str]]:
        return {"a": ["b"], "b": []}

    def do_nothing(_: Engine, name: str) -> None: ...

    monkeypatch.setattr(program, "graph_of", small)
    monkeypatch.setattr(Engine, "restart", do_nothing)

    assert program.run(NOTHING, Blind()) == 1
    told = "FAILED: juju-model-iaas-agent, bouncing b: a was started 0 times, not 1\n"
    assert capsys.readouterr().out == f"seed 1\n{told}"


async def test_an_error_that_nobody_injected_is_not_accounted_for(
    autojump_clock: MockClock,
) -> None:
    errors: list[Exception] = [
        InjectedFault("ours"),
        ExceptionGroup("two", [InjectedFault("ours"), InjectedFault("ours too")]),
        Dying("somebody else is"),
        ExceptionGroup("two", [InjectedFault("ours"), ValueError("a real one")]),
        Missing("something"),
    ]
    ledger = Ledger()

    async def fail(_get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise errors.pop(0)

    async with open_engine() as engine:
        engine.install("failing", ledger.watch("failing", Manifold(fail)))
        await engine.wait_settled()

    assert ledger.unaccounted == ["failing: ValueError: a real one"]
    assert str(ledger) == "runs ended: 3 by injected faults, 1 UNACCOUNTED FOR"


async def test_a_slow_machine_is_no_error(autojump_clock: MockClock) -> None:
    ledger = Ledger()

    async def hang_once(_get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        if not str(ledger).endswith("1 by a slow machine"):
            await trio.sleep_forever()
        task_status.started()
        await trio.sleep_forever()

    async with open_engine() as engine:
        manifold = ledger.watch("slow", Manifold(hang_once, start_timeout=1))
        engine.install("slow", manifold)
        await engine.wait_settled()

        assert engine.report().manifolds["slow"].starts == 2
    assert ledger.unaccounted == []


async def test_who_is_stuck_is_a_problem_and_the_log_is_kept(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def stick(_get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    with Logs(Folder(tmp_path)) as logs:
        engine = Engine()
        engine.install("stuck", Manifold(stick, stop_timeout=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.run)
            await engine.wait_settled()
            engine.kill()

    [problem] = logs.problems
    assert problem.startswith('"stuck" manifold is stuck: cancelled 1 s ago')
    assert "is stuck" in (tmp_path / "demo.log").read_text()


def test_the_process_of_the_demo_needs_no_home(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run(
        [*COMMAND, "--seconds", "0", "--files", "1"],
        check=False,
        capture_output=True,
        env=environ,
        cwd=tmp_path,
    )

    assert done.returncode == 0
    assert not list(tmp_path.iterdir())
