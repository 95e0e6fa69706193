"""The gate: opens once, for good, and what is open outlives the worker."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, Engine, Getter, Manifold, open_worker
from trioworker.testing import check_alive, clean_kill, open_engine
from trioworker.workers.coordination.gate import (
    OPEN,
    Config,
    Gate,
    Latch,
    Lock,
    Unlocker,
    Waiter,
    manifold,
)

from .process import running
from .taking import Taker, calling, nursery_to_leave


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with open_worker(Gate()) as gate:
        yield gate


@pytest.fixture
async def tasks() -> AsyncIterator[trio.Nursery]:
    async with nursery_to_leave() as nursery:
        yield nursery


# -- the worker ------------------------------------------------------------------------------------


async def test_it_starts_locked(gate: Gate, tasks: trio.Nursery) -> None:
    assert not gate.is_unlocked
    assert (await calling(tasks, gate.wait_unlocked)).blocks()


async def test_an_unlock_is_seen_at_once(gate: Gate) -> None:
    await gate.unlock()

    assert gate.is_unlocked
    with trio.fail_after(1):
        await gate.wait_unlocked()


async def test_unlocking_twice_is_unlocking(gate: Gate) -> None:
    await gate.unlock()
    await gate.unlock()

    assert gate.is_unlocked


async def test_all_who_wait_are_let_through(gate: Gate, tasks: trio.Nursery) -> None:
    waiting = [await calling(tasks, gate.wait_unlocked) for _ in range(3)]
    assert gate.report().waiting == 3
    for _ in range(3):
        tasks.start_soon(gate.unlock)
    await wait_all_tasks_blocked()

    assert not any(call.blocks() for call in waiting)
    assert [call.error for call in waiting] == [None] * 3


async def test_a_wait_can_be_given_up(gate: Gate, tasks: trio.Nursery) -> None:
    waiting = await calling(tasks, gate.wait_unlocked)
    waiting.scope.cancel()
    await waiting.ended.wait()

    assert waiting.scope.cancelled_caught
    assert gate.report().waiting == 0


async def test_it_does_nothing_but_live_and_ends_cleanly(gate: Gate) -> None:
    await check_alive(gate)
    await clean_kill(gate)


async def test_after_its_end_calls_are_refused_and_what_is_known_is_still_told() -> None:
    async with open_worker(Gate(name="steps")) as gate:
        await gate.unlock()
        gate.kill()
        await gate.wait()

        with pytest.raises(Dying, match='"steps" is dead'):
            await gate.wait_unlocked()
        with pytest.raises(Dying, match='"steps" is dead'):
            await gate.unlock()
        assert gate.is_unlocked


async def test_the_end_of_a_worker_does_not_disturb_who_waits_on_the_latch(
    tasks: trio.Nursery,
) -> None:
    latch = Latch()
    async with open_worker(Gate(latch)) as first:
        waiting = await calling(tasks, latch.wait_unlocked)
        first.kill()
        await first.wait()
    assert waiting.blocks()
    async with open_worker(Gate(latch)) as second:
        await second.unlock()
        await waiting.ended.wait()

    assert waiting.error is None


async def test_the_report_tells_how_it_stands(gate: Gate) -> None:
    assert gate.report() == (gate.report().tomb, False, 0)
    assert repr(gate) == "<Gate 'gate' alive, locked>"
    assert repr(gate.latch) == "<Latch, locked>"
    await gate.unlock()

    assert gate.report() == (gate.report().tomb, True, 0)
    assert repr(gate) == "<Gate 'gate' alive, unlocked>"
    assert repr(gate.latch) == "<Latch, unlocked>"


async def test_the_ready_made_gate_is_open() -> None:
    assert OPEN.is_unlocked
    assert isinstance(OPEN, Waiter)
    assert repr(OPEN) == "OPEN"
    with trio.fail_after(1):
        await OPEN.wait_unlocked()


# -- in an engine ----------------------------------------------------------------------------------


async def test_workers_of_one_manifold_are_connected_and_of_two_are_not(
    autojump_clock: MockClock,
) -> None:
    one = manifold()
    takers = {name: Taker(name, Lock) for name in ("gate", "same", "other")}
    parts = {"gate": one, "same": one, "other": manifold()}
    parts |= {f"taker of {name}": taker.manifold() for name, taker in takers.items()}
    async with open_engine(parts):
        await takers["gate"][Lock].unlock()

        assert takers["same"][Lock].is_unlocked
        assert not takers["other"][Lock].is_unlocked


async def test_what_was_unlocked_stays_so_when_the_gate_is_restarted(
    autojump_clock: MockClock,
) -> None:
    taker = Taker("gate", Lock)
    async with open_engine({"gate": manifold(), "taker": taker.manifold()}) as engine:
        await taker[Lock].unlock()
        engine.restart("gate")
        await engine.wait_settled()

        assert taker.starts == 2
        assert taker[Lock].is_unlocked
        await taker[Lock].wait_unlocked()


async def test_a_latch_of_the_program_is_shared_by_all_its_engines(
    autojump_clock: MockClock,
) -> None:
    latch = Latch()
    gate = manifold(latch=latch)
    takers = [Taker("gate", Lock), Taker("gate", Lock)]
    async with (
        open_engine({"gate": gate, "taker": takers[0].manifold()}),
        open_engine({"gate": gate, "taker": takers[1].manifold()}),
    ):
        await takers[0][Lock].unlock()

        assert takers[1][Lock].is_unlocked
        assert latch.is_unlocked


async def test_one_manifold_in_two_engines_is_two_gates_also_if_one_is_inside_the_other(
    autojump_clock: MockClock,
) -> None:
    gate = manifold()
    inner_taker, outer_taker = Taker("gate", Lock), Taker("gate", Lock)

    def nested(get: Getter) -> Engine:
        engine = Engine()
        engine.install_all({"gate": gate, "taker": inner_taker.manifold()})
        return engine

    parts = {
        "gate": gate,
        "taker": outer_taker.manifold(),
        "nested": Manifold.from_worker(nested),
    }
    async with open_engine(parts):
        await wait_all_tasks_blocked()
        await inner_taker[Lock].unlock()

        assert inner_taker[Lock].is_unlocked
        assert not outer_taker[Lock].is_unlocked


async def test_each_face_has_nothing_but_its_own_methods() -> None:
    taker = Taker("gate", Unlocker, Waiter, Lock)
    async with open_engine({"gate": manifold(), "taker": taker.manifold()}):
        for face, methods in (
            (Unlocker, {"unlock"}),
            (Waiter, {"is_unlocked", "wait_unlocked"}),
            (Lock, {"is_unlocked", "wait_unlocked", "unlock"}),
        ):
            assert {name for name in dir(taker[face]) if not name.startswith("_")} == methods


async def test_asked_for_something_else_it_lists_what_it_offers(autojump_clock: MockClock) -> None:
    taker = Taker("gate", Gate)
    async with open_engine(
        {"gate": manifold(), "taker": taker.manifold()}, settle_within=None
    ) as engine:
        await engine.wait_state("taker", "delayed")

        assert "it offers: Unlocker, Waiter, Lock" in str(engine.explain("taker"))


# -- a gate that outlives the program --------------------------------------------------------------


def is_there(path: Path) -> bool:
    return path.is_file() and not path.read_bytes()


def make(path: Path) -> None:
    path.touch()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "upgraded"


async def test_what_was_unlocked_is_open_for_the_next_who_names_the_marker(marker: Path) -> None:
    async with open_worker(Gate(Latch(marker))) as gate:
        assert not gate.report().is_unlocked
        assert not is_there(marker)
        await gate.unlock()
        await gate.unlock()
        assert gate.is_unlocked

    assert is_there(marker)
    assert Latch(marker).is_unlocked


async def test_file_and_directory_are_on_the_disk_before_anybody_finds_it_open(
    marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch = Latch(marker)
    synced: list[tuple[bool, bool]] = []

    def fsync(fd: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(fd).st_mode), latch.is_unlocked))

    monkeypatch.setattr(os, "fsync", fsync)
    await latch.unlock()

    assert synced == [(False, False), (True, False)]
    assert latch.is_unlocked


async def test_a_marker_that_somebody_else_has_just_made_is_synced_too(
    marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch = Latch(marker)
    make(marker)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    await latch.unlock()

    assert len(synced) == 2


@pytest.mark.parametrize("failing", [1, 2], ids=["the file", "the directory"])
async def test_an_unlock_that_cannot_be_written_down_leaves_it_locked(
    marker: Path, failing: int, tasks: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fsync(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    latch = Latch(marker)
    waiting = await calling(tasks, latch.wait_unlocked)
    with pytest.raises(OSError, match="No space left"):
        await latch.unlock()

    assert not latch.is_unlocked
    assert waiting.blocks()
    assert not Latch(marker).is_unlocked


async def test_an_unlock_that_is_cancelled_while_it_writes_finishes(
    marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch = Latch(marker)
    scope = trio.CancelScope()

    def fsync(fd: int) -> None:
        trio.from_thread.run_sync(scope.cancel)

    monkeypatch.setattr(os, "fsync", fsync)
    with scope:
        await latch.unlock()

    assert latch.is_unlocked
    assert is_there(marker)


async def test_somebody_elses_marker_is_noticed_at_the_next_start(
    marker: Path, autojump_clock: MockClock
) -> None:
    taker = Taker("gate", Lock)
    parts = {"gate": manifold(Config(marker=marker)), "taker": taker.manifold()}
    async with open_engine(parts) as engine:
        make(marker)
        assert not taker[Lock].is_unlocked
        engine.restart("gate")
        await engine.wait_settled()

        assert taker[Lock].is_unlocked


async def test_a_marker_that_is_a_directory_or_in_none_is_told_at_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    for marker, told in ((tmp_path, "is a file"), (tmp_path / "no" / "marker", "needs this dir")):
        with pytest.raises(OSError, match=told):
            Latch(marker)
        parts = {"gate": manifold(Config(marker=marker))}
        async with open_engine(parts, settle_within=None) as engine:
            await engine.wait_state("gate", "delayed")
            assert told in str(engine.explain("gate"))


def test_the_config_refuses_what_names_no_file_and_is_frozen(marker: Path) -> None:
    with pytest.raises(ValueError, match="marker must name a file, not '/'"):
        Config(marker=Path("/"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().marker = marker  # type: ignore[misc]  # which is the point
    with pytest.raises(ValueError, match="give the marker to the latch"):
        manifold(Config(marker=marker), latch=Latch())


@pytest.mark.full
async def test_a_milestone_that_was_told_survives_kill_9(marker: Path) -> None:
    async with running("unlock", marker) as process:
        await process.wait_lines(2)
        await process.kill()
        assert process.lines == ["locked", "unlocked"]
    async with running("unlock", marker) as process:
        await process.wait_lines(1)

        assert process.lines[0] == "unlocked"
