"""The engine under any schedule: against the model, and against its invariants.

Each step is followed by three looks at the engine, none of which knows of the others:

- the `Model` is fed with what was done to the engine and what its workers did, and says the state
  of every manifold;
- the `Recorder` has followed every transition that the engine has told of, and checks each;
- reports, explanations, timers and tasks are compared with the states.

The end of each example stops the engine, lets go of all that holds it up, and looks for every
exception that was raised on the way.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from trioworker.dependency import Transition

from .driver import Driver
from .engine_model import Model, Policy, Spec
from .engine_strategies import (
    NAMES,
    any_action,
    endings,
    kinds_for,
    operator_verbs,
    orders,
    planning,
    policies,
)
from .engine_world import Collector, Verb, World, kinds_of, living, texts

pytestmark = pytest.mark.full

# What may follow what: the picture in docs/states.md, arrow by arrow.
_ENDS = {"waiting", "delayed", "done", "failed", "held", "stopped", "absent"}
_RESTS = {"held", "stopped", "absent"}
ARROWS = {
    "absent": {"waiting"},
    "waiting": {"starting", "waiting"} | _RESTS,
    "delayed": {"waiting"} | _RESTS,
    "starting": {"started", "draining", "stopping"} | _ENDS,
    "started": {"draining", "stopping"} | _ENDS,
    "draining": {"draining", "stopping"} | _ENDS,
    "stopping": {"stopping"} | _ENDS,
    "done": {"waiting"} | _RESTS,
    "failed": {"waiting"} | _RESTS,
    "held": {"waiting", "held", "stopped", "absent"},
    "stopped": {"stopped", "absent"},
}
RUNNING = {"starting", "started", "draining", "stopping"}
UP = {"starting", "started"}
MOVING = {"delayed", "starting", "draining", "stopping"}
AT_REST = {"absent", "delayed", "starting", "stopping", "done", "failed", "held", "stopped"}


class Recorder:
    """Follows all transitions, and checks each. It knows the graph, and nothing of the model."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.states: dict[str, str] = {}
        self.specs: dict[str, Spec] = {}
        self.installed: dict[str, int] = {}
        self.users: dict[str, set[str]] = {}  # of whose output, who began with it
        self.starts: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.followed = 0

    def follow(self) -> None:
        new = self.world.transitions[self.followed :]
        self.followed += len(new)
        for transition in new:
            self.take(transition)

    def take(self, transition: Transition) -> None:
        name, before, after = transition.manifold, str(transition.before), str(transition.after)
        assert self.states.get(name, "absent") == before, f"{transition}: it was elsewhere"
        assert after in ARROWS[before], f"{transition}: no such arrow"
        self.states[name] = after
        if before == "absent":
            number = self.installed[name] = self.installed.get(name, 0) + 1
            self.specs[name] = self.world.kinds[name][number - 1].spec
            self.starts[name] = self.ends[name] = 0
        if before not in RUNNING and after in RUNNING:
            self.starts[name] += 1
        if before in RUNNING and after not in RUNNING:
            self.ends[name] += 1
            for users in self.users.values():
                users.discard(name)
        self.check_inputs(transition, name, before, after)

    def check_inputs(self, transition: Transition, name: str, before: str, after: str) -> None:
        if after in UP:
            for other in self.specs[name].inputs:
                assert self.states[other] == "started", f"{transition}: {other} is not started"
        if after == "starting":
            for other in self.specs[name].depends:
                state = self.states.get(other)
                assert other in self.specs[name].inputs or state not in (
                    "starting",
                    "draining",
                    "stopping",
                ), f"{transition}: its optional {other} is about to come or go"
                if state == "started":
                    self.users.setdefault(other, set()).add(name)
        if before == "started":
            for other in self.users.pop(name, ()):
                state = self.states[other]
                assert state not in UP, f"{transition}: {other}, which uses it, is {state}"


