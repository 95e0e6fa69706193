"""Signals of the operating system, of which none is left over to hit the process.

`trio.open_signal_receiver` sends again what nobody has taken when it is closed, and then the signal
does what it did before: by default, it kills the process. To take all of them first, one must wait
until the last is there, and nothing tells when. Here Python's own handler notes each, before
anything else can run; so when the block is left all that came is known, without waiting.

Signals can be registered in the main thread only.
"""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING, Any, final

import trio

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["SignalInbox"]


@final
class SignalInbox:
    """Takes signals for the length of a ``with`` block, and keeps them also after it.

    Equal ones that nobody has received yet are one.

    Args:
        numbers: which.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._numbers = numbers
        self._before: dict[signal.Signals, Any] = {}
        self._came: deque[signal.Signals] = deque()
        self._lot = trio.lowlevel.ParkingLot()

    def __enter__(self) -> Self:
        token = trio.lowlevel.current_trio_token()

        # It runs between any two lines of the main thread, so all it changes is a deque's end.
        def note(number: int, frame: object) -> None:  # noqa: ARG001 - as Python calls it
            if number not in self._came:
                self._came.append(signal.Signals(number))
            token.run_sync_soon(self._lot.unpark_all, idempotent=True)

        try:
            for number in self._numbers:
                self._before[number] = signal.signal(number, note)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    async def receive(self) -> signal.Signals:
        """Wait for the next, oldest first. For one task at a time."""
        await trio.lowlevel.checkpoint()
        while not self._came:
            await self._lot.park()
        return self._came.popleft()

    def take_all(self) -> tuple[signal.Signals, ...]:
        """Return all that came and was not received, oldest first; also after the block."""
        return tuple(self._came.popleft() for _ in range(len(self._came)))
