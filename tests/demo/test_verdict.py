"""The verdict finds everything that can be wrong, and names it."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import attrs
import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker._demo.db import Store
from trioworker._demo.files import Dropped, Dropper, Manifest, content
from trioworker._demo.folder import Folder
from trioworker._demo.ingest import Ingest
from trioworker._demo.verdict import Verdict, judge
from trioworker.backends.sqlite import Database, open_database

FINE = "ingested 78 of 78 good files, 2 rejected, 0 lost, 0 duplicated"


@pytest.fixture
async def folder(tmp_path: Path) -> Folder:
    """A folder in which 80 files were dropped and dealt with."""
    folder = Folder(tmp_path)
    folder.create()
    await Dropper(folder, seed=1).drop(80, seconds=0)
    async with open_database(folder.database) as database:
        await deal(folder, database)
    return folder


@pytest.fixture
async def database(folder: Folder) -> AsyncGenerator[Database]:
    async with open_database(folder.database) as database:
        yield database


async def deal(folder: Folder, database: Database) -> None:
    store = Store(database)
    await store.create()
    with store.tomb:
        ingest = Ingest(folder, store)
        for name in folder.arrived():
            folder.claim(name)
        await ingest.recover()


def said(verdict: Verdict) -> tuple[str, list[str]]:
    return str(verdict), list(verdict.problems)


async def test_all_is_well(folder: Folder) -> None:
    assert said(await judge(folder)) == (FINE, [])


async def test_nothing_is_well_too(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.create()
    async with open_database(folder.database) as database:
        await deal(folder, database)

    nothing = "ingested 0 of 0 good files, 0 rejected, 0 lost, 0 duplicated"
    assert said(await judge(folder)) == (nothing, [])


async def test_a_file_that_vanished_is_lost(folder: Folder) -> None:
    (folder.done / "001-00007.jsonl").unlink()
    found = await judge(folder)

    assert (found.ingested, found.good, found.lost) == (77, 78, 1)
    assert found.problems[0] == "001-00007.jsonl: is nowhere"


async def test_a_file_that_was_not_taken_is_lost(folder: Folder) -> None:
    await Dropper(folder, seed=1).drop(1, seconds=0)

    assert list((await judge(folder)).problems) == [
        "002-00001.jsonl: is in inbox/, not in done/",
    ]


async def test_a_good_file_in_bad_is_lost(folder: Folder) -> None:
    (folder.done / "001-00007.jsonl").rename(folder.bad / "001-00007.jsonl")

    assert "001-00007.jsonl: is in bad/, not in done/" in (await judge(folder)).problems


async def test_a_row_that_is_missing_is_named(folder: Folder, database: Database) -> None:
    sha256 = next(one.sha256 for one in Manifest(folder).read() if one.number == 7)
    await database.query("DELETE FROM rows WHERE sha256 = ? AND line = 2", (sha256,))

    assert (await judge(folder)).problems == ("001-00007.jsonl: line 2 is not in the database",)


async def test_a_row_that_was_changed_is_named(folder: Folder, database: Database) -> None:
    sha256 = next(one.sha256 for one in Manifest(folder).read() if one.number == 7)
    await database.query("UPDATE rows SET body = 'x' WHERE sha256 = ? AND line = 1", (sha256,))

    assert (await judge(folder)).problems == ("001-00007.jsonl: line 1 is not in the database",)


async def test_a_file_stored_twice_under_another_hash_is_found(
    folder: Folder, database: Database
) -> None:
    sha256 = next(one.sha256 for one in Manifest(folder).read() if one.number == 7)
    await database.query(
        "INSERT INTO rows SELECT ?, 1000 + line, body FROM rows WHERE sha256 = ? AND line = 1",
        (sha256, sha256),
    )
    found = await judge(folder)

    assert found.duplicated == 1
    assert found.problems[-1].startswith('row {"id": "1/7/0", "value": ')
    assert found.problems[-1].endswith(" is stored 2 times")


async def test_a_malformed_file_without_a_reason_is_named(folder: Folder) -> None:
    (folder.bad / "001-00040.jsonl.reason").unlink()

    assert (await judge(folder)).problems == (
        "001-00040.jsonl: is malformed, and has no reason beside it",
    )


async def test_a_malformed_file_that_is_not_in_bad_is_named(folder: Folder) -> None:
    (folder.bad / "001-00040.jsonl").unlink()

    assert "001-00040.jsonl: is malformed, and is not in bad/" in (await judge(folder)).problems


async def test_files_of_others_are_held_to_the_same(folder: Folder, database: Database) -> None:
    (folder.inbox / "mine.jsonl").write_text('{"mine": 1}\n{"mine": 1}\n')
    (folder.inbox / "bad.jsonl").write_text("mine, but broken\n")
    await deal(folder, database)

    more = "ingested 79 of 79 good files, 3 rejected, 0 lost, 0 duplicated"
    assert said(await judge(folder)) == (more, [])

    (folder.inbox / "late.jsonl").write_text('{"late": 1}\n')
    await database.query("DELETE FROM rows WHERE body = '{\"mine\": 1}'")

    assert (await judge(folder)).problems == (
        "mine.jsonl: line 1 is not in the database",
        "late.jsonl: is still in inbox/",
    )


async def test_what_a_run_that_was_cut_short_did_not_drop_is_dropped_by_the_next(
    folder: Folder, database: Database
) -> None:
    dropper = Dropper(folder, seed=1)
    await dropper.drop(3, seconds=0)
    (folder.inbox / "002-00001.jsonl").unlink()  # said to be dropped, and never was
    half = (folder.inbox / "002-00002.jsonl").read_bytes()[:10]
    (folder.inbox / "002-00002.jsonl").write_bytes(half)  # killed while it was written

    assert Dropper(folder, seed=2).mend() == 2
    assert Dropper(folder, seed=2).mend() == 0

    await deal(folder, database)

    assert (await judge(folder)).problems == ()


async def test_a_torn_line_of_the_manifest_spoils_no_other(folder: Folder) -> None:
    manifest = Manifest(folder)
    before = manifest.read()
    with (folder.root / "manifest.jsonl").open("ab") as file:
        file.write(b'\n{"seed": 1, "run"')
    one = Dropped(seed=1, run=9, number=1, sha256="x")
    manifest.add(one)

    assert manifest.read() == [*before, one]


def test_contents_are_all_different_and_follow_from_the_seed() -> None:
    numbers = [(run, number) for run in (1, 2) for number in range(1, 101)]
    contents = {content(1, run, number) for run, number in numbers}

    assert len(contents) == 200
    assert contents == {content(1, run, number) for run, number in numbers}
    assert contents.isdisjoint({content(2, run, number) for run, number in numbers})


def test_every_fortieth_file_is_malformed() -> None:
    files = [Dropped(seed=1, run=1, number=number, sha256="") for number in range(1, 201)]

    assert [one.number for one in files if not one.is_good] == [40, 80, 120, 160, 200]
    assert attrs.evolve(files[0], number=7).name == "001-00007.jsonl"
