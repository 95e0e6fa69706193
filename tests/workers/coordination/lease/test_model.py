"""When to look again, and how long to wait between attempts. No clock."""

import pytest

from trioworker.workers.coordination.lease import Info
from trioworker.workers.coordination.lease._model import ATTEMPTS, SLACK, nap, retry_delay


def lease(expiry: float, *, is_pinned: bool = False) -> Info:
    return Info("me", expiry, 1, is_pinned=is_pinned)


@pytest.mark.parametrize(
    "awaited, expected",
    [
        ([], 60),
        ([lease(1010)], 10),
        ([lease(1030), lease(1010), lease(1020)], 10),
        ([lease(1060)], 60),
        ([lease(2000)], 60),
        ([lease(1000)], 0),
        ([lease(900)], 0),  # not before now
        ([lease(900, is_pinned=True)], 60),  # ends when it is unpinned
        ([lease(900, is_pinned=True), lease(1010)], 10),
    ],
)
def test_the_next_look_is_after_the_earliest_end(awaited: list[Info], expected: float) -> None:
    assert nap(1000, awaited, 60) == expected + SLACK


def test_delays_grow_and_are_spread() -> None:
    longest = [retry_delay(attempt, 1) for attempt in range(ATTEMPTS - 1)]
    shortest = [retry_delay(attempt, 0) for attempt in range(ATTEMPTS - 1)]

    assert longest[0] == 0.05
    assert longest[1] == pytest.approx(0.08)
    assert sum(longest) == pytest.approx(5.6, abs=0.2)
    assert shortest == [delay / 2 for delay in longest]
