"""Verbs storm over diamonds; after every transition the invariants of the engine hold.

Two observers check independently of each other. `Mirror` is told of each transition at the moment
it happens (it is an event stream that looks at what is put into it) and checks it against its own
copy of all states. `Part`, the worker, knows the workers it was started with, and sees for itself
that they live when it begins and until it ends.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import trio

from trioworker import Engine, Getter, Manifold

from .explore import Tale, explore
from .perturb import Core
from .scheduler import ENDLESS, discard, scheduled

COUNT = 4500

UP = {"starting", "started"}
RUNNING = {"starting", "started", "draining", "stopping"}
RESTING = {"absent", "waiting", "done", "held", "failed", "stopped"}

# By name: required, optional, live.
GRAPHS: tuple[dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]], ...] = (
    {
        "base": ((), (), ()),
        "left": (("base",), (), ()),
        "right": (("base",), (), ()),
        "top": (("left", "right"), (), ()),
    },
    {
        "base": ((), (), ()),
        "left": (("base",), (), ("top",)),
        "right": ((), ("base",), ()),
        "top": (("left", "base"), ("right",), ()),
    },
    {
        "base": ((), (), ()),
        "left": (("base",), (), ()),
        "right": (("base",), ("left",), ()),
        "top": (("left", "right"), (), ("base",)),
        "roof": (("top",), ("base",), ()),
    },
)

LIVES = ("forever", "fails at once", "fails", "returns", "bounces", "misses", "hangs", "retries")
LIKELY = (8, 2, 3, 1, 2, 1, 1, 1)


def is_cancellation(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(trio.Cancelled)[1] is None
    return isinstance(exc, trio.Cancelled)


def ask(part: Part) -> None:
    part.asked.set()


class Part:
    """One run of a manifold, seen from inside."""

    def __init__(self, world: World, name: str, life: str) -> None:
        self.world = world
        self.name = name
        self.life = life
        self.needs: set[Part] = set()  # inputs, and theirs
        self.ready = False
        self.ended = False
        self.by_itself = False  # it ends, and nobody asked
        self.asked = trio.Event()


class Spec:
    """One manifold of the story: how its runs behave."""

    def __init__(self, world: World, name: str) -> None:
        rng = world.tale.rng
        self.world = world
        self.name = name
        self.required, self.optional, self.live = world.graph[name]
        # The last is for ever, so that every story comes to rest.
        self.lives = [*rng.choices(LIVES, LIKELY, k=rng.randrange(3)), "forever"]
        self.soft = rng.random() < 0.4
        self.grace = rng.choice((0.2, 5.0)) if self.soft else 0.0
        self.tidies = rng.choice((0, 0, 1, 3))
        self.slow = rng.random() < 0.5
        self.turns = 0

    def manifold(self) -> Any:
        return self.world.tale.api.Manifold(
            self.start,
            inputs=self.required,
            optional=self.optional,
            live=self.live,
            ask=ask if self.soft else None,
            grace=self.grace,
            start_timeout=20.0,
        )

    async def start(self, get: Any, *, task_status: Any) -> None:
        world = self.world
        life = self.lives[min(self.turns, len(self.lives) - 1)]
        self.turns += 1
        part = Part(world, self.name, life)
        world.tale.says(f"{self.name} begins, {life}")
        world.begins(part, self, get)
        try:
            await self._live(part, task_status)
        finally:
            # Before the clean-up: what it used must be there until after it.
            for _ in range(self.tidies):
                await trio.lowlevel.cancel_shielded_checkpoint()
            world.ends(part)

    async def _live(self, part: Part, task_status: Any) -> None:
        tale = self.world.tale
        if part.life == "fails at once":
            self._leaves(part, OSError(self.name))
        if self.slow:
            await tale.some_time(0.5)
        if part.life == "hangs":
            await trio.sleep_forever()
        part.ready = True
        task_status.started(part)
        if part.life == "forever":
            await part.asked.wait()
            for _ in range(self.tidies):
                await trio.lowlevel.checkpoint()
            return
        await tale.some_time(1.0)
        api = tale.api
        match part.life:
            case "fails":
                self._leaves(part, OSError(self.name))
            case "bounces":
                self._leaves(part, api.Bounce())
            case "misses":
                self._leaves(part, api.Missing())
            case "retries":
                self._leaves(part, api.RetryAfter(0.3))
            case _:
                part.by_itself = True

    def _leaves(self, part: Part, error: Exception) -> None:
        part.by_itself = True
        raise error


class World:
    """An engine, the parts that live in it, and a mirror of its states."""

    def __init__(self, tale: Tale, **config: Any) -> None:
        api, rng = tale.api, tale.rng
        self.tale = tale
        self.graph = rng.choice(GRAPHS)
        self.names = list(self.graph)
        policy = api.RestartPolicy(error_delay=rng.choice((0.0, 0.4)), bounce_delay=0.01)
        self.engine = api.Engine(api.EngineConfig(restart=policy, **config), random=rng.random)
        self.alive: dict[str, Part] = {}
        self.states = dict.fromkeys(self.names, "absent")
        self.starts = dict.fromkeys(self.names, 0)
        self.held: set[str] = set()
        self.leaving: set[str] = set()
        self.closing = False
        self.is_dead = False
        self.in_order = True  # a second interrupt ends that
        self.result: BaseException | None = None
        stream = self.engine.events().__enter__()
        stream.put = self.moved

    async def run(self) -> None:
        try:
            await self.engine.run()
        except BaseException as exc:
            if is_cancellation(exc):
                raise
            self.result = exc
        finally:
            self.tale.check(not self.alive, f"outlive the engine: {sorted(self.alive)}")
            self.is_dead = True

    # -- what the workers see ----------------------------------------------------------------------

    def begins(self, part: Part, spec: Spec, get: Any) -> None:
        check, name = self.tale.check, part.name
        check(not self.is_dead, f"{name} begins after the end")
        check(name not in self.alive, f"{name} runs twice at once")
        self.alive[name] = part
        wanted = self.states[name] == "starting"
        for other in spec.required:
            if wanted:
                self._takes(part, other, get(other, Part))
        for other in spec.optional:
            if wanted and (used := get.optional(other, Part)) is not None:
                self._takes(part, other, used)

    def _takes(self, part: Part, other: str, used: Part) -> None:
        part.needs |= {used, *used.needs}
        # An error that is on its way out is not known yet.
        there = used.ready and (used.by_itself or self.alive.get(other) is used)
        self.tale.check(there, f"{part.name} was given a {other} that does not live")

    def ends(self, part: Part) -> None:
        name = part.name
        for used in part.needs:
            gone = used.ended and not used.by_itself and self.in_order
            self.tale.check(not gone, f"{name} outlives {used.name}, which it needs")
        part.ended = True
        self.tale.says(f"{name} ends")
        self.tale.check(self.alive.pop(name, None) is part, f"{name} ends twice")

    # -- what the engine says ----------------------------------------------------------------------

    def moved(self, transition: Any) -> None:
        """Check one transition, right when it happens."""
        check = self.tale.check
        name, before, after = transition.manifold, str(transition.before), str(transition.after)
        self.tale.says(f"  {name}: {before} -> {after}")
        check(self.states[name] == before, f"{name} was {self.states[name]}, not {before}")
        self.states[name] = after
        if after == "starting":
            self.starts[name] += 1
            check(before == "waiting", f"{name} starts from {before}")
            check(name not in self.held, f"{name} starts, and is held")
            check(name not in self.leaving, f"{name} starts, and is uninstalled")
            check(not self.closing, f"{name} starts after kill()")
            check(name not in self.alive, f"{name} starts, and its former run lives")
        if before in RUNNING and after not in RUNNING:
            check(name not in self.alive, f"{name} is {after}, and its run lives")
        if after == "absent":
            self.leaving.discard(name)
            self.held.discard(name)
        for other, (required, _, _) in self.graph.items():
            if self.states[other] in UP:
                bad = [r for r in required if self.states[r] != "started"]
                check(not bad, f"{other} is {self.states[other]}, but {bad} not started")

    # -- what operators do -------------------------------------------------------------------------

    def do(self, verb: str, name: str) -> None:
        engine, api = self.engine, self.tale.api
        known = self.states[name] != "absent"
        self.tale.says(f"{verb} {name}")
        try:
            match verb:
                case "install":
                    engine.install(name, Spec(self, name).manifold())
                case "uninstall":
                    if known:
                        self.leaving.add(name)
                    engine.uninstall(name)
                case "restart":
                    engine.restart(name)
                case "hold":
                    if known:
                        self.held.add(name)
                    engine.hold(name)
                case "release":
                    self.held.discard(name)
                    engine.release(name)
                case _:
                    self.held |= {n for n in self.names if self.states[n] != "absent"}
                    engine.drain()
        except api.NotFound:
            self.tale.check(not known, f"{verb} did not find {name}")
        except api.AlreadyExists:
            self.tale.check(known, f"{name} is taken, and absent")
        except api.Dying:
            self.tale.check(str(engine.state) != "alive", f"{verb}: Dying, and it is alive")

    def kill(self, **how: Any) -> None:
        self.tale.says(f"kill {how}")
        self.closing = True
        self.engine.kill(**how)

    def settled(self) -> None:
        """Nothing moves, so everything that can run does."""
        check = self.tale.check
        for name in self.names:
            state = self.states[name]
            check(state in RESTING | {"started"}, f"{name} is {state}, and the engine settled")
            lives = name in self.alive
            check((state == "started") == lives, f"{name} is {state}, and lives: {lives}")
            ready = all(self.states[other] == "started" for other in self.graph[name][0])
            if state == "absent":
                continue
            node = self.engine._registry.known(name)
            if state == "waiting" and ready:
                check(node.missing is not None, f"{name} waits for nothing")
            if state == "done":
                check(not node.changed, f"{name} is done, and an input has changed")
            for other in self.graph[name][1]:
                if state == self.states[other] == "started":
                    used = self.alive[other] in self.alive[name].needs
                    check(used, f"{name} runs without {other}, which is there")
        check(not len(self.engine._machine.timers), "a timer is live, and nothing moves")

    def counted(self) -> None:
        """It is over: one end for each start, and nothing that lives."""
        check = self.tale.check
        check(str(self.engine.state) == "dead", f"the engine is {self.engine.state} in the end")
        rests = {name: s for name, s in self.states.items() if s not in {"stopped", "absent"}}
        check(not rests, f"in the end: {rests}")
        for row in self.engine.report().manifolds.values():
            check(row.starts == row.ends, f"{row.name}: {row.starts} starts, {row.ends} ends")
        for node in self.engine._registry.all_installed():
            check(node.users == 0, f"{node.name} has {node.users} users in the end")
            check(node.run is None, f"{node.name} has a run in the end")


VERBS = ("install", "install", "restart", "restart", "uninstall", "hold", "release", "drain")
OFTEN = (4, 4, 4, 4, 3, 3, 3, 1)


async def engine_storms(tale: Tale) -> None:
    """Several hands at once use all verbs on a diamond; it comes to rest, and is killed."""
    world = World(tale)
    rng = tale.rng

    async def hand() -> None:
        for _ in range(rng.randint(1, 3)):
            await tale.some_time()
            for _ in range(rng.choice((1, 1, 2))):
                world.do(rng.choices(VERBS, OFTEN)[0], rng.choice(world.names))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        specs = {name: Spec(world, name).manifold() for name in world.names}
        if rng.random() < 0.5:
            world.engine.install_all(specs)
        else:
            order = rng.sample(world.names, len(world.names))
            for name in order:
                await tale.some_time(0.3) if rng.random() < 0.3 else None
                world.engine.install(name, specs[name])
        async with trio.open_nursery() as hands:
            for _ in range(rng.randint(1, 3)):
                hands.start_soon(hand)
        if rng.random() < 0.6:
            with trio.fail_after(1000):
                await world.engine.wait_settled()
                await trio.sleep(500)  # what ends by itself may just have been about to
                await world.engine.wait_settled()
            world.settled()
        world.kill()
    world.counted()
    tale.check(world.result is None, f"run() raised {world.result!r}")


@pytest.mark.full
def test_engine_storms(core: Core, scale: int) -> None:
    explore(engine_storms, core, COUNT * scale)


def test_an_engine_under_which_trio_has_crashed_can_be_thrown_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took its own ``GeneratorExit`` for an interrupt, and waited on, in a loop without end.

    Found by a schedule whose run was given up: "if the engine's own code fails, plain Trio unwinds"
    has to hold for Trio's code as well.
    """
    monkeypatch.setattr(sys, "unraisablehook", id)  # what a crash leaves complains
    crash()
    discard()


def crash() -> None:
    engine = Engine()
    coroutines: list[Any] = []
    taken: list[BaseException] = []

    async def forever(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def keep() -> None:
        coroutines.append(trio.lowlevel.current_task().coro)
        await engine.run()

    def condemn(error: BaseException) -> None:
        taken.append(error)
        raise AssertionError(f"taken for an interrupt: {error!r}")

    async def main() -> None:
        engine.install("forever", Manifold(forever))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep)
            await engine.wait_settled()
            scheduler.batches = ENDLESS
            await trio.lowlevel.checkpoint()

    with scheduled(0) as scheduler, pytest.raises(trio.TrioInternalError):
        trio.run(main)
    vars(engine)["_interrupted"] = condemn
    assert hasattr(Engine, "_interrupted"), "it is called otherwise now"
    with pytest.raises(RuntimeError, match="async context"):  # a nursery's, which is closed as well
        coroutines.pop().close()
    assert not taken
