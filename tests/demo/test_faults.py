"""The switch, and chaos that sets it. On Trio's mock clock: nothing here waits."""

import sys

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker import Engine, EngineConfig, Getter, Manifold, RestartPolicy
from trioworker._demo.chaos import VICTIMS, Config, manifold
from trioworker._demo.faults import Fault, InjectedFault, Switch, breakable
from trioworker.dependency import ManifoldReport
from trioworker.testing import open_engine

POLICY = RestartPolicy(error_delay=1.0, jitter=0.0)


async def sleeper(_get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


class Victim:
    """A manifold that sleeps, in an engine, and the switch that breaks it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._switches: list[Switch] = []
        engine.install("victim", breakable(Manifold(sleeper, start_timeout=0.5)))

        async def look(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
            self._switches.append(get("victim", Switch))
            task_status.started()
            await trio.sleep_forever()

        engine.install("looker", Manifold(look, inputs=("victim",)))

    @property
    def switch(self) -> Switch:
        return self._switches[-1]

    def report(self) -> ManifoldReport:
        return self._engine.report().manifolds["victim"]


@pytest.fixture
def config() -> EngineConfig:
    return EngineConfig(restart=POLICY)


async def test_raise_ends_the_run_with_an_injected_fault(
    autojump_clock: MockClock, config: EngineConfig
) -> None:
    async with open_engine(config=config) as engine:
        victim = Victim(engine)
        await engine.wait_state("looker", "started")
        victim.switch.set(Fault.RAISE)
        await engine.wait_state("victim", "delayed")

        assert victim.report().why == "InjectedFault: raised"

        await engine.wait_settled()

        assert victim.report().starts == 2
        assert victim.switch.fired == {Fault.RAISE: 1}


async def test_group_ends_the_run_with_two_errors(
    autojump_clock: MockClock, config: EngineConfig
) -> None:
    async with open_engine(config=config) as engine:
        victim = Victim(engine)
        await engine.wait_state("looker", "started")
        victim.switch.set(Fault.GROUP)
        await engine.wait_state("victim", "delayed")

        [end] = victim.report().history
        assert end.error == "InjectedFault: raised first; InjectedFault: raised second"


async def test_hang_lets_the_next_start_time_out_and_is_told_from_a_slow_machine(
    autojump_clock: MockClock, config: EngineConfig
) -> None:
    async with open_engine(config=config) as engine:
        victim = Victim(engine)
        await engine.wait_state("looker", "started")
        victim.switch.set(Fault.HANG)
        await wait_all_tasks_blocked()

        assert victim.report().state == "started"  # only its next start hangs

        began = trio.current_time()
        engine.restart("victim")
        await engine.wait_state("victim", "delayed")

        assert trio.current_time() - began == 0.5
        assert victim.report().why == "InjectedFault: hung at its start"

        await engine.wait_settled()

        assert victim.report().starts == 3


async def test_slow_shields_the_next_stop_for_as_long_as_it_says(
    autojump_clock: MockClock, config: EngineConfig
) -> None:
    async with open_engine(config=config) as engine:
        victim = Victim(engine)
        await engine.wait_state("looker", "started")
        victim.switch.set(Fault.SLOW, 0.4)
        began = trio.current_time()
        engine.restart("victim")
        await engine.wait_settled()

        assert trio.current_time() - began == 0.4
        assert victim.report().starts == 2


async def test_a_cleared_switch_does_nothing(
    autojump_clock: MockClock, config: EngineConfig
) -> None:
    async with open_engine(config=config) as engine:
        victim = Victim(engine)
        await engine.wait_state("looker", "started")
        for fault in Fault:
            victim.switch.set(fault, 0.4)
            victim.switch.clear()
        engine.restart("victim")
        await engine.wait_settled()

        assert victim.report().starts == 2
        assert not victim.switch.fired


async def strikes(seed: int) -> list[tuple[str, Fault | None]]:
    """What chaos sets within 6 s, on victims that never carry it out."""
    switches = {name: Switch() for name in VICTIMS}
    engine = Engine()

    def still(switch: Switch) -> Manifold:
        def hand_out(_: object) -> Switch:
            return switch

        return Manifold(sleeper, outputs={Switch: hand_out})

    for name, switch in switches.items():
        engine.install(name, still(switch))
    found: list[tuple[str, Fault | None]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        engine.install("chaos", manifold(Config(seed=seed, every=0.3)))
        await trio.sleep(0.15)
        for _ in range(20):
            await trio.sleep(0.3)
            found += [(name, switch.fault) for name, switch in switches.items() if switch.fault]
            for switch in switches.values():
                switch.clear()
        await trio.sleep(0.3)
        assert any(switch.fault for switch in switches.values())
        engine.uninstall("chaos")
        await wait_all_tasks_blocked()
        assert not any(switch.fault for switch in switches.values())  # it takes back what it set
        engine.kill()
    return found


async def test_the_seed_alone_decides_what_chaos_does(autojump_clock: MockClock) -> None:
    first = await strikes(1)

    assert len(first) == 20
    assert {fault for _, fault in first} == set(Fault)
    assert first == await strikes(1) != await strikes(2)


def test_an_injected_fault_is_an_error_like_any_other() -> None:
    assert issubclass(InjectedFault, Exception)
