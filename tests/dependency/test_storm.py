"""Storms: random graphs under random faults settle, stop clean, and never break an invariant.

Each start function checks on its own what no schedule may break, and a reader of ``events()``
mirrors all states and checks every single transition. ``TRIOWORKER_STORM_SEEDS=3`` makes fewer of
the big storms, while you work.
"""

import logging
import os
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import AlreadyExists, RestartPolicy
from trioworker.dependency import (
    Bounce,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Missing,
    RetryAfter,
    Transition,
    Uninstall,
)

SEEDS = int(os.environ.get("TRIOWORKER_STORM_SEEDS", "50"))

RUNNING = {"starting", "started", "draining", "stopping"}
UP = {"starting", "started"}

AT_START = ("raise", "group", "hang", "late", "return", "bounce", "retry", "missing", "own group")
WHILE_STARTED = ("raise", "group", "return", "bounce", "retry", "missing", "helper")
WHEN_CANCELLED = ("shield", "error", "bounce when stopped", "missing when stopped")


class Cancelled(Exception):
    """An error while being cancelled."""


def error_of(fault: str) -> Exception:
    match fault:
        case "bounce":
            return Bounce()
        case "retry":
            return RetryAfter(0.2)
        case "missing":
            return Missing()
        case "uninstall":
            return Uninstall()
        case "group" | "own group":
            return ExceptionGroup("storm", [OSError(), ExceptionGroup("inner", [Bounce()])])
        case _:
            return OSError()


class Stormy:
    """One manifold of a storm."""

    def __init__(self, storm: "Storm", name: str, inputs: list[str]) -> None:
        self.storm = storm
        self.name = name
        self.inputs: list[Stormy] = [storm.nodes[i] for i in inputs]
        self.dependents: list[Stormy] = []
        for other in self.inputs:
            other.dependents.append(self)
        self.alive = False
        self.up = False
        self.starts = 0
        self.ends = 0
        self.told: trio.Event | None = None
        self.fault = ""
        self.next_fault = ""

    async def start(self, get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
        self.check_start()
        fault, self.next_fault = self.next_fault, ""
        self.alive = True
        self.starts += 1
        fell = False
        try:
            if fault == "hang":
                fell = True
                await trio.sleep_forever()
            elif fault == "late":
                await trio.sleep(0.3)
            elif fault in AT_START:
                fell = True
                if fault == "return":
                    return
                raise error_of(fault)
            self.told = trio.Event()
            # In this order: from started() on, dependents may start.
            self.up = True
            task_status.started(self.name)
            await self.told.wait()
            fell = True
            if self.fault == "helper":
                get.start_soon(self.fail)
                await trio.sleep_forever()
            elif self.fault != "return":
                raise error_of(self.fault)
        except trio.Cancelled:
            if not fell:
                self.check_planned_end()
            if fault in WHEN_CANCELLED:
                await self.misbehave(fault)
            raise
        finally:
            self.up = False
            self.alive = False
            self.told = None
            self.ends += 1

    async def fail(self) -> None:
        raise OSError

    async def misbehave(self, fault: str) -> None:
        if fault == "shield":
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)
        elif fault == "error":
            raise Cancelled from None
        elif fault == "bounce when stopped":
            raise Bounce from None
        else:
            raise Missing from None

    def check_start(self) -> None:
        if self.alive:
            self.storm.wrong.append(f"{self.name} has two runs")
        for other in self.inputs:
            if not other.up:
                self.storm.wrong.append(f"{self.name} started without {other.name}")

    def check_planned_end(self) -> None:
        for other in self.dependents:
            if other.alive:
                self.storm.wrong.append(f"{self.name} stopped before {other.name}")


