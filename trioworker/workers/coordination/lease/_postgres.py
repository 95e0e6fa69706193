"""Leases in a PostgreSQL database, shared by several machines.

One table, one row for each lease, its pins in the row. Every call is **one statement**, which the
server executes as a whole, also if the process that sent it is stopped meanwhile: nobody waits for
the locks of someone who sleeps.

**The server measures the term**, by ``clock_timestamp()``: machines whose clocks are an hour apart
exclude each other all the same. `now` is only what an expiry is told by. A term counts from when
the server granted it, after the holder sent for it.

**The token is the row's primary key**, from the table's identity sequence; a claim gives the row a
new one. Two claims of one lease could draw their numbers in one order and be granted in the other,
if a row was deleted between. So a claim takes an advisory lock on the key, for its transaction,
*before* it draws; that is what its ``WITH`` is for, and why that is materialised.

**Fencing within a transaction of the user's** needs no more than the token::

    SELECT 1 FROM trioworker.lease WHERE token = ... FOR KEY SHARE

One row: nobody has been granted the lease since, and nobody is until the transaction ends, because
a claim, a revocation and a deletion change the key, and wait. An extension does not, and goes on.
No row: give up.

The schema and its table are made if they are not there, under a lock: ``CREATE ... IF NOT EXISTS``
fails when two do it at once. What is there and is no table of leases is refused.
``LISTEN`` is not used: whoever waits for a lease knows when its term ends, and looks then.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from trioworker import MisuseError
from trioworker.backends.postgres import Database, DatabaseBusy, DatabaseLost, open_database

from ._model import Info, Key, LeasePinned, Request
from ._store import Busy, Held, Invalid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence

    from trioworker.backends.postgres import Row, Transaction

    from ._config import PostgresConfig

# Half of each page stays free, so that extensions, which are most of the work, need no index.
_MAKE: Final = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE {schema}.lease (
    token bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    model text NOT NULL,
    name text NOT NULL,
    holder text NOT NULL,
    expiry double precision NOT NULL,
    pins text[] NOT NULL DEFAULT ARRAY[]::text[],
    UNIQUE (namespace, model, name)
) WITH (fillfactor = 50);
COMMENT ON COLUMN {schema}.lease.expiry IS 'seconds since 1970, by the clock of this server';
"""

_SERVER: Final = """
SELECT current_setting('server_encoding'), current_setting('transaction_read_only')
"""
_FOUND: Final = """
SELECT rtrim(concat(attname, ' ', format_type(atttypid, atttypmod), ' ', attidentity))
FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
UNION ALL
SELECT pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = to_regclass(%s) AND contype IN ('p', 'u')
"""
_EXPECTED: Final = {
    "token bigint a",  # GENERATED ALWAYS AS IDENTITY
    "namespace text",
    "model text",
    "name text",
    "holder text",
    "expiry double precision",
    "pins text[]",
    "PRIMARY KEY (token)",
    "UNIQUE (namespace, model, name)",
}
_ENCODINGS: Final = ("UTF8", "SQL_ASCII")  # which keep any name as it is

_NOW: Final = "extract(epoch FROM clock_timestamp())::float8"
_PINNED: Final = "cardinality(lease.pins) > 0"
_HELD: Final = f"(lease.expiry > {_NOW} OR {_PINNED})"
_KEY: Final = "namespace = %s AND model = %s AND name = %s"
_TOLD: Final = f"holder, expiry - {_NOW}, token, {_PINNED}"

_LEASES: Final = f"SELECT {_TOLD}, namespace, model, name FROM {{lease}} WHERE {_HELD}"  # noqa: S608 - constants
_CLAIM: Final = f"""
WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(%s))
INSERT INTO {{lease}} AS lease (namespace, model, name, holder, expiry)
SELECT %s::text, %s::text, %s::text, %s::text, {_NOW} + %s::float8 FROM locked
ON CONFLICT (namespace, model, name) DO UPDATE
SET token = DEFAULT, holder = excluded.holder, expiry = excluded.expiry
WHERE NOT {_HELD}
RETURNING token
"""  # noqa: S608 - constants
_EXTEND: Final = f"""
UPDATE {{lease}} SET expiry = greatest(expiry, {_NOW} + %s::float8)
WHERE {_KEY} AND holder = %s AND {_HELD} RETURNING {_TOLD}
"""  # noqa: S608 - constants
_REVOKE: Final = f"""
DELETE FROM {{lease}} WHERE {_KEY} AND holder = %s AND {_HELD} AND NOT {_PINNED} RETURNING 1
"""  # noqa: S608 - constants
_PIN: Final = f"""
UPDATE {{lease}} SET pins = array_append(pins, %s::text)
WHERE {_KEY} AND {_HELD} AND %s <> ALL (pins)
"""  # noqa: S608 - constants
_UNPIN: Final = f"""
UPDATE {{lease}} SET pins = array_remove(pins, %s::text) WHERE {_KEY} AND %s = ANY (pins)
"""  # noqa: S608 - constants
_PINS: Final = f"SELECT pins, namespace, model, name FROM {{lease}} WHERE {_PINNED}"  # noqa: S608 - constants
_EXPIRE: Final = f"""
WITH gone AS (
    DELETE FROM {{lease}} WHERE token IN (
        SELECT token FROM {{lease}} WHERE NOT {_HELD} FOR UPDATE SKIP LOCKED
    ) RETURNING 1
) SELECT count(*) FROM gone
"""  # noqa: S608 - constants


