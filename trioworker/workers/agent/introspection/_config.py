"""What can be set of the introspection of a program."""

# No `from __future__ import annotations`: agent files look the types up where the class says that
# it lives, and that is the package.

import ipaddress
from pathlib import Path
from typing import Any, final

import attrs

LEAST_TOKEN = 16
"""A token of fewer characters could be guessed."""


def _check_port(config: "Config", attribute: Any, value: int | None) -> None:  # noqa: ARG001 - of attrs
    if value is not None and not 0 <= value < 2**16:
        raise ValueError(f"port must be from 0 to 65535, not {value}")


def _check_host(config: "Config", attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    try:
        is_loopback = ipaddress.ip_address(value).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(
            "host must be an address of the loopback interface, 127.0.0.1 or ::1; for others put a "
            "proxy in front, one that encrypts"
        )


def _check_token(config: "Config", attribute: Any, value: str | None) -> None:  # noqa: ARG001 - of attrs
    # The value is never told.
    if value is None:
        if config.port is not None:
            raise ValueError("token is missing: over TCP nothing else tells who asks")
    elif len(value) < LEAST_TOKEN:
        raise ValueError(f"token must have at least {LEAST_TOKEN} characters")
    elif not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError("token must be of ASCII characters without spaces")


def _check_connections(config: "Config", attribute: Any, value: int) -> None:  # noqa: ARG001 - of attrs
    if value < 1:
        raise ValueError(f"connections must be at least 1, not {value}")


@final
@attrs.frozen(kw_only=True)
class Config:
    """Where a program can be asked how it is, and by whom.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    socket: Path | None = None
    """The Unix socket; by default that of `socket_path`. Its directory must be closed to others."""
    port: int | None = attrs.field(default=None, validator=_check_port)
    """Listen on the loopback interface too, at this TCP port; 0 for any that is free."""
    host: str = attrs.field(default="127.0.0.1", validator=_check_host)
    """The address of the loopback interface to listen on."""
    token: str | None = attrs.field(default=None, repr=False, validator=_check_token)
    """What has to be known over TCP."""
    actions_over_tcp: bool = False
    """Whether manifolds may be restarted, held and so on over TCP; over the Unix socket always."""
    connections: int = attrs.field(default=64, validator=_check_connections)
    """So many at the same time over the Unix socket, and as many over TCP."""
