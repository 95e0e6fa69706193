"""How far the migration of a model is, as a flag: no migration is under way, say.

In an agent file::

    [manifolds.migration-inactive-flag]
    use = "trioworker.workers.coordination.migrationflag:manifold"
    inputs = { migrations = "controller" }
    config = { model = "deadbeef-1bad-500d-9000-4b1d0d06f00d" }

It needs somebody who knows migrations: a manifold that offers `Migrations`. It is a
`trioworker.patterns.SampledFlag`, so it looks at the phase before it is ready, watches, looks again
at each event, and ends with `trioworker.patterns.FlagChanged` when the answer is another; its
manifold makes a bounce of that.

A model that nobody knows is an error like any other: unlike the life of an entity, its end is not
the flag's to tell.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import attrs

from trioworker import Manifold, Watcher
from trioworker.patterns import Flag, FlagChanged, SampledFlag, as_flag, bounce_on

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["Config", "Migrations", "Phase", "TERMINAL", "is_terminal", "manifold"]


@final
class Phase(enum.StrEnum):
    """How far a migration is."""

    UNKNOWN = "unknown"
    NONE = "none"
    QUIESCE = "quiesce"
    IMPORT = "import"
    SUCCESS = "success"
    REAP = "reap"
    REAPFAILED = "reapfailed"
    DONE = "done"
    ABORT = "abort"
    ABORTDONE = "abortdone"


TERMINAL: frozenset[Phase] = frozenset(
    {Phase.UNKNOWN, Phase.NONE, Phase.REAPFAILED, Phase.DONE, Phase.ABORTDONE}
)
"""The phases in which no migration is under way."""


def is_terminal(phase: Phase) -> bool:
    """Whether no migration is under way in `phase`."""
    return phase in TERMINAL


@runtime_checkable
class Migrations(Protocol):
    """Who knows how far migrations are."""

    async def phase(self, model: str) -> Phase:
        """Return the phase of the latest migration of `model`."""
        ...

    async def watch_phase(self, model: str) -> Watcher[object]:
        """Return a watcher of the phase of `model`, that nobody runs yet."""
        ...


def _known(config: Config, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    try:
        is_uuid = str(uuid.UUID(value)) == value.lower()
    except ValueError:
        is_uuid = False
    if not is_uuid:
        raise ValueError(f"model must be a UUID, not {value!r}")


def _states(value: Iterable[Phase]) -> frozenset[Phase]:
    return frozenset(value)


def _some(config: Config, attribute: Any, value: frozenset[Phase]) -> None:  # noqa: ARG001 - of attrs
    if not value or value == frozenset(Phase):
        raise ValueError(
            "true_when must have some phases and not all: otherwise the flag is always the same"
        )


@final
@attrs.frozen(kw_only=True)
class Config:
    """Whose migration it is, and which of its phases make the flag true.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    model: str = attrs.field(validator=_known)
    """The model's UUID."""
    true_when: frozenset[Phase] = attrs.field(default=TERMINAL, converter=_states, validator=_some)
    """The phases in which the flag is true; by default those in which no migration is under way."""


@final
class _OnePhase:
    """The phase of one model, as a watched value."""

    def __init__(self, migrations: Migrations, model: str) -> None:
        self._migrations = migrations
        self._model = model

    async def read(self) -> Phase:
        return await self._migrations.phase(self._model)

    async def watch(self) -> Watcher[object]:
        return await self._migrations.watch_phase(self._model)


def manifold(config: Config) -> Manifold:
    """Return the manifold of the flag; its one input is ``migrations``. It offers `Flag`.

    Args:
        config: whose migration, and when the flag is true.
    """

    def flag(get: Getter) -> SampledFlag[Phase]:
        value = _OnePhase(get("migrations", Migrations), config.model)
        return SampledFlag(value, config.true_when.__contains__, name="migration-flag")

    return Manifold.from_worker(
        flag, inputs=("migrations",), outputs={Flag: as_flag}, filter=bounce_on(FlagChanged)
    )
