"""What holds of every worker: ours pass, and each way of breaking the contract is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioworker import Engine, Runner, Tomb, TombState, Worker, periodic_worker, simple_worker
from trioworker.testing import DeadWorker, ErrorWorker, FakeWatcher, check_worker
from trioworker.workers.coordination.centralhub import Hub
from trioworker.workers.coordination.flockfortress import FlockFortress
from trioworker.workers.coordination.fortress import Fortress
from trioworker.workers.coordination.gate import Gate
from trioworker.workers.coordination.lease import Manager, MemoryStore
from trioworker.workers.coordination.terminationworker import TerminationWorker

OURS: dict[str, Callable[[Path], Worker]] = {
    "simple": lambda path: simple_worker(trio.sleep_forever),
    "periodic": lambda path: periodic_worker(trio.lowlevel.checkpoint, period=1000),
    "runner": lambda path: Runner(),
    "engine": lambda path: Engine(),
    "watcher": lambda path: FakeWatcher[None](),
    "hub": lambda path: Hub(),
    "fortress": lambda path: Fortress(),
    "flockfortress": lambda path: FlockFortress(path / "lock"),
    "gate": lambda path: Gate(),
    "lease": lambda path: Manager(MemoryStore()),
    "termination": lambda path: TerminationWorker(),
}


@pytest.mark.parametrize("name", OURS)
async def test_ours_pass(name: str, tmp_path: Path) -> None:
    await check_worker(lambda: OURS[name](tmp_path))


class Breakable:
    """A good worker, but for what a test does to it."""

    name = "bad"

    def __init__(self) -> None:
        self.tomb = Tomb(name=self.name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self.tomb:
            await self.body(task_status)

    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        task_status.started()
        await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()

    def report(self) -> object:
        return self.tomb.report()


class EndsByItself(Breakable):
    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        task_status.started()


class NeverStarts(Breakable):
    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        await trio.sleep_forever()


class ForgetsItsReason(Breakable):
    def kill(self, reason: BaseException | None = None) -> None:
        self.tomb.kill()


class FailsWhenKilledTwice(Breakable):
    def kill(self, reason: BaseException | None = None) -> None:
        super().kill(ValueError("again") if self.tomb.is_dying else reason)


class IsDeafBeforeItRuns(Breakable):
    def kill(self, reason: BaseException | None = None) -> None:
        if self.ran:
            super().kill(reason)

    ran = False

    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        self.ran = True
        await super().body(task_status)


class DiesOfAWaiter(Breakable):
    async def wait(self) -> None:
        try:
            await self.tomb.wait()
        except trio.Cancelled:
            self.kill()
            raise


class DoesNotWait(Breakable):
    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()


class CannotTellWhenDead(Breakable):
    def report(self) -> object:
        if self.tomb.state is TombState.DEAD:
            raise ValueError("gone")
        return self.tomb.report()


class FailsWhenCancelled(Breakable):
    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        try:
            await super().body(task_status)
        finally:
            if not self.tomb.is_dying:
                raise ValueError("cancelled")


class RunsAgain(Breakable):
    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        if self.tomb.is_dead:
            self.tomb = Tomb()
        await super().run(task_status=task_status)


class LeavesATask(Breakable):
    async def body(self, task_status: trio.TaskStatus[Any]) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        await super().body(task_status)


BAD: dict[type[Breakable], str] = {
    EndsByItself: "killed twice: it ended before that, without error",
    NeverStarts: "killed twice: it hung",
    ForgetsItsReason: r"killed with a reason: run\(\) ended without error",
    FailsWhenKilledTwice: r"killed twice: run\(\) ended with ValueError\('again'\)",
    IsDeafBeforeItRuns: "killed before it runs: it hung",
    DiesOfAWaiter: r"several, one of whom gives up: wait\(\) returned before the end",
    DoesNotWait: r"killed with a reason: wait\(\) ended without error",
    CannotTellWhenDead: r"asked how it is: dead it told ValueError\('gone'\)",
    FailsWhenCancelled: r"cancelled from outside: run\(\) ended with ValueError",
    RunsAgain: "run again: it did not refuse",
    LeavesATask: "killed twice: 1 tasks of it are left",
}


async def test_the_one_that_the_others_are_made_of_is_good() -> None:
    await check_worker(Breakable)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
async def test_each_way_of_breaking_the_contract_is_noticed(
    bad: type[Breakable], autojump_clock: MockClock
) -> None:
    with pytest.raises(AssertionError, match=f'^"bad", .*{BAD[bad]}'):
        await check_worker(bad)


async def test_the_rude_doubles_are_noticed(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match='"DeadWorker", killed twice: it ended before that'):
        await check_worker(DeadWorker)
    with pytest.raises(AssertionError, match=r'"ErrorWorker", killed twice: run\(\) ended with'):
        await check_worker(lambda: ErrorWorker(ValueError("rude")))


async def test_what_makes_no_workers_is_refused() -> None:
    asynchronous: Any = trio.sleep_forever

    def nonsense() -> Any:
        return 7

    with pytest.raises(TypeError, match=r"make\(\) must return a worker, not 7"):
        await check_worker(nonsense)
    with pytest.raises(TypeError, match="must be a plain function"):
        await check_worker(asynchronous)
    with pytest.raises(ValueError, match="within"):
        await check_worker(Breakable, within=0)
