"""A SQLite database, reached from Trio through apsw's own Trio support.

One connection, which apsw keeps in a thread of its own; one `Database` around it, which lets one
task at a time use it. Every database is opened alike: WAL, foreign keys on, and transactions that
begin with ``BEGIN IMMEDIATE``, so that whoever got to write can also commit.

What a cancellation does:

- A call that runs is interrupted: apsw's progress handler sees it.
- A call that waits for another process' lock stops waiting. SQLite's own ``busy_timeout`` would
  sleep on in the thread, so the waiting is done by a busy handler that sleeps in Trio.
- A transaction is rolled back, shielded, before the cancellation goes on.
- ``COMMIT`` is never interrupted, so what left the block of a transaction without error is stored,
  and what left it with one, ``Cancelled`` included, is not.

A file that is deleted or replaced while it is open can still be written, and nobody would ever find
what was. So each transaction looks, before it commits, whether the file is still the one that was
opened; SQLite itself does not, under WAL.

apsw would also look at Trio's deadlines by itself, and raise ``TooSlowError`` in place of the
cancellation that is about to come. We tell it that there is none.
"""

from __future__ import annotations

import math
import os
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

import trio

try:
    import apsw
    import apsw.aio
except ImportError as _missing:
    raise ImportError(
        'trioworker.backends.sqlite needs apsw: pip install "trioworker[sqlite]"'
    ) from _missing

from .._errors import TrioworkerError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Generator,
        Iterable,
        Sequence,
    )
    from contextvars import ContextVar

__all__ = ["Database", "DatabaseBusy", "DatabaseGone", "Transaction", "open_database"]

T = TypeVar("T")
Value = None | int | float | str | bytes
Row = tuple[Any, ...]

_BUSY_STEP = 0.01  # seconds between two attempts to get a lock that another connection has


DatabaseBusy = apsw.BusyError
"""Another connection had the lock for longer than the `busy_timeout`; nothing was done."""


class DatabaseGone(TrioworkerError):
    """The database's file was deleted or replaced while it was open: nothing more is stored."""