class EngineMachine(RuleBasedStateMachine):
    """One engine, up to six manifolds, and all that can be done to them."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.world: World
        self.went_wrong = True
        self.fed = 0

    # -- rules -------------------------------------------------------------------------------------

    @initialize(
        kinds=st.data(),
        is_open=st.sampled_from([True, True, True, False]),
        on_failed=st.sampled_from(["report", "report", "report", "fatal"]),
        chance=st.sampled_from([0.5, 0.0, 0.999]),
        policy=policies,
    )
    def begin(
        self,
        kinds: st.DataObject,
        is_open: bool,  # noqa: FBT001 - Hypothesis calls by keyword
        on_failed: str,
        chance: float,
        policy: Policy,
    ) -> None:
        kinds.draw(st.random_module())
        self.world = World(self.driver, policy, on_failed=on_failed, chance=chance)
        self.model = Model(policy, on_failed=on_failed)
        self.recorder = Recorder(self.world)
        self.collector = Collector(self.world.records)
        logging.getLogger("trioworker").addHandler(self.collector)
        self.went_wrong = False
        graph = {name: kinds.draw(kinds_for(name, later=False)) for name in NAMES[:4]}
        with self.watched():
            self.step(("verb", ("install", (graph, ()))))
            if is_open:
                self.open()

    def open(self) -> None:
        self.world.note("open")
        self.world.running = self.driver.spawn(self.world.engine.run, name="engine")

    @precondition(lambda self: self.world.running is None)
    @rule()
    def run_engine(self) -> None:
        with self.watched():
            self.open()

    @precondition(lambda self: len(self.model.mans) < len(NAMES) and not self.model.is_closing)
    @rule(data=st.data())
    def install(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([n for n in NAMES if n not in self.model.mans]))
        kind = data.draw(kinds_for(name, later=True))
        with self.watched():
            self.step(("verb", ("install", ({name: kind}, None))))

    @precondition(lambda self: len(self.model.mans) < len(NAMES))
    @rule(data=st.data(), may_be_taken=st.integers(0, 3).map(lambda luck: luck == 0))
    def install_all(self, data: st.DataObject, may_be_taken: bool) -> None:  # noqa: FBT001 - as above
        free = [n for n in NAMES if may_be_taken or n not in self.model.mans]
        names = data.draw(st.sets(st.sampled_from(free), min_size=1, max_size=3))
        graph = {name: data.draw(kinds_for(name, later=True)) for name in sorted(names)}
        later = data.draw(st.sampled_from([(), tuple(NAMES)]))
        with self.watched():
            self.step(("verb", ("install", (graph, later))))

    @rule(verb=operator_verbs)
    def operate(self, verb: Verb) -> None:
        with self.watched():
            self.step(("verb", verb))

    @rule(action=orders)
    def tell(self, action: Any) -> None:
        with self.watched():
            self.step(action)

    @rule(action=orders)
    def tell_again(self, action: Any) -> None:
        """As `tell`: what workers do is half of what happens."""
        with self.watched():
            self.step(action)

    @rule(action=planning, verb=st.sampled_from(["restart", "", ""]))
    def plan(self, action: Any, verb: str) -> None:
        with self.watched():
            then = [("verb", (verb, (action[1],)))] if verb else []
            self.step(action, *then)

    @rule(actions=st.lists(any_action, min_size=2, max_size=5))
    def several(self, actions: list[Any]) -> None:
        with self.watched():
            self.step(*actions)

    @rule(seconds=st.sampled_from([0.005, 0.1, 0.5, 1.0, 1.7, 5.0, 12.0, 100.0]))
    def jump(self, seconds: float) -> None:
        with self.watched():
            end = self.driver.now + seconds
            for due in self.dues():
                if self.driver.now < due < end:
                    self.wait(due)
            self.wait(end)

    @rule()
    def jump_to_the_next(self) -> None:
        with self.watched():
            if dues := self.dues():
                self.wait(dues[0])

    @rule(seconds=st.sampled_from([2.0, 20.0, 1000.0]))
    def sleep_through(self, seconds: float) -> None:
        with self.watched():
            if not self.is_racy():
                self.driver.jump_at_once(seconds)

    @rule(luck=st.integers(0, 5), action=endings)
    def end(self, luck: int, action: Any) -> None:
        if luck == 0:
            with self.watched():
                self.step(action)

    # -- steps -------------------------------------------------------------------------------------

    def step(self, *actions: Any) -> None:
        self.driver.do(self._act, actions)

    def _act(self, actions: tuple[Any, ...]) -> None:
        for action in actions:
            self._act_one(action)
        if all(action[0] == "verb" for action in actions):
            states = {n: m.state for n, m in self.world.engine.report().manifolds.items()}
            self.world.note("look", data=states)

    def _act_one(self, action: Any) -> None:
        world = self.world
        match action:
            case ("verb", verb):
                world.verb(verb)
            case ("plan", name, plan):
                world.plans.setdefault(name, []).append(plan)
            case ("arm", hook, verb):
                world.armed[hook] = verb
            case ("tell", name, order):
                life = world.lives.get(name)
                if life is not None and not life.is_over:
                    life.send.send_nowait(order)
            case ("helper", name, order):
                life = world.lives.get(name)
                if life is not None and life.helpers:
                    life.helpers[0].send_nowait(order)
            case ("let go", name):
                if name in world.lives:
                    world.lives[name].let_go.set()
            case ("cancel",):
                if world.running is not None and not world.running.done:
                    world.note("cancel")
                    world.running.scope.cancel()
            case _:
                raise NotImplementedError(action)

    def dues(self) -> list[float]:
        """Return when something is to happen, soonest first."""
        sleeping = [life.asleep_until for life in self.world.lives.values() if life.asleep_until]
        return sorted({*self.model.deadlines(), *sleeping})

    def is_racy(self) -> bool:
        """Whether a worker and the engine might wake at once, and either be the first."""
        return any(life.asleep_until for life in self.world.lives.values())

    def wait(self, until: float) -> None:
        """Let time pass; look in between, as what follows may be soon."""
        if until > self.driver.now:
            self.driver.jump_at_once(until - self.driver.now)
            self.look()

    # -- checks ------------------------------------------------------------------------------------

    def watched(self) -> _Watched:
        return _Watched(self)

    def look(self) -> None:
        world, model = self.world, self.model
        report = self.driver.do(world.engine.report)
        self.recorder.follow()
        delays = {n: m.retry_in for n, m in report.manifolds.items() if m.retry_in is not None}
        shielded = {(x.name, x.number) for x in world.lives.values() if x.shielded}
        states = {n: m.state for n, m in report.manifolds.items()}
        world.note("quiet", data={"delays": delays, "shielded": shielded, "states": states})
        world.seen = len(world.history)
        for entry in world.history[self.fed :]:
            self.fed += 1
            model.feed(entry)
        self.check_states(report)
        self.check_reports(report)
        self.check_explanations()
        self.check_timers()

    def check_states(self, report: Any) -> None:
        seen = {name: m.state for name, m in report.manifolds.items()}
        expected = self.model.states()
        if self.model.panic:
            fuzzy = {"draining": "stopping"}
            seen = {n: fuzzy.get(s, s) for n, s in seen.items()}
            expected = {n: fuzzy.get(s, s) for n, s in expected.items()}
        assert seen == expected, f"the engine says {seen}, the model {expected}"
        recorded = {n: s for n, s in self.recorder.states.items() if s != "absent"}
        assert {n: m.state for n, m in report.manifolds.items()} == recorded
        assert (self.world.engine.state == "dead") == self.model.is_dead
        if self.world.running is not None:
            assert self.world.running.done == self.model.is_dead, self.world.running

    def check_reports(self, report: Any) -> None:
        for name, m in report.manifolds.items():
            man = self.model.mans[name]
            assert m.ends == len(m.history) == self.recorder.ends[name], name
            assert m.starts == self.recorder.starts[name] == m.ends + (man.run is not None), name
            self.check_counts(name, m.starts, [end.kind for end in m.history])
            wanted = [o for o in man.spec.inputs if self.model.states().get(o) != "started"]
            assert list(m.waiting_for) == wanted, name
            if not self.model.panic:
                assert (m.stuck is not None) == bool(man.run and man.run.stuck), name
            if man.failures == frozenset({0}):
                assert m.state != "delayed" or m.failures in (0, 1), name

    def check_counts(self, name: str, starts: int, ends: list[str]) -> None:
        man = self.model.mans[name]
        # One that rests may be woken in the middle of a stop, by what it reads, and be stopped
        # before it is called: the only starts and ends that the model does not have.
        # And one that was stopped uncalled may have begun again before it was stopped once more.
        if not (man.spec.live or man.spec.optional):
            room = self.model.hooked_verbs + man.uncalled
            assert abs(starts - man.starts) <= room, f"{name}: {starts} starts"
        wanted = man.ends
        if starts != man.starts:
            wanted = [kind for kind in man.ends if kind != "stopped"]
            ends = [kind for kind in ends if kind != "stopped"]
        assert ends == wanted, f"{name}: {ends}, not {wanted}"

    def check_explanations(self) -> None:
        engine = self.world.engine
        for name, man in self.model.mans.items():
            told = engine.explain(name)
            assert told.manifold == name
            assert self.model.panic or told.state == man.state
            assert str(told)
            if man.state == "started":
                continue
            root = self.model.mans.get(told.root.manifold)
            is_rest = told.root.state in AT_REST or self.model.panic or self.model.has_orphans()
            is_missing = root is not None and root.rest == "missing"
            assert is_rest or is_missing or not self.model.is_open, f"no root: {told}"
            assert set(engine.blast_radius(name)) == set(self.model.users(name))

    def check_timers(self) -> None:
        left = self.driver.do(_seconds_left)
        if self.model.is_dead:
            return
        dues = self.dues()
        if not dues and not MOVING.intersection(self.model.states().values()):
            # While something moves, a timer that was cancelled may wake its task once for nothing.
            assert left == math.inf, f"a timer of {left} s for nothing"
        elif dues and not self.model.panic:
            due = dues[0] - self.driver.now
            assert left <= due + 1e-6, f"the next is due in {due} s, and wakes in {left} s"

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if not self.went_wrong:
                self.end_all()
        finally:
            if hasattr(self, "collector"):
                logging.getLogger("trioworker").removeHandler(self.collector)
            if self.went_wrong:
                self.give_up()
            else:
                self.driver.close()

    def give_up(self) -> None:
        """After a failure: end the run, whatever state it is in, and tell no second story."""
        with suppress(Exception):
            self.driver.close()

    def end_all(self) -> None:
        world = self.world
        with self.watched():
            if world.running is None:
                self.open()
        with self.watched():
            self.step(("verb", ("kill", ("", None))))
        for _ in range(20):
            with self.watched():
                self.step(*(("let go", name) for name in NAMES))
            if world.engine.state == "dead":
                break
            with self.watched():
                self.wait(self.driver.now + 3.0)
        self.went_wrong = True
        self.check_end()
        self.went_wrong = False

    def check_end(self) -> None:
        world = self.world
        assert world.engine.state == "dead", self.driver.tree()
        assert all(life.is_over for life in world.lives.values())
        assert world.watcher.done
        assert self.driver.do(living) == world.tasks - 1
        assert self.recorder.starts == self.recorder.ends
        error = world.running.error if world.running else None
        self.check_result(error)
        report = world.engine.report()
        history = " ".join(
            f"{end.error} {end.cause}" for m in report.manifolds.values() for end in m.history
        )
        log = " ".join(world.records)
        everything = f"{texts(error)} {history} {log}"
        raised = self.raised()
        for number in raised - world.hidden:
            assert f"<{number}>" in everything, f"{world.made[number]!r} is lost"
            told = [r for r in world.records if f"<{number}>" in r.partition(" | ")[0]]
            assert len(told) <= 1, told

    def raised(self) -> set[int]:
        """Return the numbers of what left a worker, or was given to kill()."""
        found = set[int]()
        for entry in self.world.history:
            if entry.what in ("left", "helper_left", "asked", "filtered"):
                found |= {int(leaf.split()[1]) for leaf in entry.data}
        return found - {0}

    def check_result(self, error: BaseException | None) -> None:
        model = self.model
        fatal = [leaf.split() for leaf in model.fatal]
        interrupts = [leaf for leaf in fatal if leaf[0] == "interrupt"]
        if interrupts:
            assert isinstance(error, KeyboardInterrupt), repr(error)
            assert kinds_of(error) == [" ".join(interrupts[0])]
        elif fatal:
            assert error is not None
            assert kinds_of(error), repr(error)
        elif model.cancelled_outside:
            assert error is not None
            assert kinds_of(error) == [], repr(error)
        else:
            assert error is None, repr(error)


class _Watched:
    """One step: what follows from it is looked at, and a failure is told with the history."""

    def __init__(self, machine: EngineMachine) -> None:
        self.machine = machine

    def __enter__(self) -> None:
        self.machine.went_wrong = True

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        machine = self.machine
        if exc is None:
            try:
                machine.look()
            except Exception as error:
                error.add_note(machine_story(machine))
                raise
            machine.went_wrong = False


def machine_story(machine: EngineMachine) -> str:
    lines = [str(entry) for entry in machine.world.history[-60:] if entry.what != "quiet"]
    lines += ["", *map(str, machine.world.transitions[-25:])]
    return "\n".join(["story:", *lines])


def _seconds_left() -> float:
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


def examples(n: int) -> settings:
    return settings(
        max_examples=n,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """What is logged goes to the collector of the example, and nowhere else."""
    logger = logging.getLogger("trioworker")
    was = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield
    logger.setLevel(was[0])
    logger.propagate = was[1]


def test_an_engine_does_what_the_model_says_whatever_happens(scale: int) -> None:
    run_state_machine_as_test(EngineMachine, settings=examples(700 * scale))
