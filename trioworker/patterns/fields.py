"""What the fields of a config often have to be: validators for ``attrs.field``.

A config that refuses by itself what cannot be used is refused where it is written, and not where a
worker stumbles over it; see any ``Config`` of our workers.
"""

from __future__ import annotations

import math
from typing import Any


def named(config: object, attribute: Any, value: str) -> None:  # noqa: ARG001 - of attrs
    """Refuse an empty name. Raises ValueError, which names the field."""
    if not value:
        raise ValueError(f"{attribute.name} must be a name, not empty")


def positive(config: object, attribute: Any, value: float) -> None:  # noqa: ARG001 - of attrs
    """Refuse 0, what is less, infinity and NaN. Raises ValueError, which names the field."""
    if not 0 < value < math.inf:
        raise ValueError(f"{attribute.name} must be more than 0 and finite, not {value!r}")
