"""The program that races: claims a lease, works while it has it, and records what it did.

``python -m tests.integration.leases.claimant STORE WHERE PORT FILE NAME KIND``; it goes on until it
is killed. `PORT` is the resource's. What it records is appended to `FILE`, a line at a time, each
in one call of the system: who is killed with -9 leaves whole lines.

The store, the manager and the janitor are what any agent has, and stand in an engine. Between store
and manager, and between manager and claimants, stands one who writes down what passes. There are
two kinds of claimant: ``flag`` is a `singular` and a job that depends on it; ``faces`` is a loop
that claims, renews, checks and sometimes gives back through the faces of the manager.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, final

import trio

from trioworker import Engine, EngineConfig, Getter, Manifold, Missing, RestartPolicy, open_worker
from trioworker.patterns import Flag
from trioworker.workers.coordination import lease, leaseexpiry, singular
from trioworker.workers.coordination.lease import (
    ClaimDenied,
    Claimer,
    Grant,
    Held,
    Info,
    Invalid,
    Key,
    Leases,
    NotHeld,
    Request,
    Store,
)
from trioworker.workers.coordination.singular import Term

from .history import TICK, Asked, GaveBack, Granted, Refused, Worked
from .resource import Client
from .stores import STORES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LEASE = "the-one"
MARGIN = 0.1
"""The part of a term before whose end `singular` says that it is no longer true."""


@final
class Log:
    """What is recorded, in a file of our own."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, record: Any) -> None:
        """Append a record, at once."""
        line = json.dumps([type(record).__name__, *record])
        os.write(self._file, f"{line}\n".encode())


def offset() -> float:
    """Return what to add to Trio's time; not measured while we were stopped."""
    while True:
        before, trios, after = time.monotonic(), trio.current_time(), time.monotonic()
        if after - before < 1e-4:
            return before - trios


@final
class Ready(NamedTuple):
    """It runs."""

    pid: int


@final
class RecordedStore:
    """A store, and a record of what is claimed and extended there."""

    def __init__(self, store: Store, log: Log, holder: str) -> None:
        self._store = store
        self._log = log
        self._holder = holder
        self._numbers = itertools.count()
        self.leases = store.leases
        self.revoke = store.revoke
        self.pin = store.pin
        self.unpin = store.unpin
        self.pinned = store.pinned
        self.expire = store.expire

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        number = self._asked()
        try:
            return await self._store.claim(key, request, now)
        except (Held, Invalid):
            self._log.write(Refused(number))
            raise

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        number = self._asked()
        try:
            return await self._store.extend(key, request, now)
        except (Held, Invalid):
            self._log.write(Refused(number))
            raise

    def _asked(self) -> str:
        number = f"{os.getpid()}-{next(self._numbers)}"
        self._log.write(Asked(self._holder, number, time.monotonic()))
        return number


@final
class RecordedClaimer:
    """A claimer, and a record of what it was granted."""

    def __init__(self, claimer: Claimer, log: Log) -> None:
        self._claimer = claimer
        self._log = log
        self._offset = offset()
        self.wait_until_expired = claimer.wait_until_expired

    async def claim(self, name: str, holder: str, duration: float) -> Grant:
        """See `Claimer.claim`."""
        grant = await self._claimer.claim(name, holder, duration)
        until = grant.until + self._offset
        self._log.write(Granted(holder, time.monotonic(), grant.token, until))
        return grant


@final
class RecordedLeases:
    """Leases, whose claimers are recorded."""

    def __init__(self, leases: Leases, log: Log) -> None:
        self._leases = leases
        self._log = log
        self.checker = leases.checker
        self.revoker = leases.revoker
        self.pinner = leases.pinner
        self.reader = leases.reader

    def claimer(self, namespace: str, model: str = "") -> Claimer:
        """See `Leases.claimer`."""
        return RecordedClaimer(self._leases.claimer(namespace, model), self._log)


