"""Talking to a running program: HTTP over the Unix socket on which its introspection listens.

One connection for each request, with the standard library's client, so that asking a program needs
nothing but Python. Whoever answers is not trusted: an answer is bounded in size and in time, and
one that is cut short, is not JSON, or is not of the kind that was asked for is an error like any
other. Only a program of the same user, or of root, is asked at all; root may ask everybody's.

Each error has the exit status that it means for a script.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
import struct
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

T = TypeVar("T")

UNKNOWN = 2
NOBODY = 3
UNUSABLE = 4

TIMEOUT = 5.0
"""Seconds in which something has to arrive."""
LIMIT = 64_000_000
"""Bytes of the largest answer that is read, and of the longest line of a stream."""
SILENCE = 60.0
"""Seconds without anything after which a stream of events is given up; it has a sign of life
every 15."""

OFFER = """A program listens if trioworker[introspection] is installed and its agent file has
    [manifolds.introspection]
    use = "trioworker.workers.agent.introspection:manifold\""""


class ClientError(Exception):
    """There is no answer to work with; the message says why, and what can be done."""

    status = UNUSABLE


@final
class NobodyListens(ClientError):
    """There is no program at the other end."""

    status = NOBODY


@final
class NoAnswer(ClientError):
    """There is a program, but it did not answer, or not to the end; it may the next time."""


@final
class UnknownName(ClientError):
    """The program has nothing of that name, or several programs run and none was chosen."""

    status = UNKNOWN


@final
class Found(NamedTuple):
    """What is to be seen where programs listen."""

    live: list[Path]
    """Sockets that somebody listens on."""
    stale: list[Path]
    """Those that nobody listens on any more."""
    refused: list[str]
    """Which directories were passed over, and why."""


def directories(environ: Mapping[str, str], uid: int) -> list[Path]:
    """Return where programs of `uid` listen by default.

    Both places, because a program need not have been started in the environment of its client.
    """
    from trioworker.workers.agent.introspection import socket_path  # not where no sockets are

    places = [socket_path("any", given, uid).parent for given in (environ, {})]
    return list(dict.fromkeys(places))


def look(places: Iterable[Path], uid: int) -> Found:
    """Return which programs of `uid` listen in `places`.

    A directory that is somebody else's, or a link to one, is passed over: who listens in it could
    be anybody.
    """
    found = Found([], [], [])
    for place in places:
        try:
            entry = place.lstat()
        except OSError:
            continue
        if not stat.S_ISDIR(entry.st_mode) or entry.st_uid != uid or entry.st_mode & 0o077:
            found.refused.append(f"{place} is passed over: {_why_not_ours(entry, uid)}")
            continue
        for path in sorted(place.glob("*.sock")):
            (found.live if _is_live(path) else found.stale).append(path)
    return found


def _why_not_ours(entry: os.stat_result, uid: int) -> str:
    if not stat.S_ISDIR(entry.st_mode):
        return "it is no directory"
    if entry.st_uid != uid:
        return f"it belongs to user {entry.st_uid}, not to {uid}"
    return f"it is open to others (mode {stat.S_IMODE(entry.st_mode):04o})"


