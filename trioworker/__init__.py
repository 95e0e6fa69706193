"""Trio programs that stay up: parts that need each other, kept running by an engine.

====================================== =========================================================
`Engine` `Manifold`                    a program as a graph of parts that are started in order,
                                       restarted when they fail, and stopped dependents first
`EngineConfig` `RestartPolicy`         how soon and how often, and which errors are fatal
`Bounce` `Missing` `RetryAfter`        what a part may raise about its own future; `Uninstall`
`Getter` `LiveView`                    what a part sees of the others
`open_worker` `stop`                   run a worker, an engine say, for the length of a block
`Tomb` `Catacomb`                      write a worker: one life, or one that owns others
`simple_worker` `periodic_worker`      a function as a worker, once or every so often
`notify_worker` `strings_worker`       a handler as a worker, called for each change
`Runner` `RunnerConfig`                workers under names, without a graph
`self_manifold` `Installer`            a program that changes its own graph
`TrioworkerError`                      the base of all our errors
====================================== =========================================================

Beside it: `trioworker.dependency` (reports, explanations, events), `trioworker.testing`,
`trioworker.agent` (a program described by a file), `trioworker.workers`, `trioworker.patterns` and
`trioworker.backends`.

For readers of the source: the package is a house of floors, and a module imports from its own or
from below. Each file begins with how it works.

- 7: `_cli`, the command line;
- 6: `agent` and `_demo`, the program around an engine;
- 5: `workers`, ready-made ones, and `testing`, doubles and checks;
- 4: `patterns`, shapes that workers have, and `backends`, what they talk to;
- 3: `dependency`, the graph and its engine;
- 2: `_catacomb`, `_runner`, `_simple`, `_periodic`, `_watch`, tools made of lifetimes;
- 1: `_tomb`, `_worker`, `_restart`, `_report`, `_groups`, what a lifetime is;
- 0: `_errors`, `_util`.
"""

from . import dependency as dependency
from ._catacomb import Catacomb as Catacomb
from ._errors import (
    AlreadyExists as AlreadyExists,
    CycleError as CycleError,
    Dying as Dying,
    InternalError as InternalError,
    LifetimeError as LifetimeError,
    MisuseError as MisuseError,
    NotDeclared as NotDeclared,
    NotFound as NotFound,
    NotOffered as NotOffered,
    StartTimeout as StartTimeout,
    TearDownTimeout as TearDownTimeout,
    TrioworkerError as TrioworkerError,
    UnknownInput as UnknownInput,
    WatcherClosed as WatcherClosed,
)
from ._periodic import periodic_worker as periodic_worker
from ._report import (
    CatacombReport as CatacombReport,
    Reporter as Reporter,
    RunnerReport as RunnerReport,
    RunnerWorkerReport as RunnerWorkerReport,
    TombReport as TombReport,
)
from ._restart import RestartPolicy as RestartPolicy
from ._runner import Runner as Runner
from ._runner_config import RunnerConfig as RunnerConfig
from ._simple import simple_worker as simple_worker
from ._tomb import (
    Tomb as Tomb,
    TombState as TombState,
)
from ._util import settle_names as _settle_names
from ._watch import (
    NotifyHandler as NotifyHandler,
    StringsHandler as StringsHandler,
    Watcher as Watcher,
    notify_worker as notify_worker,
    strings_worker as strings_worker,
)
from ._worker import (
    Worker as Worker,
    open_worker as open_worker,
    stop as stop,
)
from .dependency import (
    Bounce as Bounce,
    Engine as Engine,
    EngineConfig as EngineConfig,
    Getter as Getter,
    Installer as Installer,
    LiveView as LiveView,
    Manifold as Manifold,
    Missing as Missing,
    RetryAfter as RetryAfter,
    State as State,
    Uninstall as Uninstall,
    self_manifold as self_manifold,
)

# The one place that has the version: the build reads it here, and importing needs no metadata.
__version__ = "0.1.0"

__all__ = [
    "AlreadyExists",
    "Bounce",
    "Catacomb",
    "CatacombReport",
    "CycleError",
    "Dying",
    "Engine",
    "EngineConfig",
    "Getter",
    "Installer",
    "InternalError",
    "LifetimeError",
    "LiveView",
    "Manifold",
    "Missing",
    "MisuseError",
    "NotDeclared",
    "NotFound",
    "NotOffered",
    "NotifyHandler",
    "Reporter",
    "RestartPolicy",
    "RetryAfter",
    "Runner",
    "RunnerConfig",
    "RunnerReport",
    "RunnerWorkerReport",
    "StartTimeout",
    "State",
    "StringsHandler",
    "TearDownTimeout",
    "Tomb",
    "TombReport",
    "TombState",
    "TrioworkerError",
    "Uninstall",
    "UnknownInput",
    "Watcher",
    "WatcherClosed",
    "Worker",
    "dependency",
    "notify_worker",
    "open_worker",
    "periodic_worker",
    "self_manifold",
    "simple_worker",
    "stop",
    "strings_worker",
]

_settle_names(__name__, globals())
