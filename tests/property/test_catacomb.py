"""A catacomb, its children and those who hand them over, against a model of C1 to C9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from trioworker import Catacomb, Dying, LifetimeError

from .children import RUDENESS, SHAPES, Child
from .driver import Spawned
from .machine import CALM, Machine, check, explore
from .scripts import (
    GRACES,
    PLANS,
    SECONDS,
    TOGETHER,
    Answer,
    Errors,
    Event,
    Leaf,
    Plan,
    Script,
    fail,
    finish,
    leaves,
)
from .tombs import TombModel, is_like, without

ANSWERS = st.sampled_from([Answer.LEAVE, *Answer])
WHICH = st.integers(0, 99)
ENTERED = st.sampled_from([True, True, True, False])


class Offered(Child):
    """A child that somebody offers to the catacomb.

    Attributes:
        accepted: whether the catacomb has to run it.
        refused: whether it must not.
        late: whether the catacomb was dying when it came, or when it had its first turn.
    """

    accepted = False
    refused = False
    late = False


class Starter:
    """A caller of ``await catacomb.start(child)``."""

    def __init__(self, machine: CatacombMachine, child: Offered) -> None:
        self.machine = machine
        self.child = child
        self.spawned: Spawned[object] | None = None
        self.cancelled = False
        # What may come of it; None while nothing is known.
        self.allowed: list[object] | None = None

    async def call(self) -> object:
        self.machine.hand_over(self.child)
        return await self.machine.catacomb.start(self.child)

    def __repr__(self) -> str:
        return f"starter of {self.child}"


class CatacombMachine(Machine):
    catacomb: Catacomb
    model: TombModel
    errors: Errors
    script: Script

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Offered] = []
        self.starters: list[Starter] = []
        self.body: Spawned[None] | None = None
        self.waiters: list[Spawned[None]] = []
        self.asked = False
        self.body_left = False
        self.left: BaseException | None = None
        self.deaths = 0

    @initialize(seed=st.random_module(), grace=GRACES, answer=ANSWERS, entered=ENTERED)
    def begin(self, seed: object, grace: float, answer: Answer, *, entered: bool) -> None:
        self.catacomb = Catacomb(grace=grace, name="the catacomb")
        # The tomb by which a Dying is known: that of whoever refuses.
        owner = self.catacomb.refusal().owner
        self.model = TombModel(owner, grace)
        self.errors = Errors(
            "error", self.a_cancelled, self.catacomb.refusal, lambda text: Dying(text, object())
        )
        self.script = Script(self.history, self, answer, lambda: self.errors.make(Leaf.BOOM))
        if entered:
            self.enter(joined=False)

    async def run(self) -> None:
        left: BaseException | None = None
        async with self.catacomb:
            self.history.write("enter", self)
            try:
                await self.script.live()
            except BaseException as exc:
                left = exc
                raise
            finally:
                self.history.write("leave", self, left)

    # -- what may happen ---------------------------------------------------------------------------

    @rule(joined=TOGETHER)
    def enter(self, *, joined: bool) -> None:
        def enter() -> None:
            if self.body is None:
                self.body = self.spawn_soon(self.run, name="body")

        self.act(enter, joined=joined)

    @rule(shape=SHAPES, joined=TOGETHER)
    def add(self, shape: dict[str, Any], *, joined: bool) -> None:
        child = self.child(shape)
        self.act(lambda: self.add_now(child), joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, shape=SHAPES, joined=TOGETHER)
    def add_from_a_child(self, which: int, shape: dict[str, Any], *, joined: bool) -> None:
        parent = self.children[which % len(self.children)]
        child = self.child(shape)
        self.order(parent.script, lambda: self.add_now(child), joined=joined)

    @rule(shape=SHAPES, joined=TOGETHER)
    def add_from_the_body(self, shape: dict[str, Any], *, joined: bool) -> None:
        child = self.child(shape)
        self.order(self.script, lambda: self.add_now(child), joined=joined)

    @rule(shape=SHAPES, joined=TOGETHER)
    def start(self, shape: dict[str, Any], *, joined: bool) -> None:
        starter = Starter(self, self.child(shape))
        self.starters.append(starter)

        def start() -> None:
            starter.spawned = self.spawn_soon(starter.call, name=str(starter))

        self.act(start, joined=joined)

    @precondition(lambda self: any(child.accepted for child in self.children))
    @rule(which=WHICH, joined=TOGETHER)
    def add_a_second_time(self, which: int, *, joined: bool) -> None:
        """Its own tomb refuses it, and that is an error of a child."""
        accepted = [child for child in self.children if child.accepted]
        twice = Twice(self, accepted[which % len(accepted)])

        def add() -> None:
            self.read_news()
            if twice.child.runs and self.model.state == "alive":
                self.history.write("accept", twice.child.name)
                self.catacomb.add(twice)

        self.act(add, joined=joined)

    @rule(
        plan=st.none() | PLANS,
        grace=st.sampled_from([None, None, 0.0, 1.0, 5.0]),
        joined=TOGETHER,
    )
    def kill(self, plan: Leaf | Plan | None, grace: float | None, *, joined: bool) -> None:
        self.act(lambda: self._kill(plan, grace), joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, plan=st.none() | PLANS, joined=TOGETHER)
    def somebody_kills_a_child(self, which: int, plan: Leaf | Plan | None, *, joined: bool) -> None:
        child = self.children[which % len(self.children)]

        def kill() -> None:
            child.kill_by_another(None if plan is None else self.errors.make(plan))

        self.act(kill, joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, joined=TOGETHER)
    def a_child_starts(self, which: int, *, joined: bool) -> None:
        child = self.children[which % len(self.children)]
        self.order(child.script, child.start, joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, joined=TOGETHER)
    def a_child_returns(self, which: int, *, joined: bool) -> None:
        self.order(self.children[which % len(self.children)].script, finish, joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, plan=PLANS, joined=TOGETHER)
    def a_child_fails(self, which: int, plan: Leaf | Plan, *, joined: bool) -> None:
        script = self.children[which % len(self.children)].script
        self.order(script, lambda: self._fail(plan), joined=joined)

    @precondition(lambda self: self.children)
    @rule(which=WHICH, joined=TOGETHER)
    def release_a_child(self, which: int, *, joined: bool) -> None:
        self.act(self.children[which % len(self.children)].script.release, joined=joined)

    @rule(joined=TOGETHER)
    def the_body_returns(self, *, joined: bool) -> None:
        self.order(self.script, finish, joined=joined)

    @rule(plan=PLANS, joined=TOGETHER)
    def the_body_fails(self, plan: Leaf | Plan, *, joined: bool) -> None:
        self.order(self.script, lambda: self._fail(plan), joined=joined)

    @rule(joined=TOGETHER)
    def release_the_body(self, *, joined: bool) -> None:
        self.act(self.script.release, joined=joined)

    @rule(joined=TOGETHER)
    def cancel_from_outside(self, *, joined: bool) -> None:
        def cancel() -> None:
            if self.body is not None:
                self.history.write("outside", self)
                self.body.scope.cancel()

        self.act(cancel, joined=joined)

    @precondition(lambda self: self.starters)
    @rule(which=WHICH, joined=TOGETHER)
    def cancel_a_starter(self, which: int, *, joined: bool) -> None:
        starter = self.starters[which % len(self.starters)]

        def cancel() -> None:
            if starter.spawned is not None:
                starter.cancelled = True
                starter.spawned.scope.cancel()

        self.act(cancel, joined=joined)

    @rule(joined=TOGETHER)
    def wait(self, *, joined: bool) -> None:
        self.act(
            lambda: self.waiters.append(self.spawn_soon(self.catacomb.wait, name="waiter")),
            joined=joined,
        )

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.jump(seconds)

    @rule(seconds=SECONDS)
    def time_passes_unnoticed(self, seconds: float) -> None:
        self.jump(seconds, unnoticed=True)

    def child(self, shape: dict[str, Any]) -> Offered:
        name = f"child {len(self.children)}"
        child = Offered(self.history, name, lambda: self.errors.make(Leaf.BOOM), **shape)
        self.children.append(child)
        return child

    def order(self, script: Script, order: Callable[[], object], *, joined: bool) -> None:
        def give() -> None:
            if script.parked:
                script.order(order)

        self.act(give, joined=joined)

    def _kill(self, plan: Leaf | Plan | None, grace: float | None) -> None:
        error = None if plan is None else self.errors.make(plan)
        self.history.write("kill", self, (error, grace))
        self.catacomb.kill(error, grace=grace)

    def _fail(self, plan: Leaf | Plan) -> None:
        error = self.errors.make(plan)
        # What is nothing but a Cancelled that Trio has not sent is no program's doing, and the
        # catacomb's Dying alone says that a child was late: nothing it would fail with.
        if without(error, set(), self.model.tomb) is not None:
            fail(error)

    def add_now(self, child: Offered) -> None:
        state = self.hand_over(child)
        try:
            self.catacomb.add(child)
        except LifetimeError:
            check(state == "new", "add() to what is", state)
        except Dying as refusal:
            check(state in ("dying", "dead"), "add() to what is", state)
            check(refusal.owner is self.model.tomb, refusal.owner)
        else:
            check(state == "alive", "add() to what is", state)

    def hand_over(self, child: Offered) -> str:
        """Note that `child` is offered now; return how the catacomb stands."""
        self.read_news()
        state = self.model.state
        if not self.model.entered:
            state = "new"
        child.accepted = state in ("alive", "dying")
        child.refused = not child.accepted
        child.late = state == "dying"
        return state

    # -- what the contract says --------------------------------------------------------------------

    def observe(self) -> None:
        self.read_news()
        self.check_catacomb()
        for child in self.children:
            self.check_child(child)
        for starter in self.starters:
            self.check_starter(starter)

    def read_news(self) -> None:
        for event in self.history.news():
            if isinstance(event.who, Offered):
                self.read_child(event.who, event)
            else:
                self.read(event)
            self.die_if_over()

    def read(self, event: Event) -> None:
        match event.kind:
            case "enter":
                self.model.enter(event.now)
            case "kill":
                self.model.kill(event.now, *event.detail)
            case "outside":
                self.model.outside = self.model.outside or self.model.state != "dead"
            case "cancelled":
                check(self.model.is_cancelled(event.now), "the body was cancelled too early")
            case "leave":
                self.body_left = True
                self.left = event.detail
                self.model.kill(event.now, event.detail)
            case _:
                assert event.kind in ("accept", "ended")

    def read_child(self, child: Offered, event: Event) -> None:
        match event.kind:
            case "run":
                child.runs += 1
                # As if it had been added later: a kill() before the life begins knows no grace.
                child.late = self.model.state != "alive"
            case "asked":
                child.kills += 1
                if child.rude:
                    self.model.kill(event.now, RUDENESS)
            case "cancelled":
                cause = self.model.is_cancelled(event.now) or child.model.is_cancelled(event.now)
                check(cause or child.late, child, "was cancelled too early")
            case "ended":
                child.ended = True
                child.error = event.detail
                self.expect_for_starters(child)
                if event.detail is not None:
                    # A Cancelled from a child tells that a scope outside was cancelled, too late
                    # for grace, and so that is the end.
                    self.model.kill(event.now, event.detail)
            case _:
                assert event.kind == "started"

    def expect_for_starters(self, child: Offered) -> None:
        dying = self.model.state != "alive"
        error = None if child.error is None else without(child.error, set(), None)
        for starter in self.starters:
            if starter.child is child and starter.allowed is None:
                if child.started and not child.late:
                    starter.allowed = [child.name]
                elif error is not None:
                    starter.allowed = [error]
                else:
                    starter.allowed = [Dying] if dying else [None, Dying]

    def die_if_over(self) -> None:
        living = [child for child in self.children if child.accepted and not child.ended]
        if self.body_left and not living and self.catacomb.is_dead:
            self.model.state = "dead"

    def check_catacomb(self) -> None:
        model, catacomb = self.model, self.catacomb
        living = [child for child in self.children if child.accepted and not child.ended]
        if self.body_left and not living:
            check(catacomb.is_dead, "everything is over, but", catacomb)
        check(catacomb.state == model.state, catacomb, "should be", model.state)
        check(is_like(model.reason, catacomb.reason), catacomb, "should die of", model.reason)
        others, kept = model.others, catacomb.suppressed
        check(len(kept) == min(len(others), 16), kept, others)
        check(all(map(is_like, others[: len(kept)], kept)), kept, others)
        report = catacomb.report()
        check(len(report.children) == len(living), "forgets or remembers", report.children, living)
        check("the catacomb" in repr(catacomb), catacomb)
        if self.script.parked:
            check(not model.is_cancelled(self.driver.now), "the body should have been cancelled")
        for waiter in self.waiters:
            check(waiter.done == (model.state == "dead"), waiter, model.state)
            if waiter.done:
                check(waiter.error is catacomb.reason, waiter, catacomb.reason)
        if self.body is not None and self.body.done:
            self.check_end(self.body.error)

    def check_end(self, error: BaseException | None) -> None:
        check(self.model.state == "dead", "left, but", self.model.state)
        if self.model.reason is not None:
            check(error is self.catacomb.reason, error, "instead of", self.catacomb.reason)
            return
        if error is not None:
            check(self.model.outside, error, "came from nowhere")
            check(all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)), error)
        body = [] if self.left is None else leaves(self.left)
        if self.model.outside and any(isinstance(leaf, trio.Cancelled) for leaf in body):
            check(error is not None, "the Cancelled was swallowed")
        check(self.catacomb.report().tomb.cancelled == (error is not None), error)

    def check_child(self, child: Offered) -> None:
        model = self.model
        if not child.accepted:
            check(child.runs == 0, child, "ran, but was not accepted")
            return
        check(child.runs == 1, child, "ran", child.runs, "times")
        # A deaf or rude one was asked as well; an ended one not necessarily.
        if model.state != "alive" and not child.ended:
            check(child.kills == 1, child, "was asked", child.kills, "times")
        check(child.kills <= 1, child, "was asked", child.kills, "times")
        check(child.kills == 0 or model.state != "alive", child, "was asked for nothing")
        now = self.driver.now
        if child.script.parked:
            overdue = model.is_cancelled(now) or child.model.is_cancelled(now) or child.late
            check(not overdue, child, "should have been cancelled by now")
        if model.state == "dead":
            check(child.ended, child, "outlived its catacomb")

    def check_starter(self, starter: Starter) -> None:
        child, spawned = starter.child, starter.spawned
        if spawned is None:
            return
        if not spawned.done:
            check(not starter.cancelled, starter, "does not hear its cancellation")
            check(not child.refused and not child.ended, starter, "hangs")
            check(child.late or not child.started, starter, "hangs")
            return
        error = spawned.error
        if isinstance(error, trio.Cancelled):
            check(starter.cancelled, starter, "was cancelled for nothing")
        elif child.refused:
            wanted = Dying if self.model.state == "dead" else LifetimeError
            check(isinstance(error, (wanted, LifetimeError)), starter, error)
        elif error is None:
            value = spawned.outcome.value  # type: ignore[union-attr]  # it is done, without error
            self.check_value(starter, value)
        else:
            check(starter.allowed is not None, starter, "raised", error)
            assert starter.allowed is not None
            wanted_error = starter.allowed[0]
            if isinstance(error, Dying) and error.owner is self.model.tomb:
                check(Dying in starter.allowed or wanted_error is error, starter, "was refused")
            else:
                check(is_like(wanted_error, error), starter, "raised", error)  # type: ignore[arg-type]

    def check_value(self, starter: Starter, value: object) -> None:
        child = starter.child
        if value is None:
            check(child.ended and not child.started, starter, "returned None")
            check(starter.allowed is not None and None in starter.allowed, starter, "returned None")
        else:
            check(value == child.name, starter, "returned", value)
            check(child.started and not child.late, starter, "returned", value)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        for child in self.children:
            self.act(child.script.release, joined=True)
        self.act(self.script.release, joined=True)
        self.enter(joined=True)
        self.flush()
        self.kill(None, 0.0, joined=False)
        self.jump(CALM)
        check(self.model.state == "dead", "the catacomb survives")
        for child in self.children:
            check(child.runs == int(child.accepted), child, "ran", child.runs, "times")
        for starter in self.starters:
            check(starter.spawned is not None and starter.spawned.done, starter, "hangs for ever")


class Twice:
    """A child that is run a second time, as if it had been added twice."""

    def __init__(self, machine: CatacombMachine, child: Offered) -> None:
        self.machine = machine
        self.child = child

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            self.child.enter_again()
        except LifetimeError as exc:
            self.machine.history.write("kill", self.machine, (exc, None))
            raise

    def kill(self, reason: BaseException | None = None) -> None:
        pass

    async def wait(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.full
def test_c1_to_c9_whatever_happens_to_a_catacomb(scale: int) -> None:
    explore(CatacombMachine, examples=350 * scale, steps=30)
