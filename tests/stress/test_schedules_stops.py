"""Stops in two phases, of a tomb, a catacomb and an engine: asked, given grace, cancelled.

Steps take no mock time, so *when* everybody is asked, cancelled and gone is known exactly,
whatever the order of the steps. Each story writes down who did what to it when, and computes from
that alone what had to happen: the rules T2, T9, T11, C4 and E10, E11 as arithmetic.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from typing import Any

import pytest
import trio

from .explore import Tale, explore
from .perturb import Core
from .test_schedules_engine import Spec, World

COUNT = 3000
ENGINES = 2500

END = 50.0
"""Seconds after which a story ends what has not ended yet."""


@trio.lowlevel.enable_ki_protection
def interrupt(tale: Tale) -> None:
    """Press Ctrl-C: Trio gives it to the main task, at its next checkpoint."""
    tale.interrupted = True
    signal.raise_signal(signal.SIGINT)


class Stops:
    """All that is done to a life from outside, and when.

    Args:
        tale: the story.
        grace: the life's own.
        life: the tomb or catacomb.
        body: what is inside; it is interrupted only while it waits to be stopped.
        scope: the one around it.
    """

    def __init__(
        self, tale: Tale, grace: float, life: Any, body: Body, scope: trio.CancelScope
    ) -> None:
        self.tale = tale
        self.grace = grace
        self.reasons: list[BaseException] = []
        self.dying = math.inf  # when it begins to die
        self.cancelled = math.inf  # when it is cancelled
        self.killed = math.inf  # when it is cancelled by kill(), of which its clients know
        self.interrupted = math.inf
        self._life = life
        self._body = body
        self._scope = scope

    async def hand(self) -> None:
        """Do one thing, some time."""
        await self.tale.some_time(3.0)
        verbs = ("kill", "kill", "reason", "less", "hard", "outside", "interrupt", "system exit")
        self.do(self.tale.rng.choice(verbs))

    def do(self, verb: str) -> None:
        if verb == "interrupt" and (not self._body.waits or self.interrupted < math.inf):
            verb = "kill"
        self.tale.says(verb)
        now = trio.current_time()
        grace: float | None = None
        reason: BaseException | None = None
        match verb:
            case "outside":
                self._scope.cancel()
                self.cancelled = min(self.cancelled, now)
                self.dying = min(self.dying, now)
                return
            case "interrupt":
                self.interrupted = min(self.interrupted, now)
                interrupt(self.tale)
                return
            case "reason":
                reason = ValueError(f"reason {len(self.reasons)}")
            case "system exit":
                reason = SystemExit(len(self.reasons))
            case "less":
                grace = 0.4
            case "hard":
                grace = 0.0
            case _:
                pass
        self.dying = min(self.dying, now)
        left = self.grace if grace is None else min(grace, self.grace)
        self.killed = min(self.killed, now + left)
        self.cancelled = min(self.cancelled, self.killed)
        if reason is not None and not self._life.is_dead:
            self.reasons.append(reason)
        self._life.kill(reason, grace=grace)

    def worst(self) -> BaseException | None:
        """Return which of the reasons counts: the first, or the first that is no Exception."""
        hard = [reason for reason in self.reasons if not isinstance(reason, Exception)]
        return next(iter(hard or self.reasons), None)


def same(a: float, b: float) -> bool:
    return a == b or abs(a - b) < 1e-6


class Body:
    """What is inside of a life: how it takes being stopped, and when."""

    def __init__(self, tale: Tale) -> None:
        self.tale = tale
        # deaf: until cancelled; polite: until dying, then it takes some time.
        self.kind = tale.rng.choice(("deaf", "deaf", "polite"))
        self.tidies = tale.rng.choice((0.0, 0.0, 0.7))
        self.began = math.inf
        self.heard = math.inf  # when it knew that it was dying
        self.broke = math.inf  # when an exception came
        self.why: BaseException | None = None
        self.ended = math.inf
        self.waits = False

    async def live(self, wait_dying: Callable[[], Any]) -> None:
        self.began = trio.current_time()
        self.waits = True
        try:
            if self.kind == "deaf":
                await trio.sleep_forever()
            await wait_dying()
            self.heard = trio.current_time()
            await trio.sleep(0.6)
        except BaseException as exc:
            self.broke = trio.current_time()
            self.why = exc
            raise
        finally:
            self.waits = False
            try:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.tidies)
            finally:  # an interrupt may come right behind a cancellation
                self.ended = trio.current_time()

    def check(self, name: str, dying: float, cancelled: float, interrupted: float) -> None:
        """See that it was told and cancelled when it should, given when that should be."""
        check = self.tale.check
        dying, cancelled = max(dying, self.began), max(cancelled, self.began)
        due = min(cancelled, interrupted)
        if self.kind == "polite" and dying < due:
            check(same(self.heard, dying), f"{name} heard at {self.heard}, not {dying}")
            leaves = dying + 0.6
            if not due < leaves + 1e-6:
                check(self.why is None, f"{name} was stopped before its grace was over")
                return
            if same(due, leaves):
                return
        check(same(self.broke, due), f"{name} was stopped at {self.broke}, not {due}")


# -- a tomb --------------------------------------------------------------------------------------


async def tomb_stops(tale: Tale) -> None:  # noqa: C901 - many hands
    """One life in the main task; kills of all kinds, clients, and those who wait for the end."""
    api, rng = tale.api, tale.rng
    grace = rng.choice((0.0, 1.0, math.inf))
    tomb = api.Tomb(grace=grace, name="life")
    body = Body(tale)
    answers: list[BaseException | None] = []
    ends: list[float] = []  # of the calls that were broken off
    scope = trio.CancelScope()
    stops = Stops(tale, grace, tomb, body, scope)
    result: BaseException | None = None
    left = math.inf
    early = False  # killed before it began: there is no grace (T8)

    async def waiter() -> None:
        await tale.some_time(4.0)
        try:
            await tomb.wait()
        except BaseException as exc:
            if isinstance(exc, trio.Cancelled):
                raise
            answers.append(exc)
        else:
            answers.append(None)
        tale.check(str(tomb.state) == "dead", "wait() returned before the end")

    async def client() -> None:
        await tale.some_time(4.0)
        refused = str(tomb.state) != "alive"
        length = rng.choice((0.1, math.inf))
        inside = False
        begun = trio.current_time()
        try:
            with tomb.while_alive():
                inside = True
                await trio.sleep(length)
        except api.Dying:
            tale.check(str(tomb.state) != "alive", "Dying, and it lived on")
            if inside:
                ends.append(trio.current_time())
            tale.check(inside is not refused, "while_alive() refused, or did not")
        else:
            tale.check(not refused, "while_alive() let in who came too late")
            over = same(trio.current_time(), begun + length)
            tale.check(over, "a call returned before it was over")
        over = trio.current_time() <= max(body.ended, begun)
        tale.check(not inside or over or length < 1, "a call outlasts the life")

    async with trio.open_nursery() as nursery:
        for _ in range(rng.randint(1, 3)):
            nursery.start_soon(stops.hand)
        for _ in range(2):
            nursery.start_soon(waiter)
            nursery.start_soon(client)
        nursery.start_soon(finish, stops)
        try:
            await tale.some_time(1.0)
            early = stops.dying < math.inf
            with scope, tomb:
                await body.live(tomb.wait_dying)
        except BaseException as exc:  # noqa: BLE001 - it is what the story is about
            result = exc
        left = trio.current_time()
    if isinstance(body.why, KeyboardInterrupt):
        stops.reasons.append(body.why)
    if body.began < math.inf:
        inside_ki = stops.interrupted if isinstance(body.why, KeyboardInterrupt) else math.inf
        cancelled = body.began if early else stops.cancelled
        body.check("the body", stops.dying, cancelled, inside_ki)
        tale.check(same(left, body.ended), f"left at {left}, the body ended at {body.ended}")
        due = max(stops.killed, body.began)
        late = [end for end in ends if end > due + 1e-6]
        tale.check(not late, f"calls were broken off at {late}, not {due}")
        worst = stops.worst()
        if not isinstance(result, KeyboardInterrupt):
            tale.check(tomb.reason is worst, f"the reason is {tomb.reason!r}, not {worst!r}")
            tale.check(result is tomb.reason, f"it raised {result!r}, not {tomb.reason!r}")
        hard = [r for r in stops.reasons if not isinstance(r, Exception)]
        if hard:
            tale.check(not isinstance(tomb.reason, Exception), "an interrupt is not the reason")
        wrong = [answer for answer in answers if answer is not tomb.reason]
        tale.check(not wrong, f"wait() raised {wrong}, not the reason")
        tale.check(len(answers) == 2, f"{len(answers)} of 2 were told")


async def finish(stops: Stops) -> None:
    """End what nobody else has ended."""
    await trio.sleep(END)
    stops.do("hard")


# -- a catacomb ----------------------------------------------------------------------------------


class Child:
    """A worker in a catacomb, with a grace of its own."""

    def __init__(self, tale: Tale, number: int) -> None:
        self.name = f"child {number}"
        self.grace = tale.rng.choice((0.0, 0.5, math.inf))
        self.body = Body(tale)
        self.tomb = tale.api.Tomb(grace=self.grace, name=self.name)
        self.asked: list[float] = []

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        with self.tomb:
            task_status.started()
            await self.body.live(self.tomb.wait_dying)

    def kill(self, reason: BaseException | None = None) -> None:
        self.asked.append(trio.current_time())
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


async def catacomb_stops(tale: Tale) -> None:
    """A catacomb with children, in the main task: its grace bounds theirs (C4)."""
    api, rng = tale.api, tale.rng
    grace = rng.choice((0.0, 1.0, math.inf))
    catacomb = api.Catacomb(grace=grace, name="owner")
    children = [Child(tale, number) for number in range(rng.randint(1, 3))]
    body = Body(tale)
    scope = trio.CancelScope()
    stops = Stops(tale, grace, catacomb, body, scope)
    result: BaseException | None = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish, stops)
        try:
            with scope:
                async with catacomb:
                    for child in children:
                        catacomb.add(child)
                    for _ in range(rng.randint(1, 3)):
                        nursery.start_soon(stops.hand)
                    await body.live(catacomb.wait_dying)
        except BaseException as exc:  # noqa: BLE001 - it is what the story is about
            result = exc
        ended = trio.current_time()
    if stops.interrupted < math.inf and not isinstance(body.why, KeyboardInterrupt):
        return  # the interrupt came when the body was gone: all bets on times are off
    if isinstance(body.why, KeyboardInterrupt):
        # The body ends now; that kills the catacomb, when the body has tidied up.
        stops.reasons.append(body.why)
    body_end = body.ended
    body.check("the body", stops.dying, stops.cancelled, stops.interrupted)
    dying = min(stops.dying, body_end)
    cancelled = min(stops.cancelled, dying + grace, body_end + grace)
    for child in children:
        due = min(dying + child.grace, cancelled)
        # Cancelled from outside nobody is asked before the body has ended.
        outside = stops.cancelled <= stops.dying and "outside" in told(tale)
        if not outside and child.body.began < dying:
            child.body.check(child.name, dying, due, math.inf)
        tale.check(child.body.ended <= ended, f"{child.name} outlives the catacomb")
        tale.check(len(child.asked) <= 1, f"{child.name} was asked {len(child.asked)} times")
    if not isinstance(result, KeyboardInterrupt):
        tale.check(result is catacomb.reason, f"it raised {result!r}, not {catacomb.reason!r}")
    if any(not isinstance(reason, Exception) for reason in stops.reasons):
        tale.check(not isinstance(catacomb.reason, Exception), "an interrupt is not the reason")
    tale.check(str(catacomb.state) == "dead", f"it is {catacomb.state} in the end")


def told(tale: Tale) -> set[str]:
    return {what for _, what in tale.lines}


# -- an engine -----------------------------------------------------------------------------------


async def engine_stops(tale: Tale) -> None:
    """An engine in the main task, stopped in every way there is, several at once."""
    world = World(tale)
    api, rng = tale.api, tale.rng
    engine = world.engine
    hard = math.inf
    reasons: list[BaseException] = []
    interrupts: list[float] = []
    ended = math.inf

    async def hand(verb: str, longest: float = 3.0) -> None:
        nonlocal hard
        await tale.some_time(longest)
        tale.says(verb)
        alive = str(engine.state) != "dead"
        match verb:
            case "kill":
                world.kill()
            case "less":
                world.kill(grace=0.1)
            case "reason":
                error = ValueError("reason")
                reasons.append(error) if alive else None
                world.kill(reason=error)
            case "hard":
                world.kill(grace=0)
                hard = min(hard, trio.current_time())
            case "outside":
                scope.cancel()
                hard = min(hard, trio.current_time())
            case _ if not alive:
                pass
            case _:
                interrupts.append(trio.current_time())
                world.in_order = len(interrupts) < 2
                interrupt(tale)

    engine.install_all({name: Spec(world, name).manifold() for name in world.names})
    verbs = ("kill", "kill", "less", "reason", "hard", "outside", "interrupt", "interrupt")
    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        for _ in range(rng.randint(1, 4)):
            nursery.start_soon(hand, rng.choice(verbs))
        nursery.start_soon(finish_engine, world)
        with scope:
            await world.run()
        ended = trio.current_time()
    world.counted()
    if hard < math.inf and not interrupts:
        late = ended > hard + 1e-6
        tale.check(not late, f"stopped hard at {hard}, and over at {ended}")
    result = world.result
    if not interrupts:
        wanted: list[BaseException | None] = [*reasons] or [None]
        tale.check(result in wanted, f"run() raised {result!r}, not one of {wanted}")
        tale.check(not reasons or result is not None, "the reason is lost")
    elif result is not None:
        # Two that come while the last tasks end, when there is nobody to stop, are both raised.
        bare = isinstance(result, (KeyboardInterrupt, ValueError)) or len(interrupts) > 1
        tale.check(bare, f"interrupted, run() raised {result!r}")
    tale.check(not isinstance(result, api.InternalError), f"run() raised {result!r}")


async def finish_engine(world: World) -> None:
    await trio.sleep(END)
    world.kill(grace=0)


@pytest.mark.full
def test_tomb_stops(core: Core, scale: int) -> None:
    explore(tomb_stops, core, COUNT * scale)


@pytest.mark.full
def test_catacomb_stops(core: Core, scale: int) -> None:
    explore(catacomb_stops, core, COUNT * scale)


@pytest.mark.full
def test_engine_stops(core: Core, scale: int) -> None:
    explore(engine_stops, core, ENGINES * scale)
