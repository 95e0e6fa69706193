"""What is public, by name. Adding or removing a name is a visible change to this file.

Under each name stands the object itself, so that these hold of all of them: it says that it lives
where users import it from, and a concrete class is closed.
"""

import importlib
import inspect
from collections.abc import Callable

import pytest

# One line per name, sorted, as in the module's `__all__`.
PUBLIC: dict[str, list[str]] = {
    "trioworker": [
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
    ],
    "trioworker.agent": [
        "Agent",
        "AgentFileError",
        "Mask",
        "Problem",
        "Program",
        "Watchdog",
        "configure_logging",
        "file_schema",
        "load",
        "open_program",
        "run_agent",
        "run_engine",
    ],
    "trioworker.dependency": [
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
    ],
    "trioworker.patterns": [
        "Flag",
        "FlagChanged",
        "FlagReport",
        "SampledFlag",
        "WatchedValue",
        "as_flag",
        "bounce_on",
        "named",
        "positive",
    ],
    "trioworker.testing": [
        "DeadWorker",
        "ErrorWorker",
        "Faces",
        "FakeWatcher",
        "ForeverWorker",
        "ManifoldHarness",
        "StubFacade",
        "StubGetter",
        "check_alive",
        "check_killed",
        "check_worker",
        "clean_kill",
        "dirty_kill",
        "open_engine",
    ],
    "trioworker.workers.coordination.lease": [
        "Busy",
        "Checker",
        "ClaimDenied",
        "Claimer",
        "Config",
        "EtcdConfig",
        "Grant",
        "Held",
        "Info",
        "Invalid",
        "InvalidLease",
        "Key",
        "LeasePinned",
        "LeaseTimeout",
        "Leases",
        "Manager",
        "ManagerReport",
        "MemoryStore",
        "Namespace",
        "NotHeld",
        "Pinner",
        "PostgresConfig",
        "Reader",
        "Request",
        "Revoker",
        "Secretary",
        "SqliteConfig",
        "Store",
        "StoreReport",
        "StoreWorker",
        "UnknownNamespace",
        "etcd_store",
        "manifold",
        "memory_store",
        "open_etcd_store",
        "open_postgres_store",
        "open_sqlite_store",
        "postgres_store",
        "sqlite_store",
        "store_manifold",
    ],
    "trioworker.workers.agent.introspection": [
        "Config",
        "Exposition",
        "Masking",
        "Recorder",
        "SocketInUse",
        "manifold",
        "socket_path",
        "sockets",
    ],
}

