"""How everything here is measured, so that each question is only its two trials.

A **trial** does some work once and returns what it cost: a number for each thing that it measured.
A `Question` has two, ours and the floor's. They run in turn in one process, in changing order,
after one round that does not count; and each round gives one ratio, of two neighbours in time. What
slows the machine for a while then slows both sides of a pair, and the median of the ratios moves
less than either side's times do. What remains is what the printed minimum and maximum are for.

Time is what the processor spent on the process. Nothing here waits for the world, so with the
machine to ourselves that is the time on the wall as well; with others at work, it is our part of
it. How the two compare over a whole run is told at its end: a side that slept, or a machine that
was shared, shows there.

The garbage collector is left as Python sets it, because that is how programs run; what it would
collect of an earlier trial is collected before the next, and before each phase of a trial.

Nothing here needs more than Python itself: peers are measured by this file too, in environments of
their own.
"""

from __future__ import annotations

import gc
import math
import statistics
import subprocess
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any, ClassVar, Literal, Protocol, Self

Trial = Callable[[int], Mapping[str, float]]
"""``trial(n) -> {what: cost}``: do the work with `n` workers; the costs are in the unit asked for,
per worker."""

Pairs = Sequence[tuple[float, float]]
"""What each round cost us and the floor."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a median must not exceed."""

    limit: float
    of: Literal["ratio", "difference", "ours"] = "ratio"
    """Whether it is about ours / floor, about ours - floor, or about ours alone."""
    at: tuple[int, ...] = ()
    """The sizes it holds at; empty for every size."""

    def holds_at(self, n: int) -> bool:
        """Whether it is about size `n`."""
        return not self.at or n in self.at


@dataclass(frozen=True, kw_only=True)
class Question:
    """The same work done by us and by raw Trio.

    The name is that of its file, and after a comma what distinguishes it from others there.
    """

    name: str
    ours: Trial
    floor: Trial
    sizes: tuple[int, ...]
    bars: Mapping[str, Bar] = field(default_factory=dict[str, Bar])
    """By what the trials measure; what has no bar is measured all the same."""
    unit: str = "us"
    against: str = "raw Trio"
    """What the floor is, in a few words."""
    rounds: int = 0
    """How many rounds at least, if more than the default."""
    is_fixed: bool = False
    """Whether there is one size only, which cannot be made smaller for a quick look."""

    @property
    def peers_at(self) -> int:
        """The size at which peers are asked the same."""
        return 1000 if 1000 in self.sizes else self.sizes[0]


@dataclass(frozen=True)
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


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to one question at one size."""

    question: str
    what: str
    n: int
    unit: str
    against: str
    pairs: Pairs
    bar: Bar | None

    @property
    def title(self) -> str:
        """The question, and what of it this is about."""
        return f"{self.question}: {self.what}"

    @property
    def ours(self) -> Spread:
        """What it cost us."""
        return Spread.of(ours for ours, _ in self.pairs)

    @property
    def floor(self) -> Spread:
        """What it cost the floor."""
        return Spread.of(floor for _, floor in self.pairs)

    @property
    def ratio(self) -> Spread | None:
        """Ours / floor, pair by pair; there is none to a floor that costs nothing."""
        if not all(floor for _, floor in self.pairs):
            return None
        return Spread.of(ours / floor for ours, floor in self.pairs)

    @property
    def difference(self) -> Spread:
        """Ours - floor, pair by pair."""
        return Spread.of(ours - floor for ours, floor in self.pairs)

    @property
    def value(self) -> float:
        """What the bar is about."""
        if self.bar and self.bar.of == "ours":
            return self.ours.median
        if self.ratio is None or (self.bar and self.bar.of == "difference"):
            return self.difference.median
        return self.ratio.median

    @property
    def passed(self) -> bool:
        """Whether it is within its bar; without one, always."""
        return self.bar is None or self.value <= self.bar.limit

    def plain(self) -> dict[str, Any]:
        """Return it as it goes into the JSON."""
        bar = self.bar and {
            "of": self.bar.of,
            "limit": self.bar.limit,
            "value": self.value,
            "passed": self.passed,
        }
        return {
            "question": self.question,
            "what": self.what,
            "n": self.n,
            "unit": self.unit,
            "against": self.against,
            "ours": asdict(self.ours),
            "floor": asdict(self.floor),
            "ratio": self.ratio and asdict(self.ratio),
            "difference": asdict(self.difference),
            "pairs": [[float(f"{cost:.5g}") for cost in pair] for pair in self.pairs],
            "bar": bar,
        }


def answers(question: Question, n: int, rounds: int) -> Iterator[Result]:
    """Ask `question` at size `n`, in `rounds` rounds; one result for each thing it measures."""
    question.ours(n)
    question.floor(n)
    ours: list[Mapping[str, float]] = []
    floor: list[Mapping[str, float]] = []
    for number in range(rounds):
        sides = [(question.ours, ours), (question.floor, floor)]
        for trial, costs in sides if number % 2 else reversed(sides):
            gc.collect()
            costs.append(trial(n))
    for what in ours[0]:
        bar = question.bars.get(what)
        yield Result(
            question=question.name,
            what=what,
            n=n,
            unit=question.unit,
            against=question.against,
            pairs=[(a[what], b[what]) for a, b in zip(ours, floor, strict=True)],
            bar=bar if bar is not None and bar.holds_at(n) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the cost per worker grows with their number n: as n to the power of the exponent.

    0 is flat: twice as many cost twice as much.
    """

    title: str
    sizes: tuple[int, ...]
    ours: Spread
    floor: Spread
    beyond: Spread
    """Ours - floor, round by round: what remains if the floor's own growth is taken away."""

    def plain(self) -> dict[str, Any]:
        """Return it as it goes into the JSON."""
        return {**asdict(self), "sizes": list(self.sizes)}


