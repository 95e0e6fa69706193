"""What the stacks of a manifold look like, line by line, and in which order."""

import inspect

import trio
from trio.testing import wait_all_tasks_blocked

from trioworker.dependency._manifold import Manifold
from trioworker.dependency._node import Node, Run
from trioworker.dependency._stacks import TaskStack, stacks_of

from .harness import Life, Program


def test_a_stack_is_written_with_its_frames_and_then_its_tasks_deeper_in() -> None:
    leaf = TaskStack("leaf", ("app.py:3 in wait",))
    branch = TaskStack("branch", ("app.py:2 in run", "trio.py:9 in sleep"), (leaf,))
    root = TaskStack("root", ("app.py:1 in start",), (branch, TaskStack("new", ())))

    assert str(root) == (
        "root\n"
        "  app.py:1 in start\n"
        "  | branch\n"
        "  |   app.py:2 in run\n"
        "  |   trio.py:9 in sleep\n"
        "  |   | leaf\n"
        "  |   |   app.py:3 in wait\n"
        "  | new"
    )


def test_a_run_that_has_no_task_yet_has_no_stacks() -> None:
    async def start(get: object, *, task_status: object) -> None:
        """Be of no interest."""

    assert stacks_of(Run(Node("db"), Manifold(start), 0.0, (), lambda run, value: None)) == ()


async def test_each_frame_is_shown_by_file_line_and_function() -> None:
    where: list[str] = []

    async def wait_here() -> None:
        frame = inspect.currentframe()
        assert frame is not None
        where.append(f"{__file__}:{frame.f_lineno + 1} in wait_here")
        await trio.sleep_forever()

    async def body(life: Life) -> None:
        life.ready()
        await wait_here()

    program = Program()
    program.install("db", body=body)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        (stack,) = engine.stacks("db")
        assert where[0] in stack.frames


async def test_the_tasks_of_a_nursery_are_shown_by_name_and_the_helpers_after_the_first() -> None:
    names = ["e", "b", "d", "a", "c"]

    async def body(life: Life) -> None:
        for name in names:
            life.get.start_soon(trio.sleep_forever, name=f"helper {name}")
        async with trio.open_nursery() as first, trio.open_nursery() as second:
            for name in names:
                first.start_soon(trio.sleep_forever, name=f"{name} of the first")
                second.start_soon(trio.sleep_forever, name=f"{name} of the second")
            life.ready()

    program = Program()
    program.install("db", body=body)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        main, *helpers = engine.stacks("db")
        assert [stack.name for stack in helpers] == [f"helper {name}" for name in sorted(names)]
        assert [child.name for child in main.children] == [
            f"{name} of the {which}" for name in sorted(names) for which in ("first", "second")
        ]
        assert {stack.children for stack in (*helpers, *main.children)} == {()}
        assert any(frame.endswith(" in sleep_forever") for frame in main.children[0].frames)
