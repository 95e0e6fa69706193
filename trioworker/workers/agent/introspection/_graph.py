"""The graph of a running engine, for its page and for other programs. Pure functions over a report.

Up to `MOST` manifolds the whole graph is drawn. Beyond that nobody could read it, and its layout
would take time that the engine needs: then only the neighbourhood of one manifold is drawn, those
nearest to it first, in both directions alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

from trioworker import _drawing

if TYPE_CHECKING:
    from trioworker.dependency import EngineReport, ManifoldReport

MOST = 150
"""So many manifolds are drawn together."""
NEAREST = 40
"""So many are in a neighbourhood."""


def svg(report: EngineReport, *, around: str | None = None) -> str:
    """Return the picture of the graph, with the states.

    Args:
        report: of the engine.
        around: the manifold that is marked, and whose neighbourhood is drawn if there are too many
            to draw them all.
    """
    only: frozenset[str] | None = None
    note = ""
    count = len(report.manifolds)
    if count > MOST:
        only, note = frozenset(), f"{count} manifolds; choose one to see those around it"
        if around is not None and around in report.manifolds:
            only = neighbourhood(report, around)
            note = f"{len(only)} of {count} manifolds, the nearest to {around}"
    states = {
        name: str(manifold.state)
        for name, manifold in report.manifolds.items()
        if only is None or name in only
    }
    graph = _drawing.graph_of(report, only=only)
    return _drawing.svg(graph, states=states, chosen=around, note=note)


def dot(report: EngineReport) -> str:
    """Return the whole graph in the language of Graphviz."""
    return _drawing.dot(_drawing.graph_of(report))


def mermaid(report: EngineReport) -> str:
    """Return the whole graph in the language of Mermaid."""
    return _drawing.mermaid(_drawing.graph_of(report))


def neighbourhood(report: EngineReport, name: str, most: int = NEAREST) -> frozenset[str]:
    """Return `name` and those nearest to it, at most `most` names in all.

    At the same distance, what is needed comes before who needs it, because that is where causes
    lie.
    """
    needed_by: dict[str, list[str]] = {}
    for manifold in report.manifolds.values():
        for target in _needs(manifold):
            needed_by.setdefault(target, []).append(manifold.name)
    found: dict[str, None] = {name: None}
    frontier = [name]
    while frontier and len(found) < most:
        down = chain.from_iterable(
            _needs(report.manifolds[one]) for one in frontier if one in report.manifolds
        )
        up = chain.from_iterable(needed_by.get(one, ()) for one in frontier)
        frontier = list(islice(_new(chain(down, up), found), most - len(found)))
    return frozenset(found)


def _new(names: Iterable[str], found: dict[str, None]) -> Iterator[str]:
    for name in names:
        if name not in found:
            found[name] = None
            yield name


def _needs(manifold: ManifoldReport) -> tuple[str, ...]:
    return (*manifold.inputs, *manifold.optional, *manifold.live)
