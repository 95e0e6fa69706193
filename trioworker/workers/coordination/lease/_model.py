"""What a lease is, who may have one, and when to look again. No clock, no waiting.

A lease is *held* while its term lasts or it is pinned. What is not held is free, whether its record
was deleted already or not: so nobody depends on how soon a janitor comes.

Two kinds of time meet here. `Info.expiry` is the world's, in seconds since 1970, because processes
share it. `Grant.until` is the holder's own, that of `trio.current_time`, because nobody can set
that back: it counts from before the claim was sent, so it is over first.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs

from trioworker import MisuseError, NotFound, TrioworkerError

if TYPE_CHECKING:
    from collections.abc import Iterable

SLACK = 0.25
"""Seconds after the end of a term before we look whether it was the end: clocks are not exact."""

MAX_BYTES = 600
"""So long may be each part of a key, a holder and who pins: what the index of any store takes."""

MAX_DURATION = 1e9
"""Seconds, some thirty years: no store is asked for a term that it cannot count."""

ATTEMPTS = 10
"""So often a call is tried when the store is busy, or when others were quicker."""

_FIRST_DELAY = 0.05
_FACTOR = 1.6


class ClaimDenied(TrioworkerError):
    """Somebody else holds the lease. No fault: wait until it is free."""


class NotHeld(TrioworkerError):
    """The lease is not held by whom you say."""


class LeasePinned(TrioworkerError):
    """The lease is pinned, so it cannot be revoked: unpin it first."""


class LeaseTimeout(TrioworkerError):
    """The store was busy at each attempt. Nothing is known of what it would have said."""


class InvalidLease(MisuseError, ValueError):
    """No such lease, holder or duration can be; the message names which."""


class UnknownNamespace(NotFound):
    """Nobody knows the rules of that namespace."""


@final
class Key(NamedTuple):
    """Which lease: the same name in another namespace or model is another lease."""

    namespace: str
    """What kind of thing is leased; has its own rules."""
    model: str
    """For whom; may be empty."""
    name: str
    """What is leased."""

    def __str__(self) -> str:
        return f"{self.name!r} of {self.namespace}" + (f" in {self.model}" if self.model else "")


@final
class Info(NamedTuple):
    """A lease that is held."""

    holder: str
    """By whom."""
    expiry: float
    """Until when, in seconds since 1970; in the past only if it is pinned."""
    token: int
    """The fencing token: greater than that of any grant before, of any lease in the store."""
    is_pinned: bool = False
    """Whether it stays held after that."""

    def is_held(self, now: float) -> bool:
        """Whether it is held at `now`."""
        return self.is_pinned or now < self.expiry


@final
class Grant(NamedTuple):
    """What a holder gets. Good until `until` and no longer, whatever else is heard."""

    token: int
    """The fencing token: pass it to what you write to, which refuses smaller ones than it saw."""
    until: float
    """When it is over, in the time of `trio.current_time`."""


@final
@attrs.frozen
class Request:
    """What is asked for.

    Raises:
        InvalidLease: no holder, or a duration that is not positive, or more than 1e9.
    """

    holder: str
    """For whom."""
    duration: float
    """For how many seconds, from now."""

    def __attrs_post_init__(self) -> None:
        if not self.holder:
            raise InvalidLease(f"cannot claim lease for holder {self.holder!r}: it is empty")
        check_duration(self.duration)


def check_duration(duration: float) -> None:
    """Raise `InvalidLease` unless a lease can be had for so long."""
    if not 0 < duration <= MAX_DURATION:
        raise InvalidLease(
            f"cannot claim lease for {duration!r} seconds: it must be more than 0, and at most "
            f"{MAX_DURATION:g}"
        )


@runtime_checkable
class Secretary(Protocol):
    """Who knows the rules of a namespace. Its refusals are ``ValueError`` s with the reason."""

    def check_lease(self, key: Key) -> None:
        """Refuse a `key` that cannot be leased."""
        ...

    def check_holder(self, key: Key, holder: str) -> None:
        """Refuse a `holder` that cannot hold the lease of `key`."""
        ...

    def check_duration(self, duration: float) -> None:
        """Refuse a `duration`, in seconds; that it is above 0 and at most 1e9 was checked."""
        ...


def _pattern(namespace: Namespace, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{attribute.name} is no regular expression: {error}") from None


@final
@attrs.frozen(kw_only=True)
class Namespace:
    """The rules of a namespace, as patterns: a `Secretary` that a config can spell out.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    names: str = attrs.field(default=".+", validator=_pattern)
    """What can be leased: a regular expression for the whole name."""
    holders: str = attrs.field(default=".+", validator=_pattern)
    """Who can hold it: one for the whole holder."""

    def check_lease(self, key: Key) -> None:
        """See `Secretary.check_lease`."""
        _check_like(self.names, key.name)

    def check_holder(self, key: Key, holder: str) -> None:  # noqa: ARG002 - the same for all
        """See `Secretary.check_holder`."""
        _check_like(self.holders, holder)

    def check_duration(self, duration: float) -> None:
        """See `Secretary.check_duration`: any will do."""


