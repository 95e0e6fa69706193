"""Where the edges of the picture begin and end."""

import re

import trio

from trioworker import Engine, Getter, Manifold
from trioworker._drawing import graph_of, svg


async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()


def directions(**manifolds: Manifold) -> dict[str, tuple[float, float]]:
    """Return, for each kind of edge, how far down it ends and how far down it sets out."""
    engine = Engine()
    engine.install_all(manifolds)
    edges = re.findall(
        r'class="edge (\w+)" d="M\S+ (\S+) C\S+ (\S+) \S+ \S+ \S+ (\S+)"',
        svg(graph_of(engine.report())),
    )
    return {
        kind: (float(end) - float(begin), float(out) - float(begin))
        for kind, begin, out, end in edges
    }


def test_who_is_needed_stands_below_and_an_edge_leaves_at_the_bottom() -> None:
    ends, leaves = directions(a=Manifold(start), b=Manifold(start, inputs=("a",)))["required"]
    assert ends > 0
    assert leaves > 0


def test_a_live_input_above_is_reached_from_the_top() -> None:
    found = directions(a=Manifold(start, live=("b",)), b=Manifold(start, inputs=("a",)))
    ends, leaves = found["live"]
    assert ends < 0
    assert leaves < 0


def test_a_live_input_beside_is_reached_by_a_bow_over_both() -> None:
    ends, leaves = directions(a=Manifold(start, live=("b",)), b=Manifold(start))["live"]
    assert ends == 0
    assert leaves < 0
