"""Stores as workers: in agent files, over restarts, and against other processes."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.workers.coordination.leasing import ScriptedStore, open_scripted, world
from tests.workers.coordination.taking import Taker
from trioworker import Engine, LifetimeError, Manifold, open_worker
from trioworker.agent import load
from trioworker.backends.sqlite import open_database
from trioworker.patterns import Flag
from trioworker.testing import open_engine
from trioworker.workers.coordination import lease, singular
from trioworker.workers.coordination.lease import (
    Busy,
    InvalidLease,
    Key,
    Leases,
    Request,
    SqliteConfig,
    Store,
    StoreWorker,
    open_sqlite_store,
)

A = Key("singular", "", "a")


def parts(store: Manifold) -> dict[str, Manifold]:
    return {"store": store, "leases": lease.manifold(clock=world)}


async def taken(engine: Engine) -> Taker:
    taker = Taker("leases", Leases)
    engine.install("taker", taker.manifold())
    await engine.wait_state("taker", "started")
    return taker


async def test_what_is_in_memory_outlives_the_store_and_its_tokens_do(
    autojump_clock: MockClock,
) -> None:
    async with open_engine(parts(lease.memory_store())) as engine:
        taker = await taken(engine)
        first = await taker[Leases].claimer("singular").claim("a", "me", 60)
        engine.restart("store")
        await engine.wait_settled()
        assert taker.starts == 2
        assert await taker[Leases].checker("singular").check("a", "me") == first.token
        second = await taker[Leases].claimer("singular").claim("b", "me", 60)
        assert second.token > first.token


async def test_two_engines_with_one_memory_manifold_have_nothing_in_common(
    autojump_clock: MockClock,
) -> None:
    shared = parts(lease.memory_store())
    async with open_engine(shared) as one, open_engine(shared) as other:
        await (await taken(one))[Leases].claimer("singular").claim("a", "me", 60)
        assert await (await taken(other))[Leases].reader("singular").leases() == {}


async def test_an_agent_file_has_leases_in_a_file(tmp_path: Path) -> None:
    wing = "trioworker.workers.coordination.lease"
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[manifolds.store]\nuse = "{wing}:sqlite_store"\n'
        f'config = {{ path = "{tmp_path / "leases.db"}", busy_timeout = 2.0 }}\n'
        f'[manifolds.leases]\nuse = "{wing}:manifold"\n'
        'config = { max_sleep = 5.0, namespaces.jobs = { names = "[a-z]+" } }\n'
    )
    async with open_worker(load(file).engine()) as engine:
        taker = await taken(engine)
        grant = await taker[Leases].claimer("jobs").claim("nightly", "me", 60)
        report: Any = engine.report().manifolds["store"].worker
        assert report.tomb.state == "alive"
        assert "leases.db" in report.store
    async with open_sqlite_store(tmp_path / "leases.db") as store:
        [info] = (await store.leases(0)).values()

    assert (info.holder, info.token) == ("me", grant.token)


async def test_while_another_process_writes_the_store_is_busy_and_claims_are_tried_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "leases.db"
    async with (
        open_sqlite_store(path, busy_timeout=0.02) as store,
        open_worker(lease.Manager(store, chance=lambda: 0.0)) as manager,
        open_database(path) as other,
    ):
        async with trio.open_nursery() as nursery, other.transaction() as transaction:
            await transaction.execute("DELETE FROM lease")
            with pytest.raises(Busy):
                await store.claim(A, Request("me", 60), 0)
            assert await store.leases(0) == {}  # who reads is not held up
            nursery.start_soon(manager.claimer("singular").claim, "a", "me", 60)
            while not manager.report().claims:
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.05)
            assert manager.report().claims == 1
        assert await manager.checker("singular").check("a", "me") == 1


async def test_a_store_is_no_use_before_it_is_open() -> None:
    worker = lease.StoreWorker(lambda: open_sqlite_store(":memory:"))
    with pytest.raises(LifetimeError, match="not open yet"):
        await worker.leases(0)
    assert repr(worker) == "<StoreWorker 'lease store' alive of None>"


async def test_who_is_cancelled_does_not_wait_until_the_store_lets_go(
    autojump_clock: MockClock,
) -> None:
    """Behind a broken link, a call that is called off does not hear of it; its end is awaited."""
    scripted = ScriptedStore()
    scripted.script["claim"] = ["hang on"]
    worker = StoreWorker(lambda: open_scripted(scripted))
    began = trio.current_time()
    async with open_worker(worker):
        with trio.move_on_after(1) as scope:
            await worker.claim(A, Request("me", 60), 0)
        assert scope.cancelled_caught
        assert trio.current_time() == began + 1
        assert worker.report().calls == 1
    assert trio.current_time() == began + 100  # and only then was the store closed
    assert worker.report().calls == 0


async def test_a_flag_is_over_before_its_term_though_the_renewal_hangs_in_the_store(
    autojump_clock: MockClock,
) -> None:
    scripted = ScriptedStore()
    scripted.script["extend"] = ["hang on"]
    config = singular.Config(entity="a", claimant="me", duration=10)
    made = {
        **parts(lease.store_manifold(lambda: open_scripted(scripted))),
        "flag": singular.manifold(config),
    }
    async with open_engine(made) as engine:
        taker = Taker("flag", Flag)
        engine.install("taker", taker.manifold())
        await engine.wait_state("taker", "started")
        await trio.sleep(9.1)
        assert taker.starts == 2


@pytest.mark.parametrize("holder, duration", [("", 60), ("me", 0), ("me", float("nan"))])
def test_a_request_that_makes_no_sense_cannot_be_made(holder: str, duration: float) -> None:
    with pytest.raises(InvalidLease, match="cannot claim lease for"):
        Request(holder, duration)


async def test_a_store_that_cannot_be_opened_fails_its_worker(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="unable to open"):
        await StoreWorker(lambda: open_sqlite_store(tmp_path / "no" / "where.db")).run()


@pytest.mark.parametrize("busy_timeout", [-1, float("inf")])
def test_a_config_says_which_field_is_wrong(busy_timeout: float) -> None:
    with pytest.raises(ValueError, match=r"^busy_timeout must be"):
        SqliteConfig(path=Path("a.db"), busy_timeout=busy_timeout)


def test_a_script_is_a_store() -> None:
    assert isinstance(ScriptedStore(), Store)
