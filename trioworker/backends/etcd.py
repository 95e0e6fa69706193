"""A small client of etcd's v3 API: its JSON gateway, over HTTP/1.1 on h11.

It keeps to what etcd 3.4 to 3.7 have in common, as documented; it is tested with 3.4. Every call is
one POST; `Client.call` makes any, and the methods beside it those that most need, with what JSON
hides put right: 64-bit numbers come as strings, bytes in base64, and what has its default value (a
comparison that failed, an event that is a PUT) does not come at all.

**Endpoints.** Calls go to one member until it fails; then to the next, once to each. Each has
`timeout` seconds for a call, from before the connection on. A call that only reads, or that harms
nobody when it is made twice, is repeated at the next endpoint whatever happened. A transaction is
repeated only if the endpoint surely never saw it. Otherwise it may have been done, and its answer
be lost: that is `EtcdUnavailable`, and reading tells.

**Connections.** One for each call under way; those that are done are kept, and used again unless
they have something to say, which would be their end. One for each watch. A call that is cancelled
or fails takes its connection along, so no answer is ever taken for another's.

**Authentication** is by user and password, as the gateway knows no names in certificates. A token
is got before the first call and again when etcd does not take it any more: it says that before it
does anything, so whatever was refused so is asked again.

**Leases.** That a lease is kept alive is answered by whoever believes to lead, without asking the
others: of a cluster whose leader has just changed, maybe by one that leads no more. Where that
matters, grant a new lease and put the key again: that is agreed upon.
"""

from __future__ import annotations

import json
import math
import selectors
import socket
import ssl
from base64 import b64decode, b64encode
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final
from urllib.parse import urlsplit

import attrs
import trio

try:
    import h11
except ImportError as _missing:
    raise ImportError(
        'trioworker.backends.etcd needs h11: pip install "trioworker[etcd]"'
    ) from _missing

from .._errors import TrioworkerError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Generator,
        Mapping,
        Sequence,
    )

__all__ = [
    "Client",
    "Compacted",
    "EtcdError",
    "EtcdRefused",
    "EtcdUnavailable",
    "Event",
    "KeyValue",
    "LeaseLost",
    "TxnResult",
    "Watch",
    "absent",
    "delete",
    "nested",
    "open_etcd",
    "present",
    "put",
    "read",
    "unchanged",
]

T = TypeVar("T")

_READ = 65_536
_KEPT = 8  # connections without work, for each endpoint

_UNAUTHENTICATED = 16
_OLD_TOKEN = "revision of auth store is old"  # noqa: S105 - what etcd says
# gRPC's codes for what passes: cancelled, too slow, unavailable. And one that has two meanings.
_PASSING = {1, 4, 14}
_EXHAUSTED = 8

_LOGIN = "check user and password"
_REFUSALS = {
    "code = InvalidArgument": 3,
    "code = PermissionDenied": 7,
    "code = Unauthenticated": _UNAUTHENTICATED,
}
_WAYS_OUT = {
    7: "give the user a role that may read and write there",
    _EXHAUSTED: "compact and defragment it, or give it more space, and disarm the alarm",
    9: "enable authentication there, or name no user here",
    12: "it must be etcd 3.4 to 3.7, with its gRPC gateway enabled",
    _UNAUTHENTICATED: _LOGIN,
}


class EtcdError(TrioworkerError):
    """Something is wrong with etcd, or on the way there."""


class EtcdUnavailable(EtcdError):
    """No endpoint did it, for now. Of a transaction it is not known whether it was done."""


class EtcdRefused(EtcdError):
    """An endpoint has answered that it will not.

    Attributes:
        code: gRPC's number of the reason.
    """

    def __init__(self, endpoint: str, code: int, message: str) -> None:
        is_login = "authentication failed" in message  # an invalid argument, for etcd
        way_out = _LOGIN if is_login else _WAYS_OUT.get(code, "see etcd's log")
        super().__init__(f"etcd at {endpoint}: {message} (code {code}): {way_out}")
        self.code = code
        self.message = message


