"""The client: which endpoint is asked, as whom, on which connection, and what to do if it fails."""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

import trio

from ._connection import Connection, Endpoint, connect, endpoint_of, until
from ._errors import EtcdRefused, EtcdUnavailable, Failed, LeaseLost, is_about_token
from ._watch import Watch
from ._wire import KeyValue, TxnResult, kvs_of, parsed, range_of, result_of, txn_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

T = TypeVar("T")

_KEPT = 8  # connections without work, for each endpoint


@asynccontextmanager
async def open_etcd(
    endpoints: Sequence[str],
    *,
    user: str = "",
    password: str = "",
    ssl_context: ssl.SSLContext | None = None,
    timeout: float = 2.0,  # noqa: ASYNC109 - of one endpoint, and there may be several
) -> AsyncGenerator[Client]:
    """Yield a client; close its connections at the end. It connects at the first call.

    Args:
        endpoints: the members, as ``http://`` or ``https://`` URLs; the first is asked first.
        user: who we are, if etcd wants to know.
        password: the user's.
        ssl_context: for ``https``; by default one that trusts whom the system trusts.
        timeout: seconds that one endpoint has for one call.

    Raises:
        ValueError: an endpoint is none, or there is none.
    """
    found = [endpoint_of(url) for url in endpoints]
    if not found:
        raise ValueError("etcd has no endpoints: name one at least")
    if ssl_context is None and any(one.is_secure for one in found):
        ssl_context = ssl.create_default_context()
    client = Client(found, (user, password), ssl_context, timeout)
    try:
        yield client
    finally:
        await client.aclose()


