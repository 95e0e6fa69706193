"""Questions about who needs whom, answered on plain mappings.

A graph is given as ``edges(node) -> iterable of nodes``: towards the inputs, or towards the
dependents. Everything here is iterative, because a chain of 5 000 manifolds is a graph too, and
linear in what it reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

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