class Mirror:
    """Follows the transitions, and checks each of them."""

    def __init__(self, storm: "Storm") -> None:
        self.storm = storm
        self.states: dict[str, str] = {}
        self.starts = 0
        self.ends = 0
        self.transitions = 0

    def follow(self, transition: Transition) -> None:
        wrong = self.storm.wrong
        name, before, after = transition.manifold, transition.before, transition.after
        if self.states.get(name, "waiting") != before:
            wrong.append(f"{transition} does not follow {self.states.get(name)}")
        self.states[name] = str(after)
        self.transitions += 1
        node = self.storm.nodes[name]
        if after in UP:
            for other in node.inputs:
                if self.states.get(other.name) != "started":
                    wrong.append(f"{transition} while {other.name} is {self.states[other.name]}")
        if before == "started":
            for other in node.dependents:
                if self.states.get(other.name) in UP:
                    wrong.append(f"{transition} while {other.name} is {self.states[other.name]}")
        self.starts += before not in RUNNING and after in RUNNING
        self.ends += before in RUNNING and after not in RUNNING


class Storm:
    """A random graph, its engine, and the weather."""

    def __init__(self, seed: int, size: int, faults: int) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.wrong: list[str] = []
        self.nodes: dict[str, Stormy] = {}
        policy = RestartPolicy(error_delay=0.1, factor=1.5, max_delay=1.0, bounce_delay=0.05)
        self.engine = Engine(EngineConfig(restart=policy, history=2), random=self.random.random)
        self.manifolds = {str(i): self.make(i) for i in range(size)}
        self.names = list(self.manifolds)
        self.reinstalled: set[str] = set()  # whose counts began anew

    def make(self, i: int) -> Manifold:
        """Depth grows like a logarithm: each needs some that are about half as old."""
        near = [str(j) for j in range(max(0, i // 2 - 10), min(i, i // 2 + 2))]
        chosen = self.random.sample(near, min(len(near), self.random.choice((1, 1, 2, 2, 4))))
        required, optional, live = list[str](), list[str](), list[str]()
        for name in chosen:
            self.random.choice((required, required, required, optional, live)).append(name)
        node = self.nodes[str(i)] = Stormy(self, str(i), required)
        if self.random.random() < 0.05:
            node.next_fault = self.random.choice(AT_START)
        return Manifold(
            node.start,
            inputs=tuple(required),
            optional=tuple(optional),
            live=tuple(live),
            start_timeout=0.7,
            stop_timeout=None,
            **self.soft(),
        )

    def soft(self) -> dict[str, Any]:
        """A few are asked first; of these a few have no ear, and one or the other an odd one."""
        throw = self.random.random()
        if throw > 0.2:
            return {}
        return {"ask": self.ask if throw > 0.02 else self.odd_ask, "grace": 0.03}

    @staticmethod
    def ask(value: object) -> None:
        """Be asked, and do nothing about it: cancellation follows."""

    @staticmethod
    def odd_ask(value: object) -> None:
        raise OSError("odd")

    async def blow(self) -> None:
        """Ten seconds of it."""
        held: list[str] = []
        gone: list[str] = []
        for _ in range(self.faults):
            await trio.sleep(10 / self.faults)
            # Late ones have fewer dependents, and a storm that always hits the root is none.
            name = self.names[int(len(self.names) * self.random.random() ** 0.5)]
            node = self.nodes[name]
            node.next_fault = self.random.choice((*AT_START, *WHEN_CANCELLED))
            match self.random.randrange(9):
                case 0 if name not in gone:
                    self.engine.restart(name)
                case 1 if name not in gone:
                    self.engine.hold(name)
                    held.append(name)
                case 2 if held and held[0] not in gone:
                    self.engine.release(held.pop(0))
                case 3 if name not in gone:
                    self.engine.uninstall(name)
                    gone.append(name)
                    self.reinstalled.add(name)
                case 4 if gone:
                    with suppress(AlreadyExists):  # its run has not ended yet
                        self.engine.install(gone[0], self.manifolds[gone[0]])
                        del gone[0]
                case _ if name in gone:
                    pass
                case _ if node.told is not None:
                    node.fault = self.random.choice(WHILE_STARTED)
                    node.told.set()
                case _:  # done, or missing something: a storm needs somebody to hit
                    self.engine.restart(name)
        for name in gone:
            await self.engine.wait_state(name, "absent")
            self.engine.install(name, self.manifolds[name])
        for name in held:
            self.engine.release(name)

    def calm(self) -> None:
        for node in self.nodes.values():
            node.next_fault = ""

    async def watch(self, mirror: Mirror) -> None:
        with self.engine.events(capacity=10_000_000) as events:
            async for transition in events:
                mirror.follow(transition)
            assert events.dropped == 0

    async def run(self) -> Mirror:
        """Blow, settle, stop; return what was seen."""
        mirror = Mirror(self)
        self.engine.install_all(self.manifolds)
        mirror.states = dict.fromkeys(self.names, "waiting")
        with trio.fail_after(1000):
            await self._run(mirror)
        return mirror

    async def _run(self, mirror: Mirror) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.watch, mirror)
            await wait_all_tasks_blocked()
            nursery.start_soon(self.engine.run)
            await self.blow()
            self.calm()
            await self.engine.wait_settled()
            self.check_settled()
            self.engine.kill()

    def check_settled(self) -> None:
        """All are up but those that said that they are done or miss something, and theirs."""
        report = self.engine.report().manifolds
        for name, m in report.items():
            if m.state == "waiting":
                assert m.waiting_for or (m.why or "").startswith("Missing"), name
            else:
                assert m.state in {"started", "done"}, (name, m.state)
            if m.state == "started":
                assert all(report[other].state == "started" for other in m.inputs)
                assert self.nodes[name].up

    def check_end(self, mirror: Mirror) -> None:
        assert self.wrong == []
        assert self.engine.state == "dead"
        assert mirror.starts == mirror.ends
        report = self.engine.report().manifolds
        assert {n for n, state in mirror.states.items() if state == "stopped"} == set(report)
        assert {n for n, state in mirror.states.items() if state != "stopped"} <= self.reinstalled
        for name, m in report.items():
            node = self.nodes[name]
            assert not node.alive
            assert node.starts == node.ends
            assert m.starts == m.ends
            if name not in self.reinstalled:
                # What was stopped before its first step never came as far as the start function.
                assert node.starts <= m.starts


@pytest.fixture(autouse=True)
def quiet_log() -> Any:
    """Ten thousand errors with tracebacks are the most expensive part of a storm."""
    logger = logging.getLogger("trioworker.engine")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize("seed", range(20))
async def test_storm_of_100_manifolds_settles_and_stops_clean(
    seed: int, autojump_clock: MockClock
) -> None:
    storm = Storm(seed, 100, 300)

    mirror = await storm.run()

    storm.check_end(mirror)
    assert mirror.starts > 200


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1000 + SEEDS))
async def test_storm_of_1000_manifolds_settles_and_stops_clean(
    seed: int, autojump_clock: MockClock
) -> None:
    storm = Storm(seed, 1000, 1500)

    mirror = await storm.run()

    storm.check_end(mirror)
    assert mirror.starts > 2000


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("how", ["kill", "kill hard", "cancel", "fatal"])
async def test_storm_that_is_stopped_in_its_middle_stops_clean(
    how: str, seed: int, autojump_clock: MockClock
) -> None:
    storm = Storm(seed, 60, 300)
    mirror = Mirror(storm)
    mirror.states = dict.fromkeys(storm.names, "waiting")
    storm.engine.install_all(storm.manifolds)
    caught: list[BaseException] = []

    async def run(scope: trio.CancelScope) -> None:
        try:
            with scope:
                await storm.engine.run()
        except OSError as exc:
            caught.append(exc)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storm.watch, mirror)
        await wait_all_tasks_blocked()
        nursery.start_soon(run, scope)
        with trio.move_on_after(2 + 6 * storm.random.random()):
            await storm.blow()
        if how == "cancel":
            scope.cancel()
        else:
            reason = OSError("fatal") if how == "fatal" else None
            storm.engine.kill(reason, grace=0 if how == "kill hard" else None)

    storm.check_end(mirror)
    assert len(caught) == (how == "fatal")
    assert scope.cancelled_caught == (how == "cancel")
