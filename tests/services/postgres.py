"""Private PostgreSQL servers.

For tests that only need a server, there is the fixture `postgres`: one for the whole run. What they
keep there they keep in a database that is empty at first (`Instance.emptied`), or in a schema.

For tests that break things, one of their own::

    with Instance() as postgres:
        postgres.start()
        postgres.stop()
        postgres.start()  # again, with its data and on its port

PostgreSQL refuses to run as root: then it runs as ``postgres``, a user that its packages make. That
is why its directory is not one of pytest's, which only root can enter. Who comes by TCP needs the
password; who comes by the Unix socket, in `Instance.directory`, does not. What is written does not
go to the disk (``fsync=off``): a server that is killed loses nothing by that, as long as the
machine lives.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import pytest

from .process import BOUND, Port, Server, binary, wait_for

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

USER, PASSWORD = "postgres", "correct horse"

EMPTY = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE found text; BEGIN
    FOR found IN SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', found);
    END LOOP;
END $$;
CREATE SCHEMA public;
ALTER DATABASE emptied RESET ALL
"""


def bindirs() -> list[str]:
    """Where Debian has the binaries, the newest version first."""
    found = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(map(str, found), key=lambda path: -float(Path(path).parts[-2]))


@final
class Instance:
    """One server. At the end of the ``with`` block it is killed, and what it kept is deleted."""

    def __init__(self) -> None:
        self._postgres = binary("postgres", "postgresql", *bindirs())
        self._initdb = binary("initdb", "postgresql", *bindirs())
        self._port = Port()
        self._as = "postgres" if os.geteuid() == 0 else None
        self._emptied: str | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="trioworker-pg-"))
        self._server: Server | None = None

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._port.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1 and in `directory`."""
        return self._port.number

    @property
    def url(self) -> str:
        """What to connect to it with."""
        return self.conninfo()

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._server is not None and self._server.is_running

    def conninfo(self, dbname: str = "postgres", **others: Any) -> str:
        """Return what to connect with; `others` replace or add to what it says."""
        from psycopg.conninfo import make_conninfo

        given = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        return make_conninfo("", **{**given, "dbname": dbname, **others})

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it can be used."""
        assert not self.is_running
        data = self.directory / "data"
        if not data.exists():
            self._make(data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "60",
            "log_line_prefix": "%m [%p] ",
        }
        command = [self._postgres, "-D", str(data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._server = Server(command, self.directory / "log", user=self._as)
        wait_for(self._is_ready, "PostgreSQL is ready")

    def stop(self) -> None:
        """Stop it as an administrator does who is in a hurry: sessions are cut off."""
        self._end(signal.SIGINT)

    def send(self, number: signal.Signals) -> None:
        """Send its first process a signal."""
        assert self._server is not None
        self._server.send(number)

    def kill(self) -> None:
        """End all of it at once. Not with -9 at first: that leaves shared memory behind."""
        if self._server is not None:
            self._end(signal.SIGQUIT)

    def emptied(self) -> str:
        """Return what to connect to one and the same database with; nothing and nobody is in it.

        A new one would be eight megabytes and three hundred files for each test.
        """
        if self._emptied is None:
            self._emptied = "emptied"
            self.execute("CREATE DATABASE emptied")
        else:
            self.execute(EMPTY, self._emptied)
        return self.conninfo(self._emptied)

    def execute(self, sql: str, dbname: str = "postgres") -> None:
        """Execute a statement, as another client would; blocks."""
        import psycopg

        with psycopg.connect(self.conninfo(dbname), autocommit=True) as connection:
            connection.execute(sql.encode())

    def _end(self, number: signal.Signals) -> None:
        assert self._server is not None
        if self.is_running:
            self._server.send(number)
            self._server.send(signal.SIGCONT)
            try:
                self._server.process.wait(BOUND)
            except subprocess.TimeoutExpired:
                self._server.kill()

    def _make(self, data: Path) -> None:
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        if self._as is not None:
            shutil.chown(self.directory, self._as)
            shutil.chown(secret, self._as)
        options = ["--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        options += ["--locale=C", "--encoding=UTF8", f"--username={USER}", f"--pwfile={secret}"]
        subprocess.run(
            [self._initdb, f"--pgdata={data}", *options],
            check=True,
            capture_output=True,
            cwd=self.directory,
            user=self._as,
            group=self._as,
            extra_groups=None if self._as is None else [],
        )

    def _is_ready(self) -> bool:
        from psycopg import pq

        assert self._server is not None
        self._server.expect_running()
        return pq.PGconn.ping(self.conninfo().encode()) == pq.Ping.OK


@pytest.fixture(scope="session")
def postgres() -> Generator[Instance]:
    """One server for the whole run; keep what you keep there in a schema, or `emptied`."""
    with Instance() as instance:
        instance.start()
        yield instance
