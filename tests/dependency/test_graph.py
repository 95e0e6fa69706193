"""Cycles, reach and order, against naive answers and on graphs too deep for recursion."""

import itertools

from hypothesis import given, strategies as st

from trioworker.dependency._graph import find_cycle, reached

Graph = dict[int, list[int]]

graphs = st.integers(0, 8).flatmap(
    lambda n: st.fixed_dictionaries(
        {i: st.lists(st.integers(0, max(n - 1, 0)), max_size=4) for i in range(n)}
    )
)
dags = st.integers(0, 10).flatmap(
    lambda n: st.fixed_dictionaries(
        {i: st.lists(st.integers(0, i - 1), max_size=4) if i else st.just([]) for i in range(n)}
    )
)


def walks(graph: Graph) -> dict[int, set[int]]:
    """Return what each node reaches in one step or more, the naive way."""
    reach = {node: set(graph[node]) for node in graph}
    for _ in graph:
        for node in graph:
            for other in set(reach[node]):
                reach[node] |= reach[other]
    return reach


# -- find_cycle ----


@given(graphs)
def test_a_cycle_is_found_exactly_if_somebody_reaches_himself(graph: Graph) -> None:
    cycle = find_cycle(graph, graph.__getitem__)

    assert (cycle is not None) == any(node in reach for node, reach in walks(graph).items())


@given(graphs)
def test_the_cycle_that_is_found_is_one(graph: Graph) -> None:
    cycle = find_cycle(graph, graph.__getitem__)

    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(cycle) >= 2
        assert len(set(cycle)) == len(cycle) - 1, "it goes through nobody twice"
        for node, following in itertools.pairwise(cycle):
            assert following in graph[node]


@given(graphs, st.data())
def test_only_what_the_starts_reach_is_searched(graph: Graph, data: st.DataObject) -> None:
    starts = data.draw(st.lists(st.sampled_from(sorted(graph)))) if graph else []
    reach = walks(graph)
    seen = set(starts).union(*(reach[node] for node in starts))

    cycle = find_cycle(starts, graph.__getitem__)

    assert (cycle is not None) == any(node in reach[node] for node in seen)


def test_who_needs_himself_is_a_cycle_of_one() -> None:
    assert find_cycle(["a"], {"a": ["a"]}.__getitem__) == ["a", "a"]


def test_a_diamond_is_no_cycle() -> None:
    diamond = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}

    assert find_cycle(diamond, diamond.__getitem__) is None


def test_a_cycle_behind_a_tail_is_shown_without_the_tail() -> None:
    graph = {"tail": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}

    assert find_cycle(["tail"], graph.__getitem__) == ["a", "b", "c", "a"]


def test_a_cycle_of_5000_is_found() -> None:
    cycle = find_cycle([0], lambda n: [(n + 1) % 5000])

    assert cycle == [*range(5000), 0]


def test_each_node_of_a_wide_diamond_is_asked_once() -> None:
    """2 ** 50 paths, 100 nodes."""
    asked: list[int] = []

    def edges(node: int) -> list[int]:
        asked.append(node)
        return [node + 1, node + 2] if node < 100 else []

    assert find_cycle([0], edges) is None
    assert len(asked) == len(set(asked))


# -- reached ----


@given(graphs, st.data())
def test_what_is_reached_is_all_that_the_starts_walk_to(graph: Graph, data: st.DataObject) -> None:
    starts = data.draw(st.lists(st.sampled_from(sorted(graph)), unique=True)) if graph else []
    reach = walks(graph)

    found = reached(starts, graph.__getitem__)

    assert len(found) == len(set(found))
    assert set(found) == set().union(*(reach[node] for node in starts))


@given(dags)
def test_the_nearest_is_reached_first(graph: Graph) -> None:
    for start in graph:
        distance = {start: 0}
        frontier = [start]
        while frontier:
            node = frontier.pop(0)
            for other in graph[node]:
                if other not in distance:
                    distance[other] = distance[node] + 1
                    frontier.append(other)

        order = [distance[node] for node in reached([start], graph.__getitem__)]

        assert order == sorted(order)


def test_a_start_is_not_reached_from_itself_without_a_cycle() -> None:
    assert reached(["a"], {"a": ["b"], "b": []}.__getitem__) == ["b"]
    assert reached(["a"], {"a": ["b"], "b": ["a"]}.__getitem__) == ["b", "a"]


def test_a_chain_of_5000_is_reached() -> None:
    assert reached([0], lambda n: [n + 1] if n < 5000 else []) == list(range(1, 5001))
