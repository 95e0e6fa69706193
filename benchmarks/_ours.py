"""What our own sides have in common."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import trio

from trioworker import EngineConfig, Getter, RestartPolicy

from ._method import Countdown

NO_DELAYS = EngineConfig(restart=RestartPolicy(error_delay=0, jitter=0, bounce_delay=1e-9))
"""Restarts at once, on our side as on the floor's."""


def sleeper(up: Countdown) -> Callable[..., Awaitable[object]]:
    """Return the start function of the least manifold: up, and then asleep."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - what a start function gets
        task_status.started()
        up.down()
        await trio.sleep_forever()

    return start


@contextmanager
def no_log(name: str) -> Generator[None]:
    """Write nothing to the log `name` for a while: nobody reads it, and the floor writes none."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
