"""Where somebody stands, and for how long: the words for places and for spans of time."""

from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker.dependency import Manifold
from trioworker.dependency._node import place, span

from .harness import Life, Program


def line_of(function: Any, after: int = 1) -> str:
    """Return the place so many lines after the one with the name of `function`."""
    code = function.__code__
    return f"{code.co_filename}:{code.co_firstlineno + after} in {code.co_name}"


async def explained(program: Program, name: str) -> str:
    """Return what is said of `name`, which never gets ready."""
    async with program.running(settle=False) as engine:
        return str(engine.explain(name))


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0.0, "0 ms"),
        (0.09945, "99 ms"),
        (0.1, "0.1 s"),
        (0.5, "0.5 s"),
        (2.0, "2 s"),
        (3.14, "3.1 s"),
        (99.96, "100 s"),
        (100.4, "100 s"),
        (150.4, "150 s"),
    ],
)
def test_a_span_of_time_is_said_as_people_do(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_one_that_has_no_frames_stands_at_an_unknown_place() -> None:
    assert place([]) == "an unknown place"


async def connecting(life: Life) -> None:
    await trio.sleep_forever()


async def test_a_place_is_a_file_with_a_line_and_a_function(mock_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=connecting)

    assert await explained(program, "db") == (
        f"db has been starting for 0 ms without calling started(); it is at {line_of(connecting)}"
    )


async def capturing(life: Life) -> None:
    await outcome.acapture(trio.sleep_forever)


async def test_a_place_is_in_the_program_and_not_in_what_trio_calls_to_wait() -> None:
    program = Program()
    program.install("db", body=capturing)

    assert (await explained(program, "db")).endswith(f"; it is at {line_of(capturing)}")


async def test_a_place_may_be_in_code_that_belongs_to_no_module() -> None:
    names: dict[str, Any] = {"trio": trio}
    text = "async def start(get, *, task_status):\n    await trio.sleep_forever()\n"
    exec(compile(text, "made-up", "exec"), names)
    program = Program()
    program.engine.install("db", Manifold(names["start"]))

    assert (await explained(program, "db")).endswith("; it is at made-up:2 in start")


async def test_a_stuck_task_in_a_nursery_of_a_task_in_a_nursery_is_named_with_all_its_frames(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def grandchild() -> None:
        with trio.CancelScope(shield=True):
            await program.doubles["db"].let_go.wait()

    async def child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grandchild)

    async def parent(life: Life) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            life.ready()

    program.install("db", body=parent, stop_timeout=5)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await trio.sleep(10)
        stuck = engine.report().manifolds["db"].stuck
        assert stuck is not None
        ours = [frame for frame in stuck if frame.startswith(__file__)]
        assert ours == [line_of(parent), line_of(child), line_of(grandchild, 2)]
