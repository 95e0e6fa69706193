"""Leases: exclusive claims on names, each for a time, with a token that fences.

In an agent file, for the processes of one machine::

    [manifolds.lease-store]
    use = "trioworker.workers.coordination.lease:sqlite_store"
    config = { path = "/var/lib/agent/leases.db" }

    [manifolds.leases]
    use = "trioworker.workers.coordination.lease:manifold"
    inputs = { store = "lease-store" }

For several machines it is ``etcd_store``, with ``config = { endpoints = [...] }``; within one
process, ``memory_store``, which needs no config. The store is a manifold of its own because
`trioworker.workers.coordination.leaseexpiry` uses the same one.

A grant is good until its `Grant.until` and no longer. That holds as far as clocks run equally fast,
and as far as you stop in time; where that is not enough, pass `Grant.token` to what you write to,
and have it refuse tokens smaller than the greatest it has seen.
"""

from trioworker._util import settle_names as _settle_names

from ._config import (
    Config as Config,
    EtcdConfig as EtcdConfig,
    PostgresConfig as PostgresConfig,
    SqliteConfig as SqliteConfig,
)
from ._faces import (
    Checker as Checker,
    Claimer as Claimer,
    Leases as Leases,
    Pinner as Pinner,
    Reader as Reader,
    Revoker as Revoker,
)
from ._manager import Manager as Manager, ManagerReport as ManagerReport
from ._manifold import manifold as manifold
from ._memory import MemoryStore as MemoryStore
from ._model import (
    ClaimDenied as ClaimDenied,
    Grant as Grant,
    Info as Info,
    InvalidLease as InvalidLease,
    Key as Key,
    LeasePinned as LeasePinned,
    LeaseTimeout as LeaseTimeout,
    Namespace as Namespace,
    NotHeld as NotHeld,
    Request as Request,
    Secretary as Secretary,
    UnknownNamespace as UnknownNamespace,
)
from ._store import Busy as Busy, Held as Held, Invalid as Invalid, Store as Store
from ._stores import (
    StoreReport as StoreReport,
    StoreWorker as StoreWorker,
    etcd_store as etcd_store,
    memory_store as memory_store,
    open_etcd_store as open_etcd_store,
    open_postgres_store as open_postgres_store,
    open_sqlite_store as open_sqlite_store,
    postgres_store as postgres_store,
    sqlite_store as sqlite_store,
    store_manifold as store_manifold,
)

__all__ = [
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
]

_settle_names(__name__, globals())
