"""What an engine does, counted for Prometheus: the hook for ``EngineConfig(metrics=...)``.

Labels are bounded: a manifold's are removed when it is uninstalled, and after `MOST_TYPES` types of
exceptions all further ones are called ``other``. Only the text is made here: who serves it is the
program's business.

::

    metrics = PrometheusMetrics()
    engine = Engine(EngineConfig(metrics=metrics))
    ...
    body = metrics.text()  # to be served under metrics.content_type

A manifold has some fifty lines of text, so a program of a thousand has fifty thousand. With the
objects of prometheus-client, one for each line, that takes 400 ms; so here are plain numbers, whose
text comes piece by piece (`PrometheusMetrics.parts`), and whoever serves it may pause in between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TypeAlias, final

from trioworker.dependency import State

__all__ = ["PrometheusMetrics"]

MOST_TYPES = 50
"""So many types of exceptions have a label of their own."""

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds, in which durations are counted; what took longer is in the last bucket, ``+Inf``."""

_STATES = tuple(state for state in State if state is not State.ABSENT)
_LE = tuple(f'le="{bound}"' for bound in (*BOUNDS, "+Inf"))


@final
class _Durations:
    """Counted by how long they were."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_LE)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def lines(self, name: str, labels: str) -> str:
        """Return the lines of one histogram; `labels` end in a comma, or are empty."""
        counts = list(accumulate(self.counts))
        plain = f"{{{labels[:-1]}}}" if labels else ""
        ends = f"{name}_count{plain} {counts[-1]}\n{name}_sum{plain} {self.seconds}\n"
        head = f"{name}_bucket{{{labels}"
        buckets = [f"{head}{le}}} {n}\n" for le, n in zip(_LE, counts, strict=True)]
        return "".join(buckets) + ends


@final
class _Counts:
    """What is known of one manifold."""

    __slots__ = ("failures", "label", "restarts", "start", "starts", "state", "stop")

    def __init__(self, manifold: str) -> None:
        self.label = f'manifold="{_quoted(manifold)}"'
        self.starts = 0
        self.restarts = 0
        self.failures: dict[str, int] = {}
        self.state: State | None = None
        self.start = _Durations()
        self.stop = _Durations()


_Lines: TypeAlias = Callable[[str, _Counts], str]


@final
class PrometheusMetrics:
    """A hook for `EngineConfig.metrics`; one for each engine."""

    content_type: str = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._manifolds: dict[str, _Counts] = {}
        self._types: set[str] = set()
        self._dropped = 0
        self._stalls = _Durations()

    def state(self, manifold: str, before: State, after: State) -> None:  # noqa: ARG002 - the hook's
        """See `Metrics.state`."""
        if after is State.ABSENT:
            self._manifolds.pop(manifold, None)
        else:
            self._of(manifold).state = after

    def start(self, manifold: str, nth: int) -> None:
        """See `Metrics.start`."""
        counts = self._of(manifold)
        counts.starts += 1
        if nth > 1:
            counts.restarts += 1

    def ready(self, manifold: str, seconds: float) -> None:
        """See `Metrics.ready`."""
        self._of(manifold).start.observe(seconds)

    def end(
        self,
        manifold: str,
        kind: str,
        error: type[BaseException] | None,
        stop_seconds: float | None,
    ) -> None:
        """See `Metrics.end`."""
        counts = self._of(manifold)
        if stop_seconds is not None:
            counts.stop.observe(stop_seconds)
        if error is not None and kind in {"error", "fatal"}:
            type_ = self._bounded(error.__qualname__)
            counts.failures[type_] = counts.failures.get(type_, 0) + 1

    def drop(self) -> None:
        """A reader of events has lost one."""
        self._dropped += 1

    def stall(self, seconds: float) -> None:
        """The event loop was blocked for so many `seconds`."""
        self._stalls.observe(seconds)

    def text(self) -> bytes:
        """Return all metrics as they are now."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """Yield the text of all metrics piece by piece, each as it is when it is asked for."""
        for name, type_, told, lines in _FAMILIES:
            yield _head(name, type_, told)
            for counts in tuple(self._manifolds.values()):
                # A name may have half of a surrogate pair, which no encoding has.
                yield lines(name, counts).encode("utf-8", "replace")
        name = "trioworker_events_dropped_total"
        yield _head(name, "counter", "Events that slow readers lost.")
        yield f"{name} {self._dropped}\n".encode()
        name = "trioworker_loop_stall_seconds"
        yield _head(name, "histogram", "For how long the event loop was blocked.")
        yield self._stalls.lines(name, "").encode()

    def _of(self, manifold: str) -> _Counts:
        counts = self._manifolds.get(manifold)
        if counts is None:
            counts = self._manifolds[manifold] = _Counts(manifold)
        return counts

    def _bounded(self, type_: str) -> str:
        if type_ not in self._types:
            if len(self._types) >= MOST_TYPES:
                return "other"
            self._types.add(type_)
        return type_


def _head(name: str, type_: str, told: str) -> bytes:
    return f"# HELP {name} {told}\n# TYPE {name} {type_}\n".encode()


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _failures(name: str, of: _Counts) -> str:
    return "".join(
        [f'{name}{{{of.label},type="{_quoted(t)}"}} {n}\n' for t, n in of.failures.items()]
    )


def _state(name: str, of: _Counts) -> str:
    return "".join(
        [f'{name}{{{of.label},state="{s}"}} {1 if s is of.state else 0}\n' for s in _STATES]
    )


_FAMILIES: tuple[tuple[str, str, str, _Lines], ...] = (
    (
        "trioworker_manifold_starts_total",
        "counter",
        "Runs begun.",
        lambda name, of: f"{name}{{{of.label}}} {of.starts}\n",
    ),
    (
        "trioworker_manifold_restarts_total",
        "counter",
        "Runs after the first.",
        lambda name, of: f"{name}{{{of.label}}} {of.restarts}\n",
    ),
    ("trioworker_manifold_failures_total", "counter", "Runs ended by an error.", _failures),
    ("trioworker_manifold_state", "gauge", "1 for the present state.", _state),
    (
        "trioworker_manifold_start_duration_seconds",
        "histogram",
        "From start to readiness.",
        lambda name, of: of.start.lines(name, f"{of.label},"),
    ),
    (
        "trioworker_manifold_stop_duration_seconds",
        "histogram",
        "From being asked to the end.",
        lambda name, of: of.stop.lines(name, f"{of.label},"),
    ),
)
