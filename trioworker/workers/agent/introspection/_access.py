"""Who may ask what. Pure functions over a request.

- Whoever asks means this machine: a page elsewhere whose name was made to point here (DNS
  rebinding) sends that name as ``Host``, and is refused. So is what another page has sent, which
  its ``Origin`` tells.
- Over the Unix socket the user at the other end is the permission: ours, or root.
- Over TCP it is the token, as ``Authorization: Bearer TOKEN``. Never in a URL, because those are
  logged; and not as the password of ``Basic``, because browsers send that along unasked.
- What changes something is refused over TCP unless that was enabled.
"""

from __future__ import annotations

import hmac
import re
from typing import Protocol, final
from urllib.parse import urlsplit

import attrs

_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_ROOT = 0


class Asking(Protocol):
    """What is to be known of a request."""

    @property
    def peer_uid(self) -> int | None:
        """The user at the other end of a Unix socket; ``None`` over TCP."""
        ...

    def header(self, name: str) -> str | None:
        """Return a header by its lower-case name."""
        ...


@final
@attrs.frozen(kw_only=True)
class Rules:
    """What is allowed."""

    uid: int
    """Who may use the Unix socket, beside root."""
    token: str | None = attrs.field(default=None, repr=False)
    """What has to be known over TCP; without one nobody gets in."""
    actions_over_tcp: bool = False
    """Whether something may be changed over TCP."""


@final
@attrs.frozen
class Refusal:
    """Why a request is not answered."""

    status: int
    error: str
    hint: str


def refusal(asking: Asking, rules: Rules, *, is_action: bool) -> Refusal | None:
    """Return why `asking` is refused; ``None`` if it is not.

    Args:
        asking: the request.
        rules: what is allowed.
        is_action: whether it would change something.
    """
    host = asking.header("host")
    if host is None or not _HOST.fullmatch(host):
        return Refusal(403, "the host of the request is not this one", "ask http://localhost")
    if not _is_own(asking.header("origin"), host):
        return Refusal(403, "the request comes from another page", "use the page of this program")
    if asking.peer_uid is None:
        if not _knows(asking.header("authorization"), rules.token):
            hint = "send the header 'Authorization: Bearer TOKEN'"
            return Refusal(401, "the token is missing or wrong", hint)
    elif asking.peer_uid not in {rules.uid, _ROOT}:
        return Refusal(403, "this socket is for its owner", "ask as the user who runs the program")
    if is_action and asking.peer_uid is None and not rules.actions_over_tcp:
        hint = "use the Unix socket, or set actions_over_tcp"
        return Refusal(403, "actions are off over TCP", hint)
    return None


def _knows(authorization: str | None, token: str | None) -> bool:
    if token is None or authorization is None:
        return False
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    # As long for a wrong one as for the right one, wherever they differ. A header is latin-1.
    return hmac.compare_digest(given.strip().encode("latin-1"), token.encode())


def _is_own(origin: str | None, host: str) -> bool:
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == "http" and parts.netloc.lower() == host.lower()
