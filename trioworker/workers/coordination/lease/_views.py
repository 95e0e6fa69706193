"""The pieces in which leases are handed out: one namespace and model, and its rules.

What cannot be is refused here, before the manager or the store hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, final

from ._model import (
    Grant,
    Info,
    Key,
    Request,
    Secretary,
    check_entity,
    check_holder,
    check_key,
    checked_request,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")


class Calls(Protocol):
    """What a view needs of the manager."""

    async def claim(self, key: Key, request: Request) -> Grant: ...
    async def wait_until_expired(self, key: Key) -> None: ...
    async def check(self, key: Key, holder: str) -> int: ...
    async def revoke(self, key: Key, holder: str) -> None: ...
    async def pin(self, key: Key, entity: str) -> None: ...
    async def unpin(self, key: Key, entity: str) -> None: ...
    async def pinned(self) -> Mapping[Key, frozenset[str]]: ...
    async def leases(self) -> Mapping[Key, Info]: ...


class _View:
    """Where one looks, and through whom."""

    __slots__ = ("_calls", "_model", "_namespace", "_secretary")

    def __init__(self, calls: Calls, secretary: Secretary, namespace: str, model: str) -> None:
        self._calls = calls
        self._secretary = secretary
        self._namespace = namespace
        self._model = model

    def _key(self, name: str) -> Key:
        return Key(self._namespace, self._model, name)

    def _of_ours(self, all_: Mapping[Key, T]) -> dict[str, T]:
        ours = self._namespace, self._model
        return {key.name: value for key, value in all_.items() if key[:2] == ours}


@final
class ClaimerView(_View):
    """A `Claimer`."""

    __slots__ = ()

    async def claim(self, name: str, holder: str, duration: float) -> Grant:
        """See `Claimer.claim`."""
        key = self._key(name)
        request = checked_request(self._secretary, key, holder, duration)
        return await self._calls.claim(key, request)

    async def wait_until_expired(self, name: str) -> None:
        """See `Claimer.wait_until_expired`."""
        key = self._key(name)
        check_key(self._secretary, key, "wait for lease {} expiry")
        await self._calls.wait_until_expired(key)


@final
class CheckerView(_View):
    """A `Checker`."""

    __slots__ = ()

    async def check(self, name: str, holder: str) -> int:
        """See `Checker.check`."""
        key = self._key(name)
        check_holder(self._secretary, key, holder, "check")
        return await self._calls.check(key, holder)


@final
class RevokerView(_View):
    """A `Revoker`."""

    __slots__ = ()

    async def revoke(self, name: str, holder: str) -> None:
        """See `Revoker.revoke`."""
        key = self._key(name)
        check_holder(self._secretary, key, holder, "revoke")
        await self._calls.revoke(key, holder)


@final
class PinnerView(_View):
    """A `Pinner`."""

    __slots__ = ()

    async def pin(self, name: str, entity: str) -> None:
        """See `Pinner.pin`."""
        key = self._key(name)
        check_entity(self._secretary, key, entity, "pin")
        await self._calls.pin(key, entity)

    async def unpin(self, name: str, entity: str) -> None:
        """See `Pinner.unpin`."""
        key = self._key(name)
        check_entity(self._secretary, key, entity, "unpin")
        await self._calls.unpin(key, entity)

    async def pinned(self) -> Mapping[str, frozenset[str]]:
        """See `Pinner.pinned`."""
        return self._of_ours(await self._calls.pinned())


@final
class ReaderView(_View):
    """A `Reader`."""

    __slots__ = ()

    async def leases(self) -> Mapping[str, Info]:
        """See `Reader.leases`."""
        return self._of_ours(await self._calls.leases())
