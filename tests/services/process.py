"""What all servers of the tests have in common: binaries, ports, and an end.

**Ports.** A `Port` is bound for as long as the object lives, by a socket that never listens. A
server that sets ``SO_REUSEADDR`` (etcd and PostgreSQL do) can listen on it all the same, and nobody
who asks the system for a free port gets it: also not while the server is dead, so it can come back.

**The end.** A server leads a process group, which is killed with -9 at the end of a test. If the
tests themselves are killed with -9, the kernel does it: ``PR_SET_PDEATHSIG``, set by ``setpriv``,
because Python code between fork and exec is a risk. It is sent at the end of the *thread* that
started the server: start servers from the main thread, not from `trio.to_thread`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

BOUND = 60.0
"""Seconds after which a sign will not come any more."""


def binary(name: str, package: str, *elsewhere: str) -> str:
    """Return the path of a binary; without it the test is skipped, or fails.

    Args:
        name: what it is called.
        package: Debian's, which has it.
        elsewhere: directories to look in that are not in ``PATH``.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *elsewhere])
    found = shutil.which(name, path=path)
    if found is None:
        problem = f"there is no {name} (make services; Debian: {package})"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"{problem}, and REQUIRE_SERVICES=1")
        pytest.skip(problem)
    return found


def wait_for(sign: Callable[[], object], what: str) -> None:
    """Wait until `sign` is there; not within a Trio loop that it depends on."""
    end = time.monotonic() + BOUND
    while not sign():
        assert time.monotonic() < end, f"waited in vain for {BOUND:g} s: {what}"
        time.sleep(0.02)


@final
class Port:
    """A free port of the loopback interface, and ours until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Let others have it."""
        self._socket.close()


@final
class Server:
    """A process with a group of its own, which does not outlive us.

    Args:
        command: what to run.
        log: where its output goes, after what is there.
        user: whom to run it as; only root can name another.
        env: its environment, by default ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        setpriv = [binary("setpriv", "util-linux"), "--pdeathsig", "KILL"]
        if user is not None:
            setpriv += ["--reuid", user, "--regid", user, "--clear-groups"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*setpriv, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=env,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; one that is stopped (SIGSTOP) has not."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill it with -9, and all that it has started; nothing if it has ended."""
        if self.is_running:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def expect_running(self) -> None:
        """Fail with its log if it has ended."""
        assert self.is_running, self.log.read_text(errors="replace")[-5000:]
