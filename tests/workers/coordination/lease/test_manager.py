"""The lease manager: claims with retries, and waiters."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.workers.coordination.leasing import BEGAN, ScriptedStore, world
from tests.workers.coordination.taking import calling, nursery_to_leave
from trioworker import Dying, open_worker
from trioworker.testing import clean_kill
from trioworker.workers.coordination.lease import (
    Busy,
    ClaimDenied,
    Claimer,
    Config,
    Held,
    Invalid,
    InvalidLease,
    Key,
    LeasePinned,
    LeaseTimeout,
    Manager,
    Namespace,
    NotHeld,
    Request,
    UnknownNamespace,
)

A = Key("singular", "m", "a")
B = A._replace(name="b")


def managing(store: ScriptedStore, **config: Any) -> Manager:
    return Manager(store, Config(**config), clock=world, chance=lambda: 1.0)


@asynccontextmanager
async def managed(store: ScriptedStore, **config: Any) -> AsyncGenerator[Manager]:
    async with open_worker(managing(store, **config)) as manager:
        store.calls.clear()
        yield manager


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


async def others_claim(store: ScriptedStore, key: Key = A, duration: float = 60) -> None:
    await store.real.claim(key, Request("other", duration), world())


# -- claiming --------------------------------------------------------------------------------------


async def test_what_is_free_is_claimed(store: ScriptedStore, autojump_clock: MockClock) -> None:
    async with managed(store) as manager:
        grant = await manager.claimer("singular", "m").claim("a", "me", 60)

    assert grant == (1, trio.current_time() + 60)
    assert store.calls == [("read", A), ("claim", A, Request("me", 60))]


async def test_what_we_hold_is_extended_under_the_same_token(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        claimer = manager.claimer("singular", "m")
        first = await claimer.claim("a", "me", 60)
        await trio.sleep(30)
        second = await claimer.claim("a", "me", 60)

    assert second == (first.token, trio.current_time() + 60)
    assert store.names() == ["read", "claim", "extend"]


async def test_what_we_hold_by_an_earlier_manager_is_extended_under_the_same_token(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        first = await manager.claimer("singular", "m").claim("a", "me", 60)
    async with managed(store) as manager:
        second = await manager.claimer("singular", "m").claim("a", "me", 60)

    assert second.token == first.token
    assert store.names() == ["read", "extend"]


async def test_what_lapsed_is_claimed_anew_under_a_greater_token(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        claimer = manager.claimer("singular", "m")
        first = await claimer.claim("a", "me", 60)
        await trio.sleep(60)
        assert (await claimer.claim("a", "me", 60)).token > first.token


async def test_what_another_holds_is_denied_and_the_store_not_asked_for_it(
    store: ScriptedStore,
    autojump_clock: MockClock,
) -> None:
    await others_claim(store)
    async with managed(store) as manager:
        with pytest.raises(ClaimDenied, match="'other' holds it"):
            await manager.claimer("singular", "m").claim("a", "me", 60)

        assert store.names() == ["read"]
        assert manager.report().tomb.state == "alive"


async def test_a_store_that_says_held_is_not_asked_again(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["claim"] = [Held("taken")]
    async with managed(store) as manager:
        with pytest.raises(ClaimDenied):
            await manager.claimer("singular", "m").claim("a", "me", 60)

    assert store.names() == ["read", "claim"]


async def test_a_lost_race_is_decided_by_the_new_facts(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        claimer = manager.claimer("singular", "m")
        # extend -> Invalid -> gone: claim
        await claimer.claim("a", "me", 60)
        store.script["extend"] = [Invalid("gone"), Invalid("gone")]
        call = await calling_soon(manager, lambda: claimer.claim("a", "me", 60))
        assert store.names()[-3:] == ["extend", "read", "extend"]
        await store.real.revoke(A, "me", world())
        await call()
        assert store.names()[-3:] == ["extend", "read", "claim"]
        # claim -> Invalid -> now mine: extend
        store.script["claim"] = [Invalid("raced")]
        call = await calling_soon(manager, lambda: claimer.claim("b", "me", 60))
        await store.real.claim(B, Request("me", 60), world())
        await call()
        assert store.names()[-4:] == ["read", "claim", "read", "extend"]
        # extend -> Invalid -> another's: denied
        store.script["extend"] = [Invalid("raced"), Invalid("raced")]
        call = await calling_soon(manager, lambda: claimer.claim("b", "me", 60))
        await store.real.revoke(B, "me", world())
        await others_claim(store, B)
        with pytest.raises(ClaimDenied):
            await call()


async def calling_soon(
    manager: Manager, call: Callable[[], Awaitable[object]]
) -> Callable[[], Awaitable[None]]:
    """Begin `call`, let it come to its first pause; what is returned ends it, and raises for it."""
    ended = trio.Event()
    errors: list[Exception] = []

    async def run() -> None:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
        ended.set()

    async def end() -> None:
        await ended.wait()
        if errors:
            raise errors[0]

    trio.lowlevel.spawn_system_task(run)
    while not manager.report().claims:
        await trio.lowlevel.checkpoint()
    await trio.sleep(0.01)
    return end


@pytest.mark.parametrize(
    "error, expected", [(Invalid("raced"), ClaimDenied), (Busy("locked"), LeaseTimeout)]
)
async def test_ten_attempts_with_growing_delays_and_the_manager_lives(
    store: ScriptedStore, autojump_clock: MockClock, error: Exception, expected: type[Exception]
) -> None:
    store.script["claim"] = [error] * 10
    async with managed(store) as manager:
        with pytest.raises(expected):
            await manager.claimer("singular", "m").claim("a", "me", 60)

        assert store.names() == ["read", "claim"] * 10
        assert trio.current_time() == pytest.approx(sum(0.05 * 1.6**n for n in range(9)))
        await manager.claimer("singular", "m").claim("a", "me", 60)


async def test_a_busy_store_is_tried_again(store: ScriptedStore, autojump_clock: MockClock) -> None:
    store.script["read"] = [Busy("locked"), Busy("locked")]
    async with managed(store) as manager:
        grant = await manager.claimer("singular", "m").claim("a", "me", 60)

    assert grant.until == trio.current_time() + 60  # counted from the attempt that succeeded
    assert store.names() == ["read", "read", "read", "claim"]


async def test_a_grants_end_counts_from_before_the_claim_was_sent(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    """However long the store took: the holder's clock must be over first."""
    async with managed(store) as manager:
        began = trio.current_time()
        store.script["claim"] = ["hang on"]
        grant = await manager.claimer("singular", "m").claim("a", "me", 160)

    assert trio.current_time() == began + 100
    assert grant.until == began + 160


