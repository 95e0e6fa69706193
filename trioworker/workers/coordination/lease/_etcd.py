"""Leases in etcd, shared by several machines.

A lease is a few keys that begin alike, ``PREFIX//namespace/model/name/``, each part quoted:

=========  ==============================================================  =========================
key        says                                                            written by
=========  ==============================================================  =========================
holder     who has, or had, it                                             claims
until      when the term ends by the clock of the holder's machine         claims and extensions
term/60    nothing; there as long as a term of 60 seconds lasts            claims and extensions
pin/NAME   nothing; there as long as NAME pins it                          pins
=========  ==============================================================  =========================

It is *held* while there is a term or a pin. Each write is one transaction, which compares first.

**The double slash keeps stores apart.** No prefix has one in it, so the first one in a key ends the
prefix that it was written under. Without it, what a store below ``/a/b/`` calls ``x/y/pin`` would
be in ``/a/`` a pin on ``b/x/y``.

**etcd measures the term, not we.** Each term key is attached to an etcd lease of its own, and etcd
deletes it when that is over. So two machines whose clocks are an hour apart still exclude each
other; stored deadlines would have let the one that is ahead in too early. ``until`` is only for
telling: by it others know when to look, so a clock that is behind costs promptness, never safety.
`now` is what ``until`` counts from, and nothing else.

**A term is never shorter than was asked for.** etcd counts whole seconds, at least some two (by its
election time-out): we ask for the seconds rounded up, and it may give more. It counts from when the
members have agreed on the etcd lease, so after the call was sent, from where the holder counts. A
new leader of etcd lets all begin anew. It then needs up to half a second to notice an end, so a
hand-over takes the duration, rounded up, and about a second; or as long as etcd has no leader.

**Nothing is kept alive; an extension gets a new etcd lease.** Whether one is kept alive, a single
member answers, without asking the others: one that was leader and does not know yet that it is so
no more says yes for nothing, and if it was stopped, it may delete what others were told is alive.
A new etcd lease is agreed upon, and such a member knows nothing of it. The old one lapses by
itself, with no key left to it.

**An extension never shortens a term.** It overwrites the term key of the same length, if nobody has
since it was read; then the new etcd lease is the younger, so it ends later. The comparison also
stops a call that was given up, and arrives late. A term of another length has another key, and both
count: we need not know which ends first.

**The token is the revision that last wrote** ``holder`` (its ``mod_revision``). etcd counts one
revision for each transaction in the whole cluster, agreed upon as the transaction is; only claims
write that key; so each grant's is greater than all before it, of all leases, and an extension
leaves it alone. Its ``create_revision`` would not do: a claim of what was not deleted yet
overwrites the key, which keeps that. Neither would the number of an etcd lease, which is random. A
cluster that is restored from a backup counts on from there, unless its restoration is told better.

**What is not known.** A transaction whose answer is lost may have been done. That is `Busy`, and
who tries again begins by reading.
"""

from __future__ import annotations

import itertools
import math
import ssl
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, final
from urllib.parse import quote, unquote

import attrs

from trioworker.backends.etcd import (
    Client,
    EtcdRefused,
    EtcdUnavailable,
    KeyValue,
    TxnResult,
    absent,
    delete,
    nested,
    open_etcd,
    present,
    put,
    unchanged,
)

from ._model import Info, Key, LeasePinned, Request
from ._store import Busy, Held, Invalid

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence

    from ._config import EtcdConfig

_LATE = 0.5
"""Seconds that etcd takes to delete what is over; told of terms that should be over and are not."""

_BITE = 50
"""So many leases are deleted at once: etcd has a limit, by default of 128."""

_NOT_FOUND = 5  # gRPC's code for a lease of etcd that is over


