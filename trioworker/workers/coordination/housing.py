"""Housing: run a manifold only while flags are true, and inside a fortress.

::

    def uniter(config: Config) -> Manifold:
        return housed(
            Manifold(start, inputs=("model",)),
            flags=("migration-inactive-flag", "not-dead-flag"),
            occupy="charm-fortress",
            filter=dead_means_uninstall,
        )

What comes out is a manifold like any other, with the flags and the fortress among its inputs:
roles, so an agent file may bind them to manifolds of other names.

**In this order**, at each start: every flag is checked, and one that is false is `Missing`, by
name. Then the fortress is visited, which may take until its guard opens it; then the manifold's own
start function runs inside the visit, until its end. So nobody stands at the door, let alone inside,
who is not meant to run. The order stays the same when a housed manifold is housed again.

A flag that changes restarts its dependents, so nothing has to be watched here. The wait at the door
is part of the start: stopping ends it, and a ``start_timeout`` counts it.

**One fortress at most.** Two that are visited one inside the other deadlock as soon as two
manifolds visit them in different orders and their guards lock down; so a second is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, final

import attrs

from trioworker import Getter, Manifold, Missing
from trioworker.patterns import Flag

from .fortress import Guest

if TYPE_CHECKING:
    import trio

__all__ = ["housed"]


def housed(
    manifold: Manifold,
    *,
    flags: Iterable[str] = (),
    occupy: str | None = None,
    filter: Callable[[Exception], BaseException | None] | None = None,  # noqa: A002 - as Manifold's
) -> Manifold:
    """Return a manifold that runs `manifold` only while `flags` are true, inside `occupy`.

    `manifold` stays as it is. What is among its inputs already is not added again.

    Args:
        manifold: what to run.
        flags: roles that offer `Flag`; all must be true.
        occupy: the role of a fortress, which offers `Guest`.
        filter: replaces the manifold's own.

    Raises:
        TypeError: `flags` is a string, or a role is no name.
        ValueError: `manifold` occupies a fortress already; or a role is an optional or live input
            of it.
    """
    if isinstance(flags, str):
        raise TypeError(f'flags is a tuple of names: write ("{flags}",), not "{flags}"')
    flags = tuple(flags)
    start = manifold.start
    house = start if isinstance(start, _House) else _House(start, (), None)
    if occupy is not None and house.occupy is not None:
        raise ValueError(
            f'"{occupy}": the manifold occupies "{house.occupy}" already, and a visit inside a '
            "visit can deadlock; occupy one fortress"
        )
    return attrs.evolve(
        manifold,
        start=_House(
            house.inside,
            tuple(dict.fromkeys((*house.flags, *flags))),
            house.occupy if occupy is None else occupy,
        ),
        inputs=tuple(
            dict.fromkeys((*manifold.inputs, *flags, *(() if occupy is None else (occupy,))))
        ),
        filter=manifold.filter if filter is None else filter,
    )


@final
@attrs.frozen
class _House:
    """A start function around another."""

    inside: Callable[..., Any]
    flags: tuple[str, ...]
    occupy: str | None

    @property
    def name(self) -> str:
        """What to call it in messages: it is the manifold's own function that users know."""
        return getattr(self.inside, "__qualname__", type(self.inside).__qualname__)

    async def __call__(self, get: Getter, *, task_status: trio.TaskStatus[Any]) -> None:
        for role in self.flags:
            if not get(role, Flag).check():
                raise Missing(f'the flag "{role}" is false')
        if self.occupy is None:
            await self.inside(get, task_status=task_status)
            return
        async with get(self.occupy, Guest).visit():
            await self.inside(get, task_status=task_status)
