"""Killed, interrupted, stopped for a while: at random points, told by the output so far.

The points are drawn from a seed that is printed; ``TRIOWORKER_SEED=123`` repeats them. What the
processes do between them is the machine's affair.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from .process import BOUND, Books, Demo, count, go_on, wait_for

pytestmark = pytest.mark.full


@pytest.fixture
def draw() -> random.Random:
    seed = int(os.environ.get("TRIOWORKER_SEED") or random.SystemRandom().randrange(10**6))
    print(f"to repeat it: TRIOWORKER_SEED={seed}")  # noqa: T201 - shown when a test fails
    return random.Random(seed)


def test_killed_with_9_again_and_again_it_has_lost_and_duplicated_nothing(
    tmp_path: Path, draw: random.Random, tier: str
) -> None:
    data = tmp_path / "data"
    times = 50 if tier == "long" else 10
    killed = 0
    for number in range(times):
        with Demo(data, seconds=0.7, files=40, seed=number) as demo:
            if draw.random() < 0.5:
                demo.wait_lines(draw.randrange(60))
            else:
                demo.wait_for(more_done(data, draw.randrange(40)), "more files in done/")
            killed += not demo.has_ended
            demo.process.kill()
            demo.process.wait()
        if (data / "demo.db").exists():
            Books(data).check()

    assert killed > times / 2
    go_on(data).expect(0, " 0 lost, 0 duplicated; ")
    books = Books(data)
    assert len(books.dropped) > times
    books.check_complete()


def test_a_signal_ends_it_within_bounds_wherever_it_is(
    tmp_path: Path, draw: random.Random, tier: str
) -> None:
    data = tmp_path / "data"
    interrupted = 0
    for number in range(20 if tier == "long" else 4):
        sent = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with Demo(data, seconds=1, files=40, seed=number) as demo:
            demo.wait_lines(draw.randrange(1, 50))  # from its first line on it listens
            demo.process.send_signal(sent)
            began = time.monotonic()
            outcome = demo.outcome()

        assert time.monotonic() - began < 30
        assert outcome.status in {128 + sent, 0, -sent}, outcome  # or at its very end, or after it
        interrupted += outcome.status == 128 + sent
        assert outcome.err == ""
        Books(data).check()

    assert interrupted
    go_on(data).expect(0, " 0 lost, 0 duplicated; ")
    Books(data).check_complete()


IMPORTING = """
import os, signal, sys
import trioworker.__main__

class Interrupt:
    def find_spec(self, name, *_):
        if name == "trioworker._cli._app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
trioworker.__main__.main()
"""


def test_interrupted_while_it_is_being_imported_it_shows_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        check=False,
        capture_output=True,
        text=True,
        timeout=BOUND,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_what_was_stopped_for_longer_than_its_timeouts_goes_on(
    tmp_path: Path, draw: random.Random, tier: str
) -> None:
    data = tmp_path / "data"
    with Demo(data, seconds=2, files=60) as demo:
        for _ in range(2):
            demo.wait_done(count(data / "done") + draw.randrange(1, 15))
            demo.process.send_signal(signal.SIGSTOP)
            wait_for(lambda: state_of(demo.process.pid) == "T", "stopping")
            # The pause is the fault: longer than start_timeout, and than all delays.
            time.sleep(6 if tier == "long" else 1.5)
            demo.process.send_signal(signal.SIGCONT)
        outcome = demo.outcome()

    outcome.expect(0, "ingested 59 of 59 good files, 1 rejected, 0 lost, 0 duplicated; ")
    Books(data).check_complete()


def more_done(data: Path, number: int) -> Callable[[], bool]:
    """Return the sign that so many more files than now are done with."""
    goal = count(data / "done") + number
    return lambda: count(data / "done") >= goal


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
