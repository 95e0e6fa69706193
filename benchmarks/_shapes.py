"""The graphs: for each worker the numbers of those that it needs.

Nobody needs anybody (independent), each needs the one before (chain), all need the first (star),
ten layers of which each needs one to four of the layer above (layered), and two real agents, whose
graphs the demo brings along.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from trioworker import _demo

Graph = Sequence[Sequence[int]]
Shape = Callable[[int], Graph]

LAYERS = 10
SEED = 4
REAL = Path(_demo.__file__).parent / "graphs"


def independent(n: int) -> Graph:
    """Nobody needs anybody."""
    return [()] * n


def chain(n: int) -> Graph:
    """Each needs the one before."""
    return [(i - 1,) if i else () for i in range(n)]


def star(n: int) -> Graph:
    """All need the first."""
    return [(0,) if i else () for i in range(n)]


def layered(n: int) -> Graph:
    """Each needs one to four of the layer above; the same graph each time."""
    dice = random.Random(SEED)
    width = max(1, n // LAYERS)
    graph: list[list[int]] = []
    for i in range(n):
        above = (i // width - 1) * width
        count = min(width, dice.randint(1, 4)) if above >= 0 else 0
        graph.append([above + other for other in dice.sample(range(width), count)])
    return graph


def real(path: Path) -> Shape:
    """Return what gives the graph in a file, which has the size that it has."""
    graph: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    numbers = {manifold: number for number, manifold in enumerate(graph)}
    numbered = [[numbers[needed] for needed in needs] for needs in graph.values()]
    return lambda _: numbered


ANY_SIZE: dict[str, Shape] = {
    "independent": independent,
    "chain": chain,
    "star": star,
    "layered": layered,
}
ONE_SIZE: dict[str, Shape] = {path.stem: real(path) for path in sorted(REAL.glob("*.json"))}