def _check_like(pattern: str, value: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"it is not like {pattern!r}")


def _check_storable(text: str, what: str = "it") -> None:
    """Raise ``ValueError`` unless every store can keep `text`."""
    if "\0" in text:
        raise ValueError(f"{what} has a NUL character")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{what} has half of a character (a surrogate)") from None
    if length > MAX_BYTES:
        raise ValueError(f"{what} has more than {MAX_BYTES} bytes (in UTF-8)")


def check_key(secretary: Secretary, key: Key, doing: str = "claim lease {}") -> None:
    """Raise `InvalidLease`, that one cannot be `doing` so, unless there can be such a lease."""
    try:
        _check_storable(key.name)
        _check_storable(key.model, "its model")
        secretary.check_lease(key)
    except ValueError as error:
        raise InvalidLease(f"cannot {doing.format(repr(key.name))}: {error}") from error


def check_holder(secretary: Secretary, key: Key, holder: str, doing: str = "claim") -> None:
    """Raise `InvalidLease` unless there can be such a lease, and `holder` can hold it."""
    check_key(secretary, key, f"{doing} lease {{}}")
    try:
        _check_storable(holder)
        secretary.check_holder(key, holder)
    except ValueError as error:
        raise InvalidLease(f"cannot {doing} lease for holder {holder!r}: {error}") from error


def check_entity(secretary: Secretary, key: Key, entity: str, doing: str) -> None:
    """Raise `InvalidLease` unless `entity` can be doing that ("pin" or "unpin") to such a lease."""
    check_key(secretary, key, f"{doing} lease {{}}")
    try:
        _check_storable(entity)
    except ValueError as error:
        raise InvalidLease(f"cannot {doing} lease for entity {entity!r}: {error}") from error


def checked_request(secretary: Secretary, key: Key, holder: str, duration: float) -> Request:
    """Return what to ask the store for, or raise `InvalidLease` that names what is wrong."""
    check_holder(secretary, key, holder)
    request = Request(holder, duration)
    try:
        secretary.check_duration(duration)
    except ValueError as error:
        raise InvalidLease(f"cannot claim lease for {duration!r} seconds: {error}") from error
    return request


def nap(now: float, awaited: Iterable[Info], max_sleep: float) -> float:
    """Return for how many seconds nobody needs to look, because no `awaited` lease can end.

    A pinned lease ends when somebody unpins it, and that may be another process: it is looked at
    every `max_sleep`.
    """
    earliest = min((info.expiry for info in awaited if not info.is_pinned), default=math.inf)
    return min(max_sleep, max(earliest - now, 0.0)) + SLACK


def retry_delay(attempt: int, chance: float) -> float:
    """Return the seconds to wait after the attempt of that number, from 0.

    `chance`, from 0 to 1, keeps those who failed together from trying together again.
    """
    return _FIRST_DELAY * float(_FACTOR**attempt) * (0.5 + chance / 2)
