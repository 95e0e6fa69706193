"""Leases in memory: for tests, and for programs that are one process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, final

import trio

from ._model import Info, Key, LeasePinned, Request
from ._store import Held, Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class MemoryStore:
    """A `Store` that lasts as long as this object. It needs no worker."""

    def __init__(self) -> None:
        # is_pinned is made when it is told; the truth is in _pins.
        self._leases: dict[Key, Info] = {}
        # No empty sets, and none of a lease that is not in _leases.
        self._pins: dict[Key, set[str]] = {}
        self._tokens = itertools.count(1)

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """See `Store.leases`."""
        await trio.lowlevel.checkpoint()
        keys = list(self._leases) if key is None else [key]
        return {key: info for key in keys if (info := self._held(key, now)) is not None}

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        await trio.lowlevel.checkpoint()
        if (held := self._held(key, now)) is not None:
            raise Held(f"lease {key} is held by {held.holder!r}")
        info = Info(request.holder, now + request.duration, next(self._tokens))
        self._leases[key] = info
        return info

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        await trio.lowlevel.checkpoint()
        info = self._held_by(key, request.holder, now)
        info = info._replace(expiry=max(info.expiry, now + request.duration))
        self._leases[key] = info
        return info

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """See `Store.revoke`."""
        await trio.lowlevel.checkpoint()
        if self._held_by(key, holder, now).is_pinned:
            raise LeasePinned(f"lease {key} is pinned; unpin it before it is revoked")
        del self._leases[key]

    async def pin(self, key: Key, entity: str, now: float) -> None:
        """See `Store.pin`."""
        await trio.lowlevel.checkpoint()
        if self._held(key, now) is not None:
            self._pins.setdefault(key, set()).add(entity)

    async def unpin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.unpin`."""
        await trio.lowlevel.checkpoint()
        pins = self._pins.get(key, set())
        pins.discard(entity)
        if not pins:
            self._pins.pop(key, None)

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:  # noqa: ARG002 - a store's
        """See `Store.pinned`."""
        await trio.lowlevel.checkpoint()
        return {key: frozenset(pins) for key, pins in self._pins.items()}

    async def expire(self, now: float) -> int:
        """See `Store.expire`."""
        await trio.lowlevel.checkpoint()
        lapsed = [key for key in self._leases if self._held(key, now) is None]
        for key in lapsed:
            del self._leases[key]
        return len(lapsed)

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self._leases)} leases>"

    def _held(self, key: Key, now: float) -> Info | None:
        info = self._leases.get(key)
        if info is None:
            return None
        info = info._replace(is_pinned=key in self._pins)
        return info if info.is_held(now) else None

    def _held_by(self, key: Key, holder: str, now: float) -> Info:
        info = self._held(key, now)
        if info is None:
            raise Invalid(f"lease {key} is free")
        if info.holder != holder:
            raise Invalid(f"lease {key} is held by {info.holder!r}, not {holder!r}")
        return info