@final
class Claimant:
    """One who wants the lease.

    Args:
        name: the holder.
        duration: of its terms.
        port: the resource's.
        log: what it did.
    """

    def __init__(self, name: str, duration: float, port: int, log: Log) -> None:
        self._name = name
        self._duration = duration
        self._port = port
        self._log = log
        self._chance = Random(name)

    async def work(self, token: int, margin: float) -> None:
        """Work as the holder, until cancelled: record it, and write to the resource."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            client = Client(stream, self._name)
            try:
                while True:
                    due = time.monotonic() + TICK
                    await trio.sleep(TICK)
                    self._log.write(Worked(self._name, time.monotonic(), due, token, margin))
                    await client.write(token)
            finally:  # a write that is on its way looks at no clock
                await client.write(token)

    async def job(self, get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        """Work while the flag says that it is ours to do."""
        if not get("flag", Flag).check():
            raise Missing("another does it")
        token = get("flag", Term).token
        assert token is not None
        task_status.started()
        await self.work(token, MARGIN * self._duration)

    async def loop(self, get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        """Claim, hold for some terms, give back or not, and again."""
        leases = get("recorded", Leases)
        claimer = leases.claimer("singular")
        task_status.started()
        while True:
            try:
                grant = await claimer.claim(LEASE, self._name, self._duration)
            except ClaimDenied:
                await claimer.wait_until_expired(LEASE)
                # A flag has to be started anew, and shall get it as often.
                await trio.sleep(self._chance.uniform(0, 0.1))
            else:
                await self._hold(leases, claimer, grant)

    async def _hold(self, leases: Leases, claimer: Claimer, grant: Grant) -> None:
        token = grant.token
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.work, token, 0.0)
            for _ in range(self._chance.randrange(2, 12)):
                renewed = await self._renewed(claimer, grant)
                if renewed is None or renewed.token != token:
                    nursery.cancel_scope.cancel()
                    return
                grant = renewed
            nursery.cancel_scope.cancel()
        self._log.write(GaveBack(self._name, time.monotonic(), token))
        try:
            await leases.checker("singular").check(LEASE, self._name)
            await leases.revoker("singular").revoke(LEASE, self._name)
        except NotHeld:
            pass  # the term was over before

    async def _renewed(self, claimer: Claimer, grant: Grant) -> Grant | None:
        with trio.move_on_at(grant.until):
            await trio.sleep_until(grant.until - self._duration / 2)
            try:
                return await claimer.claim(LEASE, self._name, self._duration)
            except ClaimDenied:
                pass
        return None


async def main(*args: str) -> None:
    """Race until killed."""
    store_name, where, port, file, name, kind = args
    row, log = STORES[store_name], Log(file)
    claimant = Claimant(name, row.duration, int(port), log)

    @asynccontextmanager
    async def open_recorded() -> AsyncGenerator[Store]:
        async with row.open_(where) as store:
            yield RecordedStore(store, log, name)

    async def recorded(get: Getter, *, task_status: trio.TaskStatus[Leases]) -> None:
        task_status.started(RecordedLeases(get("leases", Leases), log))
        await trio.sleep_forever()

    parts: dict[str, Manifold] = {
        "store": lease.store_manifold(open_recorded),
        "leases": lease.manifold(),
        "expiry": leaseexpiry.manifold(),
        "recorded": Manifold(recorded, inputs=("leases",)),
    }
    if kind == "flag":
        config = singular.Config(entity=LEASE, claimant=name, duration=row.duration)
        parts |= {
            "flag": singular.manifold(config).bind({"leases": "recorded"}),
            "job": Manifold(claimant.job, inputs=("flag",)),
        }
    else:
        parts |= {"loop": Manifold(claimant.loop, inputs=("recorded",))}
    # What is measured is leases, and not how patient an engine is with what fails again and again.
    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=0.3, max_delay=0.5)))
    async with open_worker(engine):
        for part, manifold in parts.items():
            engine.install(part, manifold)
        log.write(Ready(os.getpid()))
        await engine.wait()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
