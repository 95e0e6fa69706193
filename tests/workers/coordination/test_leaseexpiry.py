"""The janitor of leases: one pass after another, and nothing that is held is lost."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioworker import Getter, Manifold, Missing, Reporter, open_worker
from trioworker.testing import StubGetter, clean_kill, open_engine
from trioworker.workers.coordination import lease, leaseexpiry
from trioworker.workers.coordination.lease import Busy, Key, Leases, Request
from trioworker.workers.coordination.leaseexpiry import Config, LeaseExpiry

from .leasing import BEGAN, ScriptedStore, world
from .taking import calling, nursery_to_leave

A = Key("singular", "", "a")


async def test_it_deletes_after_a_second_and_every_second_with_the_time_of_the_world(
    autojump_clock: MockClock,
) -> None:
    store = ScriptedStore()
    async with open_worker(LeaseExpiry(store, clock=world)) as janitor:
        await trio.sleep(0.9)
        assert store.calls == []
        await trio.sleep(2.5)
        assert store.calls == [("expire", BEGAN + second) for second in (1, 2, 3)]
        await clean_kill(janitor)
        await trio.sleep(10)
        assert len(store.calls) == 3


async def test_passes_never_overlap_and_the_pause_is_after_them(autojump_clock: MockClock) -> None:
    store = ScriptedStore()
    store.script["expire"] = ["hang on"]  # for 100 seconds
    async with open_worker(LeaseExpiry(store, Config(interval=10), clock=world)):
        await trio.sleep(109)
        assert len(store.calls) == 1
        await trio.sleep(12)
        assert store.calls == [("expire", BEGAN + 10), ("expire", BEGAN + 120)]


async def test_an_error_of_the_store_is_its_end(autojump_clock: MockClock) -> None:
    store = ScriptedStore()
    store.script["expire"] = [OSError("disk on fire")]
    with pytest.raises(OSError, match="disk on fire"):
        await LeaseExpiry(store, clock=world).run()


async def test_a_busy_store_is_left_alone_until_the_next_pass(autojump_clock: MockClock) -> None:
    store = ScriptedStore()
    store.script["expire"] = [Busy("locked")]
    await store.real.claim(A, Request("me", 1), world())
    async with open_worker(LeaseExpiry(store, clock=world)) as janitor:
        await trio.sleep(2.5)
        report = janitor.report()
        assert (report.passes, report.deleted, report.busy) == (1, 1, 1)
        assert repr(janitor) == "<LeaseExpiry 'lease expiry' alive, 1 deleted>"


async def test_a_kill_cancels_a_pass(autojump_clock: MockClock) -> None:
    store = ScriptedStore(hangs=("expire",))
    async with open_worker(LeaseExpiry(store, clock=world)) as janitor:
        await trio.sleep(5)
        with trio.fail_after(1):
            await clean_kill(janitor)


@pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan")])
def test_a_config_says_what_is_wrong(interval: float) -> None:
    with pytest.raises(ValueError, match=r"^interval must be"):
        Config(interval=interval)


# -- the manifold, and with the others -------------------------------------------------------------


async def test_without_a_store_it_is_missing() -> None:
    manifold = leaseexpiry.manifold()
    assert manifold.inputs == ("store",)
    assert list(manifold.outputs) == [Reporter]
    with pytest.raises(Missing):
        await manifold.start(
            StubGetter(required={"store": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_who_waits_is_told_and_the_store_is_clean_and_what_is_pinned_stays(
    autojump_clock: MockClock,
) -> None:
    taken: dict[str, Any] = {}

    async def user(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        taken["leases"] = get("leases", Leases)
        assert get("expiry", Reporter).report() == get("expiry", Reporter).report()
        task_status.started()
        await trio.sleep_forever()

    parts = {
        "store": lease.memory_store(),
        "leases": lease.manifold(clock=world),
        "expiry": leaseexpiry.manifold(clock=world),
        "user": Manifold(user, inputs=("leases", "expiry")),
    }
    async with open_engine(parts) as engine, nursery_to_leave() as tasks:
        claimer = taken["leases"].claimer("singular")
        pinner = taken["leases"].pinner("singular")
        await claimer.claim("a", "me", 1)
        await claimer.claim("b", "me", 1)
        await pinner.pin("b", "upgrade")
        a = await calling(tasks, lambda: claimer.wait_until_expired("a"))
        b = await calling(tasks, lambda: claimer.wait_until_expired("b"))
        await trio.sleep(3)
        assert (a.blocks(), b.blocks()) == (False, True)
        assert "of 1 leases" in report_of(engine, "store").store

        await pinner.unpin("b", "upgrade")
        await trio.sleep(3)
        assert not b.blocks()
        assert "of 0 leases" in report_of(engine, "store").store
        assert report_of(engine, "expiry").deleted == 2


def report_of(engine: Any, name: str) -> Any:
    return engine.report().manifolds[name].worker
