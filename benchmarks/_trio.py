"""What trials on Trio have in common, ours and others'."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import trio

from ._method import Countdown, Trial


def in_trio(async_fn: Callable[..., Awaitable[Mapping[str, float]]], *args: object) -> Trial:
    """Make a trial of ``async_fn(n, *args)``, each time in a ``trio.run()`` of its own."""

    def trial(n: int) -> Mapping[str, float]:
        return trio.run(async_fn, n, *args)

    return trial


def countdown(count: int) -> Countdown:
    """Return what says when `count` workers are up."""
    return Countdown(count, trio.Event())
