"""Two real graphs: how often each manifold is started, and in which order it ends."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker import Engine
from trioworker._demo.graphs import GRAPHS, GraphFailed, Trial, dependents, graph_of


def test_the_graphs_are_complete() -> None:
    assert {name: len(graph_of(name)) for name in GRAPHS} == {
        "juju-model-iaas-agent": 32,
        "juju-model-caas-agent": 29,
    }
    for name in GRAPHS:
        graph = graph_of(name)
        assert {other for inputs in graph.values() for other in inputs} <= set(graph)


def test_dependents_are_transitive() -> None:
    graph = {"a": [], "b": ["a"], "c": ["b"], "d": [], "e": ["d", "c"]}

    assert dependents(graph, "a") == {"b", "c", "e"}
    assert dependents(graph, "d") == {"e"}
    assert dependents(graph, "e") == set()


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("seed", range(5))
async def test_E2_E4_E5_each_start_and_each_end_is_as_the_graph_says(name: str, seed: int) -> None:
    graph = graph_of(name)
    roots = [other for other, inputs in graph.items() if not inputs]

    trial = Trial(name, graph, seed)
    told = await trial.run()

    assert told == (
        f"{len(graph)} manifolds, one start each; "
        f"{len(roots)} roots bounced, exactly their dependents restarted; down in order"
    )
    assert trial.bounced == {root: 1 + len(dependents(graph, root)) for root in roots}


async def test_a_start_too_many_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    restart = Engine.restart

    def restart_and_more(self: Engine, name: str) -> None:
        restart(self, name)
        restart(self, "b")

    monkeypatch.setattr(Engine, "restart", restart_and_more)

    with pytest.raises(GraphFailed, match="a graph, bouncing a: b was started 1 times, not 0"):
        await Trial("a graph", {"a": [], "b": []}, 1).run()
