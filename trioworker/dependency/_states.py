"""The states of a manifold, as a table. Nothing else moves them.

::

    absent ─▶ waiting ─▶ starting ─▶ started ─▶ draining ─▶ stopping
                 ▲          │           │           │           │
                 │          └───────────┴───────────┴───────────┴─▶ where the end leads:
                 │                                                  waiting  again, when it can
                 └── delayed, done, failed, held ◀───────────────── delayed  again, but later
                                                                    done     it returned
                                                                    failed   restarted too often
                                                                    held     by an operator
                                                                    stopped  with the engine
                                                                    absent   uninstalled

A manifold has a **run** (a task) exactly in the four states of `RUNNING`. What a transition means
for the neighbours is the engine's business; whether it is allowed is decided here: a pair of state
and event that the table does not have is refused, and changes nothing.

Beside the state a manifold has one `Intention` for after its end. It is not in the table, because
it moves nothing: it is looked up when a run ends.

`ABSENT` is the state of a name that is not installed but that somebody depends on, so that waiting
for what is not there yet is a wait like any other.
"""

from __future__ import annotations

import enum
from typing import final

from .._errors import InternalError


@final
class State(enum.StrEnum):
    """Where a manifold stands; each equals its lower-case name as a string."""

    ABSENT = "absent"
    """Not installed."""
    WAITING = "waiting"
    """For its inputs, or, after `Missing`, for a change of one."""
    DELAYED = "delayed"
    """Until its delay is over: after an error, `Bounce` or `RetryAfter`."""
    STARTING = "starting"
    """Its start function runs and has not called ``started()`` yet."""
    STARTED = "started"
    """Ready: its output can be had."""
    DRAINING = "draining"
    """To be stopped, once those that use it have ended."""
    STOPPING = "stopping"
    """Asked or cancelled; its run has not ended yet."""
    DONE = "done"
    """Its run returned without error."""
    FAILED = "failed"
    """Restarted too often; an operator's ``restart()`` tries again."""
    HELD = "held"
    """Stopped by an operator until ``release()``."""
    STOPPED = "stopped"
    """The engine is stopping or dead."""

    # Enum's own hash is a Python function; ours are dictionary keys on the hottest path.
    __hash__ = str.__hash__


@final
class Event(enum.StrEnum):
    """What can happen to a manifold."""

    INSTALL = "install"
    WAKE = "wake"
    """A delay is over or was cut short, or an input of one that is done has changed."""
    RESTART = "restart"
    """An operator's, while there is no run."""
    RELEASE = "release"
    START = "start"
    READY = "ready"
    """``started()`` was called."""
    STOP = "stop"
    """The engine wants the run to end."""
    DRAINED = "drained"
    """Nobody uses it any more."""
    FALL = "fall"
    """The run is ending by itself: an error is on its way out, or its start took too long."""
    # The ends of a run, or of having none, by what comes after:
    AGAIN = "again"
    LATER = "later"
    RETURN = "return"
    GIVE_UP = "give up"
    HOLD = "hold"
    SHUT_DOWN = "shut down"
    REMOVE = "remove"

    __hash__ = str.__hash__


@final
class Intention(enum.IntEnum):
    """What comes after the end of a run. A verb raises it; only ``release()`` lowers hold."""

    AGAIN = 0
    HOLD = 1
    UNINSTALL = 2
    SHUTDOWN = 3


S, E = State, Event

_END = {
    E.AGAIN: S.WAITING,
    E.LATER: S.DELAYED,
    E.RETURN: S.DONE,
    E.GIVE_UP: S.FAILED,
    E.HOLD: S.HELD,
    E.SHUT_DOWN: S.STOPPED,
    E.REMOVE: S.ABSENT,
}
_NO_RUN = {E.HOLD: S.HELD, E.SHUT_DOWN: S.STOPPED, E.REMOVE: S.ABSENT}

TABLE: dict[State, dict[Event, State]] = {
    S.ABSENT: {E.INSTALL: S.WAITING},
    # RESTART here: Missing is forgotten.
    S.WAITING: {E.START: S.STARTING, E.RESTART: S.WAITING, **_NO_RUN},
    S.DELAYED: {E.WAKE: S.WAITING, E.RESTART: S.WAITING, **_NO_RUN},
    S.STARTING: {E.READY: S.STARTED, E.STOP: S.DRAINING, E.FALL: S.STOPPING, **_END},
    S.STARTED: {E.STOP: S.DRAINING, E.FALL: S.STOPPING, **_END},
    # READY in the next two: started() came after we were asked to stop. Accepted and ignored.
    S.DRAINING: {
        E.READY: S.DRAINING,
        E.STOP: S.DRAINING,
        E.DRAINED: S.STOPPING,
        E.FALL: S.STOPPING,
        **_END,
    },
    S.STOPPING: {E.READY: S.STOPPING, E.STOP: S.STOPPING, E.FALL: S.STOPPING, **_END},
    S.DONE: {E.WAKE: S.WAITING, E.RESTART: S.WAITING, **_NO_RUN},
    S.FAILED: {E.RESTART: S.WAITING, **_NO_RUN},
    S.HELD: {E.RELEASE: S.WAITING, E.HOLD: S.HELD, E.SHUT_DOWN: S.STOPPED, E.REMOVE: S.ABSENT},
    S.STOPPED: {E.SHUT_DOWN: S.STOPPED, E.REMOVE: S.ABSENT},
}

RUNNING = frozenset({S.STARTING, S.STARTED, S.DRAINING, S.STOPPING})
"""The states in which a manifold has a run."""

MOVING = frozenset({S.DELAYED, S.STARTING, S.DRAINING, S.STOPPING})
"""The states that will be left without anybody's doing; an engine without one is settled."""

BUSY = frozenset({S.STARTING, S.DRAINING, S.STOPPING})
"""The states of an optional input for which a start waits: it is about to come, or back."""


def impossible(name: str, state: State, event: Event) -> InternalError:
    """Return the error of a pair that `TABLE` does not have."""
    msg = f'"{name}" manifold: "{event}" is impossible while it is {state}; please report this'
    return InternalError(msg)
