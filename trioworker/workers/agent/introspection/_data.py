"""What an engine tells, as plain JSON data. Pure functions.

What comes from workers (a report of their own, a name, the text of an error) is foreign: it may be
of any type and size, refer to itself, fail when it is looked at, or be made to look like something
else. So here it becomes strings, numbers, lists and objects of a bounded number, and no text is
ever anything but a string of JSON. The whole is ASCII: what is not, JSON escapes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from enum import Enum
from typing import Any, TypeAlias, cast, final

from trioworker import TombReport
from trioworker.dependency import Explanation, ManifoldReport, TaskStack, Transition

Json: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None

MOST_THINGS = 10_000
"""So many values of one worker's report are told."""
MOST_TEXT = 10_000
"""So many characters of each string."""
DEEPEST = 20
"""So deeply nested."""

OURS = frozenset(
    {"after", "before", "blast_radius", "cat", "cname", "inputs", "kind", "live", "manifold"}
    | {"optional", "ph", "roles", "state", "waiting_for"}
)
"""Keys of what the engine says in words of its own, and of names of manifolds. Programs compare
these, so they stay as they are, even if a variable has the value ``error`` or ``db``."""
OURS_NAMED = OURS | {"name"}
"""These, where a name is that of a manifold or of a state."""


def dumped(value: object) -> str:
    """Return `value` as JSON that every parser takes."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def plain(value: object) -> Json:
    """Return `value` as plain data, as far as it can be had; never raises."""
    return _Plain().of(value, 0)


@final
class _Plain:
    """One conversion, with what is left to it."""

    def __init__(self) -> None:
        self._left = MOST_THINGS

    def of(self, value: object, depth: int) -> Json:
        self._left -= 1
        try:
            if value is None or isinstance(value, bool):
                return value
            if isinstance(value, (str, int, float, Enum)):
                return _scalar(value)
            if depth >= DEEPEST:
                return "... (nested deeper)"
            return self._several(value, depth)
        except Exception as exc:  # noqa: BLE001 - looking at it runs foreign code
            return f"... ({type(exc).__name__} when looking at it)"

    def _several(self, value: object, depth: int) -> Json:
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            value = cast("Any", value)._asdict()
        if isinstance(value, Mapping):
            return self._object(cast("Mapping[object, object]", value), depth)
        if isinstance(value, (list, tuple, AbstractSet)):
            return self._array(cast("Iterable[object]", value), depth)
        return _clipped(repr(value))

    def _object(self, value: Mapping[object, object], depth: int) -> Json:
        told: dict[str, Json] = {}
        for key, item in value.items():
            if self._left <= 0:
                told["..."] = "there is more"
                break
            told[_clipped(key if isinstance(key, str) else repr(key))] = self.of(item, depth + 1)
        return told

    def _array(self, value: Iterable[object], depth: int) -> Json:
        told: list[Json] = []
        for item in value:
            if self._left <= 0:
                told.append("... (there is more)")
                break
            told.append(self.of(item, depth + 1))
        return told


def _scalar(value: str | float | Enum) -> Json:
    if isinstance(value, str):
        return _clipped(str(value))
    if isinstance(value, Enum):
        return _clipped(str(value.value))
    # JSON has no infinity, and browsers have no integers beyond 2**53.
    if isinstance(value, int):
        return int(value) if abs(value) < 2**53 else _clipped(str(value))
    return float(value) if math.isfinite(value) else repr(value)


def _clipped(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}..."


def masked(data: Any, mask: Callable[[str], str], ours: AbstractSet[str] = OURS) -> Any:
    """Return JSON data with `mask` over all its strings, save the keys of objects.

    What a worker reports is foreign in all its parts: there it is over keys and numbers too.

    Args:
        data: as made here.
        mask: hides what must not be seen.
        ours: the keys whose values are left as they are.
    """
    if isinstance(data, str):
        return mask(data)
    if isinstance(data, dict):
        return {
            key: value
            if key in ours
            else _all_masked(value, mask)
            if key == "worker"
            else masked(value, mask, ours)
            for key, value in data.items()
        }
    if isinstance(data, (list, tuple)):
        return [masked(value, mask, ours) for value in data]
    return data


def _all_masked(data: Json, mask: Callable[[str], str]) -> Json:
    if isinstance(data, dict):
        return {mask(key): _all_masked(value, mask) for key, value in data.items()}
    if isinstance(data, list):
        return [_all_masked(value, mask) for value in data]
    if data is None or isinstance(data, bool):
        return data
    text = str(data)
    told = mask(text)
    return data if told == text else told


def tomb_data(tomb: TombReport) -> Json:
    """Return the report of a life."""
    return plain(tomb)


def manifold_data(report: ManifoldReport) -> dict[str, Any]:
    """Return the report of one manifold."""
    told = report._asdict()
    told["roles"] = dict(report.roles)
    told["history"] = [end._asdict() for end in report.history]
    told["worker"] = plain(report.worker)
    if report.retry_in is not None and not math.isfinite(report.retry_in):
        told["retry_in"] = None
    return told


def explanation_data(explanation: Explanation, blast_radius: Iterable[str]) -> dict[str, Any]:
    """Return why a manifold is in its state, and who stops with it."""
    chain: list[Json] = []
    link: Explanation | None = explanation
    while link is not None:
        chain.append({"manifold": link.manifold, "state": link.state, "text": link.text})
        link = link.because
    return {
        "manifold": explanation.manifold,
        "state": explanation.state,
        "sentence": str(explanation),
        "chain": chain,
        "blast_radius": list(blast_radius),
    }


def transition_data(transition: Transition) -> dict[str, Any]:
    """Return one event."""
    return {**transition._asdict(), "text": str(transition)}


def stack_data(stack: TaskStack) -> dict[str, Any]:
    """Return where a task stands, and those in its nurseries."""
    return {
        "name": stack.name,
        "frames": list(stack.frames),
        "children": [stack_data(child) for child in stack.children],
    }
