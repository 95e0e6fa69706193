"""Soak: thirty days of a busy program, in mock time, leave nothing behind.

The program has 200 manifolds in five layers, with required, optional and live inputs. Among them
are gates, which open and close, flappers, which fail every few minutes, and some that are given up
after too many restarts. Everything crashes every few hours, in all the ways there are; starts hang,
stops get stuck; an operator restarts, holds, releases, installs and uninstalls; observers come, go,
and do not keep up. The clock jumps from deadline to deadline.

Every few days the faults stop, the operator tidies up, and all must come to rest: everything
started, no timer, no task too many, histories no longer than they may be, one end for each start.
They rest until every deadline that was cancelled has passed, because until then Trio may keep it;
then a census is taken (`census.py`). The first three days warm up: histories fill, lazily made
things are made. What has grown since then is a leak, but for a hundred objects of a type: a
replaced part has none of what is made lazily, until somebody needs it again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from trio.lowlevel import current_statistics
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import (
    Bounce,
    Catacomb,
    Missing,
    RestartPolicy,
    RetryAfter,
    Runner,
    RunnerConfig,
    Worker,
    open_worker,
    simple_worker,
)
from trioworker.dependency import Engine, EngineConfig, Getter, Manifold, State

from .census import Census, growth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trioworker import LiveView

SEED = 20_240_229
DAYS = 30
WARM_UP = 3
CHECK_EVERY = 9  # days

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
LAYERS = (10, 30, 50, 60, 50)
HISTORY = 4

CRASH_EVERY = 12 * HOUR
FLAP_EVERY = 40 * MINUTE
GATE_EVERY = 6 * HOUR
OPERATE_EVERY = 20 * MINUTE
OBSERVE_EVERY = HOUR

LIMITED = RestartPolicy(max_restarts=3, period=4 * HOUR)

# Longer than any deadline of theirs is away, so that Trio has dropped those that were cancelled.
REST = 6 * DAY


class Part:
    """One name of the program, and what its runs do."""

    def __init__(self, soak: Soak, name: str, layer: int, kind: str) -> None:
        self.soak = soak
        self.name = name
        self.layer = layer
        self.kind = kind
        self.required: list[str] = []
        self.optional: list[str] = []
        self.live: list[str] = []
        self.is_up = False
        self.alive = 0
        self.starts = 0
        self.ends = 0
        self.is_open = True  # of a gate

    @property
    def manifold(self) -> Manifold:
        """A fresh one."""
        is_soft = self.layer % 2 == 1
        return Manifold(
            self.start,
            inputs=self.required,
            optional=self.optional,
            live=self.live,
            ask=self.ask if is_soft else None,
            grace=5.0 if is_soft else 0.0,
            start_timeout=30.0,
            stop_timeout=10.0,
            restart=LIMITED if self.kind == "limited" else None,
        )

    def ask(self, value: object) -> None:
        assert value == self.name

    async def start(self, get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
        self.begin()
        fate = Random(f"{SEED}/{self.name}/{self.starts}")
        try:
            await self.run(get, task_status, fate)
        except trio.Cancelled:
            await self.clean_up(fate)
            raise
        finally:
            self.is_up = False
            self.alive -= 1
            self.ends += 1

    def begin(self) -> None:
        """Count a start, and check what no schedule may break."""
        if self.alive:
            self.soak.violations.append(f"{self.name} was started twice")
        for name in self.required:
            if not self.soak.parts[name].is_up:
                self.soak.violations.append(f"{self.name} was started without {name}")
        self.alive += 1
        self.starts += 1

    async def run(self, get: Getter, status: trio.TaskStatus[str], fate: Random) -> None:
        await trio.sleep(fate.expovariate(1 / 2.0))
        if not self.soak.is_calm:
            await self.fail_to_start(fate)
        for name in self.required:
            if get(name, str) != name:
                self.soak.violations.append(f"{self.name} was given a wrong {name}")
            if not self.soak.parts[name].is_open:
                raise Missing(f"{name} is closed")
        for name in self.optional:
            if get.optional(name, str) not in {None, name}:
                self.soak.violations.append(f"{self.name} was given a wrong {name}")
        for name in self.live:
            get.start_soon(self.look, get.live(name, str))
        self.is_up = True
        status.started(self.name)
        await self.crash(get, fate)

    async def fail_to_start(self, fate: Random) -> None:
        draw = fate.random()
        if draw < 0.004:
            await trio.sleep_forever()  # until start_timeout
        elif draw < 0.008:
            with trio.CancelScope(shield=True):
                await trio.sleep(50)  # beyond start_timeout and stop_timeout: it gets stuck
        elif draw < 0.02:
            raise OSError("could not start")
        elif draw < 0.025:
            raise RetryAfter(fate.uniform(1, 100))
        elif draw < 0.03:
            raise ExceptionGroup("could not start", [OSError(), ValueError()])

    async def look(self, view: LiveView[str]) -> None:
        async for _ in view:
            self.soak.done["looked"] += 1

    async def crash(self, get: Getter, fate: Random) -> None:
        """Serve, and fail sooner or later."""
        mean = {"flapper": FLAP_EVERY, "limited": FLAP_EVERY, "gate": GATE_EVERY}.get(
            self.kind, CRASH_EVERY
        )
        while True:
            await trio.sleep(fate.expovariate(1 / mean))
            if not self.soak.is_calm:
                break
        if self.kind == "gate":
            self.is_open = not self.is_open
            raise Bounce("it opens" if self.is_open else "it closes")
        match fate.choice(("error", "error", "error", "group", "helper", "bounce", "retry", "end")):
            case "error":
                raise OSError("crashed")
            case "group":
                raise ExceptionGroup("crashed", [OSError("one"), ValueError("two")])
            case "helper":
                get.start_soon(self.fail_as_helper)
                await trio.sleep_forever()
            case "bounce":
                raise Bounce
            case "retry":
                raise RetryAfter(fate.uniform(1, 100))
            case _ if self.live:
                raise OSError("crashed")  # helpers that read would go on
            case _:
                return

    async def fail_as_helper(self) -> None:
        raise OSError("a helper has crashed")

    async def clean_up(self, fate: Random) -> None:
        draw = fate.random()
        if self.soak.is_calm or draw > 0.1:
            return
        if draw < 0.003:
            with trio.CancelScope(shield=True):
                await trio.sleep(40)  # beyond stop_timeout: it gets stuck
        elif draw < 0.02:
            raise OSError("could not clean up") from None
        else:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)


class Soak:
    """The program, its operator and its observers."""

    def __init__(self) -> None:
        self.random = Random(SEED)
        self.is_calm = True
        self.violations: list[str] = []
        self.parts: dict[str, Part] = {}
        self.jobs: set[str] = set()
        self.numbers = itertools.count()
        self.done: Counter[str] = Counter()  # what was done to it, to see that it was
        self.engine = Engine(EngineConfig(name="soak", history=HISTORY), random=self.random.random)
        self.make()

    def make(self) -> None:
        """Make all parts and install them."""
        above: list[str] = []
        for layer, size in enumerate(LAYERS):
            names = [f"{layer}-{number}" for number in range(size)]
            for number, name in enumerate(names):
                part = self.parts[name] = Part(self, name, layer, self.kind_of(layer, number))
                self.choose_inputs(part, above)
            above += names
        self.engine.install_all({name: part.manifold for name, part in self.parts.items()})

    def kind_of(self, layer: int, number: int) -> str:
        if layer == 1 and number < 4:
            return "gate"
        if layer == 4 and number < 4:
            return "flapper"
        return "limited" if layer == 4 and number < 8 else "plain"

    def choose_inputs(self, part: Part, above: list[str]) -> None:
        if part.layer == 0:
            return
        size = LAYERS[part.layer - 1]
        nearest = above[-size:]
        part.required = self.random.sample(nearest, 1 if self.random.random() < 0.7 else 2)
        others = [name for name in above if name not in part.required]
        if self.random.random() < 0.1:
            part.optional = [self.random.choice(others)]
        if self.random.random() < 0.25:
            part.live = [self.random.choice([n for n in others if n not in part.optional])]

    # -- what happens to it ------------------------------------------------------------------------

    async def storm(self, days: float) -> None:
        """Let so many days go by, with faults, an operator and observers."""
        self.is_calm = False
        with trio.move_on_after(days * DAY):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.operate, nursery)
                nursery.start_soon(self.observe, nursery)
                nursery.start_soon(self.patrol)
        self.is_calm = True

    async def operate(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(self.random.expovariate(1 / OPERATE_EVERY))
            name = self.random.choice(list(self.parts))
            verb = self.random.choice(("restart", "hold", "install", "uninstall", "replace"))
            self.done[verb] += 1
            if verb == "install":
                self.install_job()
            elif verb == "uninstall" and self.jobs:
                self.uninstall_job(self.random.choice(sorted(self.jobs)))
            elif not self.is_installed(name):
                continue  # being replaced
            elif verb == "restart":
                self.engine.restart(name)
            elif verb == "hold":
                self.engine.hold(name)
                nursery.start_soon(self.release_later, name)
            elif verb == "replace":
                nursery.start_soon(self.replace, name)

    def install_job(self) -> None:
        name = f"job-{next(self.numbers)}"
        job = Part(self, name, 5, "plain")
        job.required = [self.random.choice([n for n, p in self.parts.items() if p.layer < 4])]
        job.live = [f"{4}-{self.random.randrange(LAYERS[4])}"]
        self.parts[name] = job
        self.jobs.add(name)
        self.engine.install(name, job.manifold)

    def uninstall_job(self, name: str) -> None:
        self.jobs.remove(name)
        # It may have been removed by a replacement that was interrupted.
        self.engine.uninstall(name)

    async def release_later(self, name: str) -> None:
        await trio.sleep(self.random.uniform(1, 10 * MINUTE))
        if self.is_installed(name):
            self.engine.release(name)

    def is_installed(self, name: str) -> bool:
        return self.engine._registry.is_installed(name)

    async def replace(self, name: str) -> None:
        """Uninstall `name` and install it anew, as an upgrade would."""
        if name in self.jobs:
            return
        with trio.CancelScope(shield=True):
            self.engine.uninstall(name)
            await self.engine.wait_state(name, State.ABSENT)
            if not self.is_installed(name):
                self.engine.install(name, self.parts[name].manifold)

    async def patrol(self) -> None:
        """Restart what was given up, or what is done and nothing wakes."""
        while True:
            await trio.sleep(HOUR)
            self.restart_the_resting()

    def restart_the_resting(self) -> None:
        for name, one in self.engine.report().manifolds.items():
            if one.state in {State.FAILED, State.DONE}:
                self.done[one.state] += 1
                self.engine.restart(name)

    async def observe(self, nursery: trio.Nursery) -> None:
        while True:
            await trio.sleep(self.random.expovariate(1 / OBSERVE_EVERY))
            nursery.start_soon(
                self.random.choice((self.subscribe, self.fall_behind, self.wait, self.inspect))
            )

    async def subscribe(self) -> None:
        with trio.move_on_after(self.random.expovariate(1 / HOUR)), self.engine.events() as events:
            async for transition in events:
                assert transition.before is not transition.after
                self.done["seen"] += 1

    async def fall_behind(self) -> None:
        with self.engine.events(capacity=10) as events:
            with trio.move_on_after(self.random.expovariate(1 / HOUR)):
                async for _ in events:
                    await trio.sleep(10 * MINUTE)
            self.done["dropped"] += events.dropped

    async def wait(self) -> None:
        name = self.random.choice(list(self.parts))
        with trio.move_on_after(10 * MINUTE):
            if self.is_installed(name):
                with contextlib.suppress(LookupError):  # uninstalled meanwhile
                    await self.engine.wait_state(name, State.STOPPING, State.DELAYED)
                self.done["waited"] += 1
            await self.engine.wait_settled()

    async def inspect(self) -> None:
        report = self.engine.report()
        assert len(report.manifolds) <= len(self.parts)
        for name in report.manifolds:
            assert str(self.engine.explain(name)).startswith(name)
        name = self.random.choice(list(report.manifolds))
        assert name not in self.engine.blast_radius(name)
        self.done["inspected"] += 1

    # -- calm --------------------------------------------------------------------------------------

    async def tidy_up(self) -> None:
        """Undo what an operator has to: the faults have stopped, and the rest is the engine's."""
        for name in sorted(self.jobs):
            self.uninstall_job(name)
        for name, part in self.parts.items():
            if self.is_installed(name):
                self.engine.release(name)
            if part.kind == "gate" and not part.is_open:
                part.is_open = True
                self.engine.restart(name)
        for _ in range(len(LAYERS)):
            # Who returns is done until an input changes; that may become so while we wait.
            await self.settle()
            self.restart_the_resting()
        await trio.sleep(REST)
        await self.settle()
        for name in [name for name in self.parts if name.startswith("job-")]:
            part = self.parts.pop(name)
            assert (part.alive, part.starts) == (0, part.ends), name

    async def settle(self) -> None:
        with trio.fail_after(HOUR):
            await self.engine.wait_settled()
        await wait_all_tasks_blocked()

    def check_rest(self) -> None:
        """All are started, once more than ended, and nothing else is there."""
        assert not self.violations, self.violations
        report = self.engine.report()
        assert sorted(report.manifolds) == sorted(self.parts)
        for name, one in report.manifolds.items():
            part = self.parts[name]
            assert one.state == State.STARTED, str(self.engine.explain(name))
            assert one.starts == one.ends + 1, name
            assert part.starts == part.ends + 1, name
            assert len(one.history) <= HISTORY, name
            assert one.stuck is None, name
        machine = self.engine._machine
        assert len(machine.timers) == 0
        assert len(machine.timers._heap) == 0
        assert machine.moving == 0
        assert machine._runs == len(self.parts)
        assert not machine.observers.active
        assert not machine.observers._waiters
        assert len(machine.registry) == len(self.parts)
        assert not machine.errors

    @property
    def tasks(self) -> int:
        """How many tasks there are at rest: watcher, timers, runs, and live readers with a host."""
        return 3 + len(self.parts) + 2 * sum(bool(part.live) for part in self.parts.values())


