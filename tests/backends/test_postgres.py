"""PostgreSQL through psycopg, with a real server. Who blocks whom is arranged, never waited for."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict
from psycopg.waiting import Ready, Wait
from trio.testing import wait_all_tasks_blocked

from tests.services.postgres import PASSWORD, Instance
from trioworker.backends import postgres as backend
from trioworker.backends.postgres import (
    Database,
    DatabaseBusy,
    DatabaseLost,
    check_conninfo,
    open_database,
)

BOUND = 60.0
TIMEOUT = 2.0
"""Of those who are to run into it. Connecting has no more, so it must not be short."""
ACTIVE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
"""


@pytest.fixture
def conninfo(postgres: Instance) -> str:
    return postgres.emptied()


@pytest.fixture
async def database(conninfo: str) -> AsyncGenerator[Database]:
    async with open_database(conninfo, timeout=20) as database:
        await database.query("CREATE TABLE t (x integer PRIMARY KEY)")
        yield database


@pytest.fixture
async def other(conninfo: str) -> AsyncGenerator[Database]:
    """Another client of the same database."""
    async with open_database(conninfo, timeout=20) as database:
        yield database


async def stored(database: Database) -> list[object]:
    return [x for (x,) in await database.query("SELECT x FROM t ORDER BY x")]


async def pid(database: Database) -> int:
    [(found,)] = await database.query("SELECT pg_backend_pid()")
    return int(found)


async def until_active(other: Database, count: int) -> None:
    """Wait until so many other sessions of the database execute something."""
    with trio.fail_after(BOUND):
        while await other.query(ACTIVE) != [(count,)]:  # noqa: ASYNC110 - the server knows
            await trio.sleep(0.01)


async def until_alone(other: Database) -> None:
    """Wait until there is no other session of the database."""
    others = ACTIVE.replace("AND state = 'active'", "")
    with trio.fail_after(BOUND):
        while await other.query(others) != [(0,)]:  # noqa: ASYNC110 - the server knows
            await trio.sleep(0.01)


# -- what it does ----------------------------------------------------------------------------------


async def test_a_query_has_values_and_rows(database: Database) -> None:
    assert await database.query("SELECT %s::text, %s + 1, '%%'", ["a", 1]) == [("a", 2, "%")]
    assert await database.query("INSERT INTO t VALUES (1)") == []
    assert await stored(database) == [1]


async def test_a_statement_may_be_larger_than_what_the_socket_takes(database: Database) -> None:
    text = "x" * 10_000_000
    assert await database.query("SELECT %s::text || '.'", [text]) == [(text + ".",)]


async def test_what_is_written_is_stored_also_where_that_is_not_the_default(
    postgres: Instance, conninfo: str
) -> None:
    name = conninfo_to_dict(conninfo)["dbname"]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with open_database(conninfo) as database:
        assert await database.query("SHOW synchronous_commit") == [("on",)]


async def test_tasks_have_a_connection_each_as_far_as_there_are(conninfo: str) -> None:
    async with open_database(conninfo, connections=2) as database:
        pids: list[int] = []

        async def look() -> None:
            await database.query("SELECT pg_sleep(0.05)")
            pids.append(await pid(database))

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(look)
        assert len(pids) == 6
        assert len(set(pids)) == 2


async def test_a_second_call_within_a_transaction_is_refused_and_does_not_wait_for_itself(
    database: Database,
) -> None:
    async with database.transaction():
        with pytest.raises(RuntimeError):
            await database.query("SELECT 1")


async def test_a_transaction_is_stored_at_the_end_of_its_block(
    database: Database, other: Database
) -> None:
    async with database.transaction() as transaction:
        assert await transaction.execute("INSERT INTO t VALUES (1) RETURNING x") == [(1,)]
        assert await stored(other) == []
    assert await stored(other) == [1]
    with pytest.raises(trio.ClosedResourceError, match="over"):
        await transaction.execute("SELECT 1")


async def test_an_error_in_the_block_rolls_back_and_travels_on(database: Database) -> None:
    before = await pid(database)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t VALUES (1)")
            raise ZeroDivisionError

    assert await stored(database) == []
    assert await pid(database) == before


