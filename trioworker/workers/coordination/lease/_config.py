"""What can be set of the lease manager, and of a store in a file."""

# No `from __future__ import annotations`: agent files look the types up where the class says that
# it lives, and that is the package.

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import attrs

from ._model import Namespace


def _positive(config: Any, attribute: Any, value: float) -> None:  # noqa: ARG001 - of attrs
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be more than 0 and finite, not {value!r}")


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
    max_sleep: float = attrs.field(default=60.0, validator=_positive)
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
