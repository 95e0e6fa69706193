"""Two real dependency graphs, run by the engine: do its promises hold on what people really build?

Up: each manifold is started exactly once, whatever the order in which they were installed. Bounced,
one root after the other: it and everybody who depends on it, directly or not, is started exactly
once more, and nobody else. Down: nobody ends before those who depend on it.

What the engine should do is worked out here from the graph alone.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from importlib import resources
from typing import TYPE_CHECKING, Any, final

import trio

from trioworker import Engine, Getter, Manifold, open_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRAPHS = ("juju-model-iaas-agent", "juju-model-caas-agent")
TIME_LIMIT = 15.0
"""Seconds that one graph may take."""

Graph = dict[str, list[str]]


class GraphFailed(Exception):
    """The engine did not do what the graph says; the message names the manifold."""


def graph_of(name: str) -> Graph:
    """Return one of `GRAPHS`: name to all dependencies."""
    text = (
        resources.files("trioworker._demo")
        .joinpath(f"graphs/{name}.json")
        .read_text(encoding="utf-8")
    )
    graph: Any = json.loads(text)
    return dict(graph)


def dependents(graph: Mapping[str, Iterable[str]], name: str) -> set[str]:
    """Return all that depend on `name`, directly or not."""
    found = {name}
    size = 0
    while size < len(found):
        size = len(found)
        found |= {other for other, inputs in graph.items() if not found.isdisjoint(inputs)}
    return found - {name}


@final
class Trial:
    """One graph, run once.

    Attributes:
        bounced: for each root, how many starts its bounce has led to, its own included.
    """

    def __init__(self, name: str, graph: Mapping[str, list[str]], seed: int) -> None:
        self._name = name
        self._graph = graph
        self._order = sorted(graph)
        random.Random(seed).shuffle(self._order)
        self._engine = Engine()
        self._starts: Counter[str] = Counter()
        self._ends: list[str] = []
        self.bounced: dict[str, int] = {}

    async def run(self) -> str:
        """Run it, and return what was seen, in a line.

        Raises:
            GraphFailed: it was not as it should have been.
        """
        with trio.move_on_after(TIME_LIMIT) as limit:
            async with open_worker(self._engine):
                await self._come_up()
                for root in (name for name, inputs in self._graph.items() if not inputs):
                    self.bounced[root] = await self._bounce(root)
                await self._go_down()
        if limit.cancelled_caught:
            raise GraphFailed(f"{self._name}: not done after {TIME_LIMIT:g} s")
        return (
            f"{len(self._graph)} manifolds, one start each; {len(self.bounced)} roots bounced, "
            "exactly their dependents restarted; down in order"
        )

    async def _come_up(self) -> None:
        for name in self._order:
            self._engine.install(name, self._manifold(name))
        await self._engine.wait_settled()
        self._expect(Counter(self._graph.keys()), "coming up")

    async def _bounce(self, root: str) -> int:
        self._starts.clear()
        self._engine.restart(root)
        await self._engine.wait_settled()
        expected = dependents(self._graph, root) | {root}
        self._expect(Counter(expected), f"bouncing {root}")
        return self._starts.total()

    async def _go_down(self) -> None:
        self._ends.clear()
        self._engine.kill()
        await self._engine.wait()
        ended = {name: place for place, name in enumerate(self._ends)}
        for name, inputs in self._graph.items():
            if (count := self._ends.count(name)) != 1:
                raise GraphFailed(f"{self._name}: {name} ended {count} times going down")
            for other in inputs:
                if ended[other] < ended[name]:
                    raise GraphFailed(f"{self._name}: {other} ended before {name}, which needs it")

    def _expect(self, expected: Counter[str], when: str) -> None:
        for name in self._graph:
            if self._starts[name] != expected[name]:
                raise GraphFailed(
                    f"{self._name}, {when}: {name} was started {self._starts[name]} times, "
                    f"not {expected[name]}"
                )
            if (state := self._engine.report().manifolds[name].state) != "started":
                raise GraphFailed(f"{self._name}, {when}: {name} is {state}")

    def _manifold(self, name: str) -> Manifold:
        inputs = self._graph[name]

        async def start(get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
            self._starts[name] += 1
            for other in inputs:
                if get(other, str) != other:
                    raise GraphFailed(f"{self._name}: {name} was given the wrong {other}")
            task_status.started(name)
            try:
                await trio.sleep_forever()
            finally:
                self._ends.append(name)

        return Manifold(start, inputs=inputs)
