"""The fortress of several processes.

In one, where its parties are as strange to each other as those of two; and in several, which get
killed.
"""

import contextlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

pytest.importorskip("fcntl", reason="flock() is not Windows'")

from trioworker import Dying, LifetimeError, open_worker
from trioworker.testing import check_alive, clean_kill, open_engine
from trioworker.workers.coordination.flockfortress import (
    Config,
    FlockFortress,
    Overtaken,
    manifold,
)
from trioworker.workers.coordination.fortress import Guard, Guest

from .process import BOUND, running
from .taking import Call, Taker, calling, nursery_to_leave


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[FlockFortress]:
    async with open_worker(FlockFortress(tmp_path / "lock", name="here")) as fortress:
        yield fortress


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[FlockFortress]:
    """Another party, as in another process: its locks have nothing to do with those of `here`."""
    async with open_worker(FlockFortress(tmp_path / "lock", name="there")) as fortress:
        yield fortress


@pytest.fixture
async def tasks() -> AsyncIterator[trio.Nursery]:
    async with nursery_to_leave() as nursery:
        yield nursery


def visiting(guest: Guest, leave: trio.Event | None = None) -> Callable[[], Awaitable[None]]:
    async def visit() -> None:
        async with guest.visit():
            if leave is not None:
                await leave.wait()

    return visit


async def is_open(guest: Guest) -> bool:
    with trio.move_on_after(5) as scope:
        async with guest.visit():
            pass
    return not scope.cancelled_caught


async def test_it_is_open_unless_somebody_has_it_locked_down(
    here: FlockFortress, there: FlockFortress, autojump_clock: MockClock
) -> None:
    assert await is_open(here)
    await there.lockdown()
    assert not await is_open(here)
    assert not await is_open(there)
    there.unlock()
    assert await is_open(here)
    assert await is_open(there)


async def test_locking_down_and_unlocking_twice_are_no_different(
    here: FlockFortress, autojump_clock: MockClock
) -> None:
    here.unlock()
    await here.lockdown()
    await here.lockdown()
    assert not await is_open(here)
    here.unlock()
    here.unlock()
    assert await is_open(here)


async def test_only_who_locked_down_can_unlock(
    here: FlockFortress, there: FlockFortress, autojump_clock: MockClock
) -> None:
    await here.lockdown()
    there.unlock()

    assert not await is_open(there)


