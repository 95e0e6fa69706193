"""What became of every file: counted from the database, ``done/`` and ``bad/``.

The manifest says what was dropped. Whatever else lies in ``done/`` and ``bad/`` (somebody may have
put files of their own into the inbox) is held to the same: what is in ``done/`` is stored, line by
line, and what is in ``bad/`` is not, and has its reason beside it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, final

import attrs

from trioworker.backends.sqlite import open_database

from .db import SCHEMA
from .files import Dropped, Manifest
from .folder import Folder, is_file, paths_in, reason_of, sha256_of
from .ingest import Malformed, parsed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@final
@attrs.frozen(kw_only=True)
class Verdict:
    """The numbers, and everything that is not as it should be."""

    good: int
    """Files that can be stored."""
    ingested: int
    """Good files all of whose rows are stored, and which are in ``done/``."""
    rejected: int
    lost: int
    """Good files that were not ingested."""
    duplicated: int
    """Rows that are stored more than once."""
    problems: tuple[str, ...]
    """Each names its file or row."""

    def __str__(self) -> str:
        return (
            f"ingested {self.ingested} of {self.good} good files, {self.rejected} rejected, "
            f"{self.lost} lost, {self.duplicated} duplicated"
        )


class CannotJudge(Exception):
    """The database cannot be read; the message says why."""


async def judge(folder: Folder) -> Verdict:
    """Count what is in `folder`, while nobody works in it.

    Raises:
        CannotJudge: the database cannot be read.
        OSError: a directory or a file cannot.
    """
    try:
        async with open_database(folder.database) as database:
            await database.query(SCHEMA)  # what failed early may not have made it
            files = await database.query("SELECT sha256, lines FROM files")
            rows = await database.query("SELECT sha256, line, body FROM rows ORDER BY sha256, line")
    except Exception as exc:
        raise CannotJudge(f"{folder.database}: {exc}") from exc
    stored: dict[str, list[tuple[int, str]]] = {sha256: [] for sha256, _ in files}
    for sha256, line, body in rows:
        stored.setdefault(sha256, []).append((line, body))
    return Count(folder, dict(files), stored).verdict()


@final
class Count:
    """The counting itself, over what is in the directories and in the database."""

    def __init__(
        self, folder: Folder, lines: dict[str, int], stored: dict[str, list[tuple[int, str]]]
    ) -> None:
        self._lines = lines
        self._stored = stored
        self._dropped = Manifest(folder).read()
        self._done = _by_hash(folder.done)
        self._bad = _by_hash(folder.bad)
        self._left = {**_by_hash(folder.inbox), **_by_hash(folder.work)}

    def verdict(self) -> Verdict:
        """Return the verdict."""
        problems: list[str] = []
        own = {dropped.sha256: dropped for dropped in self._dropped}
        good = {dropped.sha256: dropped.name for dropped in self._dropped if dropped.is_good}
        # Somebody else's: what was taken for good is good, whatever else is counted as it lies.
        good |= {sha: p.name for sha, p in self._done.items() if sha not in own}
        lost = 0
        for sha256, name in good.items():
            trouble = self._not_ingested(sha256)
            lost += trouble is not None
            if trouble is not None:
                problems.append(f"{name}: {trouble}")
        problems += [
            f"{dropped.name}: is malformed, and {trouble}"
            for dropped in self._dropped
            if not dropped.is_good and (trouble := self._not_rejected(dropped)) is not None
        ]
        problems += self._strays(own)
        twice = self._duplicated(own)
        problems += [f"row {row}: is stored {count} times" for row, count in twice.items()]
        return Verdict(
            good=len(good),
            ingested=len(good) - lost,
            rejected=sum(sha256 not in good for sha256 in self._bad),
            lost=lost,
            duplicated=sum(twice.values()) - len(twice),
            problems=tuple(problems),
        )

    def _not_ingested(self, sha256: str) -> str | None:
        """Say what keeps a good file from being ingested; ``None`` if it is."""
        path = self._done.get(sha256)
        if path is None:
            where = self._left.get(sha256) or self._bad.get(sha256)
            return "is nowhere" if where is None else f"is in {where.parent.name}/, not in done/"
        if sha256 not in self._lines:
            return "is in done/, but not in the database; moved back to inbox/ it is stored again"
        try:
            rows = list(parsed(path.read_bytes()))
        except Malformed as exc:
            return f"is in done/, but malformed: {exc}"
        stored = set(self._stored[sha256])
        if self._lines[sha256] != len(rows):
            return f"has {len(rows)} rows, of which the database knows {self._lines[sha256]}"
        for row in rows:
            if row not in stored:
                return f"line {row[0]} is not in the database"
        if len(self._stored[sha256]) > len(rows):
            return f"has {len(rows)} rows, and the database {len(self._stored[sha256])}"
        return None

    def _not_rejected(self, dropped: Dropped) -> str | None:
        path = self._bad.get(dropped.sha256)
        if path is None:
            return "is not in bad/"
        if not reason_of(path).is_file():
            return "has no reason beside it"
        if dropped.sha256 in self._stored:
            return "is in the database"
        return None

    def _strays(self, own: dict[str, Dropped]) -> Iterator[str]:
        """Yield what is in the database, in the inbox or in ``bad/`` and should not be."""
        for sha256 in self._stored:
            if sha256 not in self._done:
                yield f"row {sha256[:16]}…/1: is in the database, but its file is not in done/"
        for sha256, path in self._left.items():
            if sha256 not in own:
                yield f"{path.name}: is still in {path.parent.name}/"
        for sha256, path in self._bad.items():
            if sha256 not in own and not reason_of(path).is_file():
                yield f"{path.name}: is in bad/ and has no reason beside it"

    def _duplicated(self, own: dict[str, Dropped]) -> dict[str, int]:
        """Return the rows of the demo's own files that are stored more than once.

        By their content, of which no two are alike: that the schema allows each line of a file only
        once is not what is to be shown.
        """
        bodies = Counter(
            body for sha256, rows in self._stored.items() if sha256 in own for _, body in rows
        )
        return {body: count for body, count in bodies.items() if count > 1}


def _by_hash(directory: Path) -> dict[str, Path]:
    """Return the files of `directory` by what is in them, without the reasons of others."""
    paths = [path for path in paths_in(directory) if is_file(path)]
    reasons = {reason_of(path) for path in paths}
    return {sha256_of(path.read_bytes()): path for path in paths if path not in reasons}
