"""How everything here is measured, so that each question is only its two trials.

A **trial** does some work once, in a `trio.run()` of its own, and returns what it cost: a number
for each thing it measured. A `Question` has two, ours and the floor's. They run in turn in one
process, in changing order, after one round that does not count; and each round gives one ratio, of
two neighbours in time. What slows the machine for a while then slows both sides of a pair, and the
median of the ratios moves less than either side's times do. Load that comes and goes faster than a
round still disturbs it, which is what the printed minimum and maximum are for.

The garbage collector is left as Python sets it, because that is how programs run; what it would
collect of an earlier trial is collected before the next, and before each phase of a trial.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, Literal

import attrs
import trio

import trioworker
from trioworker.dependency import EngineConfig

Trial = Callable[[int], Mapping[str, float]]
"""``trial(n) -> {what: cost}``: do the work with `n` workers; the costs are in the unit asked for,
per worker."""

NO_DELAYS = EngineConfig(
    restart=trioworker.RestartPolicy(error_delay=0, jitter=0, bounce_delay=1e-9)
)
"""Restarts at once, on our side as on the floor's."""


@attrs.frozen(kw_only=True)
class Bar:
    """What a median must not exceed."""

    limit: float
    of: Literal["ratio", "difference"] = "ratio"
    """Whether it is about ours / floor or about ours - floor."""
    at: int | None = None
    """The size it holds at; ``None`` for every size."""


@attrs.frozen(kw_only=True)
class Question:
    """The same work done by us and by raw Trio."""

    name: str
    ours: Trial
    floor: Trial
    sizes: tuple[int, ...]
    bars: Mapping[str, Bar]
    """By what the trials measure; what has no bar is measured all the same."""
    unit: str = "us"
    runs: int | None = None
    """How many rounds at least; ``None`` for the default."""


@attrs.frozen
class Spread:
    """Several measurements of one thing."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of `values`."""
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1])


@attrs.frozen(kw_only=True)
class Result:
    """The answer to one question at one size."""

    question: str
    n: int
    unit: str
    runs: int
    ours: Spread
    floor: Spread
    ratio: Spread
    difference: Spread
    bar: Bar | None

    @property
    def value(self) -> float:
        """What the bar is about."""
        return (self.difference if self.bar and self.bar.of == "difference" else self.ratio).median

    @property
    def passed(self) -> bool:
        """Whether it is within its bar; without one, always."""
        return self.bar is None or self.value <= self.bar.limit

    def plain(self) -> dict[str, Any]:
        """Return it as it goes into the JSON."""
        bar = None
        if self.bar is not None:
            bar = {
                "of": self.bar.of,
                "limit": self.bar.limit,
                "value": self.value,
                "passed": self.passed,
            }
        data = attrs.asdict(self, filter=lambda field, _: field.name != "bar")
        return {**data, "bar": bar, "peers": {}}


def answers(question: Question, n: int, runs: int) -> Iterator[Result]:
    """Ask `question` at size `n`, in `runs` rounds; one result for each thing that it measures."""
    question.ours(n)
    question.floor(n)
    ours: list[Mapping[str, float]] = []
    floor: list[Mapping[str, float]] = []
    for number in range(runs):
        sides = [(question.ours, ours), (question.floor, floor)]
        for trial, costs in sides if number % 2 else reversed(sides):
            gc.collect()
            costs.append(trial(n))
    for what in ours[0]:
        pairs = [(a[what], b[what]) for a, b in zip(ours, floor, strict=True)]
        bar = question.bars.get(what)
        yield Result(
            question=f"{question.name}: {what}",
            n=n,
            unit=question.unit,
            runs=runs,
            ours=Spread.of(a for a, _ in pairs),
            floor=Spread.of(b for _, b in pairs),
            ratio=Spread.of(a / b for a, b in pairs),
            difference=Spread.of(a - b for a, b in pairs),
            bar=bar if bar is not None and bar.at in (None, n) else None,
        )


def in_trio(async_fn: Callable[..., Awaitable[Mapping[str, float]]], *args: object) -> Trial:
    """Make a trial of ``async_fn(n, *args)``, each time in a ``trio.run()`` of its own."""

    def trial(n: int) -> Mapping[str, float]:
        return trio.run(async_fn, n, *args)

    return trial


class Stopwatch:
    """Real time per worker, in microseconds. Making one, or `again()`, starts it."""

    def __init__(self, n: int) -> None:
        self._n = n
        self.again()

    def again(self) -> None:
        """Start once more, with what the phase before left behind collected."""
        gc.collect()
        self._began = perf_counter()

    def read(self) -> float:
        """Return the microseconds per worker since the start."""
        return (perf_counter() - self._began) / self._n * 1e6


class Countdown:
    """Says when `count` workers are up, at the same cost on both sides.

    The engine has a way of its own to wait, but asking for it makes it watch its transitions, and a
    floor that waited for each worker's event in turn would pay for a checkpoint each.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._zero = trio.Event()

    def down(self) -> None:
        """One more is up."""
        self._left -= 1
        if not self._left:
            self._zero.set()

    async def wait(self) -> None:
        """Wait until all are up."""
        await self._zero.wait()


def machine() -> dict[str, Any]:
    """Describe what the numbers were taken on, without naming the machine."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": trio.__version__,
        "trioworker": trioworker.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": None if load is None else round(load, 2),
        "gc": f"on, thresholds {gc.get_threshold()}" if gc.isenabled() else "off",
    }
