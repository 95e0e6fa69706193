"""The servers of the tests themselves: they start, come back, and end with us."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .etcd import Cluster, Member
from .process import BOUND, Port, binary, wait_for


def test_the_one_for_all_is_healthy(etcd: Member) -> None:
    assert etcd.is_healthy
    assert etcd.is_leader


@pytest.mark.full
def test_a_cluster_outlives_its_leader_which_comes_back(tmp_path: Path) -> None:
    with Cluster(tmp_path, size=3) as cluster:
        cluster.start()
        cluster.wait_healthy()
        first = cluster.leader()
        first.kill()
        assert cluster.leader() is not first
        first.start()
        cluster.wait_healthy()
        assert len({member.id for member in cluster.members}) == 3
    assert not any(member.is_running for member in cluster.members)


@pytest.mark.full
def test_a_server_ends_with_the_tests_also_if_they_are_killed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.services.process import Server
print(Server(["sleep", "1000"], Path({str(tmp_path / "log")!r})).process.pid, flush=True)
input()
"""
    binary("setpriv", "util-linux")
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        name = Path(f"/proc/{pid}/cmdline")
        wait_for(lambda: name.read_bytes().startswith(b"sleep"), "that the server runs")
        tests.send_signal(signal.SIGKILL)
        tests.wait(BOUND)
    wait_for(lambda: not name.exists() or not name.read_bytes(), "that the server ends")


def test_nobody_is_given_a_port_that_is_taken() -> None:
    ports = [Port() for _ in range(50)]
    assert len({port.number for port in ports}) == 50
    for port in ports:
        port.close()


@pytest.mark.parametrize("required", ["0", "1"])
def test_without_the_binary_a_test_is_skipped_or_fails(
    required: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", required)
    kind = pytest.fail.Exception if required == "1" else pytest.skip.Exception
    with pytest.raises(kind, match=r"no such-server \(make services; Debian: such-package\)"):
        binary("such-server", "such-package", os.devnull)
