"""What holds of every worker, tried with one of yours.

One small function for each rule, which gets a worker of its own and says what was wrong. They know
nothing of it but ``run()``, ``kill()``, ``wait()`` and, if it has one, ``report()``.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, final

import trio
from trio.testing import wait_all_tasks_blocked

from .. import Reporter, Worker
from .._util import check_seconds, check_sync, name_of
from ._bounds import PATIENCE, at_most

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable


async def check_worker(make: Callable[[], Worker], *, within: float = PATIENCE) -> None:
    """Assert that workers like those that ``make()`` returns keep the contract of workers.

    - It calls ``started()``, once. Killed, also twice, it ends without error.
    - Killed before it runs, it ends when it is run.
    - Killed with a reason, ``run()`` and ``wait()`` raise that very object.
    - Any number of tasks may wait for its end, and one that gives up disturbs no other.
    - Its ``report()`` and its repr never fail: before it runs, alive, dying and dead.
    - Cancelled from outside it ends, and ``wait()`` returns.
    - It runs once: run again when it is dead, it refuses.
    - No task of it is left.

    Each is tried with a new worker, which the check runs. What the worker needs, `make` provides,
    so that without a kill it does not end. One that shields itself from cancellation for ever hangs
    the check, as it would hang its owner.

    Args:
        make: returns a worker that nobody has run.
        within: seconds that each rule may take, on Trio's clock or the wall's, whichever is over
            first.

    Raises:
        AssertionError: one rule does not hold; the message says which, and what happened.
        TypeError, ValueError: `make` is no plain function that returns a worker, or `within` no
            finite time above 0.
    """
    __tracebackhide__ = True
    check_sync("check_worker(make)", make)
    check_seconds("check_worker(within=...)", within, zero=False)
    for when, rule in _RULES.items():
        worker = make()
        if not isinstance(worker, Worker):
            raise TypeError(f"check_worker(make): make() must return a worker, not {worker!r}")
        before = trio.lowlevel.current_statistics().tasks_living
        wrong = "it hung"
        with at_most(within):
            wrong = await rule(worker)
        await trio.lowlevel.checkpoint()
        left = trio.lowlevel.current_statistics().tasks_living - before
        if not wrong and left > 0:
            wrong = f"{left} tasks of it are left"
        if wrong:
            raise AssertionError(f'"{name_of(worker)}", {when}: {wrong}')


@final
class _Run:
    """A run of a worker, as its owner sees it."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.scope = trio.CancelScope()
        self.starts = 0
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.error: BaseException | None = None

    def started(self, value: Any = None) -> None:  # noqa: ARG002 - as a task status has it
        self.starts += 1
        self.ready.set()

    async def run(self) -> None:
        try:
            with self.scope:
                await self.worker.run(task_status=self)
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            self.error = error
        finally:
            self.ready.set()
            self.ended.set()


@asynccontextmanager
async def _running(worker: Worker) -> AsyncGenerator[_Run, None]:
    """Run it for the length of the block, from when it is ready."""
    async with trio.open_nursery() as nursery:
        run = _Run(worker)
        nursery.start_soon(run.run)
        await run.ready.wait()
        yield run
        nursery.cancel_scope.cancel()


async def _error_of(worker: Worker) -> BaseException | None:
    try:
        await worker.wait()
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return error
    return None


async def _stops(worker: Worker) -> str:
    async with _running(worker) as run:
        await wait_all_tasks_blocked()
        if run.ended.is_set():
            return f"it ended before that, {_how(run.error)}"
        worker.kill()
        worker.kill()
        await run.ended.wait()
        if run.starts != 1:
            return f"it called started() {run.starts} times"
        return await _wrong_end(run)


async def _killed_first(worker: Worker) -> str:
    worker.kill()
    async with _running(worker) as run:
        await run.ended.wait()
        return await _wrong_end(run)


async def _reason(worker: Worker) -> str:
    reason = ValueError("the reason")
    async with _running(worker) as run:
        worker.kill(reason)
        await run.ended.wait()
        for what, error in (("run()", run.error), ("wait()", await _error_of(worker))):
            if error is not reason:
                return f"{what} ended {_how(error)}"
    return ""


async def _waiters(worker: Worker) -> str:
    returned: list[BaseException | None] = []

    async def wait(scope: trio.CancelScope) -> None:
        with scope:
            returned.append(await _error_of(worker))

    async with _running(worker) as run, trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(3)]
        for scope in scopes:
            nursery.start_soon(wait, scope)
        await wait_all_tasks_blocked()
        scopes[0].cancel()
        await wait_all_tasks_blocked()
        if returned or run.ended.is_set():
            nursery.cancel_scope.cancel()
            return "wait() returned before the end, or the worker ended with it"
        worker.kill()
    return "" if returned == [None, None] else f"wait() ended with {returned}"


async def _reports(worker: Worker) -> str:
    def wrong(when: str) -> str:
        try:
            repr(worker)
            if isinstance(worker, Reporter):
                worker.report()
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            return f"{when} it told {error!r}"
        return ""

    found = wrong("before it ran")
    async with _running(worker) as run:
        found = found or wrong("alive")
        worker.kill()
        found = found or wrong("dying")
        await run.ended.wait()
        return found or wrong("dead")


async def _cancelled(worker: Worker) -> str:
    async with _running(worker) as run:
        run.scope.cancel()
        await run.ended.wait()
        return await _wrong_end(run)


async def _once(worker: Worker) -> str:
    async with _running(worker) as run:
        worker.kill()
        await run.ended.wait()
    async with _running(worker) as again:
        await wait_all_tasks_blocked()
        return "" if again.error is not None else "it did not refuse"


async def _wrong_end(run: _Run) -> str:
    for what, error in (("run()", run.error), ("wait()", await _error_of(run.worker))):
        if error is not None:
            return f"{what} ended {_how(error)}"
    return ""


def _how(error: BaseException | None) -> str:
    return "without error" if error is None else f"with {error!r}"


_RULES: dict[str, Callable[[Worker], Awaitable[str]]] = {
    "killed twice": _stops,
    "killed before it runs": _killed_first,
    "killed with a reason": _reason,
    "waited for by several, one of whom gives up": _waiters,
    "asked how it is": _reports,
    "cancelled from outside": _cancelled,
    "run again": _once,
}
