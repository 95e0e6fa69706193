"""How a test waits: until nothing happens any more, or for so long and no longer.

A bound on Trio's clock alone would not do. With a `trio.testing.MockClock` that stands still it
never comes, and with one that jumps by itself it does not come while some task is busy, which is
one of the faults to be found. So a second timer, on the wall's clock and in a thread, stands beside
it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE = 10.0
"""Seconds that a test waits for what should come, unless it is told otherwise."""


@contextmanager
def at_most(seconds: float, *, shield: bool = False) -> Generator[trio.CancelScope, None, None]:
    """Cancel the block after `seconds`, on Trio's clock or the wall's, whichever is over first."""
    token = trio.lowlevel.current_trio_token()
    with trio.move_on_after(seconds, shield=shield) as scope:
        timer = threading.Timer(seconds, _cancel, (token, scope))
        timer.daemon = True
        timer.start()
        try:
            yield scope
        finally:
            timer.cancel()


def _cancel(token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
    with suppress(trio.RunFinishedError):  # fired in the very moment in which it was not needed
        token.run_sync_soon(scope.cancel)


async def comes_to_rest() -> bool:
    """Wait until every other task is blocked; say whether that came. A checkpoint."""
    with at_most(PATIENCE) as scope:
        await wait_all_tasks_blocked()
    return not scope.cancelled_caught


async def settle() -> None:
    """Wait until every other task is blocked. A checkpoint.

    Raises:
        AssertionError: some task goes on and on without blocking.
    """
    __tracebackhide__ = True
    if not await comes_to_rest():
        raise AssertionError(RESTLESS)


RESTLESS = (
    f"some task keeps running without ever blocking, for {PATIENCE:g} s now, so what has not "
    "happened may still happen; let it wait for something"
)
