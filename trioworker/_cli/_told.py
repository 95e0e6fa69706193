"""What a running program tells, taken out of its JSON answers. Pure.

An answer may be JSON and still not be what was asked for: `told` makes one error of all the ways in
which that shows. No text in here is safe to print before it went through `shown`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, final

from ._client import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_ERRORS = frozenset({"error", "fatal"})
"""The ends that were errors, and no verdict and no stop."""


def told(make: Callable[..., T], *answers: Any) -> T:
    """Return what `make` makes of `answers`.

    Raises:
        ClientError: they are not made as ours are.
    """
    try:
        return make(*answers)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        msg = f"what answers is no trioworker program: {type(exc).__name__}: {exc}"
        raise ClientError(msg) from None


@final
class Row(NamedTuple):
    """One manifold, as `trioworker status` shows it."""

    name: str
    state: str
    why: str
    """Down to the cause; empty while it is started."""
    since: float
    """Seconds that it has been in its state."""
    starts: int
    last_error: str
    """What it last failed of, if it is known."""
    error_age: float | None
    """Seconds since then."""
    retry_in: float | None
    """Seconds until the next start, if it is backing off."""
    failures: int
    """How many there were in a row."""


@final
class Picture(NamedTuple):
    """How a program stands."""

    name: str
    dying: str
    """Why it is stopping, or that it is; empty while it is not."""
    rows: list[Row]
    ready: bool

    @property
    def summary(self) -> str:
        """All in a line: whether it is ready, and how many are in which state."""
        states = Counter(row.state for row in self.rows)
        counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
        number = len(self.rows)
        manifolds = f"{number} manifold{'' if number == 1 else 's'}"
        how = self.dying or ("ready" if self.ready else "not ready")
        return f"{how}: {manifolds}{', ' if counts else ''}{counts}"


@final
class Link(NamedTuple):
    """One manifold in a chain of causes."""

    name: str
    state: str
    text: str
    """What is said of it, without its name."""


@final
class Why(NamedTuple):
    """Why a manifold is in its state."""

    sentence: str
    chain: list[Link]
    blast_radius: list[str]


@final
class Ended(NamedTuple):
    """One end of a run."""

    epoch: float
    """When, by the clock on the wall."""
    ago: float
    manifold: str
    kind: str
    lasted: float
    why: str


@final
class Stack(NamedTuple):
    """One task and the tasks in its nurseries."""

    name: str
    frames: list[str]
    children: list[Stack]


def waiting(ready: Any) -> dict[str, tuple[str, str]]:
    """Return state and sentence of those that a program is waiting for; none if it is ready."""
    if ready["ready"] is True:
        return {}
    found = {
        str(one["manifold"]): (str(one["state"]), str(one["sentence"])) for one in ready["waiting"]
    }
    if not found:
        # An engine without manifolds, or one that stops, may have no manifold to blame.
        return {"": ("", "the program is not ready, and names no manifold")}
    return found


def picture(report: Any, ready: Any) -> Picture:
    """Return how a program stands, by its report and by whether it is ready."""
    missing = waiting(ready)
    manifolds: dict[str, Any] = dict(report["manifolds"])
    now = float(report["now"])
    tomb = report["tomb"]
    dying = ""
    if tomb["state"] != "alive":
        dying = "stopping" if tomb["state"] == "dying" else str(tomb["state"])
        dying += f" ({tomb['reason']})" if tomb["reason"] else ""
    return Picture(
        name=str(report["name"]),
        dying=dying,
        rows=[
            _row(one, _why(one, missing.get(name, ("", ""))[1], manifolds), now)
            for name, one in manifolds.items()
        ],
        ready=not missing,
    )


def _row(one: Any, why: str, now: float) -> Row:
    failed = [end for end in one["history"] if end["kind"] in _ERRORS]
    return Row(
        name=str(one["name"]),
        state=str(one["state"]),
        why=why,
        since=float(one["since"]),
        starts=int(one["starts"]),
        last_error=str(failed[-1]["error"]) if failed else "",
        error_age=max(0.0, now - float(failed[-1]["time"])) if failed else None,
        retry_in=None if one["retry_in"] is None else float(one["retry_in"]),
        failures=int(one["failures"]),
    )


def _why(one: Any, sentence: str, manifolds: dict[str, Any]) -> str:
    """Return why `one` is in its state. What is told in the row of the root is not told again."""
    if one["state"] == "started":
        return ""
    if one["state"] == "held":
        return "by an operator"
    root = _root(one, manifolds)
    if root is None:
        said = one["stop_cause"] or one["why"] or ""
        return _without(sentence, str(one["name"])) or str(said)
    names = ", ".join(str(name) for name in one["waiting_for"])
    return f"waits for {names}" + (f", because of {root}" if root not in one["waiting_for"] else "")


def _root(one: Any, manifolds: dict[str, Any]) -> str | None:
    """Return at whom a chain of waits ends, if it is one that has a row to tell why."""
    seen: list[str] = []
    while one is not None and _waits(one):
        following = [str(name) for name in one["waiting_for"]]
        # As an explanation goes: to one that does not wait itself, if there is one.
        others = (name for name in following if not _waits(manifolds.get(name)))
        seen.append(next(others, following[0]))
        if seen.count(seen[-1]) > 1:
            return None
        one = manifolds.get(seen[-1])
    return seen[-1] if seen and one is not None else None


def _waits(one: Any) -> bool:
    return one is not None and one["state"] == "waiting" and bool(one["waiting_for"])


def _without(text: str, name: str) -> str:
    return text.removeprefix(name).strip()


def why(answer: Any) -> Why:
    """Return the chain of causes that an explanation has."""
    chain = [
        Link(str(one["manifold"]), str(one["state"]), _without(str(one["text"]), one["manifold"]))
        for one in answer["chain"]
    ]
    return Why(str(answer["sentence"]), chain, [str(name) for name in answer["blast_radius"]])


def ends(report: Any) -> list[Ended]:
    """Return the latest ends of all manifolds, oldest first."""
    now, epoch = float(report["now"]), float(report["epoch"])
    found = [
        Ended(
            epoch=epoch - (now - float(end["time"])),
            ago=max(0.0, now - float(end["time"])),
            manifold=str(name),
            kind=str(end["kind"]),
            lasted=float(end["lasted"]),
            why=str(end["error"] or end["cause"] or ""),
        )
        for name, one in report["manifolds"].items()
        for end in one["history"]
    ]
    return sorted(found, key=lambda end: end.epoch)


def transition(event: Any) -> str:
    """Return what is said of a transition."""
    return str(event["text"])


def stack(task: Any) -> Stack:
    """Return a task and those below it."""
    frames = [str(frame) for frame in task["frames"]]
    return Stack(str(task["name"]), frames, [stack(child) for child in task["children"]])
