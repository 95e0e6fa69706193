"""Keeping and logging the ends of runs: each once, at the level it deserves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._groups import describe
from ._node import places_of, span
from ._states import Event, State
from ._verdicts import Kind, judged

if TYPE_CHECKING:
    from ._node import Node, Run

_parent = logging.getLogger("trioworker.engine")

_LEVELS = {
    Kind.FATAL: logging.ERROR,
    Kind.ERROR: logging.ERROR,
    Kind.DYING: logging.INFO,
    Kind.UNINSTALL: logging.INFO,
    Kind.MISSING: logging.INFO,
    Kind.RETRY: logging.INFO,
    Kind.BOUNCE: logging.INFO,
    Kind.RETURNED: logging.DEBUG,
}


def record(run: Run, kind: Kind, error: BaseException | None, now: float, keep: int) -> None:
    """Add the end of `run` to the history of its node, of which the latest `keep` are kept.

    ``node.why`` describes `error` already.
    """
    node = run.node
    where = () if error is None else places_of(error)
    was_ready = run.ready is not None
    entry = (
        now,
        _told(run, kind),
        node.why,
        where,
        run.cause,
        now - run.began,
        was_ready,
        node.origin,
    )
    kept = node.history if len(node.history) < keep else node.history[1:]
    node.history = (*kept, entry) if keep else ()


def what_ended(
    run: Run, kind: Kind, error: BaseException | None, now: float
) -> tuple[str, str, type[BaseException] | None, float | None]:
    """Return what `Metrics.end` is told of `run`, which is still in its last state."""
    node = run.node
    leaf = judged(error)[1]
    stopping = run.planned and node.state is State.STOPPING
    return (
        node.name,
        _told(run, kind),
        None if leaf is None else type(leaf),
        now - node.since if stopping else None,
    )


def _told(run: Run, kind: Kind) -> str:
    return "stopped" if run.planned and kind is Kind.RETURNED else kind


def _write(
    name: str, level: int, message: str, *args: object, error: Exception | None = None
) -> None:
    """Write a line to the logger of the manifold `name`, with the traceback of `error`.

    ``logging`` keeps every logger for ever, and making one costs as much as half a restart. So one
    that nobody has asked for is not made: the engine's own writes the line, under its name.
    """
    own = f"{_parent.name}.{name}"
    logger = _parent.manager.loggerDict.get(own)
    if isinstance(logger, logging.Logger):
        logger.log(level, message, *args, exc_info=error)
        return
    told = None if error is None else (type(error), error, error.__traceback__)
    place = _parent.findCaller()
    record = _parent.makeRecord(own, level, *place[:2], message, args, told, place[2])
    _parent.handle(record)


def _is_wanted(name: str, level: int) -> bool:
    logger = _parent.manager.loggerDict.get(f"{_parent.name}.{name}")
    return (logger if isinstance(logger, logging.Logger) else _parent).isEnabledFor(level)


def log(node: Node, kind: Kind, error: BaseException | None, event: Event, delay: float) -> None:
    """Log how a run of `node` ended and what follows."""
    level, name = _LEVELS[kind], node.name
    if not _is_wanted(name, level):
        return
    if error is None:
        _write(name, level, '"%s" manifold returned, and %s', name, _next(event, delay))
    else:
        what = "failed" if level == logging.ERROR else "ended"
        # An interrupt is raised in the end, and whoever sent it needs no traceback of it.
        told = error if level == logging.ERROR and isinstance(error, Exception) else None
        _write(
            name,
            level,
            '"%s" manifold %s, and %s: %s',
            name,
            what,
            _next(event, delay),
            describe(error),
            error=told,
        )


def log_stuck(run: Run) -> None:
    """Log that `run` does not end although it was cancelled, and where it stands."""
    name = run.node.name
    if _is_wanted(name, logging.ERROR):
        _write(
            name,
            logging.ERROR,
            '"%s" manifold is stuck: cancelled %s s ago and still running; it stands at\n  %s',
            name,
            run.manifold.stop_timeout,
            "\n  ".join(run.stuck or ()) or "an unknown place",
        )


def _next(event: Event, delay: float) -> str:
    if event is Event.LATER:
        return f"starts again in {span(delay)}"
    return _NEXT[event]


_NEXT = {
    Event.AGAIN: "starts again when its inputs allow",
    Event.RETURN: "is done",
    Event.GIVE_UP: "was restarted too often: it stays failed",
    Event.HOLD: "is held",
    Event.SHUT_DOWN: "is stopped with its engine",
    Event.REMOVE: "is uninstalled",
}
