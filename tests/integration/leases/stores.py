"""What is raced on: a row for each shared store.

A row tells how a claimant opens the store, which happens in its process, and how the servers are
started and broken, which happens in the test's.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import attrs

from trioworker.workers.coordination.lease import Store, open_sqlite_store

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


@final
class SqliteFile:
    """A file: no servers, and nothing between it and the claimants but its locks."""

    breakages: Mapping[str, Breakage] = {}

    def __init__(self, path: Path) -> None:
        self._path = path

    def where(self, name: str) -> str:
        """See `Servers.where`."""
        return str(self._path)

    def break_link(self, name: str, chance: Random) -> None:
        """See `Servers.break_link`."""

    def is_inside(self, pid: int) -> bool:
        """Whether that process has a lock that others need: the kernel tells whose it is."""
        shm = self._path.with_name(f"{self._path.name}-shm")
        return pid in {*_owners(shm, _SHM_LOCKS), *_owners(self._path, _FILE_LOCKS)}


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


STORES: dict[str, Row] = {
    "sqlite": Row(duration=1.0, open_=_open_sqlite, serve=_sqlite_file, stops_inside=True),
}
"""All that processes can share."""
