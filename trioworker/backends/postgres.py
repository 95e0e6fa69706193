"""A PostgreSQL database, reached from Trio: psycopg speaks with the server, and Trio waits.

psycopg's protocol is generators that say for what of the socket they wait. So its connection needs
one method of ours, `_Session.wait`, which has Trio wait for that.

A `Database` has up to so many connections, made when they are needed. A call has one to itself and
gives it back as it was: open, and outside a transaction. One that is not is closed. So a connection
that was lost costs at most the call that was at it, and the next opens another.

What a cancellation does:

- A statement that runs is called off at the server, by a request of its own, and heard out.
- A transaction is rolled back, shielded, before the cancellation goes on.
- ``COMMIT`` is never interrupted, so what left the block of a transaction without error is stored,
  and what left it with one, ``Cancelled`` included, is not.
- A server that does not react within two seconds loses the connection, and rolls back by itself.

What a time-out does: the server ends a statement that takes too long, waiting for locks included
(``statement_timeout``), and throws out who does nothing in a transaction, because the process was
stopped, say (``idle_in_transaction_session_timeout``): others wait for its locks. A server that
does not even do that is given up from here, two seconds later.

**Lost in the middle** is the case that cannot be mended: whether a statement or ``COMMIT`` that got
no answer was done, nobody here can know. `DatabaseLost` says so; whoever gets it looks. So it does
of what waits for a synchronous standby in vain: it is stored, but perhaps not for long.

Passwords are in no message and no ``repr``. What libpq says of a connection string that it cannot
read would quote from it, so it is not passed on.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import trio

try:
    import psycopg
    from psycopg import capabilities, generators, pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import tuple_row
    from psycopg.waiting import Ready, Wait
except ImportError as _missing:
    raise ImportError(
        'trioworker.backends.postgres needs psycopg: pip install "trioworker[postgres]" '
        "(and libpq: of the system, or with psycopg[binary])"
    ) from _missing

from .._errors import TrioworkerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence

    from psycopg.abc import PQGen, PQGenConn
    from psycopg.pq.abc import PGconn

__all__ = [
    "Database",
    "DatabaseBusy",
    "DatabaseLost",
    "Transaction",
    "check_conninfo",
    "open_database",
]

T = TypeVar("T")
Row = tuple[Any, ...]

_GRACE: Final = 2.0  # seconds in which a server that is there reacts

# What SQLSTATEs begin with. Of the first, the connection is of no more use; nor is it of 25006,
# which is from a server that takes no writes, or no more.
_LOST: Final = ("08", "57P", "25P03", "25P04")
_READ_ONLY: Final = "25006"
_BUSY: Final = ("40", "53", "55P03", "57014")

_NAME_ANOTHER: Final = (
    "Name the server that takes writes in the conninfo, or all of them (host=db1,db2); if this is "
    "that one, see default_transaction_read_only of its role and database."
)

_SETTINGS: Final = """
SELECT set_config('statement_timeout', '{0}', false),
    set_config('idle_in_transaction_session_timeout', '{0}', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


class DatabaseBusy(TrioworkerError):
    """It could not be done now, because of a lock or a lack; nothing was done."""


class DatabaseLost(TrioworkerError):
    """The server cannot be reached; or was lost, and what was under way may have been done."""


def check_conninfo(conninfo: str) -> None:
    """Raise ``ValueError``, which does not quote it, unless `conninfo` can be read."""
    _parsed(conninfo)


@final
class Transaction:
    """What can be done within one transaction; see `Database.transaction`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection: _Connection | None = connection

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Execute `sql`, with ``%s`` for each of the `values`; return its rows. A checkpoint."""
        if self._connection is None:
            raise trio.ClosedResourceError("this transaction is over; begin another one")
        return await self._connection.execute(sql, values)

    def close(self) -> None:
        """Allow no more; `Database.transaction` calls it."""
        self._connection = None


@final
class Database:
    """An open database; made by `open_database`.

    Any number of tasks can use it; more than there are connections take turns. Beside what is said
    below, a call raises:

    - `DatabaseBusy`: the time was over, for a lock perhaps; or there was a deadlock, or a conflict.
    - `DatabaseLost`: no connection, or no more. Called again, it tries to connect again.
    - ``psycopg.Error``: what else the server has to say, with a note that names it.
    """

    def __init__(self, params: Mapping[str, str], timeout: float, connections: int) -> None:
        self._params = params
        self._server = _server(params)
        self._timeout = timeout
        self._total = connections
        self._turns = trio.CapacityLimiter(connections)
        self._idle: list[_Connection] = []
        self._is_closed = False

    async def query(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Execute `sql`, as a transaction of its own, and return its rows. A checkpoint.

        ``%s`` stands for each of the `values`. Cancelled, it has happened as a whole or not at all.
        """
        async with self._connection() as connection:
            return await connection.execute(sql, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Begin a transaction; commit it at the end of the block, or roll it back on any error.

        Within the block, use what it gives and not the database: a second call of the same task is
        a ``RuntimeError``. Do not wait for anything else there: who is idle is thrown out.

        Raises:
            psycopg.InternalError: at the end; a statement had failed, so the server rolled back.
        """
        async with self._connection() as connection:
            transaction = Transaction(connection)
            try:
                await connection.execute("BEGIN")
                yield transaction
                await trio.lowlevel.checkpoint_if_cancelled()  # the last moment to give up
                with trio.CancelScope(shield=True):
                    await connection.commit()
            except BaseException:
                await connection.roll_back()
                raise
            finally:
                transaction.close()

    async def aclose(self) -> None:
        """Close it, after the calls and transactions under way. `open_database` calls it."""
        self._is_closed = True
        turns = [object() for _ in range(self._total)]
        for turn in turns:
            await self._turns.acquire_on_behalf_of(turn)
        while self._idle:
            self._idle.pop().close()
        for turn in turns:  # who still wants one is to hear that it is closed
            self._turns.release_on_behalf_of(turn)

    def __repr__(self) -> str:
        return f"<Database {self._server}{' closed' if self._is_closed else ''}>"

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[_Connection]:
        async with self._turns:
            connection = self._kept() or await self._opened()
            try:
                yield connection
            finally:
                if connection.is_as_it_was:
                    self._idle.append(connection)
                else:
                    connection.close()

    def _kept(self) -> _Connection | None:
        if self._is_closed:
            raise trio.ClosedResourceError(f"{self._server} was closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                return connection
            connection.close()
        return None

    async def _opened(self) -> _Connection:
        session = await _connected(self._params, self._server, self._timeout)
        return _Connection(session, self._server, self._timeout)


@asynccontextmanager
async def open_database(
    conninfo: str,
    *,
    timeout: float = 5.0,  # noqa: ASYNC109 - of each call, and of the server's
    connections: int = 4,
) -> AsyncGenerator[Database]:
    """Open a database; close it at the end. The first connection is made at once.

    Leaving waits for the calls and transactions that are under way in other tasks.

    Args:
        conninfo: what libpq takes: ``"host=db1 dbname=shop user=agent"``, or a URL. What it does
            not say comes from the environment (``PGHOST`` and so on), and a password rather from
            ``PGPASSFILE``. With several hosts, the one that takes writes.
        timeout: seconds for connecting, for each statement, and for idling in a transaction.
        connections: how many at the most.

    Raises:
        ValueError: `conninfo` cannot be read.
        DatabaseLost: there is no connection; the message names server, cause and way out.
    """
    database = Database(_parsed(conninfo), timeout, connections)
    try:
        await database.query("SELECT")
        yield database
    finally:
        with trio.CancelScope(shield=True):
            await database.aclose()


# -- one connection --------------------------------------------------------------------------------


@final
class _Session(psycopg.AsyncConnection[Row]):
    """psycopg's connection, which waits by Trio. Of its asyncio, nothing is left that waits."""

    async def wait(
        self,
        gen: PQGen[T],
        interval: float = 0.0,  # noqa: ARG002 - psycopg's
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - psycopg's
    ) -> T:
        """Do what `gen` does, and wait when it says for what. Cancelled, call it off."""
        try:
            wanted = next(gen)
            while True:
                try:
                    ready = await _ready(self.pgconn.socket, wanted)
                except trio.Cancelled:
                    await self._call_off(gen, wanted)
                    raise
                wanted = gen.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result

    async def _call_off(self, gen: PQGen[object], wanted: Wait) -> None:
        """Have the server call it off, and hear it out; if it does not react, we are not idle."""
        with (
            trio.move_on_after(_GRACE, shield=True),
            suppress(psycopg.Error, StopIteration),  # both are its end
        ):
            await _request_cancel(self.pgconn)
            while True:
                wanted = gen.send(await _ready(self.pgconn.socket, wanted))


@final
class _Connection:
    """A session, and what is said of it when something is wrong."""

    def __init__(self, session: _Session, server: str, timeout: float) -> None:
        self._session = session
        self._server = server
        self._timeout = timeout

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        return (await self._executed(sql, values))[1]

    async def commit(self) -> None:
        """Commit. PostgreSQL answers a commit of what failed by rolling back, and no error."""
        done, _ = await self._executed("COMMIT", ())
        if done != "COMMIT":
            raise psycopg.InternalError(
                f"{self._server}: a statement of the transaction failed, so nothing of it was "
                "stored; do not go on in the block after an error"
            )

    async def roll_back(self) -> None:
        """Roll back. Where that does not work, it is not as it was, so it will be closed."""
        with (
            trio.move_on_after(_GRACE, shield=True),
            suppress(DatabaseBusy, DatabaseLost, psycopg.Error),
        ):
            if not self.is_as_it_was:
                await self.execute("ROLLBACK")

    @property
    def is_as_it_was(self) -> bool:
        """Whether it is open, does nothing, and is in no transaction."""
        return self._session.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def is_alive(self) -> bool:
        """Whether nothing has come that means its end, as far as the system knows."""
        pgconn = self._session.pgconn
        with suppress(psycopg.Error):
            pgconn.consume_input()  # the server's last words
            pgconn.consume_input()  # that there will be no more
        return self.is_as_it_was

    def close(self) -> None:
        self._session.pgconn.finish()

    async def _executed(self, sql: str, values: Sequence[Any]) -> tuple[str | None, list[Row]]:
        with self._named(), trio.move_on_after(self._timeout + _GRACE):
            cursor = self._session.cursor()
            await cursor.execute(sql.encode(), values or None)
            rows = [] if cursor.description is None else await cursor.fetchall()
            return cursor.statusmessage, rows
        self.close()
        raise DatabaseLost(
            f"{self._server} has not answered within {self._timeout + _GRACE:g} seconds, so the "
            "connection was given up; the next call opens another"
        )

    @contextmanager
    def _named(self) -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            cause, state = _one_line(error), error.sqlstate or ""
            if state == _READ_ONLY:
                self.close()
                raise DatabaseLost(
                    f"{self._server} takes no writes: {cause}. {_NAME_ANOTHER}"
                ) from error
            if self._session.closed or state.startswith(_LOST):
                self.close()
                raise DatabaseLost(
                    f"{self._server}: the connection was lost: {cause}; the next call opens another"
                ) from error
            if state.startswith(_BUSY):
                raise DatabaseBusy(f"{self._server}: {cause}") from error
            error.add_note(f"database: {self._server}")
            raise


# -- connecting ------------------------------------------------------------------------------------


async def _connected(params: Mapping[str, str], server: str, timeout: float) -> _Session:  # noqa: ASYNC109 - all of it
    problems: list[str] = []
    with trio.move_on_after(timeout) as scope:
        for attempt in await _attempts(params, problems):
            try:
                return await _opened(attempt, timeout)
            except psycopg.Error as error:
                problems.append(_one_line(error))
    if scope.cancelled_caught:
        problems.append(f"no answer within {timeout:g} seconds")
    causes = "; ".join(dict.fromkeys(problems))
    raise DatabaseLost(f"no connection to {server}: {causes.rstrip('.?')}. {_way_out(causes)}")


async def _opened(params: Mapping[str, str], timeout: float) -> _Session:  # noqa: ASYNC109 - the server's
    pgconn = await _driven(generators.connect(make_conninfo("", **params)))
    session = _Session(pgconn, tuple_row)
    try:
        await session.set_autocommit(True)
        await session.execute(_SETTINGS.format(max(1, round(timeout * 1000))).encode())
    except BaseException:
        session.pgconn.finish()
        raise
    return session


async def _attempts(params: Mapping[str, str], problems: list[str]) -> list[Mapping[str, str]]:
    """Return what to try in turn, with the names of hosts looked up: libpq would block for that."""
    given = {**_defaults(), **params}
    if given.get("hostaddr") or not given.get("host"):
        return [params]
    hosts, ports = given["host"].split(","), given.get("port", "").split(",")
    attempts: list[Mapping[str, str]] = []
    for number, host in enumerate(hosts):
        attempt = {**params, "host": host, "port": ports[number if len(ports) > 1 else 0]}
        if not host or host.startswith(("/", "@")):
            attempts.append(attempt)
            continue
        try:
            found = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
        except OSError as error:
            problems.append(f'host "{host}" is not known: {error.strerror}')
            continue
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        attempts += [{**attempt, "hostaddr": address} for address in addresses]
    return attempts


def _parsed(conninfo: str) -> dict[str, str]:
    with suppress(psycopg.ProgrammingError):
        given = conninfo_to_dict(conninfo)
        ours = {"fallback_application_name": "trioworker", "target_session_attrs": "read-write"}
        params = {**ours, **{name: str(value) for name, value in given.items()}}
        return {**params, "client_encoding": "UTF8"}
    raise ValueError(
        "conninfo cannot be read (it may have a password, so it is not shown); write for example "
        '"host=db1 dbname=shop user=agent" or "postgresql://agent@db1/shop"'
    )


def _defaults() -> dict[str, str]:
    """Return what libpq takes from the environment, or by itself."""
    options = pq.Conninfo.get_defaults()
    return {option.keyword.decode(): option.val.decode() for option in options if option.val}


def _server(params: Mapping[str, str]) -> str:
    given = {**_defaults(), **params}
    user, host, port = given.get("user", ""), given.get("host"), given.get("port", "")
    place = f"{host or given.get('hostaddr') or 'local'}:{port}"
    return f"PostgreSQL {user}@{place}/{given.get('dbname') or user}"


def _way_out(causes: str) -> str:
    if "is not known" in causes:
        return "Check the host in the conninfo."
    if "FATAL" in causes or "password" in causes:
        return (
            "Unless that passes by itself, check user, password and dbname in the conninfo, and "
            "the server's pg_hba.conf."
        )
    if "is read-only" in causes or "is in hot standby" in causes:
        return _NAME_ANOTHER
    return "Check host and port in the conninfo, and that it runs and listens there."


def _one_line(error: BaseException) -> str:
    text = str(error).removeprefix("connection failed: ").removeprefix("connection is bad: ")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


# -- waiting ---------------------------------------------------------------------------------------


async def _driven(gen: PQGenConn[T]) -> T:
    """Do what `gen` does, which is not bound to one socket."""
    try:
        socket, wanted = next(gen)
        while True:
            socket, wanted = gen.send(await _ready(socket, wanted))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        gen.close()


async def _ready(socket: int, wanted: Wait) -> int:
    """Wait until the socket is ready for what is `wanted`; return for what it is."""
    if wanted == Wait.R:
        await trio.lowlevel.wait_readable(socket)
        return Ready.R
    if wanted == Wait.W:
        await trio.lowlevel.wait_writable(socket)
        return Ready.W
    ready = 0
    async with trio.open_nursery() as nursery:

        async def readable() -> None:
            nonlocal ready
            await trio.lowlevel.wait_readable(socket)
            ready |= Ready.R
            nursery.cancel_scope.cancel()

        nursery.start_soon(readable)
        await trio.lowlevel.wait_writable(socket)
        ready |= Ready.W
        nursery.cancel_scope.cancel()
    return ready


async def _request_cancel(pgconn: PGconn) -> None:
    """Ask the server, by a connection of its own, to call off what the session does."""
    if capabilities.has_cancel_safe():
        request = pgconn.cancel_conn()
        request.start()
        await _driven(generators.cancel(request))
    else:  # libpq before 17 can only block
        await trio.to_thread.run_sync(pgconn.get_cancel().cancel, abandon_on_cancel=True)
