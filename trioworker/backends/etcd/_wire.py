"""What calls and answers are made of, as JSON: keys, comparisons, operations, events, errors.

Bytes go in base64 and 64-bit numbers as strings; what has its default value does not come at all.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, final

from ._errors import EXHAUSTED, PASSING, EtcdRefused, Failed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST = 200  # characters of an answer that nobody expected, in a message


@final
class KeyValue(NamedTuple):
    """A key that is there."""

    key: bytes
    value: bytes
    create_revision: int
    """The revision that made it, after it was last deleted."""
    mod_revision: int
    """The revision that last wrote it."""
    lease: int
    """The lease that it is attached to; 0 if none."""


@final
class Event(NamedTuple):
    """What happened to a key."""

    is_delete: bool
    kv: KeyValue
    """As it is now; of one that was deleted, its key and the revision that did it."""


@final
class TxnResult(NamedTuple):
    """What a transaction did."""

    succeeded: bool
    """Whether all comparisons held."""
    revision: int
    """The store's, after it."""
    results: tuple[list[KeyValue] | int | TxnResult, ...]
    """What each operation gave, in their order: a read what it found, a put 0, a delete how many
    there were, a nested transaction its own result."""


# -- what a transaction is made of -----------------------------------------------------------------


def absent(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Compare: there is no such key; none that begins so, if `prefix`."""
    return {**_compare(key, prefix=prefix), "result": "EQUAL", "create_revision": "0"}


def present(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Compare: there is such a key; one at least that begins so, if `prefix`."""
    # Of a range all keys have to fulfil it; of an empty one, one that was never made.
    return {**_compare(key, prefix=prefix), "result": "GREATER", "create_revision": "0"}


def unchanged(kv: KeyValue) -> dict[str, Any]:
    """Compare: nobody has written or deleted the key since `kv` was read."""
    return {
        "key": _text(kv.key),
        "target": "MOD",
        "result": "EQUAL",
        "mod_revision": str(kv.mod_revision),
    }


def put(key: bytes, value: bytes, *, lease: int = 0) -> dict[str, Any]:
    """Write a key's value, and attach it to a lease or to none, whatever it was attached to."""
    return {"request_put": {"key": _text(key), "value": _text(value), "lease": str(lease)}}


def delete(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Delete a key; all that begin so, if `prefix`."""
    return {"request_delete_range": range_of(key, prefix=prefix)}


def read(key: bytes, *, prefix: bool = False) -> dict[str, Any]:
    """Read a key; all that begin so, if `prefix`."""
    return {"request_range": range_of(key, prefix=prefix)}


def nested(
    compares: Sequence[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    otherwise: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Decide once more, within a transaction; as `Client.txn`."""
    return {"request_txn": txn_of(compares, then, otherwise)}


def _compare(key: bytes, *, prefix: bool) -> dict[str, Any]:
    return {**range_of(key, prefix=prefix), "target": "CREATE"}


def range_of(key: bytes, *, prefix: bool) -> dict[str, Any]:
    return {"key": _text(key), **({"range_end": _text(_after(key))} if prefix else {})}


def txn_of(
    compares: Sequence[Mapping[str, Any]],
    then: Sequence[Mapping[str, Any]],
    otherwise: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {"compare": list(compares), "success": list(then), "failure": list(otherwise)}


# -- answers ---------------------------------------------------------------------------------------


def parsed(url: str, data: bytes | bytearray, status: int) -> dict[str, Any]:
    """Return an answer; raise what it says if that is an error.

    gRPC's number is in ``code``, or within ``error`` if the method streams, as ``grpc_code`` or as
    ``code``; which of them depends on the version.
    """
    try:
        answer: dict[str, Any] = json.loads(data)
        inner = answer.get("error")
    except (ValueError, AttributeError):
        raise EtcdRefused(url, 12, f"an answer with status {status} that is not etcd's") from None
    if status == HTTPStatus.OK and inner is None:
        return answer
    error: dict[str, Any] = inner if isinstance(inner, dict) else answer
    code = int(error.get("grpc_code", error.get("code", 2)))
    message = str(error.get("message") or inner or _cut(data.decode(errors="replace")))
    if code in PASSING or (code == EXHAUSTED and "too many requests" in message):
        raise Failed(message, was_sent=True)
    raise EtcdRefused(url, code, message)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _after(prefix: bytes) -> bytes:
    """Return the first key after all that begin with `prefix`."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"


def _kv(kv: Mapping[str, Any]) -> KeyValue:
    return KeyValue(
        b64decode(kv.get("key", "")),
        b64decode(kv.get("value", "")),
        int(kv.get("create_revision", 0)),
        int(kv.get("mod_revision", 0)),
        int(kv.get("lease", 0)),
    )


def kvs_of(answer: Mapping[str, Any]) -> list[KeyValue]:
    return [_kv(kv) for kv in answer.get("kvs", ())]


def event_of(event: Mapping[str, Any]) -> Event:
    return Event(event.get("type", "PUT") == "DELETE", _kv(event["kv"]))


def result_of(answer: Mapping[str, Any]) -> TxnResult:
    revision = int(answer.get("header", {}).get("revision", 0))
    results = tuple(_one_result(one) for one in answer.get("responses", ()))
    return TxnResult(bool(answer.get("succeeded", False)), revision, results)


def _one_result(response: Mapping[str, Any]) -> list[KeyValue] | int | TxnResult:
    if "response_txn" in response:
        return result_of(response["response_txn"])
    if "response_delete_range" in response:
        return int(response["response_delete_range"].get("deleted", 0))
    if "response_range" in response:
        return kvs_of(response["response_range"])
    return 0
