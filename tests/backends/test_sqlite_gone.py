"""A database whose file is taken away while it is open."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from trioworker._demo.db import Store
from trioworker.backends.sqlite import DatabaseGone, open_database


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")


@pytest.mark.parametrize("take_away", [delete, replace])
async def test_nothing_is_committed_to_a_file_that_nobody_would_find(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.db"
    async with open_database(path) as database:
        await database.query("CREATE TABLE t (x)")
        take_away(path)

        with pytest.raises(DatabaseGone, match=r"a\.db was deleted or replaced while it was open"):
            async with database.transaction() as transaction:
                await transaction.execute("INSERT INTO t VALUES (1)")

        assert await database.query("SELECT * FROM t") == []


async def test_in_memory_there_is_no_file_to_take_away() -> None:
    async with open_database(":memory:") as database:
        async with database.transaction() as transaction:
            await transaction.execute("CREATE TABLE t (x)")
        assert await database.query("SELECT * FROM t") == []


async def test_a_store_ends_with_its_file_and_refuses_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with open_database(path) as database:
        store = Store(database)
        await store.create()
        with pytest.raises(DatabaseGone), store.tomb:
            path.unlink()
            with pytest.raises(DatabaseGone):
                await store.add_file("hash", "name", [(1, "{}")])
            await trio.sleep_forever()  # what `db` does; its tomb ends it
