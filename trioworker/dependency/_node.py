"""The plain data that the engine's transitions work on: a node for each name, a run for each start.

Only the engine changes them. Reports and explanations read them. They import no trio: tasks, scopes
and timers in them are only carried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

from ._states import Intention, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    import trio
    from trio_util import AsyncValue

    from .._restart import Restarts
    from ._helpers import Helpers
    from ._manifold import Manifold
    from ._timers import Timer


Place = tuple["CodeType", int]
"""A line of a function; it keeps no frame alive, and is put into words when somebody reads it."""

Entry = tuple[float, str, str | None, tuple[Place, ...], str | None, float, bool, int]
"""One end in a history: the fields of `End`, in their order.

Every stop makes one, and reports are rare: a bare tuple costs a tenth, and the garbage collector
does not keep looking at it.
"""


@final
class Node:
    """One name: its manifold, where it stands, who needs whom.

    A name that somebody depends on has a node even if it is not installed (`State.ABSENT`).
    """

    __slots__ = (
        "changed",
        "delay",
        "ends",
        "farewell",
        "history",
        "intention",
        "live",
        "live_by",
        "manifold",
        "missing",
        "name",
        "optional",
        "optional_by",
        "origin",
        "output",
        "owed",
        "required",
        "required_by",
        "restarts",
        "run",
        "since",
        "starts",
        "state",
        "unready",
        "users",
        "why",
    )

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.farewell: str | None = None  # why it was uninstalled, for those who still depend on it
        self.output: AsyncValue[Run | None] | None = None  # made by the first live reader
        # Who declares us, by how. Made with the first, because most have none.
        self.required_by: dict[Node, None] | None = None
        self.optional_by: dict[Node, None] | None = None
        self.live_by: dict[Node, None] | None = None
        # Runs that began with our output and have not ended, stuck ones aside.
        self.users: int = 0
        # Runs of ours that ended before their users did: their inputs are released with the last
        # user, so that a drain goes on in its order whoever ends by itself meanwhile.
        self.owed: tuple[Run, ...] = ()
        self.state: State = State.ABSENT
        self.since: float = 0.0
        self.origin: int = 0  # of its latest transition; see `Transition.origin`
        self.clear()

    def clear(self) -> None:
        """Forget everything but the name and its dependents: a new life may begin under it."""
        self.manifold: Manifold | None = None
        self.intention: Intention = Intention.AGAIN
        self.required: tuple[Node, ...] = ()
        self.optional: tuple[Node, ...] = ()
        self.live: tuple[Node, ...] = ()
        self.unready: int = 0  # required inputs that are not started
        self.changed: bool = False  # whether any input changed since our latest run began
        self.run: Run | None = None
        self.missing: str | None = None  # the verdict that makes us wait for a change
        self.delay: Timer | None = None
        self.why: str | None = None  # what the delay, or having failed, is due to
        self.starts: int = 0
        self.ends: int = 0
        self.restarts: Restarts | None = None  # made with the first error
        self.history: tuple[Entry, ...] = ()  # the latest ends, oldest first

    def inputs(self) -> Iterator[Node]:
        """Those we wait for: the edges that must not form a cycle."""
        yield from self.required
        yield from self.optional

    def dependents(self) -> Iterator[Node]:
        """Those who wait for us, required and optional."""
        yield from self.required_by or ()
        yield from self.optional_by or ()

    def readers(self) -> Iterator[Node]:
        """Everybody who declares us, in whatever way."""
        yield from self.dependents()
        yield from self.live_by or ()


class Readiness(Protocol):
    """Who is told that a run is ready: the engine."""

    def __call__(self, run: Run, value: object) -> None: ...


@final
class Run:
    """One start of a manifold, to its end; the start function gets it as ``task_status``."""

    __slots__ = (
        "ask_error",
        "began",
        "cancelled",
        "cause",
        "helpers",
        "is_over",
        "late",
        "manifold",
        "node",
        "on_ready",
        "place",
        "planned",
        "ready",
        "said",
        "scope",
        "soft",
        "stopping",
        "stuck",
        "task",
        "timer",
        "uses",
        "value",
    )

    def __init__(
        self,
        node: Node,
        manifold: Manifold,
        began: float,
        uses: tuple[Node, ...],
        on_ready: Readiness,
    ) -> None:
        self.node: Node = node
        self.manifold: Manifold = manifold
        self.began: float = began
        self.uses: tuple[Node, ...] = uses  # the inputs whose output it began with
        self.on_ready: Readiness = on_ready
        self.task: trio.lowlevel.Task | None = None  # None until it has begun
        self.scope: trio.CancelScope | None = None  # around the start function; None until then
        self.helpers: Helpers | None = None  # made with the first
        self.said: bool = False  # whether started() was called
        self.ready: float | None = None  # since when its output can be had
        self.value: Any = None
        self.planned: bool = False  # whether the engine wanted the end
        self.cause: str | None = None  # of the planned stop
        self.stopping: trio.Event | None = None  # made by the first who waits
        self.soft: bool = False  # asked, and not cancelled yet
        self.cancelled: bool = False
        self.late: bool = False  # start_timeout passed
        self.place: str | None = None  # where it was when it was late, or got stuck
        self.ask_error: BaseException | None = None
        self.stuck: tuple[str, ...] | None = None  # where it stands, once stop_timeout passed
        self.timer: Timer | None = None  # for the start time-out, grace, or stop time-out
        self.is_over: bool = False

    def started(self, value: object = None) -> None:
        """Say that the worker can be used, and that `value` is its output.

        Raises:
            RuntimeError: the second time.
        """
        self.on_ready(self, value)


def place(frames: list[tuple[FrameType, int]]) -> str:
    """Say where somebody stands: the innermost of `frames` that is not Trio's own machinery."""
    for frame, line in reversed(frames):
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("trio.", "outcome.")):
            return show(frame.f_code, line)
    return "an unknown place"  # a task that has not begun has no frames


