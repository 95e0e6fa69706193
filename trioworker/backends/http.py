"""A small HTTP/1.1 server for our own pages: h11 on the listeners that it is given.

One task for each connection. It reads a whole request, hands it to the handler, writes the answer,
and begins again; an answer may also be a stream, which then ends the connection. The handler never
sees what is malformed, too large or too slow, and nothing that a client does can end the server:

- A request that is not all there in time gets a 408, however steadily it drips.
- A head or a body that is too large gets a 431 or 413, without being read to its end.
- A client that stops sending after its request is answered; one that stops in the middle of it
  gets a 400; one that takes nothing of its answer is dropped.
- There is a limit to connections; who comes beyond it gets a 503 and is not read at all. Unix
  sockets and TCP have one each, as anybody on the machine may connect to the latter.

This server knows no TLS and no names: it is for Unix sockets and the loopback interface.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import TypeAlias, final
from urllib.parse import parse_qsl, unquote_to_bytes

import attrs
import trio

try:
    import h11
except ImportError as _missing:
    raise ImportError(
        'trioworker.backends.http needs h11: pip install "trioworker[introspection]"'
    ) from _missing

__all__ = ["Limits", "Request", "Response", "Send", "Server"]

_logger = logging.getLogger("trioworker.http")

UNKNOWN_UID = -1
"""The user at the other end of a Unix socket, where the system does not tell."""

_READ = 65_536
_LINGER = 1.0
"""So long, at most, is read and thrown away what a refused client still sends. Closing while it
sends would reset the connection, and with it the refusal that it has not read yet."""

Send: TypeAlias = Callable[[bytes], Awaitable[None]]


@final
@attrs.frozen(kw_only=True)
class Limits:
    """What a client may ask of a server."""

    connections: int = 64
    """At the same time: over Unix sockets, and as many over anything else."""
    head: int = 16_384
    """Bytes of a request's line and headers."""
    body: int = 65_536
    """Bytes of a request's body."""
    request_seconds: float = 10.0
    """From when a connection could send a request until all of it is there."""
    answer_seconds: float = 10.0
    """Until the client has taken an answer, or a piece of a stream."""


