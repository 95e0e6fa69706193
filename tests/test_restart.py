"""Restart policy: numbers in, numbers out; no clock, no dice, no Trio."""

import ast
import math
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

from trioworker import _restart
from trioworker._restart import RestartPolicy, Restarts

PLAIN = RestartPolicy(jitter=0.0)

spreads = st.floats(-1, 1)
policies = st.builds(
    RestartPolicy,
    error_delay=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    max_delay=st.floats(1e6, math.inf),
    jitter=st.floats(0, 1),
)


# -- the policy ------------------------------------------------------------------------------------


def test_the_documented_defaults() -> None:
    assert attrs.asdict(RestartPolicy()) == {
        "error_delay": 1.0,
        "factor": 1.5,
        "max_delay": 60.0,
        "jitter": 0.1,
        "reset_after": 60.0,
        "bounce_delay": 0.01,
        "max_restarts": None,
        "period": 60.0,
    }


@pytest.mark.parametrize(
    "field",
    ["error_delay", "max_delay", "reset_after", "bounce_delay", "period", "factor", "jitter"],
)
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf])
def test_a_negative_value_or_nan_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"RestartPolicy\({field}={value}\): {field} must be "):
        RestartPolicy(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field",
    ["error_delay", "max_delay", "reset_after", "bounce_delay", "period", "factor", "jitter"],
)
@pytest.mark.parametrize("value", ["1", None, True, [], 1j])
def test_a_wrong_type_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        RestartPolicy(**{field: value})

    assert f"RestartPolicy({field}={value!r}): {field} must be a number" in str(caught.value)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("factor", 0.5, "RestartPolicy(factor=0.5): factor must be at least 1"),
        ("factor", math.inf, "RestartPolicy(factor=inf): factor must be finite"),
        ("jitter", 1.5, "RestartPolicy(jitter=1.5): jitter must be from 0 to 1"),
        (
            "bounce_delay",
            0,
            (
                "RestartPolicy(bounce_delay=0): bounce_delay must be greater than 0 and finite, "
                "in seconds, not 0"
            ),
        ),
        (
            "bounce_delay",
            math.inf,
            (
                "RestartPolicy(bounce_delay=inf): bounce_delay must be greater than 0 and finite, "
                "in seconds, not inf"
            ),
        ),
        (
            "error_delay",
            math.inf,
            (
                "RestartPolicy(error_delay=inf): error_delay must be at least 0 and finite, "
                "in seconds, not inf"
            ),
        ),
        (
            "period",
            0,
            "RestartPolicy(period=0): period must be greater than 0, in seconds, not 0",
        ),
        (
            "max_restarts",
            -1,
            "RestartPolicy(max_restarts=-1): max_restarts must be at least 0, or None for no limit",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        RestartPolicy(**{field: value})

    assert str(caught.value) == message


@pytest.mark.parametrize("value", [True, 1.0, "3", math.inf])
def test_max_restarts_is_an_int(value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        RestartPolicy(max_restarts=value)

    assert str(caught.value) == (
        f"RestartPolicy(max_restarts={value!r}): max_restarts must be an int of at least 0, "
        "or None for no limit"
    )


def test_max_delay_below_error_delay_is_refused_naming_both() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared below
        RestartPolicy(error_delay=5.0, max_delay=1.0)

    assert str(caught.value) == (
        "RestartPolicy(error_delay=5.0, max_delay=1.0): max_delay must be at least error_delay"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"error_delay": 0},
        {"error_delay": 7, "max_delay": 7},
        {"factor": 1},
        {"max_delay": math.inf},
        {"jitter": 0},
        {"jitter": 1},
        {"reset_after": 0},
        {"reset_after": math.inf},
        {"bounce_delay": 1e-9},
        {"max_restarts": 0},
        {"period": math.inf},
    ],
)
def test_the_ends_of_each_range_are_accepted(fields: dict[str, Any]) -> None:
    policy = RestartPolicy(**fields)

    assert {name: getattr(policy, name) for name in fields} == fields


