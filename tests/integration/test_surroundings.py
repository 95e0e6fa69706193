"""What the demo stands on gives way: disk, directories, database, clock, output.

Each of these is either got over, or told in a line that names the file and the cause, with an exit
status that docs/demo.md tells; never by a traceback. And whatever it was, once it is mended the
demo goes on with what is there, and in the end nothing is lost or stored twice.
"""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from .process import BOUND, COMMAND, Books, Demo, go_on, run

pytestmark = pytest.mark.full

SMALL = 32 * 1024
"""Bytes: less than the database needs, more than the manifest of a test."""


def complete(data: Path) -> None:
    """Go on with what is there, and find everything where it belongs."""
    go_on(data).expect(0, " 0 lost, 0 duplicated; ")
    Books(data).check_complete()


# -- the disk --------------------------------------------------------------------------------------


def test_where_nothing_can_be_written_it_refuses(tmp_path: Path) -> None:
    outcome = run(tmp_path / "data", command=("sh", "-c", 'ulimit -f 0; exec "$@"', "-", *COMMAND))

    outcome.expect(2, f"trioworker demo: {tmp_path}/data/demo.db: ")
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1


def test_a_disk_that_gets_full_is_named_and_once_there_is_room_it_goes_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=1.5) as demo:
        demo.wait_done(5)
        full = (2 * 1024, resource.RLIM_INFINITY)  # not even the manifest can grow
        resource.prlimit(demo.process.pid, resource.RLIMIT_FSIZE, full)
        outcome = demo.outcome()

    outcome.expect(1, f"FAILED: {data}/manifest.jsonl: File too large", "to go on, once")
    assert f"trioworker demo --dir {data}" in outcome.out
    assert len(outcome.failures) < 100
    complete(data)


def test_a_disk_that_is_full_for_a_while_is_got_over(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=2) as demo:
        demo.wait_done(5)
        full = (SMALL, resource.RLIM_INFINITY)
        resource.prlimit(demo.process.pid, resource.RLIMIT_FSIZE, full)
        demo.wait_for(lambda: "I/O error" in demo.out or "is full" in demo.out, "a full disk")
        assert not demo.has_ended
        room = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(demo.process.pid, resource.RLIMIT_FSIZE, room)
        outcome = demo.outcome()

    # All is stored. The errors were not of the demo's own making, so they are told.
    outcome.expect(1, "ingested 59 of 59 good files, 1 rejected, 0 lost, 0 duplicated; ")
    assert all("I/O error" in line or "too large" in line for line in outcome.failures)
    Books(data).check_complete()
    complete(data)


