"""What others may do with leases, in narrow pieces. Names are those of one namespace and model."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from ._model import Grant, Info


@runtime_checkable
class Claimer(Protocol):
    """Who wants to hold leases."""

    async def claim(self, name: str, holder: str, duration: float) -> Grant:
        """Get the lease for `holder`, or keep it, for `duration` seconds from now.

        It tells at once. A term is never shortened: to end it early, revoke. Cancelled, it has
        happened or not; claim again to know.

        Raises:
            ClaimDenied: somebody else holds it.
            InvalidLease: the name, the holder or the duration cannot be; nothing was asked.
            LeaseTimeout: the store was busy at each attempt.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...

    async def wait_until_expired(self, name: str) -> None:
        """Wait until nobody holds the lease: it lapsed, was revoked, or never was.

        Everybody who waits is woken, and may find that another was quicker to claim it. A lease
        that changes hands without a pause is never free.

        Raises:
            InvalidLease: the name cannot be.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...


@runtime_checkable
class Checker(Protocol):
    """Who wants to know whether somebody holds a lease."""

    async def check(self, name: str, holder: str) -> int:
        """Return the fencing token with which `holder` holds the lease.

        It was so when the store was asked; only who refuses smaller tokens can rely on it later.

        Raises:
            NotHeld: it is free, or another's.
            InvalidLease: the name or the holder cannot be.
            LeaseTimeout: the store was busy at each attempt.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...


@runtime_checkable
class Revoker(Protocol):
    """Who frees leases before their time."""

    async def revoke(self, name: str, holder: str) -> None:
        """Free what `holder` holds. Nothing if it is free already.

        Raises:
            NotHeld: it is another's.
            LeasePinned: it is pinned.
            InvalidLease: the name or the holder cannot be.
            LeaseTimeout: the store was busy at each attempt.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...


@runtime_checkable
class Pinner(Protocol):
    """Who keeps leases from lapsing, during an upgrade say."""

    async def pin(self, name: str, entity: str) -> None:
        """Keep the lease held until `entity` unpins it. Idempotent; nothing if it is free.

        Raises:
            InvalidLease: the name cannot be.
            LeaseTimeout: the store was busy at each attempt.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...

    async def unpin(self, name: str, entity: str) -> None:
        """Take the pin of `entity` back. Idempotent. It raises what `pin` does."""
        ...

    async def pinned(self) -> Mapping[str, frozenset[str]]:
        """Return who has pinned what. It raises what `pin` does."""
        ...


@runtime_checkable
class Reader(Protocol):
    """Who looks at leases."""

    async def leases(self) -> Mapping[str, Info]:
        """Return what is held.

        Raises:
            LeaseTimeout: the store was busy at each attempt.
            Dying: the manager is dying or dead, or dies meanwhile.
        """
        ...


@runtime_checkable
class Leases(Protocol):
    """Where the pieces come from, each for one namespace and model.

    Each method raises `UnknownNamespace`.
    """

    def claimer(self, namespace: str, model: str = "") -> Claimer:
        """Return who claims."""
        ...

    def checker(self, namespace: str, model: str = "") -> Checker:
        """Return who checks."""
        ...

    def revoker(self, namespace: str, model: str = "") -> Revoker:
        """Return who revokes."""
        ...

    def pinner(self, namespace: str, model: str = "") -> Pinner:
        """Return who pins."""
        ...

    def reader(self, namespace: str, model: str = "") -> Reader:
        """Return who reads."""
        ...