async def test_guests_of_all_are_inside_together_and_a_lockdown_waits_for_the_last(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    leaves = [trio.Event() for _ in range(4)]
    for leave, where in zip(leaves, (here, there, here, there), strict=True):
        await calling(tasks, visiting(where, leave))
    assert here.report().inside == there.report().inside == 2
    lockdown = await calling(tasks, here.lockdown)
    for leave in leaves:
        await trio.sleep(5)
        assert lockdown.blocks()
        assert not await is_open(there)
        leave.set()
    await lockdown.ended.wait()

    assert lockdown.error is None


async def test_guests_that_overlap_for_ever_do_not_keep_the_guard_out(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    """With one lock instead of two they would."""

    async def guest(begin: float) -> None:
        await trio.sleep(begin)
        while True:
            async with there.visit():
                await trio.sleep(1)

    for begin in (0.0, 0.5):
        tasks.start_soon(guest, begin)
    await trio.sleep(10.25)
    assert there.report().inside == 2
    with trio.fail_after(3):
        await here.lockdown()

    assert there.report().inside == 0


async def test_guards_exclude_each_other(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    await here.lockdown()
    lockdown = await calling(tasks, there.lockdown)
    await trio.sleep(5)
    assert lockdown.blocks()
    assert (here.report().guard, there.report().guard) == ("alone", "away")

    here.unlock()
    await lockdown.ended.wait()
    assert lockdown.error is None
    assert there.report().guard == "alone"


async def test_a_cancelled_lockdown_leaves_it_locked_until_it_is_unlocked(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    visit = await calling(tasks, visiting(there, trio.Event()))
    lockdown = await calling(tasks, here.lockdown)
    lockdown.scope.cancel()
    await lockdown.ended.wait()

    assert lockdown.scope.cancelled_caught
    assert here.report().guard == "closing"
    assert not await is_open(there)
    here.unlock()
    assert await is_open(there)
    assert visit.blocks()


async def test_cancelled_while_another_guard_is_in_nothing_is_held(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    await here.lockdown()
    lockdown = await calling(tasks, there.lockdown)
    lockdown.scope.cancel()
    await lockdown.ended.wait()
    here.unlock()

    assert await is_open(there)


async def test_a_lockdown_of_an_empty_one_succeeds_though_it_was_cancelled(
    here: FlockFortress, autojump_clock: MockClock
) -> None:
    reached: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await here.lockdown()
        reached.append("the next line")

    assert reached
    assert not await is_open(here)


async def test_an_unlock_overtakes_a_lockdown_that_waits(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    visit = await calling(tasks, visiting(there, trio.Event()))
    lockdown = await calling(tasks, here.lockdown)
    here.unlock()
    await lockdown.ended.wait()

    assert isinstance(lockdown.error, Overtaken)
    assert visit.blocks()
    assert await is_open(there)


async def test_a_visit_that_raises_or_is_cancelled_has_left(
    here: FlockFortress, there: FlockFortress, tasks: trio.Nursery, autojump_clock: MockClock
) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with here.visit():
            raise ValueError("mine")
    visit = await calling(tasks, visiting(here, trio.Event()))
    visit.scope.cancel()
    await visit.ended.wait()

    with trio.fail_after(1):
        await there.lockdown()


async def test_of_all_who_wait_in_one_process_only_one_tries(
    here: FlockFortress,
    there: FlockFortress,
    tasks: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    import fcntl

    tries = 0
    flock = fcntl.flock

    def counted(fd: int, how: int) -> None:
        nonlocal tries
        tries += bool(how & fcntl.LOCK_NB)
        flock(fd, how)

    await there.lockdown()
    for _ in range(1000):
        tasks.start_soon(visiting(here))
    await wait_all_tasks_blocked()
    assert here.report().at_the_door == 1000
    monkeypatch.setattr(fcntl, "flock", counted)
    await trio.sleep(10)

    assert 0 < tries < 150
    there.unlock()
    await trio.sleep(1)
    assert here.report().at_the_door == 0


async def test_killed_it_waits_for_its_own_guests_and_has_unlocked_at_once(
    here: FlockFortress, tasks: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_worker(FlockFortress(tmp_path / "lock")) as fortress:
        leave = trio.Event()
        await calling(tasks, visiting(fortress, leave))
        lockdown = await calling(tasks, fortress.lockdown)
        door = await calling(tasks, visiting(fortress))
        fortress.kill()
        waiting = await calling(tasks, fortress.wait)

        assert isinstance(lockdown.error, Dying)
        assert isinstance(door.error, Dying)
        assert waiting.blocks()
        assert await is_open(here)
        leave.set()
        await waiting.ended.wait()


@pytest.mark.parametrize("steps", range(6))
async def test_killed_on_the_way_from_the_queue_to_the_door_it_admits_nobody_any_more(
    steps: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Getting the lock of the queue is a step that is not cancelled. Trio's order varies."""
    for _ in range(20):
        fortress = FlockFortress(tmp_path / "lock")
        found: list[str] = []

        async def visit(fortress: FlockFortress = fortress, found: list[str] = found) -> None:
            async with fortress.visit():
                found.append(fortress.report().tomb.state)

        async with open_worker(fortress), trio.open_nursery() as nursery:
            call = Call("visit")
            nursery.start_soon(call.run, visit)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            fortress.kill()
            await call.ended.wait()

        assert isinstance(call.error, Dying) or found == ["alive"]


async def test_before_it_runs_and_after_it_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    fortress = FlockFortress(tmp_path / "lock")
    with pytest.raises(LifetimeError, match="does not run yet"):
        fortress.unlock()
    with pytest.raises(LifetimeError, match="does not run yet"):
        await fortress.lockdown()
    with pytest.raises(LifetimeError, match="does not run yet"):
        async with fortress.visit():
            pass
    async with open_worker(fortress):
        await check_alive(fortress)
        await clean_kill(fortress)
        with pytest.raises(Dying):
            fortress.unlock()
    assert repr(fortress).startswith("<FlockFortress 'flock-fortress' dead, ")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_it_closes_its_files_also_when_it_could_not_open_all(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as the kernel counts

    before = open_files()
    async with open_worker(FlockFortress(tmp_path / "lock")):
        assert open_files() == before + 4
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match="other"):
        await FlockFortress(tmp_path / "other").run()

    assert open_files() == before


async def test_its_files_are_closed_to_others_and_stay(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_worker(FlockFortress(tmp_path / "lock")):
        pass

    for name in ("lock", "lock.door"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_a_path_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="path must name a file, not '/'"):
        Config(path=Path("/"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config(path=Path("lock")).path = Path()  # type: ignore[misc]  # which is the point


async def test_engines_that_name_the_same_file_meet_there(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """And each hands out no more than the faces."""
    fortress = manifold(Config(path=tmp_path / "lock"))
    takers = [Taker("fortress", Guard, Guest), Taker("fortress", Guard, Guest)]
    async with (
        open_engine({"fortress": fortress, "taker": takers[0].manifold()}),
        open_engine({"fortress": fortress, "taker": takers[1].manifold()}),
    ):
        for face, methods in ((Guard, {"unlock", "lockdown"}), (Guest, {"visit"})):
            assert {name for name in dir(takers[0][face]) if name[0] != "_"} == methods
        await takers[0][Guard].lockdown()
        assert not await is_open(takers[1][Guest])


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.full
async def test_a_guest_that_is_killed_has_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with (
        open_worker(FlockFortress(path)) as fortress,
        nursery_to_leave() as tasks,
        running("visit", path) as guest,
    ):
        await guest.wait_lines(1)
        lockdown = await calling(tasks, fortress.lockdown)
        await trio.sleep(0.3)
        assert lockdown.blocks()

        await guest.kill()
        with trio.fail_after(BOUND):
            await lockdown.ended.wait()
        assert lockdown.error is None


@pytest.mark.full
async def test_a_guard_that_is_killed_has_unlocked(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    async with (
        open_worker(FlockFortress(path)) as fortress,
        nursery_to_leave() as tasks,
        running("lock_down", path) as guard,
    ):
        await guard.wait_lines(1)
        visit = await calling(tasks, visiting(fortress))
        await trio.sleep(0.3)
        assert visit.blocks()

        await guard.kill()
        with trio.fail_after(BOUND):
            await visit.ended.wait()
        assert visit.error is None


@pytest.mark.full
async def test_guests_of_other_processes_never_see_a_directory_half_swapped(
    tmp_path: Path,
) -> None:
    """A careless reader does see it so, in the same run: otherwise this would prove nothing."""
    path, tree, new = tmp_path / "lock", tmp_path / "tree", tmp_path / "new"

    async def swap(version: int) -> None:
        """Write one half, and some time later the other."""
        for half in ("first", "second"):
            (new / half).write_text(str(version))
            (new / half).replace(tree / half)
            await trio.sleep(0.01)

    tree.mkdir()
    new.mkdir()
    await swap(0)
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(running("read", path)) for _ in range(2)]
        careless = await stack.enter_async_context(running("read_carelessly", path))
        fortress = await stack.enter_async_context(open_worker(FlockFortress(path)))
        for process in (*readers, careless):
            await process.wait_lines(1)
        for version in range(1, 31):
            before = [len(reader.lines) for reader in readers]
            with trio.fail_after(BOUND):
                await fortress.lockdown()
            await swap(version)
            fortress.unlock()
            for reader, lines in zip(readers, before, strict=True):
                await reader.wait_lines(lines + 2)  # each gets in between two swaps
        seen = {line for reader in readers for line in reader.lines}

        assert seen == {"whole"}
        assert any(line.startswith("torn") for line in careless.lines)
