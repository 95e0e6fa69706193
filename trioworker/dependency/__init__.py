"""Programs as graphs: manifolds, and the engine that keeps them running.

A program is a set of named manifolds: how to start a worker, what it needs, what it offers. The
engine keeps every manifold that can run running, gives each its inputs, and restarts exactly what
is affected when something changes.

- **Manifold**: a frozen description of a start function, a context manager or a worker.
- **Getter**: what a start function may see: its declared inputs, by type.
- **Verdicts**: what a start function can say about its own future: `Bounce`, `Missing`,
  `RetryAfter`, `Uninstall`.
- **Engine**: installs, starts, drains, restarts, reports and explains.

What it will not do: run a program on several machines, choose between two providers of one input,
start what nobody installed, or keep anything of a run for the next one. State that must outlive a
run belongs into a manifold of its own.
"""

from .._util import settle_names as _settle_names
from ._config import EngineConfig as EngineConfig
from ._current import current_manifold as current_manifold
from ._engine import Engine as Engine
from ._explain import Explanation as Explanation
from ._manifold import Getter as Getter, LiveView as LiveView, Manifold as Manifold
from ._metrics import Metrics as Metrics
from ._observers import EventStream as EventStream, Transition as Transition
from ._report import End as End, EngineReport as EngineReport, ManifoldReport as ManifoldReport
from ._self import (
    Inspector as Inspector,
    Installer as Installer,
    Operator as Operator,
    self_manifold as self_manifold,
)
from ._stacks import TaskStack as TaskStack
from ._states import State as State
from ._verdicts import (
    Bounce as Bounce,
    Missing as Missing,
    RetryAfter as RetryAfter,
    Uninstall as Uninstall,
)

__all__ = [
    "Bounce",
    "End",
    "Engine",
    "EngineConfig",
    "EngineReport",
    "EventStream",
    "Explanation",
    "Getter",
    "Inspector",
    "Installer",
    "LiveView",
    "Manifold",
    "ManifoldReport",
    "Metrics",
    "Missing",
    "Operator",
    "RetryAfter",
    "State",
    "TaskStack",
    "Transition",
    "Uninstall",
    "current_manifold",
    "self_manifold",
]

_settle_names(__name__, globals())
