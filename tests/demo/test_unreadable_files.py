"""Files that go away while one looks, or that may not be read. Root may read all: it is acted."""

import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

import trio

from trioworker._demo.db import Rows
from trioworker._demo.folder import Folder, reason_of
from trioworker._demo.ingest import Ingest


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.create()
    return folder


class NothingStored:
    """A store that nobody is to use."""

    async def add_file(self, sha256: str, name: str, rows: Rows) -> bool:
        pytest.fail(f"{name} was to be rejected")


def raising(error: Exception) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_what_was_claimed_by_somebody_else_has_not_arrived(folder: Folder) -> None:
    assert not folder.has_arrived("a.jsonl")


@pytest.mark.parametrize(
    "error, has_arrived",
    [
        (FileNotFoundError("claimed between two looks"), False),
        (PermissionError("nobody can tell whether it is being written"), True),
    ],
)
def test_a_file_that_cannot_be_looked_into_has_arrived_if_it_is_there(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, error: Exception, *, has_arrived: bool
) -> None:
    (folder.inbox / "a.jsonl").write_text("{}")
    monkeypatch.setattr("trioworker._demo.folder.is_being_written", raising(error))

    assert folder.has_arrived("a.jsonl") is has_arrived
    assert folder.arrived() == (["a.jsonl"] if has_arrived else [])


async def test_a_file_that_may_not_be_read_goes_to_bad_with_the_reason_beside_it(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.inbox / "a.jsonl").write_text("{}")
    path = folder.claim("a.jsonl")
    assert path is not None
    ingest = Ingest(folder, NothingStored())

    async def refused(_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trio.Path, "read_bytes", refused)
    await ingest.process(path)

    assert reason_of(folder.bad / "a.jsonl").read_text() == (
        "it cannot be read: Permission denied\n"
    )
    assert (folder.bad / "a.jsonl").exists()
    assert ingest.report() == {"stored": 0, "known": 0, "rejected": 1}


async def test_two_that_may_not_be_read_and_have_one_name_are_both_kept(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trio.Path, "read_bytes", refused)
    for _ in range(2):
        (folder.inbox / "a.jsonl").write_text("{}")
        path = folder.claim("a.jsonl")
        assert path is not None
        await Ingest(folder, NothingStored()).process(path)

    kept = [path.name for path in folder.bad.iterdir() if path.suffix == ".jsonl"]
    assert len(kept) == 2