def stack_of(run: Run) -> tuple[str, ...]:
    """Say where the task of `run` stands, outermost frame first."""
    return tuple(show(frame.f_code, line) for frame, line in task_frames(run))


def task_frames(run: Run) -> list[tuple[FrameType, int]]:
    """Return the frames of the start function's task, outermost first.

    A task that waits for another at the end of a nursery, or for a helper, stands where that does.
    """
    frames: list[tuple[FrameType, int]] = []
    task = run.task
    while task is not None:
        own = list(task.iter_await_frames())
        frames += own
        awaited = run.helpers.awaited if run.helpers is not None and task is run.task else None
        functions = {frame.f_code.co_name for frame, _ in own}
        if awaited is None and "_nested_child_finished" in functions:  # Trio's, to wait there
            awaited = next(iter(task.child_nurseries[-1].child_tasks), None)
        task = awaited
    return frames


def places_of(exc: BaseException) -> tuple[Place, ...]:
    """Return the traceback of `exc`, outermost first, without its frames."""
    places: list[Place] = []
    traceback = exc.__traceback__
    while traceback is not None:
        places.append((traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    return tuple(places)


def show(code: CodeType, line: int) -> str:
    """Say a place in a program."""
    return f"{code.co_filename}:{line} in {code.co_name}"


def story(run: Run) -> str:
    """Say why `run` is cancelled, for ``Cancelled.reason``."""
    return f'"{run.node.name}" is stopping: {run.cause}'


def span(seconds: float) -> str:
    """Say a time span as people do: ``45 ms``, ``2 s``, ``3.2 s``, ``150 s``."""
    if seconds < _SHORT:
        return f"{seconds * 1000:.0f} ms"
    return f"{round(seconds, 1 if seconds < _LONG else 0):g} s"


_SHORT, _LONG = 0.1, 100.0
"""Seconds below which milliseconds, and above which tenths of seconds, say more than they tell."""
