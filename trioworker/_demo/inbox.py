"""Which files have arrived, each told once.

It watches first and lists afterwards, so that a file that came while it was down is found and one
that comes meanwhile is not missed. One that is found twice is told twice, and then already claimed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio

from trioworker import Getter, Manifold, Tomb
from trioworker.backends.inotify import EventKind, watch_directory

from .faults import breakable, itself
from .folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterable


class Arrivals(Protocol):
    """What `inbox` offers."""

    async def take(self) -> str:
        """Wait for a file that has arrived, and return its name. A cancelled wait takes none."""
        ...


@final
class Inbox:
    """The names of the files that are there, until somebody takes them."""

    def __init__(self) -> None:
        self.tomb = Tomb(name="inbox")
        self._names: dict[str, None] = {}  # a set that keeps its order
        self._lot = trio.lowlevel.ParkingLot()

    def add(self, names: Iterable[str]) -> None:
        """Tell that these have arrived."""
        self._names.update(dict.fromkeys(names))
        if self._names:
            self._lot.unpark()

    async def take(self) -> str:
        """Wait for a file that has arrived, and return its name. A cancelled wait takes none."""
        with self.tomb.while_alive():
            await trio.lowlevel.checkpoint()
            while not self._names:
                await self._lot.park()
            name = next(iter(self._names))
            del self._names[name]
            return name

    def report(self) -> dict[str, int]:
        """How many files wait to be taken."""
        return {"waiting": len(self._names)}


@final
@attrs.frozen
class Config:
    """What the inbox must be told."""

    directory: Path
    """The demo's."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""
    folder = Folder(config.directory)

    async def start(_get: Getter, *, task_status: trio.TaskStatus[Inbox]) -> None:
        folder.create()
        inbox = Inbox()
        with inbox.tomb, watch_directory(folder.inbox) as events:
            inbox.add(folder.arrived())
            task_status.started(inbox)
            async for event in events:
                if event.kind is EventKind.OVERFLOW:
                    inbox.add(folder.arrived())
                elif folder.has_arrived(event.name):
                    inbox.add([event.name])

    return breakable(Manifold(start, outputs={Arrivals: itself}))
