"""What the guide on deployment shows does what it says: the files are run as they stand there."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from ..pages import DOCS
from .process import BOUND, wait_for

if sys.platform != "linux":
    pytest.skip("systemd and containers are for Linux", allow_module_level=True)

GREETER = DOCS / "examples" / "howto" / "greeter"
FILES = {
    "agent.toml": "toml",
    "greeter.py": "python",
    "greeter.service": "ini",
    "Dockerfile": "dockerfile",
}
HERE = [sys.executable, "-m", "trioworker"]
"""What stands for the installed command."""


@pytest.mark.parametrize("name", FILES)
def test_the_guide_shows_the_file_as_it_is(name: str) -> None:
    page = (DOCS / "howto" / "deploy.md").read_text(encoding="utf-8")

    assert f"```{FILES[name]}\n{(GREETER / name).read_text(encoding='utf-8')}```" in page


def service() -> dict[str, str]:
    """The keys of the unit that are there once."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # how configparser wants it
    unit.read(GREETER / "greeter.service")
    return dict(unit["Service"])


def dockerfile(instruction: str) -> list[str]:
    """The command of an instruction, which has to be a list."""
    (line,) = (
        line
        for line in (GREETER / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith(instruction)
    )
    command = json.loads(line[line.index("[") :])
    assert command[0] == "trioworker"
    return [*HERE, *command[1:]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "GREETER_HOST": "127.0.0.1",
        "GREETER_PORT": str(free_port()),
        "XDG_RUNTIME_DIR": str(tmp_path),
    }


@pytest.fixture
def systemd(tmp_path: Path, environ: dict[str, str]) -> Iterator[socket.socket]:
    """Where the program tells how it is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(environ.setdefault("NOTIFY_SOCKET", str(tmp_path / "notify")))
        told.settimeout(BOUND)
        yield told


def run(command: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=GREETER, env=environ, stdout=subprocess.DEVNULL)


@pytest.mark.full
def test_what_the_unit_starts_is_ready_and_stops_at_sigterm(
    environ: dict[str, str], systemd: socket.socket
) -> None:
    trioworker, *arguments = shlex.split(service()["ExecStart"])
    assert trioworker == "/opt/greeter/bin/trioworker"
    command = [word.replace("/opt/greeter", str(GREETER)) for word in arguments]
    with run([*HERE, *command], environ) as program:
        try:
            while b"READY=1" not in systemd.recv(4096):
                pass
            address = ("127.0.0.1", int(environ["GREETER_PORT"]))
            with socket.create_connection(address, BOUND) as call:
                assert call.recv(100) == b"hello\n"
            program.send_signal(signal.SIGTERM)
            assert program.wait(BOUND) == 0
        finally:
            program.kill()


@pytest.mark.full
def test_the_container_is_healthy_and_as_process_1_stops_at_sigterm(
    environ: dict[str, str],
) -> None:
    as_process_1 = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*as_process_1, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no process may be number 1 here")
    with run([*as_process_1, *dockerfile("ENTRYPOINT")], environ) as unshare:
        try:
            children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
            wait_for(lambda: children.read_text().split(), "the start of process 1")
            health = dockerfile("HEALTHCHECK")
            health[health.index("--timeout") + 1] = str(BOUND)
            checked = subprocess.run(health, env=environ, check=False, capture_output=True)
            assert checked.returncode == 0, checked.stdout + checked.stderr
            os.kill(int(children.read_text()), signal.SIGTERM)
            assert unshare.wait(BOUND) == 0
        finally:
            unshare.kill()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed here")
    text = (GREETER / "greeter.service").read_text(encoding="utf-8")
    unit = tmp_path / "greeter.service"
    unit.write_text(text.replace("/opt/greeter/bin/trioworker", sys.executable))

    command = ["systemd-analyze", "verify", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BOUND)

    assert "greeter.service" not in done.stderr
    assert done.returncode == 0, done.stderr
