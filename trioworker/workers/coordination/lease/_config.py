"""What can be set of the lease manager, and of stores."""

# No `from __future__ import annotations`: agent files look the types up where the class says that
# it lives, and that is the package.

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs

from trioworker.patterns import positive

from ._model import Namespace


def _not_negative(config: Any, attribute: Any, value: float) -> None:  # noqa: ARG001 - of attrs
    if not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be at least 0 and finite, not {value!r}")


def _at_least_one(config: Any, attribute: Any, value: int) -> None:  # noqa: ARG001 - of attrs
    if value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, not {value!r}")


def _usual() -> dict[str, Namespace]:
    name = "[a-z][a-z0-9-]*"
    return {
        "leadership": Namespace(names=name, holders=f"{name}/[0-9]+"),
        "singular": Namespace(),
    }


@final
@attrs.frozen(kw_only=True)
class Config:
    """How leases are managed.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    namespaces: Mapping[str, Namespace] = attrs.field(factory=_usual, repr=False)
    """Which there are, with their rules; by default ``leadership`` (of an application, by units
    like ``app/0``) and ``singular`` (anything, by anybody)."""
    max_sleep: float = attrs.field(default=60.0, validator=positive)
    """Look at the store after so many seconds at the latest, for what others did."""
    patience: float = attrs.field(default=55.0, validator=_not_negative)
    """How many seconds to wait, when stopped, for calls of the store that do not end."""
    concurrency: int = attrs.field(default=8, validator=_at_least_one)
    """So many claims are at the store at the same time. Of others, extensions go first."""


@final
@attrs.frozen(kw_only=True)
class SqliteConfig:
    """Where leases are kept in a SQLite file.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    path: Path
    """The database; it is made if it is not there."""
    busy_timeout: float = attrs.field(default=1.0, validator=_not_negative)
    """Seconds to wait while another process writes, before it is tried again later."""


def _endpoints(config: Any, attribute: Any, value: tuple[str, ...]) -> None:  # noqa: ARG001 - of attrs
    if not value:
        raise ValueError(f"{attribute.name} must name one member of etcd at least")
    for url in value:
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                f'{attribute.name} must be URLs like "http://127.0.0.1:2379", not {url!r}'
            )


def _directory(config: Any, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    if not value.endswith("/"):
        raise ValueError(f'{attribute.name} must end with a "/", unlike {value!r}')
    if "//" in value:  # by which a store tells its own keys from those of one below it
        raise ValueError(f'{attribute.name} must have no "//", unlike {value!r}')


@final
@attrs.frozen(kw_only=True)
class EtcdConfig:
    """Where leases are kept in etcd.

    Raises:
        ValueError: a field is not usable; the message names it.
    """

    endpoints: tuple[str, ...] = attrs.field(converter=tuple[str, ...], validator=_endpoints)
    """The members, like ``http://10.0.0.1:2379``; name several, so that one may fail."""
    prefix: str = attrs.field(default="/trioworker/leases/", validator=_directory)
    """What all keys begin with. Programs share leases if this is the same; one below it is not."""
    user: str = ""
    """Who we are, if etcd wants to know."""
    password: str = attrs.field(default="", repr=False)
    """The user's; in an agent file, ``"${ETCD_PASSWORD}"``."""
    ca_file: Path | None = None
    """Whom to trust, for ``https``; by default, whom the system trusts."""
    cert_file: Path | None = None
    """Our certificate, if etcd wants one from its clients."""
    key_file: Path | None = None
    """Its key, if that is another file."""
    timeout: float = attrs.field(default=2.0, validator=positive)
    """Seconds that one member has for one call; then the next is asked."""

    def __attrs_post_init__(self) -> None:
        if self.password and not self.user:
            raise ValueError("user must be named, as there is a password")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("cert_file must be named, as there is a key_file")


def _conninfo(config: Any, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    try:
        from trioworker.backends.postgres import check_conninfo  # noqa: PLC0415 - needs the extra
    except ImportError:
        return  # the store will say how to install it
    check_conninfo(value)


def _identifier(config: Any, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", value) or value.startswith("pg_"):
        raise ValueError(
            f"{attribute.name} must be a name of small letters, digits and underscores, at most "
            f"63, and not begin with a digit or pg_, unlike {value!r}"
        )


@final
@attrs.frozen(kw_only=True)
class PostgresConfig:
    """Where leases are kept in PostgreSQL, of version 12 or later.

    Connect to the server, or to a pooler that gives out sessions and not transactions.

    Raises:
        ValueError: a field is not usable; the message names it, and never quotes the conninfo.
    """

    conninfo: str = attrs.field(repr=False, validator=_conninfo)
    """How to connect, as libpq takes it: ``"host=db1 dbname=shop user=agent"``, or a URL. What it
    does not say comes from the environment; a password is best kept in ``PGPASSFILE``."""
    schema: str = attrs.field(default="trioworker", validator=_identifier)
    """Where the table is; it is made if it is not there. Programs share leases if they share it."""
    timeout: float = attrs.field(default=5.0, validator=positive)
    """Seconds to connect, and for a call; then it is tried again later."""
    connections: int = attrs.field(default=4, validator=_at_least_one)
    """So many calls are at the server at the same time."""
