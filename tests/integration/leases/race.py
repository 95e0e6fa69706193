"""A race: six claimants and one lease, with one thing after another broken.

What is broken, for how long, and who is hit, is drawn from a seed; what the processes do meanwhile
is the machine's affair. First comes each kind of fault once, then all again. Mostly the holder is
hit, until another has taken over or is surely too late, so that the next fault finds somebody to
hit; sometimes another claimant is killed or stopped at the same time. While the servers may have no
leader it is mostly the holder, or nobody would have to take over then.

A heartbeat of ours, which also writes to the disk as the stores do, tells how late the machine is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import trio

from tests.services.process import BOUND, Server

from . import history
from .history import SLACK, Beat, Fault, History
from .resource import Resource
from .stores import STORES, Row, Servers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from random import Random

ROOT = Path(__file__).parents[3]
NAMES = [f"racer-{number}" for number in range(6)]

_INSIDE = "SIGSTOP inside a transaction"
_BEAT = 0.1
_USUAL = 0.02  # seconds by which a heartbeat of a machine at rest may be late


@final
class Racer:
    """A claimant as a process, seen from outside."""

    def __init__(self, name: str, kind: str, command: list[str], directory: Path) -> None:
        self.name = name
        self._log = directory / f"{name}.jsonl"
        self._errors = directory / f"{name}.err"
        module = "tests.integration.leases.claimant"
        self._command = [sys.executable, "-m", module, *command, str(self._log), name, kind]
        env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
        self._env = {**env, "PYTHONPATH": os.pathsep.join([*_python_path(), str(ROOT)])}
        self.is_hit = False
        self.start()

    def start(self) -> None:
        """Start it, for the first time or again."""
        self._server = Server(self._command, self._errors, env=self._env)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._server.process.pid

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped and has not been continued."""
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._server.send(number)

    def expect_running(self) -> None:
        """Fail with its errors if it has ended by itself."""
        self._server.expect_running()

    def kill(self) -> None:
        """Kill it with -9."""
        self._server.kill()

    def records(self) -> list[Any]:
        """Return what it has recorded."""
        text = self._log.read_text() if self._log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    async def wait_ready(self) -> None:
        """Wait until it runs."""
        with trio.fail_after(BOUND):
            while not any(kind == "Ready" for kind, *_ in self.records()):
                self._server.expect_running()
                await trio.sleep(0.05)

    async def wait_stopped(self) -> None:
        """Wait until it is stopped."""
        with trio.fail_after(BOUND):
            while not self.is_stopped:  # noqa: ASYNC110 - the kernel tells nobody
                await trio.sleep(0.002)