class LeaseLost(EtcdError):
    """The lease is over, and all keys that were attached to it are deleted."""


class Compacted(EtcdError):
    """What was to be watched from is forgotten: read again, and watch from there.

    Attributes:
        revision: the earliest that is known.
    """

    def __init__(self, endpoint: str, revision: int) -> None:
        super().__init__(
            f"etcd at {endpoint} has forgotten what was before revision {revision}: read again"
        )
        self.revision = revision


@final
class KeyValue(NamedTuple):
    """A key that is there."""

    key: bytes
    value: bytes
    create_revision: int
    """The revision that made it, after it was last deleted."""
    mod_revision: int
    """The revision that last wrote it."""
    lease: int
    """The lease that it is attached to; 0 if none."""


@final
class Event(NamedTuple):
    """What happened to a key."""

    is_delete: bool
    kv: KeyValue
    """As it is now; of one that was deleted, its key and the revision that did it."""


@final
class TxnResult(NamedTuple):
    """What a transaction did."""

    succeeded: bool
    """Whether all comparisons held."""
    revision: int
    """The store's, after it."""
    results: tuple[list[KeyValue] | int | TxnResult, ...]
    """What each operation gave, in their order: a read what it found, a put 0, a delete how many
    there were, a nested transaction its own result."""


# -- what a transaction is made of -----------------------------------------------------------------


