"""The retry strategy: a policy by value, and a bounce when it is another."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import Bounce, LifetimeError, Missing, WatcherClosed
from trioworker.testing import ManifoldHarness, StubGetter, check_alive, clean_kill, open_engine
from trioworker.workers.coordination.retrystrategy import (
    Config,
    Policies,
    Policy,
    PolicyChanged,
    RetryStrategy,
    Strategy,
    manifold,
)

from .facades import FakePolicies, offering
from .taking import Taker, calling, nursery_to_leave

ENTITY = FakePolicies.ENTITY
CONFIG = Config(entity=ENTITY)
ONE, OTHER = Policy(), Policy(should_retry=False)


async def run(script: Script[Policy]) -> None:
    await RetryStrategy(FakePolicies(script), ENTITY).run()


# -- the worker ------------------------------------------------------------------------------------


async def test_an_error_of_the_first_look_passes_and_nothing_is_watched() -> None:
    script: Script[Policy] = Script(OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        await run(script)

    assert script.calls == ["read"]


async def test_an_error_of_the_watch_ends_it() -> None:
    script = Script(ONE, watch_error=OSError("cannot watch"))
    with pytest.raises(OSError, match="cannot watch"):
        await run(script)

    assert script.calls == ["read", "watch"]


async def test_an_error_of_a_later_look_ends_it_and_no_old_policy_is_kept() -> None:
    script = Script(ONE, OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        await run(script)

    assert script.calls == ["read", "watch", "read"]


async def test_the_same_policy_leaves_it_alive_and_another_ends_it() -> None:
    script = Script(ONE, attrs.evolve(ONE), OTHER)
    async with nursery_to_leave() as nursery:
        call = await calling(nursery, lambda: run(script))
        assert call.blocks()
        script.tell()
        await call.ended.wait()

    assert isinstance(call.error, PolicyChanged)
    assert "should_retry=False" in str(call.error)
    assert script.calls == ["read", "watch", "read", "read"]


async def test_a_watcher_that_stops_unasked_is_an_error() -> None:
    script = Script(ONE)
    async with nursery_to_leave() as nursery:
        call = await calling(nursery, lambda: run(script))
        script.watchers[0].close()
        await call.ended.wait()

    assert isinstance(call.error, WatcherClosed)


async def test_what_is_no_policy_is_refused() -> None:
    script: Script[Any] = Script({"should_retry": True})
    with pytest.raises(TypeError, match="must return a Policy, not "):
        await run(script)


async def test_it_tells_how_it_stands_and_ends_cleanly() -> None:
    strategy = RetryStrategy(FakePolicies(Script(ONE)), ENTITY)
    assert strategy.report().policy is None
    with pytest.raises(LifetimeError, match="policy before it was read"):
        _ = strategy.policy
    async with trio.open_nursery() as nursery:
        await nursery.start(strategy.run)
        await check_alive(strategy)

        assert strategy.policy is ONE
        assert strategy.report() == (strategy.report().tomb, ONE)
        assert repr(strategy) == "<RetryStrategy 'retry-strategy' of 'unit-mysql-0' alive>"
        await clean_kill(strategy)


# -- the manifold ----------------------------------------------------------------------------------


def test_its_only_input_are_policies_and_its_filter_makes_a_bounce_of_a_change_alone() -> None:
    made = manifold(CONFIG)
    other = OSError()

    assert (made.inputs, made.optional, made.live) == (("policies",), (), ())
    assert made.filter is not None
    assert isinstance(made.filter(PolicyChanged()), Bounce)
    assert made.filter(other) is other


async def test_without_policies_it_is_missing() -> None:
    with pytest.raises(Missing):
        await manifold(CONFIG).start(
            StubGetter(required={"policies": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_who_uses_it_is_started_again_at_once_when_the_policy_is_another(
    autojump_clock: MockClock,
) -> None:
    """The original ends with an ordinary error, so that all wait for its delay."""
    script = Script(ONE, ONE, OTHER)
    user = ManifoldHarness()
    parts = {
        "policies": offering(Policies, FakePolicies(script)),
        "strategy": manifold(CONFIG),
        "user": user.manifold(inputs=("strategy",)),
    }
    async with open_engine(parts) as engine:
        await user.assert_one_start()
        assert user.get("strategy", Strategy).policy is ONE
        await wait_all_tasks_blocked()
        began = trio.current_time()
        script.tell()
        await user.assert_one_start()
        assert user.get("strategy", Strategy).policy is OTHER
        assert trio.current_time() - began < 0.1
        script.tell()  # without a change
        await user.assert_no_start()
        assert engine.report().manifolds["strategy"].failures == 0


async def test_it_offers_the_policy_and_nothing_else(autojump_clock: MockClock) -> None:
    taker, curious = Taker("strategy", Strategy), Taker("strategy", RetryStrategy)
    parts = {
        "policies": offering(Policies, FakePolicies(Script(ONE))),
        "strategy": manifold(CONFIG),
        "taker": taker.manifold(),
        "curious": curious.manifold(),
    }
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("curious", "delayed")
        assert "it offers: Strategy" in str(engine.explain("curious"))
        assert {name for name in dir(taker[Strategy]) if not name.startswith("_")} == {"policy"}


# -- the config and the policy ---------------------------------------------------------------------


def test_the_config_wants_a_name_and_is_frozen() -> None:
    with pytest.raises(ValueError, match="entity must be a name, not empty"):
        Config(entity="")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        CONFIG.entity = ""  # type: ignore[misc]  # which is the point


def test_the_delays_of_the_default_policy_without_jitter() -> None:
    policy = Policy(jitter=0)
    delays = [policy.delay(failures) for failures in range(1, 9)]

    assert delays == [5, 10, 20, 40, 80, 160, 300, 300]
    assert policy.delay(10**9) == 300


@pytest.mark.parametrize("thrown, delay", [(0.0, 9.0), (0.5, 10.0), (1.0, 11.0)])
def test_jitter_spreads_a_delay_both_ways(thrown: float, delay: float) -> None:
    assert Policy().delay(2, lambda: thrown) == pytest.approx(delay)


def test_a_policy_that_says_never_has_no_delays() -> None:
    assert OTHER.delay(1) is None
    with pytest.raises(ValueError, match="failures must be at least 1, not 0"):
        OTHER.delay(0)


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"min_retry_time": 0}, "min_retry_time must be more than 0 and finite, not 0"),
        ({"max_retry_time": float("inf")}, "max_retry_time must be more than 0 and finite"),
        ({"max_retry_time": 4}, "max_retry_time must be at least min_retry_time, 5.0, not 4"),
        ({"factor": 0.9}, "factor must be at least 1, not 0.9"),
        ({"factor": float("nan")}, "factor must be at least 1, not nan"),
        ({"jitter": 1.1}, "jitter must be from 0 to 1, not 1.1"),
        ({"jitter": True}, "jitter must be a number, not True"),
        ({"should_retry": 0}, "should_retry"),
        (
            {"should_retry": False, "min_retry_time": 0, "max_retry_time": 0, "factor": 0},
            "min_retry_time",
        ),
    ],
)
def test_a_policy_checks_each_field_and_there_is_no_empty_one(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        Policy(**fields)