async def test_a_block_that_goes_on_after_an_error_of_the_server_is_told_that_nothing_was_stored(
    database: Database,
) -> None:
    """PostgreSQL answers its ``COMMIT`` by rolling back, without an error."""
    with pytest.raises(psycopg.InternalError, match="nothing of it was stored"):
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                await transaction.execute("INSERT INTO t VALUES (1)")

    assert await stored(database) == []


async def test_an_error_of_the_server_names_it_and_costs_no_connection(database: Database) -> None:
    before = await pid(database)
    with pytest.raises(psycopg.errors.SyntaxError) as caught:
        await database.query("SELCT 1")

    assert caught.value.__notes__ == [f"database: {database!r}".replace("<Database ", "")[:-1]]
    assert await pid(database) == before


# -- cancellation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("libpq", ["its own", "before 17"])
async def test_a_cancelled_statement_is_called_off_at_the_server(
    database: Database, other: Database, libpq: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if libpq == "before 17":
        monkeypatch.setattr("psycopg.capabilities.has_cancel_safe", lambda: False)
    before = await pid(database)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.query, "INSERT INTO t SELECT 1 FROM pg_sleep(1000)")
            await until_active(other, 1)
            scope.cancel()

    assert await other.query(ACTIVE) == [(0,)]
    assert await stored(database) == []
    assert await pid(database) == before


async def test_a_transaction_that_is_cancelled_in_a_statement_is_rolled_back(
    database: Database, other: Database
) -> None:
    before = await pid(database)

    async def work() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t VALUES (1)")
            await transaction.execute("SELECT pg_sleep(1000)")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await until_active(other, 1)
        nursery.cancel_scope.cancel()

    assert await stored(database) == []
    assert await pid(database) == before


async def test_a_transaction_that_is_cancelled_between_statements_is_rolled_back(
    database: Database,
) -> None:
    before = await pid(database)
    with trio.CancelScope() as scope:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t VALUES (1)")
            scope.cancel()

    assert scope.cancelled_caught
    assert await stored(database) == []
    assert await pid(database) == before


async def test_a_wait_for_a_lock_is_cancelled_at_once(database: Database, other: Database) -> None:
    async with other.transaction() as transaction:
        await transaction.execute("INSERT INTO t VALUES (1)")
        with trio.move_on_after(0.05) as scope:
            await database.query("INSERT INTO t VALUES (1)")
        assert scope.cancelled_caught
        await transaction.execute("INSERT INTO t VALUES (2)")
    assert await stored(database) == [1, 2]


async def test_a_cancelled_call_does_not_wait_for_a_server_that_does_not_react(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_GRACE", 0.2)
    stopped = await pid(database)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with trio.fail_after(BOUND), trio.move_on_after(0.05) as scope:
            await database.query("INSERT INTO t VALUES (1)")
        assert scope.cancelled_caught
    finally:
        os.kill(stopped, signal.SIGCONT)
    still_there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    with trio.fail_after(BOUND):
        while await other.query(still_there, [stopped]) != [(0,)]:  # noqa: ASYNC110 - the server knows
            await trio.sleep(0.01)
    await database.query("SELECT 1")


# -- time-outs -------------------------------------------------------------------------------------


@pytest.mark.full
async def test_what_takes_too_long_is_ended_by_the_server(conninfo: str) -> None:
    async with open_database(conninfo, timeout=TIMEOUT) as database:
        before = await pid(database)
        with pytest.raises(DatabaseBusy, match=r"postgres@127\.0\.0\.1.*statement timeout"):
            await database.query("SELECT pg_sleep(1000)")
        assert await pid(database) == before


@pytest.mark.full
async def test_who_is_idle_in_a_transaction_is_thrown_out_and_others_go_on(
    conninfo: str, database: Database
) -> None:
    async with open_database(conninfo, timeout=TIMEOUT) as idle:
        with pytest.raises(DatabaseLost, match="idle-in-transaction"):
            async with idle.transaction() as transaction:
                await transaction.execute("INSERT INTO t VALUES (1)")
                await database.query("INSERT INTO t VALUES (1)")  # waits for it
                await transaction.execute("INSERT INTO t VALUES (2)")
        assert await stored(idle) == [1]


@pytest.mark.full
async def test_a_server_that_does_not_answer_is_given_up(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_GRACE", 0.2)
    async with open_database(conninfo, timeout=TIMEOUT) as database:
        stopped = await pid(database)
        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseLost, match=r"has not answered within 2\.2 seconds"):
                await database.query("SELECT 1")
            assert await pid(database) != stopped
        finally:
            os.kill(stopped, signal.SIGCONT)


# -- lost connections ------------------------------------------------------------------------------


async def test_a_connection_that_was_lost_between_calls_costs_none(
    database: Database, other: Database
) -> None:
    lost = await pid(database)
    await other.query("SELECT pg_terminate_backend(%s, 10000)", [lost])

    assert await pid(database) != lost


async def test_a_call_whose_connection_is_lost_says_so_and_the_next_has_another(
    database: Database, other: Database
) -> None:
    lost = await pid(database)

    async def cut_off() -> None:
        await until_active(other, 1)
        await other.query("SELECT pg_terminate_backend(%s)", [lost])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_off)
        with pytest.raises(DatabaseLost, match=r"lost: terminating .* the next call opens another"):
            await database.query("SELECT pg_sleep(1000)")
    assert await pid(database) != lost