def absent(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Compare: there is no such key; none that begins so, if `prefix`."""
    return {**_compare(key, prefix=prefix), "result": "EQUAL", "create_revision": "0"}


def present(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Compare: there is such a key; one at least that begins so, if `prefix`."""
    # Of a range all keys have to fulfil it; of an empty one, one that was never made.
    return {**_compare(key, prefix=prefix), "result": "GREATER", "create_revision": "0"}


def unchanged(kv: KeyValue) -> dict[str, Any]:
    """Compare: nobody has written or deleted the key since `kv` was read."""
    return {
        "key": _text(kv.key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(kv.mod_revision),
    }


def put(key: bytes, value: bytes, *, lease: int = 0) -> dict[str, Any]:
    """Write a key's value, and attach it to a lease or to none, whatever it was attached to."""
    return {"request_put": {"key": _text(key), "value": _text(value), "lease": str(lease)}}


def delete(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Delete a key; all that begin so, if `prefix`."""
    return {"request_delete_range": _range(key, prefix=prefix)}


def read(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Read a key; all that begin so, if `prefix`."""
    return {"request_range": _range(key, prefix=prefix)}


def nested(
    compares: Sequence[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    otherwise: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Decide once more, within a transaction; as `Client.txn`."""
    return {"request_txn": _txn(compares, then, otherwise)}


def _compare(key: bytes, *, prefix: bool) -> dict[str, Any]:
    return {**_range(key, prefix=prefix), "target": "CREATE"}


def _range(key: bytes, *, prefix: bool) -> dict[str, Any]:
    return {"key": _text(key), **({"range_end": _text(_after(key))} if prefix else {})}


def _txn(
    compares: Sequence[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    otherwise: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {"compare": list(compares), "success": list(then), "failure": list(otherwise)}


# -- the client ------------------------------------------------------------------------------------


@final
@attrs.frozen
class _Endpoint:
    """Where a member is."""

    url: str
    host: str
    port: int
    is_secure: bool


class _Failed(Exception):
    """An endpoint did not do it; if `was_sent`, nobody knows whether it will."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


def _endpoint(url: str) -> _Endpoint:
    way_out = 'write it like "http://127.0.0.1:2379" or "https://etcd.example.net:2379"'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no endpoint of etcd: {error}; {way_out}") from None
    is_plain = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in {"http", "https"} or not host or not is_plain:
        raise ValueError(f"{url!r} is no endpoint of etcd; {way_out}")
    return _Endpoint(url.rstrip("/"), host, 2379 if port is None else port, parts.scheme == "https")


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
    found = [_endpoint(url) for url in endpoints]
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
        endpoints: Sequence[_Endpoint],
        login: tuple[str, str],
        ssl_context: ssl.SSLContext | None,
        timeout: float,
    ) -> None:
        self._endpoints = deque(endpoints)  # the first is the one in use
        self._user, self._password = login
        self._ssl_context = ssl_context
        self._timeout = timeout
        self._token = ""
        self._kept: list[_Connection] = []
        self._is_closed = False

    async def read(self, key: bytes, *, prefix: bool = False, limit: int = 0) -> list[KeyValue]:
        """Return a key; all that begin so, if `prefix`. It was so after the call began.

        Args:
            key: which.
            prefix: whether it is the beginning of many.
            limit: so many of them at most; 0 for all.
        """
        body = {**_range(key, prefix=prefix), "limit": str(limit)}
        return _kvs(await self.call("/v3/kv/range", body, repeatable=True))

    async def txn(
        self,
        compares: Sequence[Mapping[str, Any]],
        then: Sequence[Mapping[str, Any]],
        otherwise: Sequence[Mapping[str, Any]] = (),
    ) -> TxnResult:
        """Do `then` if all `compares` hold, `otherwise` if not, at once.

        They are made with `absent`, `present`, `unchanged`; `put`, `delete`, `read`, `nested`.
        """
        return _txn_result(await self.call("/v3/kv/txn", _txn(compares, then, otherwise)))

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
        wanted = {**_range(key, prefix=prefix), "start_revision": str(since)}
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
        self, attempt: Callable[[_Endpoint, str], Awaitable[T]], *, repeatable: bool
    ) -> T:
        """Make an attempt at one endpoint after another, until one of them does it."""
        failures: list[str] = []
        for endpoint in tuple(self._endpoints):
            try:
                return await self._authenticated(attempt, endpoint)
            except _Failed as failed:
                failures.append(f"{endpoint.url}: {failed}")
                await self._leave(endpoint)
                if failed.was_sent and not repeatable:
                    break
        raise EtcdUnavailable(
            f"etcd could not do it: {'; '.join(failures)}. "
            "Check that the endpoints are right, and that most of its members run"
        )

    async def _leave(self, endpoint: _Endpoint) -> None:
        """Ask another first from now on, unless that is so already."""
        if self._endpoints[0] == endpoint:
            self._endpoints.rotate(-1)
        stale = [one for one in self._kept if one.endpoint == endpoint]
        self._kept = [one for one in self._kept if one.endpoint != endpoint]
        await self._drop(stale)

    async def _authenticated(
        self, attempt: Callable[[_Endpoint, str], Awaitable[T]], endpoint: _Endpoint
    ) -> T:
        token = self._token
        if self._user and not token:
            token = await self._authenticate(endpoint)
        try:
            return await attempt(endpoint, token)
        except EtcdRefused as refused:
            if not self._user or not _is_about_token(refused):
                raise
        return await attempt(endpoint, await self._authenticate(endpoint))

    async def _authenticate(self, endpoint: _Endpoint) -> str:
        login = {"name": self._user, "password": self._password}
        try:
            answer = await self._ask("/v3/auth/authenticate", login, endpoint, "")
        except _Failed as failed:
            raise _Failed(str(failed), was_sent=False) from None  # the call itself was not
        self._token = str(answer["token"])
        return self._token

    # -- connections ------------------------------------------------------------------------------

    async def _ask(
        self, path: str, body: Mapping[str, Any], endpoint: _Endpoint, token: str
    ) -> dict[str, Any]:
        end = trio.current_time() + self._timeout
        connection = await self._connected(endpoint, end)
        try:
            with _until(end, was_sent=True):
                await connection.send(path, body, token)
                answer = bytearray()
                while data := await connection.receive():
                    answer += data
        except BaseException:
            await connection.aclose()
            raise
        await self._keep(connection)
        return _parsed(endpoint.url, answer, connection.status)

    async def _begin_watch(
        self, wanted: Mapping[str, Any], endpoint: _Endpoint, token: str
    ) -> Watch:
        end = trio.current_time() + self._timeout
        connection = await self._connected(endpoint, end)
        try:
            with _until(end, was_sent=True):
                await connection.send("/v3/watch", {"create_request": wanted}, token)
                watch = Watch(connection)
                await watch.wait_created()
        except BaseException:
            await connection.aclose()
            raise
        return watch

    async def _connected(self, endpoint: _Endpoint, end: float) -> _Connection:
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
        with _until(end, was_sent=False):
            return await _connect(endpoint, self._ssl_context)

    async def _keep(self, connection: _Connection) -> None:
        alike = [one for one in self._kept if one.endpoint == connection.endpoint]
        if self._is_closed or len(alike) >= _KEPT:
            await connection.aclose()
        else:
            self._kept.append(connection)

    async def _drop(self, connections: list[_Connection]) -> None:
        while connections:
            await connections.pop().aclose()


@final
class Watch:
    """What happens to keys, as etcd tells it; made by `Client.watch`.

    Iterate over it: each time it gives the events of one or more revisions, all of each. It ends
    only by an error: `Compacted`; `EtcdUnavailable` if the connection is lost or the member has no
    leader any more. Watch again then, from the revision after the last one you have seen.
    """

    def __init__(self, connection: _Connection) -> None:
        self.revision: int = 0
        """The store's, when the watch began."""
        self._url = connection.endpoint.url
        self._connection = connection
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[list[Event]]:
        return self

    async def __anext__(self) -> list[Event]:
        while True:
            try:
                told = await self._next()
            except _Failed as failed:
                raise EtcdUnavailable(f"etcd at {self._url}, watching: {failed}") from None
            if events := told.get("events"):
                return [_event(event) for event in events]

    async def wait_created(self) -> None:
        """Wait for the first answer; `Client.watch` calls it."""
        told = await self._next()
        self.revision = int(told.get("header", {}).get("revision", 0))

    async def aclose(self) -> None:
        """Stop watching; `Client.watch` calls it."""
        await self._connection.aclose()

    async def _next(self) -> dict[str, Any]:
        with _until(math.inf, was_sent=True):
            while b"\n" not in self._rest:
                data = await self._connection.receive()
                if not data:
                    raise _Failed("it has ended", was_sent=True)
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = _parsed(self._url, line, self._connection.status)["result"]
        if told.get("canceled"):
            if "compact_revision" in told:
                raise Compacted(self._url, int(told["compact_revision"]))
            reason = str(told.get("cancel_reason", "the watch was cancelled"))
            for name, code in _REFUSALS.items():  # a watch tells its error only as text
                if name in reason:
                    raise EtcdRefused(self._url, code, reason.partition(" desc = ")[2])
            raise _Failed(reason, was_sent=True)
        return told


@final
class _Connection:
    """One connection, and one call on it at a time."""

    def __init__(self, endpoint: _Endpoint, stream: trio.abc.Stream, sock: int) -> None:
        self.endpoint = endpoint
        self.status: int = 0
        self._stream = stream
        self._socket = sock
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_usable(self) -> bool:
        """Whether another call can be made: the last one is over, and the other side is silent."""
        if self._http.our_state is not h11.IDLE:
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return not selector.select(0)

    async def send(self, path: str, body: Mapping[str, Any], token: str) -> None:
        """Send a call."""
        data = json.dumps(body, separators=(",", ":")).encode()
        headers = [
            ("Host", f"{self.endpoint.host}:{self.endpoint.port}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(data))),
            # Of a member that is cut off from the others, watches end.
            ("Grpc-Metadata-Hasleader", "true"),
        ]
        if token:
            headers.append(("Authorization", token))
        events = (
            h11.Request(method="POST", target=path, headers=headers),
            h11.Data(data=data),
            h11.EndOfMessage(),
        )
        await self._stream.send_all(b"".join([self._http.send(event) or b"" for event in events]))

    async def receive(self) -> bytes:
        """Return more of the answer's body, nothing at its end; then `status` is known too."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(_READ)))
            elif isinstance(event, h11.Response):
                self.status = event.status_code
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self._http.our_state is h11.DONE:
                    self._http.start_next_cycle()
                return b""
            elif isinstance(event, h11.ConnectionClosed):
                raise trio.BrokenResourceError("it hung up")

    async def aclose(self) -> None:
        # Shielded, so that who is cancelled while it closes several closes all of them.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


async def _connect(endpoint: _Endpoint, ssl_context: ssl.SSLContext | None) -> _Connection:
    plain = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream: trio.abc.Stream = plain
    if endpoint.is_secure and ssl_context is not None:
        secure = trio.SSLStream(
            plain, ssl_context, server_hostname=endpoint.host, https_compatible=True
        )
        try:
            await secure.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(plain)
            raise
        stream = secure
    return _Connection(endpoint, stream, plain.socket.fileno())


@contextmanager
def _until(end: float, *, was_sent: bool) -> Generator[None]:
    """Fail at `end`, and by whatever happens to connections."""
    try:
        with trio.fail_at(end):
            yield
    except trio.TooSlowError:
        raise _Failed("no answer in time", was_sent=was_sent) from None
    except h11.RemoteProtocolError as error:
        raise _Failed(f"it does not speak HTTP: {error}", was_sent=was_sent) from error
    except (OSError, trio.BrokenResourceError) as error:
        raise _Failed(_why(error), was_sent=was_sent) from error


def _why(error: BaseException) -> str:
    """Return what is behind an error of a connection."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_why(one) for one in error.exceptions)
    return str(error) or type(error).__name__


def _is_about_token(refused: EtcdRefused) -> bool:
    return refused.code == _UNAUTHENTICATED or _OLD_TOKEN in refused.message


# -- JSON ------------------------------------------------------------------------------------------


def _parsed(url: str, data: bytes | bytearray, status: int) -> dict[str, Any]:
    """Return an answer; raise what it says if that is an error.

    gRPC's number is in ``code``, or within ``error`` if the method streams, as ``grpc_code`` or as
    ``code``; which of them depends on the version.
    """
    try:
        answer: dict[str, Any] = json.loads(data)
        inner = answer.get("error")
    except (ValueError, AttributeError):
        raise EtcdRefused(url, 12, f"an answer with status {status} that is not etcd's") from None
    if status == HTTPStatus.OK and inner is None:
        return answer
    error: dict[str, Any] = inner if isinstance(inner, dict) else answer
    code = int(error.get("grpc_code", error.get("code", 2)))
    message = str(error.get("message") or inner or data[:200])
    if code in _PASSING or (code == _EXHAUSTED and "too many requests" in message):
        raise _Failed(message, was_sent=True)
    raise EtcdRefused(url, code, message)


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def _kv(kv: Mapping[str, Any]) -> KeyValue:
    return KeyValue(
        b64decode(kv.get("key", "")),
        b64decode(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("mod_revision", 0)),
        int(kv.get("lease", 0)),
    )


def _kvs(answer: Mapping[str, Any]) -> list[KeyValue]:
    return [_kv(kv) for kv in answer.get("kvs", ())]


def _event(event: Mapping[str, Any]) -> Event:
    return Event(event.get("type", "PUT") == "DELETE", _kv(event["kv"]))


def _txn_result(answer: Mapping[str, Any]) -> TxnResult:
    revision = int(answer.get("header", {}).get("revision", 0))
    results = tuple(_result(one) for one in answer.get("responses", ()))
    return TxnResult(bool(answer.get("succeeded", False)), revision, results)


def _result(response: Mapping[str, Any]) -> list[KeyValue] | int | TxnResult:
    if "response_txn" in response:
        return _txn_result(response["response_txn"])
    if "response_delete_range" in response:
        return int(response["response_delete_range"].get("deleted", 0))
    if "response_range" in response:
        return _kvs(response["response_range"])
    return 0
