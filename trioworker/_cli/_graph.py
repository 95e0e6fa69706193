"""How ``trioworker graph`` shows who needs whom: as text, or in a format of `_drawing`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping

from trioworker._drawing import Edge, Graph, dot, graph_of, layers, mermaid, plain, svg

__all__ = ["FORMATS", "graph_of", "text"]


def text(graph: Graph) -> str:
    """Return the layers from the top, each manifold with what it needs."""
    found = layers(graph)
    count = len(graph.nodes) - len(graph.absent)
    lines = [f"{plain(graph.name)}: {_many(count, 'manifold')} in {_many(len(found), 'layer')}"]
    width = min(max((len(plain(node)) for node in graph.nodes), default=0), 30)
    for layer in reversed(found):
        lines.append("")
        for node in layer:
            told = [_told(edge, graph) for edge in graph.needs(node)]
            if node in graph.absent:
                told = ["(not installed)"]
            head = f"  {plain(node):<{width}}"
            head = f"{head}  needs " if told and node not in graph.absent else f"{head}  "
            lines += textwrap.wrap(
                ", ".join(told),
                width=100,
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_long_words=False,
                break_on_hyphens=False,
            ) or [head.rstrip()]
    return "\n".join(lines)


def _told(edge: Edge, graph: Graph) -> str:
    notes = [] if edge.kind == "required" else [edge.kind]
    notes += [f"as {plain(role)}" for role in edge.roles]
    notes += ["not installed"] if edge.target in graph.absent else []
    return plain(edge.target) + (f" ({', '.join(notes)})" if notes else "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


FORMATS: Mapping[str, Callable[[Graph], str]] = {
    "text": text,
    "dot": dot,
    "mermaid": mermaid,
    "svg": svg,
}
"""What ``--format`` chooses from."""
