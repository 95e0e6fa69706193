"""Two keepers of real records, as unlike as can be; each has what `Prunable` promises."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import final

from trioworker.backends.sqlite import Database
from trioworker.workers.data.pruner import Limits

Record = tuple[float, int]
"""How old in seconds, and how many bytes."""


@final
class Rows:
    """Records in a table, with the moment and the size of each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fill(self, records: Iterable[Record]) -> None:
        now = time.time()
        async with self._database.transaction() as its:
            await its.execute(
                "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, at REAL, bytes INTEGER)"
            )
            rows = [(now - age, size) for age, size in records]
            await its.executemany("INSERT INTO log (at, bytes) VALUES (?, ?)", rows)

    async def sizes(self) -> list[int]:
        """The sizes of those that are left, oldest first."""
        rows = await self._database.query("SELECT bytes FROM log ORDER BY at")
        return [int(str(size)) for (size,) in rows]

    async def prune(self, limits: Limits, at_most: int) -> int:
        async with self._database.transaction() as its:
            oldest = time.time() - limits.max_age if limits.max_age else 0
            largest = limits.max_bytes or 2**62
            # How much a record and all younger ones take: too much, and it is the one to go.
            gone = await its.execute(
                "DELETE FROM log WHERE id IN (SELECT id FROM ("
                "SELECT id, at, sum(bytes) OVER (ORDER BY at DESC) AS taken FROM log) "
                "WHERE at < ? OR taken > ? ORDER BY at LIMIT ?) RETURNING id",
                (oldest, largest, at_most),
            )
        return len(gone)


@final
class Files:
    """Records that are files in a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made = 0

    async def fill(self, records: Iterable[Record]) -> None:
        now = time.time()
        for age, size in records:
            self._made += 1
            file = self._path / str(self._made)
            file.write_bytes(b"x" * size)
            os.utime(file, (now - age, now - age))

    async def sizes(self) -> list[int]:
        return [size for _, size, _ in self._found()]

    async def prune(self, limits: Limits, at_most: int) -> int:
        now, deleted = time.time(), 0
        files = self._found()
        taken = sum(size for _, size, _ in files)
        for at, size, file in files[:at_most]:
            is_old = limits.max_age and now - at > limits.max_age
            if not (is_old or (limits.max_bytes and taken > limits.max_bytes)):
                break
            file.unlink()
            taken -= size
            deleted += 1
        return deleted

    def _found(self) -> list[tuple[float, int, Path]]:
        files = [(file.stat(), file) for file in self._path.iterdir()]
        return sorted((stat.st_mtime, stat.st_size, file) for stat, file in files)
