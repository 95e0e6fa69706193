"""Tricycle's service nursery; the rest is Trio's."""

from __future__ import annotations

import tricycle
import trio

from ._trio import Kit, trials

DISTRIBUTION = "tricycle"
FLOORS = None
TRIALS = trials(
    Kit(open_group=tricycle.open_service_nursery, scope=trio.CancelScope, event=trio.Event),
    "tricycle",
)
