"""What a race has recorded, and whether it is as leases promise. No clock, no waiting.

**Terms.** Grants to one holder under one token are a term. It begins when the holder hears of the
first, not when the store grants it: before that nobody acts on it. It ends with the last `until`
that was heard, or when the holder gave it back. A grant whose `until` was over when it came is
none: its process was stopped on the way. Who dies does so within its term, which still lasts.

`problems` finds:

- **two holders at once**: terms that overlap;
- **tokens that do not grow** from term to term, or that two holders have;
- **stale writes** that the resource accepted, and accepted ones under a token never granted;
- **who does not give up**: a job at work after the time to give up, its margin before `until`. Who
  was stopped past it finds itself late, works once more, and has to notice before it does again: so
  two such records in a row are one too many, if both came punctually. A process that had no CPU
  in between is not punctual, and no proof of anything;
- **hand-overs that take too long**.

**A hand-over** is what lies between the last renewal of one term and the beginning of the next, or
until the holder itself goes on with a term that it had let lapse: nobody else came before. The
last renewal is the last that the holder sent, unless the store said that it was not done: nobody
can know when, and whether, one without an answer was. From there it may take the duration and
`SLACK`. To that is added what the fault calls for (`Fault.extra`, counted from when it began), and
by how much the machine was late meanwhile (`Beat`): a slow machine makes the bound longer by what
was measured, not by a guess. One that a process held up by being stopped inside its transaction has
no bound (`Fault.is_inside`), and is counted for itself.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SLACK = 2.0
"""Seconds that a hand-over may take beyond the duration."""

TICK = 0.05
"""Seconds from one record of a job to the next."""


@final
class Asked(NamedTuple):
    """A claimant asks the store to claim or extend."""

    holder: str
    number: str
    sent: float


@final
class Refused(NamedTuple):
    """The store has not done what was asked under that number."""

    number: str


@final
class Granted(NamedTuple):
    """A claimant has heard that it holds the lease."""

    holder: str
    received: float
    token: int
    until: float


@final
class GaveBack(NamedTuple):
    """A holder stops on purpose, and tells the store next."""

    holder: str
    at: float
    token: int


@final
class Worked(NamedTuple):
    """A job records that it works as the holder."""

    holder: str
    at: float
    due: float
    """When it wanted to."""
    token: int
    margin: float
    """So many seconds before its `until` it is to give up."""


@final
class Written(NamedTuple):
    """Something was offered to the resource."""

    holder: str
    token: int
    is_accepted: bool


@final
class Fault(NamedTuple):
    """Something was broken for a while."""

    what: str
    begin: float
    end: float
    extra: float = 0.0
    """How much longer a hand-over may take that it falls into, counted from its begin."""
    is_inside: bool = False
    """Whether a process was stopped that had a lock of the store."""


@final
class Beat(NamedTuple):
    """A heartbeat of the machine came late."""

    at: float
    late: float


@final
@attrs.frozen(kw_only=True)
class History:
    """All that was recorded in a race."""

    duration: float
    """Of terms; the longest that the store makes of it."""
    begin: float
    """When all claimants were ready."""
    end: float
    asked: list[Asked] = attrs.field(factory=list)
    refused: list[Refused] = attrs.field(factory=list)
    granted: list[Granted] = attrs.field(factory=list)
    gave_back: list[GaveBack] = attrs.field(factory=list)
    worked: list[Worked] = attrs.field(factory=list)
    written: list[Written] = attrs.field(factory=list)
    """In the order in which they reached the resource."""
    faults: list[Fault] = attrs.field(factory=list)
    beats: list[Beat] = attrs.field(factory=list)


@final
@attrs.define
class Term:
    """A term, from the holder's point of view."""

    holder: str
    token: int
    begin: float
    until: float


@final
class HandOver(NamedTuple):
    """From the last renewal of a term to the beginning of the next, or to the end of the race."""

    before: Term
    after: Term | None
    began: float
    took: float
    allowed: float
    is_excused: bool


def stretches(history: History) -> list[Term]:
    """Return when somebody held the lease without a pause, in the order in which that began."""
    found: list[Term] = []
    last: dict[tuple[str, int], Term] = {}
    for holder, received, token, until in sorted(history.granted, key=lambda grant: grant.received):
        before = last.get((holder, token))
        if before is not None and received <= before.until:
            before.until = max(before.until, until)
        elif received < until:
            found.append(Term(holder, token, received, until))
            last[holder, token] = found[-1]
    for holder, at, token in history.gave_back:
        if (holder, token) in last:
            last[holder, token].until = min(last[holder, token].until, at)
    return found


def terms(history: History) -> list[Term]:
    """Return the terms in the order in which they began."""
    found: dict[tuple[str, int], Term] = {}
    for one in stretches(history):
        found.setdefault((one.holder, one.token), one).until = one.until
    return list(found.values())


def hand_overs(history: History) -> list[HandOver]:
    """Return from term to term how long it took, and how long it might have.

    A term that went on after a pause, because its holder came back, is there twice.
    """
    every: list[Term | None] = [*stretches(history), None]
    refused = {number for (number,) in history.refused}
    asked = [one for one in history.asked if one.number not in refused]
    return [
        _hand_over(history, asked, before, after)
        for before, after in pairwise(every)
        if before is not None
    ]


