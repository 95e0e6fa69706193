"""The gate's flag: constant, and over when the gate opens."""

import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Bounce, Getter, Manifold, Missing, open_worker
from trioworker.patterns import Flag
from trioworker.testing import ManifoldHarness, StubGetter, check_alive, clean_kill, open_engine
from trioworker.workers.coordination import gate
from trioworker.workers.coordination.gate import OPEN, Latch, Lock, Unlocker
from trioworker.workers.coordination.gateflag import GateFlag, Unlocked, manifold

from .taking import Taker


async def test_of_an_open_gate_it_is_true_and_lives() -> None:
    async with open_worker(GateFlag(OPEN)) as flag:
        await check_alive(flag)

        assert flag.check() is True
        assert flag.report() == (flag.report().tomb, True)
        assert repr(flag) == "<GateFlag 'gate-flag' alive, True>"
        await clean_kill(flag)


async def test_of_a_locked_gate_it_is_false_and_lives() -> None:
    async with open_worker(GateFlag(Latch())) as flag:
        await check_alive(flag)

        assert flag.check() is False
        await clean_kill(flag)


async def test_it_ends_when_the_gate_opens_and_does_not_change_its_mind() -> None:
    latch = Latch()
    flag = GateFlag(latch)
    with pytest.raises(Unlocked) as caught:
        async with open_worker(flag):
            await latch.unlock()
            await trio.sleep_forever()

    assert type(caught.value) is Unlocked
    assert flag.check() is False


async def test_a_gate_that_opened_after_it_had_looked_and_before_it_waits_ends_it() -> None:
    """It looks at the level: an edge would be missed."""
    latch = Latch()
    flag = GateFlag(latch)
    await latch.unlock()

    with trio.fail_after(1), pytest.raises(Unlocked):
        await flag.run()


# -- the manifold ----------------------------------------------------------------------------------


def test_its_only_input_is_the_gate() -> None:
    assert manifold().inputs == ("gate",)
    assert manifold().optional == manifold().live == ()


async def test_without_a_gate_it_is_missing() -> None:
    with pytest.raises(Missing):
        await manifold().start(
            StubGetter(required={"gate": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_it_asks_the_gate_that_it_is_given(nursery: trio.Nursery) -> None:
    latch = Latch()
    flag = await nursery.start(manifold().start, StubGetter(required={"gate": latch}))
    await wait_all_tasks_blocked()

    assert isinstance(flag, GateFlag)
    assert latch.waiting == 1
    flag.kill()


def test_the_filter_makes_a_bounce_of_an_unlock_alone() -> None:
    filter_ = manifold().filter
    other = OSError()
    assert filter_ is not None
    assert isinstance(filter_(Unlocked()), Bounce)
    assert isinstance(filter_(ExceptionGroup("", [Unlocked()])), Bounce)
    assert filter_(other) is other


async def test_what_needs_the_milestone_is_restarted_when_it_is_reached(
    autojump_clock: MockClock,
) -> None:
    keys, user = Taker("gate", Lock), ManifoldHarness()
    parts = {
        "gate": gate.manifold(),
        "flag": manifold(),
        "keys": keys.manifold(),
        "user": user.manifold(inputs=("flag",)),
    }
    async with open_engine(parts) as engine:
        await user.assert_one_start()
        assert user.get("flag", Flag).check() is False
        await keys[Lock].unlock()
        await user.assert_one_start()
        assert user.get("flag", Flag).check() is True

        engine.restart("gate")  # and the milestone stays reached
        await user.assert_one_start()
        assert user.get("flag", Flag).check() is True
        await user.assert_no_start()


@pytest.mark.full
async def test_b_starts_once_and_only_after_the_process_of_a_has_ended(tmp_path: Path) -> None:
    """With a real process as the milestone."""
    sign = tmp_path / "upgraded"
    starts: list[bool] = []
    again = trio.Event()

    async def a(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        code = "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()"
        await trio.run_process([sys.executable, "-c", code, str(sign)])
        await get("gate", Unlocker).unlock()
        await again.wait()

    async def b(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        if not get("flag", Flag).check():
            raise Missing("not upgraded yet")
        starts.append(sign.exists())
        task_status.started()
        await trio.sleep_forever()

    parts = {
        "gate": gate.manifold(),
        "flag": manifold(),
        "a": Manifold(a, inputs=("gate",)),
        "b": Manifold(b, inputs=("flag",)),
    }
    async with open_engine(parts, settle_within=None) as engine:
        with trio.fail_after(60):
            await engine.wait_state("b", "started")
        assert starts == [True]
        engine.restart("gate")
        with trio.fail_after(60):
            while len(starts) < 2:
                await engine.wait_settled()
                await trio.sleep(0.01)
            await engine.wait_state("b", "started")

        assert starts == [True, True]
