"""SIGABRT: the request that the program remove itself."""

import os
import signal
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import open_worker
from trioworker.testing import check_alive, clean_kill
from trioworker.workers.coordination.terminationworker import Terminated, TerminationWorker

from .process import running
from .taking import calling, nursery_to_leave


def abort() -> None:
    os.kill(os.getpid(), signal.SIGABRT)


async def test_killed_it_ends_cleanly_and_its_signal_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGABRT)
    async with open_worker(TerminationWorker()) as worker:
        assert signal.getsignal(signal.SIGABRT) is not before
        await check_alive(worker)
        assert repr(worker) == "<TerminationWorker 'termination' alive>"
        assert worker.report() == (worker.report().tomb, False)
        await clean_kill(worker)

    assert signal.getsignal(signal.SIGABRT) == before


async def test_the_signal_ends_it_with_that_error() -> None:
    worker = TerminationWorker()
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, worker.run)
        assert run.blocks()
        abort()
        with trio.fail_after(5):
            await run.ended.wait()

    assert isinstance(run.error, Terminated)
    assert worker.report().came


async def test_one_that_comes_as_soon_as_it_is_ready_is_not_lost() -> None:
    class Status:
        def started(self, value: object = None) -> None:
            abort()

    with trio.fail_after(5), pytest.raises(Terminated):
        await TerminationWorker().run(task_status=Status())


@pytest.mark.parametrize("how", ["killed", "cancelled"])
async def test_one_that_comes_in_its_last_moment_is_not_lost(how: str) -> None:
    """Left in Trio's receiver, it would abort the process when that is closed."""
    worker = TerminationWorker()
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, worker.run)
        if how == "killed":
            worker.kill()
        else:
            run.scope.cancel()
        abort()
        with trio.fail_after(5):
            await run.ended.wait()

    assert isinstance(run.error, Terminated)


async def test_its_end_needs_no_time(mock_clock: MockClock) -> None:
    """It waited for signals of its last moment, for ever on a clock that stands still."""
    async with open_worker(TerminationWorker()) as worker:
        await clean_kill(worker)


async def test_several_are_one_and_none_is_left_to_abort_the_process() -> None:
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, TerminationWorker().run)
        for _ in range(3):
            abort()  # all in one step: who ends with the first gives the signal back
        with trio.fail_after(5):
            await run.ended.wait()
        await wait_all_tasks_blocked()

    assert isinstance(run.error, Terminated)


async def test_a_real_program_removes_itself_and_one_that_is_stopped_does_not(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program"
    program.touch()
    async with running("terminate", program) as process:
        await process.wait_lines(1)
        process.send(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        assert program.exists()
    async with running("terminate", program) as process:
        await process.wait_lines(1)
        process.send(signal.SIGABRT)
        await process.wait_lines(2)

    assert process.lines == ["ready", "removed"]
    assert not program.exists()
