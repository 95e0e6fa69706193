"""How a running engine is shown."""

import io

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock

from trioworker import Engine, EngineConfig, Getter, Manifold, RestartPolicy
from trioworker._cli._render import ReportTable, duration, shown
from trioworker.agent import Mask


async def forever(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    raise ValueError("no \x1b[2J sesame")


def engine() -> Engine:
    made = Engine(EngineConfig(name="shop"))
    made.install_all(
        {"a": Manifold(forever), "b": Manifold(forever, inputs=("a",)), "bad": Manifold(fail)}
    )
    return made


def console(*, terminal: bool = False, height: int = 25, width: int = 100) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width, height=height, color_system=None
    )


def printed(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


async def show(made: Console, **options: object) -> Engine:
    shop = engine()
    async with ReportTable(shop, console=made, **options) as table:  # type: ignore[arg-type]  # the tests' own
        table.caption = "below"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.run)
            await shop.wait_state("b", "started")
            await shop.wait_state("bad", "delayed")
            table.refresh()
            table.print("between")
            shop.kill()
    return shop


async def test_without_a_terminal_each_transition_is_a_line(autojump_clock: MockClock) -> None:
    made = console()
    await show(made)
    lines = printed(made).splitlines()

    assert "a: waiting -> starting" in lines
    assert "between" in lines
    assert "b: starting -> started" in lines
    assert r"bad: stopping -> delayed (ValueError: no \x1b[2J sesame)" in lines
    assert "a: stopping -> stopped" in lines[-3:], "also those at the end"


async def test_on_a_terminal_there_is_a_table(autojump_clock: MockClock) -> None:
    made = console(terminal=True)
    await show(made)
    text = printed(made)

    for word in ("shop", "manifold", "state", "why", "starts", "since", "started", "delayed"):
        assert word in text
    assert "; again in " in text
    assert "below" in text
    assert "between" in text
    assert "->" not in text
    assert "\x1b[2Jsesame" not in text.replace(" ", "")


async def test_the_error_is_seen_on_80_columns(autojump_clock: MockClock) -> None:
    made = console(terminal=True, width=80)
    await show(made)

    [row] = {line for line in printed(made).splitlines() if "delayed" in line}
    assert r"│ ValueError: no \x1b[2J sesame; again" in row


async def test_a_failed_one_shows_its_error_first(autojump_clock: MockClock) -> None:
    made = console(terminal=True)
    shop = Engine()
    shop.install("bad", Manifold(fail, restart=RestartPolicy(max_restarts=0)))
    async with ReportTable(shop, console=made) as table, trio.open_nursery() as nursery:
        nursery.start_soon(shop.run)
        await shop.wait_state("bad", "failed")
        table.refresh()
        shop.kill()

    assert r"│ ValueError: no \x1b[2J sesame; restarted too often" in printed(made)


async def test_the_last_table_says_of_the_stopped_no_more_than_that(
    autojump_clock: MockClock,
) -> None:
    made = console(terminal=True)
    await show(made)
    last = printed(made).rpartition("shop")[2]

    assert last.count("stopped") == 3
    assert "engine" not in last
    assert "below" not in last, "nor is there a caption any more"


async def test_what_is_shown_is_masked(autojump_clock: MockClock) -> None:
    for terminal in (False, True):
        made = console(terminal=terminal)
        await show(made, mask=Mask([("T", "sesame")]))
        assert "sesame" not in printed(made)


async def test_a_table_that_does_not_fit_shows_who_is_in_trouble(
    autojump_clock: MockClock,
) -> None:
    made = console(terminal=True, height=8)
    await show(made)

    assert "and 1 more" in printed(made)
    assert "bad" in printed(made)


async def test_a_closed_output_does_not_stop_the_program(autojump_clock: MockClock) -> None:
    for terminal in (False, True):
        made = console(terminal=terminal)
        made.file.close()
        assert (await show(made)).state == "dead"


async def test_the_error_of_the_block_is_raised_as_it_is() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with ReportTable(engine(), console=console()):
            raise error
    assert caught.value is error


async def test_a_cancelled_engine_is_shown_to_its_end(autojump_clock: MockClock) -> None:
    made = console()
    shop = engine()
    with trio.move_on_after(1):
        async with ReportTable(shop, console=made):
            await shop.run()

    assert "a: stopping -> stopped" in printed(made)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 ms"),
        (0.0593, "59 ms"),
        (0.1, "0.1 s"),
        (9.94, "9.9 s"),
        (12.9, "12 s"),
        (185, "3:05"),
        (7385, "2:03:05"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_shown_is_one_printable_line() -> None:
    assert shown("a\tb\nc\x1b[0m\u202e ä") == r"a\tb\nc\x1b[0m\u202e ä"
