"""Who needs whom, as text, for Graphviz, for Mermaid, and as a picture of our own.

The picture is a **layered layout**, in three steps that each are a few lines:

1. A manifold's layer is the length of its longest way down to one that needs nothing. Live inputs
   do not count, because with them there may be cycles.
2. Within the layers, each is put near the middle of those that it is tied to, a few times down and
   up again: that takes out most crossings.
3. Each layer is centred. An edge is a curve from the bottom of who needs to the top of who is
   needed; so required ones always point down.

Names are escaped wherever they go: an engine that was put together in Python may have any.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from trioworker.dependency import EngineReport

KINDS = ("required", "optional", "live")


@attrs.frozen
class Edge:
    """One manifold needs another."""

    source: str
    target: str
    kind: str
    """One of `KINDS`."""
    roles: tuple[str, ...] = ()
    """What the source calls the target, where that is not its name."""

    @property
    def label(self) -> str:
        """What to write beside it."""
        return ", ".join([*([] if self.kind == "required" else [self.kind]), *self.roles])


@attrs.frozen
class Graph:
    """Names and edges, in the order of installation."""

    name: str
    nodes: tuple[str, ...]
    absent: frozenset[str]
    """Those of the nodes that somebody names and nothing provides."""
    edges: tuple[Edge, ...]

    def needs(self, node: str, kinds: Iterable[str] = KINDS) -> list[Edge]:
        """Return the edges from `node`."""
        return [edge for edge in self.edges if edge.source == node and edge.kind in kinds]


def graph_of(report: EngineReport, mask: Callable[[str], str] = str) -> Graph:
    """Return the graph of an engine, with all names masked."""
    edges: list[Edge] = []
    for name, manifold in report.manifolds.items():
        needed = (manifold.inputs, manifold.optional, manifold.live)
        for kind, targets in zip(KINDS, needed, strict=True):
            for target in targets:
                roles = tuple(mask(r) for r, n in manifold.roles.items() if n == target)
                edges.append(Edge(mask(name), mask(target), kind, roles))
    installed = [mask(name) for name in report.manifolds]
    nodes = tuple(dict.fromkeys([*installed, *(edge.target for edge in edges)]))
    absent = frozenset(nodes) - frozenset(installed)
    return Graph(mask(report.name), nodes, absent, tuple(edges))


def layers(graph: Graph) -> list[list[str]]:
    """Return the nodes by layer, those that need nothing first; order within is that of the graph.

    Required and optional inputs have no cycles: no engine would have accepted them.
    """
    needs: dict[str, list[str]] = {node: [] for node in graph.nodes}
    needed_by: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        if edge.kind != "live":
            needs[edge.source].append(edge.target)
            needed_by[edge.target].append(edge.source)
    left = {node: len(targets) for node, targets in needs.items()}
    depth: dict[str, int] = {}
    ready = [node for node in graph.nodes if not left[node]]
    for node in ready:
        depth[node] = 1 + max((depth[target] for target in needs[node]), default=-1)
        for dependent in needed_by[node]:
            left[dependent] -= 1
            if not left[dependent]:
                ready.append(dependent)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in graph.nodes:
        found[depth.get(node, 0)].append(node)
    return found


# -- text ------------------------------------------------------------------------------------------


def text(graph: Graph) -> str:
    """Return the layers from the top, each manifold with what it needs."""
    found = layers(graph)
    count = len(graph.nodes) - len(graph.absent)
    lines = [f"{_plain(graph.name)}: {_many(count, 'manifold')} in {_many(len(found), 'layer')}"]
    width = min(max((len(_plain(node)) for node in graph.nodes), default=0), 30)
    for layer in reversed(found):
        lines.append("")
        for node in layer:
            told = [_told(edge, graph) for edge in graph.needs(node)]
            if node in graph.absent:
                told = ["(not installed)"]
            head = f"  {_plain(node):<{width}}"
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
    notes += [f"as {_plain(role)}" for role in edge.roles]
    notes += ["not installed"] if edge.target in graph.absent else []
    return _plain(edge.target) + (f" ({', '.join(notes)})" if notes else "")


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _plain(name: str) -> str:
    """Return `name` in one line, with what does not print as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


# -- for other programs ----------------------------------------------------------------------------

_DOT_STYLES = {"required": "solid", "optional": "dashed", "live": "dotted"}
_DASHES = {"required": "", "optional": "7 4", "live": "2 4"}


def dot(graph: Graph) -> str:
    """Return the graph in the language of Graphviz."""
    lines = [f"digraph {_dot(graph.name)} {{", "  node [shape=box];"]
    for node in graph.nodes:
        style = " [style=dashed]" if node in graph.absent else ""
        lines.append(f"  {_dot(node)}{style};")
    for edge in graph.edges:
        attributes = f"style={_DOT_STYLES[edge.kind]}"
        if edge.roles:
            attributes += f", label={_dot(', '.join(edge.roles))}"
        lines.append(f"  {_dot(edge.source)} -> {_dot(edge.target)} [{attributes}];")
    return "\n".join([*lines, "}"])


