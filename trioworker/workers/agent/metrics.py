"""What an engine does, counted for Prometheus: the hook for ``EngineConfig(metrics=...)``.

Each instance has a registry of its own, so that several engines, and tests, do not meet. Labels
are bounded: a manifold's are removed when it is uninstalled, and after `MOST_TYPES` types of
exceptions all further ones are called ``other``. Only the text is made here: who serves it is the
program's business.

::

    metrics = PrometheusMetrics()
    engine = Engine(EngineConfig(metrics=metrics))
    ...
    body = metrics.text()  # to be served under metrics.content_type
"""

from __future__ import annotations

from typing import final

from trioworker.dependency import State

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition
except ModuleNotFoundError as _missing:
    _MSG = 'metrics need prometheus-client: pip install "trioworker[metrics]"'
    raise ModuleNotFoundError(_MSG, name=_missing.name) from _missing

__all__ = ["PrometheusMetrics"]

MOST_TYPES = 50
"""So many types of exceptions have a label of their own."""

_STATES = tuple(state for state in State if state is not State.ABSENT)


@final
class PrometheusMetrics:
    """A hook for `EngineConfig.metrics`; one for each engine."""

    content_type: str = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        one = ("manifold",)
        name = "trioworker_manifold_"
        self._types: set[str] = set()
        self._failed: dict[str, set[str]] = {}
        self._starts = Counter(f"{name}starts", "Runs begun.", one, registry=own)
        self._restarts = Counter(f"{name}restarts", "Runs after the first.", one, registry=own)
        self._failures = Counter(
            f"{name}failures", "Runs ended by an error.", ("manifold", "type"), registry=own
        )
        self._state = Gauge(
            f"{name}state", "1 for the present state.", ("manifold", "state"), registry=own
        )
        self._start = Histogram(
            f"{name}start_duration_seconds", "From start to readiness.", one, registry=own
        )
        self._dropped = Counter(
            "trioworker_events_dropped", "Events that slow readers lost.", registry=own
        )
        self._stalls = Histogram(
            "trioworker_loop_stall_seconds",
            "For how long the event loop was blocked.",
            registry=own,
        )
        self._stop = Histogram(
            f"{name}stop_duration_seconds", "From being asked to the end.", one, registry=own
        )

    def state(self, manifold: str, before: State, after: State) -> None:
        """`manifold` has moved."""
        if after is State.ABSENT:
            self._forget(manifold)
            return
        if before is State.ABSENT:
            for state in _STATES:
                self._state.labels(manifold, str(state)).set(0)
        else:
            self._state.labels(manifold, str(before)).set(0)
        self._state.labels(manifold, str(after)).set(1)

    def start(self, manifold: str, nth: int) -> None:
        """The `nth` run of `manifold` begins."""
        self._starts.labels(manifold).inc()
        restarts = self._restarts.labels(manifold)  # there from the first run on, as 0
        if nth > 1:
            restarts.inc()

    def ready(self, manifold: str, seconds: float) -> None:
        """A run is ready, `seconds` after it began."""
        self._start.labels(manifold).observe(seconds)

    def end(
        self,
        manifold: str,
        kind: str,
        error: type[BaseException] | None,
        stop_seconds: float | None,
    ) -> None:
        """A run has ended."""
        if stop_seconds is not None:
            self._stop.labels(manifold).observe(stop_seconds)
        if error is not None and kind in {"error", "fatal"}:
            type_ = self._bounded(error.__qualname__)
            self._failed.setdefault(manifold, set()).add(type_)
            self._failures.labels(manifold, type_).inc()

    def drop(self) -> None:
        """A reader of events has lost one."""
        self._dropped.inc()

    def stall(self, seconds: float) -> None:
        """The event loop was blocked for so long."""
        self._stalls.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return exposition.generate_latest(self._registry)

    def _bounded(self, type_: str) -> str:
        if type_ not in self._types:
            if len(self._types) >= MOST_TYPES:
                return "other"
            self._types.add(type_)
        return type_

    def _forget(self, manifold: str) -> None:
        for state in _STATES:
            self._state.remove(manifold, str(state))
        for type_ in self._failed.pop(manifold, ()):
            self._failures.remove(manifold, type_)
        for metric in (self._starts, self._restarts, self._start, self._stop):
            metric.labels(manifold)  # made if it is not there, so that it can be removed
            metric.remove(manifold)
