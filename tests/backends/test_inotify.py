"""inotify, with the real kernel and real directories. Nothing here waits for time to pass."""

import os
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker.backends.inotify import (
    DirectoryEvents,
    DirectoryGone,
    Event,
    EventKind,
    is_being_written,
    watch_directory,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


async def take(events: DirectoryEvents, count: int) -> list[Event]:
    with trio.fail_after(5):
        return [await anext(events) for _ in range(count)]


def queue_limit() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def open_fds() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


async def test_a_file_counts_when_it_is_closed_after_writing(tmp_path: Path) -> None:
    with watch_directory(tmp_path) as events:
        with (tmp_path / "a").open("w") as file:
            file.write("half")
            file.flush()
            with trio.move_on_after(0.01) as too_early:
                await anext(events)

            assert too_early.cancelled_caught

        assert await take(events, 1) == [Event(EventKind.CLOSED, "a")]


async def test_a_file_counts_when_it_is_renamed_into_place(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "a").write_text("whole")
    with watch_directory(inbox) as events:
        (tmp_path / "a").rename(inbox / "b")

        assert await take(events, 1) == [Event(EventKind.MOVED_IN, "b")]


async def test_reading_and_removing_a_file_are_no_events(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with watch_directory(tmp_path) as events:
        (tmp_path / "a").read_text()
        (tmp_path / "a").unlink()
        (tmp_path / "b").write_text("y")

        assert await take(events, 1) == [Event(EventKind.CLOSED, "b")]


@pytest.mark.parametrize("name", ["a", "a" * 255, "ä ö\n\t", os.fsdecode(b"\xff\xfe")])
async def test_any_name_arrives_unchanged(tmp_path: Path, name: str) -> None:
    with watch_directory(tmp_path) as events:
        (tmp_path / name).write_text("x")

        assert await take(events, 1) == [Event(EventKind.CLOSED, name)]


async def test_many_events_arrive_in_order(tmp_path: Path) -> None:
    names = [f"{number:04}" for number in range(3000)]
    with watch_directory(tmp_path) as events:
        for name in names:
            (tmp_path / name).touch()

        assert [event.name for event in await take(events, 3000)] == names


async def test_what_came_before_the_first_wait_is_told(tmp_path: Path) -> None:
    with watch_directory(tmp_path) as events:
        (tmp_path / "a").touch()
        await wait_all_tasks_blocked()

        assert await take(events, 1) == [Event(EventKind.CLOSED, "a")]


async def test_a_cancelled_wait_loses_no_event(tmp_path: Path) -> None:
    with watch_directory(tmp_path) as events:
        for name in ["a", "b", "c"]:
            (tmp_path / name).touch()
        for _ in range(3):
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(events)

        assert [event.name for event in await take(events, 3)] == ["a", "b", "c"]


async def test_an_overflow_of_the_kernel_queue_is_told(tmp_path: Path) -> None:
    limit = queue_limit()
    if limit > 100_000:
        pytest.skip(f"the kernel's queue takes {limit} events")
    with watch_directory(tmp_path) as events:
        # Events that equal the last one are merged, hence two files in turn.
        for _ in range(limit // 2 + 1):
            (tmp_path / "a").write_bytes(b"")
            (tmp_path / "b").write_bytes(b"")
        found = await take(events, limit + 1)

        assert found[-1] == Event(EventKind.OVERFLOW, "")
        assert {event.name for event in found[:-1]} == {"a", "b"}


async def test_the_end_of_the_directory_ends_the_iteration_with_an_error(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with watch_directory(inbox) as events:
        (inbox / "a").touch()
        (inbox / "a").unlink()
        inbox.rmdir()

        assert await take(events, 1) == [Event(EventKind.CLOSED, "a")]
        for _ in range(2):
            with pytest.raises(DirectoryGone, match=r"inbox can be watched .*: it was deleted"):
                await take(events, 1)


async def test_a_directory_that_is_renamed_away_is_gone(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with watch_directory(inbox) as events:
        inbox.rename(tmp_path / "elsewhere")

        with pytest.raises(DirectoryGone, match="it was renamed"):
            await take(events, 1)


async def test_leaving_the_block_closes_the_descriptor_whatever_happened(tmp_path: Path) -> None:
    before = open_fds()
    with pytest.raises(ZeroDivisionError), watch_directory(tmp_path):
        raise ZeroDivisionError
    with trio.CancelScope() as scope, watch_directory(tmp_path) as events:
        scope.cancel()
        await anext(events)

    assert open_fds() == before


async def test_closing_wakes_who_waits(tmp_path: Path) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await anext(events)

    with watch_directory(tmp_path) as events:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            events.close()

        assert "closed" in repr(events)
        events.close()


@pytest.mark.parametrize(
    "name, error", [("missing", FileNotFoundError), ("file", NotADirectoryError)]
)
async def test_what_is_no_directory_is_refused_by_its_name(
    tmp_path: Path, name: str, error: type[OSError]
) -> None:
    (tmp_path / "file").touch()
    before = open_fds()

    with pytest.raises(error, match=name):
        watch_directory(tmp_path / name)

    assert open_fds() == before


async def test_elsewhere_than_on_linux_it_refuses_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(NotImplementedError, match=r"^.*needs inotify, .* darwin has not$"):
        watch_directory(tmp_path)
    with pytest.raises(NotImplementedError, match=r"^.*needs file leases, .* darwin has not$"):
        is_being_written(tmp_path)


def test_a_file_is_being_written_until_its_writer_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("w"):
        assert is_being_written(path)

    assert not is_being_written(path)


def test_a_reader_is_no_writer(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with (tmp_path / "a").open():
        assert not is_being_written(tmp_path / "a")


def test_asking_who_writes_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        is_being_written(tmp_path / "a")
