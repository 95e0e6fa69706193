"""Exactly once, step by step: the demo's ingest with real files and a real database."""

import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trio

from trioworker import Dying

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker._demo.db import SAMPLE_BYTES, Rows, Store
from trioworker._demo.folder import Folder, sha256_of
from trioworker._demo.inbox import Inbox
from trioworker._demo.ingest import Ingest, Malformed, parsed
from trioworker.backends.sqlite import Database, open_database
from trioworker.workers.data.pruner import Limits

GOOD = b'{"id": 1}\n{"id": 2}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.create()
    return folder


@pytest.fixture
async def database(folder: Folder) -> AsyncGenerator[Database]:
    async with open_database(folder.database) as database:
        yield database


@pytest.fixture
async def store(database: Database) -> AsyncGenerator[Store]:
    store = Store(database)
    await store.create()
    with store.tomb:
        yield store


def arrive(folder: Folder, name: str, data: bytes = GOOD) -> Path:
    """A file arrives and is claimed."""
    (folder.inbox / name).write_bytes(data)
    path = folder.claim(name)
    assert path is not None
    return path


def there(folder: Folder) -> dict[str, list[str]]:
    """Every file that is anywhere, by its place."""
    places = [folder.inbox, folder.work, folder.done, folder.bad]
    found = {place.name: sorted(path.name for path in place.iterdir()) for place in places}
    return {place: names for place, names in found.items() if names}


async def lines(database: Database) -> list[tuple[int, str]]:
    return [(row[0], row[1]) for row in await database.query("SELECT line, body FROM rows")]


class Crash(Exception):
    """What the faulty stores below raise."""


class CrashBefore:
    """A store that fails before it stores."""

    async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
        raise Crash


