"""Is the event loop blocked, and by what? A thread that looks while Trio goes round.

Trio tells an instrument each time it comes back from waiting for I/O and each time it waits again:
in between, the loop is busy, and busy for longer than the threshold is a *stall*. The thread reads
since when the loop is busy, and takes the stack of what blocks it while it does. It looks once a
second when the loop is idle, and twice a threshold (but at least once a second) when it is not. A
stall that came and went between two looks is counted all the same, by the instrument, without a
stack. So every stall is counted and logged once, and the loop itself is never woken.

As long as the loop is not stalled, the thread feeds systemd's watchdog, if there is one.

Trio owns the thread: it has ended when the worker has.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, final

import trio

from trioworker import Tomb
from trioworker.dependency import current_manifold

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("trioworker.agent")

IDLE_SECONDS = 1.0
"""So often the thread looks at an idle loop."""


@final
class Watchdog:
    """A worker that watches the event loop that it runs in, and counts its stalls.

    Args:
        threshold: seconds without waiting for I/O that are a stall, more than 0.
        on_stall: is told the seconds of each stall when it is over, in the event loop.
        feed: is called, in the watching thread, at least every `feed_within` seconds while there
            is no stall.
        feed_within: seconds.

    Raises:
        ValueError: the threshold is not more than 0.
    """

    def __init__(
        self,
        threshold: float = 2.0,
        *,
        on_stall: Callable[[float], object] | None = None,
        feed: Callable[[], object] | None = None,
        feed_within: float = IDLE_SECONDS,
    ) -> None:
        if not threshold > 0:
            raise ValueError(f"Watchdog(threshold=...) must be more than 0 s, not {threshold!r}")
        self._tomb = Tomb(name="watchdog")
        self._threshold = threshold
        self._on_stall = on_stall
        self._feed = feed
        self._most = IDLE_SECONDS if feed is None else feed_within
        self.stalls: int = 0
        """So many are over."""
        self.seconds: float = 0.0
        """So long have they taken together."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until killed; the thread has ended then."""
        with self._tomb:
            rounds = _Rounds(self.is_stall, self._stalled)
            thread = _Thread(rounds, self.is_stall, self._pause, self._feed)
            trio.lowlevel.add_instrument(rounds)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(thread.run, name="watchdog")
                    try:
                        task_status.started()
                        await trio.sleep_forever()
                    finally:
                        thread.stop()
            finally:
                trio.lowlevel.remove_instrument(rounds)

    def kill(self, reason: BaseException | None = None) -> None:
        """Stop watching. Never blocks."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead. A checkpoint."""
        await self._tomb.wait()

    def is_stall(self, seconds: float) -> bool:
        """Whether being busy for so long is one."""
        return seconds > self._threshold

    def _pause(self, *, is_idle: bool) -> float:
        return min(self._most, IDLE_SECONDS if is_idle else self._threshold / 2)

    def _stalled(self, seconds: float) -> None:
        self.stalls += 1
        self.seconds += seconds
        if self._on_stall is not None:
            try:
                self._on_stall(seconds)
            except Exception:  # Trio would drop the instrument
                logger.exception("what is told of stalls failed")


@final
class _Rounds(trio.abc.Instrument):
    """Since when the loop is busy. Written by the loop, read by the thread, one value at a time."""

    def __init__(
        self, is_stall: Callable[[float], bool], stalled: Callable[[float], object]
    ) -> None:
        self._is_stall = is_stall
        self._stalled = stalled
        self._loop = threading.get_ident()
        self.busy_since: float | None = time.monotonic()
        self.count = 0
        self.task: trio.lowlevel.Task | None = None
        self.seen: float | None = None  # the stall that the thread has told of: its busy_since

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        self.count += 1
        self.busy_since = time.monotonic()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.task = task

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        since, self.busy_since, self.task = self.busy_since, None, None
        if since is None:
            return
        seconds = time.monotonic() - since
        if self._is_stall(seconds):
            self._over(seconds, was_seen=self.seen == since)

    def _over(self, seconds: float, *, was_seen: bool) -> None:
        if was_seen:
            logger.info("the event loop goes on; it was blocked for %.2f s", seconds)
        else:
            logger.warning(
                "the event loop was blocked for %.2f s; that was over before it was seen by what",
                seconds,
            )
        self._stalled(seconds)

    def where(self) -> FrameType | None:
        """Return what the loop's thread is doing now."""
        return sys._current_frames().get(self._loop)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented


class _Pause(Protocol):
    def __call__(self, *, is_idle: bool) -> float: ...


@final
class _Thread:
    """Looks, until it is stopped."""

    def __init__(
        self,
        rounds: _Rounds,
        is_stall: Callable[[float], bool],
        pause: _Pause,
        feed: Callable[[], object] | None,
    ) -> None:
        self._rounds = rounds
        self._is_stall = is_stall
        self._pause = pause
        self._feed = feed
        self._stopped = threading.Event()
        self._count = 0

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        # A limiter of its own: the threads of a busy program must not keep this one waiting.
        await trio.to_thread.run_sync(self._run, limiter=trio.CapacityLimiter(1))

    def _run(self) -> None:
        while not self._stopped.is_set():
            is_idle = self._look()
            self._stopped.wait(self._pause(is_idle=is_idle))

    def _look(self) -> bool:
        """Look once; return whether the loop has been idle since the last time."""
        rounds = self._rounds
        before, self._count = self._count, rounds.count
        since = rounds.busy_since
        seconds = 0.0 if since is None else time.monotonic() - since
        if since is not None and self._is_stall(seconds):
            if rounds.seen != since:
                self._tell(since, seconds)
            return False
        if self._feed is not None:
            self._feed()
        return since is None and self._count == before

    def _tell(self, since: float, seconds: float) -> None:
        task, frame = self._rounds.task, self._rounds.where()
        if self._rounds.busy_since != since or frame is None:
            return  # it is over, and this is no longer what has blocked it
        lines = places(frame)
        self._rounds.seen = since
        logger.warning(
            "the event loop has been blocked for %.2f s%s; it stands at\n  %s",
            seconds,
            "" if task is None else f" by {_whose(task)}",
            "\n  ".join(lines),
        )


def _whose(task: trio.lowlevel.Task) -> str:
    # In a copy of its context: the task is in its own.
    name = task.context.copy().run(current_manifold)
    return f"task {task.name}" if name is None else f'"{name}" manifold, task {task.name}'


def places(frame: FrameType) -> list[str]:
    """Return where a thread stands, outermost first, from Trio's loop on inwards."""
    found = [(f.filename, f.lineno, f.name) for f in traceback.extract_stack(frame)]
    loops = [i for i, (name, _, _) in enumerate(found) if name.endswith("/trio/_core/_run.py")]
    inner = found[loops[-1] + 1 :] if loops else found
    return [f"{name}:{line} in {function}" for name, line, function in inner or found]
