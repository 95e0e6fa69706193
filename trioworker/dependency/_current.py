"""On whose behalf code runs: the manifold's name in a context variable.

Each run's task sets it in its own context, which Trio hands on to the tasks and threads that are
started from it. So a line of the log can name the manifold without being told by the code that
writes it. Whatever the engine calls in another's task is called in a copy of its own context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from ._node import Run

_manifold: ContextVar[str | None] = ContextVar("trioworker manifold", default=None)


def current_manifold() -> str | None:
    """Return the name of the manifold on whose behalf this code runs; ``None`` outside of any.

    Holds in its start function, in its helpers, in the tasks and threads that these start, and in
    what the engine calls for it (``ask``, filters). Of nested engines, the innermost. Sync.
    """
    return _manifold.get()


def enter(name: str) -> None:
    """Make the rest of this task, and what it starts, run on behalf of the manifold `name`."""
    _manifold.set(name)


def call_as(run: Run, function: Callable[[Any], object], value: object) -> None:
    """Call `function`, wherever that is, as if it were in the task of `run`, which has begun.

    In a copy of its context, because the task itself may be what calls.
    """
    task = cast("trio.lowlevel.Task", run.task)
    task.context.copy().run(function, value)
