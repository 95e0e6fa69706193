"""Questions about who needs whom, answered on plain mappings.

A graph is given as ``edges(node) -> iterable of nodes``: towards the inputs, or towards the
dependents. Everything here is iterative, because a chain of 5 000 manifolds is a graph too, and
linear in what it reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    Node = TypeVar("Node", bound=Hashable)
else:
    Node = TypeVar("Node")


def find_cycle(
    starts: Iterable[Node], edges: Callable[[Node], Iterable[Node]]
) -> list[Node] | None:
    """Return one cycle that can be reached from `starts`, first node repeated at the end, or None.

    Depth first with three colours: unseen, on the current path, finished.
    """
    finished: set[Node] = set()
    for start in starts:
        if start in finished:
            continue
        path: dict[Node, None] = {start: None}
        branches: list[Iterator[Node]] = [iter(edges(start))]
        while branches:
            for node in branches[-1]:
                if node in path:
                    nodes = list(path)
                    return [*nodes[nodes.index(node) :], node]
                if node not in finished:
                    path[node] = None
                    branches.append(iter(edges(node)))
                    break
            else:
                branches.pop()
                finished.add(path.popitem()[0])
    return None


def reached(starts: Iterable[Node], edges: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Return all that `starts` reach, without them (save in a cycle), nearest first."""
    seen: dict[Node, None] = {}
    frontier = list(starts)
    while frontier:
        following: list[Node] = []
        for node in frontier:
            for other in edges(node):
                if other not in seen:
                    seen[other] = None
                    following.append(other)
        frontier = following
    return list(seen)


def start_order(inputs: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """Return the nodes so that each comes after its inputs; stopping goes the other way round.

    Inputs that are no keys are passed over. Ties keep the order of the mapping.

    Raises:
        ValueError: there is a cycle; ask `find_cycle` for it.
    """
    left = {node: {i for i in needs if i in inputs} for node, needs in inputs.items()}
    dependents: dict[Node, list[Node]] = {node: [] for node in inputs}
    for node, needs in left.items():
        for needed in needs:
            dependents[needed].append(node)
    order = [node for node, needs in left.items() if not needs]
    for node in order:
        for dependent in dependents[node]:
            left[dependent].discard(node)
            if not left[dependent]:
                order.append(dependent)
    if len(order) < len(left):
        msg = "the graph has a cycle"
        raise ValueError(msg)
    return order