def test_a_file_system_without_room_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mount = f'mount -t tmpfs -o size=200k none {data} && exec "$@"'
    inside = ("unshare", "--mount", "sh", "-c", mount, "-")
    if subprocess.run([*inside, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")

    outcome = run(data, seconds=0.5, files=100, command=(*inside, *COMMAND))

    outcome.expect(1, "FAILED: ")
    both = outcome.out + outcome.err
    assert "is full" in both or "No space left on device" in both or "I/O error" in both


# -- its directories -------------------------------------------------------------------------------


def test_an_inbox_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=1.5) as demo:
        demo.wait_done(5)
        shutil.rmtree(data / "inbox", ignore_errors=True)  # files may arrive meanwhile
        demo.wait_for(lambda: "it was deleted" in demo.out, "noticing that the inbox is gone")
        outcome = demo.outcome()

    # Those in it are gone with it, and are named; all others are stored.
    gone = f"FAILED: inbox: DirectoryGone: {data}/inbox can be watched no longer: it was deleted"
    outcome.expect(1, gone)
    assert {line.rpartition(": ")[2] for line in outcome.failures} <= {
        "it was deleted",
        "is nowhere",
    }
    Books(data).check()
    complete(data)


BOUND_BY_MODES = """
import ctypes, os, sys

# Give up what lets root read and write everything; for others this changes nothing.
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""
AS_ANYBODY = (sys.executable, "-c", BOUND_BY_MODES, *COMMAND)


def test_an_inbox_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=1.5, command=AS_ANYBODY) as demo:
        demo.wait_done(5)
        (data / "inbox").chmod(0)
        outcome = demo.outcome()

    outcome.expect(1, f"{data}/inbox", "Permission denied")
    again = run(data, command=AS_ANYBODY)
    again.expect(1, f"{data}/inbox: Permission denied")
    (data / "inbox").chmod(0o755)
    complete(data)


def test_a_directory_that_must_not_be_written_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o555)

    outcome = run(data, command=AS_ANYBODY)

    outcome.expect(2)
    assert outcome.out == ""
    assert outcome.err == f"trioworker demo: {data}: Permission denied\n"


def test_when_all_of_its_directory_is_deleted_it_says_so_and_ends(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data) as demo:
        demo.wait_done(5)
        data.rename(tmp_path / "elsewhere")
        outcome = demo.outcome()

    outcome.expect(1, f"FAILED: {data}/", "No such file or directory")
    complete(tmp_path / "elsewhere")


# -- its database ----------------------------------------------------------------------------------


def start_over(data: Path) -> None:
    """Do what the demo advises when its database is lost."""
    (data / "demo.db").unlink(missing_ok=True)
    for path in (data / "done").iterdir():
        path.rename(data / "inbox" / path.name)


def test_a_damaged_database_is_refused_and_the_way_out_is_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    run(data, seconds=0.3).expect(0)
    size = (data / "demo.db").stat().st_size
    with (data / "demo.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"x" * (size - 4096))

    outcome = run(data)

    outcome.expect(2, f"trioworker demo: {data}/demo.db: is damaged: ", "move what is in done/")
    assert (outcome.out, outcome.err.count("\n")) == ("", 1)
    start_over(data)
    complete(data)


def test_a_database_that_is_deleted_while_it_runs_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=1.5) as demo:
        demo.wait_done(5)
        (data / "demo.db").unlink()
        outcome = demo.outcome()

    outcome.expect(1, "is in done/, but not in the database; moved back to inbox/")
    start_over(data)
    complete(data)


def test_a_database_that_is_cut_off_while_it_runs_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=1.5) as demo:
        demo.wait_done(5)
        os.truncate(data / "demo.db", 5000)
        outcome = demo.outcome()

    # What was in the log beside it may have been enough to mend it.
    assert outcome.status in {0, 1}, outcome
    assert "Traceback" not in outcome.out + outcome.err
    if outcome.status:
        assert outcome.failures
        start_over(data)
    complete(data)


def test_a_second_demo_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Demo(data) as demo:
        demo.wait_done(1)
        demo.process.send_signal(signal.SIGSTOP)  # so that it is still there
        second = subprocess.run(
            [*COMMAND, "--dir", str(data)],
            check=False,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        demo.process.send_signal(signal.SIGCONT)
        outcome = demo.outcome()

    assert second.returncode == 2
    assert second.stderr == f"trioworker demo: {data}: another demo is using it\n"
    outcome.expect(0, "ingested 59 of 59 good files, 1 rejected, 0 lost, 0 duplicated; ")
    Books(data).check_complete()


WRITER = """
import sys, trio
from trioworker.backends.sqlite import open_database

async def main(path, who):
    async with open_database(path, busy_timeout=60) as database:
        await database.query("CREATE TABLE IF NOT EXISTS entries (who, n, UNIQUE (who, n))")
        for number in range(100):
            async with database.transaction() as transaction:
                [(seen,)] = await transaction.execute("SELECT count(*) FROM entries")
                await transaction.execute("INSERT INTO entries VALUES (?, ?)", (who, number))
                [(now,)] = await transaction.execute("SELECT count(*) FROM entries")
                assert now == seen + 1

trio.run(main, *sys.argv[1:])
"""


def test_two_processes_write_to_one_database_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in ("one", "two")
    ]
    assert [writer.wait(timeout=BOUND) for writer in writers] == [0, 0]

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT who, count(*) FROM entries GROUP BY who").fetchall() == [
            ("one", 100),
            ("two", 100),
        ]


# -- its clock -------------------------------------------------------------------------------------

JUMPING = """
import itertools, sys, time, runpy

real, real_ns = time.time, time.time_ns
jumps = itertools.cycle(years * 365 * 86400 for years in (1, -1))  # whenever somebody asks

time.time = lambda: real() + next(jumps)
time.time_ns = lambda: real_ns() + next(jumps) * 10**9
sys.argv = ["trioworker", *sys.argv[1:]]
runpy.run_module("trioworker", run_name="__main__")
"""


def test_a_wall_clock_that_jumps_by_years_changes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    outcome = run(data, command=(sys.executable, "-c", JUMPING, "demo"))

    outcome.expect(0, "ingested 59 of 59 good files, 1 rejected, 0 lost, 0 duplicated; ")
    log = (data / "demo.log").read_text()
    assert len({line[:4] for line in log.splitlines() if line[:2] == "20"}) > 1  # it did jump
    Books(data).check_complete()


# -- its output ------------------------------------------------------------------------------------


def test_when_nobody_reads_its_output_any_more_it_ends_without_a_word(tmp_path: Path) -> None:
    data = tmp_path / "data"
    process = subprocess.Popen(
        [*COMMAND, "--seconds=0.5", "--files=20", f"--dir={data}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"seed ")
    process.stdout.close()
    process.stdout = None
    _, told = process.communicate(timeout=BOUND)

    assert process.returncode == 1
    assert told == b""
    complete(data)


def test_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "--seconds=0", "--files=1", f"--dir={tmp_path}"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=BOUND,
        )

    assert done.returncode == 1
    assert done.stderr == "trioworker demo: standard output: No space left on device\n"


def test_without_standard_output_it_does_its_work(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = ("sh", "-c", 'exec "$@" >&-', "-", *COMMAND)

    run(data, seconds=0.3, command=command).expect(0)
    Books(data).check_complete()