def _is_live(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(TIMEOUT)
        try:
            probe.connect(str(path))
        except (BlockingIOError, TimeoutError):  # its queue is full: there is one that is busy
            return True
        except OSError:
            return False
    return True


def find_socket(chosen: Path | None, places: Iterable[Path] | None = None) -> Path:
    """Return `chosen`, or else the one socket in `places` that a program of ours listens on.

    Raises:
        NobodyListens: none does.
        UnknownName: several do.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ClientError("this system has no Unix sockets, so no program can be asked")
    if chosen is not None:
        return chosen
    uid = os.getuid()
    searched = directories(os.environ, uid) if places is None else list(places)
    found = look(searched, uid)
    if len(found.live) == 1:
        return found.live[0]
    if found.live:
        names = [unquote(path.stem) for path in found.live]
        width = max(map(len, names))
        lines = [
            f"    {name:<{width}}  --socket {path}"
            for name, path in zip(names, found.live, strict=True)
        ]
        raise UnknownName("\n".join(["several programs listen; choose one:", *lines]))
    left = [f"{path} is left over from a program that was killed" for path in found.stale]
    looked = f"no program of yours listens in {' or '.join(map(str, searched))}"
    raise NobodyListens("\n".join([looked, *found.refused, *left, OFFER]))


@final
class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@final
class Client:
    """Asks the program that listens on `path`.

    Args:
        path: its socket.
        timeout: seconds in which something has to arrive.

    Attributes:
        path: its socket, with which each of the errors begins that are about the connection.
    """

    def __init__(self, path: Path, *, timeout: float = TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout

    def get(self, *parts: str, also: int = 200) -> Any:
        """Return the JSON at a path made of `parts`; a status of `also` is an answer as well."""
        return self._asked("GET", parts, {200, also})

    def post(self, *parts: str) -> None:
        """Have it do something."""
        self._asked("POST", parts, {200, 202})

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and the data of each event until the program ends the stream.

        Raises:
            NoAnswer: the stream has broken off.
        """
        with self._connected(SILENCE) as connection:
            response = self._sent(connection, "GET", "/events")
            if response.status != http.client.OK:
                raise self._refusal(response.status, self._body(response))
            name, data = "message", list[str]()
            for line in self._lines(response):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif not line:
                    if data:
                        yield name, self._parsed("\n".join(data).encode())
                    name, data = "message", []

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[str]:
        rest = b""
        for chunk in self._chunks(response):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LIMIT:
                raise ClientError(f"{self.path}: the answer is too large")
            for line in lines:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")

    def _asked(self, method: str, parts: tuple[str, ...], fine: set[int]) -> Any:
        path = "".join(f"/{quote(part, safe='', errors='replace')}" for part in parts)
        with self._connected(self._timeout) as connection:
            response = self._sent(connection, method, path)
            body = self._body(response)
        if response.status not in fine:
            raise self._refusal(response.status, body)
        return self._parsed(body)

    @contextlib.contextmanager
    def _connected(self, timeout: float) -> Generator[_Connection]:
        with contextlib.closing(_Connection(self.path, timeout)) as connection:
            try:
                connection.connect()
            except OSError as exc:
                raise self._unreachable(exc) from None
            if (owner := _stranger(connection.sock)) is not None:
                raise ClientError(f"{self.path}: user {owner} listens there, and is not asked")
            yield connection

    def _unreachable(self, error: OSError) -> ClientError:
        try:
            entry = self.path.stat()
        except FileNotFoundError:
            return NobodyListens(f"{self.path}: there is no such socket\n{OFFER}")
        except OSError:
            return ClientError(f"{self.path}: {error.strerror or error}")
        match error:
            case PermissionError():
                return ClientError(
                    f"{self.path}: it is a socket of user {entry.st_uid}: only they and root "
                    "may ask that program"
                )
            case ConnectionRefusedError() if stat.S_ISSOCK(entry.st_mode):
                return NobodyListens(
                    f"{self.path}: nobody listens any more: the program has ended\n"
                    "its next start replaces the socket"
                )
            case TimeoutError() | BlockingIOError():
                return NoAnswer(f"{self.path}: no answer: the program's event loop may be blocked")
            case _ if not stat.S_ISSOCK(entry.st_mode):
                return NobodyListens(f"{self.path}: this is no socket")
            case _:
                return ClientError(f"{self.path}: {error.strerror or error}")

    def _sent(self, connection: _Connection, method: str, path: str) -> http.client.HTTPResponse:
        def sent() -> http.client.HTTPResponse:
            connection.request(method, path)
            return connection.getresponse()

        return self._guarded(sent)

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        end = monotonic() + 6 * self._timeout
        body = bytearray()
        for chunk in self._chunks(response):
            body += chunk
            if len(body) > LIMIT:
                raise ClientError(f"{self.path}: the answer is too large")
            if monotonic() > end:
                raise NoAnswer(f"{self.path}: the answer takes too long")
        return bytes(body)

    def _chunks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        while chunk := self._guarded(lambda: response.read1(65536)):
            yield chunk
        if response.length:  # read1() does not complain of an answer that is cut short
            raise self._broken_off()

    def _guarded(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except TimeoutError:
            raise NoAnswer(
                f"{self.path}: no answer in time: the program's event loop may be blocked"
            ) from None
        except (OSError, http.client.IncompleteRead):
            raise self._broken_off() from None
        except (http.client.HTTPException, ValueError) as exc:
            raise self._foreign(str(exc) or type(exc).__name__) from None

    def _broken_off(self) -> NoAnswer:
        return NoAnswer(f"{self.path}: the answer broke off: the program has ended, or was killed")

    def _refusal(self, status: int, body: bytes) -> ClientError:
        try:
            told = json.loads(body)
            text, hint = str(told["error"]), str(told.get("hint") or "")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return ClientError(f"{self.path}: the answer was status {status}")
        kind = UnknownName if status == http.client.NOT_FOUND else ClientError
        return kind(f"{text}\n{hint}" if hint else text)

    def _parsed(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._foreign("it is not JSON") from None

    def _foreign(self, why: str) -> ClientError:
        return ClientError(f"{self.path}: what answers is no trioworker program: {why}")


def _stranger(sock: socket.socket) -> int | None:
    """Return the user who listens at the other end if it is one whom we should not ask."""
    if not hasattr(socket, "SO_PEERCRED") or os.getuid() == 0:
        return None
    owner = peer(sock)
    return None if owner in {0, os.getuid()} else owner


def peer(sock: socket.socket) -> int:
    """Return the user at the other end of a Unix socket."""
    told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    owner: int = _PEER.unpack(told)[1]
    return owner


_PEER = struct.Struct("iII")  # pid, uid, gid
