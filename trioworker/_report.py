"""How things tell their state: plain frozen data, for people, pages and logs.

Every ``report()`` of ours is sync, cheap, never raises and returns plain data. It is polite to have
one; nothing may ever depend on what it says.

Reports are named tuples: immutable, made in a sixth of the time of an attrs instance, and their
classes cost a tenth of an attrs class at import.
"""

# No `from __future__ import annotations`: a NamedTuple would compile each of them at import.

from typing import NamedTuple, Protocol, final, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Anything that can say how it is."""

    def report(self) -> object:
        """Return plain data about the present state. Sync, quick, without side effects."""
        ...


@final
class TombReport(NamedTuple):
    """How one life stands, or how it ended."""

    name: str
    """Whose life it is: the worker's name, or its task's."""
    state: str
    """``alive``, ``dying`` or ``dead``."""
    reason: str | None
    """Why it is dying or dead, in one line; ``None`` for a clean end."""
    suppressed: tuple[str, ...]
    """What else went wrong, a line each, at most 16."""
    uncounted: int
    """How many more errors there were that were only counted."""
    cancelled: bool
    """Whether it died because a scope around it was cancelled, without a reason of its own."""


@final
class CatacombReport(NamedTuple):
    """How a catacomb stands, and its children."""

    tomb: TombReport
    """The catacomb's own life."""
    children: tuple[object, ...]
    """Each child's own ``report()``, or its name if it has none."""


@final
class RunnerWorkerReport(NamedTuple):
    """How one of a runner's workers stands. Times are those of ``trio.current_time()``."""

    name: str
    """What the runner calls it."""
    state: str
    """``waiting``, ``starting``, ``running``, ``delayed``, ``stopping`` or ``gone``."""
    stuck: bool
    """Whether it was asked to stop, then cancelled, and still goes on."""
    started_at: float | None
    """When, on Trio's clock, the present worker could first be used; ``None`` if it was not yet."""
    next_start: float | None
    """When, on Trio's clock, the delay that it is in will be over."""
    restarts: int
    """How often it was started again."""
    failures: int
    """How many errors there were without a time of health between them."""
    last_error: str | None
    """The latest error in one line; ``None`` if there was none."""
    worker: object
    """The present worker's own ``report()``, or its name if it has none; ``None`` without one."""


@final
class RunnerReport(NamedTuple):
    """How a runner stands, and its workers."""

    tomb: TombReport
    """The runner's own life; its reason is the most important fatal error."""
    workers: tuple[RunnerWorkerReport, ...]
    """The workers, in the order in which they came."""


def report_of(thing: object, name: str) -> object:
    """Return `thing`'s own report, or `name` if it has none; a failing one says so in a line."""
    try:
        report = getattr(thing, "report", None)
        return report() if callable(report) else name
    except Exception as exc:  # noqa: BLE001 - report() is foreign code, and a report never raises
        return f"{name}: report() raised {type(exc).__name__}"
