"""One connection to one member, and one call on it at a time."""

from __future__ import annotations

import json
import selectors
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit

import attrs
import trio

try:
    import h11
except ImportError as _missing:
    raise ImportError(
        'trioworker.backends.etcd needs h11: pip install "trioworker[etcd]"'
    ) from _missing

from ._errors import Failed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Mapping

_READ = 65_536


@final
@attrs.frozen
class Endpoint:
    """Where a member is."""

    url: str
    host: str
    port: int
    is_secure: bool


def endpoint_of(url: str) -> Endpoint:
    way_out = 'write it like "http://127.0.0.1:2379" or "https://etcd.example.net:2379"'
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no endpoint of etcd: {error}; {way_out}") from None
    is_plain = parts.path in {"", "/"} and not (parts.query or parts.fragment or parts.username)
    if parts.scheme not in {"http", "https"} or not host or not is_plain:
        raise ValueError(f"{url!r} is no endpoint of etcd; {way_out}")
    return Endpoint(url.rstrip("/"), host, 2379 if port is None else port, parts.scheme == "https")


@final
class Connection:
    """One connection, and one call on it at a time."""

    def __init__(self, endpoint: Endpoint, stream: trio.abc.Stream, sock: int) -> None:
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


async def connect(endpoint: Endpoint, ssl_context: ssl.SSLContext | None) -> Connection:
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
    return Connection(endpoint, stream, plain.socket.fileno())


@contextmanager
def until(end: float, *, was_sent: bool) -> Generator[None]:
    """Fail at `end`, and by whatever happens to connections."""
    try:
        with trio.fail_at(end):
            yield
    except trio.TooSlowError:
        raise Failed("no answer in time", was_sent=was_sent) from None
    except h11.RemoteProtocolError as error:
        raise Failed(f"it does not speak HTTP: {error}", was_sent=was_sent) from error
    except (OSError, trio.BrokenResourceError) as error:
        raise Failed(_why(error), was_sent=was_sent) from error


def _why(error: BaseException) -> str:
    """Return what is behind an error of a connection."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_why(one) for one in error.exceptions)
    return str(error) or type(error).__name__
