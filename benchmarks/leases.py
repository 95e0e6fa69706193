"""What does it cost to claim and to renew leases through a manager, in each store?

Eight tasks claim n leases, and then renew them, or a thousand of them, each one after the other;
against eight that say the same to the store directly, without looking first and without rules. Here
the time is that of the clock on the wall, because a store on a disk or a server is waited for. A
million divided by a cost is how many a second are possible.

etcd and PostgreSQL are asked if ``LEASES_ETCD`` is the address of one, such as
``http://127.0.0.1:2379``, and if ``LEASES_POSTGRES`` is how to reach the other.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from trioworker.workers.coordination.lease import (
    EtcdConfig,
    Key,
    Manager,
    MemoryStore,
    PostgresConfig,
    Request,
    Store,
    open_etcd_store,
    open_postgres_store,
    open_sqlite_store,
)

from ._method import Question, WallClock
from ._trio import in_trio

TASKS = 8
LEAST = 20
"""So many claims at least are timed, also of fewer leases: revoked, and claimed again."""
MOST = 1000
"""So many renewals at most are timed, also of more leases."""
TERM = 600.0

Open = Callable[[], AbstractAsyncContextManager[Store]]
Deed = Callable[[str], Awaitable[object]]


@asynccontextmanager
async def memory() -> AsyncGenerator[Store]:
    """Open a store in memory."""
    yield MemoryStore()


@asynccontextmanager
async def sqlite() -> AsyncGenerator[Store]:
    """Open a store in a file of a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_sqlite_store(f"{directory}/leases.db") as store:
            yield store


@asynccontextmanager
async def etcd() -> AsyncGenerator[Store]:
    """Open a store under a prefix of its own."""
    prefix = f"/trioworker/benchmarks/{time.time_ns()}/"
    config = EtcdConfig(endpoints=(os.environ["LEASES_ETCD"],), prefix=prefix)
    async with open_etcd_store(config) as store:
        yield store


@asynccontextmanager
async def postgres() -> AsyncGenerator[Store]:
    """Open a store in a schema of its own, which stays."""
    schema = f"benchmarks_{time.time_ns()}"
    config = PostgresConfig(conninfo=os.environ["LEASES_POSTGRES"], schema=schema)
    async with open_postgres_store(config) as store:
        yield store


STORES: dict[str, Open] = {
    "memory": memory,
    "sqlite": sqlite,
    **({"etcd": etcd} if "LEASES_ETCD" in os.environ else {}),
    **({"postgres": postgres} if "LEASES_POSTGRES" in os.environ else {}),
}


async def floor(n: int, open_: Open) -> Mapping[str, float]:
    """Tell the store."""
    async with open_() as store:
        return await claimed_and_renewed(
            n,
            lambda name: store.claim(key(name), Request("me", TERM), time.time()),
            lambda name: store.extend(key(name), Request("me", TERM), time.time()),
            lambda name: store.revoke(key(name), "me", time.time()),
        )


async def ours(n: int, open_: Open) -> Mapping[str, float]:
    """Ask a manager."""
    async with open_() as store, trio.open_nursery() as nursery:
        manager = Manager(store)
        await nursery.start(manager.run)
        claimer, revoker = manager.claimer("singular"), manager.revoker("singular")

        async def claim(name: str) -> None:
            await claimer.claim(name, "me", TERM)

        costs = await claimed_and_renewed(n, claim, claim, lambda name: revoker.revoke(name, "me"))
        manager.kill()
    return costs


def key(name: str) -> Key:
    """Return the key of a lease, as the manager makes it."""
    return Key("singular", "", name)


async def claimed_and_renewed(n: int, claim: Deed, renew: Deed, revoke: Deed) -> dict[str, float]:
    """Return what a claim and a renewal cost."""
    names = [f"lease-{i}" for i in range(n)]
    again = -(-LEAST // n)
    claims = 0.0
    for number in range(again):
        if number:
            await each(names, revoke)
        watch = WallClock(n * again)
        await each(names, claim)
        claims += watch.read()
    renewed = names[:MOST]
    watch = WallClock(len(renewed) * again)
    for _ in range(again):
        await each(renewed, renew)
    return {"claim": claims, "renew": watch.read()}


async def each(names: list[str], deed: Deed) -> None:
    """Do it with each name: so many tasks, who take the next one when they are done with one."""

    async def work() -> None:
        for name in left:
            await deed(name)

    left: Iterator[str] = iter(names)
    async with trio.open_nursery() as nursery:
        for _ in range(min(TASKS, len(names))):
            nursery.start_soon(work)


QUESTIONS = [
    Question(
        name=f"leases, {name}",
        ours=in_trio(ours, open_),
        floor=in_trio(floor, open_),
        sizes=(1, 100, 10_000),
        against="the store, told directly",
    )
    for name, open_ in STORES.items()
]