def _dot(name: str) -> str:
    quoted = _plain(name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def mermaid(graph: Graph) -> str:
    """Return the graph in the language of Mermaid."""
    ids = {node: f"n{i}" for i, node in enumerate(graph.nodes)}
    lines = ["flowchart TD"]
    lines += [f'  {ids[node]}["{_mermaid(node)}"]' for node in graph.nodes]
    styles: list[str] = []
    for i, edge in enumerate(graph.edges):
        label = f'|"{_mermaid(edge.label)}"|' if edge.label else ""
        lines.append(f"  {ids[edge.source]} -->{label} {ids[edge.target]}")
        if _DASHES[edge.kind]:
            styles.append(f"  linkStyle {i} stroke-dasharray:{_DASHES[edge.kind]}")
    styles += [
        f"  style {ids[node]} stroke-dasharray:7 4" for node in graph.nodes if node in graph.absent
    ]
    return "\n".join(lines + styles)


def _mermaid(name: str) -> str:
    # Mermaid's own way to write a character that means something to it.
    return "".join(c if c.isalnum() or c in " ._-,${}" else f"#{ord(c)};" for c in _plain(name))


# -- the picture -----------------------------------------------------------------------------------

_HEIGHT = 34  # of a box
_DOWN = 96  # from one layer to the next
_GAP = 28  # between two boxes
_CHARACTER = 8.0  # the width of one; the font has a fixed one
_MARGIN = 24
_HEAD = 56  # for the title and the legend
_SWEEPS = 4

_STYLE = """\
  .box { fill: #f6f8fa; stroke: #57606a; }
  .absent { fill: none; stroke-dasharray: 7 4; }
  .edge { fill: none; stroke: #57606a; stroke-width: 1.3; }
  .optional { stroke-dasharray: 7 4; }
  .live { stroke-dasharray: 2 4; }
  text { font: 13px ui-monospace, monospace; fill: #1f2328; text-anchor: middle; }
  .left { text-anchor: start; }
  .small { font-size: 11px; fill: #57606a; }"""


_TIP = """\
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" \
orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#57606a"/></marker></defs>"""


def svg(graph: Graph) -> str:
    """Return the graph as a picture that needs nothing else: no script, no font, no link."""
    rows = _ordered(graph)[::-1]  # who needs most stands on top
    widths = {node: len(_plain(node)) * _CHARACTER + 24 for node in graph.nodes}
    spans = [sum(widths[n] for n in row) + _GAP * (len(row) - 1) for row in rows]
    legend = 330.0
    width = max([legend, len(_plain(graph.name)) * 9.0, *spans]) + 2 * _MARGIN
    height = _HEAD + max(len(rows) - 1, 0) * _DOWN + _HEIGHT + _MARGIN
    middle: dict[str, float] = {}
    top: dict[str, float] = {}
    for i, (row, span) in enumerate(zip(rows, spans, strict=True)):
        left = (width - span) / 2
        for node in row:
            middle[node] = left + widths[node] / 2
            top[node] = _HEAD + i * _DOWN
            left += widths[node] + _GAP
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{_xml(graph.name)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        _TIP,
        f'<text class="left" x="{_MARGIN}" y="20">{_xml(graph.name)}</text>',
        *_legend(),
    ]
    for edge in graph.edges:
        path = _curve(middle[edge.source], top[edge.source], middle[edge.target], top[edge.target])
        what = f"{edge.source} needs {edge.target}" + (f" ({edge.label})" if edge.label else "")
        parts.append(
            f'<path class="edge {edge.kind}" d="{path}" marker-end="url(#tip)">'
            f"<title>{_xml(what)}</title></path>"
        )
    for node in graph.nodes:
        absent = " absent" if node in graph.absent else ""
        parts.append(
            f'<rect class="box{absent}" x="{middle[node] - widths[node] / 2:.1f}" '
            f'y="{top[node]:.1f}" width="{widths[node]:.1f}" height="{_HEIGHT}" rx="6"/>'
            f'<text x="{middle[node]:.1f}" y="{top[node] + 22:.1f}">{_xml(node)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _legend() -> list[str]:
    parts: list[str] = []
    for i, kind in enumerate(KINDS):
        x = _MARGIN + i * 110
        parts.append(
            f'<path class="edge {kind}" d="M{x} 36 H{x + 30}"/>'
            f'<text class="left small" x="{x + 36}" y="40">{kind}</text>'
        )
    return parts


def _curve(x1: float, top1: float, x2: float, top2: float) -> str:
    """Return the path from the box of who needs to the box of who is needed."""
    if top1 < top2:
        y1, y2 = top1 + _HEIGHT, top2
        out, into = y1 + (y2 - y1) / 2, y2 - (y2 - y1) / 2
    else:  # a live input in the same layer or above: out at the top
        y1, y2 = top1, top2 + (_HEIGHT if top2 < top1 else 0)
        out, into = y1 - _DOWN / 3, y2 + (_DOWN / 3 if top2 < top1 else -_DOWN / 3)
    points = ((x1, out), (x2, into), (x2, y2))
    return f"M{x1:.1f} {y1:.1f} C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ordered(graph: Graph) -> list[list[str]]:
    """Return the layers with each node near those that it is tied to."""
    rows = layers(graph)
    tied: dict[str, list[str]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        tied[edge.source].append(edge.target)
        tied[edge.target].append(edge.source)
    place = {node: i - len(row) / 2 for row in rows for i, node in enumerate(row)}
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            row.sort(key=lambda node: _mean([place[other] for other in tied[node]], place[node]))
            for i, node in enumerate(row):
                place[node] = i - len(row) / 2
    return rows


def _mean(numbers: list[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _xml(name: str) -> str:
    return escape(_plain(name), quote=True)


FORMATS: Mapping[str, Callable[[Graph], str]] = {
    "text": text,
    "dot": dot,
    "mermaid": mermaid,
    "svg": svg,
}
"""What ``--format`` chooses from."""
