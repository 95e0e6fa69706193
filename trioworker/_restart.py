"""When to start a worker again: numbers only.

A `RestartPolicy` is what the user wants, a `Restarts` what one worker's restarts have been. Neither
sleeps, asks a clock or throws a dice: the owner of the worker measures how long it was healthy and
what time it is, draws the spread, and sleeps for what comes out. So all of it is arithmetic, and an
hour of backoff is tested in a microsecond.

Two brakes, independent of each other:

- **Delay** grows with every consecutive error and is forgotten after a time of health. The spread
  keeps workers that failed together from coming back together.
- **Intensity** counts restarts in a sliding window and says when there were too many. It keeps the
  times of the latest ``max_restarts + 1`` and nothing else: if the oldest of them is still in the
  window, the limit was exceeded.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import final

import attrs

from ._util import check_seconds

# Half of what a float can hold, so that no spread turns the longest delay into infinity.
_LONGEST = sys.float_info.max / 2


@final
@attrs.frozen(kw_only=True)
class RestartPolicy:
    """How soon and how often a worker is started again. Times are in seconds.

    Raises:
        TypeError: a field is not a number, or `max_restarts` no integer.
        ValueError: a field is out of its range, or `max_delay` below `error_delay`.
    """

    error_delay: float = 1.0
    """Delay in seconds after the first error; 0 starts again at once."""
    factor: float = 1.5
    """What each further consecutive error multiplies the delay with, at least 1."""
    max_delay: float = 60.0
    """The longest delay in seconds, before jitter; may be infinite."""
    jitter: float = 0.1
    """How far a delay is spread, as a part of it from 0 to 1: 0.1 means 10 % up or down."""
    reset_after: float = 60.0
    """Seconds of health after which earlier errors no longer count; may be infinite."""
    bounce_delay: float = 0.01
    """Seconds before a worker that asked to be restarted is; not 0, or it could spin."""
    max_restarts: int | None = None
    """How many restarts `period` may see before it is one too many; ``None`` for no limit."""
    period: float = 60.0
    """Length in seconds of the window that `max_restarts` is about; may be infinite."""

    def __attrs_post_init__(self) -> None:
        self._check_seconds("error_delay", self.error_delay)
        self._check_number("factor", self.factor, 1, math.inf, "at least 1")
        self._check_seconds("max_delay", self.max_delay, inf=True)
        self._check_number("jitter", self.jitter, 0, 1, "from 0 to 1")
        self._check_seconds("reset_after", self.reset_after, inf=True)
        self._check_seconds("bounce_delay", self.bounce_delay, zero=False)
        self._check_max_restarts()
        self._check_seconds("period", self.period, zero=False, inf=True)
        if self.max_delay < self.error_delay:
            raise ValueError(
                f"RestartPolicy(error_delay={self.error_delay!r}, max_delay={self.max_delay!r}): "
                "max_delay must be at least error_delay"
            )

    def _check_seconds(
        self, field: str, value: float, *, zero: bool = True, inf: bool = False
    ) -> None:
        check_seconds(f"RestartPolicy({field}={value!r}): {field}", value, zero=zero, inf=inf)

    def _check_number(
        self, field: str, value: float, least: float, most: float, wanted: str
    ) -> None:
        where = f"RestartPolicy({field}={value!r}): {field}"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{where} must be a number, {wanted}")
        if not least <= value <= most:  # NaN is nowhere
            raise ValueError(f"{where} must be {wanted}")
        if math.isinf(value):
            raise ValueError(f"{where} must be finite")

    def _check_max_restarts(self) -> None:
        value = self.max_restarts
        where = f"RestartPolicy(max_restarts={value!r}): max_restarts"
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{where} must be an int of at least 0, or None for no limit")
        if value < 0:
            raise ValueError(f"{where} must be at least 0, or None for no limit")


@final
class Restarts:
    """What one worker's restarts have been. The policy is passed in each time, so it may change.

    Attributes:
        failures: consecutive errors so far, that is without a time of health between them.
    """

    __slots__ = ("_times", "failures")

    def __init__(self) -> None:
        self.failures: int = 0
        # When the latest restarts were, oldest first; at most max_restarts + 1 of them. None until
        # a policy has a limit: most have not, and an empty deque weighs more than all the rest.
        self._times: deque[float] | None = None

    def error_delay(self, policy: RestartPolicy, healthy: float, spread: float) -> float:
        """Count an error and return how long to wait before the next start, in seconds.

        Args:
            policy: what the user wants.
            healthy: seconds that the run was healthy before the error ended it.
            spread: where in the jitter this delay lies, from -1 to 1; drawn by the caller.
        """
        if healthy >= policy.reset_after:
            self.failures = 0
        self.failures += 1
        return self.current_delay(policy, spread)

    def current_delay(self, policy: RestartPolicy, spread: float) -> float:
        """Return the delay of an error that is not counted: that of the last one that was.

        Args:
            policy: what the user wants.
            spread: as for `error_delay`.
        """
        delay = _grown(policy.error_delay, policy.factor, max(self.failures, 1) - 1)
        return min(delay, policy.max_delay, _LONGEST) * (1 + spread * policy.jitter)

    def over_limit(self, policy: RestartPolicy, now: float) -> bool:
        """Record a restart at `now`, and say whether it is one too many.

        A restart leaves the window exactly `period` seconds after it entered.
        """
        if policy.max_restarts is None:
            self._times = None
            return False
        if self._times is None:
            self._times = deque()
        times = self._times
        times.append(now)
        while len(times) > policy.max_restarts + 1 or now - times[0] >= policy.period:
            times.popleft()
        return len(times) > policy.max_restarts

    def forgive(self) -> None:
        """Forget the restarts in the window, so that the limit counts from 0. Delays stay."""
        self._times = None

    def __repr__(self) -> str:
        return f"<Restarts failures={self.failures} in_window={len(self._times or ())}>"


def _grown(delay: float, factor: float, times: int) -> float:
    if delay == 0:
        return 0.0  # which no power makes any longer, and 0 * inf would be NaN
    try:
        return delay * float(factor) ** times  # float: 2 ** 10**6 would be an int of a megabit
    except OverflowError:
        return math.inf
