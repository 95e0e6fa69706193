"""The schedules would notice: faults that only some orders show, each planted and found.

Each is a line of the package, edited in the second copy alone, that is wrong only if somebody else
runs at the wrong moment. It must be found within the schedules that are explored anyway. If a line
has changed, `perturbed` says so; then plant the fault in the new one.
"""

from __future__ import annotations

import pytest

from . import (
    test_schedules_catacomb as catacomb,
    test_schedules_engine as engine,
    test_schedules_runner as runner,
    test_schedules_stops as stops,
)
from .explore import Story, first_broken
from .perturb import perturbed

CATACOMB = (catacomb.catacomb_races, catacomb.COUNT)
RUNNER = (runner.runner_races, runner.COUNT)
STORMS = (engine.engine_storms, engine.COUNT)
TOMB_STOPS = (stops.tomb_stops, stops.COUNT)
CATACOMB_STOPS = (stops.catacomb_stops, stops.COUNT)
ENGINE_STOPS = (stops.engine_stops, stops.ENGINES)

MACHINE = "dependency/_machine.py"
SEQUEL = "dependency/_sequel.py"

FAULTS: dict[str, tuple[str, str, str, tuple[Story, int]]] = {
    "a child that comes between the last end and the end of the block is lost": (
        "_catacomb.py",
        "            if not self._children:\n                break\n",
        "            break\n",
        CATACOMB,
    ),
    "a child is spawned in a nursery that has closed": (
        "_catacomb.py",
        "if not self._left or self._nursery.child_tasks:",
        "if True:",
        CATACOMB,
    ),
    "a child that waited for a new nursery runs twice": (
        "_catacomb.py",
        (
            "        if not self._left or self._nursery.child_tasks:\n"
            "            self._nursery.start_soon(self._run_child, child, name=name_of(worker))\n"
        ),
        (
            "        if not self._left or self._nursery.child_tasks:\n"
            "            self._nursery.start_soon(self._run_child, child, name=name_of(worker))\n"
            "        if self._left and not self._tomb._scope.cancel_called:\n"
            "            self._nursery.start_soon(self._run_child, child, name=name_of(worker))\n"
        ),
        CATACOMB,
    ),
    "kill() asks nobody who has come after it": (
        "_catacomb.py",
        "        if self._tomb.is_dying:\n            self._ask(child)\n",
        "        if self._tomb.is_dying and not self._asked:\n            self._ask(child)\n",
        CATACOMB,
    ),
    "a dying catacomb asks its children only when the body has left": (
        "_catacomb.py",
        "        if not self._asked:\n            self._asked = True",
        "        if not self._asked and self._left:\n            self._asked = True",
        CATACOMB_STOPS,
    ),
    "start() looks whether it is dying before it waits, not after": (
        "_catacomb.py",
        "        await child.status.wait()\n        if child.status.is_set:",
        (
            "        dying = self.is_dying\n        await child.status.wait()\n"
            "        if dying: raise self._tomb.refusal()\n        if child.status.is_set:"
        ),
        CATACOMB,
    ),
    "a later kill lengthens the grace": (
        "_tomb.py",
        "deadline = min(scope.deadline, trio.current_time() + grace)",
        "deadline = trio.current_time() + grace",
        TOMB_STOPS,
    ),
    "a call that is in flight is not told of the grace": (
        "_tomb.py",
        "                guard.deadline = deadline\n",
        "                pass\n",
        TOMB_STOPS,
    ),
    "a life killed before it begins gets its grace": (
        "_tomb.py",
        "            self._cancel_after(scope, 0)\n",
        "            self._cancel_after(scope, self._grace)\n",
        TOMB_STOPS,
    ),
    "an interrupt after a reason is only one more error": (
        "_tomb.py",
        "        if supersede or harder:",
        "        if supersede:",
        TOMB_STOPS,
    ),
    "a stop during a delay is forgotten": (
        "_named.py",
        (
            "        while not self.is_stopping:\n            delay = await self._round()\n"
            "            if delay is None or self.is_stopping:\n                return\n"
            "            self.become(WorkerState.DELAYED)"
        ),
        (
            "        while True:\n            delay = await self._round()\n"
            "            if delay is None:\n                return\n"
            "            if not self.is_stopping: self.become(WorkerState.DELAYED)\n"
            "            else: self.state = WorkerState.DELAYED"
        ),
        RUNNER,
    ),
    "a worker that comes out of its start after a stop is not asked": (
        "_named.py",
        "            if self.is_stopping:\n                self._ask(worker)\n",
        "",
        RUNNER,
    ),
    "a start is not cancelled by a stop": (
        "_named.py",
        "            self._tomb.kill(grace=0)\n        else:",
        "            self._tomb.kill()\n        else:",
        RUNNER,
    ),
    "worker() does not look again whether the runner has died": (
        "_runner.py",
        "        while True:\n            self._check_alive()\n",
        "        while True:\n",
        RUNNER,
    ),
    "a name is free before its worker has ended": (
        "_runner.py",
        "        elif not named.is_stopping:\n            named.kill()\n",
        (
            "        elif not named.is_stopping:\n            named.kill()\n"
            "            del self._named[named.name]\n            self._remove = lambda named: "
            "(self._named.pop(named.name, None), named.become(WorkerState.GONE))\n"
        ),
        RUNNER,
    ),
    "an input is stopped while a run that began before it was ready uses it": (
        MACHINE,
        "        if node.state is State.DRAINING and not node.users:",
        "        if node.state is State.DRAINING:",
        STORMS,
    ),
    "an end releases the inputs of a run whose users still live": (
        MACHINE,
        "        if run.node.users:\n            run.node.owed",
        "        if False:\n            run.node.owed",
        STORMS,
    ),
    "a crash does not stop the users before its output is gone": (
        MACHINE,
        "            self._stop_users(run.node)\n            self._move(run.node, Event.FALL)",
        "            self._move(run.node, Event.FALL)",
        STORMS,
    ),
    "an optional input that comes while we start does not restart us": (
        MACHINE,
        "            if run is not None and dependent.state in _UP and node not in run.uses:",
        (
            "            if run is not None and dependent.state is State.STARTED "
            "and node not in run.uses:"
        ),
        STORMS,
    ),
    "a wake-up between a run's begin and its end is lost": (
        SEQUEL,
        "(Event.AGAIN if node.changed else Event.RETURN)",
        "Event.RETURN",
        STORMS,
    ),
    "a hold while it is delayed leaves the delay": (
        MACHINE,
        (
            '        """Give a node without a run the state that it is intended to rest in."""\n'
            "        self._cancel_delay(node)\n"
        ),
        "        pass\n",
        STORMS,
    ),
    "a kill with less grace forgets the soft phases under way": (
        MACHINE,
        (
            "        for node in self.registry.all_installed():\n            run = node.run\n"
            "            if run is None or run.is_over or not run.soft:"
        ),
        (
            "        for node in self.registry.all_installed():\n            run = None\n"
            "            if run is None or run.is_over or not run.soft:"
        ),
        ENGINE_STOPS,
    ),
    "a cancellation from outside is a soft stop": (
        "dependency/_engine.py",
        "                self._machine.harden(0.0)\n",
        "",
        ENGINE_STOPS,
    ),
    "a run cancelled before its first step begins all the same": (
        "dependency/_engine.py",
        "            if not run.cancelled:\n                with",
        "            if True:\n                with",
        ENGINE_STOPS,
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    file, old, new, (story, count) = FAULTS[fault]
    with perturbed({file: (old, new)}) as core:
        told = first_broken(story, core, count)
    assert told is not None, f"{story.__name__} has not noticed within {count} schedules"
    print(f"schedule {told.seed} ({told.strategy}): {told.broken[0]}")  # noqa: T201 - shown by -s
