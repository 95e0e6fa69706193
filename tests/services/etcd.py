"""Private etcd servers: one member, or a cluster.

For tests that only need a server, there is the fixture `etcd`: one member for the whole run. What
they keep there they keep under a prefix of their own; `tmp_path` is a good one.

For tests that break things, a cluster of their own::

    with Cluster(tmp_path, size=3) as cluster:
        cluster.start()
        cluster.wait_healthy()
        leader = cluster.leader()
        leader.kill()  # -9
        ...
        leader.start()  # again, with its data and on its ports

Members reach each other at ``advertised``, which is ``listens`` unless somebody says otherwise
before the first start. So a proxy can stand in front of each member::

    with Cluster(tmp_path, size=3) as cluster:
        for member in cluster.members:
            member.advertised = await proxy(member.listens)  # both are (host, port)
        cluster.start()
        await trio.to_thread.run_sync(cluster.wait_healthy)  # the loop has to serve the proxies

All members know each other by the advertised addresses, so the proxy of a member sees the
connections of all others. Whose one is, its first HTTP request tells, in the header
``X-Server-From``: it is `Member.id` in hexadecimal. Clients come by another port (`Member.url`).

Heartbeats and elections are faster than etcd's defaults, so that a new leader takes less than a
second; by that the shortest term of an etcd lease is one second and not two.
"""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, final

import pytest

from .process import Port, Server, binary, wait_for

if TYPE_CHECKING:
    import signal
    from collections.abc import Generator, Sequence
    from pathlib import Path
    from types import TracebackType

Address = tuple[str, int]

HEARTBEAT_MS = 50
ELECTION_MS = 500


@final
class Member:
    """One server; made by `Cluster`.

    Args:
        name: what it is called.
        directory: where its data and its log are.
        options: further options of its command line.
        tls: the files of certificate and key that it shows to clients; by default it has none.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        options: Sequence[str] = (),
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        self.tls = tls
        self.options = tuple(options)
        if tls is not None:
            self.options += (f"--cert-file={tls[0]}", f"--key-file={tls[1]}")
        self._client, self._peer = Port(), Port()
        self.client: Address = ("127.0.0.1", self._client.number)
        """Where clients reach it."""
        self.listens: Address = ("127.0.0.1", self._peer.number)
        """Where it waits for other members."""
        self.advertised: Address = self.listens
        """Where other members look for it."""
        self._initial_cluster = ""
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return _url(self.client, "https" if self.tls else "http")

    @property
    def server(self) -> Server:
        """Its process."""
        assert self._server is not None, f"{self.name} was not started"
        return self._server

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._server is not None and self._server.is_running

    @property
    def is_healthy(self) -> bool:
        """Whether it can write, so it has a leader."""
        return bool(self._ask("GET", "/health").get("health") == "true")

    @property
    def id(self) -> int:
        """Its number in the cluster."""
        return int(self.status()["header"]["member_id"])

    @property
    def is_leader(self) -> bool:
        """Whether it says so itself."""
        status = self.status()
        return bool(status) and status.get("leader") == status["header"]["member_id"]

    def status(self) -> dict[str, Any]:
        """Return what it says of itself; nothing if it does not answer."""
        return self._ask("POST", "/v3/maintenance/status", "{}")

    def join(self, initial_cluster: str) -> None:
        """Learn who the others are; `Cluster.start` calls it."""
        self._initial_cluster = initial_cluster

    def start(self) -> None:
        """Start it, for the first time or again. Does not wait until it is healthy."""
        assert not self.is_running, f"{self.name} runs"
        self.directory.mkdir(exist_ok=True)
        command = [
            binary("etcd", "etcd-server"),
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={_url(self.listens)}",
            f"--initial-advertise-peer-urls={_url(self.advertised)}",
            f"--initial-cluster={self._initial_cluster}",
            f"--heartbeat-interval={HEARTBEAT_MS}",
            f"--election-timeout={ELECTION_MS}",
            "--logger=zap",
            "--log-level=warn",
            *self.options,
        ]
        self._server = Server(command, self.directory / "log")

    def wait_healthy(self) -> None:
        """Wait until it can write."""

        def is_it() -> bool:
            self.server.expect_running()
            return self.is_healthy

        wait_for(is_it, f"that {self.name} is healthy")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.server.send(number)

    def kill(self) -> None:
        """Kill it with -9; nothing if it does not run."""
        if self._server is not None:
            self._server.kill()

    def close(self) -> None:
        """Kill it, and give its ports back."""
        self.kill()
        self._client.close()
        self._peer.close()

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        asking: http.client.HTTPConnection
        if self.tls:
            trusting = ssl.create_default_context(cafile=self.tls[0])
            asking = http.client.HTTPSConnection(*self.client, timeout=2, context=trusting)
        else:
            asking = http.client.HTTPConnection(*self.client, timeout=2)
        try:
            asking.request(method, path, body)
            with asking.getresponse() as response:
                found: dict[str, Any] = json.load(response)
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        else:
            return found
        finally:
            asking.close()


@final
class Cluster:
    """Members that know each other. At the end of the ``with`` block they are killed.

    Args:
        directory: where their directories are made.
        size: how many.
        options: further options of etcd's command line, for all.
        tls: see `Member`.
    """

    def __init__(
        self,
        directory: Path,
        size: int = 1,
        options: Sequence[str] = (),
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        binary("etcd", "etcd-server")
        self.members: list[Member] = [
            Member(f"etcd-{number}", directory / f"etcd-{number}", options, tls)
            for number in range(size)
        ]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self.members:
            member.close()

    @property
    def urls(self) -> list[str]:
        """Where clients reach the members."""
        return [member.url for member in self.members]

    def start(self) -> None:
        """Start all members. Does not wait until they are healthy."""
        together = ",".join(f"{one.name}={_url(one.advertised)}" for one in self.members)
        for member in self.members:
            member.join(together)
            member.start()

    def wait_healthy(self) -> None:
        """Wait until all members that run can write."""
        for member in self.members:
            if member.is_running:
                member.wait_healthy()

    def leader(self) -> Member:
        """Wait until there is a leader, and return it."""
        found: list[Member] = []

        def there_is_one() -> bool:
            found[:] = [one for one in self.members if one.is_running and one.is_leader]
            return len(found) == 1

        wait_for(there_is_one, "that there is one leader")
        return found[0]


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Generator[Member]:
    """One member for the whole run; keep what you keep there under a prefix of your own."""
    with Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        cluster.start()
        cluster.wait_healthy()
        yield cluster.members[0]


def _url(address: Address, scheme: str = "http") -> str:
    host, port = address
    return f"{scheme}://{host}:{port}"


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of the loopback interface, which has signed itself, and its key."""
    made = directory / "cert.pem", directory / "key.pem"
    command = [
        *(binary("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "2"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-out", str(made[0]), "-keyout", str(made[1])),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made
