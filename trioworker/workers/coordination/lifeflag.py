"""Whether an entity is alive, dying or dead, as a flag.

In an agent file::

    [manifolds.not-dead-flag]
    use = "trioworker.workers.coordination.lifeflag:manifold"
    inputs = { lives = "model" }
    config = { entity = "machine-3", true_when = ["alive", "dying"] }

It needs somebody who knows lives: a manifold that offers `Lives`. It is a
`trioworker.patterns.SampledFlag`, so it looks at the life before it is ready, watches, looks again
at each event, and ends with `trioworker.patterns.FlagChanged` when the answer is another; its
manifold makes a bounce of that.

**An entity that is not there**, at first or any more, is `EntityNotFound`: an error, which is
fatal if the engine's ``is_fatal`` says so. With ``not_found_is_dead`` it counts as dead instead,
and what is dead stays dead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Manifold, NotFound, Tomb, TrioworkerError, Watcher
from trioworker.patterns import (
    Flag,
    FlagChanged,
    FlagReport,
    SampledFlag,
    as_flag,
    bounce_on,
    named,
)

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["Config", "EntityNotFound", "Life", "LifeFlag", "Lives", "manifold"]


@final
class Life(enum.StrEnum):
    """How it is with an entity."""

    ALIVE = "alive"
    DYING = "dying"
    DEAD = "dead"


@runtime_checkable
class Lives(Protocol):
    """Who knows how it is with entities."""

    async def life(self, entity: str) -> Life:
        """Return how it is with `entity` now.

        Raises:
            trioworker.NotFound: there is no such entity (any more).
        """
        ...

    async def watch_life(self, entity: str) -> Watcher[object]:
        """Return a watcher of the life of `entity`, that nobody runs yet.

        It may end with `trioworker.NotFound` as well.

        Raises:
            trioworker.NotFound: there is no such entity (any more).
        """
        ...


class EntityNotFound(TrioworkerError):
    """There is no such entity, or not any more."""


def _states(value: Iterable[Life]) -> frozenset[Life]:
    return frozenset(value)


def _some(config: Config, attribute: Any, value: frozenset[Life]) -> None:  # noqa: ARG001 - of attrs
    if not value or value == frozenset(Life):
        raise ValueError(
            "true_when must have one or two of 'alive', 'dying', 'dead': otherwise the flag is "
            "always the same"
        )


@final
@attrs.frozen(kw_only=True)
class Config:
    """Whose life it is, and which of its states make the flag true.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    entity: str = attrs.field(validator=named)
    """What `Lives` is asked about."""
    true_when: frozenset[Life] = attrs.field(converter=_states, validator=_some)
    """The states in which the flag is true."""
    not_found_is_dead: bool = False
    """Whether an entity that is not there counts as dead."""


@final
class LifeFlag:
    """Whether `predicate` holds of the life of `entity`.

    Ends with `trioworker.patterns.FlagChanged`, with `EntityNotFound`, or with what `lives` raises.

    Args:
        lives: who knows.
        entity: whose life.
        predicate: what to ask of it; not called before a life is known.
        not_found_is_dead: whether an entity that is not there counts as dead.
        name: what to call it in messages.
    """

    def __init__(
        self,
        lives: Lives,
        entity: str,
        predicate: Callable[[Life], bool],
        *,
        not_found_is_dead: bool = False,
        name: str = "life-flag",
    ) -> None:
        self.name = name
        self._entity = entity
        self._predicate = predicate
        self._not_found_is_dead = not_found_is_dead
        value = _OneLife(lives, entity, not_found_is_dead=not_found_is_dead)
        self._flag = SampledFlag(value, predicate, name=name)
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Live until killed, or until the answer is another."""
        with self._tomb:
            try:
                await self._flag.run(task_status=_StartedAs(self, task_status))
            except NotFound as error:
                if not self._not_found_is_dead:
                    raise EntityNotFound(f'"{self.name}": no entity {self._entity!r}') from error
            # Killed; or the watcher has found it dead, and there is nothing more to watch.
            if bool(self._predicate(Life.DEAD)) != self.check():
                raise FlagChanged(f'"{self.name}" is {not self.check()} now')
            await trio.sleep_forever()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def check(self) -> bool:
        """See `trioworker.patterns.SampledFlag.check`."""
        return self._flag.check()

    def report(self) -> FlagReport:
        """Return how it stands."""
        return FlagReport(self._tomb.report(), self._flag.report().answer)

    def __repr__(self) -> str:
        return f"<LifeFlag {self.name!r} of {self._entity!r} {self._tomb.state}>"


@final
class _OneLife:
    """The life of one entity, as a watched value."""

    def __init__(self, lives: Lives, entity: str, *, not_found_is_dead: bool) -> None:
        self._lives = lives
        self._entity = entity
        self._not_found_is_dead = not_found_is_dead

    async def read(self) -> Life:
        try:
            return await self._lives.life(self._entity)
        except NotFound:
            if self._not_found_is_dead:
                return Life.DEAD
            raise

    async def watch(self) -> Watcher[object]:
        return await self._lives.watch_life(self._entity)


@final
class _StartedAs:
    """Passes on the worker that others know, and not the one inside."""

    def __init__(self, worker: LifeFlag, status: trio.TaskStatus[Any]) -> None:
        self._worker = worker
        self._status = status

    def started(self, value: object = None) -> None:  # noqa: ARG002 - the worker is the output
        self._status.started(self._worker)


def manifold(config: Config) -> Manifold:
    """Return the manifold of the flag; its one input is ``lives``. It offers `Flag`.

    Args:
        config: whose life, and when the flag is true.
    """

    def flag(get: Getter) -> LifeFlag:
        return LifeFlag(
            get("lives", Lives),
            config.entity,
            config.true_when.__contains__,
            not_found_is_dead=config.not_found_is_dead,
        )

    return Manifold.from_worker(
        flag, inputs=("lives",), outputs={Flag: as_flag}, filter=bounce_on(FlagChanged)
    )
