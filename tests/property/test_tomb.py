"""Two tombs, their bodies, waiters and clients, against a model of T1 to T12."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from trioworker import Dying, LifetimeError, Tomb

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
from .tombs import TombModel, Tree, is_like, tree_leaves, without

WHICH = st.integers(0, 1)
ANSWERS = st.sampled_from([Answer.LEAVE, *Answer])
ENTERED = st.sampled_from([True, True, False])


class Life:
    """One tomb, its model, and all who have to do with it."""

    def __init__(self, machine: TombMachine, number: int, grace: float, answer: Answer) -> None:
        self.name = f"life {number}"
        self.tomb = Tomb(grace=grace, name=self.name)
        self.model = TombModel(self.tomb, grace)
        self.machine = machine
        self.errors = Errors(
            self.name,
            machine.a_cancelled,
            self.tomb.refusal,
            lambda text: Dying(text, object()),
        )
        self.script = Script(machine.history, self, answer, lambda: self.errors.make(Leaf.BOOM))
        self.body: Spawned[None] | None = None
        self.waiters: list[Spawned[int]] = []
        self.watchers: list[Spawned[None]] = []
        self.depths: set[int] = set()

    async def run(self) -> None:
        history = self.machine.history
        left: BaseException | None = None
        try:
            with self.tomb:
                history.write("enter", self)
                try:
                    await self.script.live()
                except BaseException as exc:
                    left = exc
                    raise
                finally:
                    history.write("leave", self, left)
        finally:
            check(self.tomb.is_dead, "left, but", self.tomb)

    async def wait(self) -> int:
        try:
            await self.tomb.wait()
        except BaseException as exc:
            # The traceback does not grow with the number of waiters (T7).
            depth, traceback = 0, exc.__traceback__
            while traceback is not None:
                depth, traceback = depth + 1, traceback.tb_next
            if not isinstance(exc, trio.Cancelled):
                self.depths.add(depth)
            raise
        return 0

    def __repr__(self) -> str:
        return self.name


class Client:
    """A call into one or several tombs, each guarded."""

    def __init__(self, machine: TombMachine, lives: list[Life], answer: Answer) -> None:
        self.machine = machine
        self.lives = lives
        self.script = Script(machine.history, self, answer)
        self.spawned: Spawned[str] | None = None
        self.cancelled = False
        # The end that the contract wants: "returns", an error, or whose Dying.
        self.expected: object = None

    async def call(self) -> str:
        history = self.machine.history
        history.write("call", self)
        left: BaseException | None = None
        with ExitStack() as stack:
            for life in self.lives:
                stack.enter_context(life.tomb.while_alive())
            try:
                await self.script.live()
            except BaseException as exc:
                left = exc
                raise
            finally:
                history.write("called", self, left)
        return "returns"

    def interrupting(self, now: float) -> list[Life]:
        return [life for life in self.lives if life.model.cancels_clients(now)]

    def __repr__(self) -> str:
        return f"client of {self.lives}"


class TombMachine(Machine):
    lives: list[Life]

    def __init__(self) -> None:
        super().__init__()
        self.lives = []
        self.clients: list[Client] = []

    @initialize(
        seed=st.random_module(),
        graces=st.tuples(GRACES, GRACES),
        answers=st.tuples(ANSWERS, ANSWERS),
        entered=st.tuples(ENTERED, ENTERED),
    )
    def begin(
        self,
        seed: object,
        graces: tuple[float, float],
        answers: tuple[Answer, Answer],
        entered: tuple[bool, bool],
    ) -> None:
        self.lives = [Life(self, i, graces[i], answers[i]) for i in range(2)]
        for i in range(2):
            if entered[i]:
                self.enter(i, joined=False)

    # -- what may happen ---------------------------------------------------------------------------

    @rule(which=WHICH, joined=TOGETHER)
    def enter(self, which: int, *, joined: bool) -> None:
        life = self.lives[which]

        def enter() -> None:
            if life.body is None:
                life.body = self.spawn_soon(life.run, name=f"body of {life}")
            elif life.model.entered:
                with pytest.raises(LifetimeError), life.tomb:
                    pass

        self.act(enter, joined=joined)

    @rule(
        which=WHICH,
        plan=st.none() | PLANS,
        grace=st.sampled_from([None, None, 0.0, 1.0, 5.0]),
        joined=TOGETHER,
    )
    def kill(
        self, which: int, plan: Leaf | Plan | None, grace: float | None, *, joined: bool
    ) -> None:
        life = self.lives[which]
        self.act(lambda: self._kill(life, plan, grace), joined=joined)

    @precondition(lambda self: not any(life.model.entered for life in self.lives))
    @rule(which=WHICH, plan=st.none() | PLANS)
    def kill_outside_of_any_run(self, which: int, plan: Leaf | Plan | None) -> None:
        self.flush()
        if not self.lives[which].model.entered:
            self._kill(self.lives[which], plan, None)
            self.flush()

    @rule(which=WHICH, times=st.integers(2, 20), joined=TOGETHER)
    def kill_many_times(self, which: int, times: int, *, joined: bool) -> None:
        life = self.lives[which]

        def kill() -> None:
            for _ in range(times):
                self._kill(life, Leaf.BOOM, None)

        self.act(kill, joined=joined)

    @rule(which=WHICH, rubbish=st.sampled_from(["why", ValueError, 7]))
    def kill_with_what_is_no_exception(self, which: int, rubbish: Any) -> None:
        with pytest.raises(TypeError):
            self.lives[which].tomb.kill(rubbish)

    @rule(which=WHICH, joined=TOGETHER)
    def body_returns(self, which: int, *, joined: bool) -> None:
        self._order(self.lives[which].script, finish, joined=joined)

    @rule(which=WHICH, plan=PLANS, joined=TOGETHER)
    def body_raises(self, which: int, plan: Leaf | Plan, *, joined: bool) -> None:
        life = self.lives[which]

        def order() -> None:
            error = life.errors.make(plan)
            # A Cancelled alone that Trio has not sent is no program's doing.
            if without(error, set(), life.tomb) is not None:
                fail(error)

        self._order(life.script, order, joined=joined)

    @rule(which=WHICH, plan=PLANS, joined=TOGETHER)
    def body_kills_itself_with_what_it_raises(
        self, which: int, plan: Leaf | Plan, *, joined: bool
    ) -> None:
        life = self.lives[which]

        def order() -> None:
            error = life.errors.make(plan)
            self.history.write("kill", life, (error, None))
            life.tomb.kill(error)
            if without(error, set(), life.tomb) is not None:
                fail(error)

        self._order(life.script, order, joined=joined)

    @rule(which=WHICH, joined=TOGETHER)
    def cancel_from_outside(self, which: int, *, joined: bool) -> None:
        life = self.lives[which]

        def cancel() -> None:
            if life.body is not None:
                self.history.write("outside", life)
                life.body.scope.cancel()

        self.act(cancel, joined=joined)

    @rule(which=WHICH, joined=TOGETHER)
    def release(self, which: int, *, joined: bool) -> None:
        self.act(self.lives[which].script.release, joined=joined)

    @rule(which=WHICH, joined=TOGETHER)
    def wait(self, which: int, *, joined: bool) -> None:
        life = self.lives[which]

        def wait() -> None:
            life.waiters.append(self.spawn_soon(life.wait, name=f"waiter for {life}"))
            life.watchers.append(self.spawn_soon(life.tomb.wait_dying, name=f"watcher of {life}"))

        self.act(wait, joined=joined)

    @rule(which=st.lists(WHICH, min_size=1, max_size=3), answer=ANSWERS, joined=TOGETHER)
    def call(self, which: list[int], answer: Answer, *, joined: bool) -> None:
        client = Client(self, [self.lives[i] for i in which], answer)
        self.clients.append(client)

        def call() -> None:
            client.spawned = self.spawn_soon(client.call, name=str(client))

        self.act(call, joined=joined)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 99), plan=st.none() | PLANS, joined=TOGETHER)
    def client_ends(self, which: int, plan: Leaf | Plan | None, *, joined: bool) -> None:
        client = self.clients[which % len(self.clients)]

        def order() -> None:
            if plan is None:
                finish()
            error = client.lives[0].errors.make(plan or Leaf.BOOM)
            if all(not isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
                fail(error)

        self._order(client.script, order, joined=joined)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 99), joined=TOGETHER)
    def cancel_client(self, which: int, *, joined: bool) -> None:
        client = self.clients[which % len(self.clients)]

        def cancel() -> None:
            if client.spawned is not None:
                self.history.write("outside", client)
                client.spawned.scope.cancel()

        self.act(cancel, joined=joined)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 99), joined=TOGETHER)
    def release_client(self, which: int, *, joined: bool) -> None:
        self.act(self.clients[which % len(self.clients)].script.release, joined=joined)

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.jump(seconds)

    @rule(seconds=SECONDS)
    def time_passes_unnoticed(self, seconds: float) -> None:
        self.jump(seconds, unnoticed=True)

    def _order(self, script: Script, order: Any, *, joined: bool) -> None:
        def give() -> None:
            if script.parked:
                script.order(order)

        self.act(give, joined=joined)

    def _kill(self, life: Life, plan: Leaf | Plan | None, grace: float | None) -> None:
        error = None if plan is None else life.errors.make(plan)
        if life.model.entered or trio.lowlevel.in_trio_task():
            self.history.write("kill", life, (error, grace))
        else:
            life.model.kill(self.driver.now, error, grace)
        life.tomb.kill(error, grace=grace)

    # -- what the contract says --------------------------------------------------------------------

    def observe(self) -> None:
        for event in self.history.news():
            self.read(event)
        for life in self.lives:
            self.check_life(life)
        for client in self.clients:
            self.check_client(client)

    def read(self, event: Event) -> None:
        if isinstance(event.who, Client):
            self.read_client(event.who, event)
            return
        life = event.who
        assert isinstance(life, Life)
        model = life.model
        match event.kind:
            case "enter":
                model.enter(event.now)
            case "kill":
                model.kill(event.now, *event.detail)
            case "outside":
                model.outside = True
            case "cancelled":
                check(model.is_cancelled(event.now), life, "was cancelled too early")
                self.check_story(life, event)
            case _:
                assert event.kind == "leave"
                model.leave(event.detail)

    def read_client(self, client: Client, event: Event) -> None:
        match event.kind:
            case "call":
                dying = [life for life in client.lives if life.model.state != "alive"]
                client.expected = dying[0] if dying else None
            case "outside":
                client.cancelled = True
            case "cancelled":
                causes = client.interrupting(event.now)
                check(client.cancelled or causes, client, "was interrupted for nothing")
            case _:
                assert event.kind == "called"
                check(client.expected is None, client, "was not refused")
                client.expected = self.end_of_call(client, event)

    def end_of_call(self, client: Client, event: Event) -> object:
        left = event.detail
        if left is None:
            return "returns"
        if (real := without(left, set(), None)) is not None:
            return real
        if client.cancelled:
            return trio.Cancelled
        causes = client.interrupting(event.now)
        check(causes, client, "was interrupted for nothing")
        return causes[0]

    def check_story(self, life: Life, event: Event) -> None:
        """The cancellation says who and why (T10)."""
        model = life.model
        if model.outside:
            return
        assert isinstance(event.detail, trio.Cancelled)
        if model.told:
            check(event.detail.source == "explicit", event.detail)
            check(life.name in (event.detail.reason or ""), event.detail)
        else:
            check(event.detail.source == "deadline", event.detail)

    def check_life(self, life: Life) -> None:
        model, tomb, now = life.model, life.tomb, self.driver.now
        check(tomb.state == model.state, tomb, "should be", model.state)
        check(tomb.is_dying == (model.state != "alive"), tomb, "is_dying")
        check(tomb.is_dead == (model.state == "dead"), tomb, "is_dead")
        check(is_like(model.reason, tomb.reason), tomb, "should die of", model.reason)
        self.check_suppressed(life)
        report = tomb.report()
        check(report.state == model.state, report)
        check((report.reason is None) == (model.reason is None), report)
        check(report.cancelled == model.cancelled, report)
        check(life.name in repr(tomb), tomb)
        if life.script.parked:
            check(not model.is_cancelled(now), life, "should have been cancelled by now")
        if life.body is not None and life.body.done:
            check(model.state == "dead", life, "ended undead")
            self.check_end(life, life.body.error)
        for watcher in life.watchers:
            check(watcher.done == (model.state != "alive"), watcher, model.state)
            check(watcher.error is None, watcher)
        for waiter in life.waiters:
            check(waiter.done == (model.state == "dead"), waiter, model.state)
            if waiter.done:
                check(waiter.error is tomb.reason, waiter, tomb.reason)
        check(len(life.depths) <= 1, "the traceback grew with the waiters", life.depths)

    def check_suppressed(self, life: Life) -> None:
        others, kept = life.model.others, life.tomb.suppressed
        check(len(kept) == min(len(others), 16), kept, others)
        # One that was counted and not kept may be counted again: nobody knows it any more.
        uncounted = life.tomb.report().uncounted
        check(uncounted >= max(len(others) - 16, 0), life.tomb.report())
        check(len(others) > 16 or not uncounted, life.tomb.report())
        check(all(map(is_like, others[: len(kept)], kept)), kept, others)
        if life.model.state == "dead" and life.model.reason is not None:
            assert life.tomb.reason is not None
            notes = getattr(life.tomb.reason, "__notes__", [])
            lines = {tuple(map(repr, tree_leaves(other))) for other in others}
            check(len(notes) == min(len(lines), 3), notes, others)

    def check_end(self, life: Life, error: BaseException | None) -> None:
        """Look at what left the block (T6)."""
        if life.model.reason is not None:
            check(error is life.tomb.reason, error, "left instead of", life.tomb.reason)
        elif life.model.cancelled:
            check(error is not None, "the Cancelled was swallowed")
            assert error is not None
            check(all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)), error)
        else:
            check(error is None, error, "left a clean death")

    def check_client(self, client: Client) -> None:
        if client.spawned is None:
            return
        if not client.spawned.done:
            if client.script.parked:
                overdue = client.cancelled or client.interrupting(self.driver.now)
                check(not overdue, client, "hangs on", overdue)
            check(client.script.running, client, "does not end")
            check(client.expected is None, client, "was not refused")
            return
        error, expected = client.spawned.error, client.expected
        if expected == "returns":
            check(error is None, client, "raised", error)
        elif isinstance(expected, Life):
            check(isinstance(error, Dying), client, "raised", error)
            assert isinstance(error, Dying)
            check(error.owner is expected.tomb, client, "blames", error.owner)
        elif expected is trio.Cancelled:
            assert error is not None
            check(without(error, set(), None) is None, client, "raised", error)
        else:
            check(error is not None, client, "lost", expected)
            assert error is not None
            assert isinstance(expected, Tree)
            check(is_like(expected, error) or is_rest(expected, error), error, expected)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> None:
        for life in self.lives:
            self.act(life.script.release, joined=True)
            if life.body is None:
                self.enter(self.lives.index(life), joined=True)
            self.kill(self.lives.index(life), None, 0.0, joined=True)
        for client in self.clients:
            self.act(client.script.release, joined=True)
        self.flush()
        self.jump(CALM)
        for life in self.lives:
            check(life.model.state == "dead", life, "survived")
            check(all(spawned.done for spawned in life.waiters), life, "left somebody waiting")
        for client in self.clients:
            check(client.spawned is not None and client.spawned.done, client, "hangs for ever")


def is_rest(expected: Tree, error: BaseException) -> bool:
    """Say whether `error` still holds the Cancelled that its caller has to get as well."""
    real = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
    return real == tree_leaves(expected)


@pytest.mark.full
def test_t1_to_t12_whatever_happens_to_a_tomb(scale: int) -> None:
    explore(TombMachine, examples=300 * scale, steps=30)
