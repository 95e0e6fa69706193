"""The checker is right about histories that are easy to judge: good ones, and one of each bad kind.

In all of them ``a`` holds the lease from 0, and ``b`` from 4, for terms of 2.
"""

import attrs
import pytest

from .history import (
    TICK,
    Asked,
    Beat,
    Fault,
    GaveBack,
    Granted,
    History,
    Refused,
    Worked,
    Written,
    figures,
    hand_overs,
    problems,
    terms,
)

GOOD = History(
    duration=2.0,
    begin=0.0,
    end=6.0,
    asked=[Asked("a", "1", 0.0), Asked("a", "2", 1.0), Asked("b", "3", 4.0)],
    granted=[Granted("a", 0.1, 1, 2.0), Granted("a", 1.1, 1, 3.0), Granted("b", 4.1, 5, 6.0)],
    worked=[Worked("a", 2.7, 2.7, 1, 0.2), Worked("b", 4.2, 4.2, 5, 0.2)],
    written=[Written("a", 1, True), Written("b", 5, True), Written("a", 1, False)],
    faults=[Fault("kill -9", 2.0, 3.0)],
)


def changed(**fields: object) -> History:
    """The good history, with more records of these kinds."""
    return attrs.evolve(
        GOOD,
        **{name: [*getattr(GOOD, name), *more] for name, more in fields.items()},  # type: ignore[misc, arg-type]  # by name
    )


def one_problem(history: History) -> str:
    [problem] = problems(history)
    return problem


def test_nothing_is_wrong_with_the_good_one() -> None:
    assert problems(GOOD) == []
    assert [(one.holder, one.token, one.begin, one.until) for one in terms(GOOD)] == [
        ("a", 1, 0.1, 3.0),
        ("b", 5, 4.1, 6.0),
    ]


def test_terms_that_overlap_are_two_holders() -> None:
    bad = changed(granted=[Granted("c", 5.99, 6, 7.99)])
    assert one_problem(bad).startswith("two holders: c from 5.9900 under 6, while b until 6.0000")


def test_a_renewed_term_overlaps_as_well_as_a_fresh_one() -> None:
    bad = changed(granted=[Granted("a", 2.9, 1, 4.2)])
    assert one_problem(bad).startswith("two holders: b from 4.1000 under 5, while a until 4.2000")


def test_a_long_term_overlaps_also_with_the_next_but_one() -> None:
    bad = changed(granted=[Granted("a", 2.9, 1, 7.0), Granted("c", 6.5, 6, 8.5)])
    assert ["c from" in one for one in problems(bad) if "two holders" in one] == [False, True]


def test_what_is_given_back_is_over_at_once() -> None:
    history = changed(
        granted=[Granted("c", 5.5, 6, 7.5)],
        gave_back=[GaveBack("b", 5.4, 5)],
    )
    assert problems(history) == []


def test_a_grant_that_came_too_late_is_none() -> None:
    """Its process was stopped before it heard of it, and meanwhile another had its term."""
    history = changed(granted=[Granted("c", 5.5, 2, 4.0)])
    assert problems(history) == []


def test_a_lapsed_term_that_comes_back_under_its_token_overlaps_what_was_between() -> None:
    bad = changed(granted=[Granted("a", 6.1, 1, 8.0)], asked=[Asked("a", "8", 6.0)])
    assert one_problem(bad).startswith("two holders: b from 4.1000")


def test_a_token_that_does_not_grow_is_found() -> None:
    bad = changed(granted=[Granted("c", 6.1, 4, 8.1)])
    assert one_problem(bad) == "token 4 of c comes after 5"


def test_a_token_of_two_holders_is_found() -> None:
    bad = changed(granted=[Granted("c", 6.1, 5, 8.1)])
    assert problems(bad) == [
        "token 5 of c comes after 5",
        "token 5 was given to b and c",
    ]


def test_a_stale_write_that_was_accepted_is_found() -> None:
    bad = changed(written=[Written("a", 1, True)])
    assert one_problem(bad) == "a write of a under 1 was accepted after one under 5"


def test_a_write_under_a_token_of_nobody_is_found() -> None:
    bad = changed(written=[Written("b", 6, True)])
    assert one_problem(bad) == "a write of b was accepted under 6, which it was never given"


def test_who_works_on_after_it_was_to_give_up_is_found() -> None:
    late = [Worked("b", at, at - 0.001, 5, 0.2) for at in (5.81, 5.86)]
    assert one_problem(changed(worked=late)).startswith("b works on at 5.8600 under 5")


def test_who_works_under_what_it_was_never_given_is_found() -> None:
    bad = changed(worked=[Worked("c", 5.0, 5.0, 5, 0.2)])
    assert one_problem(bad) == "c works under 5, which it was never given"


