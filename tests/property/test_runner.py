"""A runner, its workers and those who ask about them, against a model of R1 to R8."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from trioworker import (
    AlreadyExists,
    Dying,
    NotFound,
    RestartPolicy,
    Runner,
    RunnerConfig,
    Worker,
)

from .children import SHAPES, Child
from .driver import Spawned
from .machine import CALM, Machine, check, explore
from .scripts import NURSERY, SECONDS, TOGETHER, Answer, Event, Script, fail, finish, leaves
from .tombs import Rest, TombModel, Tree, without

NAMES = ("a", "b", "c")
NAME = st.sampled_from(NAMES)
WHICH = st.integers(0, 99)

# What the runner is told, and the model knows.
FIRST_DELAY, FACTOR, LONGEST_DELAY = 1.0, 2.0, 4.0
HEALTH, PERIOD = 8.0, 20.0


class Plain(Exception):
    """An error that restarts its worker."""


class Unwanted(Exception):
    """An error that removes its worker."""


class Fatal(Exception):
    """An error that ends the runner; the second argument says how important it is."""


KINDS = st.sampled_from(["plain", "plain", "plain", "unwanted", "fatal", "interrupt"])
FAULTS = st.one_of(
    KINDS.map(lambda kind: (kind,)),
    st.tuples(st.sampled_from([NURSERY, "own group"]), KINDS, KINDS),
)
DISASTERS = st.sampled_from([("fatal",), ("fatal",), ("interrupt",), ("plain",), ("unwanted",)])
VERBS = st.sampled_from(["start another", "stop myself", "stop another", "kill the runner"])


@attrs.frozen
class Recipe:
    """What a start function does, each time the same."""

    kind: str
    fault: tuple[str, ...]
    answer: Answer
    verbs: tuple[str, ...]
    shape: dict[str, Any]


RECIPES = st.builds(
    Recipe,
    kind=st.sampled_from(["worker", "worker", "worker", "worker", "slow", "slow", "fail", "junk"]),
    fault=FAULTS,
    answer=st.sampled_from([Answer.LEAVE, Answer.RETURN, Answer.LINGER, Answer.FAIL]),
    verbs=st.one_of(st.just(()), st.just(()), st.lists(VERBS, max_size=2).map(tuple)),
    shape=SHAPES.map(lambda shape: {**shape, "rude": False}),
)


class Entry:
    """The model of one name, from ``start_worker()`` until it is gone.

    Attributes:
        state: idle (it has no task yet), delayed, making (a worker is being made), living (a
            worker is being run), or gone.
        deadline: when what it does is cancelled because it was stopped.
    """

    def __init__(self, name: str, recipe: Recipe) -> None:
        self.name = name
        self.recipe = recipe
        self.state = "idle"
        self.stopping = False
        self.deadline = math.inf
        self.until = 0.0
        self.failures = 0
        self.restarts: list[float] = []
        self.starts = 0
        self.maker: Script | None = None
        self.worker: Child | None = None
        self.started_at: float | None = None
        self.error: BaseException | None = None

    @property
    def runs(self) -> bool:
        return self.state == "living" and self.started_at is not None and not self.stopping

    def __repr__(self) -> str:
        return f'"{self.name}"'


class Asker:
    """Somebody who awaits ``worker(name)`` or ``stop_and_remove(name)``."""

    def __init__(self, machine: RunnerMachine, verb: str, name: str) -> None:
        self.machine = machine
        self.verb = verb
        self.name = name
        self.entry: Entry | None = None
        self.spawned: Spawned[object] | None = None
        self.cancelled = False
        self.asked = False
        # Answers that were right at some moment since it asked.
        self.allowed: list[object] = []

    async def call(self) -> object:
        machine = self.machine
        machine.read_news()
        self.asked = True
        self.entry = machine.entries.get(self.name)
        if self.verb == "worker":
            if machine.model.state != "alive":
                self.allowed.append(Dying)
            elif self.entry is None:
                self.allowed.append(NotFound)
            elif self.entry.runs:
                self.allowed.append(self.entry.worker)
            return await machine.runner.worker(self.name)
        if self.entry is None:
            self.allowed.append(NotFound)
        else:
            if self.entry.stopping and self.entry.state != "living":
                self.allowed.append(NotFound)  # it may be gone, of which there is no news
            self.machine.history.write("stop", self.entry)
        await machine.runner.stop_and_remove(self.name)
        return None

    def __repr__(self) -> str:
        return f"{self.verb}({self.name})"


class RunnerMachine(Machine):
    runner: Runner
    model: TombModel

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, Entry] = {}
        self.past: list[Entry] = []
        self.workers: list[Child] = []
        self.askers: list[Asker] = []
        self.waiters: list[Spawned[None]] = []
        self.body: Spawned[None] | None = None
        self.stop_timeout = 0.0
        self.limit: int | None = None
        self.by_weight = False
        self.errors_made = 0
        self.makers: list[Script] = []

    @initialize(
        seed=st.random_module(),
        stop_timeout=st.sampled_from([0.0, 1.0, 5.0, math.inf]),
        limit=st.sampled_from([None, None, 2]),
        by_weight=st.sampled_from([True, True, False]),
        entered=st.sampled_from([True, True, False]),
        recipes=st.none() | st.tuples(RECIPES, RECIPES, RECIPES),
    )
    def begin(
        self,
        *,
        seed: object,
        stop_timeout: float,
        limit: int | None,
        by_weight: bool,
        entered: bool,
        recipes: tuple[Recipe, ...] | None,
    ) -> None:
        def more_important(a: Exception, b: Exception) -> Exception:
            return self.more_important(a, b)

        self.stop_timeout, self.limit, self.by_weight = stop_timeout, limit, by_weight
        self.runner = Runner(
            RunnerConfig(
                name="the runner",
                is_fatal=lambda error: isinstance(error, Fatal),
                should_restart=lambda error: not isinstance(error, Unwanted),
                more_important=more_important,
                stop_timeout=stop_timeout,
                restart=RestartPolicy(
                    error_delay=FIRST_DELAY,
                    factor=FACTOR,
                    max_delay=LONGEST_DELAY,
                    jitter=0,
                    reset_after=HEALTH,
                    max_restarts=limit,
                    period=PERIOD,
                ),
            )
        )
        self.model = TombModel(None, stop_timeout)
        for name, recipe in zip(NAMES, recipes or (), strict=False):
            self.start_worker(name, recipe, joined=True)
            self.ask("worker", name, joined=True)
        if entered:
            self.run(joined=True)
        self.flush()

    def more_important(self, a: Exception, b: Exception) -> Exception:
        return b if self.by_weight and weight(b) > weight(a) else a

    # -- what may happen ---------------------------------------------------------------------------

    @rule(joined=TOGETHER)
    def run(self, *, joined: bool) -> None:
        def run() -> None:
            if self.body is None:
                self.body = self.spawn_soon(self._run, name="run")

        self.act(run, joined=joined)

    async def _run(self) -> None:
        self.history.write("enter", self)
        left: BaseException | None = None
        try:
            await self.runner.run()
        except BaseException as exc:
            left = exc
            raise
        finally:
            self.history.write("dead", self, left)

    @rule(name=NAME, recipe=RECIPES, joined=TOGETHER)
    def start_worker(self, name: str, recipe: Recipe, *, joined: bool) -> None:
        self.act(lambda: self.start_now(name, recipe), joined=joined)

    @rule(name=NAME, joined=TOGETHER)
    def stop_worker(self, name: str, *, joined: bool) -> None:
        self.act(lambda: self.stop_now(name), joined=joined)

    @rule(verb=st.sampled_from(["worker", "stop_and_remove"]), name=NAME, joined=TOGETHER)
    def ask(self, verb: str, name: str, *, joined: bool) -> None:
        asker = Asker(self, verb, name)
        self.askers.append(asker)

        def ask() -> None:
            asker.spawned = self.spawn_soon(asker.call, name=str(asker))

        self.act(ask, joined=joined)

    @precondition(lambda self: self.askers)
    @rule(which=WHICH, joined=TOGETHER)
    def cancel_an_asker(self, which: int, *, joined: bool) -> None:
        asker = self.askers[which % len(self.askers)]

        def cancel() -> None:
            if asker.spawned is not None:
                asker.cancelled = True
                asker.spawned.scope.cancel()

        self.act(cancel, joined=joined)

    @rule(
        fault=st.none() | FAULTS,
        grace=st.sampled_from([None, None, 0.0, 1.0]),
        joined=TOGETHER,
        sure=st.sampled_from([False, False, True]),
    )
    def kill(
        self, fault: tuple[str, ...] | None, grace: float | None, *, joined: bool, sure: bool
    ) -> None:
        if sure:  # or most examples would be about dead runners
            self.act(lambda: self.kill_now(fault, grace), joined=joined)

    # A restart too many is fatal, and whether there was one depends on who hears of it first.
    @precondition(lambda self: self.limit is None)
    @rule(sure=st.sampled_from([False, False, True]))
    def cancel_from_outside(self, *, sure: bool) -> None:
        def cancel() -> None:
            if self.body is not None:
                self.history.write("outside", self)
                self.body.scope.cancel()

        if sure:
            self.flush()  # the runner learns of it a step later, and we cannot tell that from here
            self.act(cancel, joined=False)

    @rule(name=NAME, joined=TOGETHER)
    def a_worker_starts(self, name: str, *, joined: bool) -> None:
        self.order(name, lambda worker: worker.start(), joined=joined)

    @rule(name=NAME, joined=TOGETHER)
    def a_worker_returns(self, name: str, *, joined: bool) -> None:
        self.order(name, lambda worker: finish(), joined=joined)

    @rule(name=NAME, fault=FAULTS, joined=TOGETHER)
    def a_worker_fails(self, name: str, fault: tuple[str, ...], *, joined: bool) -> None:
        self.order(name, lambda worker: fail(self.error(fault)), joined=joined)

    @rule(faults=st.tuples(DISASTERS, DISASTERS, DISASTERS), joined=TOGETHER)
    def all_workers_fail_at_once(
        self, faults: tuple[tuple[str, ...], ...], *, joined: bool
    ) -> None:
        for name, fault in zip(NAMES, faults, strict=True):
            self.a_worker_fails(name, fault, joined=True)
        if not joined:
            self.flush()

    @rule(name=NAME, verb=VERBS, joined=TOGETHER)
    def a_worker_calls(self, name: str, verb: str, *, joined: bool) -> None:
        self.order(name, lambda worker: self.call(verb, name), joined=joined)

    @rule(name=NAME, joined=TOGETHER)
    def somebody_kills_a_worker(self, name: str, *, joined: bool) -> None:
        def kill() -> None:
            entry = self.entries.get(name)
            if entry is not None and entry.worker is not None:
                entry.worker.kill_by_another()

        self.act(kill, joined=joined)

    @rule(name=NAME, joined=TOGETHER)
    def release(self, name: str, *, joined: bool) -> None:
        def release() -> None:
            entry = self.entries.get(name)
            if entry is not None and entry.worker is not None:
                entry.worker.script.release()
            if entry is not None and entry.maker is not None:
                entry.maker.release()

        self.act(release, joined=joined)

    @rule(name=NAME, fault=st.none() | FAULTS, joined=TOGETHER)
    def a_slow_start_ends(self, name: str, fault: tuple[str, ...] | None, *, joined: bool) -> None:
        order = finish if fault is None else lambda: fail(self.error(fault))

        def end() -> None:
            entry = self.entries.get(name)
            if entry is not None and entry.maker is not None and entry.maker.parked:
                entry.maker.order(order)

        self.act(end, joined=joined)

    @rule(joined=TOGETHER)
    def wait(self, *, joined: bool) -> None:
        self.act(
            lambda: self.waiters.append(self.spawn_soon(self.runner.wait, name="waiter")),
            joined=joined,
        )

    @rule(seconds=SECONDS | st.just(HEALTH))
    def time_passes(self, seconds: float) -> None:
        self.jump(seconds)

    @rule(seconds=SECONDS | st.just(HEALTH))
    def time_passes_unnoticed(self, seconds: float) -> None:
        self.jump(seconds, unnoticed=True)

    def order(self, name: str, order: Callable[[Child], object], *, joined: bool) -> None:
        def give() -> None:
            self.read_news()
            entry = self.entries.get(name)
            worker = None if entry is None else entry.worker
            if worker is not None and worker.script.parked:
                worker.script.order(lambda: order(worker))

        self.act(give, joined=joined)

    def start_now(self, name: str, recipe: Recipe) -> None:
        self.read_news()
        known = self.entries.get(name)
        entry = Entry(name, recipe)
        try:
            self.runner.start_worker(name, lambda: self.make(entry))
        except Dying:
            check(self.model.state != "alive", "start_worker() was refused")
        except AlreadyExists:
            check(self.model.state == "alive", "the runner is", self.model.state)
            check(known is not None, entry, "is not known at all")
        else:
            check(self.model.state == "alive", "the runner is", self.model.state)
            if known is not None:
                # Stopped in this very step, while it had nothing to end: it may be gone already.
                check(known.stopping and known.state in ("idle", "delayed"), entry, "is taken")
                self.be_gone(known, None)
            self.entries[name] = entry

    def stop_now(self, name: str) -> None:
        self.read_news()
        if name in self.entries:
            self.history.write("stop", self.entries[name])
        self.runner.stop_worker(name)

    def kill_now(self, fault: tuple[str, ...] | None, grace: float | None) -> None:
        error = None if fault is None else self.error(fault)
        self.history.write("kill", self, (error, grace))
        self.runner.kill(error, grace=grace)

    def call(self, verb: str, name: str) -> None:
        other = NAMES[(NAMES.index(name) + 1) % len(NAMES)]
        match verb:
            case "start another":
                shape = {"answer": Answer.LEAVE, "grace": 0.0, "starts": True}
                shape |= {"deaf": False, "rude": False}
                self.start_now(other, Recipe("worker", ("plain",), Answer.LEAVE, (), shape))
            case "stop myself":
                self.stop_now(name)
            case "stop another":
                self.stop_now(other)
            case _:
                self.kill_now(None, None)

    def error(self, fault: tuple[str, ...]) -> BaseException:
        first, *rest = fault
        if rest:
            return BaseExceptionGroup(first, [self.error((kind,)) for kind in rest])
        self.errors_made += 1
        number = self.errors_made
        match first:
            case "plain":
                return Plain(number)
            case "unwanted":
                return Unwanted(number)
            case "fatal":
                return Fatal(number, number % 3)
            case _:
                return KeyboardInterrupt(number)

    # -- start functions ---------------------------------------------------------------------------

    def make(self, entry: Entry) -> Worker | Awaitable[Worker]:
        self.history.write("make", entry)
        self.read_news()
        for verb in entry.recipe.verbs:
            self.call(verb, entry.name)
        match entry.recipe.kind:
            case "fail":
                error = self.error(entry.recipe.fault)
                self.history.write("made", entry, error)
                raise error
            case "junk":
                self.history.write("made", entry, TypeError)
                return None  # type: ignore[return-value]  # the point
            case "slow":
                return self.make_slowly(entry)
            case _:
                return self.make_worker(entry)

    async def make_slowly(self, entry: Entry) -> Worker:
        maker = Script(
            self.history, entry, entry.recipe.answer, lambda: self.error(entry.recipe.fault)
        )
        entry.maker = maker
        self.makers.append(maker)
        try:
            await maker.live()
        except BaseException as exc:
            self.history.write("made", entry, exc)
            raise
        return self.make_worker(entry)

    def make_worker(self, entry: Entry) -> Worker:
        worker = Child(
            self.history,
            f"worker {len(self.workers)}",
            lambda: self.error(entry.recipe.fault),
            **entry.recipe.shape,
        )
        self.workers.append(worker)
        self.history.write("made", entry, worker)
        return worker

    # -- what the contract says --------------------------------------------------------------------

    def observe(self) -> None:
        self.read_news()
        for entry in list(self.entries.values()):
            self.check_entry(entry)
        check(self.runner.names() == tuple(self.entries), self.runner.names(), list(self.entries))
        self.check_runner()
        for asker in self.askers:
            self.check_asker(asker)

    def read_news(self) -> None:
        for event in self.history.news():
            if isinstance(event.who, Entry):
                self.read_entry(event.who, event)
            elif isinstance(event.who, Child):
                self.read_worker(self.owner(event.who), event.who, event)
            else:
                self.read(event)

    def owner(self, worker: Child) -> Entry:
        entries = [*self.past, *self.entries.values()]
        return next(entry for entry in entries if entry.worker is worker)

    def read(self, event: Event) -> None:
        match event.kind:
            case "enter":
                self.model.enter(event.now)
            case "kill":
                self.die(event.now, *event.detail)
            case "outside":
                self.model.outside = True
                self.die(event.now, None, None)
            case _:
                assert event.kind == "dead"
                self.model.cancelled = event.detail is not None and self.model.reason is None
                self.model.state = "dead"

    def die(self, now: float, error: BaseException | None, grace: float | None = None) -> None:
        self.model.kill(now, error, grace)
        for entry in list(self.entries.values()):
            self.stop(entry, now)
        for asker in self.askers:
            if asker.asked:
                asker.allowed.append(Dying)

    def stop(self, entry: Entry, now: float) -> None:
        if entry.stopping or entry.state == "gone":
            return
        entry.stopping = True
        entry.deadline = now + (self.stop_timeout if entry.state == "living" else 0.0)
        if not self.model.entered:
            self.be_gone(entry, None)

    def be_gone(self, entry: Entry, error: BaseException | None) -> None:
        entry.state, entry.error = "gone", error
        self.past.append(entry)
        if self.entries.get(entry.name) is entry:
            del self.entries[entry.name]
        for asker in self.askers:
            if asker.entry is entry:
                asker.allowed.append(NotFound if asker.verb == "worker" else error)

    def read_entry(self, entry: Entry, event: Event) -> None:
        match event.kind:
            case "stop":
                self.stop(entry, event.now)
            case "make":
                check(not entry.stopping, entry, "was stopped, and is started again")
                check(self.model.entered, entry, "is started, but the runner is not")
                check(self.model.state == "alive", entry, "is started while the runner is dying")
                check(entry.state in ("idle", "delayed"), entry, "was", entry.state)
                check(event.now >= entry.until, entry, "is started before its time")
                entry.state = "making"
                entry.starts += 1
            case "cancelled":
                cause = entry.stopping or self.model.is_cancelled(event.now)
                check(cause, entry, "was cancelled while it was being made")
            case _:
                assert event.kind == "made"
                entry.maker = None
                if isinstance(event.detail, Child):
                    entry.state, entry.worker, entry.started_at = "living", event.detail, None
                else:
                    self.end(entry, event.detail, event.now)

    def read_worker(self, entry: Entry, worker: Child, event: Event) -> None:
        match event.kind:
            case "run":
                worker.runs += 1
            case "asked":
                worker.kills += 1
                check(entry.stopping, worker, "was asked for nothing")
            case "started":
                entry.started_at = event.now
                for asker in self.askers:
                    if asker.entry is entry and asker.verb == "worker" and not entry.stopping:
                        asker.allowed.append(worker)
            case "cancelled":
                check(self.is_cancelled(entry, event.now), worker, "was cancelled too early")
            case _:
                assert event.kind == "ended"
                worker.ended = True
                self.end(entry, event.detail, event.now)

    def is_cancelled(self, entry: Entry, now: float) -> bool:
        by_itself = entry.worker is not None and entry.worker.model.is_cancelled(now)
        return by_itself or now >= entry.deadline or self.model.is_cancelled(now)

    def end(self, entry: Entry, left: Any, now: float) -> None:
        """One round of `entry` has ended with `left` (R2, R4, R5)."""
        error = TypeError() if left is TypeError else left
        real = None if error is None else without(error, set(), None)
        healthy = 0.0 if entry.started_at is None else now - entry.started_at
        entry.worker = None
        if real is None:
            self.be_gone(entry, None)
            return
        whole = whole_of(real)
        kinds = leaves(whole)
        if any(isinstance(leaf, (Fatal, KeyboardInterrupt)) for leaf in kinds):
            self.be_gone(entry, whole)
            self.die_of(whole, now)
        elif entry.stopping or any(isinstance(leaf, Unwanted) for leaf in kinds):
            self.be_gone(entry, whole)
        else:
            self.delay(entry, whole, healthy, now)

    def delay(self, entry: Entry, error: BaseException, healthy: float, now: float) -> None:
        entry.failures = 1 if healthy >= HEALTH else entry.failures + 1
        entry.restarts.append(now)
        recent = [time for time in entry.restarts if now - time < PERIOD]
        if self.limit is not None and len(recent) > self.limit:
            self.be_gone(entry, error)
            self.die_of(error, now)
            return
        entry.state = "delayed"
        entry.until = now + min(FIRST_DELAY * FACTOR ** (entry.failures - 1), LONGEST_DELAY)
        entry.started_at = None

    def die_of(self, error: BaseException, now: float) -> None:
        worst = self.model.reason
        if (
            isinstance(worst, Exception)
            and isinstance(error, Exception)
            and self.more_important(worst, error) is error
        ):
            self.model.others.insert(0, worst)
            self.model.reason = error
            self.die(now, None)
        else:
            self.die(now, error)

    def check_entry(self, entry: Entry) -> None:
        now = self.driver.now
        overdue = self.is_cancelled(entry, now)
        if entry.state in ("idle", "delayed"):
            if entry.stopping or self.model.outside:
                # It had nothing to end, so it has ended by now.
                self.be_gone(entry, None)
                return
            waits = not self.model.entered if entry.state == "idle" else now < entry.until
            check(waits, entry, "should have been started by now")
        if entry.maker is not None and entry.maker.parked:
            check(not (overdue or entry.stopping), entry, "is still being made")
        worker = entry.worker
        if worker is not None:
            check(worker.runs == 1, worker, "ran", worker.runs, "times")
            check(worker.kills == int(entry.stopping), worker, "was asked", worker.kills, "times")
            if worker.script.parked:
                check(not overdue, worker, "should have been cancelled by now")
        self.check_report(entry)

    def check_report(self, entry: Entry) -> None:
        report = next(each for each in self.runner.report().workers if each.name == entry.name)
        wanted = {
            "idle": "waiting",
            "delayed": "delayed",
            "making": "starting",
            "living": "starting" if entry.started_at is None else "running",
        }[entry.state]
        check(report.state == ("stopping" if entry.stopping else wanted), report, wanted)
        check(report.restarts == max(entry.starts - 1, 0), report, entry.starts)
        check(report.failures == entry.failures, report, entry.failures)
        if entry.state == "delayed":
            check(report.next_start == entry.until, report, entry.until)
        if entry.state == "living":
            check(report.started_at == entry.started_at, report, entry.started_at)

    def check_runner(self) -> None:
        model, report = self.model, self.runner.report().tomb
        if model.entered and model.state != "alive" and not self.entries:
            check(model.state == "dead", "all workers are gone, but the runner is", report)
        if model.state == "dead":
            check(not self.entries, "dead, but there are", self.entries)
        check(report.state == model.state, report, model.state)
        check((report.reason is None) == (model.reason is None), report, model.reason)
        check(len(report.suppressed) == min(len(model.others), 16), report, model.others)
        for waiter in self.waiters:
            check(waiter.done == (model.state == "dead"), waiter, model.state)
            if waiter.done:
                check(self.same(model.reason, waiter.error), waiter, model.reason)
        if self.body is not None and self.body.done:
            error = self.body.error
            check(model.state == "dead", "it ended, but is", model.state)
            if model.reason is not None:
                check(self.same(model.reason, error), error, "instead of", model.reason)
            elif not model.outside:
                check(error is None, error, "came from nowhere")

    def same(self, wanted: Any, error: BaseException | None) -> bool:
        """Compare with what we know of an error: of some, only the type."""
        if isinstance(wanted, TypeError):
            return isinstance(error, TypeError)
        if isinstance(wanted, BaseExceptionGroup) and error is not None:
            return leaves(wanted) == leaves(error)
        return wanted is error

    def check_asker(self, asker: Asker) -> None:
        spawned = asker.spawned
        if spawned is None:
            return
        if not spawned.done:
            check(not asker.cancelled, asker, "does not hear its cancellation")
            entry = asker.entry
            check(entry is not None and entry.state != "gone", asker, "hangs")
            if asker.verb == "worker":
                check(self.model.state == "alive", asker, "hangs on a dying runner")
                check(entry is None or not entry.runs, asker, "hangs")
            return
        error = spawned.error
        if asker.cancelled and isinstance(error, trio.Cancelled):
            return
        if asker.verb == "stop_and_remove" and self.model.outside:
            return  # what came first is not to be told from here
        if isinstance(error, (NotFound, Dying)):
            check(type(error) in asker.allowed, asker, error, asker.allowed)
        elif asker.verb == "worker":
            check(error is None, asker, error)
            value = spawned.outcome.value  # type: ignore[union-attr]  # it is done, without error
            check(value in asker.allowed, asker, value, asker.allowed)
        else:
            check(any(self.same(each, error) for each in asker.allowed), asker, error)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        for worker in self.workers:
            self.act(worker.script.release, joined=True)
        for maker in self.makers:
            self.act(maker.release, joined=True)
        self.run(joined=True)
        self.flush()
        self.act(lambda: self.kill_now(None, 0.0), joined=False)
        for _ in range(3):  # who lingers in a start or only then begins to
            for worker in self.workers:
                self.act(worker.script.release, joined=True)
            for maker in self.makers:
                self.act(maker.release, joined=True)
            self.jump(CALM)
        check(self.model.state == "dead", "the runner survives")
        check(self.runner.names() == (), self.runner.names())
        for worker in self.workers:
            check(worker.runs == 1, worker, "ran", worker.runs, "times")
            check(worker.ended, worker, "survives")
        for asker in self.askers:
            check(asker.spawned is not None and asker.spawned.done, asker, "hangs for ever")


def whole_of(tree: Tree) -> BaseException:
    """Return an error like `tree`: that very object, or a group of what is left."""
    if isinstance(tree, Rest):
        return BaseExceptionGroup(tree.group.message, [whole_of(part) for part in tree.parts])
    return tree


def weight(error: Exception) -> int:
    return max(leaf.args[1] if isinstance(leaf, Fatal) else 0 for leaf in leaves(error))


@pytest.mark.full
def test_r1_to_r8_whatever_happens_to_a_runner(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("trioworker.runner"), "disabled", True)
    explore(RunnerMachine, examples=300 * scale, steps=30)
