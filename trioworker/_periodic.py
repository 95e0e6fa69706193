"""Calling an async function again and again, with a pause between the calls.

The pause runs from the end of one call to the start of the next, so calls never overlap, whatever
they take, and a slow one is not made up for afterwards. An error ends the worker: whether that is
the end of the story is for its owner's restart policy to say.
"""

from __future__ import annotations

import random as _random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVarTuple, final

import trio

from ._simple import simple_worker
from ._util import check_async, check_seconds, name_of
from ._worker import Worker

Args = TypeVarTuple("Args")

_CALL = "periodic_worker({}, period=60.0)"


def periodic_worker(
    async_fn: Callable[[*Args], Awaitable[object]],
    *args: *Args,
    period: float,
    jitter: float = 0.0,
    immediately: bool = True,
    random: Callable[[], float] = _random.random,
) -> Worker:
    """Return a worker that calls ``await async_fn(*args)`` until it is killed or a call raises.

    Args:
        async_fn: what to call; what it returns is dropped.
        *args: what to call it with.
        period: seconds between the end of one call and the start of the next.
        jitter: how far each pause is spread, as a part of it from 0 to 1: with 0.1 it is a random
            time from 0.9 to 1.1 times `period`.
        immediately: whether the first call comes at once, or after a pause like every other.
        random: where the jitter comes from: returns a number from 0 to 1, drawn once per pause.

    Raises:
        TypeError: `async_fn` is not an async function, or an argument has the wrong type.
        ValueError: `period` is not a finite number above 0, or `jitter` is not from 0 to 1.
    """
    check_async(_CALL, async_fn)
    check_seconds("periodic_worker(period=...)", period, zero=False)
    _check_jitter(jitter)
    if not callable(random):
        raise TypeError(f"periodic_worker(random=...) must be a function, not {random!r}")
    calls = _Calls(async_fn, args, period, jitter, random, immediately=immediately)
    return simple_worker(calls)


@final
class _Calls:
    """The calls of one worker, as the function that its task runs."""

    def __init__(
        self,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        period: float,
        jitter: float,
        random: Callable[[], float],
        *,
        immediately: bool,
    ) -> None:
        self.async_fn = async_fn
        self.args = args
        self.period = period
        self.jitter = jitter
        self.random = random
        self.immediately = immediately

    @property
    def name(self) -> str:
        return name_of(self.async_fn)

    async def __call__(self) -> None:
        if not self.immediately:
            await self._pause()
        while True:
            await self.async_fn(*self.args)
            await self._pause()

    async def _pause(self) -> None:
        spread = 2 * self.random() - 1 if self.jitter else 0.0
        await trio.sleep(self.period * (1 + spread * self.jitter))


def _check_jitter(jitter: float) -> None:
    where = "periodic_worker(jitter=...)"
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)):
        raise TypeError(f"{where} must be a number from 0 to 1, not {jitter!r}")
    if not 0 <= jitter <= 1:  # NaN is nowhere
        raise ValueError(f"{where} must be from 0 to 1, as a part of the period, not {jitter!r}")
