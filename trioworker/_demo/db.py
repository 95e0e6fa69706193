"""The database: open as long as it runs, and nobody's call hangs on it when it is not.

What is stored, and how, is all here. ``(sha256, line)`` is unique by the schema, whatever the
program does.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import attrs
import trio

from trioworker import Getter, Manifold, Tomb
from trioworker.backends.sqlite import Database, DatabaseGone, Transaction, open_database
from trioworker.workers.data.pruner import Limits, Prunable

from .faults import breakable, itself
from .folder import Folder

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    sha256 TEXT PRIMARY KEY,
    name   TEXT NOT NULL,    -- the first under which this content came
    lines  INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS rows (
    sha256 TEXT NOT NULL REFERENCES files,
    line   INTEGER NOT NULL,
    body   TEXT NOT NULL,
    UNIQUE (sha256, line)
) STRICT;
CREATE TABLE IF NOT EXISTS samples (
    id    INTEGER PRIMARY KEY,
    taken REAL NOT NULL,
    files INTEGER NOT NULL,
    lines INTEGER NOT NULL
) STRICT;
"""

SAMPLE_BYTES = 32
"""What a sample takes, about: four numbers."""

Rows = Sequence[tuple[int, str]]
"""The rows of a file: each with the number of its line."""


@final
class Store:
    """What `db` offers: the few things that the others do with the database.

    A call while the database is being closed is interrupted with `trioworker.Dying`, and rolled
    back. When the database's file was deleted meanwhile, that ends `db`.
    """

    def __init__(self, database: Database) -> None:
        self.tomb = Tomb(name="db")
        self._database = database

    async def create(self) -> None:
        """Make the tables that are not there yet."""
        async with self._transaction() as transaction:
            await transaction.execute(SCHEMA)

    async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
        """Store a file's rows and its hash, both or neither; return False if they are there."""
        with self.tomb.while_alive():
            async with self._transaction() as transaction:
                known = "SELECT 1 FROM files WHERE sha256 = ?"
                if await transaction.execute(known, (sha256,)):
                    return False
                await transaction.execute(
                    "INSERT INTO files (sha256, name, lines) VALUES (?, ?, ?)",
                    (sha256, name, len(rows)),
                )
                await transaction.executemany(
                    "INSERT INTO rows (sha256, line, body) VALUES (?, ?, ?)",
                    ((sha256, line, body) for line, body in rows),
                )
            return True

    async def add_sample(self) -> tuple[int, int]:
        """Store how many files and lines there are; return both."""
        with self.tomb.while_alive():
            async with self._transaction() as transaction:
                [row] = await transaction.execute(
                    "INSERT INTO samples (taken, files, lines) "
                    "SELECT ?, count(*), coalesce(sum(lines), 0) FROM files RETURNING files, lines",
                    (time.time(),),
                )
            files, lines = row
            return files, lines

    async def prune(self, limits: Limits, at_most: int) -> int:
        """Delete the oldest samples, as a `Prunable` does; return how many."""
        too_old = time.time() - limits.max_age if limits.max_age else 0
        with self.tomb.while_alive():
            async with self._transaction() as transaction:
                [[count]] = await transaction.execute("SELECT count(*) FROM samples")
                kept = limits.max_bytes // SAMPLE_BYTES if limits.max_bytes else count
                pruned = await transaction.execute(
                    "DELETE FROM samples WHERE id IN (SELECT id FROM samples "
                    "WHERE taken < ? OR id NOT IN (SELECT id FROM samples ORDER BY id DESC LIMIT ?)"
                    " ORDER BY id LIMIT ?) RETURNING id",
                    (too_old, kept, at_most),
                )
            return len(pruned)

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Transaction]:
        try:
            async with self._database.transaction() as transaction:
                yield transaction
        except DatabaseGone as exc:
            self.tomb.kill(exc)
            raise


@final
@attrs.frozen
class Config:
    """What the database must be told."""

    directory: Path
    """The demo's."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""
    path = Folder(config.directory).database

    async def start(_get: Getter, *, task_status: trio.TaskStatus[Store]) -> None:
        async with open_database(path) as database:
            store = Store(database)
            await store.create()
            with store.tomb:
                task_status.started(store)
                await trio.sleep_forever()

    return breakable(Manifold(start, outputs={Store: itself, Prunable: itself}))
