"""Leadership: the exact calls, what an answer is worth, and when it is over."""

import logging

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, Missing, RetryAfter, open_worker
from trioworker.testing import StubGetter, clean_kill, open_engine
from trioworker.workers.coordination import leadership, lease
from trioworker.workers.coordination.leadership import Config, LeadershipFailed, Tracker, Tracking
from trioworker.workers.coordination.lease import ClaimDenied, LeaseTimeout, MemoryStore

from .leasing import FakeClaimer, open_scripted, world
from .taking import Taker, calling, nursery_to_leave

CONFIG = Config(application="app", unit="app/0", guarantee=30)


def claim(at: float) -> tuple[object, ...]:
    return (at, "claim", "app", "app/0", 60)


def wait(at: float) -> tuple[object, ...]:
    return (at, "wait", "app")


async def test_it_asks_for_twice_the_guarantee_and_again_after_one(
    autojump_clock: MockClock,
) -> None:
    claimer = FakeClaimer()
    async with open_worker(Tracking(claimer, CONFIG)) as tracker:
        await trio.sleep(61)
        assert claimer.calls == [claim(0), claim(30), claim(60)]
        assert tracker.report() == (tracker.report().tomb, True, 1)
        assert repr(tracker) == "<Tracking 'leadership' alive, app/0 is leader>"


async def test_a_leader_is_told_its_token_and_leads_for_the_guarantee_at_least(
    autojump_clock: MockClock,
) -> None:
    async with open_worker(Tracking(FakeClaimer(), CONFIG)) as tracker:
        for _ in range(20):
            grant = await tracker.claim_leader()
            assert grant is not None
            assert grant.token == 1
            assert grant.until - trio.current_time() >= 30
            assert await tracker.wait_leader() == grant  # a second answer is the same
            await trio.sleep(7)


async def test_a_renewal_that_is_due_comes_before_the_answer(autojump_clock: MockClock) -> None:
    claimer = FakeClaimer(None, 20)  # the first renewal takes 20 seconds
    async with open_worker(Tracking(claimer, CONFIG)) as tracker:
        await trio.sleep(31)
        grant = await tracker.claim_leader()
        assert trio.current_time() == 50
        assert grant == (1, 90)


async def test_a_minion_waits_once_and_claims_when_the_lease_is_free(
    autojump_clock: MockClock,
) -> None:
    claimer = FakeClaimer(ClaimDenied(), ClaimDenied())
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        waits = await calling(tasks, tracker.wait_leader)
        assert await tracker.claim_leader() is None
        assert tracker.report().is_leader is False
        await tracker.wait_minion()
        await trio.sleep(100)
        assert claimer.calls == [claim(0), wait(0)]
        claimer.free.set()  # and another is quicker
        await trio.sleep(100)
        assert claimer.calls == [claim(0), wait(0), claim(100), wait(100)]
        assert waits.blocks()
        claimer.free.set()
        await trio.sleep(31)
        assert not waits.blocks()
        assert claimer.calls[4:] == [claim(200), claim(230)]


async def test_a_leader_that_is_denied_is_a_minion(autojump_clock: MockClock) -> None:
    claimer = FakeClaimer(None, None, ClaimDenied())
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        minion = await calling(tasks, tracker.wait_minion)
        await trio.sleep(59)
        assert minion.blocks()  # over two refreshes
        await trio.sleep(2)
        assert not minion.blocks()
        assert await tracker.claim_leader() is None
        assert claimer.calls == [claim(0), claim(30), claim(60), wait(60)]


async def test_it_gives_up_by_its_own_clock_though_the_renewal_hangs(
    autojump_clock: MockClock,
) -> None:
    claimer = FakeClaimer(None, "hang")
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        minion = await calling(tasks, tracker.wait_minion)
        asked = await calling(tasks, tracker.claim_leader)
        await trio.sleep(59.9)
        assert minion.blocks()
        await trio.sleep(0.2)
        assert not minion.blocks()
        assert not asked.blocks()
        assert await tracker.claim_leader() is None
        assert claimer.calls == [claim(0), claim(30), wait(60)]


async def test_a_claim_that_took_longer_than_its_term_has_got_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_worker(Tracking(FakeClaimer(60), CONFIG)) as tracker:
        assert await tracker.claim_leader() is None


async def test_a_term_under_another_token_was_lost_in_between(autojump_clock: MockClock) -> None:
    claimer = FakeClaimer()
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        minion = await calling(tasks, tracker.wait_minion)
        claimer.token = 2
        await trio.sleep(31)
        assert not minion.blocks()
        assert await tracker.claim_leader() == (2, 90)


@pytest.mark.parametrize("claims", [[OSError("squish")], [None, OSError("squish")]])
async def test_another_error_of_a_claim_is_its_end(
    claims: list[Exception | None], autojump_clock: MockClock
) -> None:
    with pytest.raises(LeadershipFailed, match="leadership failure: squish") as caught:
        await Tracking(FakeClaimer(*claims), CONFIG).run()
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "claims, waits",
    [
        ([Dying("it goes")], []),
        ([None, Dying("it goes")], []),
        ([ClaimDenied()], [Dying("it goes")]),
    ],
    ids=["at first", "renewing", "waiting"],
)
async def test_the_end_of_the_lease_manager_is_no_failure_of_its_own(
    claims: list[Exception | None], waits: list[Exception], autojump_clock: MockClock
) -> None:
    claimer = FakeClaimer(*claims)
    claimer.waits = list(waits)
    with trio.fail_after(100), pytest.raises(Dying, match="it goes"):
        await Tracking(claimer, CONFIG).run()
    assert len(claimer.calls) == len(claims) + len(waits)  # it asks no more


