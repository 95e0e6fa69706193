"""How a program's answers look on a terminal: wide, narrow, with and without colours."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from trioworker._cli import _paint, _told

from .live_server import EXPLAINED, NOT_READY, TROUBLED, manifold, report

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def terminal(width: int, height: int = 50, colours: Any = None) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=colours,
        width=width,
        height=height,
        markup=False,
        highlight=False,
    )


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    return [line.rstrip() for line in ESCAPE.sub("", text).splitlines()]


def latest(console: Console) -> list[str]:
    """The last of the pictures that were drawn one over the other."""
    lines = printed(console)
    begin = max(n for n, line in enumerate(lines) if line.lstrip().startswith("manifold "))
    return lines[begin:]


def troubled() -> _told.Picture:
    return _told.picture(TROUBLED, NOT_READY)


@pytest.mark.parametrize("width", [40, 60, 89, 90, 120])
@pytest.mark.parametrize("what", ["status", "explain", "events"])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_lost(width: int, what: str) -> None:
    console = terminal(width)
    shows: dict[str, Callable[[], None]] = {
        "status": lambda: _paint.print_picture(console, troubled()),
        "explain": lambda: _paint.print_why(console, _told.why(EXPLAINED)),
        "events": lambda: _paint.print_ends(console, _told.ends(TROUBLED)),
    }
    shows[what]()
    lines = printed(console)

    assert max(map(cell_len, lines)) <= width
    everything = "".join("".join(lines).split())
    for word in ("db", "no"):
        assert word in everything


def test_a_wide_terminal_has_a_row_for_each() -> None:
    console = terminal(120)
    _paint.print_picture(console, troubled())
    header, *rows = printed(console)
    assert header.split() == ["manifold", "state", "since", "starts", "why", "last", "error"]
    assert len(rows) == 5


def test_a_narrow_terminal_has_sentences_below_their_manifold() -> None:
    console = terminal(70)
    _paint.print_picture(console, troubled())
    assert printed(console) == [
        "manifold  state     since  starts",
        "clock     started    12 s       1",
        "db        delayed   0.3 s       2",
        "  starts again in 0.2 s after 2 failures in a row",
        "  last error: ValueError: no (0.3 s ago)",
        "web       waiting    1:12       1",
        "  waits for db",
        "",
        "shop  not ready: 3 manifolds, 1 started, 1 delayed, 1 waiting",
    ]


def test_states_have_colours_unless_there_are_none() -> None:
    console = terminal(120, colours="standard")
    _paint.print_picture(console, troubled())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\x1b[32mstarted" in text
    assert "\x1b[31mdelayed" in text


def test_no_color_in_the_environment_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal(120, colours="standard")
    _paint.print_picture(console, troubled())
    assert isinstance(console.file, io.StringIO)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", console.file.getvalue())


def test_what_is_watched_fits_the_terminal_and_begins_with_those_in_trouble() -> None:
    many = [manifold(f"m{number}") for number in range(30)]
    sick = manifold("sick", "failed", why="ValueError: " + "very " * 100)
    picture = _told.picture(report(*many, sick), {"ready": False, "waiting": []})
    for width in (40, 120):
        console = terminal(width, height=12)
        _paint.watch(console, [(picture, "12:00:00  Ctrl-C ends this")])
        lines = latest(console)
        assert lines[1].split()[:2] == ["sick", "failed"]
        assert len(lines) <= 12
        assert max(map(cell_len, lines)) <= width
        assert "12:00:00  Ctrl-C ends this" in "\n".join(lines)


def test_what_is_watched_says_how_many_are_not_shown() -> None:
    many = [manifold(f"m{number}") for number in range(30)]
    console = terminal(120, height=12)
    _paint.watch(console, [(_told.picture(report(*many), {"ready": True}), "")])
    assert "30 manifolds, 30 started; 23 not shown" in "\n".join(printed(console))


def test_a_time_that_no_clock_shows_is_none() -> None:
    console = terminal(60)
    _paint.print_event(console, 1e300, "a: waiting -> starting")
    assert printed(console) == ["--:--:--  a: waiting -> starting"]
