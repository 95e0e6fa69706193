"""An adversary in the place of Trio's scheduler, reproducible by seed.

Trio runs tasks in batches, and promises no order within one. So that Hypothesis can reproduce a
run, Trio has a private hook: with ``_ALLOW_DETERMINISTIC_SCHEDULING`` set, each batch is sorted by
the age of its tasks and handed to ``_r.shuffle()``, from whose result Trio takes the last task
first. `scheduled` puts a `Scheduler` in the place of ``_r``, and this file is the only one that
knows of the hook. It was the same from Trio 0.31 to 0.35; `check_hook` refuses loudly any other.

**An order at random finds little**: to hit one order of five steps, each must fall right. So the
seed first draws a strategy, and the strategy the order:

==========  ======================================================================================
shuffle     any order, all equally likely
oldest      in the order in which the tasks were made
youngest    the other way round
starve      now and then one task is held back for a while, as long as any other can run
favour      now and then one task runs alone for a while, as long as it can
alone       one step of one task at a time, any
ranked      each task has a rank, and only the highest that can run does; at a few random steps the
            one that runs becomes the lowest (*probabilistic concurrency testing*: a fault that
            needs d such changes is met with a likelihood that does not depend on luck alone)
==========  ======================================================================================

A task that is held back is put back into Trio's queue, so it is as if it had become runnable one
batch later. Trio promises nobody that this cannot be; and time stands still meanwhile, because the
clock jumps only when nobody can run. After `PATIENCE` batches nobody is held back any more, so that
who waits in a loop for somebody else gets on.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import trio
from trio._core import _run

if TYPE_CHECKING:
    from trio.lowlevel import Task

PATIENCE = 400
"""Batches in which anybody is held back."""

ENDLESS = 20_000
"""Batches after which a run is called endless; a usual one has a few hundred."""

STRATEGIES = ("shuffle", "oldest", "youngest", "starve", "favour", "alone", "ranked")


class HookMovedError(Exception):
    """Trio has not what we put the scheduler in the place of."""


class EndlessError(Exception):
    """A run makes no progress: its tasks spin, or all sleep without a deadline."""


class Scheduler(random.Random):
    """Orders the batches of one run; all it does follows from `seed`.

    Args:
        seed: of the schedule.
        strategy: one of `STRATEGIES`, or drawn from the seed.
    """

    def __init__(self, seed: int, strategy: str | None = None) -> None:
        super().__init__(f"{seed} schedule")
        self.strategy: str = strategy or self.choice(STRATEGIES)
        self.batches: int = 0
        self._order = getattr(self, f"_{self.strategy}")
        self._special: Task | None = None
        self._until = 0
        self._ranks: dict[Task, float] = {}
        self._changes = {self.randrange(1, 150) for _ in range(self.randrange(4))}

    def __new__(cls, seed: int, strategy: str | None = None) -> Self:
        """Hide our second argument from `random.Random`, which takes one."""
        return cast("Any", super()).__new__(cls, seed)  # type: ignore[no-any-return]  # it is one

    def shuffle(self, x: Any) -> None:
        """Put the batch `x`, youngest last, into the order in which it is to run, last first."""
        self.batches += 1
        if self.batches > ENDLESS:
            raise EndlessError(f"not over after {ENDLESS} batches")
        if len(x) < 2:
            return
        held = self._order(x) if self.batches <= PATIENCE else self._shuffle(x)
        if held:
            cast("Any", _run.GLOBAL_RUN_CONTEXT).runner.runq.extend(held)

    # Each orders the batch and returns those that it has taken out of it.

    def _shuffle(self, batch: list[Task]) -> list[Task]:
        super().shuffle(batch)
        return []

    def _oldest(self, batch: list[Task]) -> list[Task]:
        batch.reverse()
        return []

    def _youngest(self, batch: list[Task]) -> list[Task]:
        return []

    def _starve(self, batch: list[Task]) -> list[Task]:
        super().shuffle(batch)
        special = self._pick(batch)
        if special not in batch:
            return []
        batch.remove(special)
        return [special]

    def _favour(self, batch: list[Task]) -> list[Task]:
        super().shuffle(batch)
        special = self._pick(batch)
        if special not in batch:
            return []
        held = [task for task in batch if task is not special]
        batch[:] = [special]
        return held

    def _pick(self, batch: list[Task]) -> Task | None:
        """Return the task that is special now, if any: a new one every few batches."""
        if self.batches > self._until:
            self._special = self.choice(batch) if self.random() < 0.5 else None
            self._until = self.batches + self.randint(1, 12)
        return self._special

    def _alone(self, batch: list[Task]) -> list[Task]:
        chosen = batch.pop(self.randrange(len(batch)))
        held = batch[:]
        batch[:] = [chosen]
        return held

    def _ranked(self, batch: list[Task]) -> list[Task]:
        for task in batch:
            if task not in self._ranks:
                self._ranks[task] = self.random()
        best = max(batch, key=self._ranks.__getitem__)
        if self.batches in self._changes:
            self._ranks[best] = -self.batches
            best = max(batch, key=self._ranks.__getitem__)
        held = [task for task in batch if task is not best]
        batch[:] = [best]
        return held


class Trace(trio.abc.Instrument):
    """Writes down every step of a run: which task, by the number of its first step, and its name.

    Trio's own numbers go on from run to run, and those of the objects in memory are no help either.
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.names: list[str] = []
        self._numbers: dict[Task, int] = {}

    def before_task_step(self, task: Task) -> None:
        """Trio is about to let `task` make a step."""
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = len(self.names)
            self.names.append(task.name)
        self.steps.append(number)

    def lines(self) -> list[str]:
        """Return the steps as text, one line each."""
        return [f"{number}:{self.names[number]}" for number in self.steps]