@final
@attrs.frozen(kw_only=True)
class Request:
    """One whole request."""

    method: str
    parts: tuple[str, ...]
    """Its path, split at each ``/`` and unquoted then."""
    query: Mapping[str, str]
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    """The names in lower case. Not shown: there may be secrets among them."""
    body: bytes = attrs.field(default=b"", repr=False)
    peer_uid: int | None = None
    """The user at the other end of a Unix socket; ``None`` over TCP."""

    def header(self, name: str) -> str | None:
        """Return the header of that lower-case name; several as one, joined by commas."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


@final
@attrs.frozen(kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Callable[[Send], Awaitable[None]] = b""
    """All of it; or a function that sends it piece by piece until it returns, is cancelled because
    the client has gone or the server closes, or fails, which the client can tell from the end."""
    end: Callable[[], object] | None = None
    """Asks that function to return soon, in place of cancelling it when the server closes."""


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that the handler does not get to see."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@final
class Server:
    """Answers requests by `handler`.

    Args:
        handler: turns a request into an answer; if it raises, that is logged, and a 500.
        limits: what clients may ask for.
        refuse: makes the answer for what the handler does not see, of a status and a sentence.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits | None = None,
        refuse: Callable[[int, str], Response] | None = None,
    ) -> None:
        self.handler = handler
        self.limits: Limits = Limits() if limits is None else limits
        self.refuse: Callable[[int, str], Response] = _refusal if refuse is None else refuse
        self.is_closing: bool = False
        self.requests: int = 0
        """How many were answered."""
        self._connections: set[_Connection] = set()
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    async def serve(
        self,
        listeners: Sequence[trio.abc.Listener[trio.abc.HalfCloseableStream]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `close` was called and the last answer is given. Closes the listeners."""
        async with trio.open_nursery() as nursery:
            task_status.started()
            with self._accepting:
                await trio.serve_listeners(
                    self._serve_one, list(listeners), handler_nursery=nursery
                )

    def close(self) -> None:
        """Take no more requests: what is being answered is finished, streams end. Never blocks."""
        self.is_closing = True
        self._accepting.cancel(reason="the server closes")
        for connection in self._connections:
            connection.hurry()

    async def _serve_one(self, stream: trio.abc.HalfCloseableStream) -> None:
        connection = _Connection(self, stream)
        try:
            alike = [one for one in self._connections if one.is_local == connection.is_local]
            if len(alike) >= self.limits.connections:
                await connection.turn_away("there are too many connections; try again")
                return
            self._connections.add(connection)
            await connection.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the client has gone, or takes nothing
        except Exception:
            _logger.exception("a connection failed")  # ours; the others go on
        finally:
            self._connections.discard(connection)
            await trio.aclose_forcefully(stream)


@final
class _Connection:
    """One client, from its first byte to its last."""

    def __init__(self, server: Server, stream: trio.abc.HalfCloseableStream) -> None:
        self._server = server
        self._limits = server.limits
        self._stream = stream
        self._peer_uid = _peer_uid(stream)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=server.limits.head)
        self._is_head = False  # the request that was begun: who asks for the head gets no body
        self._interruptible: trio.CancelScope | None = None
        self._end: Callable[[], object] | None = None  # of the stream that is being sent

    @property
    def is_local(self) -> bool:
        """Whether it came over a Unix socket."""
        return self._peer_uid is not None

    def hurry(self) -> None:
        """End the wait for a request, or the stream."""
        if self._end is not None:
            self._end()
        elif self._interruptible is not None:
            self._interruptible.cancel(reason="the server closes")

    async def turn_away(self, why: str) -> None:
        """Answer without having read anything."""
        with trio.move_on_after(_LINGER):
            await self._write(self._server.refuse(503, why), is_last=True)

    async def run(self) -> None:
        """Answer requests until either side has had enough."""
        while not self._server.is_closing:
            try:
                request = await self._read()
            except _Refused as refused:
                await self._give_up(refused)
                return
            if request is None:
                return
            try:
                response = await self._server.handler(request)
            except Exception:
                _logger.exception("answering %s /%s failed", request.method, _cut(request.parts[0]))
                response = self._server.refuse(500, "answering failed; the log tells more")
            self._server.requests += 1
            await self._write(response)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    # -- reading ----------------------------------------------------------------------------------

    async def _read(self) -> Request | None:
        """Return the next request, or None if there is none.

        Raises:
            _Refused: there is one that is not to be answered by the handler.
        """
        try:
            with trio.move_on_after(self._limits.request_seconds) as self._interruptible:
                return await self._read_all()
        except h11.RemoteProtocolError as exc:
            raise _Refused(exc.error_status_hint, f"this is no HTTP: {exc}") from None
        finally:
            self._interruptible = None
        has_begun = self._http.their_state is not h11.IDLE or self._http.trailing_data[0]
        if has_begun and not self._server.is_closing:
            raise _Refused(408, "the request was not all there in time")
        return None

    async def _read_all(self) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        self._is_head = False
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(bytes(await self._stream.receive_some(_READ)))
            elif isinstance(event, h11.Request):
                head = event
                self._is_head = head.method == b"HEAD"
                self._check(head)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.body:
                    raise _Refused(413, f"a body has at most {self._limits.body} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body), self._peer_uid)
            else:  # it has ended between two requests, or wants to speak another protocol
                return None

    def _check(self, head: h11.Request) -> None:
        if head.http_version not in {b"1.0", b"1.1"}:
            raise _Refused(505, "this is HTTP/1.1")
        # h11's own limit is for what has not come to its end: a head that came at once passes it.
        size = len(head.target) + sum(len(name) + len(value) + 4 for name, value in head.headers)
        if size > self._limits.head:
            raise _Refused(431, f"a head has at most {self._limits.head} bytes")
        for name, value in head.headers:
            # h11 has seen to it that it is a number, and there only once.
            if name == b"content-length" and int(value) > self._limits.body:
                raise _Refused(413, f"a body has at most {self._limits.body} bytes")

    # -- writing ----------------------------------------------------------------------------------

    async def _give_up(self, refused: _Refused) -> None:
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        await self._write(self._server.refuse(refused.status, str(refused)), is_last=True)
        with trio.move_on_after(_LINGER):
            await self._stream.send_eof()
            left = self._limits.head + self._limits.body
            while left > 0 and (data := await self._stream.receive_some(_READ)):
                left -= len(data)

    async def _write(self, response: Response, *, is_last: bool = False) -> None:
        body, is_head = response.body, self._is_head
        is_last = is_last or self._server.is_closing or callable(body)
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", response.content_type),
            *response.headers,
        ]
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
        if is_last:
            headers.append(("Connection", "close"))
        reason = HTTPStatus(response.status).phrase
        event = h11.Response(
            status_code=response.status, headers=headers, reason=reason.encode("ascii")
        )
        if is_head or not isinstance(body, bytes):
            await self._send(event)
            if not is_head and not isinstance(body, bytes):
                self._end = response.end
                await self._stream_out(body)
            if self._http.our_state is h11.SEND_BODY:
                await self._send(h11.EndOfMessage())
        else:
            await self._send(event, h11.Data(data=body), h11.EndOfMessage())

    async def _stream_out(self, body: Callable[[Send], Awaitable[None]]) -> None:
        """Let `body` send until it is done, the client has gone, or the server closes."""
        failed: BaseException | None = None

        async def send(data: bytes) -> None:
            await self._send(h11.Data(data=data))

        async with trio.open_nursery() as nursery:
            self._interruptible = nursery.cancel_scope
            if self._server.is_closing:
                self.hurry()
            nursery.start_soon(self._feel_the_end, nursery.cancel_scope)
            try:
                await body(send)
            except Exception as exc:  # noqa: BLE001 - raised below, outside of the nursery
                failed = exc
            nursery.cancel_scope.cancel(reason="the stream has ended")
        self._interruptible = None
        if failed is not None:
            raise failed

    async def _feel_the_end(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the client hangs up; what else it sends it does for nothing."""
        try:
            if await self._stream.receive_some(1):
                return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel(reason="the client has gone")

    async def _send(self, *events: h11.Event) -> None:
        data = b"".join([self._http.send(event) or b"" for event in events])
        if data:
            with trio.fail_after(self._limits.answer_seconds):
                await self._stream.send_all(data)


def _request(head: h11.Request, body: bytes, peer_uid: int | None) -> Request:
    path, _, query = head.target.partition(b"?")
    if not path.startswith(b"/"):
        raise _Refused(400, "the target of a request begins with '/'")
    try:
        return Request(
            method=head.method.decode("ascii"),
            parts=tuple(unquote_to_bytes(part).decode() for part in path[1:].split(b"/")),
            query=_fields(query),
            headers=tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in head.headers),
            body=body,
            peer_uid=peer_uid,
        )
    except ValueError:
        raise _Refused(400, "the target of the request cannot be read") from None


def _fields(query: bytes) -> dict[str, str]:
    """Return the fields of a query; of several with one name the last."""
    text = query.decode("ascii")
    return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=100))


def _cut(part: str) -> str:
    """Return `part` of a path, cut off where it is too long for a line; it then says so."""
    return part if len(part) <= 100 else f"{part[:99]}…"  # noqa: PLR2004 - a line stays a line


def _refusal(status: int, why: str) -> Response:
    return Response(status=status, body=f"{why}\n".encode())


def _peer_uid(stream: object) -> int | None:
    sock: trio.socket.SocketType | None = getattr(stream, "socket", None)
    if sock is None or sock.family != getattr(socket, "AF_UNIX", math.nan):
        return None
    if not hasattr(socket, "SO_PEERCRED"):
        return UNKNOWN_UID
    credentials = struct.Struct("iII")  # pid, uid, gid
    found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    uid: int = credentials.unpack(found)[1]
    return uid
