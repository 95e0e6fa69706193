"""The manifold through which the program can change the engine that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

import trio

from .._report import Reporter
from ._manifold import Manifold

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ._engine import Engine
    from ._getter import RunGetter


class Installer(Protocol):
    """The face of an engine that changes its graph; see the same methods of `Engine`."""

    def install(self, name: str, manifold: Manifold) -> None:
        """Add `manifold` under `name`."""
        ...

    def install_all(
        self, manifolds: Mapping[str, Manifold], *, later: Collection[str] = ()
    ) -> None:
        """Add all of `manifolds`, or none."""
        ...

    def uninstall(self, name: str) -> None:
        """Remove `name`, its dependents stopping first."""
        ...


def self_manifold(engine: Engine) -> Manifold:
    """Return a manifold that offers `engine` to the others, as `Installer` and as `Reporter`.

    Neither face can kill the engine: a worker that may install is not its owner.
    """

    async def start(get: RunGetter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - it needs nothing
        # Not the engine: its report would then be a part of itself.
        task_status.started()
        await trio.sleep_forever()

    def installer(started: None) -> _InstallerFace:  # noqa: ARG001 - the engine is the value
        return _InstallerFace(engine)

    def reporter(started: None) -> _ReporterFace:  # noqa: ARG001 - the engine is the value
        return _ReporterFace(engine)

    return Manifold(start, outputs={Installer: installer, Reporter: reporter})


@final
class _InstallerFace:
    def __init__(self, engine: Engine) -> None:
        self.install = engine.install
        self.install_all = engine.install_all
        self.uninstall = engine.uninstall


@final
class _ReporterFace:
    def __init__(self, engine: Engine) -> None:
        self.report = engine.report