async def test_a_slow_claim_holds_nobody_up(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["claim"] = ["hang"]
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        slow = await calling(tasks, lambda: claimer.claim("a", "me", 60))
        await claimer.claim("b", "me", 60)

        assert slow.blocks()
        assert manager.report().claims == 1


async def test_extensions_go_before_a_crowd_of_newcomers(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store, concurrency=1) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        await claimer.claim("mine", "me", 60)
        store.calls.clear()
        store.script["read"] = ["hang on"]
        for number in range(5):
            await calling(tasks, partial(claimer.claim, f"new-{number}", "me", 60))
        await claimer.claim("mine", "me", 160)

        asked = [args[0] for name, *args in store.calls if name == "read"]
        assert asked[:2] == [A._replace(name="new-0"), A._replace(name="mine")]


# -- what the store's errors mean ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["read", "claim"])
async def test_what_is_no_answer_is_fatal_and_the_claimant_is_told_dying(
    store: ScriptedStore, autojump_clock: MockClock, method: str
) -> None:
    manager = managing(store)
    store.script[method] = [OSError("disk on fire")]
    with pytest.raises(OSError, match="disk on fire"):
        async with open_worker(manager):
            with pytest.raises(Dying, match="disk on fire"):
                await manager.claimer("singular", "m").claim("a", "me", 60)
            await trio.sleep_forever()

    with pytest.raises(Dying):
        await manager.claimer("singular", "m").claim("a", "me", 60)


async def test_of_two_claims_that_fail_together_the_first_is_the_reason(
    store: ScriptedStore,
    autojump_clock: MockClock,
) -> None:
    manager = managing(store)
    store.script["claim"] = [OSError("first"), OSError("second")]
    told: list[str] = []

    async def claim(claimer: Claimer, name: str) -> None:
        with pytest.raises(Dying):
            await claimer.claim(name, "me", 60)
        told.append(name)

    async with trio.open_nursery() as tasks:
        with pytest.raises(OSError, match="first"):
            async with open_worker(manager):
                for name in ("a", "b"):
                    tasks.start_soon(claim, manager.claimer("singular", "m"), name)
                await trio.sleep_forever()

    assert sorted(told) == ["a", "b"]


async def test_a_store_that_is_going_is_no_fault(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["claim"] = [Dying("the store is dying")]
    async with open_worker(managing(store)) as manager:
        with pytest.raises(Dying, match="lease manager"):
            await manager.claimer("singular", "m").claim("a", "me", 60)
        await manager.wait()


async def test_retries_end_with_the_manager(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["claim"] = [Busy("locked")] * 10
    async with nursery_to_leave() as tasks:
        async with managed(store) as manager:
            claimer = manager.claimer("singular", "m")
            call = await calling(tasks, lambda: claimer.claim("a", "me", 60))
            await clean_kill(manager)
        await call.ended.wait()
        asked = len(store.calls)
        await trio.sleep(100)

    assert isinstance(call.error, Dying)
    assert len(store.calls) == asked


async def test_a_store_that_cannot_be_read_at_first_fails_the_worker(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["look"] = [OSError("no such disk")]
    with pytest.raises(OSError, match="no such disk"):
        await managing(store).run()


@pytest.mark.parametrize("look", ["look", "read"], ids=["at-all", "at-one"])
async def test_a_store_that_is_busy_for_long_costs_who_waits_time_and_nobody_else_anything(
    store: ScriptedStore, autojump_clock: MockClock, look: str
) -> None:
    """A server that is restarted must not restart all who hold leases."""
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        await claimer.claim("a", "me", 60)
        if look == "read":
            store.script["read"] = [Busy("away")] * 10
        wait = await calling(tasks, lambda: claimer.wait_until_expired("a"))
        if look == "look":
            store.script["look"] = [Busy("away")] * 25
        with trio.fail_after(90):
            await wait.ended.wait()

        assert store.script[look] == []
        assert wait.error is None
        assert manager.report().tomb.state == "alive"


async def test_a_store_that_is_busy_for_long_at_first_fails_the_worker(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["look"] = [Busy("away")] * 10
    with pytest.raises(LeaseTimeout, match="away"):
        await managing(store).run()


async def test_pinning_tells_its_errors_to_the_caller_alone(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    for method in ("pin", "unpin", "pinned"):
        store.script[method] = [OSError("disk on fire")]
    async with managed(store) as manager:
        pinner = manager.pinner("singular", "m")
        with pytest.raises(OSError, match="disk on fire"):
            await pinner.pin("a", "upgrade")
        with pytest.raises(OSError, match="disk on fire"):
            await pinner.unpin("a", "upgrade")
        with pytest.raises(OSError, match="disk on fire"):
            await pinner.pinned()
        assert manager.report().tomb.state == "alive"


# -- checking, revoking, pinning, reading ----------------------------------------------------------


async def test_check_tells_the_token_or_that_it_is_not_held(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        checker = manager.checker("singular", "m")
        with pytest.raises(NotHeld):
            await checker.check("a", "me")
        grant = await manager.claimer("singular", "m").claim("a", "me", 60)
        assert await checker.check("a", "me") == grant.token
        with pytest.raises(NotHeld):
            await checker.check("a", "you")
        await trio.sleep(60)
        with pytest.raises(NotHeld):
            await checker.check("a", "me")


async def test_a_store_error_of_check_is_fatal(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["read"] = [OSError("disk on fire")]
    with pytest.raises(OSError, match="disk on fire"):
        async with open_worker(managing(store)) as manager:
            with pytest.raises(Dying):
                await manager.checker("singular", "m").check("a", "me")
            await trio.sleep_forever()


async def test_revoke_frees_what_is_held_by_whom_one_says(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        revoker = manager.revoker("singular", "m")
        await revoker.revoke("a", "me")
        assert store.names() == ["read"]  # absent: the store has nothing to do

        await manager.claimer("singular", "m").claim("a", "me", 60)
        with pytest.raises(NotHeld):
            await revoker.revoke("a", "you")
        assert "revoke" not in store.names()
        await revoker.revoke("a", "me")
        assert await manager.reader("singular", "m").leases() == {}


async def test_revoke_is_tried_again_and_tells_what_it_is_at_last(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        await manager.claimer("singular", "m").claim("a", "me", 600)
        revoker = manager.revoker("singular", "m")
        store.script["revoke"] = [Invalid("raced")] * 10
        with pytest.raises(NotHeld):
            await revoker.revoke("a", "me")
        store.script["revoke"] = [Busy("locked")] * 10
        with pytest.raises(LeaseTimeout):
            await revoker.revoke("a", "me")
        store.script["revoke"] = [Busy("locked")]
        await revoker.revoke("a", "me")


async def test_what_is_pinned_cannot_be_revoked(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        await manager.claimer("singular", "m").claim("a", "me", 60)
        pinner = manager.pinner("singular", "m")
        await pinner.pin("a", "upgrade")
        with pytest.raises(LeasePinned):
            await manager.revoker("singular", "m").revoke("a", "me")

        assert await pinner.pinned() == {"a": {"upgrade"}}
        assert await manager.pinner("singular", "other").pinned() == {}


async def test_the_same_name_elsewhere_is_another_lease(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    namespaces = {"one": Namespace(), "two": Namespace()}
    async with managed(store, namespaces=namespaces) as manager:
        places = [(space, model) for space in namespaces for model in ("m", "n", "")]
        for place in places:
            await manager.claimer(*place).claim("a", str(place), 60)
        for place in places:
            assert await manager.checker(*place).check("a", str(place))
            [(name, info)] = (await manager.reader(*place).leases()).items()
            assert (name, info.holder) == ("a", str(place))
        async with nursery_to_leave() as tasks:
            waits = [
                await calling(tasks, partial(manager.claimer(*place).wait_until_expired, "a"))
                for place in places
            ]
            await manager.revoker(*places[0]).revoke("a", str(places[0]))
            await wait_all_tasks_blocked()
            assert [wait.blocks() for wait in waits] == [False, *[True] * 5]


# -- waiting ---------------------------------------------------------------------------------------


async def test_who_waits_for_what_is_free_is_told_at_once(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    """The original lets them wait for the next tick."""
    async with managed(store) as manager:
        await manager.claimer("singular", "m").wait_until_expired("a")

    assert trio.current_time() == 0


async def test_who_comes_while_another_is_looked_after_is_told_at_once_too(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, trio.open_nursery() as tasks:
        for name in "abc":
            tasks.start_soon(manager.claimer("singular", "m").wait_until_expired, name)

    assert trio.current_time() == 0
    assert store.names() == ["read"] * 3


async def test_for_who_comes_that_one_lease_is_looked_at_and_for_a_crowd_all_at_once(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    """Each newcomer cost a look at all leases, so ten thousand of them cost minutes."""
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        for i in range(30):
            await claimer.claim(str(i), "me", 60)
        store.calls.clear()
        waits = [await calling(tasks, partial(claimer.wait_until_expired, "1")) for _ in range(2)]
        waits.append(await calling(tasks, partial(claimer.wait_until_expired, "2")))
        assert store.calls == [("read", Key("singular", "m", name)) for name in "112"]
        store.calls.clear()
        for i in range(3, 30):
            tasks.start_soon(claimer.wait_until_expired, str(i))
        await wait_all_tasks_blocked()
        assert store.names() == ["look"]
        assert manager.report().waiters == 30
        await trio.sleep(61)
        assert manager.report().waiters == 0
        assert store.names() == ["look"] * 2


async def test_all_who_wait_are_woken_when_the_term_is_over(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        await claimer.claim("a", "me", 10)
        waits = [await calling(tasks, lambda: claimer.wait_until_expired("a")) for _ in range(3)]
        assert manager.report().waiters == 3
        await trio.sleep(10)
        assert [wait.blocks() for wait in waits] == [True] * 3
        await trio.sleep(0.5)
        assert [wait.blocks() for wait in waits] == [False] * 3
        assert manager.report().waiters == 0


async def test_who_waits_for_what_is_extended_goes_on_waiting(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        await claimer.claim("a", "me", 10)
        wait = await calling(tasks, lambda: claimer.wait_until_expired("a"))
        for _ in range(5):
            await trio.sleep(6)
            await claimer.claim("a", "me", 10)
        assert wait.blocks()
        await trio.sleep(10.5)
        assert not wait.blocks()


async def test_what_changes_hands_without_a_pause_is_never_free(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        await others_claim(store)
        wait = await calling(
            tasks, lambda: manager.claimer("singular", "m").wait_until_expired("a")
        )
        await store.real.revoke(A, "other", world())
        await store.real.claim(A, Request("another", 60), world())
        with pytest.raises(NotHeld):
            await manager.checker("singular", "m").check("a", "other")
        await trio.sleep(59)
        assert wait.blocks()


async def test_what_somebody_else_freed_is_noticed_after_max_sleep(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store, max_sleep=20) as manager, nursery_to_leave() as tasks:
        await others_claim(store, duration=1000)
        wait = await calling(
            tasks, lambda: manager.claimer("singular", "m").wait_until_expired("a")
        )
        await store.real.revoke(A, "other", world())
        await trio.sleep(19)
        assert wait.blocks()
        await trio.sleep(2)
        assert not wait.blocks()


async def test_a_check_that_finds_it_free_wakes_who_waits(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        await others_claim(store, duration=1000)
        wait = await calling(
            tasks, lambda: manager.claimer("singular", "m").wait_until_expired("a")
        )
        await store.real.revoke(A, "other", world())
        with pytest.raises(NotHeld):
            await manager.checker("singular", "m").check("a", "other")
        await wait_all_tasks_blocked()
        assert not wait.blocks()


async def test_our_own_revoke_and_unpin_wake_who_waits_at_once(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        claimer, pinner = manager.claimer("singular", "m"), manager.pinner("singular", "m")
        await claimer.claim("a", "me", 10)
        await pinner.pin("a", "upgrade")
        await claimer.claim("b", "me", 1000)
        one = await calling(tasks, lambda: claimer.wait_until_expired("a"))
        two = await calling(tasks, lambda: claimer.wait_until_expired("b"))
        await trio.sleep(100)
        assert one.blocks()  # pinned
        await pinner.unpin("a", "upgrade")
        await wait_all_tasks_blocked()
        assert not one.blocks()
        await manager.revoker("singular", "m").revoke("b", "me")
        await wait_all_tasks_blocked()
        assert not two.blocks()


async def test_a_store_that_grants_more_than_was_asked_is_believed(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    """60 s asked, 63 s granted: nothing at 62.999."""
    async with managed(store) as manager, nursery_to_leave() as tasks:
        await store.real.claim(A, Request("me", 63), world())
        wait = await calling(
            tasks, lambda: manager.claimer("singular", "m").wait_until_expired("a")
        )
        await trio.sleep(62.999)
        assert wait.blocks()
        await trio.sleep(0.5)
        assert not wait.blocks()


async def test_a_look_is_always_to_come(store: ScriptedStore, autojump_clock: MockClock) -> None:
    """With a clock that stands on the very instant, the original does not arm its timer again."""
    async with managed(store, max_sleep=10) as manager:
        for _ in range(5):
            store.calls.clear()
            await trio.sleep(10.25)
            await wait_all_tasks_blocked()
            assert store.names() == ["look"]
        assert manager.report().tomb.state == "alive"


async def test_ten_thousand_who_wait_cost_one_look(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store, max_sleep=1000) as manager, nursery_to_leave() as tasks:
        claimer = manager.claimer("singular", "m")
        await others_claim(store, duration=500)
        for _ in range(10_000):
            tasks.start_soon(claimer.wait_until_expired, "a")
        await wait_all_tasks_blocked()
        assert manager.report().waiters == 10_000
        store.calls.clear()
        await trio.sleep(499)
        assert store.names() == []
        await trio.sleep(2)
        assert store.names() == ["look"]
        assert manager.report().waiters == 0


async def test_who_gives_up_waiting_is_forgotten(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store, max_sleep=1000) as manager:
        await others_claim(store)
        with trio.move_on_after(1) as scope:
            await manager.claimer("singular", "m").wait_until_expired("a")
        assert scope.cancelled_caught
        assert manager.report().waiters == 0
        await store.real.extend(A, Request("other", 100), world())
        store.calls.clear()
        await trio.sleep(300)
        assert store.names() == ["look"]  # that for the one who waited; the next is not for it


# -- rules -----------------------------------------------------------------------------------------


async def test_what_cannot_be_is_refused_before_the_store_is_asked(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager:
        claimer = manager.claimer("leadership", "m")
        with pytest.raises(InvalidLease, match="cannot claim lease 'App': "):
            await claimer.claim("App", "app/0", 60)
        with pytest.raises(InvalidLease, match="cannot claim lease for holder 'app': "):
            await claimer.claim("app", "app", 60)
        for duration in (0, -1, 1.1e9, float("inf"), float("nan")):
            with pytest.raises(InvalidLease, match=r"cannot claim lease for .* seconds"):
                await claimer.claim("app", "app/0", duration)
        with pytest.raises(InvalidLease, match="cannot wait for lease 'App' expiry: "):
            await claimer.wait_until_expired("App")
        with pytest.raises(InvalidLease, match="cannot check lease"):
            await manager.checker("leadership").check("App", "app/0")
        with pytest.raises(InvalidLease, match="cannot revoke lease"):
            await manager.revoker("leadership").revoke("App", "app/0")
        with pytest.raises(InvalidLease, match="cannot pin lease"):
            await manager.pinner("leadership").pin("App", "upgrade")
        with pytest.raises(InvalidLease, match="cannot unpin lease"):
            await manager.pinner("leadership").unpin("App", "upgrade")

    assert store.calls == []


@pytest.mark.parametrize(
    "odd, why",
    [
        ("a\0", "a NUL character"),
        ("a\ud800", "half of a character"),
        ("x" * 601, "more than 600 bytes"),
        ("\u00e4" * 301, "more than 600 bytes"),
    ],
)
async def test_what_not_every_store_can_keep_is_refused_and_no_manager_dies_of_it(
    store: ScriptedStore, autojump_clock: MockClock, odd: str, why: str
) -> None:
    async with managed(store) as manager:
        claimer, pinner = manager.claimer("singular", "m"), manager.pinner("singular", "m")
        with pytest.raises(InvalidLease, match=f"cannot claim lease .*: it has {why}"):
            await claimer.claim(odd, "me", 60)
        with pytest.raises(InvalidLease, match=f"cannot claim lease for holder .*: it has {why}"):
            await claimer.claim("a", odd, 60)
        with pytest.raises(InvalidLease, match=f"cannot claim lease 'a': its model has {why}"):
            await manager.claimer("singular", odd).claim("a", "me", 60)
        with pytest.raises(InvalidLease, match=f"cannot pin lease for entity .*: it has {why}"):
            await pinner.pin("a", odd)
        with pytest.raises(InvalidLease, match=f"cannot unpin lease for entity .*: it has {why}"):
            await pinner.unpin("a", odd)

    assert store.calls == []


@pytest.mark.parametrize("face", ["claimer", "checker", "revoker", "pinner", "reader"])
async def test_an_unknown_namespace_is_refused_when_it_is_named(
    store: ScriptedStore, autojump_clock: MockClock, face: str
) -> None:
    manager = managing(store)
    with pytest.raises(UnknownNamespace, match=r'"nope" .known: "leadership", "singular"'):
        getattr(manager, face)("nope", "m")


async def test_a_secretary_in_code_can_refuse_anything(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    class Strict:
        def check_lease(self, key: Key) -> None:
            pass

        def check_holder(self, key: Key, holder: str) -> None:
            if holder != f"owner-of-{key.name}":
                raise ValueError("no owner of it")

        def check_duration(self, duration: float) -> None:
            if duration > 5:
                raise ValueError("too long")

    manager = Manager(store, secretaries={"strict": Strict()}, clock=world)
    async with open_worker(manager):
        claimer = manager.claimer("strict")
        await claimer.claim("a", "owner-of-a", 5)
        with pytest.raises(InvalidLease, match="no owner of it"):
            await claimer.claim("a", "me", 5)
        with pytest.raises(InvalidLease, match="for 6 seconds: too long"):
            await claimer.claim("a", "owner-of-a", 6)


# -- the end ---------------------------------------------------------------------------------------


async def test_it_is_dead_only_when_its_calls_have_left_the_store(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    store.script["claim"] = ["hang on"]
    async with nursery_to_leave() as tasks:
        async with managed(store, patience=300) as manager:
            began = trio.current_time()
            claimer = manager.claimer("singular", "m")
            call = await calling(tasks, lambda: claimer.claim("a", "me", 60))
            manager.kill()
            await manager.wait()
        assert trio.current_time() == began + 100
        await call.ended.wait()


async def test_it_gives_up_on_a_call_that_does_not_end_and_says_so(
    store: ScriptedStore, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store.script["claim"] = ["hang on"]
    async with nursery_to_leave() as tasks:
        async with managed(store) as manager:
            began = trio.current_time()
            claimer = manager.claimer("singular", "m")
            await calling(tasks, lambda: claimer.claim("a", "me", 60))
            with caplog.at_level(logging.WARNING):
                manager.kill()
                await manager.wait()
        assert trio.current_time() == began + 55
        assert "have not ended 55.0 seconds after" in caplog.text
        assert "1 claim" in caplog.text


async def test_the_report_counts_what_is_under_way(
    store: ScriptedStore, autojump_clock: MockClock
) -> None:
    async with managed(store) as manager, nursery_to_leave() as tasks:
        await others_claim(store)
        store.script["read"] = ["hang", "hang"]
        await calling(tasks, lambda: manager.claimer("singular", "m").claim("a", "me", 60))
        await calling(tasks, lambda: manager.revoker("singular", "m").revoke("a", "me"))
        await calling(tasks, lambda: manager.claimer("singular", "m").wait_until_expired("a"))

        assert manager.report() == (manager.report().tomb, 1, 1, 1)
        assert repr(manager).startswith("<Manager 'lease manager' alive of <")


@pytest.mark.parametrize(
    "field, value",
    [
        ("max_sleep", 0),
        ("max_sleep", float("inf")),
        ("patience", -1),
        ("concurrency", 0),
    ],
)
def test_a_config_says_which_field_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Config(**{field: value})


def test_a_namespace_says_which_pattern_is_wrong() -> None:
    with pytest.raises(ValueError, match="holders is no regular expression"):
        Namespace(holders="(")


def test_what_is_usual() -> None:
    config = Config()
    assert (config.max_sleep, config.patience) == (60, 55)
    assert set(config.namespaces) == {"leadership", "singular"}
    assert BEGAN > 0
