"""What goes wrong with etcd, in the words of who has to do something about it."""

from __future__ import annotations

from ..._errors import TrioworkerError

_UNAUTHENTICATED = 16
_OLD_TOKEN = "revision of auth store is old"  # noqa: S105 - what etcd says
# gRPC's codes for what passes: cancelled, too slow, unavailable. And one that has two meanings.
PASSING = {1, 4, 14}
EXHAUSTED = 8

_LOGIN = "check user and password"
REFUSALS = {
    "code = InvalidArgument": 3,
    "code = PermissionDenied": 7,
    "code = Unauthenticated": _UNAUTHENTICATED,
}
_WAYS_OUT = {
    7: "give the user a role that may read and write there",
    EXHAUSTED: "compact and defragment it, or give it more space, and disarm the alarm",
    9: "enable authentication there, or name no user here",
    12: "it must be etcd 3.4 to 3.7, with its gRPC gateway enabled",
    _UNAUTHENTICATED: _LOGIN,
}


class EtcdError(TrioworkerError):
    """Something is wrong with etcd, or on the way there."""


class EtcdUnavailable(EtcdError):
    """No endpoint did it, for now. Of a transaction it is not known whether it was done."""


class EtcdRefused(EtcdError):
    """An endpoint has answered that it will not.

    Attributes:
        code: gRPC's number of the reason.
    """

    def __init__(self, endpoint: str, code: int, message: str) -> None:
        is_login = "authentication failed" in message  # an invalid argument, for etcd
        way_out = _LOGIN if is_login else _WAYS_OUT.get(code, "see etcd's log")
        super().__init__(f"etcd at {endpoint}: {message} (code {code}): {way_out}")
        self.code = code
        self.message = message


class LeaseLost(EtcdError):
    """The lease is over, and all keys that were attached to it are deleted."""


class Compacted(EtcdError):
    """What was to be watched from is forgotten: read again, and watch from there.

    Attributes:
        revision: the earliest that is known.
    """

    def __init__(self, endpoint: str, revision: int) -> None:
        super().__init__(
            f"etcd at {endpoint} has forgotten what was before revision {revision}: read again"
        )
        self.revision = revision


class Failed(Exception):
    """An endpoint did not do it; if `was_sent`, nobody knows whether it will."""

    def __init__(self, why: str, *, was_sent: bool) -> None:
        super().__init__(why)
        self.was_sent = was_sent


def is_about_token(refused: EtcdRefused) -> bool:
    return refused.code == _UNAUTHENTICATED or _OLD_TOKEN in refused.message