@pytest.fixture
def quiet_log() -> Iterator[Counter[int]]:
    """Count what is logged, by level, and keep none of it: pytest would, with tracebacks."""
    counts: Counter[int] = Counter()

    def count(record: logging.LogRecord) -> bool:
        counts[record.levelno] += 1
        return False

    loggers = [logging.getLogger(f"trioworker.{name}") for name in ("engine", "runner")]
    for logger in loggers:
        logger.addFilter(count)
    yield counts
    for logger in loggers:
        logger.removeFilter(count)


def check_growth(before: Census, after: Census) -> None:
    found = growth(before, after, objects=100, blocks=10_000)
    assert not found, "\n".join(found)


@pytest.mark.full
async def test_a_month_of_faults_leaves_nothing_behind(
    autojump_clock: MockClock, quiet_log: Counter[int], scale: int
) -> None:
    tasks_before = current_statistics().tasks_living
    soak = Soak()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(soak.engine.run)
        await soak.storm(WARM_UP)
        await soak.tidy_up()
        soak.check_rest()
        warm = Census.taken()
        for _ in range(math.ceil((DAYS - WARM_UP) * scale / CHECK_EVERY)):
            await soak.storm(CHECK_EVERY)
            await soak.tidy_up()
            soak.check_rest()
            assert current_statistics().tasks_living == tasks_before + soak.tasks
            check_growth(warm, Census.taken())
        soak.engine.kill()
    assert current_statistics().tasks_living == tasks_before
    for name, one in soak.engine.report().manifolds.items():
        assert one.starts == one.ends, name
        assert soak.parts[name].starts == soak.parts[name].ends, name
        assert one.state == State.STOPPED
    # It was a storm: everything that was to happen to it has.
    deeds = {"looked", "seen", "dropped", "waited", "inspected", "restart", "hold", "install"}
    for deed in deeds | {"uninstall", "replace", State.DONE, State.FAILED}:
        assert soak.done[deed] > 0, deed
    assert sum(part.starts for part in soak.parts.values()) > 1500 * DAYS
    assert quiet_log[logging.ERROR] > 300 * DAYS


