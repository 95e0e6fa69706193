"""How what a running program tells is printed: tables and chains, on a terminal or elsewhere.

On a terminal texts are wrapped to its width and states have colours, unless ``NO_COLOR`` says
otherwise; one that is narrow has a block for each manifold instead of a row. Elsewhere nothing is
cut and nothing is wrapped, so that a line is a line for ``grep``.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from trioworker.dependency import State

from ._render import (
    COLOURS,
    Console,
    Group,
    Live,
    Padding,
    RenderableType,
    Table,
    Text,
    duration,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._told import Ended, Picture, Row, Stack, Why

NARROW = 90
"""Columns below which a table has no room for sentences."""
_ENDLESS = 1_000_000
_FRAME = 5  # lines of a terminal that a watched table needs beside its rows
_STATES = frozenset(map(str, State))


def console() -> Console:
    """Return what to print to: no markup, no highlighting, and no wrapping but on a terminal."""
    made = Console(markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = _ENDLESS
    return made


def is_live(made: Console) -> bool:
    """Whether something can be drawn in place."""
    return made.is_terminal and not made.is_dumb_terminal


def print_picture(made: Console, picture: Picture) -> None:
    """Print how a program stands."""
    _print(made, _picture(made, picture))


def print_why(made: Console, why: Why) -> None:
    """Print an explanation: in a sentence, then link by link down to the root."""
    parts: list[RenderableType] = [Text(shown(why.sentence))]
    if len(why.chain) > 1:
        table = _grid()
        for link in why.chain:
            text = Text(shown(link.text), overflow="fold")
            table.add_row(Text(shown(link.name), "bold"), _state(link.state), text)
        root = Text.assemble("root cause: ", (shown(why.chain[-1].name), "bold"))
        parts += ["", Padding(table, (0, 0, 0, 2), expand=False), "", root]
    if why.blast_radius:
        parts.append(Text(f"when it stops, so do: {', '.join(map(shown, why.blast_radius))}"))
    _print(made, Group(*parts))


def print_ends(made: Console, ends: Sequence[Ended]) -> None:
    """Print ends of runs."""
    if not ends:
        _print(made, Text("no run of any manifold has ended yet"))
        return
    table = _grid("at", ">ago", "manifold", "end", ">after", "why")
    for end in ends:
        table.add_row(
            _clock(end.epoch),
            duration(end.ago),
            Text(shown(end.manifold)),
            Text(shown(end.kind), "red" if end.kind in {"error", "fatal"} else ""),
            duration(end.lasted),
            Text(shown(end.why), overflow="fold"),
        )
    _print(made, table)


def print_event(made: Console, epoch: float, text: str) -> None:
    """Print a transition that has happened just now."""
    _print(made, Text(f"{_clock(epoch)}  {shown(text)}"))


def print_stack(made: Console, name: str, tasks: Sequence[Stack]) -> None:
    """Print where the tasks of a manifold stand."""
    if not tasks:
        _print(made, Text(f"{shown(name)}: no tasks"))
        return
    lines = [Text(shown(name), "bold")]
    for task in tasks:
        lines += _stack(task, "  ")
    _print(made, Group(*lines))


def watch(made: Console, pictures: Iterable[tuple[Picture, str]]) -> None:
    """Draw each of `pictures`, with a line to stand below, in the place of the one before."""
    with Live(console=made, auto_refresh=False, vertical_overflow="crop") as live:
        for picture, below in pictures:
            drawn = _picture(made, picture, most=max(1, made.height - _FRAME))
            line = Text(shown(below), "dim", no_wrap=True, overflow="ellipsis")
            live.update(Group(drawn, line), refresh=True)


# -- how a program stands --------------------------------------------------------------------------


def _picture(made: Console, picture: Picture, most: int | None = None) -> RenderableType:
    """Return the table with its summary; with `most`, in at most so many lines."""
    rows = picture.rows
    narrow = made.width < NARROW
    hidden = 0 if most is None else len(rows) - most
    if hidden > 0:
        # Those in trouble are what one looks for; otherwise the order of installation.
        rows = sorted(rows, key=lambda row: row.state == State.STARTED)[:most]
    colour = "magenta" if picture.dying else "green" if picture.ready else "yellow"
    summary = Text.assemble((shown(picture.name), "bold"), "  ", (shown(picture.summary), colour))
    if hidden > 0:
        summary.append(f"; {hidden} not shown")
    if not rows:
        return summary
    if most is not None:
        summary.no_wrap, summary.overflow = True, "ellipsis"
    if narrow:
        return Group(*_blocks(rows, details=most is None), "", summary)
    return Group(_table(rows, wrap=most is None), "", summary)


def _table(rows: Sequence[Row], *, wrap: bool) -> Table:
    failed = any(row.last_error for row in rows)
    table = _grid("manifold", "state", ">since", ">starts", "why", *["last error"] * failed)
    for column in table.columns:
        column.no_wrap = column.header not in {"why", "last error"}
        column.overflow = "fold"
        if not wrap and not column.no_wrap:
            # A share of what the others leave; a long sentence would leave nothing to them.
            column.no_wrap, column.overflow, column.ratio = True, "ellipsis", 1
            table.expand = True
    for row in rows:
        table.add_row(
            Text(shown(row.name)),
            _state(row.state),
            duration(row.since),
            str(row.starts),
            Text(_why(row)),
            *[Text(_error(row))] * failed,
        )
    return table


def _blocks(rows: Sequence[Row], *, details: bool) -> Iterable[RenderableType]:
    """Yield a line for each manifold, with its sentences below it."""
    table = _grid("manifold", "state", ">since", "starts")
    heads = [(shown(row.name), duration(row.since), str(row.starts)) for row in rows]
    name, since, starts = (
        max(len(title), *map(len, column))
        for title, column in zip(
            ("manifold", "since", "starts"), zip(*heads, strict=True), strict=True
        )
    )
    for column, width in zip(table.columns, (name, 8, since, starts), strict=True):
        column.width, column.no_wrap = width, True
    # Not the column's to do: where the last one ends differs between the versions of rich.
    table.columns[-1].header = "starts".rjust(starts)
    below: list[RenderableType] = []
    for row, head in zip(rows, heads, strict=True):
        table.add_row(head[0], _state(row.state), head[1], head[2].rjust(starts))
        if details:
            below = [
                Padding(Text(text, "dim"), (0, 0, 0, 2))
                for text in (_why(row), row.last_error and f"last error: {_error(row)}")
                if text
            ]
        if below:
            yield table
            yield from below
            table = _without_header(table)
            below = []
    if table.row_count:
        yield table


def _without_header(table: Table) -> Table:
    made = _grid()
    made.show_header = False
    for column in table.columns:
        made.add_column(justify=column.justify, width=column.width, no_wrap=True)
    return made


def _why(row: Row) -> str:
    if row.retry_in is None or not row.last_error:
        return shown(row.why)
    # What it failed of stands beside it.
    nth = f" after {row.failures} failures in a row" if row.failures > 1 else ""
    return f"starts again in {duration(row.retry_in)}{nth}"


def _error(row: Row) -> str:
    if not row.last_error:
        return ""
    age = "" if row.error_age is None else f" ({duration(row.error_age)} ago)"
    return f"{shown(row.last_error)}{age}"


# -- parts -----------------------------------------------------------------------------------------


def _grid(*titles: str) -> Table:
    """Return a table without lines; a title that begins with ``>`` is for numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.show_header = bool(titles)
    for title in titles:
        table.add_column(title.lstrip(">"), justify="right" if title[0] == ">" else "left")
    return table


def _state(state: str) -> Text:
    return Text(shown(state), COLOURS.get(State(state), "") if state in _STATES else "")


def _clock(epoch: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(epoch))
    except (OverflowError, OSError, ValueError):  # no clock of ours says that
        return "--:--:--"


def _stack(task: Stack, indent: str) -> list[Text]:
    lines = [Text(f"{indent}{shown(task.name)}")]
    lines += [Text(f"{indent}  {shown(frame)}", "dim") for frame in task.frames]
    for child in task.children:
        lines += _stack(child, f"{indent}  | ")
    return lines


def _print(made: Console, what: RenderableType) -> None:
    if made.is_terminal:
        made.print(what)
        return
    with made.capture() as captured:
        made.print(what)
    # Cells are filled up with blanks, also at the end of a line.
    for line in captured.get().splitlines():
        sys.stdout.write(f"{line.rstrip()}\n")