@final
class PostgresStore:
    """A `Store` in a database that is open; made by `open_postgres_store`."""

    def __init__(self, database: Database, schema: str) -> None:
        self._database = database
        self._schema = schema

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """See `Store.leases`."""
        where = "" if key is None else f" AND {_KEY}"
        rows = await self._query(_LEASES + where, key or ())
        return {Key(*row[4:]): _info(row, now) for row in rows}

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        rows = await self._query(_CLAIM, (_lock(*key), *key, request.holder, request.duration))
        if not rows:
            raise Held(f"lease {key} is held")
        return Info(request.holder, now + request.duration, rows[0][0])

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        rows = await self._query(_EXTEND, (request.duration, *key, request.holder))
        if not rows:
            raise Invalid(f"lease {key} is not held by {request.holder!r}")
        return _info(rows[0], now)

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """See `Store.revoke`."""
        if await self._query(_REVOKE, (*key, holder)):
            return
        info = (await self.leases(now, key)).get(key)
        if info is not None and info.holder == holder and info.is_pinned:
            raise LeasePinned(f"lease {key} is pinned; unpin it before it is revoked")
        raise Invalid(f"lease {key} is not held by {holder!r}")

    async def pin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.pin`."""
        await self._query(_PIN, (entity, *key, entity))

    async def unpin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.unpin`."""
        await self._query(_UNPIN, (entity, *key, entity))

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:  # noqa: ARG002 - a store's
        """See `Store.pinned`."""
        return {Key(*row[1:]): frozenset(row[0]) for row in await self._query(_PINS)}

    async def expire(self, now: float) -> int:  # noqa: ARG002 - a store's
        """See `Store.expire`. Leaves what others are at to the next time."""
        [(count,)] = await self._query(_EXPIRE)
        return int(count)

    def __repr__(self) -> str:
        return f'<PostgresStore "{self._schema}" in {self._database!r}>'

    async def _query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with _busy():
            return await self._database.query(sql.format(lease=_table(self._schema)), values)


@asynccontextmanager
async def open_postgres_store(config: PostgresConfig) -> AsyncGenerator[PostgresStore]:
    """Open the store, which is made if it is not there; close it at the end."""
    async with open_database(
        config.conninfo, timeout=config.timeout, connections=config.connections
    ) as database:
        await _set_up(database, config.schema)
        yield PostgresStore(database, config.schema)


async def _set_up(database: Database, schema: str) -> None:
    [(encoding, read_only)] = await database.query(_SERVER)
    if read_only == "on":  # can only be if the conninfo says that it may
        raise MisuseError(
            f"{database!r} is read-only, and leases have to be written; name the server that takes "
            "writes in the conninfo, and leave target_session_attrs out"
        )
    if encoding not in _ENCODINGS:
        raise MisuseError(
            f"{database!r} is in {encoding}, which cannot keep every name; leases need a database "
            "in UTF8: createdb -E UTF8 -T template0"
        )
    table = _table(schema)
    found = await database.query(_FOUND, (table, table))
    if not found:  # who may only use what is there never gets here
        async with database.transaction() as transaction:
            await transaction.execute("SELECT pg_advisory_xact_lock(%s)", [_lock(schema)])
            found = await _made(transaction, table, schema)
    if (columns := {text for (text,) in found}) != _EXPECTED:
        differences = ", ".join(sorted(map(str, columns ^ _EXPECTED)))
        raise MisuseError(
            f"{table} in {database!r} is no table of leases (differences: {differences}); "
            "let the config's schema be another, or move that table away"
        )


async def _made(transaction: Transaction, table: str, schema: str) -> list[Row]:
    """Make the table unless another was quicker; return what is there."""
    found = await transaction.execute(_FOUND, (table, table))
    if not found:
        await transaction.execute(_MAKE.format(schema=f'"{schema}"'))
        found = await transaction.execute(_FOUND, (table, table))
    return found


def _table(schema: str) -> str:
    return f'"{schema}".lease'


def _lock(*what: str) -> int:
    """Return the number of an advisory lock; two that have one by chance only take turns."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


def _info(row: Row, now: float) -> Info:
    holder, left, token, is_pinned = row[:4]
    return Info(holder, now + left, token, is_pinned=is_pinned)


@contextmanager
def _busy() -> Generator[None]:
    try:
        yield
    except (DatabaseBusy, DatabaseLost) as error:
        raise Busy(str(error)) from error
