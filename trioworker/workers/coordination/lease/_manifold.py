"""The manifold of the manager."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, final

from trioworker import Manifold

from ._config import Config
from ._faces import Leases
from ._manager import Manager
from ._store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trioworker import Getter

    from ._model import Secretary

_DEFAULT = Config()


@final
class _LeasesFace:
    """All that others may do with a manager, and no more."""

    def __init__(self, manager: Manager) -> None:
        self.claimer = manager.claimer
        self.checker = manager.checker
        self.revoker = manager.revoker
        self.pinner = manager.pinner
        self.reader = manager.reader


def manifold(
    config: Config = _DEFAULT,
    *,
    secretaries: Mapping[str, Secretary] | None = None,
    clock: Callable[[], float] = time.time,
) -> Manifold:
    """Return the manifold of a lease manager; its one input is ``store``. It offers `Leases`.

    Args:
        config: how leases are managed.
        secretaries: the rules of namespaces that patterns cannot tell.
        clock: the world's time, in seconds since 1970.
    """

    def manager(get: Getter) -> Manager:
        return Manager(get("store", Store), config, secretaries=secretaries, clock=clock)

    return Manifold.from_worker(
        manager,
        inputs=("store",),
        outputs={Leases: _LeasesFace},
        stop_timeout=config.patience + 10.0,
    )
