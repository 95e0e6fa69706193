"""How a running engine is shown: a live table on a terminal, a line per transition elsewhere.

`ReportTable` asks nothing of the engine but what it tells everybody: ``report()``, ``explain()``
and ``events()``. It is a worker that `async with` owns, shielded, because an engine that is being
cancelled still goes through transitions that somebody wants to see: only the end of the block ends
it. Whatever is shown goes through `shown`, so no name and no error can move the cursor, and through
the caller's mask first.

`_paint` takes what it needs of rich from here, so that one module says that it is missing.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, final

import trio

from trioworker import Engine, Tomb, open_worker
from trioworker.dependency import State

from . import MissingExtra

try:
    from rich.console import Console as Console, Group as Group, RenderableType as RenderableType
    from rich.live import Live as Live
    from rich.padding import Padding as Padding
    from rich.table import Table as Table
    from rich.text import Text as Text
except ModuleNotFoundError as exc:
    raise MissingExtra("rich") from exc

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Self

    from trioworker.dependency import ManifoldReport

PERIOD = 0.125
"""Seconds between two pictures of the table."""

COLOURS = {
    State.STARTED: "green",
    State.STARTING: "cyan",
    State.WAITING: "yellow",
    State.DELAYED: "red",
    State.DRAINING: "magenta",
    State.STOPPING: "magenta",
    State.FAILED: "bold red",
    State.HELD: "blue",
}
_FRAME = 6  # lines of a terminal that the table needs beside its rows


@final
class ReportTable:
    """Shows an engine for the length of an ``async with`` block.

    ::

        async with ReportTable(engine, title="ingest") as table:
            table.caption = "drop and chaos"
            await engine.run()

    On a terminal: a table (name, state, why, starts, since), drawn anew eight times a second; what
    others print to the terminal meanwhile appears above it. Elsewhere: one line per transition,
    those that the engine makes while the block is left included.

    It never ends the program: when its output cannot be written any more (a closed pipe), it shows
    nothing from then on.

    Args:
        engine: what to show; it may run inside the block or around it.
        title: stands above the table; the engine's name by default.
        mask: changes every text before it is shown, to hide what must not be.
        console: where to show it; standard output by default.

    Attributes:
        caption: stands below the table until the end of the block; may be changed at any time.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        title: str | None = None,
        mask: Callable[[str], str] = str,
        console: Console | None = None,
    ) -> None:
        self._engine = engine
        self._title = engine.name if title is None else title
        self._mask = mask
        self._console = Console() if console is None else console
        self._live: Live | None = None
        self._events = engine.events(capacity=100_000)
        self._tomb = Tomb(grace=math.inf, name="report table")
        self._owner: AbstractAsyncContextManager[object] | None = None
        self._is_broken = False
        self.caption = ""

    @property
    def is_live(self) -> bool:
        """Whether it shows a table, because the output is a terminal."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def refresh(self) -> None:
        """Draw the table now. Without a terminal there is nothing to draw."""
        if self._live is not None:
            self._write(self._live.update, self._table(), refresh=True)

    def print(self, text: str) -> None:
        """Print `text`, above the table if there is one."""
        line = Text("\n".join(map(shown, self._mask(text).split("\n"))))
        self._write(self._console.print, line, soft_wrap=True, highlight=False)

    # -- a worker ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        owner = open_worker(self)
        await owner.__aenter__()
        self._owner = owner
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        owner, self._owner = self._owner, None
        if owner is None:
            return None
        return await owner.__aexit__(exc_type, exc, traceback)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Show the engine until killed; for `open_worker` to call."""
        with self._tomb, trio.CancelScope(shield=True):
            if self.is_live:
                task_status.started()
                await self._draw()
            else:
                with self._events:
                    task_status.started()
                    await self._list()

    def kill(self, reason: BaseException | None = None) -> None:
        """Show what there is left to show, and end."""
        self._tomb.kill(reason)
        self._events.end()

    async def wait(self) -> None:
        """Wait until nothing is shown any more."""
        await self._tomb.wait()

    # -- the two ways -----------------------------------------------------------------------------

    async def _draw(self) -> None:
        try:
            # A log that goes elsewhere must not be drawn to the terminal: take what is one.
            with Live(
                self._table(),
                console=self._console,
                auto_refresh=False,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            ) as self._live:
                while not self._tomb.is_dying:
                    with trio.move_on_after(PERIOD):
                        await self._tomb.wait_dying()
                    self.refresh()
                self.caption = ""  # what is left standing is no phase of anything
                self.refresh()
        except (OSError, ValueError):
            self._is_broken = True  # and wait for the end, as if one could see it
        finally:
            self._live = None
        await self._tomb.wait_dying()

    async def _list(self) -> None:
        dropped = 0
        async for transition in self._events:
            self.print(str(transition))
            if self._events.dropped > dropped:
                self.print(f"({self._events.dropped - dropped} transitions were not shown)")
                dropped = self._events.dropped

    def _write(self, write: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        if self._is_broken:
            return
        try:
            write(*args, **kwargs)
        except (OSError, ValueError):  # ValueError: somebody closed the stream
            self._is_broken = True

    # -- the table --------------------------------------------------------------------------------

    def _table(self) -> Table:
        reports = list(self._engine.report().manifolds.values())
        hidden = len(reports) - max(1, self._console.height - _FRAME)
        if hidden > 0:
            # Those in trouble are what one looks for; otherwise the order of installation.
            reports.sort(key=lambda report: report.state == State.STARTED)
            del reports[-hidden:]
        table = Table(title=self._text(self._title), title_justify="left", caption_justify="left")
        table.add_column("manifold", no_wrap=True)
        table.add_column("state", no_wrap=True)
        table.add_column("why", no_wrap=True, ratio=1, overflow="ellipsis")
        table.add_column("starts", justify="right", no_wrap=True)
        table.add_column("since", justify="right", no_wrap=True)
        table.expand = True
        for report in reports:
            table.add_row(
                self._text(report.name),
                Text(report.state, COLOURS.get(State(report.state), "")),
                self._text(self._why(report)),
                str(report.starts),
                duration(report.since),
            )
        more = f"and {hidden} more" if hidden > 0 else ""
        table.caption = self._text(", ".join(filter(None, [more, self.caption])))
        return table

    def _why(self, report: ManifoldReport) -> str:
        """Return what stands beside the state: the error first, because the end may be cut off."""
        if report.state in {State.STARTED, State.STOPPED}:
            return ""
        if report.why is not None and report.retry_in is not None:
            return f"{report.why}; again in {duration(report.retry_in)}"
        if report.why is not None and report.state == State.FAILED:
            return f"{report.why}; restarted too often"
        return str(self._engine.explain(report.name)).removeprefix(report.name).strip()

    def _text(self, text: str) -> Text:
        return Text(shown(self._mask(text)))


def shown(text: str) -> str:
    """Return `text` in one line, with what would not print, or would do worse, as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def duration(seconds: float) -> str:
    """Return a time span as one looks at it: ``59 ms``, ``0.4 s``, ``12 s``, ``2:03:05``."""
    if seconds < 0.1:  # noqa: PLR2004 - below it a tenth says nothing
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:  # noqa: PLR2004 - below it a tenth is worth seeing
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 - a minute
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
