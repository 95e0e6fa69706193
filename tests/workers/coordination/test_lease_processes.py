"""One singular worker between processes that share a SQLite file: killed with -9, or stopped.

A process is a program of this file: ``python -m tests.workers.coordination.test_lease_processes
DIRECTORY NAME``. While its flag is true it writes a line with its fencing token to a file, many
times a second; the reader of that file is the resource that is fenced.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trioworker import Engine, Getter, Manifold, Missing, open_worker
from trioworker.patterns import Flag
from trioworker.workers.coordination import lease, leaseexpiry, singular
from trioworker.workers.coordination.lease import SqliteConfig, open_sqlite_store
from trioworker.workers.coordination.singular import Config, Term

from .process import BOUND, ROOT

DURATION = 2.0


async def program(directory: Path, name: str) -> None:
    """Work while it is ours to do, until killed."""

    async def job(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        if not get("flag", Flag).check():
            raise Missing("another does it")
        token = get("flag", Term).token
        task_status.started()
        with (directory / "written").open("a") as file:
            while True:
                file.write(f"{token} {name}\n")
                file.flush()
                await trio.sleep(0.02)

    engine = Engine()
    parts = {
        "store": lease.sqlite_store(SqliteConfig(path=directory / "leases.db")),
        "leases": lease.manifold(),
        "expiry": leaseexpiry.manifold(),
        "flag": singular.manifold(Config(entity="job", claimant=name, duration=DURATION)),
        "job": Manifold(job, inputs=("flag",)),
    }
    async with open_worker(engine):
        for part, manifold in parts.items():
            engine.install(part, manifold)
        await trio.lowlevel.wait_readable(sys.stdin)


@asynccontextmanager
async def running(directory: Path, name: str) -> AsyncGenerator[trio.Process]:
    command = [sys.executable, "-m", __name__, str(directory), name]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, cwd=ROOT, env=env)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()


def written(directory: Path) -> list[tuple[int, str]]:
    """What was written, whole lines only."""
    file = directory / "written"
    text = file.read_text() if file.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [(int(token), name) for token, name in (line.split() for line in lines)]


async def until(directory: Path, sign: Callable[[list[tuple[int, str]]], bool]) -> None:
    with trio.fail_after(BOUND):
        while not sign(written(directory)):  # noqa: ASYNC110 - other processes write it
            await trio.sleep(0.02)


def names_by_token(lines: list[tuple[int, str]]) -> dict[int, set[str]]:
    names: dict[int, set[str]] = {}
    for token, name in lines:
        names.setdefault(token, set()).add(name)
    return names


@pytest.mark.full
async def test_when_one_is_killed_the_other_takes_over_under_a_greater_token(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, "one") as one, running(tmp_path, "two") as two:
        await until(tmp_path, lambda lines: len(lines) > 3)
        await trio.sleep(1.5 * DURATION)  # longer than a term, which is renewed
        token, name = written(tmp_path)[-1]
        killed = one if name == "one" else two
        killed.kill()
        await killed.wait()
        await until(tmp_path, lambda lines: lines[-1][0] > token and lines[-1][1] != name)

    lines = written(tmp_path)
    assert lines == sorted(lines, key=lambda line: line[0])
    assert all(len(names) == 1 for names in names_by_token(lines).values())
    async with open_sqlite_store(tmp_path / "leases.db") as store:
        key, request = lease.Key("singular", "", "other"), lease.Request("me", 60)
        assert (await store.claim(key, request, 0)).token > lines[-1][0]  # all have been killed


@pytest.mark.full
async def test_who_was_stopped_past_its_term_gives_up_when_it_goes_on(tmp_path: Path) -> None:
    """It may write once more before it has looked at its clock; under a token that is fenced."""
    async with running(tmp_path, "one") as one, running(tmp_path, "two") as two:
        await until(tmp_path, lambda lines: len(lines) > 3)
        token, name = written(tmp_path)[-1]
        stopped = one if name == "one" else two
        stopped.send_signal(signal.SIGSTOP)
        await until(tmp_path, lambda lines: lines[-1][0] > token and lines[-1][1] != name)
        before = len(written(tmp_path))
        stopped.send_signal(signal.SIGCONT)
        await until(tmp_path, lambda lines: len(lines) > before + 50)

    lines = written(tmp_path)
    assert all(len(names) == 1 for names in names_by_token(lines).values())
    greatest, fenced = 0, list[int]()
    for number, _ in lines:
        greatest = max(greatest, number)
        if number < greatest:
            fenced.append(number)
    assert len(fenced) == len(set(fenced)), "it went on writing after its term was over"


if __name__ == "__main__":
    trio.run(program, Path(sys.argv[1]), sys.argv[2])