def growths(results: Iterable[Result]) -> list[Growth]:
    """Fit an exponent to whatever was asked of three sizes or more, round by round."""
    asked: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.unit == "us":
            asked[result.title].append(result)
    found: list[Growth] = []
    for title, sized in asked.items():
        sizes = tuple(result.n for result in sized)
        if len(set(sizes)) < 3:
            continue
        rounds = list(zip(*(result.pairs for result in sized), strict=False))
        fits = [
            (exponent(sizes, [a for a, _ in costs]), exponent(sizes, [b for _, b in costs]))
            for costs in rounds
        ]
        found.append(
            Growth(
                title=title,
                sizes=sizes,
                ours=Spread.of(a for a, _ in fits),
                floor=Spread.of(b for _, b in fits),
                beyond=Spread.of(a - b for a, b in fits),
            )
        )
    return found


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Return the k of cost = c * n ** k that fits best: a straight line through the logarithms."""
    logs = [math.log(n) for n in sizes]
    return statistics.linear_regression(logs, [math.log(cost) for cost in costs]).slope


class Stopwatch:
    """The processor's time per worker, in microseconds. Making one starts it.

    What the phase before has left behind is collected first.
    """

    all_real: ClassVar[float] = 0.0
    all_busy: ClassVar[float] = 0.0
    """The seconds of all of them together, by the clock on the wall and by the processor's."""

    def __init__(self, n: int) -> None:
        self._n = n
        gc.collect()
        self._began = perf_counter()
        self._busy = process_time()

    def read(self) -> float:
        """Return the microseconds per worker since the start."""
        busy = process_time() - self._busy
        Stopwatch.all_busy += busy
        Stopwatch.all_real += perf_counter() - self._began
        return busy / self._n * 1e6

    @classmethod
    def undisturbed(cls) -> float | None:
        """Return what part of the time measured so far was ours; ``None`` if there is none."""
        return min(1.0, cls.all_busy / cls.all_real) if cls.all_real else None


class WallClock:
    """As a `Stopwatch`, but by the clock on the wall: for what waits for disks and servers."""

    def __init__(self, n: int) -> None:
        self._n = n
        gc.collect()
        self._began = perf_counter()

    def read(self) -> float:
        """Return the microseconds per worker since the start."""
        return (perf_counter() - self._began) / self._n * 1e6


class Scales:
    """What Python has allocated inside a ``with``, in KiB per worker."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._before = 0

    def __enter__(self) -> Self:
        gc.collect()
        tracemalloc.start()
        self._before = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *exc: object) -> None:
        tracemalloc.stop()

    def read(self) -> float:
        """Return what has come and is still there."""
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - self._before) / self._n / 1024


def importing(module: str) -> Trial:
    """Make a trial that imports `module` in interpreters of its own, in milliseconds."""
    code = (
        "from time import process_time\nbegan = process_time()\n"
        f"import {module}\nprint(1000 * (process_time() - began))"
    )

    def trial(n: int) -> dict[str, float]:
        times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(n)]
        return {"import": sum(times) / n}

    return trial


class Event(Protocol):
    """What Trio's and asyncio's events have in common."""

    def set(self) -> object: ...
    def wait(self) -> Awaitable[object]: ...


class Countdown:
    """Says when `count` workers are up, at the same cost on both sides.

    The engine has a way of its own to wait, but asking for it makes it watch its transitions, and a
    floor that waited for each worker's event in turn would pay for a checkpoint each.
    """

    def __init__(self, count: int, zero: Event) -> None:
        self._left = count
        self._zero = zero

    def down(self) -> None:
        """One more is up."""
        self._left -= 1
        if not self._left:
            self._zero.set()

    async def wait(self) -> None:
        """Wait until all are up."""
        await self._zero.wait()