@pytest.mark.parametrize(
    "ats",
    [
        pytest.param([5.75, 5.79], id="in time"),
        pytest.param([5.79, 5.84], id="once"),
        pytest.param([7.0], id="once, long after"),
    ],
)
def test_who_notices_in_time_or_at_once_has_given_up(ats: list[float]) -> None:
    assert problems(changed(worked=[Worked("b", at, at, 5, 0.2) for at in ats])) == []


def test_who_had_no_cpu_to_notice_is_not_found() -> None:
    """It finds itself late, and is late again when it could have noticed."""
    late = [
        Worked("b", 7.0, 5.8, 5, 0.2),
        Worked("b", 7.0 + 3 * TICK, 7.0 + TICK, 5, 0.2),
        Worked("b", 7.0 + 4 * TICK, 7.0 + 4 * TICK, 5, 0.2),
    ]
    assert problems(changed(worked=late)) == []


# -- hand-overs ------------------------------------------------------------------------------------


def later(seconds: float, **fields: object) -> History:
    """``b`` gets the lease so much later than 4 s after the last renewal of ``a``."""
    history = changed(**fields)
    return attrs.evolve(
        history,
        end=8.0 + seconds,
        asked=[*history.asked, Asked("b", "8", 7.0 + seconds)],
        granted=[*GOOD.granted[:2], Granted("b", 5.0 + seconds, 5, 8.0 + seconds)],
        worked=[],
    )


def test_a_hand_over_may_take_the_duration_and_two_seconds() -> None:
    assert problems(later(0.0)) == []
    assert one_problem(later(0.01)) == (
        "the hand-over from a (1) to b (5) took 4.01 s from 1.0000; it may take 4.00"
    )


def test_what_the_store_refused_was_no_renewal() -> None:
    asked = [Asked("a", "9", 2.0)]
    assert problems(later(0.5, asked=asked)) == []  # nobody knows what came of it
    assert problems(later(0.5, asked=asked, refused=[Refused("9")]))


def test_what_was_asked_after_the_term_was_no_renewal() -> None:
    assert problems(later(0.5, asked=[Asked("a", "9", 3.01)]))


def test_a_slow_machine_makes_the_bound_longer_by_what_was_measured() -> None:
    assert problems(later(0.5, beats=[Beat(2.0, 0.3), Beat(3.0, 0.3)])) == []
    assert problems(later(0.5, beats=[Beat(2.0, 0.3)]))
    assert problems(later(0.5, beats=[Beat(1.1, 0.6)])), "most of that was before"


def test_the_loss_of_a_leader_makes_it_longer_and_counts_from_there() -> None:
    lost = Fault("leader killed", 2.0, 2.5, extra=3.0)
    assert problems(later(3.9, faults=[lost])) == []
    assert problems(later(4.1, faults=[lost]))
    assert problems(later(0.5, faults=[lost._replace(begin=0.2, end=0.5)])), "it was over before"


def test_a_process_stopped_inside_its_transaction_excuses_and_is_counted() -> None:
    inside = Fault("SIGSTOP", 2.0, 6.0, is_inside=True)
    history = later(5.0, faults=[inside])
    assert problems(history) == []
    assert figures(history)["excused"] == "1"
    assert problems(later(5.0, faults=[inside._replace(is_inside=False)]))
    assert problems(later(5.0, faults=[inside._replace(begin=0.1, end=0.9)])), "it was over before"


def test_a_holder_that_comes_back_late_because_nobody_else_could_is_found() -> None:
    back = [Granted("b", 9.0, 5, 11.0)]
    bad = attrs.evolve(changed(granted=back, asked=[Asked("b", "8", 9.0)]), end=9.5)
    assert [(one.begin, one.until) for one in terms(bad)] == [(0.1, 3.0), (4.1, 11.0)]
    assert one_problem(bad).startswith("the hand-over from b (5) to b (5) took 5.00 s")


def test_that_nobody_follows_is_found_at_the_end() -> None:
    bad = attrs.evolve(GOOD, end=8.5)
    assert one_problem(bad).startswith("the hand-over from b (5) to nobody took 4.50 s")


def test_that_nobody_begins_is_found() -> None:
    assert one_problem(History(duration=1.0, begin=0.0, end=9.0)) == "nobody ever held the lease"
    late = attrs.evolve(GOOD, begin=-4.0)
    assert one_problem(late) == "nobody held the lease for 4.10 s in the beginning"


def test_the_figures_count() -> None:
    assert figures(GOOD) == {
        "seconds": "6",
        "claims and renewals": "3",
        "hand-overs": "1",
        "longest": "3.10 s of 4.00",
        "excused": "0",
        "writes": "2",
        "stale writes refused": "1",
        "faults": "1 kill -9",
        "machine late": "0.00 s",
    }
    assert [one.took for one in hand_overs(GOOD)] == [pytest.approx(3.1), pytest.approx(2.0)]
