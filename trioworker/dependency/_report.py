"""The state of an engine as plain frozen data. Pure functions over the engine's nodes.

Workers are asked for their own reports here, after and outside the engine's bookkeeping, and within
a time that is bounded for all of them together: a slow ``report()`` costs the others theirs, never
the engine its pace.
"""

# No `from __future__ import annotations`: a NamedTuple would compile each of them at import.

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple, final

from .._report import TombReport, report_of
from ._node import show
from ._states import State

if TYPE_CHECKING:
    from ._node import Entry, Node

WORKERS_TIME = 0.05
"""Seconds that the workers' own reports may take together; each is asked before it is over."""


@final
class End(NamedTuple):
    """How one run of a manifold ended."""

    time: float
    """When, on Trio's clock."""
    kind: str
    """``returned``, ``stopped``, ``error``, ``fatal``, ``dying``, or a verdict: ``bounce``, ..."""
    error: str | None
    """What left the run, in one line."""
    traceback: tuple[str, ...]
    """Where the error came from, outermost first, each as ``file:line in function``."""
    cause: str | None
    """Why the engine stopped it; ``None`` if it ended by itself."""
    lasted: float
    """Seconds from its start."""
    was_ready: bool
    """Whether it had called ``started()``."""
    origin: int
    """The number of what set it off; see `Transition.origin`."""


_BECAUSE = frozenset({State.DELAYED, State.FAILED})
_AS_WANTED = frozenset({State.STARTED, State.DONE, State.HELD})


@final
class ManifoldReport(NamedTuple):
    """How one manifold stands."""

    name: str
    state: str
    """One of `State`, by its name."""
    since: float
    """Seconds that it has been in this state."""
    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    live: tuple[str, ...]
    """The names of the manifolds that it depends on, in the three ways."""
    roles: Mapping[str, str]
    """Role to name, where they differ."""
    waiting_for: tuple[str, ...]
    """Its required inputs that are not started."""
    starts: int
    ends: int
    failures: int
    """Errors in a row, as far as the backoff counts them."""
    retry_in: float | None
    """Seconds until its delay is over."""
    why: str | None
    """What its delay, its wait for a change or its failure is due to."""
    stop_cause: str | None
    """Why it is being stopped."""
    stuck: tuple[str, ...] | None
    """Where it stands, outermost frame first, if it does not end although it was cancelled."""
    history: tuple[End, ...]
    """Its latest ends, oldest first."""
    worker: object
    """The started value's own ``report()``, if it has one."""


@final
class EngineReport(NamedTuple):
    """How an engine stands, and all its manifolds."""

    name: str
    tomb: TombReport
    """The engine's own life."""
    manifolds: Mapping[str, ManifoldReport]
    """By name, in the order of installation."""

    def unready(self) -> tuple[ManifoldReport, ...]:
        """Return those that are wanted and not started; first those that do not wait for others.

        Wanted is what is neither held nor done. A program is ready when there is none.
        """
        found = [report for report in self.manifolds.values() if report.state not in _AS_WANTED]
        return tuple(sorted(found, key=lambda report: report.state == State.WAITING))


def engine_report(
    name: str,
    tomb: TombReport,
    nodes: "list[Node]",
    now: float,
    clock: Callable[[], float],
) -> EngineReport:
    """Return the report of an engine with `nodes`.

    Args:
        name: the engine's.
        tomb: the report of the engine's own life.
        nodes: what is installed.
        now: the present time of the engine.
        clock: seconds of real time, to bound what the workers take.
    """
    end = clock() + WORKERS_TIME
    reports = {node.name: _manifold_report(node, now, ask=clock() < end) for node in nodes}
    return EngineReport(name=name, tomb=tomb, manifolds=reports)


def engine_view(
    name: str,
    tomb: TombReport,
    nodes: "list[Node]",
    clocks: tuple[Callable[[], float], Callable[[], float]],
) -> EngineReport:
    """Return the report of an engine with `nodes`, each of them made when it is looked at.

    Args:
        name: the engine's.
        tomb: the report of the engine's own life.
        nodes: what is installed.
        clocks: the engine's; and seconds of real time, to bound what the workers take.
    """
    return EngineReport(name=name, tomb=tomb, manifolds=_View(nodes, *clocks))


@final
class _View(Mapping[str, ManifoldReport]):
    """The reports of `nodes` by name."""

    def __init__(
        self, nodes: "list[Node]", now: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._now = now
        self._clock = clock
        self._left = WORKERS_TIME

    def __getitem__(self, name: str) -> ManifoldReport:
        begun = self._clock()
        report = _manifold_report(self._nodes[name], self._now(), ask=self._left > 0)
        self._left -= self._clock() - begun
        return report

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)


def _manifold_report(node: "Node", now: float, *, ask: bool) -> ManifoldReport:
    run = node.run
    return ManifoldReport(
        name=node.name,
        state=str(node.state),
        since=now - node.since,
        inputs=_names(node.required),
        optional=_names(node.optional),
        live=_names(node.live),
        roles={} if node.manifold is None else dict(node.manifold.bindings),
        waiting_for=_names([o for o in node.required if o.state is not State.STARTED]),
        starts=node.starts,
        ends=node.ends,
        failures=0 if node.restarts is None else node.restarts.failures,
        retry_in=None if node.delay is None else max(0.0, node.delay.when - now),
        why=node.missing or (node.why if node.state in _BECAUSE else None),
        stop_cause=None if run is None else run.cause,
        stuck=None if run is None else run.stuck,
        history=tuple(map(_end, node.history)),
        worker=_worker_report(node, ask=ask),
    )


def _names(nodes: "Iterable[Node]") -> tuple[str, ...]:
    return tuple([node.name for node in nodes])


def _end(entry: "Entry") -> End:
    time, kind, error, places, cause, lasted, was_ready, origin = entry
    where = tuple(starmap(show, places))
    return End(time, kind, error, where, cause, lasted, was_ready, origin)


def _worker_report(node: "Node", *, ask: bool) -> object:
    run = node.run
    if run is None or run.ready is None or not _can_report(run.value):
        return None
    return report_of(run.value, node.name) if ask else "not asked: the others took too long"


def _can_report(value: object) -> bool:
    try:
        return callable(getattr(value, "report", None))
    except Exception:  # noqa: BLE001 - a property is foreign code; report_of() says what it raised
        return True
