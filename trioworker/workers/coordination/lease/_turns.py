"""Who goes first when not all can go: those in a hurry before all others, else in their order.

A turn is handed over, never put back for whoever comes: so a newcomer cannot slip in front of those
who wait, and one who is woken has the turn even if it is cancelled at that moment (it gives it back
like anybody).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@final
class Turns:
    """So many at a time.

    Args:
        total: how many.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._hurried = trio.lowlevel.ParkingLot()
        self._others = trio.lowlevel.ParkingLot()

    @asynccontextmanager
    async def turn(self, *, hurry: bool) -> AsyncGenerator[None]:
        """Wait for a turn, and have it for the length of the block."""
        if self._free:
            self._free -= 1
        else:
            await (self._hurried if hurry else self._others).park()
        try:
            yield
        finally:
            if not self._hurried.unpark() and not self._others.unpark():
                self._free += 1
