"""Who needs whom, for Graphviz, for Mermaid, and as a picture of our own. Pure functions.

The command line draws a program that does not run, the introspection page one that does, and with
the states of its manifolds.

The picture is a **layered layout**, in four steps that each are a few lines:

1. A manifold's layer is the length of its longest way down to one that needs nothing. Live inputs
   do not count, because with them there may be cycles.
2. Within the layers, each is put near the middle of those that it is tied to, a few times down and
   up again: that takes out most crossings.
3. A layer that is too wide is broken into rows of about the same width.
4. Each row is centred. An edge is a curve from the bottom of who needs to the top of who is needed;
   so required ones always point down.

Colours are attributes, not a style sheet: so the picture can stand in a page whose policy forbids
style sheets but its own, and whose style sheet is stronger than an attribute. And no colour says
anything that is not said by a word or a line as well.

Names are escaped wherever they go: an engine that was put together in Python may have any.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
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


def graph_of(
    report: EngineReport,
    mask: Callable[[str], str] = str,
    *,
    only: Collection[str] | None = None,
) -> Graph:
    """Return the graph of an engine.

    Args:
        report: of the engine.
        mask: changes every name, to hide what must not be seen.
        only: the names that it is to have; all by default.
    """
    edges: list[Edge] = []
    for name, manifold in report.manifolds.items():
        if only is not None and name not in only:
            continue
        needed = (manifold.inputs, manifold.optional, manifold.live)
        for kind, targets in zip(KINDS, needed, strict=True):
            for target in targets:
                if only is None or target in only:
                    roles = tuple(mask(r) for r, n in manifold.roles.items() if n == target)
                    edges.append(Edge(mask(name), mask(target), kind, roles))
    installed = [mask(name) for name in report.manifolds if only is None or name in only]
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


def plain(name: str) -> str:
    """Return `name` in one line, with what does not print as escapes."""
    if name.isprintable():
        return name
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
    quoted = plain(name).replace("\\", "\\\\").replace('"', '\\"')
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
    return "".join(c if c.isalnum() or c in " ._-,${}" else f"#{ord(c)};" for c in plain(name))


# -- the picture -----------------------------------------------------------------------------------

_HEIGHT = 34  # of a box
_TALL = 44  # of one that has a second line
_BETWEEN = 62  # from the bottom of one layer to the top of the next
_CLOSE = 18  # between two rows of one layer
_GAP = 28  # between two boxes
_WIDEST = 1000  # row, unless a single box is wider
_CHARACTER = 8.0  # the width of one; the font has a fixed one
_MARGIN = 24
_HEAD = 56  # for the title and the legend
_SWEEPS = 4
_LONGEST = 40  # name that is shown in full

_INK, _FAINT, _PAPER = "#1f2328", "#57606a", "#f6f8fa"

# The line and the ground of a box, for each state that says more than "not there".
_COLOURS = {
    "waiting": ("#9a6700", "#fff8c5"),
    "delayed": ("#bc4c00", "#fff1e5"),
    "starting": ("#0969da", "#ddf4ff"),
    "started": ("#1a7f37", "#dafbe1"),
    "draining": ("#8250df", "#fbefff"),
    "stopping": ("#8250df", "#fbefff"),
    "done": ("#1a7f37", "#f6f8fa"),
    "failed": ("#cf222e", "#ffebe9"),
    "held": ("#0b7285", "#f6f8fa"),
}

_TIP = f"""\
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" \
orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{_FAINT}"/></marker></defs>"""


@attrs.frozen
class _Place:
    """Where a box stands."""

    middle: float
    top: float
    width: float
    bottom: float


def svg(
    graph: Graph,
    *,
    states: Mapping[str, str] | None = None,
    chosen: str | None = None,
    note: str = "",
) -> str:
    """Return the graph as a picture that needs nothing else: no script, no font, no link.

    Args:
        graph: what to draw.
        states: of the manifolds, to be shown in the boxes.
        chosen: the manifold to be marked.
        note: stands beside the title.
    """
    places, width, height = _layout(graph, _HEIGHT if states is None else _TALL)
    title = f"{_xml(graph.name)}{f' ({_xml(note)})' if note else ''}"
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    font = 'font-family="ui-monospace, monospace" font-size="13" text-anchor="middle"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font} fill="{_INK}">',
        f"<title>{title}</title>",
        _TIP,
        f'<text class="title" x="{_MARGIN}" y="20" text-anchor="start">{title}</text>',
        *_legend(),
        f'<g class="edges" fill="none" stroke="{_FAINT}" stroke-width="1.3">',
        *(_edge(edge, places) for edge in graph.edges),
        "</g>",
    ]
    for node in graph.nodes:
        state = "absent" if node in graph.absent else (states or {}).get(node, "")
        parts.append(_box(node, state, places[node], is_chosen=node == chosen, tall=bool(states)))
    return "\n".join([*parts, "</svg>"])


def _layout(graph: Graph, height: int) -> tuple[dict[str, _Place], float, float]:
    """Return where the boxes stand, and how wide and high the picture is."""
    least = 0 if height == _HEIGHT else len("draining")  # the second line has to fit
    widths = {node: max(least, len(_short(node))) * _CHARACTER + 24 for node in graph.nodes}
    rows: list[tuple[float, list[str]]] = []
    top = float(_HEAD)
    for layer in _ordered(graph)[::-1]:  # who needs most stands on top
        for row in _broken(layer, widths):
            rows.append((top, row))
            top += height + _CLOSE
        top += _BETWEEN - _CLOSE
    spans = [sum(widths[n] for n in row) + _GAP * (len(row) - 1) for _, row in rows]
    width = max([330.0, len(_short(graph.name)) * 9.0, *spans]) + 2 * _MARGIN
    places: dict[str, _Place] = {}
    for (row_top, row), span in zip(rows, spans, strict=True):
        left = (width - span) / 2
        for node in row:
            middle = left + widths[node] / 2
            places[node] = _Place(middle, row_top, widths[node], row_top + height)
            left += widths[node] + _GAP
    return places, width, top - _BETWEEN + _MARGIN


def _broken(layer: list[str], widths: Mapping[str, float]) -> list[list[str]]:
    """Return `layer` in as few rows as there must be, about equally wide."""
    total = sum(widths[node] + _GAP for node in layer)
    widest = total / max(1, -(-total // _WIDEST))
    rows: list[list[str]] = [[]]
    used = 0.0
    for node in layer:
        if used >= widest:
            rows.append([])
            used = 0.0
        rows[-1].append(node)
        used += widths[node] + _GAP
    return rows


def _legend() -> list[str]:
    parts: list[str] = []
    for i, kind in enumerate(KINDS):
        x = _MARGIN + i * 110
        parts.append(
            f'<path class="key {kind}" d="M{x} 36 H{x + 30}" stroke="{_FAINT}"{_dashes(kind)}/>'
            f'<text class="small" x="{x + 36}" y="40" text-anchor="start" font-size="11" '
            f'fill="{_FAINT}">{kind}</text>'
        )
    return parts


def _edge(edge: Edge, places: Mapping[str, _Place]) -> str:
    what = f"{edge.source} needs {edge.target}" + (f" ({edge.label})" if edge.label else "")
    path = _curve(places[edge.source], places[edge.target])
    ends = f'data-from="{_xml(edge.source)}" data-to="{_xml(edge.target)}"'
    return (
        f'<path class="edge {edge.kind}" d="{path}" marker-end="url(#tip)"{_dashes(edge.kind)} '
        f"{ends}><title>{_xml(what)}</title></path>"
    )


def _dashes(kind: str) -> str:
    return f' stroke-dasharray="{_DASHES[kind]}"' if _DASHES[kind] else ""


def _box(name: str, state: str, place: _Place, *, is_chosen: bool, tall: bool) -> str:
    line, ground = _COLOURS.get(state, (_FAINT, _PAPER))
    dashes = _dashes("optional") if state == "absent" else ""
    left, height = place.middle - place.width / 2, place.bottom - place.top
    look = f'fill="{ground}" stroke="{line}" stroke-width="{3 if is_chosen else 1.3}"{dashes}'
    shape = f'x="{left:.1f}" y="{place.top:.1f}" width="{place.width:.1f}" height="{height:.0f}"'
    where = f'x="{place.middle:.1f}" y="{place.top + (19 if tall else 22):.1f}"'
    below = f'x="{place.middle:.1f}" y="{place.top + 35:.1f}"'
    parts = [
        f'<g class="node {state}{" chosen" if is_chosen else ""}" data-name="{_xml(name)}">',
        f"<title>{_xml(name)}{f': {state}' if state else ''}</title>",
        f'<rect {shape} rx="6" {look}/>',
        f"<text {where}>{_xml(_short(name))}</text>",
        f'<text class="state" {below} font-size="11" fill="{line}">{state}</text>' if tall else "",
    ]
    return "".join([*parts, "</g>"])


def _curve(source: _Place, target: _Place) -> str:
    """Return the path from the box of who needs to the box of who is needed."""
    bow = _BETWEEN / 2
    if source.top < target.top:
        y1, y2 = source.bottom, target.top
        out, into = y1 + (y2 - y1) / 2, y2 - (y2 - y1) / 2
    else:  # a live input in the same layer or above: out at the top
        y1, y2 = source.top, target.bottom if target.top < source.top else target.top
        out, into = y1 - bow, y2 + (bow if target.top < source.top else -bow)
    points = ((source.middle, out), (target.middle, into), (target.middle, y2))
    return f"M{source.middle:.1f} {y1:.1f} C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in points)


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


def _short(name: str) -> str:
    shown = plain(name)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"


def _xml(name: str) -> str:
    return escape(plain(name), quote=True)