@final
class Race:
    """One race on one store.

    Args:
        store: which, by its name in `STORES`.
        directory: an empty one.
        chance: what is broken.
    """

    def __init__(self, store: str, directory: Path, chance: Random) -> None:
        self._store = store
        self._row: Row = STORES[store]
        self._directory = directory
        self._chance = chance
        self._resource = Resource()
        self._racers: dict[str, Racer] = {}
        self._faults: list[Fault] = []
        self._beats: list[Beat] = []

    async def run(self, seconds: float) -> History:
        """Race for so long, and return what was recorded."""
        servers = self._row.serve(self._directory, NAMES)
        async with servers as self._servers, trio.open_nursery() as nursery:
            port = await nursery.start(self._resource.serve)
            nursery.start_soon(self._beat)
            try:
                self._start_racers(self._servers, port)
                for racer in self._racers.values():
                    await racer.wait_ready()
                begin = time.monotonic()
                with trio.move_on_after(BOUND):  # the checker will say that nobody ever held it
                    await self._resource.wait_greater(0)
                await self._break_things(begin + seconds)
                end = time.monotonic()
                for racer in self._racers.values():
                    racer.expect_running()
            finally:
                for racer in self._racers.values():
                    racer.kill()
                nursery.cancel_scope.cancel()
        return self._history(begin, end)

    def _start_racers(self, servers: Servers, port: int) -> None:
        for number, name in enumerate(NAMES):
            command = [self._store, servers.where(name), str(port)]
            kind = ("flag", "faces")[number % 2]
            self._racers[name] = Racer(name, kind, command, self._directory)

    async def _break_things(self, until: float) -> None:
        kinds = self._kinds()
        for kind in chain.from_iterable(self._chance.sample([*kinds], len(kinds)) for _ in count()):
            await trio.sleep(self._chance.uniform(0.3, 1.3) * self._row.duration)
            if time.monotonic() > until:
                break
            await self._one_round(kind, kinds[kind])

    def _leaderless(self) -> set[str]:
        return {what for what, breakage in self._servers.breakages.items() if breakage.extra}

    def _kinds(self) -> dict[str, Callable[[], AbstractAsyncContextManager[object]]]:
        kinds: dict[str, Callable[[], AbstractAsyncContextManager[object]]] = {
            "kill": lambda: self._killed(self._victim()),
            "stop": lambda: self._stopped(self._victim()),
        }
        if self._row.stops_inside:
            kinds[_INSIDE] = lambda: self._stopped_inside(self._victim(1))
        if self._servers.break_link(NAMES[0], self._chance) is not None:
            kinds["link"] = lambda: self._unlinked(self._victim())
        for what in self._servers.breakages:
            kinds[what] = partial(self._broken, what)
        return kinds

    async def _one_round(
        self, kind: str, fault: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        """Break something, and perhaps a second thing, until another has taken over."""
        token, is_leaderless = self._resource.greatest, kind in self._leaderless()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(fault())
            if self._chance.random() < (0.7 if is_leaderless else 0.3):
                another = self._chance.choice([self._killed, self._stopped])
                await stack.enter_async_context(another(self._victim(1 if is_leaderless else 0)))
            with trio.move_on_after(self._patience(kind)):
                await self._resource.wait_greater(token)
                await trio.sleep(self._chance.uniform(0, self._row.duration))

    def _patience(self, kind: str) -> float:
        """Return for how long to wait: if the holder was hit, until it is sure to be too late."""
        holder = self._racers.get(self._resource.writer)
        if kind != _INSIDE and holder is not None and holder.is_hit:
            return self._row.duration + SLACK + 0.5
        return 1.5 * self._row.duration

    def _victim(self, holder: float = 0.9) -> Racer:
        """Choose whom to hit: the holder with that probability."""
        writer = self._racers.get(self._resource.writer)
        if writer is not None and not writer.is_hit and self._chance.random() < holder:
            return writer
        others = [one for one in self._racers.values() if one is not writer and not one.is_hit]
        return self._chance.choice(others)

    @asynccontextmanager
    async def _fault(
        self, what: str, victim: Racer | None = None, extra: float = 0.0
    ) -> AsyncGenerator[list[bool]]:
        """Record a fault; say in the list if it turns out that a process was stopped inside."""
        begin, inside = time.monotonic(), list[bool]()
        if victim is not None:
            victim.is_hit = True
        try:
            yield inside
        finally:
            if victim is not None:
                victim.is_hit = False
            self._faults.append(Fault(what, begin, time.monotonic(), extra, any(inside)))

    @asynccontextmanager
    async def _killed(self, victim: Racer) -> AsyncGenerator[None]:
        async with self._fault("kill -9", victim):
            victim.kill()
            yield
            victim.start()

    @asynccontextmanager
    async def _stopped(self, victim: Racer) -> AsyncGenerator[None]:
        async with self._fault("SIGSTOP", victim) as inside:
            victim.send(signal.SIGSTOP)
            await victim.wait_stopped()
            inside.append(self._servers.is_inside(victim.pid))
            yield
            victim.send(signal.SIGCONT)

    @asynccontextmanager
    async def _stopped_inside(self, victim: Racer) -> AsyncGenerator[None]:
        """Have it stop itself inside its next transaction; kill it if there is none."""
        async with self._fault(_INSIDE, victim) as inside:
            victim.send(signal.SIGUSR1)
            with trio.move_on_after(3 * self._row.duration) as scope:
                await victim.wait_stopped()
                inside.append(self._servers.is_inside(victim.pid))
            if scope.cancelled_caught:
                victim.kill()
                victim.start()
            yield
            victim.send(signal.SIGCONT)

    @asynccontextmanager
    async def _unlinked(self, victim: Racer) -> AsyncGenerator[None]:
        broken = self._servers.break_link(victim.name, self._chance)
        assert broken is not None
        async with broken as how, self._fault(f"link {how}", victim):
            yield

    @asynccontextmanager
    async def _broken(self, what: str) -> AsyncGenerator[None]:
        breakage = self._servers.breakages[what]
        async with self._fault(what, extra=breakage.extra) as inside:
            inside.append(breakage.is_inside)
            async with breakage.break_(self._chance):
                yield

    async def _beat(self) -> None:
        with (self._directory / "heartbeat").open("wb", buffering=0) as file:

            def write() -> None:
                file.write(b".")
                os.fsync(file.fileno())

            while True:
                due = time.monotonic() + _BEAT
                await trio.sleep(_BEAT)
                await trio.to_thread.run_sync(write)
                late = time.monotonic() - due
                if late > _USUAL:
                    self._beats.append(Beat(due + late, late))

    def _history(self, begin: float, end: float) -> History:
        found: dict[str, list[Any]] = {}
        for racer in self._racers.values():
            for kind, *fields in racer.records():
                found.setdefault(kind, []).append(fields)

        def records(kind: Any) -> list[Any]:
            return [kind(*fields) for fields in found.get(kind.__name__, [])]

        return History(
            duration=self._row.duration,
            begin=begin,
            end=end,
            asked=records(history.Asked),
            refused=records(history.Refused),
            granted=records(history.Granted),
            gave_back=records(history.GaveBack),
            worked=records(history.Worked),
            written=self._resource.written,
            faults=self._faults,
            beats=self._beats,
        )


def _python_path() -> list[str]:
    """Return what we were told to look at first: a copy of the package, say."""
    found = os.environ.get("PYTHONPATH")
    return [found] if found else []