@final
class Client:
    """A client, made by `open_etcd`. Any number of tasks can use it at the same time.

    Every method raises `EtcdUnavailable` and `EtcdRefused`, and is a checkpoint.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        login: tuple[str, str],
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._endpoints = deque(endpoints)  # the first is the one in use
        self._user, self._password = login
        self._ssl_context = ssl_context
        self._timeout = timeout
        self._token = ""
        self._kept: list[Connection] = []
        self._is_closed = False

    async def read(self, key: bytes, *, prefix: bool = False, limit: int = 0) -> list[KeyValue]:
        """Return a key; all that begin so, if `prefix`. It was so after the call began.

        Args:
            key: which.
            prefix: whether it is the beginning of many.
            limit: so many of them at most; 0 for all.
        """
        body = {**range_of(key, prefix=prefix), "limit": str(limit)}
        return kvs_of(await self.call("/v3/kv/range", body, repeatable=True))

    async def txn(
        self,
        compares: Sequence[Mapping[str, Any]],
        then: Sequence[Mapping[str, Any]],
        otherwise: Sequence[Mapping[str, Any]] = (),
    ) -> TxnResult:
        """Do `then` if all `compares` hold, `otherwise` if not, at once.

        They are made with `absent`, `present`, `unchanged`; `put`, `delete`, `read`, `nested`.
        """
        return result_of(await self.call("/v3/kv/txn", txn_of(compares, then, otherwise)))

    async def grant(self, ttl: int) -> int:
        """Return a new lease, of `ttl` seconds or more; keys can be attached to it."""
        # Who asks twice has two of which one lapses: nothing is attached to it.
        granted = await self.call("/v3/lease/grant", {"TTL": str(ttl)}, repeatable=True)
        return int(granted["ID"])

    async def keep_alive(self, lease: int) -> int:
        """Let the lease begin anew; return its seconds.

        Raises:
            LeaseLost: it was over.
        """
        answer = await self.call("/v3/lease/keepalive", {"ID": str(lease)}, repeatable=True)
        ttl = int(answer.get("result", {}).get("TTL", 0))
        if ttl <= 0:
            raise LeaseLost(f"etcd's lease {lease} is over; get another")
        return ttl

    async def revoke(self, lease: int) -> None:
        """End the lease, and delete the keys attached to it. Nothing if it is over."""
        try:
            await self.call("/v3/lease/revoke", {"ID": str(lease)}, repeatable=True)
        except EtcdRefused as refused:
            if "lease not found" not in refused.message:
                raise

    @asynccontextmanager
    async def watch(
        self, key: bytes, *, prefix: bool = False, since: int = 0
    ) -> AsyncGenerator[Watch]:
        """Yield what tells the events of a key, or of all that begin so, as it happens.

        Args:
            key: what to watch.
            prefix: watch all keys that begin so.
            since: from which revision on; from now on, if 0. Who has read something watches from
                the revision after it.

        Raises:
            Compacted: etcd has forgotten what was since then; also later.
        """
        wanted = {**range_of(key, prefix=prefix), "start_revision": str(since)}
        watch = await self._somewhere(partial(self._begin_watch, wanted), repeatable=True)
        try:
            yield watch
        finally:
            await watch.aclose()

    async def call(
        self, path: str, body: Mapping[str, Any], *, repeatable: bool = False
    ) -> dict[str, Any]:
        """Call a method of the API; return the JSON of its answer.

        Args:
            path: like ``/v3/kv/range``.
            body: its request, as etcd's documentation has it.
            repeatable: whether it does no harm twice, so that another endpoint can be asked when
                it is not known what one did.
        """
        return await self._somewhere(partial(self._ask, path, body), repeatable=repeatable)

    async def aclose(self) -> None:
        """Close it; `open_etcd` calls it. Calls under way are not waited for."""
        self._is_closed = True
        await self._drop(self._kept)

    def __repr__(self) -> str:
        urls = ", ".join(endpoint.url for endpoint in self._endpoints)
        return f"<etcd Client of {urls}{' closed' if self._is_closed else ''}>"

    # -- endpoints --------------------------------------------------------------------------------

    async def _somewhere(
        self, attempt: Callable[[Endpoint, str], Awaitable[T]], *, repeatable: bool
    ) -> T:
        """Make an attempt at one endpoint after another, until one of them does it."""
        failures: list[str] = []
        for endpoint in tuple(self._endpoints):
            try:
                return await self._authenticated(attempt, endpoint)
            except Failed as failed:
                failures.append(f"{endpoint.url}: {failed}")
                await self._leave(endpoint)
                if failed.was_sent and not repeatable:
                    break
        raise EtcdUnavailable(
            f"etcd could not do it: {'; '.join(failures)}. "
            "Check that the endpoints are right, and that most of its members run"
        )

    async def _leave(self, endpoint: Endpoint) -> None:
        """Ask another first from now on, unless that is so already."""
        if self._endpoints[0] == endpoint:
            self._endpoints.rotate(-1)
        stale = [one for one in self._kept if one.endpoint == endpoint]
        self._kept = [one for one in self._kept if one.endpoint != endpoint]
        await self._drop(stale)

    async def _authenticated(
        self, attempt: Callable[[Endpoint, str], Awaitable[T]], endpoint: Endpoint
    ) -> T:
        token = self._token
        if self._user and not token:
            token = await self._authenticate(endpoint)
        try:
            return await attempt(endpoint, token)
        except EtcdRefused as refused:
            if not self._user or not is_about_token(refused):
                raise
        return await attempt(endpoint, await self._authenticate(endpoint))

    async def _authenticate(self, endpoint: Endpoint) -> str:
        login = {"name": self._user, "password": self._password}
        try:
            answer = await self._ask("/v3/auth/authenticate", login, endpoint, "")
        except Failed as failed:
            raise Failed(str(failed), was_sent=False) from None  # the call itself was not
        self._token = str(answer["token"])
        return self._token

    # -- connections ------------------------------------------------------------------------------

    async def _ask(
        self, path: str, body: Mapping[str, Any], endpoint: Endpoint, token: str
    ) -> dict[str, Any]:
        end = trio.current_time() + self._timeout
        connection = await self._connected(endpoint, end)
        try:
            with until(end, was_sent=True):
                await connection.send(path, body, token)
                answer = bytearray()
                while data := await connection.receive():
                    answer += data
        except BaseException:
            await connection.aclose()
            raise
        await self._keep(connection)
        return parsed(endpoint.url, answer, connection.status)

    async def _begin_watch(
        self, wanted: Mapping[str, Any], endpoint: Endpoint, token: str
    ) -> Watch:
        end = trio.current_time() + self._timeout
        connection = await self._connected(endpoint, end)
        try:
            with until(end, was_sent=True):
                await connection.send("/v3/watch", {"create_request": wanted}, token)
                watch = Watch(connection)
                await watch.wait_created()
        except BaseException:
            await connection.aclose()
            raise
        return watch

    async def _connected(self, endpoint: Endpoint, end: float) -> Connection:
        """Return a connection that has nothing to do."""
        if self._is_closed:
            raise trio.ClosedResourceError("this client of etcd was closed")
        for kept in self._kept:
            if kept.endpoint == endpoint:
                self._kept.remove(kept)
                if kept.is_usable:
                    return kept
                await kept.aclose()
                break
        with until(end, was_sent=False):
            return await connect(endpoint, self._ssl_context)

    async def _keep(self, connection: Connection) -> None:
        alike = [one for one in self._kept if one.endpoint == connection.endpoint]
        if self._is_closed or len(alike) >= _KEPT:
            await connection.aclose()
        else:
            self._kept.append(connection)

    async def _drop(self, connections: list[Connection]) -> None:
        while connections:
            await connections.pop().aclose()
