"""What the manifold ``engine`` may offer to this one beyond what every `self_manifold` does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Exposition(Protocol):
    """Metrics as text for Prometheus, as of `PrometheusMetrics`."""

    content_type: str

    def parts(self) -> Iterator[bytes]:
        """Yield all of them as they are now, in pieces between which one may pause."""
        ...


class Masking(Protocol):
    """Hides what must not be shown, as `Mask` of an agent file does."""

    def __call__(self, text: str, /) -> str:
        """Return `text` without it."""
        ...
