"""What the manifold ``engine`` may offer to this one beyond what every `self_manifold` does."""

from __future__ import annotations

from typing import Protocol


class Exposition(Protocol):
    """Metrics as text for Prometheus, as of `PrometheusMetrics`."""

    content_type: str

    def text(self) -> bytes:
        """Return all of them as they are now."""
        ...


class Masking(Protocol):
    """Hides what must not be shown, as `Mask` of an agent file does."""

    def __call__(self, text: str, /) -> str:
        """Return `text` without it."""
        ...