@contextmanager
def scheduled(seed: int, strategy: str | None = None) -> Generator[Scheduler]:
    """Let every ``trio.run()`` in the block be scheduled by `seed`. One run a block, to be exact.

    Raises:
        HookMovedError: this Trio has no such hook, or another.
    """
    check_hook()
    scheduler = Scheduler(seed, strategy)
    hook = cast("Any", _run)
    before = hook._r, hook._ALLOW_DETERMINISTIC_SCHEDULING
    hook._r, hook._ALLOW_DETERMINISTIC_SCHEDULING = scheduler, True
    try:
        yield scheduler
    finally:
        hook._r, hook._ALLOW_DETERMINISTIC_SCHEDULING = before


def discard() -> None:
    """Throw away what a run has left that crashed in the middle, without a word about it.

    Its tasks were never ended. Left to the garbage collector, each would complain when it comes to
    it, in the middle of something else.
    """
    before = sys.unraisablehook
    sys.unraisablehook = _say_nothing
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before


def _say_nothing(_: object) -> None:
    pass


def check_hook() -> None:
    """Refuse a Trio that has moved, renamed or replaced what `scheduled` uses.

    Raises:
        HookMovedError: with what is missing. That it is still *used* is what the tests show.
    """
    hook = cast("Any", _run)
    wanted: dict[str, Callable[[], bool]] = {
        "_r": lambda: isinstance(hook._r, random.Random),
        "_ALLOW_DETERMINISTIC_SCHEDULING": lambda: isinstance(
            hook._ALLOW_DETERMINISTIC_SCHEDULING, bool
        ),
        "GLOBAL_RUN_CONTEXT": lambda: hook.GLOBAL_RUN_CONTEXT is not None,
        "Runner.runq": lambda: "runq" in hook.Runner.__annotations__,
    }
    for name, is_there in wanted.items():
        try:
            found = is_there()
        except AttributeError:
            found = False
        if not found:
            raise HookMovedError(
                f"Trio {trio.__version__} has no trio._core._run.{name} as Trio 0.31 to 0.35 have: "
                "schedules cannot be reproduced by seed. Look how its run loop orders a batch of "
                "runnable tasks now, and change tests/stress/scheduler.py, which alone knows of it."
            )
