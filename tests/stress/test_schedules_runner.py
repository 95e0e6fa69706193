"""Starting, stopping and failing race under a runner (R1 to R7), stops during a delay included."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from .explore import Tale, explore
from .perturb import Core

COUNT = 5000

LIVES = (
    "forever", "forever", "returns", "fails at once", "fails", "fails", "start fails",
    "fails late", "fatal",
)  # fmt: skip
LIKELY = (6, 6, 2, 3, 5, 5, 2, 2, 1)


class Fatal(Exception):
    """An error that ends the runner."""


class Part:
    """One worker of one name: one turn of its life."""

    def __init__(self, given: Given, life: str) -> None:
        tale = given.tale
        self.name = given.name
        self.given = given
        self.tale = tale
        self.life = life
        self.tomb = tale.api.Tomb(grace=tale.rng.choice((0.0, 0.3)), name=given.name)
        self.tidies = tale.rng.choice((0, 0, 2))
        self.runs = 0

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        self.runs += 1
        alive = self.given.alive
        self.tale.check(self.runs == 1, f"a worker of {self.name} runs twice")
        self.tale.check(not alive, f"{self.name} has two workers")
        asked = self.tomb.is_dying or not self.given.stopped
        self.tale.check(asked, f"a worker of {self.name} begins unasked, and it was stopped")
        alive.append(self)
        try:
            with self.tomb:
                await self._live(task_status)
        finally:
            alive.remove(self)
            self.tale.says(f"{self.name} ended ({self.life})")

    async def _live(self, task_status: Any) -> None:
        try:
            if self.life == "fails at once":
                self.given.fail(OSError("at once"))
            await self.tale.some_time(0.5)
            task_status.started()
            if self.life == "forever":
                await trio.sleep_forever()
            await self.tale.some_time()
            if self.life == "fails":
                self.given.fail(OSError("later"))
            if self.life == "fatal":
                self.given.fail(Fatal())
        finally:
            for _ in range(self.tidies):
                await trio.lowlevel.cancel_shielded_checkpoint()
            if self.life == "fails late":
                self.given.fail(OSError("late"))

    def kill(self, reason: BaseException | None = None) -> None:
        self.tomb.kill(reason)

    async def wait(self) -> None:
        await self.tomb.wait()


class Given:
    """One ``start_worker()``, from there to where the name is free again."""

    def __init__(self, tale: Tale, runner: Any, name: str) -> None:
        self.tale = tale
        self.runner = runner
        self.name = name
        self.turns = 0
        self.alive: list[Part] = []
        self.stopped_at: float | None = None
        self.last: Exception | None = None
        self.over = False  # a turn that must be the last has begun its end
        self.lives = [*tale.rng.choices(LIVES, LIKELY, k=tale.rng.randint(1, 2)), "forever"]
        self.is_async = tale.rng.random() < 0.5

    @property
    def stopped(self) -> bool:
        return self.stopped_at is not None

    def stop(self) -> None:
        if self.stopped_at is None:
            self.stopped_at = trio.current_time()

    def start(self) -> Any:
        """Return a new worker, or something that is awaited for one."""
        check = self.tale.check
        life = self.lives[min(self.turns, len(self.lives) - 1)]
        self.turns += 1
        self.tale.says(f"{self.name} starts, {life}")
        check(not self.stopped, f"{self.name} was started again after it was stopped")
        check(not self.alive, f"{self.name} was started while its worker lives")
        check(self.runner.names().count(self.name) == 1, f"{self.name} starts without its name")
        check("alive" in repr(self.runner), f"{self.name} starts on a dying runner")
        return self._slowly(life) if self.is_async else self._made(life)

    async def _slowly(self, life: str) -> Part:
        await self.tale.some_time(0.5)
        late = self.stopped_at is not None and trio.current_time() > self.stopped_at
        self.tale.check(not late, f"{self.name} was stopped, and its start went on")
        return self._made(life)

    def _made(self, life: str) -> Part:
        if life == "start fails":
            self.fail(OSError("start"))
        return Part(self, life)

    def fail(self, error: Exception) -> None:
        self.last = error
        raise error


class World:
    """A runner and all who have a hand in it."""

    def __init__(self, tale: Tale) -> None:
        api, rng = tale.api, tale.rng
        self.tale = tale

        def is_fatal(error: Exception) -> bool:
            return isinstance(error, Fatal)

        def should_restart(error: Exception) -> bool:
            return rng.random() < 0.9

        config = api.RunnerConfig(
            is_fatal=is_fatal,
            should_restart=should_restart,
            restart=api.RestartPolicy(error_delay=rng.choice((0.0, 0.5, 1.5)), jitter=0.1),
            stop_timeout=rng.choice((0.0, 0.1, 5.0)),
        )
        self.runner = api.Runner(config, random=rng.random)
        self.all: list[Given] = []
        self.latest: dict[str, Given] = {}
        self.killed = False
        self.result: BaseException | None = None
        self.given: list[BaseException] = []

    async def run(self) -> None:
        try:
            await self.runner.run()
        except Exception as exc:  # noqa: BLE001 - whatever it is
            self.result = exc
        finally:
            alive = [given.name for given in self.all if given.alive]
            self.tale.check(not alive, f"outlive the runner: {alive}")

    def start(self, name: str) -> None:
        given = Given(self.tale, self.runner, name)
        taken = name in self.runner.names()
        dying = "alive" not in repr(self.runner)
        api = self.tale.api
        try:
            self.runner.start_worker(name, given.start)
        except (api.AlreadyExists, api.Dying) as exc:
            right = isinstance(exc, api.Dying) if dying else taken
            self.tale.check(right, f"start_worker({name!r}) raised {exc!r}")
            return
        self.tale.says(f"start_worker {name}")
        self.tale.check(not taken and not dying, f"start_worker({name!r}) should have raised")
        self.all.append(given)
        self.latest[name] = given

    def stop(self, name: str) -> None:
        if name in self.runner.names():
            self.latest[name].stop()
            self.tale.says(f"stop_worker {name}")
        self.runner.stop_worker(name)

    async def stop_and_remove(self, name: str) -> None:
        api, check = self.tale.api, self.tale.check
        known = name in self.runner.names()
        given = self.latest.get(name)
        if known and given is not None:
            given.stop()
            self.tale.says(f"stop_and_remove {name}")
        try:
            await self.runner.stop_and_remove(name)
        except api.NotFound:
            check(not known, f"stop_and_remove({name!r}) did not find it")
            return
        except (OSError, Fatal) as exc:
            check(given is not None and exc is given.last, f"{name} raised {exc!r}, not its last")
        else:
            check(known, f"stop_and_remove({name!r}) found what there is not")
        if given is not None:
            check(not given.alive, f"stop_and_remove({name!r}) returned while it lives")
            again = self.latest[name] is not given  # the name may have been taken again
            there = name in self.runner.names()
            check(again or not there, f"stop_and_remove({name!r}) returned, and it is still there")

    async def ask(self, name: str) -> None:
        api, check = self.tale.api, self.tale.check
        try:
            worker = await self.runner.worker(name)
        except api.NotFound:
            check("alive" in repr(self.runner), f"worker({name!r}): NotFound, not Dying")
        except api.Dying:
            check("alive" not in repr(self.runner), f"worker({name!r}): Dying, and it is not")
        else:
            check(isinstance(worker, Part), f"worker({name!r}) returned {worker!r}")

    def kill(self) -> None:
        self.killed = True
        self.tale.says("kill")
        if self.tale.rng.random() < 0.3 and "alive" in repr(self.runner):
            self.given.append(RuntimeError("killer"))
            self.runner.kill(self.given[-1])
        else:
            self.runner.kill()


async def runner_races(tale: Tale) -> None:
    """Two names, several hands that start and stop them, delays, a kill or a fatal error."""
    world = World(tale)
    rng = tale.rng
    names = ("a", "b") if rng.random() < 0.7 else ("a",)

    async def hand() -> None:
        for _ in range(rng.randint(2, 4)):
            await tale.some_time()
            name = rng.choice(names)
            match rng.choice(("start", "start", "stop", "remove", "remove", "ask")):
                case "start":
                    world.start(name)
                case "stop":
                    world.stop(name)
                case "remove":
                    await world.stop_and_remove(name)
                case _:
                    with trio.move_on_after(rng.choice((0.5, 1000))):
                        await world.ask(name)

    async def killer() -> None:
        await tale.some_time()
        if rng.random() < 0.5:
            world.kill()
        else:
            tale.says("outside")
            outer.cancel()

    for name in names[: rng.randrange(3)]:
        world.start(name)
    with trio.CancelScope() as outer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            if rng.random() < 0.3:
                nursery.start_soon(killer)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as beside:
                    for _ in range(rng.randint(1, 3)):
                        beside.start_soon(hand)
                await trio.sleep(500)
                settled(world)
            world.kill()
    with trio.fail_after(100):
        for name in names:
            await world.stop_and_remove(name)
    counted(world)


def settled(world: World) -> None:
    """Nobody has moved for long: what was not stopped lives, and is the only one that does."""
    runner, tale = world.runner, world.tale
    if "alive" not in repr(runner):
        return
    rows = {row.name: row for row in runner.report().workers}
    for given in world.all:
        row = rows.get(given.name) if world.latest[given.name] is given else None
        if given.stopped or row is None:
            tale.check(not given.alive, f"{given.name} lives, and was stopped or removed")
        else:
            tale.check(row.state == "running", f"{given.name} is {row.state}, after all this time")
            tale.check(len(given.alive) == 1, f"{given.name} does not live, and was not stopped")


def counted(world: World) -> None:
    runner, tale = world.runner, world.tale
    tomb = runner.report().tomb
    tale.check(tomb.state == "dead", f"the runner is {tomb.state} in the end")
    tale.check(not runner.names(), f"the runner still has {runner.names()}")
    fatal = [given.last for given in world.all if isinstance(given.last, Fatal)]
    known = [None, *world.given, *fatal]
    tale.check(any(world.result is error for error in known), f"run() raised {world.result!r}")
    if fatal or world.given:
        tale.check(world.result is not None, "run() did not raise what it died of")


@pytest.mark.full
def test_runner_races(core: Core, scale: int) -> None:
    explore(runner_races, core, COUNT * scale)
