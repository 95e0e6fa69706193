"""SQLite through apsw, with real files. Who blocks whom is arranged, never waited for."""

import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import apsw
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker.backends.sqlite import Database, open_database

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
THREAD = "trio apsw background worker"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
async def database(path: Path) -> AsyncGenerator[Database]:
    async with open_database(path) as database:
        await database.query("CREATE TABLE t (x INTEGER PRIMARY KEY, y)")
        yield database


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


async def stored(path: Path) -> list[object]:
    """What another connection sees."""
    async with open_database(path) as other:
        return [x for (x,) in await other.query("SELECT x FROM t ORDER BY x")]


async def test_every_database_is_opened_alike(database: Database) -> None:
    assert await database.query("PRAGMA journal_mode") == [("wal",)]
    assert await database.query("PRAGMA foreign_keys") == [(1,)]


async def test_a_database_in_memory_needs_no_file() -> None:
    async with open_database(":memory:") as database:
        assert await database.query("SELECT ?, ?", (1, "a")) == [(1, "a")]


async def test_a_transaction_is_stored_at_the_end_of_its_block(
    database: Database, path: Path
) -> None:
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO t (x) VALUES (?)", (1,))
        await transaction.executemany("INSERT INTO t (x) VALUES (?)", ((x,) for x in (2, 3)))

        assert await stored(path) == []
    assert await stored(path) == [1, 2, 3]


