"""What is raced on: a row for each shared store.

A row tells how a claimant opens the store, which happens in its process, and how the servers are
started and broken, which happens in the test's.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio

from tests.services.etcd import Cluster
from tests.services.postgres import Instance
from tests.services.process import Server
from trioworker.workers.coordination.lease import (
    EtcdConfig,
    PostgresConfig,
    Store,
    open_etcd_store,
    open_postgres_store,
    open_sqlite_store,
)

from .proxy import Link, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from random import Random


@final
@attrs.frozen(kw_only=True)
class Breakage:
    """A way to break the servers."""

    break_: Callable[[Random], AbstractAsyncContextManager[object]]
    """Broken within the block."""
    extra: float = 0.0
    """See `Fault.extra`."""
    is_inside: bool = False
    """See `Fault.is_inside`."""


class Servers(Protocol):
    """The servers of one race."""

    @property
    def breakages(self) -> Mapping[str, Breakage]:
        """How to break them."""
        ...

    def where(self, name: str) -> str:
        """Return where the claimant of that name finds the store."""
        ...

    def break_link(self, name: str, chance: Random) -> AbstractAsyncContextManager[str] | None:
        """Break how the claimant reaches the store; ``None`` if there is nothing between them."""
        ...

    def is_inside(self, pid: int) -> bool:
        """Whether that process has a lock of the store."""
        ...


@final
@attrs.frozen(kw_only=True)
class Row:
    """A store to race on."""

    duration: float
    """Of terms, in seconds."""
    open_: Callable[[str], AbstractAsyncContextManager[Store]]
    """Open it in a claimant, where `Servers.where` says."""
    serve: Callable[[Path, list[str]], AbstractAsyncContextManager[Servers]]
    """Start the servers for the claimants of those names; a directory is theirs."""
    stops_inside: bool = False
    """Whether a claimant stops inside its next transaction when it gets SIGUSR1."""


# -- SQLite ----------------------------------------------------------------------------------------

_SHM_LOCKS = [(120, 1), (122, 1)]  # to write, and to recover, of a database with WAL
_FILE_LOCKS = [(0x40000000, 512)]  # of the database itself: it is being opened or closed


_LOCKED = """
import sqlite3, sys, time
sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(1000)
"""


@final
class SqliteFile:
    """A file: no servers, and nothing between it and the claimants but its locks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # No renewal can be done then, so the holder has nothing but its clock to give up by.
        self.breakages = {"file locked": Breakage(break_=self._locked, is_inside=True)}

    def where(self, name: str) -> str:
        """See `Servers.where`."""
        return str(self._path)

    def break_link(self, name: str, chance: Random) -> None:
        """See `Servers.break_link`."""

    def is_inside(self, pid: int) -> bool:
        """Whether that process has a lock that others need: the kernel tells whose it is."""
        shm = self._path.with_name(f"{self._path.name}-shm")
        return pid in {*_owners(shm, _SHM_LOCKS), *_owners(self._path, _FILE_LOCKS)}

    @asynccontextmanager
    async def _locked(self, chance: Random) -> AsyncGenerator[None]:
        """Somebody else is in a transaction; not we, as `is_inside` would end that."""
        log = self._path.with_name("locked.log")
        log.unlink(missing_ok=True)
        other = Server([sys.executable, "-c", _LOCKED, str(self._path)], log)
        try:
            with trio.move_on_after(5):  # the claimants may be quicker each time
                while not log.read_text():  # noqa: ASYNC110 - it has no other way to tell
                    await trio.sleep(0.01)
            yield
        finally:
            other.kill()


