"""SQLite: what closes early, what cannot have a write-ahead log."""

from pathlib import Path

import apsw
import pytest
import trio

from trioworker.backends.sqlite import open_database


async def test_a_database_may_be_closed_before_its_block_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    async with open_database(path) as database:
        assert repr(database) == f"<Database {path!r}>"
        await database.aclose()
        with pytest.raises(trio.ClosedResourceError, match=r"a\.db was closed"):
            await database.query("SELECT 1")

    assert repr(database) == f"<Database {path!r} closed>"


async def test_where_there_is_no_write_ahead_log_opening_is_refused() -> None:
    """An empty path is a temporary database of SQLite's: on disk, and without one."""
    with pytest.raises(apsw.CantOpenError, match="does not allow WAL, only 'delete'") as caught:
        async with open_database(""):
            pass

    assert caught.value.__notes__ == ["database: "]
