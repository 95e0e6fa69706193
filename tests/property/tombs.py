"""A model of a tomb: what T1 to T11 say, folded over a history."""

from __future__ import annotations

import math

import attrs
import trio

from trioworker import Dying

from .scripts import NURSERY, leaves


@attrs.frozen
class Rest:
    """A group like `group`, of the parts that are left."""

    group: BaseExceptionGroup[BaseException]
    parts: tuple[BaseException | Rest, ...]


Tree = BaseException | Rest
"""An error as it is expected: this very object, or what is left of a group."""


def without(error: BaseException, noise: set[int], owner: object) -> Tree | None:
    """Return what is real in `error`, the errors whose ids are in `noise` being none."""
    if not isinstance(error, BaseExceptionGroup):
        if isinstance(error, trio.Cancelled) or id(error) in noise:
            return None
        if isinstance(error, Dying) and error.owner is owner:
            return None
        return error
    parts = [without(part, noise, owner) for part in error.exceptions]
    left = tuple(part for part in parts if part is not None)
    if not left:
        return None
    if len(left) == 1 and error.message == NURSERY:
        return left[0]
    if left == error.exceptions:
        return error
    return Rest(error, left)


def tree_leaves(tree: Tree) -> list[BaseException]:
    if isinstance(tree, Rest):
        return [leaf for part in tree.parts for leaf in tree_leaves(part)]
    return leaves(tree)


def is_like(tree: Tree | None, error: BaseException | None) -> bool:
    """Say whether `error` is what was expected."""
    if not isinstance(tree, Rest):
        return tree is error
    return (
        isinstance(error, BaseExceptionGroup)
        and error.message == tree.group.message
        and len(error.exceptions) == len(tree.parts)
        and all(map(is_like, tree.parts, error.exceptions))
    )


class TombModel:
    """One life, as the contract tells it.

    Attributes:
        deadline: when the body is cancelled by our own doing.
        outside: whether a scope around the life was cancelled.
        cancelled: whether only a cancellation from outside ended it.
    """

    def __init__(self, tomb: object, grace: float) -> None:
        self.tomb = tomb
        self.grace = grace
        self.state = "alive"
        self.entered = False
        self.deadline = math.inf
        self.outside = False
        self.cancelled = False
        self.reason: Tree | None = None
        self.others: list[Tree] = []
        # When kill() itself cancelled, its story is in the Cancelled (T10).
        self.told = False

    def kill(self, now: float, error: BaseException | None, grace: float | None = None) -> None:
        if self.state == "dead":
            return
        if error is not None:
            self.take(error)
        self.state = "dying"
        if self.entered:
            seconds = self.grace if grace is None else min(grace, self.grace)
            if seconds == 0 and now < self.deadline:
                self.told = True
            self.deadline = min(self.deadline, now + seconds)

    def enter(self, now: float) -> None:
        self.entered = True
        if self.state == "dying":
            self.deadline = now
            self.told = True

    def take(self, error: BaseException) -> None:
        known = {
            id(leaf) for tree in (self.reason, *self.others) if tree for leaf in tree_leaves(tree)
        }
        whole = without(error, set(), self.tomb)
        fresh = without(error, known, self.tomb)
        if self.reason is None:
            self.reason = whole
        elif fresh is None or whole is self.reason:
            pass
        elif is_ordinary(self.reason) and not is_ordinary(fresh):
            self.others.insert(0, self.reason)
            self.reason = fresh
        else:
            self.others.append(fresh)

    def leave(self, error: BaseException | None) -> None:
        """The block is being left with `error`."""
        if error is not None:
            self.take(error)
        self.state = "dead"
        # Nothing real, and only what a scope outside has sent: that is not ours to keep.
        self.cancelled = (
            self.outside
            and self.reason is None
            and error is not None
            and any(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))
        )

    def is_cancelled(self, now: float) -> bool:
        """Say whether what is inside is being cancelled."""
        return self.outside or self.cancels_clients(now)

    def cancels_clients(self, now: float) -> bool:
        """Say whether a client's call that is inside is being interrupted."""
        return now >= self.deadline or self.state == "dead"


def is_ordinary(tree: Tree) -> bool:
    return all(isinstance(leaf, Exception) for leaf in tree_leaves(tree))