@final
class Transaction:
    """What can be done within one transaction; see `Database.transaction`.

    Once that is over, what is asked of it is refused with `trio.ClosedResourceError`.
    """

    def __init__(self, database: Database) -> None:
        self._database: Database | None = database

    async def execute(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Execute `sql`, which may be several statements, and return all rows. A checkpoint.

        ``?`` stands for each of the `values`.
        """
        return await self._open().run(lambda db: _fetched(db, sql, values))

    async def executemany(self, sql: str, rows: Iterable[Sequence[Value]]) -> None:
        """Execute `sql` once with each of `rows`. A checkpoint."""
        rows = list(rows)  # here, not in the connection's thread: it may be a generator of ours
        await self._open().run(lambda db: db.executemany(sql, rows))

    def close(self) -> None:
        """Allow no more; `Database.transaction` calls it."""
        self._database = None

    def _open(self) -> _Connection:
        if self._database is None:
            raise trio.ClosedResourceError("this transaction is over; begin another one")
        return self._database.connection()


@final
class Database:
    """An open database; made by `open_database`. Tasks that use it take turns."""

    def __init__(self, connection: Any, path: str) -> None:  # Any: not for others to make
        self._connection: _Connection | None = connection
        self._path = path
        self._file = _identity(path)
        self._lock = trio.Lock()

    async def query(self, sql: str, values: Sequence[Value] = ()) -> list[Row]:
        """Execute `sql` outside a transaction, and return all rows. A checkpoint.

        ``?`` stands for each of the `values`.
        """
        async with self._lock:
            return await self.connection().run(lambda db: _fetched(db, sql, values))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Begin a transaction; commit it at the end of the block, or roll it back on any error.

        The lock for writing is held from the beginning. Within the block, use what it gives and
        not the database: a second transaction in the same task is a ``RuntimeError``.

        Raises:
            DatabaseGone: at the end; its file was deleted or replaced. It was rolled back.
        """
        async with self._lock:
            connection = self.connection()
            transaction = Transaction(self)
            try:
                await connection.run(lambda db: db.execute("BEGIN IMMEDIATE"))
                yield transaction
                await trio.lowlevel.checkpoint_if_cancelled()  # the last moment to give up
                if _identity(self._path) != self._file:
                    raise DatabaseGone(f"{self._path} was deleted or replaced while it was open")
                with trio.CancelScope(shield=True):
                    await connection.run(lambda db: db.execute("COMMIT"))
            except BaseException:
                with trio.CancelScope(shield=True):
                    await connection.run(_roll_back)
                raise
            finally:
                transaction.close()

    async def aclose(self) -> None:
        """Close it, after the call or transaction that is under way. `open_database` calls it."""
        async with self._lock:
            if self._connection is not None:
                connection, self._connection = self._connection, None
                await connection.aclose()

    def connection(self) -> _Connection:
        """Return the connection; for this module only."""
        if self._connection is None:
            raise trio.ClosedResourceError(f"{self._path} was closed")
        return self._connection

    def __repr__(self) -> str:
        return f"<Database {self._path!r}{' closed' if self._connection is None else ''}>"


@asynccontextmanager
async def open_database(
    path: str | os.PathLike[str], *, busy_timeout: float = 5.0
) -> AsyncGenerator[Database]:
    """Open the database at `path`, which is made if it is not there; close it at the end.

    Leaving waits for the call or the transaction that is under way in another task.

    Args:
        path: where it is, or ``":memory:"``.
        busy_timeout: seconds to wait for a lock that another connection has, before
            ``apsw.BusyError``.

    Raises:
        apsw.Error: it cannot be opened, or is no database; the path is added as a note.
    """
    path = os.fspath(path)
    connection = await _opened(path)
    database = Database(connection, path)
    try:
        await _set_up(connection, path, busy_timeout)
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await database.aclose()


@final
class _Connection:
    """An asynchronous connection, and the one way to use it: a function, run in its thread."""

    def __init__(self, connection: apsw.AsyncConnection) -> None:
        self._connection = connection

    async def run(self, function: Callable[[apsw.Connection], T]) -> T:
        """Call `function` in the connection's thread, where the connection is a plain one."""
        with _set(apsw.aio.deadline, math.inf):
            # The stubs do not know that in its own thread the connection is synchronous.
            call = self._connection.async_run(function, cast("apsw.Connection", self._connection))
            return cast("T", await call)

    async def set_busy_handler(self, handler: Callable[[int], Awaitable[bool]]) -> None:
        await self._connection.set_busy_handler(handler)

    async def aclose(self) -> None:
        await self._connection.aclose()


async def _opened(path: str) -> _Connection:
    # Trio's by name: apsw's own choice is anyio's, if that is in the call stack.
    controller = cast("apsw.AsyncConnectionController", apsw.aio.Trio)
    try:
        # Shielded, because a connection that nobody waited for would keep its thread for ever.
        with trio.CancelScope(shield=True), _set(apsw.async_controller, controller):
            return _Connection(await apsw.Connection.as_async(path))
    except apsw.Error as exc:
        exc.add_note(f"database: {path}")
        raise
    raise AssertionError  # pragma: no cover - a shield swallows nothing


async def _set_up(connection: _Connection, path: str, busy_timeout: float) -> None:
    async def wait_for_lock(attempts: int) -> bool:
        await trio.sleep(_BUSY_STEP)
        return attempts * _BUSY_STEP < busy_timeout

    def pragmas(db: apsw.Connection) -> str:
        db.pragma("foreign_keys", value=True)
        return str(db.pragma("journal_mode", "wal"))

    async def set_pragmas() -> str:
        attempts = 0
        while True:
            try:
                return await connection.run(pragmas)
            except apsw.BusyError:
                # SQLite asks no handler where a database becomes one with WAL: two processes that
                # open a new one at once get here.
                if not await wait_for_lock(attempts):
                    raise
            attempts += 1

    try:
        await connection.set_busy_handler(wait_for_lock)
        mode = await set_pragmas()
        if mode != "wal" and path != ":memory:":
            raise apsw.CantOpenError(f"its file system does not allow WAL, only {mode!r}")
    except apsw.Error as exc:
        exc.add_note(f"database: {path}")
        raise


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another in its place; ``None`` if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path would be made for each transaction
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _fetched(db: apsw.Connection, sql: str, values: Sequence[Value]) -> list[Row]:
    return cast("list[Row]", db.execute(sql, values).fetchall())


def _roll_back(db: apsw.Connection) -> None:
    # SQLite rolls back by itself when it interrupts a statement that writes.
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def _set(variable: ContextVar[T], value: T) -> Generator[None]:
    """Set `variable` for the length of the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
