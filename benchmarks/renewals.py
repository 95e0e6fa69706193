"""Does one manager renew all leases in time, and with how much of a core?

n holders, each a task of its own, renew theirs in the middle of its term, as a `singular` does;
against holders that tell the store directly. A lease has lapsed if its grant came after the end of
the one before, or had another token.

**Scaled.** What is promised is about 10 000 leases of 60 s for three minutes. In a run with the
others it is 500 leases of 3 s for 3 s: as many renewals a second, in a store that is twenty times
smaller. The promise itself is looked after by ``python -m benchmarks.renewals``, for each store
once, and takes three minutes each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import trio

from trioworker.workers.coordination.lease import Manager, Request

from ._method import Bar, Question
from ._trio import in_trio
from .leases import Open, each, key, memory, sqlite

LEASES, TERM, SECONDS = 500, 3.0, 3.0
THE_LEASES, THE_TERM, THE_SECONDS = 10_000, 60.0, 180.0

Renew = Callable[[str, float], Awaitable[tuple[int, float]]]
"""``renew(name, term) -> (token, end)``; the end is in Trio's time."""


async def floor(n: int, open_: Open) -> Mapping[str, float]:
    """Tell the store."""
    async with open_() as store:

        async def renew(name: str, term: float) -> tuple[int, float]:
            sent = trio.current_time()
            info = await store.extend(key(name), Request("me", term), time.time())
            return info.token, sent + term

        names = [f"lease-{i}" for i in range(n)]
        request = Request("me", TERM)
        await each(names, lambda name: store.claim(key(name), request, time.time()))
        return await renewed(names, renew, TERM, SECONDS)


async def ours(
    n: int, open_: Open, *, term: float = 0.0, seconds: float = 0.0
) -> Mapping[str, float]:
    """Ask a manager."""
    async with open_() as store, trio.open_nursery() as nursery:
        manager = Manager(store)
        await nursery.start(manager.run)
        claimer = manager.claimer("singular")

        async def renew(name: str, term: float) -> tuple[int, float]:
            grant = await claimer.claim(name, "me", term)
            return grant.token, grant.until

        term, seconds = term or TERM, seconds or SECONDS
        names = [f"lease-{i}" for i in range(n)]
        await each(names, lambda name: renew(name, term))
        costs = await renewed(names, renew, term, seconds)
        manager.kill()
    return costs


async def renewed(names: list[str], renew: Renew, term: float, seconds: float) -> dict[str, float]:
    """Renew all for so long; return how much of a core that took, and how many lapsed, in %."""
    lapsed: set[str] = set()

    async def hold(name: str, pause: float) -> None:
        token, end = await renew(name, term)
        await trio.sleep(pause)  # or all would come at one moment
        while True:
            renewed_token, renewed_end = await renew(name, term)
            if renewed_token != token or renewed_end - term > end:
                lapsed.add(name)
            token, end = renewed_token, renewed_end
            await trio.sleep(term / 2)

    async with trio.open_nursery() as nursery:
        for i, name in enumerate(names):
            nursery.start_soon(hold, name, term / 2 * i / len(names))
        await trio.sleep(term / 2)
        began, busy = time.perf_counter(), time.process_time()
        await trio.sleep(seconds)
        part = (time.process_time() - busy) / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
    return {"of a core": 100 * part, "lapsed": 100 * len(lapsed) / len(names)}


QUESTIONS = [
    Question(
        name=f"renewals, {open_.__name__}",
        ours=in_trio(ours, open_),
        floor=in_trio(floor, open_),
        sizes=(LEASES,),
        bars={"of a core": Bar(limit=50.0, of="ours"), "lapsed": Bar(limit=0.0, of="ours")},
        unit="%",
        against="the store, told directly",
    )
    for open_ in (memory, sqlite)
]


def main(leases: int = THE_LEASES, term: float = THE_TERM, seconds: float = THE_SECONDS) -> int:
    """Look after the promise itself; 1 if it is not kept."""
    missed = 0
    for open_ in (memory, sqlite):
        trial = partial(ours, term=term, seconds=seconds)
        found = trio.run(trial, leases, open_)
        kept = found["of a core"] <= 50 and not found["lapsed"]
        missed += not kept
        print(
            f"{'PASS' if kept else 'FAIL'}  {open_.__name__}: {leases} leases of {term:g} s "
            f"for {seconds:g} s: {found['lapsed']:g} % lapsed, "
            f"{found['of a core']:.1f} % of one core",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
