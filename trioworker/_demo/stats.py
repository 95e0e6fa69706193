"""How much is stored: sampled now and then, and kept in the database."""

from __future__ import annotations

from typing import final

import attrs
import trio

from trioworker import Getter, Manifold

from .db import Store
from .faults import breakable, itself


@final
class Stats:
    """The latest sample."""

    def __init__(self) -> None:
        self.files = self.lines = 0

    def report(self) -> dict[str, int]:
        """How much is stored."""
        return {"files": self.files, "lines": self.lines}


@final
@attrs.frozen
class Config:
    """How often."""

    every: float = 0.2
    """Seconds between two samples."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[Stats]) -> None:
        store, stats = get("db", Store), Stats()
        task_status.started(stats)
        while True:
            stats.files, stats.lines = await store.add_sample()
            await trio.sleep(config.every)

    return breakable(Manifold(start, inputs=("db",), outputs={Stats: itself}))
