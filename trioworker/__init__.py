"""A structured-concurrency supervision framework for Trio.

The package is a house of floors. A module imports from its own floor or from below, never from
above; `tests/test_layering.py` has the table and checks it.

====== =================================================== ================================
floor  modules                                             what they are
====== =================================================== ================================
0      `_errors` `_util`                                   the words
1      `_worker` `_tomb` `_restart` `_report` `_groups`    what a lifetime is
2      `_catacomb` `_simple` `_periodic` `_watch`          tools made of lifetimes
       `_runner` `_runner_config` `_named`
3      `dependency`                                        the graph of workers and their needs
4      `patterns` `backends`                               shapes of workers; what they talk to
5      `workers` `testing`                                 ready-made workers; our test doubles
6      `agent` `_demo`                                     the program around an engine
7      `_cli` `__main__`                                   the command line
====== =================================================== ================================

Not every floor is inhabited yet. A module with an underscore is private: what is public of it is
exported from the package that holds it.
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
