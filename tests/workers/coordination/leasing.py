"""A store of leases played by a script, and a world's clock that a `MockClock` moves."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar, final

import trio

from trioworker import Manifold
from trioworker.workers.coordination import lease
from trioworker.workers.coordination.lease import Grant, Info, Key, MemoryStore, Request, Store

T = TypeVar("T")

BEGAN = 1_700_000_000.0


def world() -> float:
    """The world's time, as `trio.current_time` goes."""
    return BEGAN + trio.current_time()


@final
class ScriptedStore:
    """A `MemoryStore` that tells what was asked, and does in place of it what the script says."""

    def __init__(self, hangs: Collection[str] = ()) -> None:
        self.hangs = hangs  # methods of which every call hangs
        self.real = MemoryStore()
        self.calls: list[tuple[str, *tuple[object, ...]]] = []
        # By method, what the next calls do: raise, or hang, or (None) as usual.
        self.script: dict[str, list[BaseException | type[BaseException] | str | None]] = (
            defaultdict(list)
        )

    def names(self) -> list[str]:
        """Which methods were called."""
        return [name for name, *_ in self.calls]

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        name = "look" if key is None else "read"
        return await self._play(name, lambda: self.real.leases(now, key), key)

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        return await self._play("claim", lambda: self.real.claim(key, request, now), key, request)

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        return await self._play("extend", lambda: self.real.extend(key, request, now), key, request)

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        await self._play("revoke", lambda: self.real.revoke(key, holder, now), key, holder)

    async def pin(self, key: Key, entity: str, now: float) -> None:
        await self._play("pin", lambda: self.real.pin(key, entity, now), key, entity)

    async def unpin(self, key: Key, entity: str, now: float) -> None:
        await self._play("unpin", lambda: self.real.unpin(key, entity, now), key, entity)

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:
        return await self._play("pinned", lambda: self.real.pinned(now))

    async def expire(self, now: float) -> int:
        return await self._play("expire", lambda: self.real.expire(now), now)

    async def _play(self, name: str, call: Callable[[], Awaitable[T]], *args: object) -> T:
        self.calls.append((name, *args))
        todo = self.script[name].pop(0) if self.script[name] else None
        if name == "look" and "look" in self.names()[:-1]:
            name = "look again"
        if todo == "hang" or name in self.hangs:
            await trio.sleep_forever()
        if todo == "hang on":  # even when cancelled, for 100 seconds
            with trio.CancelScope(shield=True):
                await trio.sleep(100)
        if isinstance(todo, (BaseException, type)):
            raise todo
        return await call()


@final
class FakeClaimer:
    """Claims are answered by the script: an error, "hang", seconds to take, or (None) at once."""

    def __init__(self, *claims: Exception | str | float | None) -> None:
        self.claims = list(claims)
        self.waits: list[Exception] = []
        self.calls: list[tuple[object, ...]] = []
        self.token = 1
        self.free = trio.Event()

    async def claim(self, name: str, holder: str, duration: float) -> Grant:
        self.calls.append((trio.current_time(), "claim", name, holder, duration))
        sent = trio.current_time()
        await trio.lowlevel.checkpoint()
        answer = self.claims.pop(0) if self.claims else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            await trio.sleep_forever()
        elif answer is not None:
            await trio.sleep(answer)
        return Grant(self.token, sent + duration)

    async def wait_until_expired(self, name: str) -> None:
        self.calls.append((trio.current_time(), "wait", name))
        await trio.lowlevel.checkpoint()
        if self.waits:
            raise self.waits.pop(0)
        await self.free.wait()
        self.free = trio.Event()


@asynccontextmanager
async def open_scripted(store: Store) -> AsyncGenerator[Store]:
    """What a `StoreWorker` opens."""
    yield store


def leases_in_memory() -> Manifold:
    """For an agent file: a manager whose clock is a mock one."""
    return lease.manifold(clock=world)