async def test_a_transaction_whose_connection_is_lost_has_done_nothing(
    database: Database, other: Database
) -> None:
    with pytest.raises(DatabaseLost):
        async with database.transaction() as transaction:
            [(lost,)] = await transaction.execute("SELECT pg_backend_pid()")
            await transaction.execute("INSERT INTO t VALUES (1)")
            await other.query("SELECT pg_terminate_backend(%s, 10000)", [lost])
    assert await stored(database) == []


async def test_a_connection_to_what_takes_no_more_writes_is_given_up(database: Database) -> None:
    before = await pid(database)
    await database.query("SET default_transaction_read_only = on")
    with pytest.raises(
        DatabaseLost, match=r"takes no writes: cannot execute INSERT in a read-only .*host=db1,db2"
    ):
        await database.query("INSERT INTO t VALUES (1)")
    await database.query("INSERT INTO t VALUES (1)")
    assert await pid(database) != before


@pytest.mark.full
async def test_what_no_standby_has_is_not_said_to_be_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PostgreSQL has its time-outs do nothing there, and only warns when such a wait ends."""
    monkeypatch.setattr(backend, "_GRACE", 0.2)
    with Instance() as instance:
        instance.start()
        instance.execute("CREATE TABLE t (x integer)")
        async with open_database(instance.conninfo(), timeout=TIMEOUT) as database:
            instance.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            instance.execute("SELECT pg_reload_conf()")
            standbys = "SHOW synchronous_standby_names"
            with trio.fail_after(BOUND):
                while await database.query(standbys) != [("nobody",)]:  # noqa: ASYNC110 - the server knows
                    await trio.sleep(0.01)
            with pytest.raises(DatabaseLost, match="has not answered"):
                async with database.transaction() as transaction:
                    await transaction.execute("INSERT INTO t VALUES (1)")


@pytest.mark.full
async def test_while_the_server_is_away_calls_say_so_and_then_go_on() -> None:
    with Instance() as instance:
        instance.start()
        async with open_database(instance.conninfo()) as database:
            instance.stop()
            for _ in range(2):
                with pytest.raises(DatabaseLost, match="Connection refused"):
                    await database.query("SELECT 1")
            instance.start()
            assert await database.query("SELECT 1") == [(1,)]


# -- connecting ------------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"password": "not this"}, r"password authentication .* check user, password and"),
    "user": ({"user": "who"}, r"who@127\.0\.0\.1:\d+/postgres: .* check user, password"),
    "database": (
        {"dbname": "nope"},
        r'/nope: .*"nope" does not exist\. .* check user, password and',
    ),
    "host": ({"host": "no.such.host.invalid"}, r'host "no\.such.*" is not known.* Check the host'),
    "port": ({"port": 1}, r"Connection refused.* Check host and port in the conninfo, and that it"),
    "standby": (
        {"options": "-c default_transaction_read_only=on"},
        r"session is read-only\. Name the server that takes writes .*host=db1,db2",
    ),
    "place": ({"host": "/no/where"}, r"/no/where.* Check host and port in the conninfo, and that"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_cannot_be_reached_is_named_with_the_cause_and_the_way_out(
    postgres: Instance, what: str
) -> None:
    wrong, said = WRONG[what]
    with pytest.raises(DatabaseLost, match=f"^no connection to PostgreSQL .*{said}") as caught:
        async with open_database(postgres.conninfo(**wrong), timeout=30):
            pass
    assert PASSWORD not in str(caught.value)
    assert "not this" not in str(caught.value)


async def test_a_connection_that_cannot_be_set_up_is_closed_again(
    conninfo: str, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_SETTINGS", "SET statement_timeout = 'never'")
    with pytest.raises(DatabaseLost, match=r"no connection to .*never"):
        async with open_database(conninfo):
            pass
    await until_alone(other)


async def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DatabaseLost, match=r"no answer within 0\.1 seconds"):
            async with open_database(f"host=127.0.0.1 port={port} user=me", timeout=0.1):
                pass


async def test_of_several_hosts_the_first_that_answers_is_taken(postgres: Instance) -> None:
    several = postgres.conninfo(
        host=f"no.such.host.invalid,127.0.0.1,{postgres.directory},127.0.0.1",
        port=f"{postgres.port},1,{postgres.port},{postgres.port}",
        password="",  # which the third does not ask for
    )
    async with open_database(several) as database:
        assert await database.query("SELECT inet_server_port()") == [(None,)]


async def test_what_is_not_said_comes_from_the_environment(
    postgres: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "localhost")
    monkeypatch.setenv("PGPORT", str(postgres.port))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    async with open_database("user=postgres") as database:
        assert f"postgres@localhost:{postgres.port}/postgres" in repr(database)
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGHOST", "no.such.host.invalid")
    async with open_database("user=postgres dbname=postgres"):
        pass


@pytest.mark.parametrize(
    "conninfo", ["host=h password=geheim und mehr", "postgresql://u:geheim@[h", "pasword=geheim"]
)
async def test_what_cannot_be_read_is_refused_without_quoting_it(conninfo: str) -> None:
    with pytest.raises(ValueError, match="conninfo cannot be read") as caught:
        async with open_database(conninfo):
            pass
    assert "geheim" not in str(caught.value)
    assert "mehr" not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(ValueError, match="conninfo cannot be read"):
        check_conninfo(conninfo)


# -- the end ---------------------------------------------------------------------------------------


async def test_closing_waits_for_a_transaction_under_way_and_then_refuses(conninfo: str) -> None:
    inside, leave = trio.Event(), trio.Event()

    async def work(database: Database) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("CREATE TABLE t (x integer)")
            inside.set()
            await leave.wait()

    async with trio.open_nursery() as nursery:
        async with open_database(conninfo) as database:
            nursery.start_soon(work, database)
            await inside.wait()
            nursery.start_soon(_set_when_all_wait, leave)
        assert leave.is_set()
    assert repr(database).endswith(" closed>")
    with pytest.raises(trio.ClosedResourceError):
        await database.query("SELECT 1")
    async with open_database(conninfo) as again:
        assert await stored(again) == []


async def _set_when_all_wait(event: trio.Event) -> None:
    await wait_all_tasks_blocked()
    event.set()


async def test_nothing_stays_open(conninfo: str, other: Database) -> None:
    async with open_database(conninfo) as database, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(database.query, "SELECT pg_sleep(0.01)")
    await until_alone(other)


@pytest.mark.parametrize("fill, expected", [("full", Ready.R), ("", Ready.W)])
async def test_who_writes_goes_on_when_there_is_something_to_read(
    fill: str, expected: Ready
) -> None:
    """A server that waits for us to read reads nothing."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.send(b"x" if fill else b"")
        while fill:
            try:
                here.send(b"x" * 65536)
            except BlockingIOError:
                break
        assert await backend._ready(here.fileno(), Wait.RW) == expected


def test_without_psycopg_the_import_names_the_install_line() -> None:
    program = "import sys; sys.modules['psycopg'] = None; import trioworker.backends.postgres"
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert 'needs psycopg: pip install "trioworker[postgres]"' in done.stderr