async def test_an_error_in_the_block_rolls_back_and_travels_on(
    database: Database, path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t (x) VALUES (1)")
            raise ZeroDivisionError

    assert await stored(path) == []
    assert await database.query("SELECT * FROM t") == []


async def test_an_error_of_sqlite_rolls_back_the_whole_transaction(
    database: Database, path: Path
) -> None:
    with pytest.raises(apsw.ConstraintError):
        async with database.transaction() as transaction:
            await transaction.executemany("INSERT INTO t (x) VALUES (?)", [(1,), (2,), (1,)])

    assert await stored(path) == []


async def test_a_cancelled_transaction_is_rolled_back(database: Database, path: Path) -> None:
    with trio.CancelScope() as scope:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t (x) VALUES (1)")
            scope.cancel()

    assert scope.cancelled_caught
    assert await stored(path) == []
    async with database.transaction() as transaction:
        await transaction.execute("INSERT INTO t (x) VALUES (2)")
    assert await stored(path) == [2]


async def test_a_cancellation_interrupts_a_running_query(database: Database) -> None:
    with trio.move_on_after(0.05) as scope:
        await database.query(ENDLESS)

    assert scope.cancelled_caught
    with trio.fail_after(5):
        assert await database.query("SELECT 1") == [(1,)]


async def test_a_cancellation_in_a_running_statement_rolls_back_its_transaction(
    database: Database, path: Path
) -> None:
    with trio.move_on_after(0.05) as scope:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t (x) VALUES (1)")
            await transaction.execute(f"INSERT INTO t (x) {ENDLESS}")

    assert scope.cancelled_caught
    assert await stored(path) == []


async def test_a_deadline_is_a_cancellation_and_no_error_of_apsw(database: Database) -> None:
    """Left to itself, apsw raises TooSlowError when its thread sees the deadline first."""
    for _ in range(20):
        with trio.move_on_after(0.002) as scope:
            await database.query(ENDLESS)

        assert scope.cancelled_caught


async def test_a_writer_waits_for_the_lock_of_another_connection(
    database: Database, path: Path
) -> None:
    async def write() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO t (x) VALUES (1)")

    async with open_database(path) as other, trio.open_nursery() as nursery:  # noqa: SIM117 - ends last
        async with other.transaction() as transaction:
            nursery.start_soon(write)
            await trio.sleep(0.03)  # a few of its attempts
            await transaction.execute("INSERT INTO t (x) VALUES (2)")

    assert await stored(path) == [1, 2]


async def test_a_wait_for_a_lock_is_cancelled_at_once(database: Database, path: Path) -> None:
    async with open_database(path, busy_timeout=1e6) as other, database.transaction():
        with trio.fail_after(5), trio.move_on_after(0.05) as scope:
            async with other.transaction():
                pytest.fail("two writers")

        assert scope.cancelled_caught


async def test_a_wait_for_a_lock_ends_with_an_error(database: Database, path: Path) -> None:
    async with open_database(path, busy_timeout=0.05) as other, database.transaction():
        with pytest.raises(apsw.BusyError):
            async with other.transaction():
                pytest.fail("two writers")


async def test_who_opens_a_database_that_another_has_just_made_waits_for_it(path: Path) -> None:
    """SQLite itself does not wait where a new database is about to become one with WAL."""
    maker = apsw.Connection(str(path))
    maker.execute("BEGIN IMMEDIATE; CREATE TABLE t (x)")

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _finish() -> None:
            await trio.sleep(0.03)  # a few of its attempts
            maker.execute("COMMIT")
            maker.close()

        assert await stored(path) == []


async def test_who_opens_a_database_does_not_wait_for_ever(path: Path) -> None:
    maker = apsw.Connection(str(path))
    maker.execute("BEGIN IMMEDIATE")

    with pytest.raises(apsw.BusyError) as caught:
        async with open_database(path, busy_timeout=0.05):
            pytest.fail("it was opened")

    assert caught.value.__notes__ == [f"database: {path}"]
    maker.close()


async def test_tasks_take_turns(database: Database) -> None:
    async def add() -> None:
        async with database.transaction() as transaction:
            [(count,)] = await transaction.execute("SELECT count(*) FROM t")
            await trio.lowlevel.checkpoint()
            await transaction.execute("INSERT INTO t (x) VALUES (?)", (count,))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(add)

    assert await database.query("SELECT max(x) FROM t") == [(19,)]


async def test_a_transaction_is_not_used_after_its_end(database: Database) -> None:
    async with database.transaction() as transaction:
        pass

    with pytest.raises(trio.ClosedResourceError, match="begin another"):
        await transaction.execute("SELECT 1")


async def test_closing_waits_for_a_transaction_under_way(path: Path) -> None:
    wrote = trio.Event()

    async def write(database: Database) -> None:
        async with database.transaction() as transaction:
            await transaction.execute("CREATE TABLE t (x)")
            wrote.set()
            await wait_all_tasks_blocked()
            await transaction.execute("INSERT INTO t VALUES (1)")

    async with trio.open_nursery() as nursery:  # noqa: SIM117 - the database ends first
        async with open_database(path) as database:
            nursery.start_soon(write, database)
            await wrote.wait()

    assert await stored(path) == [1]
    with pytest.raises(trio.ClosedResourceError, match=r"a\.db was closed"):
        await database.query("SELECT 1")
    with pytest.raises(trio.ClosedResourceError, match=r"a\.db was closed"):
        async with database.transaction():
            pytest.fail("closed")


async def test_a_database_leaves_no_thread_behind(path: Path) -> None:
    async with open_database(path):
        opened = threads()
    with pytest.raises(ZeroDivisionError):
        async with open_database(path):
            raise ZeroDivisionError
    for _ in range(3):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with open_database(path):
                pytest.fail("cancelled")

    assert len(opened) == 1
    for thread in threads():
        thread.join(5)
    assert threads() == []


async def test_what_is_no_database_is_refused_by_its_name(path: Path, tmp_path: Path) -> None:
    await trio.Path(path).write_bytes(b"not a database, but longer than a header would be" * 100)

    for wrong in [path, tmp_path / "missing" / "a.db"]:
        with pytest.raises((apsw.NotADBError, apsw.CantOpenError)) as caught:
            async with open_database(wrong):
                pytest.fail("opened")

        assert caught.value.__notes__ == [f"database: {wrong}"]
    for thread in threads():
        thread.join(5)
    assert threads() == []


def test_without_apsw_the_import_names_the_install_line() -> None:
    code = "import sys; sys.modules['apsw'] = None; import trioworker.backends.sqlite"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert done.stderr.splitlines()[-1] == (
        'ImportError: trioworker.backends.sqlite needs apsw: pip install "trioworker[sqlite]"'
    )
