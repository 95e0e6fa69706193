"""Why a manifold is in its state, down to the root cause. Pure functions over the engine's nodes.

An explanation is a chain: each link says one thing about one manifold, and points to the manifold
that is the reason. Following it ends where something other than waiting is the cause: an error, an
operator, a start function that has not called ``started()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

from ._node import place, span, task_frames
from ._states import BUSY, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._node import Node


@final
class Explanation(NamedTuple):
    """One link of a chain of causes; ``str()`` says the whole chain in a sentence."""

    manifold: str
    state: str
    text: str
    """What is to be said of this manifold, beginning with its name."""
    because: Explanation | None = None
    """The manifold that is the reason, if it is another's doing."""

    @property
    def root(self) -> Explanation:
        """The last link: where the cause lies."""
        link = self
        while link.because is not None:
            link = link.because
        return link

    def __repr__(self) -> str:
        return f"<Explanation {str(self)!r}>"  # a tuple's own would recurse along the chain

    def __str__(self) -> str:
        texts: list[str] = []
        link: Explanation | None = self
        while link is not None:
            texts.append(link.text)
            link = link.because
        return "; ".join(texts)


def explained(node: Node, now: float, *, is_open: bool) -> Explanation:
    """Return the chain of causes of the state of `node`.

    Args:
        node: whose state.
        now: the present time of the engine.
        is_open: whether the engine has begun to run.
    """
    chain: dict[Node, str] = {}
    current: Node | None = node
    while current is not None and current not in chain:
        text, following = _TELL[current.state](current, now, is_open)
        chain[current] = f"{current.name} {text}"
        current = following
    because: Explanation | None = None
    for link, text in reversed(chain.items()):
        because = Explanation(manifold=link.name, state=str(link.state), text=text, because=because)
    assert because is not None, "a chain has a first link"  # noqa: S101 - for the types
    return because


_Link = tuple[str, "Node | None"]


def _absent(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    return f"is not installed{_because(node.farewell)}", None


def _waiting(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    if node.missing is not None:
        inputs = ", ".join(o.name for o in (*node.required, *node.optional, *node.live))
        return f"waits for a change of its inputs ({inputs or 'it has none'}): {node.missing}", None
    unready = [other for other in node.required if other.state is not State.STARTED]
    if unready:
        return f"waits for {', '.join(other.name for other in unready)}", _telling(unready)
    busy = [other for other in node.optional if other.state in BUSY]
    if busy:
        names = ", ".join(other.name for other in busy)
        return f"waits until its optional {names} has settled", busy[0]
    if not is_open:
        return "waits for the engine to run", None
    return "is about to start", None


def _delayed(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    left = 0.0 if node.delay is None else max(0.0, node.delay.when - now)
    failures = 0 if node.restarts is None else node.restarts.failures
    nth = f", {_ordinal(failures)} failure" if failures > 1 else ""
    return f"is backing off {span(left)} more{_after(node.why)}{nth}", None


def _starting(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    where = "it has not begun to run"
    if node.run is not None and node.run.task is not None:
        where = f"it is at {place(task_frames(node.run))}"
    since = span(now - node.since)
    return f"has been starting for {since} without calling started(); {where}{_again(node)}", None


def _started(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    absent = ", ".join(other.name for other in node.optional if other.state is State.ABSENT)
    without = f"; its optional {absent} is not installed" if absent else ""
    return f"has been started for {span(now - node.since)}{_again(node)}{without}", None


def _draining(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    users = _holding_up(node)
    names = ", ".join(user.name for user in users)
    cause = None if node.run is None else node.run.cause
    if not users:  # asked for in the middle of a transition, by foreign code
        return f"is about to stop{_because(cause)}", None
    return f"stops{_because(cause)} once {names} has ended", _telling(users)


def _stopping(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    text = f"has been stopping for {span(now - node.since)}"
    run = node.run
    if run is None:
        return text, None
    if run.stuck is not None:
        return f"{text}{_because(run.cause)} and is stuck at {run.place}", None
    how = "; it was asked and not cancelled yet" if run.soft else ""
    return f"{text}{_because(run.cause)}{how}", None


def _done(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    was_ready = not node.history or node.history[-1][6]
    how = "without error" if was_ready else "without error and without having called started(),"
    return f"is done: it returned {how} {span(now - node.since)} ago", None


def _failed(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    return f"was restarted too often and failed{_after(node.why)}", None


def _held(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    return f"is held by an operator, for {span(now - node.since)}", None


def _stopped(node: Node, now: float, is_open: bool) -> _Link:  # noqa: ARG001, FBT001 - one signature
    cause = node.history[-1][4] if node.history else None
    return f"is stopped with its engine{_because(cause)}", None


_TELL: dict[State, Callable[[Node, float, bool], _Link]] = {
    State.ABSENT: _absent,
    State.WAITING: _waiting,
    State.DELAYED: _delayed,
    State.STARTING: _starting,
    State.STARTED: _started,
    State.DRAINING: _draining,
    State.STOPPING: _stopping,
    State.DONE: _done,
    State.FAILED: _failed,
    State.HELD: _held,
    State.STOPPED: _stopped,
}


def _holding_up(node: Node) -> list[Node]:
    """Return those whose end `node` waits for: its users, or theirs if they have ended early."""
    found: list[Node] = []
    queue = [node]
    for held in queue:
        for other in held.dependents():
            if other.run is not None and other.run.stuck is None and held in other.run.uses:
                found.append(other)
            elif other not in queue and any(held in run.uses for run in other.owed):
                queue.append(other)
    return found


def _telling(nodes: list[Node]) -> Node | None:
    """Of several, the one whose own chain is shortest to the cause: one that does not wait."""
    return next((n for n in nodes if n.state is not State.WAITING), nodes[0] if nodes else None)


def _because(cause: str | None) -> str:
    return f" ({cause})" if cause else ""


def _again(node: Node) -> str:
    """Say why this is not the first run."""
    if not node.history:
        return ""
    _, kind, error, _, cause, *_ = node.history[-1]
    return f"; its last run ended{_because(cause or error or kind)}"


def _after(error: str | None) -> str:
    return f" after {error}" if error else ""


def _ordinal(n: int) -> str:
    suffix = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
