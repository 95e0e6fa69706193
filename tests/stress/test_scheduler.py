"""The scheduler is Trio's own hook, and what it did once it does again; the points are legal ones.

If the first of these tests fails after an upgrade of Trio, read what it says: no schedule can be
reproduced until `scheduler.py` knows the new hook.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio._core import _run

from . import (
    explore as exploring,
    test_schedules_catacomb as catacomb,
    test_schedules_engine as engine,
    test_schedules_runner as runner,
    test_schedules_stops as stops,
)
from .explore import BrokenPromise, Tale, explore, tell
from .perturb import Core
from .scheduler import (
    STRATEGIES,
    EndlessError,
    HookMovedError,
    check_hook,
    discard,
    scheduled,
)

STORIES = (
    catacomb.catacomb_races,
    runner.runner_races,
    engine.engine_storms,
    stops.tomb_stops,
    stops.catacomb_stops,
    stops.engine_stops,
)
ROOT = Path(__file__).parents[2]


def order(seed: int, strategy: str, *, tasks: int = 5, turns: int = 4) -> list[str]:
    """Return who makes a step, in the order of the steps."""
    steps: list[str] = []

    async def walk(name: str) -> None:
        for _ in range(turns):
            steps.append(name)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(walk, str(number))

    with scheduled(seed, strategy):
        trio.run(main)
    return steps


# -- the hook ------------------------------------------------------------------------------------


def test_trio_still_lets_us_choose_the_order_of_a_batch() -> None:
    check_hook()
    moved = (
        f"Trio {trio.__version__} has the names of the hook and does not use it as 0.31 to 0.35 "
        "do: look how its run loop orders a batch, and change tests/stress/scheduler.py"
    )
    assert order(0, "oldest", turns=1) == list("01234"), moved
    assert order(0, "youngest", turns=1) == list("43210"), moved
    alone = {tuple(order(seed, "alone", tasks=2)) for seed in range(50)}
    assert ("0", "0", "0", "0", "1", "1", "1", "1") in alone, moved


@pytest.mark.parametrize("name", ["_r", "_ALLOW_DETERMINISTIC_SCHEDULING", "GLOBAL_RUN_CONTEXT"])
def test_a_trio_without_the_hook_is_refused_by_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(_run, name)
    with pytest.raises(
        HookMovedError, match=rf"Trio {trio.__version__} has no .*\.{name} .*change"
    ):
        check_hook()


def test_after_the_block_trio_is_as_it_was() -> None:
    hook: Any = _run
    before = hook._r, hook._ALLOW_DETERMINISTIC_SCHEDULING
    with pytest.raises(ValueError, match="left"), scheduled(1):
        assert hook._r is not before[0]
        raise ValueError("left by an error")
    assert (hook._r, hook._ALLOW_DETERMINISTIC_SCHEDULING) == before


# -- the strategies ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whatever_the_strategy_every_task_makes_all_its_steps(strategy: str) -> None:
    for seed in range(30):
        assert sorted(order(seed, strategy)) == sorted("01234" * 4)


@pytest.mark.parametrize("strategy", ["shuffle", "starve", "favour", "alone", "ranked"])
def test_a_strategy_has_many_orders_and_a_seed_has_one(strategy: str) -> None:
    orders = [order(seed, strategy) for seed in range(30)]
    assert len(set(map(tuple, orders))) > 15
    assert orders == [order(seed, strategy) for seed in range(30)]


def test_seeds_draw_all_strategies() -> None:
    drawn = set[str]()
    for seed in range(100):
        with scheduled(seed) as scheduler:
            drawn.add(scheduler.strategy)
    assert drawn == set(STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_waits_in_a_loop_for_another_gets_on(strategy: str) -> None:
    """Held back for good, the other would never come."""

    async def main() -> None:
        done = False

        async def other() -> None:
            nonlocal done
            await trio.lowlevel.checkpoint()
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            while not done:
                await trio.lowlevel.checkpoint()

    for seed in range(10):
        with scheduled(seed, strategy):
            trio.run(main)


def test_a_run_that_never_ends_is_found_out() -> None:
    async def main() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(trio.TrioInternalError) as caught, scheduled(0):
        trio.run(main)
    assert isinstance(caught.value.__cause__, EndlessError)
    del caught
    discard()


# -- replay --------------------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_seed_tells_the_same_story_step_by_step(core: Core, story: exploring.Story) -> None:
    with exploring.quiet():
        for seed in range(40):
            first, again = tell(story, core, seed), tell(story, core, seed)
            assert first.steps == again.steps
            assert first.lines == again.lines
            assert first.digest == again.digest


def test_a_seed_tells_the_same_story_in_another_process() -> None:
    """Where objects have other addresses, and strings other hashes."""
    program = (
        "from tests.stress.explore import tell, quiet\n"
        "from tests.stress.perturb import perturbed\n"
        "from tests.stress.test_scheduler import STORIES\n"
        "with perturbed() as core, quiet():\n"
        "    print([tell(s, core, n).digest.hex() for s in STORIES for n in range(25)])\n"
    )
    told = set[str]()
    for number in "12":
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(done.stdout)
    assert len(told) == 1


async def careless(tale: Tale) -> None:
    """Looks, waits, and takes: the two of them sometimes take the same."""
    left = 1

    async def taker() -> None:
        nonlocal left
        if left:
            await trio.lowlevel.checkpoint()
            left -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(taker)
    tale.says(f"{left} left")
    tale.check(left >= 0, "taken twice")


def test_a_broken_promise_names_its_seed_and_the_seed_alone_breaks_it_again(
    core: Core, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BrokenPromise, match="taken twice") as caught:
        explore(careless, core, 1000)
    text = str(caught.value)
    seed = text.partition(exploring.VARIABLE + "=")[2].split(maxsplit=1)[0]
    assert f"{exploring.VARIABLE}={seed} pytest -s tests/stress -k careless" in text
    monkeypatch.setenv(exploring.VARIABLE, seed)
    with pytest.raises(BrokenPromise) as again:
        explore(careless, core, 1000)
    assert str(again.value) == text
    assert "careless.<locals>.taker" in capsys.readouterr().out


def test_going_in_circles_is_no_exploration(core: Core) -> None:
    async def lonely(tale: Tale) -> None:
        await trio.lowlevel.checkpoint()

    with pytest.raises(BrokenPromise, match="too few distinct schedules"):
        explore(lonely, core, 50)
