"""Time, played to PostgreSQL: it measures terms itself, and the contract of stores passes time in.

Whoever connects with a ``search_path`` of a schema before that of the system gets from it the
functions that are in both. Here that is ``clock_timestamp``, which reads a table.
"""

import hashlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from psycopg.conninfo import make_conninfo

from trioworker.backends.postgres import Database, open_database
from trioworker.workers.coordination.lease import PostgresConfig, Store, open_postgres_store

CLOCK = """
SELECT pg_advisory_xact_lock(1);
CREATE SCHEMA IF NOT EXISTS {0};
CREATE TABLE IF NOT EXISTS {0}.clock (epoch double precision);
CREATE OR REPLACE FUNCTION {0}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT to_timestamp(epoch) FROM {0}.clock';
INSERT INTO {0}.clock SELECT 0 WHERE NOT EXISTS (SELECT FROM {0}.clock);
"""


def timed(
    clock: Database, schema: str, method: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    """Return `method`, which is called at the `now` that it is given."""

    async def called(*args: Any) -> Any:
        now = inspect.signature(method).bind(*args).arguments["now"]
        await clock.query(f"UPDATE {schema}.clock SET epoch = %s", [now])
        return await method(*args)

    return called


@asynccontextmanager
async def open_postgres_playing(conninfo: str, path: Path) -> AsyncGenerator[Store]:
    """Open a store in PostgreSQL, for which time goes as the test has it."""
    schema = f"t_{hashlib.sha256(bytes(path)).hexdigest()[:16]}"
    config = PostgresConfig(
        conninfo=make_conninfo(conninfo, options=f"-c search_path={schema}_clock,pg_catalog"),
        schema=schema,
    )
    async with open_database(conninfo) as clock:
        await clock.query(CLOCK.format(f"{schema}_clock"))
        async with open_postgres_store(config) as store:
            methods = [name for name in vars(Store) if not name.startswith("_")]
            face = {name: timed(clock, f"{schema}_clock", getattr(store, name)) for name in methods}
            yield cast("Store", SimpleNamespace(**face))
