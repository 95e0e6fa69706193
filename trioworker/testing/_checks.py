"""Checks on a worker's life that use nothing but ``kill()`` and ``wait()``.

How they differ:

==============  ================================  ===============================
check           the worker ends with an error     cancelled from outside meanwhile
==============  ================================  ===============================
`check_killed`  returns it                        stops waiting
`clean_kill`    AssertionError                    stops waiting
`dirty_kill`    returns it                        waits on: it is for clean-up
==============  ================================  ===============================
"""

from __future__ import annotations

import trio

from .. import Worker
from .._util import check_seconds, name_of
from ._bounds import PATIENCE, RESTLESS, at_most, comes_to_rest


async def check_alive(worker: Worker) -> None:
    """Assert that `worker` does not end unless something else happens. Takes no time.

    The trick: one task waits for the end while this one waits until all others are blocked. When
    they are, nothing more can happen by itself but by time, and if the waiting task still waits,
    the worker lives. A worker that would end after a second is alive: the clock does not move,
    not even one that jumps by itself.

    A worker that nobody has run has not begun, and so has not ended: it passes.

    Raises:
        AssertionError: it has ended, with its error, if any, as the cause; or some task never
            blocks, so that nobody can tell.
        TypeError: `worker` is no worker.
    """
    __tracebackhide__ = True
    _check_worker("check_alive", worker)
    ends: list[BaseException | None] = []

    async def look() -> None:
        ends.append(await _end_of(worker))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        rested = await comes_to_rest()
        nursery.cancel_scope.cancel(reason="check_alive() has seen enough")
    for error in ends:
        how = "without error" if error is None else f"with {error!r}"
        raise AssertionError(f'"{name_of(worker)}" should be alive, but ended {how}') from error
    if not rested:
        raise AssertionError(RESTLESS)


async def check_killed(worker: Worker, *, within: float = PATIENCE) -> BaseException | None:
    """Kill `worker`, assert that it ends, and return the error that it ended with, if any.

    Somebody must run it: one that nobody runs does not end. An error that the contract of
    ``kill()`` forbids, and a `KeyboardInterrupt`, pass unchanged.

    Args:
        worker: who is to end.
        within: seconds that it may take, on Trio's clock or the wall's, whichever is over first.

    Raises:
        AssertionError: it did not end in time. It is still running, and its owner's nursery will
            wait for it.
        TypeError, ValueError: `worker` is no worker, or `within` no finite time above 0.
    """
    __tracebackhide__ = True
    return await _killed("check_killed", worker, within, shield=False)


async def clean_kill(worker: Worker, *, within: float = PATIENCE) -> None:
    """Kill `worker`, and assert that it ends without error. Otherwise as `check_killed`.

    Raises:
        AssertionError: it ended with an error, which is the cause; or it did not end in time.
        TypeError, ValueError: as `check_killed`.
    """
    __tracebackhide__ = True
    error = await _killed("clean_kill", worker, within, shield=False)
    if error is not None:
        raise AssertionError(
            f'"{name_of(worker)}" should have ended without error, but ended with {error!r}'
        ) from error


async def dirty_kill(worker: Worker, *, within: float = PATIENCE) -> BaseException | None:
    """Kill `worker`, wait for its end, and return whatever it raised: for a ``finally``.

    As `check_killed`, but it does its work also when the test is being cancelled, shielded and
    for at most `within` seconds.

    Raises:
        AssertionError: it did not end in time.
        TypeError, ValueError: as `check_killed`.
    """
    __tracebackhide__ = True
    return await _killed("dirty_kill", worker, within, shield=True)


async def _killed(
    check: str, worker: Worker, within: float, *, shield: bool
) -> BaseException | None:
    __tracebackhide__ = True
    _check_worker(check, worker)
    check_seconds(f"{check}(within=...)", within, zero=False)
    worker.kill()
    ends: list[BaseException | None] = []
    with at_most(within, shield=shield):
        ends.append(await _end_of(worker))
    for error in ends:
        return error
    raise AssertionError(
        f'"{name_of(worker)}" did not end within {within:g} s of its kill(); '
        "does anybody run it, and does what it waits for let itself be cancelled?"
    )


async def _end_of(worker: Worker) -> BaseException | None:
    """Wait for the end of `worker` and return its error; what is not the worker's, passes."""
    try:
        await worker.wait()
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt) or _holds_cancelled(exc):
            raise
        return exc
    return None


def _holds_cancelled(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.subgroup(trio.Cancelled) is not None
    return isinstance(exc, trio.Cancelled)


def _check_worker(check: str, worker: object) -> None:
    if isinstance(worker, type) or not isinstance(worker, Worker):
        raise TypeError(
            f"{check}() takes a worker, which has run(), kill() and wait(), not {worker!r}"
        )
