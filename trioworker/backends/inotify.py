"""What arrives in a directory, told by the Linux kernel.

One inotify file descriptor with one watch, read when Trio says that it is readable. The kernel
queues from the moment of `watch_directory()`, so who watches first and lists afterwards misses
nothing: what came before is listed, what came after is told, and what came in between is both.

A file counts when it is whole: closed after writing (`EventKind.CLOSED`) or renamed into place
(`EventKind.MOVED_IN`). A listing has no such mark; `is_being_written` tells which of the listed
files somebody still has open, and these will be told when they are closed.

The kernel's queue is bounded. When it overflows, events are lost and `EventKind.OVERFLOW` says so:
list again. When the directory itself is gone, so is the watch, and the iteration ends with
`DirectoryGone`, not with silence.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import signal
import struct
import sys
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, final

import trio

from .._errors import TrioworkerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = [
    "DirectoryEvents",
    "DirectoryGone",
    "Event",
    "EventKind",
    "is_being_written",
    "watch_directory",
]

# From <sys/inotify.h>; the same on every architecture.
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800
_IN_UNMOUNT = 0x2000
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_ONLYDIR = 0x1000000

_MASK = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_GONE = {
    _IN_DELETE_SELF: "it was deleted",
    _IN_MOVE_SELF: "it was renamed",
    _IN_UNMOUNT: "its file system was unmounted",
    _IN_IGNORED: "the kernel removed the watch",
}

_HEADER = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_BUFFER = 64 * 1024  # a read must have room for one event at least: 16 bytes and a name


class DirectoryGone(TrioworkerError):
    """The watched directory was deleted, renamed or unmounted: nothing more will come."""


@final
class EventKind(enum.StrEnum):
    """What happened."""

    CLOSED = "closed"
    """A file that was open for writing was closed."""
    MOVED_IN = "moved in"
    """A file or a directory was renamed into the directory."""
    OVERFLOW = "overflow"
    """Events were lost: list the directory."""


@final
class Event(NamedTuple):
    """One thing that happened in the directory."""

    kind: EventKind
    name: str
    """Of the file, without the directory; empty for `EventKind.OVERFLOW`."""


@final
class DirectoryEvents:
    """The events of one directory, oldest first; made by `watch_directory`.

    Leaving the ``with`` block closes the file descriptor, and whoever waits for an event gets
    ``trio.ClosedResourceError``. A cancelled wait loses no event. One task at a time may iterate.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._events: deque[Event] = deque()
        self._gone: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching. Never blocks; idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            trio.lowlevel.notify_closing(fd)
            os.close(fd)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event. A checkpoint.

        Raises:
            DirectoryGone: the directory is gone, and so are all further events.
            trio.ClosedResourceError: closed, here or meanwhile.
        """
        await trio.lowlevel.checkpoint()  # before anything is taken, so that nothing gets lost
        while not self._events:
            if self._fd < 0:
                raise trio.ClosedResourceError
            if self._gone is not None:
                raise DirectoryGone(f"{self._path} can be watched no longer: {self._gone}")
            await trio.lowlevel.wait_readable(self._fd)
            self._read()
        return self._events.popleft()

    def __repr__(self) -> str:
        state = "closed" if self._fd < 0 else self._gone or "open"
        return f"<DirectoryEvents of {self._path!r}, {state}>"

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return
        for mask, name in _parsed(data):
            if mask & _IN_Q_OVERFLOW:
                self._events.append(Event(EventKind.OVERFLOW, ""))
            elif mask & _IN_CLOSE_WRITE:
                self._events.append(Event(EventKind.CLOSED, name))
            elif mask & _IN_MOVED_TO:
                self._events.append(Event(EventKind.MOVED_IN, name))
            elif self._gone is None:  # the first reason: a deletion is followed by IN_IGNORED
                self._gone = next((why for bit, why in _GONE.items() if mask & bit), None)


def watch_directory(path: str | os.PathLike[str]) -> DirectoryEvents:
    """Start to watch the directory `path`; call it inside ``trio.run()``. Sync.

    ::

        with watch_directory("inbox") as events:
            for name in os.listdir("inbox"):
                ...
            async for event in events:
                ...

    Raises:
        NotImplementedError: this is not Linux.
        OSError: there is no such directory, or the kernel allows no more watches.
    """
    if sys.platform != "linux":
        raise NotImplementedError(
            f"watch_directory() needs inotify, which Linux has and {sys.platform} has not"
        )
    path = os.fspath(path)
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _os_error(path)
    if libc.inotify_add_watch(fd, os.fsencode(path), _MASK) < 0:
        error = _os_error(path)
        os.close(fd)
        raise error
    return DirectoryEvents(fd, path)


def is_being_written(path: str | os.PathLike[str]) -> bool:
    """Whether anybody, in this process or another, has the file `path` open for writing. Sync.

    The kernel grants a read lease only on a file that has no writer. Where it grants none at all
    (some network file systems, files of other users), the answer is no.

    Raises:
        NotImplementedError: this is not Linux.
        OSError: the file cannot be read.
    """
    if sys.platform != "linux":
        raise NotImplementedError(
            f"is_being_written() needs file leases, which Linux has and {sys.platform} has not"
        )
    import fcntl  # noqa: PLC0415 - not there on every platform

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # Who opens the file for writing while we hold the lease makes the kernel send a signal:
        # one that is ignored by default, in place of SIGIO, which kills.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return exc.errno == errno.EAGAIN
    finally:
        os.close(fd)
    return False


def _parsed(data: bytes) -> Iterator[tuple[int, str]]:
    offset = 0
    while offset < len(data):
        _, mask, _, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].partition(b"\0")[0]
        offset += length
        yield mask, os.fsdecode(name)


def _os_error(path: str) -> OSError:
    code = ctypes.get_errno()
    hint = {
        errno.ENOSPC: "; fs.inotify.max_user_watches is reached",
        # The kernel has one number for both.
        errno.EMFILE: "; or fs.inotify.max_user_instances is reached",
    }
    return OSError(code, os.strerror(code) + hint.get(code, ""), path)
