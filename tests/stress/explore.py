"""Runs a story under many schedules, and says of each that breaks a promise how to see it again.

A *story* is an async function that is given a `Tale`: the package (`Tale.api`), a generator of
random numbers, and a place to write down what happens and what must not. All choices of a story
come from that generator, all of the scheduler and of the points from others with the same seed, and
time is a `trio.testing.MockClock`. So the number of a schedule is all of it:

- `tell` runs one, and returns what happened;
- `explore` runs a range of them and raises `BrokenPromise` at the first that breaks a promise, with
  the command that runs that one alone. ``TRIOWORKER_SEED=<number>`` makes it run only that one.

What a story checks inside of a worker it must not raise there: an error of a worker is what the
package is made to deal with. `Tale.check` writes it down instead.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import trio
from trio.testing import MockClock

from .perturb import Core
from .scheduler import Trace, discard, scheduled

VARIABLE = "TRIOWORKER_SEED"

FOREVER = 1_000_000.0
"""Seconds of mock time after which a story is stuck."""


class BrokenPromise(AssertionError):
    """A schedule in which the package did what it promises not to do."""


class Tale:
    """What a story is given.

    Attributes:
        api: the package.
        rng: where all of the story's choices come from.
        broken: the promises that were broken.
        lines: what happened, with the time.
        interrupted: whether the story has sent itself an interrupt, which it may end with.
    """

    def __init__(self, api: Any, seed: int) -> None:
        self.api: Any = api
        self.rng = Random(f"{seed} story")
        self.broken: list[str] = []
        self.lines: list[tuple[float, str]] = []
        self.interrupted = False

    def says(self, what: str) -> None:
        """Write down what happens."""
        self.lines.append((trio.current_time(), what))

    def check(self, promise: bool, what: str) -> None:  # noqa: FBT001 - an assertion
        """Write down that a promise was broken, unless it was kept."""
        if not promise:
            self.broken.append(what)
            self.says(f"BROKEN: {what}")

    async def some_time(self, longest: float = 2.0) -> None:
        """Wait for a few steps, or for some time: no time is as likely as any."""
        if self.rng.random() < 0.5:
            for _ in range(self.rng.randrange(5)):
                await trio.lowlevel.checkpoint()
        else:
            await trio.sleep(self.rng.choice((0.5, 1.0, self.rng.random() * longest)))


Story = Callable[[Tale], Awaitable[None]]


@dataclass(frozen=True)
class Told:
    """One schedule of a story, after it."""

    seed: int
    strategy: str
    steps: list[str]
    lines: list[tuple[float, str]]
    broken: list[str]
    digest: bytes
    """Of the order of all steps; two schedules with the same were the same."""


def tell(story: Story, core: Core, seed: int, *, strategy: str | None = None) -> Told:
    """Run `story` once, under the schedule `seed`."""
    tale = Tale(core.api, seed)
    trace = Trace()
    crashed = False

    async def whole() -> None:
        with trio.fail_after(FOREVER):
            await story(tale)

    core.perturbation.begin(seed)
    try:
        with scheduled(seed, strategy) as scheduler:
            clock = MockClock(autojump_threshold=0)
            try:
                trio.run(whole, clock=clock, instruments=[trace])
            except BaseException as exc:
                if _is_interrupt(exc):
                    if not tale.interrupted:
                        raise  # a real one
                else:
                    tale.broken.append(_text(exc))
                    crashed = isinstance(exc, trio.TrioInternalError)
    finally:
        core.perturbation.end()
    steps, drawn = trace.lines(), scheduler.strategy
    if crashed:
        del trace, scheduler  # they hold the tasks
        discard()
    digest = hashlib.blake2b("\n".join(steps).encode(), digest_size=8).digest()
    return Told(seed, drawn, steps, tale.lines, tale.broken, digest)


def _is_interrupt(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(KeyboardInterrupt)[1] is None
    return isinstance(exc, KeyboardInterrupt)


def _text(exc: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(exc)[-40:])


@dataclass(frozen=True)
class Explored:
    """What a whole exploration was."""

    name: str
    count: int
    distinct: int
    seconds: float

    def __str__(self) -> str:
        each = 1000 * self.seconds / self.count
        share = 100 * self.distinct / self.count
        return (
            f"{self.name}: {self.count} schedules, {self.distinct} distinct ({share:.1f} %), "
            f"{self.seconds:.1f} s of CPU, {each:.2f} ms each"
        )


RESULTS: list[Explored] = []
"""For the summary of the run; `conftest.py` prints it."""

ENOUGH = 0.9
"""The share of schedules that must be distinct, or the exploration goes in circles."""


def explore(story: Story, core: Core, count: int) -> Explored:
    """Run `story` under the schedules 0 to `count`; those of ``TRIOWORKER_SEED`` if it is set.

    Raises:
        BrokenPromise: by one of them; or there were too few distinct ones.
    """
    name = story.__name__
    only = os.environ.get(VARIABLE)
    if only is not None:
        told = tell(story, core, int(only))
        print(_account(told))  # noqa: T201 - what was asked for
        if told.broken:
            raise BrokenPromise(_complaint(name, told))
        return Explored(name, 1, 1, 0.0)
    began = time.process_time()
    digests: set[bytes] = set()
    with quiet():
        for seed in range(count):
            told = tell(story, core, seed)
            if told.broken:
                raise BrokenPromise(_complaint(name, told))
            digests.add(told.digest)
    explored = Explored(name, count, len(digests), time.process_time() - began)
    if explored.distinct < ENOUGH * count:
        raise BrokenPromise(f"too few distinct schedules: {explored}")
    RESULTS.append(explored)
    return explored


def first_broken(story: Story, core: Core, count: int) -> Told | None:
    """Return the first of the schedules 0 to `count` that breaks a promise, if any does."""
    with quiet():
        return next((t for seed in range(count) if (t := tell(story, core, seed)).broken), None)


@contextmanager
def quiet() -> Generator[None]:
    """No log: thousands of errors are part of the stories."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _complaint(name: str, told: Told) -> str:
    promises = "\n  ".join(told.broken)
    return (
        f"schedule {told.seed} of {name} ({told.strategy}) broke a promise:\n  {promises}\n"
        f"This schedule alone, step by step:\n"
        f"  {VARIABLE}={told.seed} pytest -s tests/stress -k {name}\n"
        "What happened:\n" + "\n".join(f"  {when:8.3f} {what}" for when, what in told.lines)
    )


def _account(told: Told) -> str:
    lines = "\n".join(f"  {when:8.3f} {what}" for when, what in told.lines)
    return (
        f"schedule {told.seed}, {told.strategy}, {len(told.steps)} steps, {told.digest.hex()}\n"
        f"{lines}\n  " + "\n  ".join(told.steps)
    )
