"""Files of JSON lines, into the database exactly once.

The order of the steps is all there is to it: claim (a rename), store (one transaction), move (a
rename). Stopped or crashed between two of them, the file is in ``work/``, and whoever starts next
takes the same steps again. Storing is the only one that must not happen twice, and the hash says
that it has.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol, final

import attrs
import trio

from trioworker import Getter, Manifold

from .db import Rows, Store
from .faults import breakable, itself
from .folder import Folder, inode_of, sha256_of
from .inbox import Arrivals


class Malformed(Exception):
    """The file is not JSON lines; the message says where and why."""


class Shelf(Protocol):
    """Where files are stored: the face of `Store` that is used here."""

    async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
        """Store a file's rows and its hash, both or neither; return False if they are there."""
        ...


@final
class Ingest:
    """Deals with one file after the other."""

    def __init__(self, folder: Folder, store: Shelf) -> None:
        self._folder = folder
        self._store = store
        self._counts = {"stored": 0, "known": 0, "rejected": 0}

    async def run(self, arrivals: Arrivals) -> None:
        """Deal with what was claimed before, then with whatever arrives, for ever."""
        await self.recover()
        while True:
            path = self._folder.claim(await arrivals.take())
            if path is not None:
                await self.process(path)

    async def recover(self) -> None:
        """Deal with the files that an earlier run has claimed and not dealt with."""
        for path in self._folder.claimed():
            await self.process(path)

    async def process(self, path: Path) -> None:
        """Store one claimed file, and move it; or reject it."""
        try:
            data = await trio.Path(path).read_bytes()
        except PermissionError as exc:
            self._reject(path, inode_of(path), f"it cannot be read: {exc.strerror}")
            return
        sha256 = sha256_of(data)
        try:
            rows = parsed(data)
        except Malformed as exc:
            self._reject(path, sha256, str(exc))
            return
        is_new = await self._store.add_file(sha256, path.name, rows)
        # A stop may come here: then the file is stored and not moved.
        await trio.lowlevel.checkpoint()
        self._folder.finish(path, sha256)
        self._counts["stored" if is_new else "known"] += 1

    def _reject(self, path: Path, sha256: str, reason: str) -> None:
        self._folder.reject(path, sha256, reason)
        self._counts["rejected"] += 1

    def report(self) -> dict[str, int]:
        """How many files this run has dealt with, and how."""
        return dict(self._counts)


def parsed(data: bytes) -> Rows:
    """Return the rows of a file of JSON lines: objects, one a line; empty lines do not count.

    Raises:
        Malformed: it is none, or has no row.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Malformed(f"byte {exc.start}: not UTF-8") from None
    rows = [
        (number, line)
        for number, line in enumerate(text.split("\n"), start=1)
        if line and not line.isspace()
    ]
    for number, line in rows:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise Malformed(f"line {number}: not JSON: {exc}") from None
        if not isinstance(value, dict):
            raise Malformed(f"line {number}: not an object but {type(value).__name__}")
    if not rows:
        raise Malformed("no row in it")
    return rows


@final
@attrs.frozen
class Config:
    """What it must be told."""

    directory: Path
    """The demo's."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""
    folder = Folder(config.directory)

    async def start(get: Getter, *, task_status: trio.TaskStatus[Ingest]) -> None:
        ingest = Ingest(folder, get("db", Store))
        arrivals = get("inbox", Arrivals)
        task_status.started(ingest)
        await ingest.run(arrivals)

    return breakable(Manifold(start, inputs=("inbox", "db"), outputs={Ingest: itself}))