# Workers that are one module each: there a name of another module is no export, so `__all__` alone
# says what is public.
WORKERS: dict[str, list[str]] = {
    "trioworker.workers.coordination.centralhub": [
        "Config",
        "Delivery",
        "Hub",
        "HubReport",
        "Message",
        "Publisher",
        "Subscriber",
        "SubscriberReport",
        "Subscription",
        "manifold",
    ],
    "trioworker.workers.coordination.common": ["CleanupWorker", "value_manifold"],
    "trioworker.workers.coordination.flockfortress": [
        "Config",
        "FlockFortress",
        "FlockFortressReport",
        "Overtaken",
        "manifold",
    ],
    "trioworker.workers.coordination.fortress": [
        "Fortress",
        "FortressReport",
        "Guard",
        "Guest",
        "manifold",
        "occupy",
    ],
    "trioworker.workers.coordination.gate": [
        "Config",
        "Gate",
        "GateReport",
        "Latch",
        "Lock",
        "OPEN",
        "Unlocker",
        "Waiter",
        "manifold",
    ],
    "trioworker.workers.coordination.gateflag": ["GateFlag", "Unlocked", "manifold"],
    "trioworker.workers.coordination.housing": ["housed"],
    "trioworker.workers.coordination.leadership": [
        "Config",
        "LeadershipFailed",
        "LeadershipReport",
        "Tracker",
        "Tracking",
        "manifold",
    ],
    "trioworker.workers.coordination.leaseexpiry": [
        "Config",
        "LeaseExpiry",
        "LeaseExpiryReport",
        "manifold",
    ],
    "trioworker.workers.coordination.reboot": [
        "Action",
        "Config",
        "MachineDown",
        "MachineLock",
        "Reboot",
        "RebootReport",
        "Reboots",
        "execute",
        "executing",
        "is_fatal",
        "manifold",
        "worst_error",
    ],
    "trioworker.workers.coordination.retrystrategy": [
        "Config",
        "Policies",
        "Policy",
        "PolicyChanged",
        "RetryStrategy",
        "RetryStrategyReport",
        "Strategy",
        "manifold",
    ],
    "trioworker.workers.coordination.simplesignalhandler": [
        "ChannelClosed",
        "Config",
        "End",
        "Handler",
        "SignalSource",
        "SignalSourceReport",
        "SignalWatcher",
        "SignalWatcherReport",
        "Signalled",
        "Signals",
        "SourceConfig",
        "manifold",
        "signal_handler",
        "source",
    ],
    "trioworker.workers.coordination.singular": [
        "Config",
        "Facade",
        "Refresh",
        "Singular",
        "SingularReport",
        "Term",
        "manifold",
    ],
    "trioworker.workers.coordination.terminationworker": [
        "Terminated",
        "TerminationReport",
        "TerminationWorker",
        "manifold",
    ],
    "trioworker.workers.coordination.lifeflag": [
        "Config",
        "EntityNotFound",
        "Life",
        "LifeFlag",
        "Lives",
        "manifold",
    ],
    "trioworker.workers.coordination.migrationflag": [
        "Config",
        "Migrations",
        "Phase",
        "TERMINAL",
        "is_terminal",
        "manifold",
    ],
    "trioworker.workers.data.pruner": [
        "Config",
        "Limits",
        "LiveLimits",
        "Prunable",
        "Pruner",
        "PrunerReport",
        "manifold",
    ],
}
ALL = {**PUBLIC, **WORKERS}

# Concrete classes that are meant to be subclassed, each with its reason. Protocols and exceptions
# need no entry.
OPEN: dict[str, str] = {}


def exported(kind: Callable[[object], bool]) -> list[tuple[str, str]]:
    return [
        (module, name)
        for module, names in ALL.items()
        for name in names
        if kind(getattr(importlib.import_module(module), name, None))
    ]


@pytest.mark.parametrize("module_name, names", ALL.items(), ids=ALL)
def test_all_is_sorted_and_complete(module_name: str, names: list[str]) -> None:
    module = importlib.import_module(module_name)

    assert module.__all__ == sorted(names)


@pytest.mark.parametrize("module_name", PUBLIC)
def test_what_looks_public_is_in_all(module_name: str) -> None:
    """Save modules: a sub-package is public by being importable."""
    module = importlib.import_module(module_name)
    looks_public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }

    assert looks_public <= set(module.__all__)


@pytest.mark.parametrize(
    "module_name, name",
    exported(lambda value: inspect.isclass(value) or inspect.isroutine(value)),
)
def test_an_object_says_it_lives_where_it_is_imported_from(module_name: str, name: str) -> None:
    """A name of a sub-package that the root exports too lives in the root."""
    value = getattr(importlib.import_module(module_name), name)
    home = "trioworker" if name in PUBLIC["trioworker"] else module_name

    assert f"{value.__module__}.{value.__qualname__}" == f"{home}.{name}"


@pytest.mark.parametrize("module_name, name", exported(inspect.isclass))
def test_a_concrete_class_is_final(module_name: str, name: str) -> None:
    value = getattr(importlib.import_module(module_name), name)
    # typing.is_protocol() says the same from Python 3.13 on.
    open_by_nature = issubclass(value, BaseException) or getattr(value, "_is_protocol", False)

    assert open_by_nature or f"{module_name}.{name}" in OPEN or hasattr(value, "__final__")
