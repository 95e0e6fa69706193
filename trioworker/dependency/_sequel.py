"""What follows the end of a run: the policy, apart from the transitions that carry it out.

Asked once for each end. The first that has an answer wins: what the node is meant for (to be held,
uninstalled, shut down), an engine that wanted this end, the verdict, the restart policy. The time
and the random numbers are given; what is changed is the node's count of failures and restarts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._groups import leaves
from .._restart import Restarts
from ._states import Event
from ._verdicts import Kind, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._restart import RestartPolicy
    from ._node import Run


def sequel(
    run: Run,
    verdict: tuple[Kind, BaseException | None],
    policy: RestartPolicy,
    now: float,
    random: Callable[[], float],
) -> tuple[Event, float]:
    """Return what follows the end of `run`, and the delay in seconds before it.

    Args:
        run: which has ended; its node still knows it.
        verdict: how its end counts, and for what error.
        policy: the manifold's, or the engine's.
        now: in seconds.
        random: gives numbers in [0, 1), for the jitter.
    """
    node = run.node
    kind, error = verdict
    health = 0.0 if run.ready is None else now - run.ready
    if node.restarts is not None and health >= policy.reset_after:
        node.restarts.failures = 0  # health counts, whatever has ended it
    resting = _RESTING[node.intention]
    if resting is not None:
        return resting, 0.0
    if run.planned or kind is Kind.MISSING:
        return Event.AGAIN, 0.0
    if kind is Kind.RETURNED:
        return (Event.AGAIN if node.changed else Event.RETURN), 0.0
    restarts = node.restarts = node.restarts or Restarts()
    spread = 2 * random() - 1
    if kind is Kind.RETRY and error is not None:
        retry = next(leaf for leaf in leaves(error) if isinstance(leaf, RetryAfter))
        return _later(retry.seconds)
    if kind is Kind.DYING:
        return _later(restarts.current_delay(policy, spread))
    if kind is Kind.BOUNCE:
        delay = policy.bounce_delay
    else:
        delay = restarts.error_delay(policy, health, spread)
    return (Event.GIVE_UP, 0.0) if restarts.over_limit(policy, now) else _later(delay)


def _later(delay: float) -> tuple[Event, float]:
    return (Event.AGAIN, 0.0) if delay <= _INSTANT else (Event.LATER, delay)


_INSTANT = 1e-6
"""Seconds that are no delay: a timer would take longer to set."""

# By intention: what a run, or having none, leads to, whatever its end was.
_RESTING = (None, Event.HOLD, Event.REMOVE, Event.SHUT_DOWN)