async def test_while_its_term_lasts_a_store_that_is_away_is_asked_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    claimer = FakeClaimer(None, LeaseTimeout("it is away"), LeaseTimeout("still"))
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        minion = await calling(tasks, tracker.wait_minion)
        await trio.sleep(30.5)
        assert await tracker.claim_leader() == (1, 92)  # what was due came first
        assert minion.blocks()
        assert claimer.calls == [claim(0), claim(30), claim(31), claim(32)]
    assert caplog.messages == [
        f'"leadership": leadership failure: {why}; it is tried again'
        for why in ("it is away", "still")
    ]


async def test_when_its_term_is_over_and_the_store_is_away_it_leads_no_more_until_that_is_back(
    autojump_clock: MockClock,
) -> None:
    claimer = FakeClaimer(None, *[LeaseTimeout("it is away")] * 40)
    async with open_worker(Tracking(claimer, CONFIG)) as tracker, nursery_to_leave() as tasks:
        minion = await calling(tasks, tracker.wait_minion)
        await trio.sleep(59.9)
        assert minion.blocks()
        await trio.sleep(0.2)
        assert not minion.blocks()
        assert await tracker.claim_leader() is None
        claimer.free.set()  # and it is still away, for ten more attempts
        assert await tracker.wait_leader() == (1, trio.current_time() + 60)
        assert trio.current_time() == 70.1


def test_a_store_that_is_away_at_first_is_asked_again_soon_and_no_fault() -> None:
    filter_ = leadership.manifold(CONFIG).filter
    assert filter_ is not None
    away = LeadershipFailed("leadership failure: it is away")
    away.__cause__ = LeaseTimeout("it is away")
    assert str(filter_(away)) == "in 1 s: leadership failure: it is away"
    assert isinstance(filter_(away), RetryAfter)
    others: list[Exception] = [LeadershipFailed("squish"), OSError()]
    assert [filter_(error) for error in others] == others


async def test_an_error_of_waiting_is_logged_and_the_next_claim_tells(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    claimer = FakeClaimer(ClaimDenied())
    claimer.waits = [OSError("squish")]
    async with open_worker(Tracking(claimer, CONFIG)) as tracker:
        with caplog.at_level(logging.WARNING):
            await tracker.wait_leader()
    assert "squish" in caplog.text
    assert claimer.calls == [claim(0), wait(0), claim(1)]  # after a pause


async def test_when_it_stops_whoever_waits_is_told_and_its_waiting_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    async with nursery_to_leave() as tasks:
        claimer = FakeClaimer(ClaimDenied())
        async with open_worker(Tracking(claimer, CONFIG)) as tracker:
            waits = await calling(tasks, tracker.wait_leader)
            await clean_kill(tracker)  # the original leaves a task behind
        await waits.ended.wait()
        assert isinstance(waits.error, Dying)

        claimer = FakeClaimer(None, "hang")
        async with open_worker(Tracking(claimer, CONFIG)) as tracker:
            await trio.sleep(31)
            due = await calling(tasks, tracker.claim_leader)
            assert due.blocks()
            await clean_kill(tracker)
        await due.ended.wait()
        assert isinstance(due.error, Dying)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"application": ""}, "application must be a name"),
        ({"unit": "other/0"}, "unit must be one of the application"),
        ({"unit": "app"}, "unit must be one of the application"),
        ({"unit": "app/x"}, "unit must be one of the application"),
        ({"guarantee": 0}, "guarantee must be more than 0"),
        ({"guarantee": float("inf")}, "guarantee must be more than 0"),
    ],
)
def test_a_config_says_which_field_is_wrong(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{"application": "app", "unit": "app/0", **fields})  # type: ignore[arg-type]


# -- the manifold ----------------------------------------------------------------------------------


async def test_what_it_needs_and_offers() -> None:
    manifold = leadership.manifold(CONFIG)
    assert manifold.inputs == ("leases",)
    assert list(manifold.outputs) == [Tracker]
    assert Config(application="app", unit="app/0").guarantee == 30
    with pytest.raises(Missing):
        await manifold.start(
            StubGetter(required={"leases": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_of_two_units_one_leads_and_the_other_when_it_has_gone(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    takers: list[Taker] = []

    def program(number: int) -> dict[str, object]:
        takers.append(Taker("leadership", Tracker))
        config = Config(application="app", unit=f"app/{number}")
        return {
            "store": lease.store_manifold(lambda: open_scripted(store)),
            "leases": lease.manifold(clock=world),
            "leadership": leadership.manifold(config),
            "taker": takers[-1].manifold(),
        }

    async with open_engine(program(1), settle_within=None) as one:  # type: ignore[arg-type]
        await one.wait_state("taker", "started")
        async with open_engine(program(0), settle_within=None) as other:  # type: ignore[arg-type]
            await other.wait_state("taker", "started")
            first = await takers[0][Tracker].claim_leader()
            assert first is not None
            assert await takers[1][Tracker].claim_leader() is None
            one.hold("leadership")
            gone = trio.current_time()
            second = await takers[1][Tracker].wait_leader()
            assert second.token > first.token
            assert trio.current_time() - gone <= 60 + 2
            await wait_all_tasks_blocked()
