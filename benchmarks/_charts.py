"""One SVG for each question: a row for each size and peer, a dot for its median.

Written by hand, as all there is are lines, dots and words. The picture brings its own background,
and both colour schemes: which of them is shown is the reader's choice, by what the system says it
prefers, and either can be read on any page.

A row is a ratio to the floor on a logarithmic axis, where twice as much and half as much are
equally far from 1; or, where a bar is about a difference or about our side alone (kibibytes,
milliseconds, wake-ups), that on a linear one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

WIDTH = 760
LEFT = 330
"""Where the axis begins; what stands left of it are words."""
RIGHT = 76
ROW = 22
TOP = 58
BOTTOM = 34

STYLE = """
.paper { fill: #ffffff; stroke: #d0d7de }
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: bold; font-size: 14px }
.quiet { fill: #59636e }
.right { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #d0d7de }
.one { stroke: #59636e; stroke-dasharray: 4 3 }
.ours { fill: #0550ae; stroke: #0550ae }
.peer { fill: #9a6700; stroke: #9a6700 }
.span { stroke-width: 3; opacity: 0.45 }
.bar { stroke: #cf222e; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.paper { fill: #151b23; stroke: #3d444d }
text { fill: #f0f6fc }
.quiet { fill: #9198a1 }
.grid { stroke: #3d444d }
.one { stroke: #9198a1 }
.ours { fill: #4493f8; stroke: #4493f8 }
.peer { fill: #d29922; stroke: #d29922 }
.bar { stroke: #f85149 }
}
"""

Scale = Callable[[float], float]


class Row:
    """One row: what it is about, its spread, and its bar if it has one."""

    def __init__(
        self, label: str, spread: dict[str, float], limit: float | None, kind: str
    ) -> None:
        self.label = label
        self.spread = spread
        self.limit = limit
        self.kind = kind

    @property
    def values(self) -> list[float]:
        """All that has to find a place on the axis."""
        return [*self.spread.values(), *([] if self.limit is None else [self.limit])]


def chart(name: str, results: Sequence[dict[str, Any]]) -> str:
    """Return the picture of the results of one question: what it measures, size by size."""
    of = measure(results)
    things = list(dict.fromkeys(result["what"] for result in results))
    in_order = sorted(results, key=lambda result: things.index(result["what"]))
    rows = [row for result in in_order for row in rows_of(result, of)]
    height = TOP + ROW * len(rows) + BOTTOM
    scale, ticks = logarithmic(rows) if of == "ratio" else linear(rows)
    unit = results[0]["unit"]
    captions = {"difference": f"{unit} more than the floor", "ours": unit}
    caption = captions.get(of, "ratio to the floor")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(name)}: {escape(caption)}, median with minimum and maximum</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="16" y="24">{escape(name)}</text>',
        f'<text class="quiet" x="{LEFT}" y="24">{escape(caption)}, lower is better</text>',
        *axis(scale, ticks, height, of),
        *legend(rows),
    ]
    for number, row in enumerate(rows):
        parts += drawn(row, TOP + ROW * number + ROW // 2, scale, of)
    return "\n".join([*parts, "</svg>", ""])


def measure(results: Sequence[dict[str, Any]]) -> str:
    """Say whether these results are about ratios, about differences, or about our side alone."""
    bars = [result["bar"]["of"] for result in results if result["bar"]]
    return next((of for of in ("difference", "ours") if of in bars), "ratio")


def rows_of(result: dict[str, Any], of: str) -> list[Row]:
    """Return our row of one result, and below it those of the peers that have an answer."""
    limit = result["bar"]["limit"] if result["bar"] else None
    rows: list[Row] = []
    if result[of]:
        rows.append(Row(f"{result['what']}, n = {result['n']}", result[of], limit, "ours"))
    for peer, answer in result["peers"].items():
        if answer.get(of):
            star = "*" if answer["by_hand"] else ""
            label = f"{peer} {answer['version']}{star}, {answer['runtime']}"
            rows.append(Row(label, answer[of], None, "peer"))
    return rows


def logarithmic(rows: Sequence[Row]) -> tuple[Scale, list[float]]:
    """Return an axis from the smallest value to the largest; 1 is always on it."""
    known = [value for row in rows for value in row.values if value > 0]
    low, high = min([*known, 0.8]), max([*known, 2.0])
    span = math.log(high / low)

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(max(value, low) / low) / span

    ticks = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5)]
    return place, spaced([tick for tick in ticks if low <= tick <= high], place)


def linear(rows: Sequence[Row]) -> tuple[Scale, list[float]]:
    """Return an axis from 0, or below it, to the largest value."""
    known = [value for row in rows for value in row.values]
    low, high = min([*known, 0.0]), max([*known, 1.0])

    def place(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    step = 10.0 ** math.floor(math.log10(high - low))
    first, last = math.ceil(low / step), math.floor(high / step)
    return place, spaced([step * i for i in range(first, last + 1)], place)


def spaced(ticks: list[float], place: Scale) -> list[float]:
    """Leave out ticks whose numbers would touch; 1 and 0 stay."""
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda tick: (tick not in (0.0, 1.0), tick)):
        if all(abs(place(tick) - place(other)) >= 34 for other in kept):
            kept.append(tick)
    return sorted(kept)


def axis(scale: Scale, ticks: Sequence[float], height: int, of: str) -> list[str]:
    """Draw the lines behind the rows, with their numbers below."""
    floor = 1.0 if of == "ratio" else 0.0
    parts: list[str] = []
    for tick in ticks:
        x = f"{scale(tick):.1f}"
        kind = "one" if tick == floor else "grid"
        parts += [
            f'<path class="{kind}" d="M{x} {TOP - 4} V{height - BOTTOM + 4}"/>',
            f'<text class="quiet middle" x="{x}" y="{height - 12}">{tick:g}</text>',
        ]
    return parts


def legend(rows: Sequence[Row]) -> list[str]:
    """Say what the colours are, as far as they occur."""
    known = [("ours", "trioworker"), ("peer", "others, to floors of their own")]
    shown = [(kind, words) for kind, words in known if any(row.kind == kind for row in rows)]
    parts: list[str] = []
    x = LEFT
    for kind, words in shown:
        parts.append(f'<circle class="{kind}" cx="{x + 4}" cy="40" r="4"/>')
        parts.append(f'<text class="quiet" x="{x + 14}" y="44">{words}</text>')
        x += 30 + 7 * len(words)
    if any(row.limit is not None for row in rows):
        parts.append(f'<path class="bar" d="M{x + 4} 34 V46"/>')
        parts.append(f'<text class="quiet" x="{x + 14}" y="44">bar</text>')
    if any("*" in row.label for row in rows):
        parts.append('<text class="quiet" x="16" y="44">* no feature of it, made by hand</text>')
    return parts


def drawn(row: Row, y: int, scale: Scale, of: str) -> list[str]:
    """Draw one row: its words, its span, its dot, its number."""
    median, low, high = (row.spread[key] for key in ("median", "min", "max"))
    digits = 0 if abs(median) >= 100 else 2 if of == "ratio" else 1
    number = f"{median:.{digits}f}"
    quiet = "" if row.kind == "ours" else " quiet"
    parts = [
        f'<text class="right{quiet}" x="{LEFT - 12}" y="{y + 4}">{escape(row.label)}</text>',
        f'<path class="{row.kind} span" d="M{scale(low):.1f} {y} H{scale(high):.1f}"/>',
        f'<circle class="{row.kind}" cx="{scale(median):.1f}" cy="{y}" r="4"/>',
        f'<text class="right{quiet}" x="{WIDTH - 14}" y="{y + 4}">{number}</text>',
    ]
    if row.limit is not None:
        parts.append(f'<path class="bar" d="M{scale(row.limit):.1f} {y - 7} V{y + 7}"/>')
    return parts