@final
@attrs.define
class _Record:
    """The keys of one lease."""

    holder: KeyValue | None = None
    until: float = -math.inf
    terms: dict[str, KeyValue] = attrs.field(factory=dict[str, KeyValue])
    pins: set[str] = attrs.field(factory=set[str])

    def add(self, kind: str, rest: str, kv: KeyValue) -> None:
        """Take in a key."""
        if kind == "holder":
            self.holder = kv
        elif kind == "until":
            self.until = float(kv.value)
        elif kind == "term":
            self.terms[rest] = kv
        elif kind == "pin":
            self.pins.add(unquote(rest))

    def info(self, now: float) -> Info | None:
        """Return what is told of it, if it is held."""
        if self.holder is None or not (self.terms or self.pins):
            return None
        until = self.until
        if self.terms and until <= now:  # not over, whatever our clock says
            until = now + _LATE
        name = self.holder.value.decode()
        return Info(name, until, self.holder.mod_revision, is_pinned=bool(self.pins))


@final
class EtcdStore:
    """A `Store` in etcd; made by `open_etcd_store`.

    Args:
        client: of etcd; somebody else closes it.
        prefix: what all keys begin with; it ends with a slash, and no other follows upon one.
    """

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._prefix = f"{prefix}/"

    async def leases(self, now: float, key: Key | None = None) -> Mapping[Key, Info]:
        """See `Store.leases`."""
        records = await self._read(self._prefix.encode() if key is None else self._name(key))
        infos = ((key, record.info(now)) for key, record in records.items())
        return {key: info for key, info in infos if info is not None}

    async def claim(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.claim`."""
        until = now + request.duration
        done = await self._txn(
            [self._no(key, "term/"), self._no(key, "pin/")],
            [
                put(self._name(key, "holder"), request.holder.encode()),
                *await self._term(key, request, until),
            ],
        )
        if not done.succeeded:
            raise Held(f"lease {key} is held")
        return Info(request.holder, until, done.revision)

    async def extend(self, key: Key, request: Request, now: float) -> Info:
        """See `Store.extend`."""
        record, holder, info = await self._held_by(key, request.holder, now)
        until = max(record.until, now + request.duration)
        same = record.terms.get(_seconds(request))
        if same is not None:
            still = [unchanged(same)]  # and so there
        else:
            any_ = present(self._name(key, "term/" if record.terms else "pin/"), prefix=True)
            still = [self._no(key, f"term/{_seconds(request)}"), any_]
        done = await self._txn([unchanged(holder), *still], await self._term(key, request, until))
        if not done.succeeded:
            raise Invalid(f"lease {key} was changed meanwhile")
        return info._replace(expiry=until)

    async def revoke(self, key: Key, holder: str, now: float) -> None:
        """See `Store.revoke`."""
        _, kv, info = await self._held_by(key, holder, now)
        if info.is_pinned:
            raise LeasePinned(f"lease {key} is pinned; unpin it before it is revoked")
        everything = delete(self._name(key), prefix=True)
        done = await self._txn([unchanged(kv), self._no(key, "pin/")], [everything])
        if not done.succeeded:
            raise Invalid(f"lease {key} was changed meanwhile")

    async def pin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.pin`."""
        pin = put(self._pin(key, entity), b"")
        terms, pins = (present(self._name(key, kind), prefix=True) for kind in ("term/", "pin/"))
        await self._txn([terms], [pin], [nested([pins], [pin])])

    async def unpin(self, key: Key, entity: str, now: float) -> None:  # noqa: ARG002 - a store's
        """See `Store.unpin`."""
        await self._txn([], [delete(self._pin(key, entity))])

    async def pinned(self, now: float) -> Mapping[Key, frozenset[str]]:  # noqa: ARG002 - a store's
        """See `Store.pinned`."""
        records = await self._read(self._prefix.encode())
        return {key: frozenset(record.pins) for key, record in records.items() if record.pins}

    async def expire(self, now: float) -> int:
        """See `Store.expire`. What is over etcd has ended already; this deletes what told of it."""
        records = await self._read(self._prefix.encode())
        lapsed = (
            # Whoever claims it meanwhile writes its holder; nobody else can do anything with it.
            nested([unchanged(record.holder)], [delete(self._name(key), prefix=True)])
            for key, record in records.items()
            if record.holder is not None and record.info(now) is None
        )
        count = 0
        while bite := list(itertools.islice(lapsed, _BITE)):
            done = await self._txn([], bite)
            count += sum(isinstance(one, TxnResult) and one.succeeded for one in done.results)
        return count

    def __repr__(self) -> str:
        return f"<EtcdStore at {self._prefix[:-1]!r} in {self._client!r}>"

    # -- keys -------------------------------------------------------------------------------------

    def _name(self, key: Key, kind: str = "") -> bytes:
        return "".join((self._prefix, *(f"{quote(part, safe='')}/" for part in key), kind)).encode()

    def _pin(self, key: Key, entity: str) -> bytes:
        return self._name(key, f"pin/{quote(entity, safe='')}")

    def _no(self, key: Key, kind: str) -> dict[str, Any]:
        return absent(self._name(key, kind), prefix=kind.endswith("/"))

    async def _term(self, key: Key, request: Request, until: float) -> list[dict[str, Any]]:
        """Return what begins a term, in the transaction that is to follow."""
        seconds = _seconds(request)
        with _busy():
            lease = await self._client.grant(int(seconds))
        return [
            put(self._name(key, "until"), repr(until).encode()),
            put(self._name(key, f"term/{seconds}"), b"", lease=lease),
        ]

    # -- calls ------------------------------------------------------------------------------------

    async def _read(self, prefix: bytes) -> dict[Key, _Record]:
        with _busy():
            kvs = await self._client.read(prefix, prefix=True)
        records: defaultdict[Key, _Record] = defaultdict(_Record)
        for kv in kvs:
            namespace, model, name, kind, *rest = kv.key.decode()[len(self._prefix) :].split("/")
            key = Key(unquote(namespace), unquote(model), unquote(name))
            records[key].add(kind, "".join(rest), kv)
        return records

    async def _held_by(self, key: Key, holder: str, now: float) -> tuple[_Record, KeyValue, Info]:
        record = (await self._read(self._name(key))).get(key, _Record())
        info = record.info(now)
        if info is None or record.holder is None:
            raise Invalid(f"lease {key} is free")
        if info.holder != holder:
            raise Invalid(f"lease {key} is held by {info.holder!r}, not {holder!r}")
        return record, record.holder, info

    async def _txn(
        self,
        compares: Sequence[Mapping[str, Any]],
        then: Sequence[Mapping[str, Any]],
        otherwise: Sequence[Mapping[str, Any]] = (),
    ) -> TxnResult:
        with _busy():
            return await self._client.txn(compares, then, otherwise)


def _seconds(request: Request) -> str:
    return str(math.ceil(request.duration))


@contextmanager
def _busy() -> Generator[None]:
    try:
        yield
    except EtcdUnavailable as error:
        raise Busy(str(error)) from error
    except EtcdRefused as error:
        if error.code == _NOT_FOUND:  # we were so slow that the new term was over before it began
            raise Busy(str(error)) from error
        raise


@asynccontextmanager
async def open_etcd_store(config: EtcdConfig) -> AsyncGenerator[EtcdStore]:
    """Open the store that `config` tells of, and close it at the end.

    Raises:
        EtcdError: none of the endpoints answers, or it refuses; the message says how to go on.
    """
    async with open_etcd(
        config.endpoints,
        user=config.user,
        password=config.password,
        ssl_context=_ssl_context(config),
        timeout=config.timeout,
    ) as client:
        await client.read(config.prefix.encode(), prefix=True, limit=1)
        yield EtcdStore(client, config.prefix)


def _ssl_context(config: EtcdConfig) -> ssl.SSLContext | None:
    if config.ca_file is None and config.cert_file is None:
        return None
    context = ssl.create_default_context(cafile=config.ca_file)
    if config.cert_file is not None:
        context.load_cert_chain(config.cert_file, config.key_file)
    return context
