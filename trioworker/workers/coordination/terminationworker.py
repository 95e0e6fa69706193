"""Ends with `Terminated` when the process gets SIGABRT: not "stop", but "be gone for good".

In an agent file::

    [manifolds.termination]
    use = "trioworker.workers.coordination.terminationworker:manifold"

SIGTERM and SIGINT ask a program to stop; it is still installed, and will be started again. SIGABRT
asks it to remove itself. What that takes is the affair of the program: its engine's ``is_fatal``
says that `Terminated` is fatal, the engine stops everything and raises it, and whoever called
``engine.run()`` uninstalls.

The signal is registered before the worker is ready, so from then on none is lost, also one that
comes at the moment of a ``kill()``. Several that come together are one. When the worker has ended
the signal does again what it did before: by default, it kills the process.

It is the signal that another process sends, with ``kill -ABRT``. A C library's ``abort()`` ends the
process all the same. Python's `faulthandler` uses SIGABRT too, and does not while the worker lives,
nor after it. Signals can be registered in the main thread only.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, NamedTuple, final

import trio

from trioworker import Manifold, Reporter, Tomb, TombReport
from trioworker.backends.signals import SignalInbox

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["Terminated", "TerminationReport", "TerminationWorker", "manifold"]


class Terminated(Exception):
    """The program is to remove itself. For an engine's ``is_fatal``."""


@final
class TerminationReport(NamedTuple):
    """How the worker stands."""

    tomb: TombReport
    """Its life."""
    came: bool
    """Whether the signal has come."""


@final
class TerminationWorker:
    """Waits for SIGABRT, and ends with `Terminated`.

    Args:
        name: what to call it in messages.
    """

    def __init__(self, *, name: str = "termination") -> None:
        self.name = name
        self._came = False
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait until killed or for the signal. It is registered before it is ready."""
        signals = SignalInbox(signal.SIGABRT)
        with self._tomb:
            try:
                with signals:
                    task_status.started(self)
                    await signals.receive()
                    self._came = True
            finally:
                self._came |= bool(signals.take_all())
                if self._came:
                    raise Terminated("SIGABRT came: the program is to remove itself")

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def report(self) -> TerminationReport:
        """Return how it stands."""
        return TerminationReport(self._tomb.report(), self._came)

    def __repr__(self) -> str:
        return f"<TerminationWorker {self.name!r} {self._tomb.state}>"


@final
class _ReporterFace:
    """All that others may do with it."""

    def __init__(self, worker: TerminationWorker) -> None:
        self.report = worker.report


def manifold() -> Manifold:
    """Return the manifold of the worker. It offers `Reporter` alone."""
    return Manifold.from_worker(_worker, outputs={Reporter: _ReporterFace})


def _worker(get: Getter) -> TerminationWorker:  # noqa: ARG001 - it needs nothing
    return TerminationWorker()