class CrashAfter:
    """A store that fails when it has stored: between commit and move."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
        await self._store.add_file(sha256, name, rows)
        raise Crash


async def test_a_good_file_is_stored_and_moved_to_done(
    folder: Folder, store: Store, database: Database
) -> None:
    await Ingest(folder, store).process(arrive(folder, "a.jsonl"))

    assert there(folder) == {"done": ["a.jsonl"]}
    assert (folder.done / "a.jsonl").read_bytes() == GOOD
    assert await lines(database) == [(1, '{"id": 1}'), (2, '{"id": 2}')]
    assert await database.query("SELECT * FROM files") == [(sha256_of(GOOD), "a.jsonl", 2)]


async def test_a_crash_before_the_commit_leaves_the_file_claimed_and_nothing_stored(
    folder: Folder, store: Store, database: Database
) -> None:
    path = arrive(folder, "a.jsonl")
    with pytest.raises(Crash):
        await Ingest(folder, CrashBefore()).process(path)

    assert there(folder) == {"work": ["a.jsonl"]}
    assert await lines(database) == []

    await Ingest(folder, store).recover()

    assert there(folder) == {"done": ["a.jsonl"]}
    assert len(await lines(database)) == 2


async def test_a_crash_between_commit_and_move_is_made_good_and_nothing_is_stored_twice(
    folder: Folder, store: Store, database: Database
) -> None:
    path = arrive(folder, "a.jsonl")
    with pytest.raises(Crash):
        await Ingest(folder, CrashAfter(store)).process(path)

    assert there(folder) == {"work": ["a.jsonl"]}
    assert len(await lines(database)) == 2

    again = Ingest(folder, store)
    await again.recover()

    assert there(folder) == {"done": ["a.jsonl"]}
    assert len(await lines(database)) == 2
    assert again.report() == {"stored": 0, "known": 1, "rejected": 0}


async def test_a_cancellation_between_commit_and_move_is_made_good(
    folder: Folder, store: Store, database: Database
) -> None:
    path = arrive(folder, "a.jsonl")
    with trio.CancelScope() as scope:

        class CancelAfter:
            async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
                is_new = await store.add_file(sha256, name, rows)
                scope.cancel()
                return is_new

        await Ingest(folder, CancelAfter()).process(path)

    assert scope.cancelled_caught
    assert there(folder) == {"work": ["a.jsonl"]}

    await Ingest(folder, store).recover()

    assert there(folder) == {"done": ["a.jsonl"]}
    assert len(await lines(database)) == 2


async def test_the_same_content_under_another_name_is_moved_and_not_stored_again(
    folder: Folder, store: Store, database: Database
) -> None:
    ingest = Ingest(folder, store)
    await ingest.process(arrive(folder, "a.jsonl"))
    await ingest.process(arrive(folder, "b.jsonl"))

    assert there(folder) == {"done": ["a.jsonl", "b.jsonl"]}
    assert len(await lines(database)) == 2


async def test_another_content_under_the_same_name_replaces_nothing(
    folder: Folder, store: Store, database: Database
) -> None:
    ingest = Ingest(folder, store)
    other = b'{"id": 3}\n'
    for data in [GOOD, other, GOOD, other]:
        await ingest.process(arrive(folder, "a.jsonl", data))

    contents = [path.read_bytes() for path in sorted(folder.done.iterdir())]
    assert {GOOD, other} == set(contents)
    assert len(await lines(database)) == 3


@pytest.mark.parametrize(
    "data, reason",
    [
        (b'{"id": 1}\n{"id": 2', "line 2: not JSON: "),
        (b'{"id": 1}\n\n[1]\n', "line 3: not an object but list"),
        (b"7\n", "line 1: not an object but int"),
        (b'{"id": "\xff"}\n', "byte 8: not UTF-8"),
        (b"", "no row in it"),
        (b" \n\n", "no row in it"),
        (b"[" * 100_000, "line 1: not JSON: "),
    ],
    ids=["cut", "list", "number", "latin-1", "empty", "blank", "deep"],
)
async def test_a_malformed_file_goes_to_bad_with_the_reason_beside_it(
    folder: Folder, store: Store, database: Database, data: bytes, reason: str
) -> None:
    await Ingest(folder, store).process(arrive(folder, "a.jsonl", data))

    assert there(folder) == {"bad": ["a.jsonl", "a.jsonl.reason"]}
    assert (folder.bad / "a.jsonl").read_bytes() == data
    assert (folder.bad / "a.jsonl.reason").read_text().startswith(reason)
    assert await lines(database) == []


def test_a_line_ends_where_a_line_feed_is_and_nowhere_else() -> None:
    text = '{"a": "x\u2028y\x85z"}\r\n\n{"b": 1}'

    assert parsed(text.encode()) == [(1, '{"a": "x\u2028y\x85z"}\r'), (3, '{"b": 1}')]
    with pytest.raises(Malformed, match="no row"):
        parsed(b"\n")


async def test_what_was_claimed_before_is_dealt_with_before_what_arrives(
    folder: Folder, store: Store, database: Database
) -> None:
    arrive(folder, "old.jsonl", b'{"old": 1}\n')
    (folder.inbox / "new.jsonl").write_bytes(b'{"new": 1}\n')
    inbox = Inbox()
    inbox.add(["gone.jsonl", "new.jsonl"])  # the first is not there any more: somebody removed it
    with inbox.tomb:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Ingest(folder, store).run, inbox)
            with trio.fail_after(5):
                while len(there(folder).get("done", [])) < 2:  # noqa: ASYNC110 - a rename is no event
                    await trio.sleep(0.001)
            nursery.cancel_scope.cancel()

    assert [body for _, body in await lines(database)] == ['{"old": 1}', '{"new": 1}']


def test_a_claim_takes_a_file_once(folder: Folder) -> None:
    arrive(folder, "a.jsonl")

    assert folder.claim("a.jsonl.missing") is None
    (folder.inbox / "a.jsonl").write_bytes(GOOD)
    with pytest.raises(FileExistsError, match="not dealt with yet"):
        folder.claim("a.jsonl")


def test_only_whole_visible_files_have_arrived(folder: Folder) -> None:
    (folder.inbox / "a.jsonl").write_bytes(GOOD)
    (folder.inbox / ".hidden").write_bytes(GOOD)
    (folder.inbox / "directory").mkdir()
    (folder.inbox / "link").symlink_to(folder.inbox / "a.jsonl")
    os.mkfifo(folder.inbox / "pipe")
    with (folder.inbox / "half.jsonl").open("wb"):
        assert folder.arrived() == ["a.jsonl"]

    assert folder.arrived() == ["a.jsonl", "half.jsonl"]


async def test_a_cancelled_take_takes_nothing() -> None:
    inbox = Inbox()
    inbox.add(["a"])
    with inbox.tomb:
        with trio.CancelScope() as scope:
            scope.cancel()
            await inbox.take()

        assert inbox.report() == {"waiting": 1}
        assert await inbox.take() == "a"


async def test_a_call_to_a_database_that_closes_is_refused_and_not_hung(folder: Folder) -> None:
    async with open_database(folder.database) as database:
        store = Store(database)
        await store.create()
        with store.tomb:
            pass

    with pytest.raises(Dying):
        await store.add_file("x", "x", [])
    with pytest.raises(Dying):
        await store.add_sample()


async def test_the_schema_allows_no_line_of_a_file_twice(store: Store, database: Database) -> None:
    await store.add_file("x", "x", [(1, "a")])

    with pytest.raises(Exception, match="UNIQUE constraint"):
        await database.query("INSERT INTO rows VALUES ('x', 1, 'b')")
    with pytest.raises(Exception, match="FOREIGN KEY constraint"):
        await database.query("INSERT INTO rows VALUES ('y', 1, 'b')")


async def test_the_oldest_samples_are_pruned(store: Store, database: Database) -> None:
    await store.add_file("x", "x", [(1, "a"), (2, "b")])
    for _ in range(6):
        assert await store.add_sample() == (1, 2)
    await database.query("UPDATE samples SET taken = taken - 100 WHERE id <= 2")

    assert await store.prune(Limits(max_age=50, max_bytes=4 * SAMPLE_BYTES), at_most=10) == 2
    assert await store.prune(Limits(max_age=50), at_most=10) == 0
    assert await store.prune(Limits(max_bytes=2 * SAMPLE_BYTES), at_most=1) == 1
    assert await store.prune(Limits(max_bytes=2 * SAMPLE_BYTES), at_most=10) == 1
    assert await database.query("SELECT id FROM samples") == [(5,), (6,)]
