"""Running an engine as a program: what signals do, and what the exit status is.

====================  ===========================================================================
first SIGINT/SIGTERM  ``engine.kill()``: everything stops in order, each with its grace
second                ``engine.kill(grace=0)``: in order, but nothing is waited for that could be
                      cancelled; the status is 128 + the number of the signal: 130 or 143
third, or when the    the process ends on the spot, with that status: something shields itself
second has not ended  from being cancelled
it after a second
====================  ===========================================================================

The signals are a worker beside the engine, which ends with it; so are a watchdog, if one is wanted,
and what keeps systemd told, if it is there.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NoReturn, final

import trio

from trioworker import Engine, Tomb, open_worker, simple_worker

from ._systemd import Systemd, keep_told
from ._watchdog import Watchdog

if TYPE_CHECKING:
    from ._load import Agent

logger = logging.getLogger("trioworker.agent")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

HARD_STOP_SECONDS = 1.0
"""So long may what is cancelled take, after a second signal."""


def leave_at_once(status: int) -> NoReturn:
    """End the process without unwinding anything: the last resort."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


async def run_agent(agent: Agent) -> int:
    """Run a new engine of `agent` until it ends or is told to stop; see `run_engine`."""
    return await run_engine(agent.engine(), mask=agent.mask)


async def run_engine(
    engine: Engine,
    *,
    leave: Callable[[int], object] = leave_at_once,
    mask: Callable[[str], str] = str,
    watchdog: float | None = None,
) -> int:
    """Run `engine` until it ends, or until SIGINT or SIGTERM; return the exit status.

    - It ended, by itself or after one signal: 0.
    - A second signal came: 130 for SIGINT, 143 for SIGTERM.

    Only in the main thread, because signals are.

    Under systemd, with ``Type=notify``, it tells when all wanted manifolds are started, what is
    waited for, and that it stops; with ``WatchdogSec=`` there is a watchdog, which feeds it.

    Args:
        engine: what to run; nobody else has.
        leave: ends the process with a status, when a hard stop does not end the engine.
        mask: changes what systemd is told; see `Agent.mask`.
        watchdog: seconds after which the log tells what blocks the event loop; `None` is no
            watchdog, or one of 2 seconds if systemd asks for it.

    Raises:
        BaseException: what the engine ended with, if it was an error.
        ValueError: `watchdog` is not more than 0.
    """
    signals = _Signals(engine, leave)
    systemd = Systemd.here()
    async with AsyncExitStack() as beside:
        await beside.enter_async_context(open_worker(signals))
        if watchdog is not None or systemd.watchdog_seconds is not None:
            await beside.enter_async_context(open_worker(_watchdog(engine, systemd, watchdog)))
        if systemd.is_listening:
            telling = simple_worker(keep_told, engine, systemd, mask)
            await beside.enter_async_context(open_worker(telling))
        await engine.run()
    return signals.status


def _watchdog(engine: Engine, systemd: Systemd, threshold: float | None) -> Watchdog:
    seconds = 2.0 if threshold is None else threshold
    on_stall = getattr(engine.metrics, "stall", None)
    if systemd.watchdog_seconds is None:
        return Watchdog(seconds, on_stall=on_stall)
    within = systemd.watchdog_seconds / 2
    return Watchdog(seconds, on_stall=on_stall, feed=systemd.feed, feed_within=within)


@final
class _Signals:
    """A worker that hands signals to an engine."""

    def __init__(self, engine: Engine, leave: Callable[[int], object]) -> None:
        self._engine = engine
        self._leave = leave
        self._tomb = Tomb(name="signals")
        self.status = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._tomb, trio.open_signal_receiver(*SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                task_status.started()
                count = 0
                async for number in signals:
                    count += 1
                    if count == 1:
                        # A reason would make this end an error: only here is told who it was.
                        logger.info(
                            "%s: stopping, the engine is killed; a second signal stops hard",
                            signal.Signals(number).name,
                        )
                        self._engine.kill()
                        continue
                    self.status = 128 + number
                    if count == 2:  # noqa: PLR2004 - the second
                        logger.warning("%s again: stopping hard", signal.Signals(number).name)
                        self._engine.kill(grace=0)
                        nursery.start_soon(self._run_out, name="hard stop")
                    else:
                        self._leave(self.status)

    async def _run_out(self) -> None:
        await trio.sleep(HARD_STOP_SECONDS)
        running = [
            report.name
            for report in self._engine.report().manifolds.values()
            if report.ends < report.starts
        ]
        logger.error("still running, and left behind: %s", ", ".join(running) or "nothing")
        self._leave(self.status)

    def kill(self, reason: BaseException | None = None) -> None:
        self._tomb.kill(reason)

    async def wait(self) -> None:  # pragma: no cover - a Worker has it; open_worker() does not ask
        await self._tomb.wait()
