"""What a runner is told about errors, and how it asks.

A `RunnerConfig` holds three questions. They are about exceptions, and what a worker raises may be a
group or no ``Exception`` at all: the functions below ask rightly, for each leaf, and do not ask
where the answer is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

import attrs

from ._groups import leaves
from ._restart import RestartPolicy
from ._util import check_seconds, check_sync


def every(error: Exception) -> bool:  # noqa: ARG001 - the type of a predicate
    """Say yes to every error."""
    return True


def first(a: Exception, b: Exception) -> Exception:  # noqa: ARG001 - the type of a choice
    """Choose the error that came first."""
    return a


@final
@attrs.frozen(kw_only=True)
class RunnerConfig:
    """What a `Runner` does about errors.

    The three functions are asked in the task of the worker that failed; they must not block, and
    may call any method of the runner that is not async. One that raises is a fatal error itself.

    Raises:
        TypeError: a field has the wrong type, or a function is async.
        ValueError: `name` is empty, or `stop_timeout` negative or NaN.
    """

    name: str = "runner"
    """What the runner is called in messages and reports."""
    is_fatal: Callable[[Exception], bool] = every
    """Whether an error ends the runner; asked for each leaf of a group. Every error, by default.

    What is no ``Exception`` (`KeyboardInterrupt`, `SystemExit`) is fatal without asking.
    """
    should_restart: Callable[[Exception], bool] = every
    """Whether an error that is not fatal restarts its worker, or removes it; asked for each leaf of
    a group, and one "no" is enough. Every error restarts, by default."""
    more_important: Callable[[Exception, Exception], Exception] = first
    """Which error the runner should raise: the first, by default.

    It is given the most important one so far (a reason passed to ``kill()`` included) and a later
    fatal one, and returns one of them.
    """
    restart: RestartPolicy = attrs.field(factory=RestartPolicy)
    """How soon and how often. One restart more than `max_restarts` within `period` is fatal."""
    stop_timeout: float = 10.0
    """Seconds between asking a worker to stop and cancelling it; infinity never cancels."""

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"RunnerConfig(name=...) must be a string, not {self.name!r}")
        if not self.name:
            raise ValueError("RunnerConfig(name=...) must not be empty")
        for field in ("is_fatal", "should_restart", "more_important"):
            check_sync(f"RunnerConfig({field}=...)", getattr(self, field))
        if not isinstance(self.restart, RestartPolicy):
            raise TypeError(
                f"RunnerConfig(restart=...) must be a RestartPolicy, not {self.restart!r}"
            )
        check_seconds("RunnerConfig(stop_timeout=...)", self.stop_timeout, inf=True)


def is_fatal(config: RunnerConfig, error: BaseException) -> bool:
    """Say whether `error` ends the runner: no ``Exception``, or one leaf is enough."""
    # A group with a leaf that is no Exception is none either.
    return not isinstance(error, Exception) or any(map(config.is_fatal, _exceptions(error)))


def should_restart(config: RunnerConfig, error: BaseException) -> bool:
    """Say whether `error`, which is not fatal, restarts its worker: all leaves have to agree."""
    return all(map(config.should_restart, _exceptions(error)))


def outranks(config: RunnerConfig, error: BaseException, worst: BaseException) -> bool:
    """Say whether `error` is more important than `worst`, which came before it.

    Only asked of two ``Exception``s: what is none counts for more, which every tomb knows.

    Raises:
        TypeError: `more_important` returned neither of the two.
    """
    if not (isinstance(error, Exception) and isinstance(worst, Exception)):
        return False
    chosen = config.more_important(worst, error)
    if chosen is not worst and chosen is not error:
        raise TypeError(
            f"RunnerConfig(more_important=...) must return one of its two arguments, not {chosen!r}"
        )
    return chosen is error


def _exceptions(error: BaseException) -> Iterator[Exception]:
    return (leaf for leaf in leaves(error) if isinstance(leaf, Exception))
