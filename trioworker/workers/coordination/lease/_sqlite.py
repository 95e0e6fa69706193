"""Leases in a SQLite file, shared by the processes of one machine.

The token is the row's id: ``AUTOINCREMENT`` never gives one twice, whatever was deleted and whoever
has the file open. A claim deletes the row of a term that is over and inserts another, in one
transaction that holds the lock for writing from its beginning; each other write is a transaction as
well, which also makes sure that the file is still there (see `trioworker.backends.sqlite`).

Pins refer to the row, so SQLite itself would refuse to delete what is pinned. We ask before.

A process that is stopped (SIGSTOP) inside a transaction holds the file's lock until it goes on:
meanwhile everybody else is told `Busy`. That is SQLite's, and cannot be mended from here.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, final

from trioworker.backends.sqlite import Database, DatabaseBusy, Transaction, open_database

from ._model import Info, Key, LeasePinned, Request
from ._store import Busy, Held, Invalid

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Generator, Mapping

    from trioworker.backends.sqlite import Row

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    model TEXT NOT NULL,
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    expiry REAL NOT NULL,
    UNIQUE (namespace, model, name)
);
CREATE TABLE IF NOT EXISTS lease_pin (
    token INTEGER NOT NULL REFERENCES lease (token),
    entity TEXT NOT NULL,
    PRIMARY KEY (token, entity)
) WITHOUT ROWID;
"""

_PINNED = "EXISTS (SELECT 1 FROM lease_pin WHERE lease_pin.token = lease.token)"
_HELD = f"(expiry > ? OR {_PINNED})"
_KEY = "namespace = ? AND model = ? AND name = ?"
_READ = f"SELECT namespace, model, name, holder, expiry, token, {_PINNED} FROM lease"  # noqa: S608 - constants


@final
class SqliteStore:
    """A `Store` in a database that is open; made by `open_sqlite_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """See `Store.leases`."""
        where = _HELD if key is None else f"{_HELD} AND {_KEY}"
        with _busy():
            rows = await self._database.query(f"{_READ} WHERE {where}", (now, *(key or ())))
        return {Key(*row[:3]): _info(row[3:]) for row in rows}

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        expiry = now + request.duration
        async with self._write() as write:
            await write.execute(f"DELETE FROM lease WHERE {_KEY} AND NOT {_HELD}", (*key, now))  # noqa: S608 - constants
            rows = await write.execute(
                "INSERT INTO lease (namespace, model, name, holder, expiry) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING token",
                (*key, request.holder, expiry),
            )
        if not rows:
            raise Held(f"lease {key} is held")
        return Info(request.holder, expiry, rows[0][0])

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        async with self._write() as write:
            rows = await write.execute(
                f"UPDATE lease SET expiry = max(expiry, ?) WHERE {_KEY} AND holder = ? AND {_HELD} "  # noqa: S608 - constants
                f"RETURNING holder, expiry, token, {_PINNED}",
                (now + request.duration, *key, request.holder, now),
            )
        if not rows:
            raise Invalid(f"lease {key} is not held by {request.holder!r}")
        return _info(rows[0])

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """See `Store.revoke`."""
        async with self._write() as write:
            rows = await write.execute(
                f"SELECT token, {_PINNED} FROM lease WHERE {_KEY} AND holder = ? AND {_HELD}",  # noqa: S608 - constants
                (*key, holder, now),
            )
            if not rows:
                raise Invalid(f"lease {key} is not held by {holder!r}")
            if rows[0][1]:
                raise LeasePinned(f"lease {key} is pinned; unpin it before it is revoked")
            await write.execute("DELETE FROM lease WHERE token = ?", rows[0][:1])

    async def pin(self, key: Key, entity: str, now: float) -> None:
        """See `Store.pin`."""
        async with self._write() as write:
            await write.execute(
                f"INSERT INTO lease_pin SELECT token, ? FROM lease WHERE {_KEY} AND {_HELD} "  # noqa: S608 - constants
                "ON CONFLICT DO NOTHING",
                (entity, *key, now),
            )

    async def unpin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.unpin`."""
        async with self._write() as write:
            await write.execute(
                "DELETE FROM lease_pin WHERE entity = ? "  # noqa: S608 - constants
                f"AND token = (SELECT token FROM lease WHERE {_KEY})",
                (entity, *key),
            )

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:  # noqa: ARG002 - a store's
        """See `Store.pinned`."""
        with _busy():
            rows = await self._database.query(
                "SELECT namespace, model, name, entity FROM lease JOIN lease_pin USING (token)"
            )
        found: dict[Key, set[str]] = {}
        for row in rows:
            found.setdefault(Key(*row[:3]), set()).add(row[3])
        return {key: frozenset(entities) for key, entities in found.items()}

    async def expire(self, now: float) -> int:
        """See `Store.expire`. Takes the lock for writing only if there is something to delete."""
        lapsed = f"FROM lease WHERE NOT {_HELD}"
        with _busy():
            found = await self._database.query(f"SELECT 1 {lapsed} LIMIT 1", (now,))
        if not found:
            return 0
        async with self._write() as write:
            return len(await write.execute(f"DELETE {lapsed} RETURNING token", (now,)))

    def __repr__(self) -> str:
        return f"<SqliteStore in {self._database!r}>"

    @asynccontextmanager
    async def _write(self) -> AsyncGenerator[Transaction]:
        with _busy():
            async with self._database.transaction() as transaction:
                yield transaction


def _info(row: Row) -> Info:
    holder, expiry, token, is_pinned = row
    return Info(holder, expiry, token, is_pinned=bool(is_pinned))


@contextmanager
def _busy() -> Generator[None]:
    try:
        yield
    except DatabaseBusy as error:
        raise Busy(f"another process writes: {error}") from error


@asynccontextmanager
async def open_sqlite_store(
    path: str | os.PathLike[str], *, busy_timeout: float = 1.0
) -> AsyncGenerator[SqliteStore]:
    """Open the store at `path`, which is made if it is not there; close it at the end.

    Args:
        path: where the database is; it may have other tables.
        busy_timeout: seconds to wait while another process writes, before `Busy`.
    """
    async with open_database(path, busy_timeout=busy_timeout) as database:
        with _busy():
            async with database.transaction() as transaction:
                await transaction.execute(_SCHEMA)
        yield SqliteStore(database)
