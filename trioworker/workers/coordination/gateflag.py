"""Whether a gate is open, as a flag: what depends on it is restarted when the gate opens.

In an agent file::

    [manifolds.upgrade-steps-flag]
    use = "trioworker.workers.coordination.gateflag:manifold"
    inputs = { gate = "upgrade-steps-gate" }

It looks once, when it is made. Found open, it idles until it is stopped. Found locked, it waits for
the gate, looking at the level: a gate that opened since then is found open at once. Then it ends
with `Unlocked`, which its manifold turns into a bounce, and the next one finds the gate open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio

from trioworker import Manifold, Tomb
from trioworker.patterns import Flag, FlagReport, as_flag, bounce_on

from .gate import Waiter

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["GateFlag", "Unlocked", "manifold"]


class Unlocked(Exception):
    """The gate has opened: ask a new flag. No fault."""


@final
class GateFlag:
    """Whether `waiter`'s gate was open when this was made. Ends with `Unlocked`.

    Args:
        waiter: whose gate it is.
        name: what to call it in messages.
    """

    def __init__(self, waiter: Waiter, *, name: str = "gate-flag") -> None:
        self.name = name
        self._waiter = waiter
        self._was_unlocked = waiter.is_unlocked
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed, or until the gate opens."""
        with self._tomb:
            task_status.started(self)
            if self._was_unlocked:
                await trio.sleep_forever()
            await self._waiter.wait_unlocked()
            raise Unlocked(f'"{self.name}": the gate has opened')

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def check(self) -> bool:
        """See `trioworker.patterns.Flag.check`."""
        return self._was_unlocked

    def report(self) -> FlagReport:
        """Return how it stands."""
        return FlagReport(self._tomb.report(), self._was_unlocked)

    def __repr__(self) -> str:
        return f"<GateFlag {self.name!r} {self._tomb.state}, {self._was_unlocked}>"


def manifold() -> Manifold:
    """Return the manifold of a gate's flag; its one input is ``gate``. It offers `Flag`."""
    return Manifold.from_worker(
        _flag, inputs=("gate",), outputs={Flag: as_flag}, filter=bounce_on(Unlocked)
    )


def _flag(get: Getter) -> GateFlag:
    return GateFlag(get("gate", Waiter))
