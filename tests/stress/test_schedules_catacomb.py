"""Adding and killing race (C9, C5): no child runs twice, none is lost, none outlives."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from .explore import Tale, explore
from .perturb import Core

COUNT = 6000

ENDS = ("forever", "forever", "returns", "fails", "fails at once", "returns at once", "fails late")


class Child:
    """A worker that counts what must not happen twice, and does one of `ENDS`."""

    def __init__(self, tale: Tale, number: int, owner: Owner) -> None:
        rng = tale.rng
        self.name = f"child {number}"
        self.tale = tale
        self.owner = owner
        self.end: str = rng.choice(ENDS)
        self.error = ValueError(self.name)
        self.tidies = rng.choice((0, 0, 1, 3))
        self.tomb = tale.api.Tomb(grace=rng.choice((0.0, 0.0, 0.3)), name=self.name)
        self.runs = 0
        self.kills = 0
        self.ended = False
        self.raised = False
        self.accepted = False
        self.returned = False  # of the life: wait() has answered

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self.runs += 1
        self.tale.check(self.runs == 1, f"{self.name} runs {self.runs} times")
        self.tale.check(self.accepted, f"{self.name} runs, and was not accepted")
        self.tale.check(not self.owner.is_dead, f"{self.name} begins after the end")
        self.owner.alive.add(self)
        try:
            with self.tomb:
                await self._live(task_status)
        finally:
            self.owner.alive.discard(self)
            self.ended = True

    async def _live(self, task_status: Any) -> None:
        try:
            if self.end == "fails at once":
                self._fail()
            if self.end == "returns at once":
                return
            await self.tale.some_time()
            task_status.started(self.name)
            if self.end == "forever":
                await trio.sleep_forever()
            await self.tale.some_time()
            if self.end == "fails":
                self._fail()
        finally:
            for _ in range(self.tidies):
                await trio.lowlevel.cancel_shielded_checkpoint()
            if self.end == "fails late":
                self._fail()

    def _fail(self) -> None:
        self.raised = True
        raise self.error

    def kill(self, reason: BaseException | None = None) -> None:
        self.kills += 1
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


class Owner:
    """A worker with a catacomb, and what is known of it from outside."""

    def __init__(self, tale: Tale) -> None:
        rng = tale.rng
        self.tale = tale
        self.name = "owner"
        self.catacomb = tale.api.Catacomb(grace=rng.choice((0.0, 0.0, 0.7)), name="owner")
        self.body = rng.choice(("waits", "waits", "returns", "fails", "adds"))
        self.error = KeyError("body")
        self.body_raised = False
        self.alive: set[Child] = set()
        self.children: list[Child] = []
        self.is_dead = False
        self.result: BaseException | None = None

    async def run(self) -> None:
        try:
            async with self.catacomb:
                if self.body == "adds":
                    for _ in range(2):
                        await self.add()
                await (
                    self.catacomb.wait_dying()
                    if self.body in ("waits", "adds")
                    else self.tale.some_time()
                )
                if self.body == "fails":
                    self.body_raised = True
                    raise self.error
        except Exception as exc:  # noqa: BLE001 - whatever it is
            self.result = exc
        finally:
            self.tale.check(not self.alive, f"outlive the catacomb: {names(self.alive)}")
            self.is_dead = True

    async def add(self) -> None:
        """Add one child, or start it, and see that the answer is the right one."""
        tale, catacomb, dying = self.tale, self.catacomb, self.tale.api.Dying
        child = Child(tale, len(self.children), self)
        self.children.append(child)
        state = str(catacomb.state)
        begun = self.catacomb._nursery is not None
        child.accepted = begun and state != "dead"
        starts = tale.rng.random() < 0.5
        tale.says(f"{'start' if starts else 'add'} {child.name} ({child.end}), {state}")
        refused: BaseException | None = None
        value: object = None
        try:
            if starts:
                value = await catacomb.start(child)
            else:
                catacomb.add(child)
        except (dying, tale.api.LifetimeError, ValueError) as exc:
            refused = exc
        if not begun:
            right = isinstance(refused, tale.api.LifetimeError)
        elif state != "alive":
            failed = starts and child.raised
            right = refused is child.error if failed else isinstance(refused, dying)
        elif not starts:
            right = refused is None
        elif refused is None:
            right = value in (child.name, None)
        else:
            right = refused is child.error or (catacomb.is_dying and isinstance(refused, dying))
        if child.accepted and state != "alive":
            tale.check(child.kills > 0, f"{child.name} came too late, and was not asked")
        tale.check(right, f"{child.name}, {state}, was answered {refused!r}, {value!r}")


def names(children: set[Child]) -> str:
    return ", ".join(sorted(child.name for child in children))


async def catacomb_races(tale: Tale) -> None:  # noqa: C901 - many hands
    """Some add, some kill, all at once; then everything is counted."""
    owner = Owner(tale)
    rng = tale.rng
    given: list[BaseException] = []

    async def adder() -> None:
        for _ in range(rng.randint(1, 2)):
            await tale.some_time(1.0)
            await owner.add()

    async def killer() -> None:
        await tale.some_time()
        match rng.choice(("kill", "kill", "reason", "hard", "child", "outside", "supersede")):
            case "kill":
                tale.says("kill")
                owner.catacomb.kill()
            case "reason":
                error = RuntimeError("killer")
                given.append(error)
                owner.catacomb.kill(error)
            case "hard":
                owner.catacomb.kill(grace=0)
            case "supersede":
                error = RuntimeError("superseding")
                given.append(error)
                owner.catacomb.supersede(error)
            case "outside":
                tale.says("outside")
                outer.cancel()
            case _:
                if owner.children:
                    rng.choice(owner.children).kill()

    async def observer(child: Child) -> None:
        try:
            await child.wait()
        except ValueError as exc:
            tale.check(exc is child.error, f"{child.name} raised another error to an observer")
        tale.check(child.ended or child.runs == 1, f"wait() on {child.name} returned too early")
        child.returned = True

    with trio.CancelScope() as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner.run)
            for _ in range(rng.randint(1, 3)):
                nursery.start_soon(killer)
            # Beside, not inside: who adds must not be stopped with the owner.
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as beside:
                    for _ in range(rng.randint(1, 3)):
                        beside.start_soon(adder)
            owner.catacomb.kill()
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for child in owner.children:
                if child.accepted:
                    nursery.start_soon(observer, child)
    count(tale, owner, given)


def count(tale: Tale, owner: Owner, given: list[BaseException]) -> None:
    for child in owner.children:
        runs = int(child.accepted)
        tale.check(child.runs == runs, f"{child.name} ran {child.runs} times, accepted {runs}")
        tale.check(child.ended == child.accepted, f"{child.name} has not ended")
    catacomb = owner.catacomb
    tale.check(str(catacomb.state) == "dead", f"the catacomb is {catacomb.state} in the end")
    tale.check(not catacomb.report().children, "the catacomb still knows children")
    errors: list[Exception] = [child.error for child in owner.children if child.raised]
    if owner.body_raised:
        errors.append(owner.error)
    kept = [catacomb.reason, *catacomb.suppressed]
    for error in errors:
        tale.check(any(error is k for k in kept), f"{error!r} is lost")
    for error in kept:
        known = error is None or any(error is e for e in (*errors, *given))
        tale.check(known, f"{error!r} came from nowhere")
    tale.check(owner.result is catacomb.reason, f"run() raised {owner.result!r}, not the reason")


@pytest.mark.full
def test_catacomb_races(core: Core, scale: int) -> None:
    explore(catacomb_races, core, COUNT * scale)
