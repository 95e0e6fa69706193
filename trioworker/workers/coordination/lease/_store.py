"""What a store of leases promises. All pass one contract test, so all can take another's place.

A store only compares and sets: it keeps who holds what until when, and refuses what does not fit
with it. It makes no attempts, remembers no clients, starts no tasks.

**Time is passed in.** `now` is the caller's, in seconds since 1970, read before the call. A store
whose server has the better clock uses that and takes `now` only to tell an expiry in it. What a
store grants may be longer than what was asked for, never shorter.

**A late call harms nobody.** A process may be stopped between reading `now` and reaching the store.
An old `now` makes a term end earlier, and other terms seem to last longer.

**Tokens only grow**: each grant's is greater than all before it, of all leases in the store, also
after the lease lapsed, was revoked, or the store was opened by another process. An extension keeps
its token.

Beside the errors below, what a store raises is a fault of the store.
"""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from trioworker import TrioworkerError

from ._model import Info, Key, Request


class Held(TrioworkerError):
    """The lease cannot be claimed: it is held, by whomever."""


class Invalid(TrioworkerError):
    """The lease is not as you believed: it lapsed, or has another holder. Read again."""


class Busy(TrioworkerError):
    """The store could not do it now. It is worth another try.

    If the answer of a server was lost it may have been done, so begin by reading.
    """


@runtime_checkable
class Store(Protocol):
    """Keeps leases. Every call is one statement or one short transaction, and a checkpoint.

    Each may raise `Busy`. Cancelled, a call has happened as a whole or not at all.
    """

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """Return the leases that are held at `now`: all, or that of `key`."""
        ...

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """Grant the free lease of `key`, with a new token, as `request` has it, from `now` on.

        Raises:
            Held: it is held, also if by the same holder.
        """
        ...

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """Let the term of `key` last from `now` for as long as `request` says; never shorten it.

        Raises:
            Invalid: it is free, or another's.
        """
        ...

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """Free what `holder` holds.

        Raises:
            Invalid: it is free, or another's.
            LeasePinned: it is pinned.
        """
        ...

    async def pin(self, key: Key, entity: str, now: float) -> None:
        """Keep the lease of `key` held until `entity` unpins it. Nothing if it is free at `now`.

        Idempotent.
        """
        ...

    async def unpin(self, key: Key, entity: str, now: float) -> None:
        """Take the pin of `entity` on `key` back, if there is one at `now`. Idempotent."""
        ...

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:
        """Return which leases are pinned at `now`, and by whom."""
        ...

    async def expire(self, now: float) -> int:
        """Delete what is not held any more at `now`; return how many there were."""
        ...
