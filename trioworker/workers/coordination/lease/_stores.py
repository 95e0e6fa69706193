"""Stores as workers, and their manifolds.

A store of its own needs no life; what others depend on does. `StoreWorker` gives it one: it opens
the store, keeps it open until it is killed, and lets calls through as long as it lives.

**Nobody waits for a call that was given up.** A server behind a broken link does not even hear that
a call is called off, and a disk that hangs does not either; some seconds may pass until the store
lets go. A holder whose renewal is under way does not have them: it must be out of there when its
term ends. So a call is a task of the store's worker. Who is cancelled goes on at once, and the
call, cancelled as well, ends when it can; it may still have happened. The store is closed after it.
"""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar, final
from weakref import WeakKeyDictionary

import trio
from outcome import Error, Outcome, Value

from trioworker import Getter, LifetimeError, Manifold, Tomb, TombReport

from ._config import EtcdConfig, PostgresConfig, SqliteConfig
from ._memory import MemoryStore
from ._model import Info, Key, Request
from ._store import Store

T = TypeVar("T")


@final
class StoreReport(NamedTuple):
    """How a store stands."""

    tomb: TombReport
    """The life of its worker."""
    store: str
    """What it is."""
    calls: int
    """How many calls are under way."""


@final
class StoreWorker:
    """A store with a life: a `Store` while it runs, refuses with `Dying` afterwards.

    Args:
        open_: opens the store.
        name: what to call it in messages.
    """

    def __init__(
        self,
        open_: Callable[[], AbstractAsyncContextManager[Store]],
        *,
        name: str = "lease store",
    ) -> None:
        self.name = name
        self._open = open_
        self._store: Store | None = None
        self._nursery: trio.Nursery | None = None  # of the calls
        self._calls = 0
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Open it, be ready, and live until killed."""
        with self._tomb:
            async with self._open() as self._store, trio.open_nursery() as self._nursery:
                task_status.started(self)
                await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop: cancel what is under way."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """See `Store.leases`."""
        return await self._call(lambda store: store.leases(now, key))

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        return await self._call(lambda store: store.claim(key, request, now))

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        return await self._call(lambda store: store.extend(key, request, now))

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """See `Store.revoke`."""
        await self._call(lambda store: store.revoke(key, holder, now))

    async def pin(self, key: Key, entity: str, now: float) -> None:
        """See `Store.pin`."""
        await self._call(lambda store: store.pin(key, entity, now))

    async def unpin(self, key: Key, entity: str, now: float) -> None:
        """See `Store.unpin`."""
        await self._call(lambda store: store.unpin(key, entity, now))

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:
        """See `Store.pinned`."""
        return await self._call(lambda store: store.pinned(now))

    async def expire(self, now: float) -> int:
        """See `Store.expire`."""
        return await self._call(lambda store: store.expire(now))

    def report(self) -> StoreReport:
        """Return how it stands."""
        return StoreReport(self._tomb.report(), repr(self._store), self._calls)

    def __repr__(self) -> str:
        return f"<StoreWorker {self.name!r} {self._tomb.state} of {self._store!r}>"

    async def _call(self, call: Callable[[Store], Awaitable[T]]) -> T:
        with self._tomb.while_alive():
            if self._store is None or self._nursery is None:
                raise LifetimeError(f'"{self.name}" is not open yet; wait for started()')
            scope, done, results = trio.CancelScope(), trio.Event(), list[Outcome[T]]()
            self._nursery.start_soon(self._work, partial(call, self._store), scope, results, done)
            try:
                await done.wait()
            finally:
                scope.cancel()  # of no use to anybody any more, unless it is done
            return results[0].unwrap()

    async def _work(
        self,
        call: Callable[[], Awaitable[T]],
        scope: trio.CancelScope,
        results: list[Outcome[T]],
        done: trio.Event,
    ) -> None:
        self._calls += 1
        try:
            with scope:
                results.append(Value(await call()))
        except Exception as error:  # noqa: BLE001 - the caller's to hear
            results.append(Error(error))
        finally:
            self._calls -= 1
        if results:
            done.set()


@final
class _StoreFace:
    """All that others may do with a store, and no more."""

    def __init__(self, store: Store) -> None:
        self.leases = store.leases
        self.claim = store.claim
        self.extend = store.extend
        self.revoke = store.revoke
        self.pin = store.pin
        self.unpin = store.unpin
        self.pinned = store.pinned
        self.expire = store.expire


def store_manifold(open_: Callable[[], AbstractAsyncContextManager[Store]]) -> Manifold:
    """Return the manifold of a store that ``open_()`` opens, at each start. It offers `Store`."""

    def build(get: Getter) -> StoreWorker:  # noqa: ARG001 - it needs nothing
        return StoreWorker(open_)

    return Manifold.from_worker(build, outputs={Store: _StoreFace})


def memory_store() -> Manifold:
    """Return the manifold of a store in memory. It offers `Store`.

    What is in it belongs to the manifold, in one engine: it is still there after a restart.
    """
    stores: WeakKeyDictionary[object, MemoryStore] = WeakKeyDictionary()

    def build(get: Getter) -> StoreWorker:  # noqa: ARG001 - it needs nothing
        # All runs of an engine, and those of no other, are tasks of one nursery.
        task = trio.lowlevel.current_task()
        store = stores.setdefault(task.parent_nursery or task, MemoryStore())
        return StoreWorker(lambda: _as_it_is(store))

    return Manifold.from_worker(build, outputs={Store: _StoreFace})


@asynccontextmanager
async def _as_it_is(store: Store) -> AsyncGenerator[Store]:
    yield store


def sqlite_store(config: SqliteConfig) -> Manifold:
    """Return the manifold of a store in a SQLite file. It offers `Store`.

    Raises:
        ImportError: the extra ``sqlite`` is not installed.
    """
    from ._sqlite import open_sqlite_store as open_  # noqa: PLC0415 - needs the extra

    return store_manifold(lambda: open_(config.path, busy_timeout=config.busy_timeout))


def open_sqlite_store(
    path: str | os.PathLike[str], *, busy_timeout: float = 1.0
) -> AbstractAsyncContextManager[Store]:
    """Open a store in a SQLite file, which is made if it is not there; close it at the end.

    Args:
        path: where the database is; it may have other tables.
        busy_timeout: seconds to wait while another process writes, before `Busy`.

    Raises:
        ImportError: the extra ``sqlite`` is not installed.
    """
    from ._sqlite import open_sqlite_store as open_  # noqa: PLC0415 - needs the extra

    return open_(path, busy_timeout=busy_timeout)


def etcd_store(config: EtcdConfig) -> Manifold:
    """Return the manifold of a store in etcd. It offers `Store`.

    Raises:
        ImportError: the extra ``etcd`` is not installed.
    """
    from ._etcd import open_etcd_store as open_  # noqa: PLC0415 - needs the extra

    return store_manifold(lambda: open_(config))


def open_etcd_store(config: EtcdConfig) -> AbstractAsyncContextManager[Store]:
    """Open a store in etcd; close it at the end. It is an error if etcd cannot be reached.

    Raises:
        ImportError: the extra ``etcd`` is not installed.
    """
    from ._etcd import open_etcd_store as open_  # noqa: PLC0415 - needs the extra

    return open_(config)


def postgres_store(config: PostgresConfig) -> Manifold:
    """Return the manifold of a store in PostgreSQL. It offers `Store`.

    Raises:
        ImportError: the extra ``postgres`` is not installed.
    """
    from ._postgres import open_postgres_store as open_  # noqa: PLC0415 - needs the extra

    return store_manifold(lambda: open_(config))


def open_postgres_store(config: PostgresConfig) -> AbstractAsyncContextManager[Store]:
    """Open a store in PostgreSQL, which is made if it is not there; close it at the end.

    It is an error if the server cannot be reached, or if what is there is no store.

    Raises:
        ImportError: the extra ``postgres`` is not installed.
    """
    from ._postgres import open_postgres_store as open_  # noqa: PLC0415 - needs the extra

    return open_(config)