def hands_changed(history: History) -> int:
    """Return how often the next term was another's."""
    return sum(before.holder != after.holder for before, after in pairwise(terms(history)))


def problems(history: History) -> list[str]:
    """Return what is not as leases promise; nothing if all is well."""
    return [
        *_never_held(history),
        *_overlaps(history),
        *_tokens(history),
        *_stale_writes(history),
        *_not_given_up(history),
        *_too_late(history),
    ]


def figures(history: History) -> dict[str, str]:
    """Return what happened, as numbers for people."""
    over = hand_overs(history)
    plain = [one for one in over if one.after is not None and not one.is_excused]
    longest = max(plain, key=lambda one: one.took, default=None)
    accepted = Counter(one.is_accepted for one in history.written)
    whats = Counter(fault.what for fault in history.faults)
    return {
        "seconds": f"{history.end - history.begin:.0f}",
        "claims and renewals": str(len(history.granted)),
        "hand-overs": str(hands_changed(history)),
        "longest": f"{longest.took:.2f} s of {longest.allowed:.2f}" if longest else "none",
        "excused": str(sum(one.is_excused for one in over)),
        "writes": str(accepted[True]),
        "stale writes refused": str(accepted[False]),
        "faults": ", ".join(f"{count} {what}" for what, count in sorted(whats.items())),
        "machine late": f"{sum(beat.late for beat in history.beats):.2f} s",
    }


def _hand_over(
    history: History, asked: Iterable[Asked], before: Term, after: Term | None
) -> HandOver:
    end = history.end if after is None else after.begin
    sent = [one.sent for one in asked if one.holder == before.holder and one.sent <= before.until]
    began = min(max(sent, default=before.begin), end)
    extra = 0.0
    for fault in history.faults:
        if fault.extra and fault.begin < end and began < fault.end:
            began, extra = max(began, fault.begin), max(extra, fault.extra)
    inside = (fault for fault in history.faults if fault.is_inside)
    return HandOver(
        before,
        after,
        began,
        end - began,
        history.duration + SLACK + extra + _lateness(history, began, end),
        any(fault.begin < end and began < fault.end for fault in inside),
    )


def _lateness(history: History, begin: float, end: float) -> float:
    """By how much the machine was late in that time: beats do not overlap."""
    return sum(
        max(0.0, min(at, end) - max(at - late, begin)) for at, late in history.beats if at > begin
    )


def _never_held(history: History) -> Iterator[str]:
    found = terms(history)
    allowed = history.duration + SLACK + _lateness(history, history.begin, history.end)
    if not found:
        yield "nobody ever held the lease"
    elif found[0].begin - history.begin > allowed:
        yield f"nobody held the lease for {found[0].begin - history.begin:.2f} s in the beginning"


def _overlaps(history: History) -> Iterator[str]:
    last: Term | None = None
    for term in terms(history):
        if last is not None and term.begin < last.until:
            yield (
                f"two holders: {term.holder} from {term.begin:.4f} under {term.token}, while "
                f"{last.holder} until {last.until:.4f} under {last.token}"
            )
        if last is None or term.until > last.until:
            last = term


def _tokens(history: History) -> Iterator[str]:
    every = terms(history)
    for before, after in pairwise(every):
        if after.token <= before.token:
            yield f"token {after.token} of {after.holder} comes after {before.token}"
    holders: dict[int, set[str]] = {}
    for holder, _, token, _ in history.granted:
        holders.setdefault(token, set()).add(holder)
    for token, names in holders.items():
        if len(names) > 1:
            yield f"token {token} was given to {' and '.join(sorted(names))}"


def _stale_writes(history: History) -> Iterator[str]:
    granted = {(grant.holder, grant.token) for grant in history.granted}
    greatest = 0
    for holder, token, is_accepted in history.written:
        if not is_accepted:
            continue
        if token < greatest:
            yield f"a write of {holder} under {token} was accepted after one under {greatest}"
        if (holder, token) not in granted:
            yield f"a write of {holder} was accepted under {token}, which it was never given"
        greatest = max(greatest, token)


def _not_given_up(history: History) -> Iterator[str]:
    grants: dict[tuple[str, int], list[Granted]] = {}
    for grant in history.granted:
        grants.setdefault((grant.holder, grant.token), []).append(grant)
    was_late: dict[tuple[str, int], bool] = {}
    for one in history.worked:
        key = one.holder, one.token
        untils = [grant.until for grant in grants.get(key, []) if grant.received <= one.at]
        if not untils:
            yield f"{one.holder} works under {one.token}, which it was never given"
            continue
        late = one.at > max(untils) - one.margin and one.at - one.due < TICK
        if late and was_late.get(key):
            yield (
                f"{one.holder} works on at {one.at:.4f} under {one.token}, whose term ends at "
                f"{max(untils):.4f}, and was to give up {one.margin:g} s before"
            )
        was_late[key] = late


def _too_late(history: History) -> Iterator[str]:
    for one in hand_overs(history):
        if one.took > one.allowed and not one.is_excused:
            to = "nobody" if one.after is None else f"{one.after.holder} ({one.after.token})"
            yield (
                f"the hand-over from {one.before.holder} ({one.before.token}) to {to} took "
                f"{one.took:.2f} s from {one.began:.4f}; it may take {one.allowed:.2f}"
            )
