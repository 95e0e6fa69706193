"""Keeps the samples of `stats` from growing for ever: the real pruner, and it can be broken."""

from __future__ import annotations

from trioworker import Manifold
from trioworker.workers.data import pruner

from .faults import breakable


def manifold(config: pruner.Config) -> Manifold:
    """Return how to run it."""
    return breakable(pruner.manifold(config))
