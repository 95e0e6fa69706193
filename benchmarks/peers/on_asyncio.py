"""asyncio's own `TaskGroup`, which waits for all and cancels all if one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from ._asyncio import FLOORS as FLOORS, trials


class Group:
    """A task group with a list of its tasks, as it cannot be told to cancel them."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        details: Any = exc
        await self._group.__aexit__(*details)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run one more."""
        self._tasks.append(self._group.create_task(coroutine))

    def stop(self) -> None:
        """Cancel them all."""
        for task in self._tasks:
            task.cancel()


DISTRIBUTION = None
TRIALS = trials(Group, "asyncio")