def test_a_policy_is_frozen_and_keyword_only() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RestartPolicy().factor = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        RestartPolicy(1.0)  # type: ignore[call-arg]


# -- delays ----------------------------------------------------------------------------------------


def test_consecutive_errors_grow_the_delay_up_to_the_longest() -> None:
    restarts = Restarts()
    policy = RestartPolicy(error_delay=1.0, factor=2.0, max_delay=10.0, jitter=0.0)

    assert [restarts.error_delay(policy, 0.0, 0.0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]
    assert restarts.failures == 6


def test_health_shorter_than_reset_after_does_not_reset() -> None:
    restarts = Restarts()
    restarts.error_delay(PLAIN, 0.0, 0.0)

    assert restarts.error_delay(PLAIN, 59.999, 0.0) == 1.5
    assert restarts.failures == 2


def test_health_of_reset_after_starts_from_the_first_delay_again() -> None:
    restarts = Restarts()
    for _ in range(9):
        restarts.error_delay(PLAIN, 0.0, 0.0)

    assert restarts.error_delay(PLAIN, 60.0, 0.0) == 1.0
    assert restarts.failures == 1


def test_an_infinite_reset_after_never_forgets() -> None:
    restarts = Restarts()
    policy = RestartPolicy(jitter=0.0, reset_after=math.inf)
    restarts.error_delay(policy, 0.0, 0.0)

    assert restarts.error_delay(policy, 1e300, 0.0) == 1.5


@pytest.mark.parametrize("spread, delay", [(-1.0, 0.9), (-0.5, 0.95), (0.0, 1.0), (1.0, 1.1)])
def test_jitter_spreads_the_delay_both_ways(spread: float, delay: float) -> None:
    assert Restarts().error_delay(RestartPolicy(), 0.0, spread) == pytest.approx(delay)


def test_jitter_also_spreads_the_longest_delay() -> None:
    restarts = Restarts()
    restarts.failures = 1000

    assert restarts.error_delay(RestartPolicy(), 0.0, -1.0) == pytest.approx(54.0)


@pytest.mark.parametrize("failures", [10**6, 10**9, 10**18])
@pytest.mark.parametrize("factor", [1, 1.0, 1.5, 2, 1e300])
def test_no_number_of_failures_overflows(failures: int, factor: float) -> None:
    restarts = Restarts()
    restarts.failures = failures

    delay = restarts.error_delay(RestartPolicy(factor=factor, jitter=0.0), 0.0, 0.0)

    assert delay == (1.0 if factor == 1 else 60.0)


def test_an_infinite_longest_delay_is_long_but_finite() -> None:
    restarts = Restarts()
    restarts.failures = 10**6
    policy = RestartPolicy(max_delay=math.inf, jitter=1.0)

    assert 1e300 < restarts.error_delay(policy, 0.0, 1.0) < math.inf
    assert restarts.error_delay(policy, 0.0, -1.0) == 0.0


def test_the_longest_delay_with_all_its_spread_is_the_longest_float() -> None:
    restarts = Restarts()
    restarts.failures = 10**6

    policy = RestartPolicy(max_delay=math.inf, jitter=1.0)

    assert restarts.current_delay(policy, 1.0) == sys.float_info.max


def test_no_delay_stays_no_delay() -> None:
    restarts = Restarts()
    restarts.failures = 10**6

    assert restarts.error_delay(RestartPolicy(error_delay=0.0), 0.0, 1.0) == 0.0


def test_current_delay_counts_nothing() -> None:
    restarts = Restarts()

    assert restarts.current_delay(PLAIN, 0.0) == 1.0
    assert restarts.failures == 0

    restarts.error_delay(PLAIN, 0.0, 0.0)
    restarts.error_delay(PLAIN, 0.0, 0.0)

    assert restarts.current_delay(PLAIN, 0.0) == 1.5
    assert restarts.failures == 2


@given(policies, st.integers(0, 10**9), spreads)
def test_every_delay_is_a_finite_number_within_its_bounds(
    policy: RestartPolicy, failures: int, spread: float
) -> None:
    restarts = Restarts()
    restarts.failures = failures

    delay = restarts.error_delay(policy, 0.0, spread)

    assert 0 <= delay < math.inf
    assert delay <= policy.max_delay * (1 + policy.jitter)
    assert delay >= policy.error_delay * (1 - policy.jitter) * 0.999
    assert restarts.failures == failures + 1


# -- intensity -------------------------------------------------------------------------------------


def test_one_more_than_max_restarts_within_the_period_is_too_many() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=3, period=10.0)

    assert [restarts.over_limit(policy, now) for now in (0, 1, 2, 3)] == [False] * 3 + [True]


