"""What the machines of this folder share: joined steps, waiters, and how they are run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from .driver import Driver, Spawned, Stuck
from .scripts import History

CALM = 100
"""Seconds after which nothing happens any more by itself."""


class Machine(RuleBasedStateMachine):
    """A state machine over a `Driver`.

    A rule says what it wants done with `act`. If it is *joined*, it is done together with what the
    next rule wants: between the two, no task has a turn. All checks come after that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.history = History()
        self._acts: list[Callable[[], object]] = []
        # False while a step is on its way, and for ever after it has failed.
        self._sound = True
        # Cancellation can be had from nobody but Trio.
        victim = self.driver.spawn(trio.sleep_forever)
        victim.cancel()
        assert isinstance(victim.error, trio.Cancelled)
        self.a_cancelled = victim.error

    def act(self, fn: Callable[[], object], *, joined: bool) -> None:
        self._acts.append(fn)
        if not joined:
            self.flush()

    def flush(self) -> None:
        acts, self._acts = self._acts, []
        self._step(lambda: self.driver.do(lambda: [act() for act in acts]))

    def spawn_soon(
        self, async_fn: Callable[..., Awaitable[Any]], *args: Any, name: str
    ) -> Spawned[Any]:
        return self.driver.spawn_soon(async_fn, *args, name=name)

    def jump(self, seconds: float, *, unnoticed: bool = False) -> None:
        self.flush()
        jump = self.driver.jump_at_once if unnoticed else self.driver.jump
        self._step(lambda: jump(seconds))

    def _step(self, step: Callable[[], object]) -> None:
        self._sound = False
        step()
        self.observe()
        self._sound = True

    def observe(self) -> None:
        """Read the news and compare. All tasks are blocked."""
        raise NotImplementedError

    def finish(self) -> None:
        """Bring everything to an end, and see that it is one."""
        raise NotImplementedError

    def teardown(self) -> None:
        try:
            if self._sound:
                self.flush()
                self.finish()
        finally:
            if self._sound:
                self.driver.close()
            else:
                self._abandon()

    def _abandon(self) -> None:
        """End what a failure has left behind: that is no other failure."""
        with suppress(Stuck):
            for script in self.history.scripts:
                self.driver.do(script.release)
            self.driver.close()


def explore(machine: type[Machine], examples: int, steps: int) -> None:
    """Run `machine`."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )


def check(condition: object, *story: object) -> None:
    """Fail with a story unless `condition` holds."""
    if not condition:
        pytest.fail("; ".join(map(str, story)))
