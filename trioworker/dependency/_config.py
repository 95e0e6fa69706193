"""What an engine can be told: one frozen config that checks itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import attrs

from .._restart import RestartPolicy
from .._util import check_sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._metrics import Metrics

_METRICS = ("state", "start", "ready", "end")


def never(exc: BaseException) -> bool:  # noqa: ARG001 - the signature of is_fatal
    """Say that no error is fatal: the default, because restarting is what an engine is for."""
    return False


def first(a: BaseException, b: BaseException) -> BaseException:  # noqa: ARG001 - of worst_error
    """Say that the earlier of two fatal errors is the worse: the default."""
    return a


@final
@attrs.frozen(kw_only=True)
class EngineConfig:
    """How an engine behaves.

    What each field means is told in the reference, under "The engine".

    Raises:
        TypeError, ValueError: a field is not usable; the message names it.
    """

    name: str = "engine"
    """What to call it in messages, reports and task names."""
    restart: RestartPolicy = attrs.field(factory=RestartPolicy)
    """When to start again what failed; a manifold's own policy replaces it."""
    is_fatal: Callable[[BaseException], bool] = never
    """Whether an error stops the engine; asked for each leaf of a group. If it raises, that is
    fatal."""
    worst_error: Callable[[BaseException, BaseException], BaseException] = first
    """Which of two fatal errors ``run()`` and ``wait()`` raise."""
    filter: Callable[[Exception], BaseException | None] | None = None
    """Translates what ends a run, after the manifold's own filter; see `Manifold.filter`."""
    on_failed: Literal["report", "fatal"] = "report"
    """What a manifold that was restarted too often does: show as failed, or stop the engine."""
    history: int = 16
    """How many ends are kept for each manifold."""
    metrics: Metrics | None = None
    """Is told about every run: something with the four methods of `Metrics`."""

    def __attrs_post_init__(self) -> None:
        # As objects: the annotations are the caller's promise, and this is where it is checked.
        fields: dict[str, object] = {
            f.name: getattr(self, f.name) for f in attrs.fields(EngineConfig)
        }
        if not isinstance(fields["name"], str) or not self.name:
            raise TypeError(_wrong("name", "a string that is not empty", self.name))
        if not isinstance(fields["restart"], RestartPolicy):
            raise TypeError(_wrong("restart", "a RestartPolicy", self.restart))
        for name in ("is_fatal", "worst_error"):
            if isinstance(fields[name], type):  # is_fatal=OSError would make all errors fatal
                raise TypeError(_wrong(name, "a function of the error", fields[name]))
            check_sync(f"EngineConfig({name}=...)", fields[name])
        if fields["filter"] is not None:
            check_sync("EngineConfig(filter=...)", fields["filter"])
        if fields["on_failed"] not in ("report", "fatal"):
            raise ValueError(_wrong("on_failed", '"report" or "fatal"', self.on_failed))
        if isinstance(fields["history"], bool) or not isinstance(fields["history"], int):
            raise TypeError(_wrong("history", "a number of ends to keep", self.history))
        missing = [name for name in _METRICS if not hasattr(self.metrics, name)]
        if self.metrics is not None and missing:
            wanted = f"an object with the methods of Metrics, {', '.join(missing)} included"
            raise TypeError(_wrong("metrics", wanted, self.metrics))
        if self.history < 0:
            raise ValueError(_wrong("history", "at least 0", self.history))


def _wrong(field: str, wanted: str, value: object) -> str:
    return f"EngineConfig({field}=...) must be {wanted}, not {value!r}"


def checked(config: object) -> EngineConfig:
    """Return `config`, or the default for None.

    Raises:
        TypeError: it is no EngineConfig; the message shows the right call.
    """
    if config is None:
        return EngineConfig()
    if not isinstance(config, EngineConfig):
        msg = f"Engine() takes an EngineConfig, not {config!r}; write Engine(EngineConfig(...))"
        raise TypeError(msg)
    return config
