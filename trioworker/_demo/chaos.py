"""Breaks the others: every now and then one of them, in one of four ways, as the seed decides.

It knows them by their switches, which it reads through live views, so that it depends on nobody and
nobody's end is its own. When it ends, it takes back what was set and not carried out yet.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import final

import attrs
import trio

from trioworker import Getter, LiveView, Manifold

from .faults import Fault, Switch

VICTIMS = ("inbox", "db", "ingest", "stats", "pruner")
LONGEST_STOP = 0.5
"""Seconds that a slow stop takes at most."""


@final
class Chaos:
    """Sets switches.

    Attributes:
        faults: how many of each kind were set.
    """

    def __init__(self, seed: int, views: dict[str, LiveView[Switch]]) -> None:
        self._random = random.Random(seed)
        self._views = views
        self._switches: dict[str, Switch] = {}
        self.faults: Counter[Fault] = Counter()

    def strike(self) -> None:
        """Break one of them, if it has been seen running."""
        # Drawn before anything is looked at: the seed alone decides.
        name = self._random.choice(VICTIMS)
        fault = self._random.choice(list(Fault))
        seconds = self._random.uniform(0.05, LONGEST_STOP)
        for victim, view in self._views.items():
            if (switch := view.value) is not None:
                self._switches[victim] = switch
        if name in self._switches:
            self._switches[name].set(fault, seconds)
            self.faults[fault] += 1

    def clear(self) -> None:
        """Take back what is still set."""
        for switch in self._switches.values():
            switch.clear()

    def report(self) -> dict[str, int]:
        """How many faults of each kind were set, and how many of all kinds were carried out."""
        fired = sum(switch.fired.total() for switch in self._switches.values())
        return {**{str(fault): self.faults[fault] for fault in Fault}, "carried out": fired}


@final
@attrs.frozen
class Config:
    """What it must be told."""

    seed: int
    """Decides who breaks, and how."""
    every: float = 0.3
    """Seconds between two faults."""


def manifold(config: Config) -> Manifold:
    """Return how to run it."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[Chaos]) -> None:
        chaos = Chaos(config.seed, {name: get.live(name, Switch) for name in VICTIMS})
        task_status.started(chaos)
        try:
            while True:
                await trio.sleep(config.every)
                chaos.strike()
        finally:
            chaos.clear()

    return Manifold(start, live=VICTIMS)
