"""A process of the tests': does one thing with a worker of the wing, and says so on its output.

``python -m tests.workers.coordination.process WHAT PATH``; it goes on until it is killed, or until
its standard input is closed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import trio

from tests.patterns.values import Script
from trioworker import Engine, EngineConfig, Getter, Manifold, open_worker
from trioworker.workers.coordination import simplesignalhandler, terminationworker
from trioworker.workers.coordination.common import value_manifold
from trioworker.workers.coordination.flockfortress import FlockFortress
from trioworker.workers.coordination.gate import Gate, Latch
from trioworker.workers.coordination.reboot import Action, MachineLock, Reboot, executing
from trioworker.workers.coordination.simplesignalhandler import (
    Signalled,
    Signals,
    SignalSource,
    SourceConfig,
)
from trioworker.workers.coordination.terminationworker import Terminated

from .facades import FakeReboots

BOUND = 90.0
"""Seconds after which a sign will not come any more."""

ROOT = Path(__file__).parents[3]


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - it is read by the test


async def visit(path: Path) -> None:
    """Be inside until killed."""
    async with open_worker(FlockFortress(path)) as fortress, fortress.visit():
        say("inside")
        await trio.sleep_forever()


async def lock_down(path: Path) -> None:
    """Lock down until killed."""
    async with open_worker(FlockFortress(path)) as fortress:
        await fortress.lockdown()
        say("alone")
        await trio.sleep_forever()


async def unlock(path: Path) -> None:
    """Say how a gate is, unlock it, say so, and live until killed."""
    async with open_worker(Gate(Latch(path))) as gate:
        say("unlocked" if gate.is_unlocked else "locked")
        await gate.unlock()
        say("unlocked")
        await trio.sleep_forever()


async def terminate(path: Path) -> None:
    """Run an engine until it is to remove itself; then do."""

    def is_fatal(error: BaseException) -> bool:
        return isinstance(error, Terminated)

    engine = Engine(EngineConfig(is_fatal=is_fatal))
    engine.install("termination", terminationworker.manifold())
    try:
        async with open_worker(engine):
            await engine.wait_state("termination", "started")
            say("ready")
            await engine.wait()
    except Terminated:
        path.unlink()  # noqa: ASYNC240 - nobody else runs
        say("removed")


async def go_down(path: Path) -> None:
    """Find that the machine is to be booted again; say how, and leave it at that."""
    reboots = FakeReboots(Script(Action.REBOOT))
    async with executing(tell):
        await Reboot(reboots, FakeReboots.MACHINE, MachineLock(path)).run()
    await trio.sleep_forever()


async def tell(action: Action) -> None:
    say(action)


async def obey(path: Path) -> None:
    """Run an engine until a signal ends it; its worker does not stop before there is `path`."""

    async def worker(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        say("working")
        try:
            await trio.sleep_forever()
        finally:
            say("stopping")
            with trio.CancelScope(shield=True):
                while not path.exists():  # noqa: ASYNC110, ASYNC240 - nothing tells of it
                    await trio.sleep(0.01)
            say("stopped")

    def is_fatal(error: BaseException) -> bool:
        return isinstance(error, Signalled)

    source = SignalSource(SourceConfig(signals=["SIGHUP", "SIGTERM"]))
    engine = Engine(EngineConfig(is_fatal=is_fatal))
    engine.install("signals", value_manifold(lambda: source, outputs={Signals: lambda its: its}))
    engine.install("on-signal", simplesignalhandler.manifold())
    engine.install("worker", Manifold(worker))
    async with open_worker(source):
        try:
            await engine.run()
        except Signalled as error:
            say(error.signal.name)


async def read(path: Path) -> None:
    """Visit again and again, and read the two halves of what is beside the lock."""
    async with open_worker(FlockFortress(path)) as fortress:
        while True:
            async with fortress.visit():
                say(await halves(path.parent))


async def read_carelessly(path: Path) -> None:
    """The same without visiting."""
    while True:
        say(await halves(path.parent))


async def halves(directory: Path) -> str:
    first = (directory / "tree" / "first").read_text()
    await trio.sleep(0.001)
    second = (directory / "tree" / "second").read_text()
    return "whole" if first == second else f"torn {first} {second}"


ACTIONS: dict[str, Callable[[Path], Awaitable[None]]] = {
    action.__name__: action
    for action in (go_down, visit, lock_down, obey, read, read_carelessly, terminate, unlock)
}


async def main(what: str, path: Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ACTIONS[what], path)
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


@final
class Process:
    """Such a process, seen by the test."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.lines: list[str] = []
        self._came = trio.Event()

    async def read(self) -> None:
        """Take what it prints, as long as it does."""
        rest = b""
        assert self._process.stdout is not None
        async for data in self._process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            self.lines += [line.decode() for line in lines]
            self._came.set()
            self._came = trio.Event()

    async def wait_lines(self, count: int) -> None:
        """Wait until it has printed so many lines."""
        with trio.fail_after(BOUND):
            while len(self.lines) < count:
                await self._came.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        with trio.fail_after(BOUND):
            return await self._process.wait()

    async def kill(self) -> None:
        """With -9."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def running(what: str, path: Path) -> AsyncGenerator[Process, None]:
    """Run one for the length of the block."""
    command = [sys.executable, "-m", __name__, what, str(path)]
    # What gets killed is not measured.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    async with trio.open_nursery() as nursery:
        started = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=env
        )
        process = Process(started)
        nursery.start_soon(process.read)
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                await process.kill()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]))
