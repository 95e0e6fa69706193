"""Telling systemd how a program is: ready, its status, stopping, and alive.

A datagram to the socket that ``NOTIFY_SOCKET`` names, as sd_notify(3) says. Sending never blocks;
what cannot be sent is lost, which is logged once: a supervisor that does not listen is no reason to
fail. Only *ready* is told again, to one that was too busy: it would wait for that in vain, and then
kill us.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from trioworker import Engine
    from trioworker.dependency import EngineReport

logger = logging.getLogger("trioworker.agent")

PAUSE_SECONDS = 0.5
"""The status is told at most this often."""

_PLENTY = 1_000_000
"""More transitions than there are in a pause: what is not read then was not lost."""


@final
class Systemd:
    """What systemd wants to know of this process, from its environment."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the byte of an abstract socket; what is neither is not for us (vsock).
        self._address = address.replace("@", "\0", 1) if address[:1] in {"/", "@"} else ""
        self._has_failed = False
        self.watchdog_seconds: float | None = None
        """It wants to hear that we are alive at least this often."""
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        if self._address and microseconds.isdecimal() and int(microseconds) > 0 and is_ours:
            self.watchdog_seconds = int(microseconds) / 1e6

    @classmethod
    def here(cls) -> Systemd:
        """Return that of this process."""
        return cls(os.environ, os.getpid())

    @property
    def is_listening(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._address)

    def notify(self, *lines: str) -> bool:
        """Send `lines`, as ``READY=1``. Never blocks, never fails; from any thread.

        Returns:
            False if systemd is too busy to take them now.
        """
        if not self._address:
            return True
        # An error's text may have half of a surrogate pair, which no encoding has.
        data = "\n".join(lines).encode("utf-8", "backslashreplace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(data, self._address)
        except OSError as exc:
            if not self._has_failed:
                self._has_failed = True
                logger.warning("systemd cannot be told %s: %s", lines[0], exc)
            return not isinstance(exc, BlockingIOError)
        return True

    def feed(self) -> None:
        """Say that we are alive."""
        self.notify("WATCHDOG=1")


async def keep_told(engine: Engine, systemd: Systemd, mask: Callable[[str], str]) -> None:
    """Tell systemd what `engine` is doing until it is dead: its status, ready, stopping.

    Ready is told once, when all manifolds are started that are wanted: those that are neither held
    nor done. A pause is kept between two tellings, so that a storm costs little.
    """
    told, is_ready = "", False
    try:
        with engine.events(_PLENTY) as events:
            while engine.state == "alive":
                report = engine.report()
                status = f"STATUS={_printable(mask(_status(engine, report)))}"
                was_taken = True
                if not is_ready and not report.unready():
                    is_ready = was_taken = systemd.notify("READY=1", status)
                elif status != told:
                    systemd.notify(status)
                told = status
                if was_taken:
                    async for _ in events:
                        break
                await trio.sleep(PAUSE_SECONDS)
                events.take()
    finally:
        systemd.notify("STOPPING=1", "STATUS=stopping")


def _status(engine: Engine, report: EngineReport) -> str:
    unready = report.unready()
    if not unready:
        return f"all that is wanted of {len(report.manifolds)} manifolds is started"
    why = " ".join(str(engine.explain(unready[0].name)).split())
    more = f" (and {len(unready) - 1} more)" if unready[1:] else ""
    return f"waiting: {why}{more}"


def _printable(text: str) -> str:
    """Return `text` with what could move the cursor of who asks systemd as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
