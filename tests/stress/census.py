"""What is in memory: a census by type, and what has grown from one to the next.

A leak need not be an object that the garbage collector knows: a list may grow by numbers, and a
tuple of texts is not tracked. So a census has three figures:

- how many objects of each type there are, as far as the collector tracks them;
- how many bytes all objects of a type take by themselves, their room for elements included;
- how many blocks the interpreter has handed out, whatever is in them.

Containers grow in steps, so sizes get a slack.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import TYPE_CHECKING, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

SLACK = 160 * 1024
"""Bytes that the objects of a type may take more, together, without anything having leaked.

A set keeps the room of those that have left it until it grows again, so the set of a nursery's
tasks is now 32 KiB and now 128 KiB with the same thousand of them going in and out. A leak of one
pointer for each of the least that a soak does, 60 000 starts, is 480 KiB.
"""


@final
@attrs.frozen
class Census:
    """The figures of one moment."""

    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    blocks: int

    @classmethod
    def taken(cls) -> Census:
        """Collect garbage and count what is left."""
        for _ in range(3):  # what a finalizer frees is found by the next
            gc.collect()
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for one in gc.get_objects():
            name = _kind_of(one)
            counts[name] += 1
            sizes[name] += sys.getsizeof(one)
        return cls(counts, sizes, sys.getallocatedblocks())

    def of_package(self, package: str) -> dict[str, int]:
        """Return how many objects there are of each type that `package` defines."""
        return {kind: n for kind, n in self.counts.items() if kind.startswith(f"{package}.")}


def growth(before: Census, after: Census, *, objects: int, blocks: int) -> list[str]:
    """Say what has grown, worst first.

    Args:
        before: the earlier census.
        after: the later one.
        objects: how many objects more of a type there may be.
        blocks: how many blocks more there may be.
    """
    found: list[tuple[int, str]] = []
    for kind, count in after.counts.items():
        more = count - before.counts.get(kind, 0)
        if more > objects:
            found.append((more, f"{more} more {kind}, of which {count} are there"))
        size = after.sizes[kind] - before.sizes.get(kind, 0)
        if size > SLACK:
            found.append((size, f"{size} bytes more in {count} {kind}"))
    if (more := after.blocks - before.blocks) > blocks:
        found.append((more, f"{more} more blocks of memory, of which {after.blocks} are there"))
    return [told for _, told in sorted(found, reverse=True)]


def _kind_of(one: object) -> str:
    kind = type(one)
    return f"{kind.__module__}.{kind.__qualname__}"