@pytest.mark.full
async def test_what_the_engine_kept_goes_with_it(
    autojump_clock: MockClock, quiet_log: Counter[int]
) -> None:
    before = Census.taken().of_package("trioworker")

    async def cut_short() -> None:
        soak = Soak()
        with trio.move_on_after(DAY / 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(soak.engine.run)
                await soak.storm(1)
        assert not soak.violations

    await cut_short()
    after = Census.taken().of_package("trioworker")

    left = {kind: n - before.get(kind, 0) for kind, n in after.items() if n > before.get(kind, 0)}
    assert left == {}


CHILDREN = 100_000
BATCH = 1000


@pytest.mark.full
async def test_100_000_short_children_of_a_catacomb_leave_nothing_behind(
    autojump_clock: MockClock, scale: int
) -> None:
    begun, ended = 0, 0

    async def live(seconds: float) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            if seconds:
                await trio.sleep(seconds)
        finally:
            ended += 1

    async def own(batches: int) -> None:
        for number in range(batches * BATCH):
            worker = simple_worker(live, number % 4)
            if number % 10 == 0:
                await catacomb.start(worker)
            else:
                catacomb.add(worker)
            if number % 7 == 0:
                worker.kill()
            if number % BATCH == 0:
                await trio.sleep(10)
        await trio.sleep(10)

    batches = CHILDREN * scale // BATCH
    async with Catacomb(name="soak") as catacomb:
        await own(batches // 10)
        tasks, warm = current_statistics().tasks_living, Census.taken()
        for _ in range(3):
            await own(3 * batches // 10)
            assert current_statistics().tasks_living == tasks
            check_growth(warm, Census.taken())
    assert begun == ended > CHILDREN * scale * 0.7  # the others were killed before they began


class Brief:
    """Short workers of a runner: most end, some fail once, some for ever and are stopped."""

    def __init__(self) -> None:
        restart = RestartPolicy(error_delay=1.0, jitter=0.0)
        config = RunnerConfig(name="soak", is_fatal=lambda _: False, restart=restart)
        self.runner = Runner(config)
        self.begun = 0
        self.ended = 0

    async def batches(self, count: int) -> None:
        for _ in range(count):
            for number in range(BATCH):
                self.start(number)
            await trio.sleep(4)
            # Those that fail for ever are left, each in its delay or about to fail again.
            assert len(self.runner.report().workers) == BATCH // 10
            await self.stop_all()
            assert self.runner.names() == ()

    def start(self, number: int) -> None:
        errors = {0: [OSError("once")], 1: [OSError("always")] * 100}
        left = errors.get(number % 10, [])
        seconds = number % 4 / 4

        def fresh() -> Worker:
            return simple_worker(self.live, seconds, left.pop() if left else None)

        self.runner.start_worker(f"worker-{number}", fresh)

    async def live(self, seconds: float, error: Exception | None) -> None:
        self.begun += 1
        try:
            await trio.sleep(seconds)
            if error is not None:
                raise error
        finally:
            self.ended += 1

    async def stop_all(self) -> None:
        """Stop those that are left, in both ways, and one of them twice."""
        async with trio.open_nursery() as nursery:
            for number, name in enumerate(self.runner.names()):
                if number % 3:
                    self.runner.stop_worker(name)
                else:
                    nursery.start_soon(self.stop, name)
                    nursery.start_soon(self.stop, name)
        await wait_all_tasks_blocked()

    async def stop(self, name: str) -> None:
        with contextlib.suppress(OSError):
            await self.runner.stop_and_remove(name)


@pytest.mark.full
async def test_100_000_short_workers_of_a_runner_leave_nothing_behind(
    autojump_clock: MockClock, quiet_log: Counter[int], scale: int
) -> None:
    brief = Brief()
    batches = CHILDREN * scale // BATCH
    async with open_worker(brief.runner):
        await brief.batches(batches // 10)
        tasks, warm = current_statistics().tasks_living, Census.taken()
        for _ in range(3):
            await brief.batches(3 * batches // 10)
            assert current_statistics().tasks_living == tasks
            check_growth(warm, Census.taken())
    assert brief.begun == brief.ended > CHILDREN * scale
    assert quiet_log[logging.WARNING] > CHILDREN * scale / 10


# -- the census itself -----------------------------------------------------------------------------


class Thing: ...


def thing(_: int) -> object:
    return Thing()


def nothing(_: int) -> object:
    return None


def text(number: int) -> object:
    return str(number)


@pytest.mark.parametrize(
    "make, told",
    [
        (thing, "more tests.stress.test_soak.Thing"),
        (nothing, "bytes more in"),
        (text, "more blocks of memory"),
    ],
)
def test_a_census_tells_what_has_grown(make: Callable[[int], object], told: str) -> None:
    kept: list[object] = []
    before = Census.taken()
    check_growth(before, Census.taken())
    kept += map(make, range(20_000))

    with pytest.raises(AssertionError, match=told):
        check_growth(before, Census.taken())