def _owners(path: Path, locks: list[tuple[int, int]]) -> set[int]:
    """Return which processes have locked these parts of a file for writing."""
    layout = "hhqqi4x"
    found = set[int]()
    with path.open("r+b") as file:
        for start, length in locks:
            asked = struct.pack(layout, fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
            kind, _, _, _, pid = struct.unpack(layout, fcntl.fcntl(file, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                found.add(pid)
    return found


@asynccontextmanager
async def _sqlite_file(directory: Path, names: list[str]) -> AsyncGenerator[Servers]:
    path = directory / "leases.db"
    async with open_sqlite_store(path):  # it is there before they race
        pass
    yield SqliteFile(path)


@asynccontextmanager
async def _open_sqlite(where: str) -> AsyncGenerator[Store]:
    import apsw

    wanted = threading.Event()

    def want(number: int, frame: object) -> None:
        wanted.set()

    signal.signal(signal.SIGUSR1, want)

    def stop_if_wanted() -> bool:
        """SQLite calls it inside a transaction that is about to be committed, in its thread."""
        if wanted.is_set():
            wanted.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
        return False

    apsw.connection_hooks.append(lambda connection: connection.set_commit_hook(stop_if_wanted))
    async with open_sqlite_store(where) as store:
        yield store


# -- etcd ------------------------------------------------------------------------------------------

LEADER_LOSS = 5.0
"""Seconds that a hand-over may take longer when etcd loses its leader."""


@final
class EtcdCluster:
    """Three members, who reach each other through links; each claimant has one to all of them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._clients: dict[str, Link] = {}
        self._urls: dict[str, str] = {}
        # By who has opened the connection, in hexadecimal, and whose it is. Some do not say.
        self._peers: dict[tuple[str, str], Link] = {}
        self.breakages = {
            "etcd leader killed": Breakage(break_=self._leader_killed, extra=LEADER_LOSS),
            "etcd leader stopped": Breakage(break_=self._leader_stopped, extra=LEADER_LOSS),
            "etcd member cut off": Breakage(break_=self._member_cut_off, extra=LEADER_LOSS),
        }

    async def start(self, names: list[str], nursery: trio.Nursery) -> None:
        """Start the members and all that stands in front of them."""
        for member in self._cluster.members:
            link_of = partial(self._link_of, member.name)
            member.advertised = await nursery.start(serve, member.listens, link_of)
        self._cluster.start()
        await trio.to_thread.run_sync(self._cluster.wait_healthy)
        for name in names:
            link = self._clients[name] = Link()
            for member in self._cluster.members:
                host, port = await nursery.start(serve, member.client, partial(_always, link))
                self._urls[name] = f"{self._urls.get(name, '')} http://{host}:{port}"

    def where(self, name: str) -> str:
        """See `Servers.where`."""
        return self._urls[name]

    def break_link(self, name: str, chance: Random) -> AbstractAsyncContextManager[str]:
        """See `Servers.break_link`."""
        return _broken([self._clients[name]], chance)

    def is_inside(self, pid: int) -> bool:
        """See `Servers.is_inside`: no call leaves anything locked."""
        return False

    def _link_of(self, target: str, first: bytes) -> Link:
        found = re.search(rb"X-Server-From: ([0-9a-f]+)", first)
        sender = found[1].decode() if found else ""
        return self._peers.setdefault((sender, target), Link())

    @asynccontextmanager
    async def _leader_killed(self, chance: Random) -> AsyncGenerator[None]:
        leader = await trio.to_thread.run_sync(self._cluster.leader)
        leader.kill()
        yield
        leader.start()

    @asynccontextmanager
    async def _leader_stopped(self, chance: Random) -> AsyncGenerator[None]:
        """Continued, it believes for a moment that it still leads."""
        leader = await trio.to_thread.run_sync(self._cluster.leader)
        leader.send(signal.SIGSTOP)
        yield
        leader.send(signal.SIGCONT)

    @asynccontextmanager
    async def _member_cut_off(self, chance: Random) -> AsyncGenerator[None]:
        leader = await trio.to_thread.run_sync(self._cluster.leader)
        member = chance.choice([leader, *self._cluster.members])
        number = f"{await trio.to_thread.run_sync(lambda: member.id):x}"
        links = [
            link for ends, link in self._peers.items() if number in ends or member.name in ends
        ]
        async with _broken(links, chance):
            yield


@asynccontextmanager
async def _etcd_cluster(directory: Path, names: list[str]) -> AsyncGenerator[Servers]:
    with Cluster(directory, size=3) as cluster:
        async with trio.open_nursery() as nursery:
            servers = EtcdCluster(cluster)
            await servers.start(names, nursery)
            yield servers
            nursery.cancel_scope.cancel()


def _open_etcd(where: str) -> AbstractAsyncContextManager[Store]:
    return open_etcd_store(EtcdConfig(endpoints=tuple(where.split()), timeout=1.0))


# -- PostgreSQL ------------------------------------------------------------------------------------


@final
class PostgresServer:
    """One server, which each claimant reaches through a link of its own."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._clients: dict[str, Link] = {}
        self._where: dict[str, str] = {}
        self.breakages = {"connections cut": Breakage(break_=self._connections_cut)}

    async def start(self, names: list[str], nursery: trio.Nursery) -> None:
        """Start the server, and what stands in front of it."""
        self._instance.start()
        for name in names:
            link = self._clients[name] = Link()
            target = "127.0.0.1", self._instance.port
            _, port = await nursery.start(serve, target, partial(_always, link))
            self._where[name] = self._instance.conninfo(port=port)

    def where(self, name: str) -> str:
        """See `Servers.where`."""
        return self._where[name]

    def break_link(self, name: str, chance: Random) -> AbstractAsyncContextManager[str]:
        """See `Servers.break_link`."""
        return _broken([self._clients[name]], chance)

    def is_inside(self, pid: int) -> bool:
        """See `Servers.is_inside`: each call is one statement, which the server executes."""
        return False

    @asynccontextmanager
    async def _connections_cut(self, chance: Random) -> AsyncGenerator[None]:
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        await trio.to_thread.run_sync(self._instance.execute, cut)
        yield


@asynccontextmanager
async def _postgres_server(directory: Path, names: list[str]) -> AsyncGenerator[Servers]:
    with Instance() as instance:
        async with trio.open_nursery() as nursery:
            servers = PostgresServer(instance)
            await servers.start(names, nursery)
            yield servers
            nursery.cancel_scope.cancel()


def _open_postgres(where: str) -> AbstractAsyncContextManager[Store]:
    return open_postgres_store(PostgresConfig(conninfo=where, timeout=1.0))


# -- all -------------------------------------------------------------------------------------------


def _always(link: Link, _: bytes) -> Link:
    return link


@asynccontextmanager
async def _broken(links: list[Link], chance: Random) -> AsyncGenerator[str]:
    """Break these links in one way, and tell in which."""
    seconds = chance.uniform(0.05, 0.2)
    ways: dict[str, Callable[[Link], None]] = {
        "cut": Link.cut,
        "delayed": lambda link: link.delay(seconds),
        "halved": lambda link: link.halve("from"),
        "half-open": lambda link: link.halve("to"),
        "silent": lambda link: link.halve("to", "from"),
    }
    how = chance.choice(list(ways))
    for link in links:
        ways[how](link)
    try:
        yield how
    finally:
        for link in links:
            link.mend()


STORES: dict[str, Row] = {
    "sqlite": Row(duration=1.0, open_=_open_sqlite, serve=_sqlite_file, stops_inside=True),
    "etcd": Row(duration=1.0, open_=_open_etcd, serve=_etcd_cluster),
    "postgres": Row(duration=1.0, open_=_open_postgres, serve=_postgres_server),
}
"""All that processes can share."""
