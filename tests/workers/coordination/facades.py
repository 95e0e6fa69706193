"""Who knows lives and migrations, played by a script; also as manifolds for an agent file."""

import signal
from typing import Protocol, final, runtime_checkable

import trio

from tests.patterns.values import Script
from trioworker import Getter, Manifold, Watcher
from trioworker.workers.coordination.lifeflag import Life, Lives
from trioworker.workers.coordination.migrationflag import Migrations, Phase
from trioworker.workers.coordination.reboot import Action, Reboots
from trioworker.workers.coordination.retrystrategy import Policies, Policy
from trioworker.workers.coordination.simplesignalhandler import Signals


@final
class FakeLives:
    """The lives that `script` has; it is only asked about `entity`."""

    def __init__(self, script: Script[Life], entity: str = "machine-3") -> None:
        self.script = script
        self.entity = entity

    async def life(self, entity: str) -> Life:
        assert entity == self.entity
        return await self.script.read()

    async def watch_life(self, entity: str) -> Watcher[object]:
        assert entity == self.entity
        return await self.script.watch()


@final
class FakeMigrations:
    """The phases that `script` has; it is only asked about `model`."""

    MODEL = "deadbeef-1bad-500d-9000-4b1d0d06f00d"

    def __init__(self, script: Script[Phase]) -> None:
        self.script = script

    async def phase(self, model: str) -> Phase:
        assert model == self.MODEL
        return await self.script.read()

    async def watch_phase(self, model: str) -> Watcher[object]:
        assert model == self.MODEL
        return await self.script.watch()


@final
class FakePolicies:
    """The policies that `script` has; it is only asked about `entity`."""

    ENTITY = "unit-mysql-0"

    def __init__(self, script: Script[Policy]) -> None:
        self.script = script

    async def retry_policy(self, entity: str) -> Policy:
        assert entity == self.ENTITY
        return await self.script.read()

    async def watch_retry_policy(self, entity: str) -> Watcher[object]:
        assert entity == self.ENTITY
        return await self.script.watch()


def offering(face: type, value: object) -> Manifold:
    """Return a manifold that offers `value` as `face`."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(value)
        await trio.sleep_forever()

    return Manifold(start, outputs={face: _itself})


def lives() -> Manifold:
    """For an agent file: alive at first, and dead when its script tells of a change."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(FakeLives(Script(Life.ALIVE, Life.ALIVE, Life.DEAD)))
        await trio.sleep_forever()

    return Manifold(start, outputs={Lives: _itself, Script: _script})


def migrations() -> Manifold:
    """For an agent file: none at first, and quiescing when its script tells of a change."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(FakeMigrations(Script(Phase.NONE, Phase.NONE, Phase.QUIESCE)))
        await trio.sleep_forever()

    return Manifold(start, outputs={Migrations: _itself, Script: _script})


def policies() -> Manifold:
    """For an agent file: one policy at first, and another when its script tells of a change."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(FakePolicies(Script(Policy(), Policy(), Policy(factor=3))))
        await trio.sleep_forever()

    return Manifold(start, outputs={Policies: _itself, Script: _script})


@final
class FakeReboots:
    """The actions that `script` has; it is only asked about `machine`."""

    MACHINE = "3"

    def __init__(self, script: Script[Action]) -> None:
        self.script = script

    async def reboot_action(self, machine: str) -> Action:
        assert machine == self.MACHINE
        return await self.script.read()

    async def watch_reboot_action(self, machine: str) -> Watcher[object]:
        assert machine == self.MACHINE
        return await self.script.watch()


def reboots() -> Manifold:
    """For an agent file: nothing at first, and a reboot when its script tells of a change."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(FakeReboots(Script(Action.NOTHING, Action.REBOOT)))
        await trio.sleep_forever()

    return Manifold(start, outputs={Reboots: _itself, Script: _script})


@runtime_checkable
class Telling(Protocol):
    """Who pretends that signals come."""

    def tell(self, number: signal.Signals) -> None: ...


@final
class FakeSignals:
    """Signals that the test sends, to nobody else in the process."""

    def __init__(self) -> None:
        self.send, self.channel = trio.open_memory_channel[signal.Signals](10)

    def tell(self, number: signal.Signals) -> None:
        self.send.send_nowait(number)


def signals() -> Manifold:
    """For an agent file: signals that a test sends."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(FakeSignals())
        await trio.sleep_forever()

    return Manifold(start, outputs={Signals: _same, Telling: _same})


def _itself(facade: object) -> object:
    return facade


def _same(signals: FakeSignals) -> FakeSignals:
    return signals


def _script(facade: FakeLives | FakeMigrations | FakePolicies | FakeReboots) -> object:
    return facade.script
