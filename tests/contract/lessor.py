"""Time, played to etcd: it measures terms itself, and the contract of stores passes time in."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast, final

from trioworker.backends.etcd import Client, open_etcd
from trioworker.workers.coordination.lease import Store
from trioworker.workers.coordination.lease._etcd import EtcdStore


@final
class Lessor:
    """A client of etcd, for which the time of the stores is that of etcd's leases.

    They are granted for much longer than was asked for, and revoked when it is time. That is what
    etcd does itself when a lease is over, but for who asks for it.
    """

    leases: ClassVar[dict[Path, list[tuple[float, int]]]] = {}
    """By path, when each is over."""

    def __init__(self, client: Client, path: Path) -> None:
        self._client = client
        self._leases = self.leases.setdefault(path, [])
        self._now = 0.0
        self.read = client.read
        self.txn = client.txn

    async def grant(self, ttl: int) -> int:
        lease = await self._client.grant(1000 * ttl)
        self._leases.append((self._now + ttl, lease))
        return lease

    def timed(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return `method`, which is called at the `now` that it is given."""

        async def called(*args: Any) -> Any:
            self._now = max(self._now, inspect.signature(method).bind(*args).arguments["now"])
            over = [one for one in self._leases if one[0] <= self._now]
            for one in over:
                self._leases.remove(one)
                await self._client.revoke(one[1])
            return await method(*args)

        return called


@asynccontextmanager
async def open_etcd_playing(url: str, path: Path) -> AsyncGenerator[Store]:
    """Open a store in etcd, for which time goes as the test has it."""
    async with open_etcd([url], timeout=60) as client:
        lessor = Lessor(client, path)
        store: Any = EtcdStore(cast("Client", lessor), f"{path}/")
        methods = [name for name in vars(Store) if not name.startswith("_")]
        face = SimpleNamespace(**{name: lessor.timed(getattr(store, name)) for name in methods})
        yield cast("Store", face)
