"""The whole program is held up: a SIGSTOP, a suspended machine, a call that blocks."""

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Engine, Manifold

from .harness import Program, starting_in, stopping_in


@pytest.fixture
def held_up(mock_clock: MockClock) -> MockClock:
    """A clock that is told when to go on."""
    return mock_clock


async def let_end(program: Program, clock: MockClock) -> None:
    clock.autojump_threshold = 0
    await program.engine.wait_settled()


# Trio takes the tasks of a step in either order, so one time says nothing.
TIMES = range(12)


@pytest.mark.parametrize("_", TIMES)
async def test_e11_who_would_have_stopped_in_time_is_not_stuck(
    _: int, held_up: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program()
    program.install("slow", body=stopping_in(0.5), stop_timeout=10)
    async with program.running() as engine:
        engine.restart("slow")
        await wait_all_tasks_blocked()
        held_up.jump(12)
        await let_end(program, held_up)

        assert program.starts == ["slow", "slow"]
        assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("_", TIMES)
async def test_e12_who_would_have_started_in_time_is_not_too_late(
    _: int, held_up: MockClock
) -> None:
    program = Program()
    program.install("slow", body=starting_in(1), start_timeout=5)
    async with program.running(settle=False):
        held_up.jump(7)
        await let_end(program, held_up)

        assert program.starts == ["slow"]


async def test_e11_who_stays_is_stuck_all_the_same(held_up: MockClock) -> None:
    engine = Engine()

    async def stay(_: object, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    engine.install("stays", Manifold(stay, stop_timeout=10))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        engine.kill()
        await wait_all_tasks_blocked()
        held_up.jump(50)
        await wait_all_tasks_blocked()

        assert engine.report().manifolds["stays"].stuck is not None
        held_up.autojump_threshold = 0