def test_the_window_slides() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=2, period=10.0)

    assert [restarts.over_limit(policy, now) for now in (0, 5, 10, 15, 19)] == [False] * 4 + [True]


def test_max_restarts_0_allows_none() -> None:
    assert Restarts().over_limit(RestartPolicy(max_restarts=0), 0.0)


def test_an_infinite_period_counts_for_ever() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=1, period=math.inf)

    assert [restarts.over_limit(policy, now) for now in (0.0, 1e300)] == [False, True]


def test_without_a_limit_nothing_is_stored() -> None:
    restarts = Restarts()

    assert not any(restarts.over_limit(RestartPolicy(), float(now)) for now in range(1000))
    assert restarts._times is None


def test_lifting_the_limit_forgets_what_was_in_the_window() -> None:
    restarts = Restarts()
    limited, unlimited = RestartPolicy(max_restarts=1), RestartPolicy()
    restarts.over_limit(limited, 0.0)

    assert restarts.over_limit(unlimited, 1.0) is False
    assert not restarts.over_limit(limited, 2.0)


def test_no_more_times_are_kept_than_the_limit_needs() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=3, period=math.inf)
    for now in range(1000):
        restarts.over_limit(policy, float(now))

    assert list(restarts._times or ()) == [996, 997, 998, 999]


def test_times_that_left_the_window_are_not_kept() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=10**30, period=1.0)
    for now in range(1000):
        restarts.over_limit(policy, float(now))

    assert list(restarts._times or ()) == [999]


def test_a_lower_limit_is_obeyed_from_the_next_restart_on() -> None:
    restarts = Restarts()
    for now in range(5):
        restarts.over_limit(RestartPolicy(max_restarts=100), float(now))

    assert restarts.over_limit(RestartPolicy(max_restarts=3), 5.0)
    assert len(restarts._times or ()) == 4


def test_forgiving_empties_the_window_and_keeps_the_delay() -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=1, jitter=0.0)
    restarts.error_delay(policy, 0.0, 0.0)
    restarts.over_limit(policy, 0.0)

    restarts.forgive()

    assert restarts._times is None
    assert not restarts.over_limit(policy, 0.0)
    assert restarts.failures == 1


@given(st.lists(st.floats(0, 100), max_size=40).map(sorted), st.integers(0, 5))
def test_the_limit_agrees_with_counting_all_restarts(times: list[float], limit: int) -> None:
    restarts = Restarts()
    policy = RestartPolicy(max_restarts=limit, period=10.0)

    for index, now in enumerate(times):
        recent = [t for t in times[: index + 1] if now - t < 10.0]
        assert restarts.over_limit(policy, now) == (len(recent) > limit)


# -- the record ------------------------------------------------------------------------------------


def test_a_record_is_small_and_tells_its_state() -> None:
    restarts = Restarts()
    restarts.failures = 2

    assert not hasattr(restarts, "__dict__")
    assert repr(restarts) == "<Restarts failures=2 in_window=0>"


def test_the_policy_asks_no_clock_and_throws_no_dice() -> None:
    tree = ast.parse(Path(_restart.__file__).read_text(encoding="utf-8"))
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }

    assert imported.isdisjoint({"trio", "time", "datetime", "random", "secrets"})
