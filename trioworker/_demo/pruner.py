"""Keeps the samples of `stats` from growing for ever."""

from __future__ import annotations

from typing import final

import attrs
import trio

from trioworker import Getter, Manifold

from .db import Store
from .faults import breakable


@final
@attrs.frozen
class Config:
    """How often, and how much."""

    every: float = 0.5
    """Seconds between two times of pruning."""
    keep: int = 20
    """How many samples are left."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        store = get("db", Store)
        task_status.started()
        while True:
            await store.prune_samples(config.keep)
            await trio.sleep(config.every)

    return breakable(Manifold(start, inputs=("db",)))
