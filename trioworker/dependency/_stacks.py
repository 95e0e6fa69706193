"""Where the tasks of a run stand: the tree of its tasks, each with its awaiting frames.

Taken in the engine's own thread between two steps, so all tasks but the asking one are waiting.
Reads Trio's task objects by their public attributes, and imports no trio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

from ._node import show

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio

    from ._node import Run


@final
class TaskStack(NamedTuple):
    """One task, where it stands, and the tasks in its nurseries."""

    name: str
    frames: tuple[str, ...]
    """Outermost first, each as ``file:line in function``; before it has begun, its first line."""
    children: tuple[TaskStack, ...] = ()

    def __str__(self) -> str:
        return "\n".join(_lines(self, ""))


def stacks_of(run: Run | None) -> tuple[TaskStack, ...]:
    """Return the tasks of `run`: that of the start function first, then its helpers."""
    if run is None or run.task is None:
        return ()
    helpers = () if run.helpers is None else run.helpers.tasks()
    return tuple(map(_stack, (run.task, *helpers)))


def _stack(task: trio.lowlevel.Task) -> TaskStack:
    frames = tuple(show(frame.f_code, line) for frame, line in task.iter_await_frames())
    inner = (child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return TaskStack(task.name, frames, _sorted(inner))


def _sorted(tasks: Iterable[trio.lowlevel.Task]) -> tuple[TaskStack, ...]:
    # Trio keeps them in sets: by name, lest the same program shows them in another order each time.
    return tuple(sorted(map(_stack, tasks)))


def _lines(stack: TaskStack, indent: str) -> list[str]:
    lines = [f"{indent}{stack.name}"]
    lines += [f"{indent}  {frame}" for frame in stack.frames]
    for child in stack.children:
        lines += _lines(child, f"{indent}  | ")
    return lines
