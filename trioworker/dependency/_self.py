"""The manifold through which the program can change the engine that it runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

import trio

from .._report import Reporter
from ._manifold import Manifold

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ._engine import Engine
    from ._explain import Explanation
    from ._getter import RunGetter
    from ._observers import EventStream
    from ._report import EngineReport
    from ._stacks import TaskStack


class Installer(Protocol):
    """The face of an engine that changes its graph; see the same methods of `Engine`."""

    def install(self, name: str, manifold: Manifold) -> None:
        """Add `manifold` under `name`."""
        ...

    def install_all(
        self, manifolds: Mapping[str, Manifold], *, later: Collection[str] = ()
    ) -> None:
        """Add all of `manifolds`, or none; see `Engine.install_all`."""
        ...

    def uninstall(self, name: str) -> None:
        """Remove `name`, its dependents stopping first."""
        ...


class Operator(Protocol):
    """The face of an engine that stops and starts what is there; as the methods of `Engine`."""

    def restart(self, name: str) -> None:
        """Stop `name`, dependents first, and start it again."""
        ...

    def hold(self, name: str) -> None:
        """Stop `name`, dependents first, and keep it stopped."""
        ...

    def release(self, name: str) -> None:
        """Let `name` run again after ``hold()``."""
        ...

    def drain(self) -> None:
        """Hold everything."""
        ...


class Inspector(Protocol):
    """The face of an engine that tells everything and changes nothing; as those of `Engine`."""

    def report(self) -> EngineReport:
        """Return the present state as plain data."""
        ...

    def view(self) -> EngineReport:
        """Return the same, made manifold by manifold when each is looked at."""
        ...

    def explain(self, name: str) -> Explanation:
        """Return why `name` is in its state."""
        ...

    def blast_radius(self, name: str) -> tuple[str, ...]:
        """Return who stops when `name` stops."""
        ...

    def stacks(self, name: str) -> tuple[TaskStack, ...]:
        """Return where the tasks of `name` stand."""
        ...

    def events(self, capacity: int = 1000) -> EventStream:
        """Return a stream of all transitions; see `Engine.events`."""
        ...


def self_manifold(engine: Engine) -> Manifold:
    """Return a manifold that offers `engine` to the others.

    As `Installer`, as `Operator`, as `Inspector`, and as `Reporter` (an `Inspector` that only
    reports). No face can kill the engine: a worker that may install is not its owner.
    """

    async def start(get: RunGetter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG001 - it needs nothing
        # Not the engine: its report would then be a part of itself.
        task_status.started()
        await trio.sleep_forever()

    def installer(started: None) -> _InstallerFace:  # noqa: ARG001 - the engine is the value
        return _InstallerFace(engine)

    def reporter(started: None) -> _ReporterFace:  # noqa: ARG001 - the engine is the value
        return _ReporterFace(engine)

    def operator(started: None) -> _OperatorFace:  # noqa: ARG001 - the engine is the value
        return _OperatorFace(engine)

    def inspector(started: None) -> _InspectorFace:  # noqa: ARG001 - the engine is the value
        return _InspectorFace(engine)

    faces = {Installer: installer, Operator: operator, Inspector: inspector, Reporter: reporter}
    return Manifold(start, outputs=faces)


@final
class _InstallerFace:
    def __init__(self, engine: Engine) -> None:
        self.install = engine.install
        self.install_all = engine.install_all
        self.uninstall = engine.uninstall


@final
class _OperatorFace:
    def __init__(self, engine: Engine) -> None:
        self.restart = engine.restart
        self.hold = engine.hold
        self.release = engine.release
        self.drain = engine.drain


@final
class _InspectorFace:
    def __init__(self, engine: Engine) -> None:
        self.report = engine.report
        self.view = engine.view
        self.explain = engine.explain
        self.blast_radius = engine.blast_radius
        self.stacks = engine.stacks
        self.events = engine.events


@final
class _ReporterFace:
    def __init__(self, engine: Engine) -> None:
        self.report = engine.report
