"""Where the Unix socket of a program lies, and how it gets there safely.

Default: ``$XDG_RUNTIME_DIR/trioworker/NAME.sock``, else ``/tmp/trioworker-UID/NAME.sock``. Anybody
may make a directory in ``/tmp``, so ours has to be a directory (no link to one), ours, and closed
to all others; one that is not is refused and never put right: who made it may have it open.

A socket that nobody listens on is what a killed program left, and is replaced. Two programs that
start at once would both find it and one would remove the other's, so looking and binding are done
under a lock on the directory.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from trioworker import TrioworkerError

_LONGEST = 107  # bytes of a path that fit into Linux's sun_path beside the zero at the end
_BACKLOG = 64
_PEER = struct.Struct("iII")  # pid, uid, gid


class SocketInUse(TrioworkerError):
    """Another program listens on the socket already."""


def socket_path(name: str, environ: Mapping[str, str], uid: int) -> Path:
    """Return where the program called `name` listens, for the user `uid`. Touches no file.

    That is in ``$XDG_RUNTIME_DIR``, as `environ` has it, or else in ``/tmp``.
    """
    return _directory(environ, uid) / f"{quote(name, safe=' ')}.sock"


def sockets(environ: Mapping[str, str], uid: int) -> dict[str, Path]:
    """Return the sockets on which a program of the user `uid` listens now, by its name.

    They are looked for where `socket_path` puts them, with the same `environ`.
    """
    directory = _directory(environ, uid)
    try:
        _check_directory(directory, uid)
        found = sorted(directory.glob("*.sock"))
    except OSError:
        return {}
    return {unquote(path.stem): path for path in found if _listener(path) is not None}


def bound_socket(path: Path, uid: int) -> socket.socket:
    """Return a listening, non-blocking socket at `path`, with mode 0600 in a directory of 0700.

    The directory is made if there is none; its parent has to exist.

    Raises:
        SocketInUse: somebody listens there; the message tells which process.
        PermissionError: the directory is not safe, or `path` is no socket.
        OSError: the path is too long, or cannot be made.
    """
    if len(os.fsencode(path)) > _LONGEST:
        raise OSError(f"{path} is too long for a Unix socket: at most {_LONGEST} bytes")
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    with _locked(path.parent, uid):
        _make_room(path)
        return _bound(path)


def leave_socket(path: Path, uid: int, inode: int) -> None:
    """Remove the socket at `path`, if it is still that of `inode`, and not one that came after."""
    with suppress(OSError, SocketInUse), _locked(path.parent, uid):
        if path.lstat().st_ino == inode:
            path.unlink()


def _directory(environ: Mapping[str, str], uid: int) -> Path:
    runtime = Path(environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute():
        return runtime / "trioworker"
    return Path("/tmp", f"trioworker-{uid}")  # noqa: S108 - checked before it is used


def _check_directory(directory: Path, uid: int) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{directory} is no directory (links are not followed): remove it")
    if found.st_uid != uid:
        raise PermissionError(f"{directory} belongs to user {found.st_uid}, not to {uid}")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise PermissionError(f"{directory} is open to others (mode {mode:04o}): chmod 700 it")


@contextmanager
def _locked(directory: Path, uid: int) -> Generator[None, None, None]:
    _check_directory(directory, uid)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # never wait: we are in the event loop
        except BlockingIOError:
            raise SocketInUse(f"{directory}: another program is opening a socket there") from None
        yield
    finally:
        os.close(fd)


def _make_room(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise PermissionError(f"{path} is there already, and no socket: remove it")
    pid = _listener(path)
    if pid is not None:
        who = f"process {pid}" if pid else "another process"
        raise SocketInUse(f"{who} listens on {path} already: stop it, or use another path")
    path.unlink()


def _listener(path: Path) -> int | None:
    """Return the id of the process that listens on `path`; 0 if it is too busy to be asked."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(os.fspath(path))
        except BlockingIOError:  # its queue is full
            return 0
        except OSError:
            return None
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid: int = _PEER.unpack(peer)[0]
        return pid


def _bound(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.bind(os.fspath(path))
        path.chmod(0o600)  # until here the directory alone keeps others out
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound
