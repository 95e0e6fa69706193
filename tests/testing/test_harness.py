"""`ManifoldHarness`: presence and absence of starts, and a worker played by the test."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, LifetimeError, MisuseError, RestartPolicy
from trioworker.testing import ManifoldHarness, _bounds, open_engine


class Failure(Exception):
    pass


async def test_one_start_is_asserted_once() -> None:
    db = ManifoldHarness()
    async with open_engine() as engine:
        await db.assert_no_start()
        engine.install("db", db.manifold())
        await db.assert_one_start()
        await db.assert_no_start()
        await db.assert_no_start()

    assert (db.starts, db.ends) == (1, 1)


async def test_a_failed_run_is_started_again_after_its_delay(autojump_clock: MockClock) -> None:
    db = ManifoldHarness()
    config = EngineConfig(restart=RestartPolicy(error_delay=5.0, jitter=0))
    async with open_engine({"db": db.manifold()}, config):
        await db.assert_one_start()
        db.fail(Failure())
        await db.assert_no_start()
        assert trio.current_time() == 0
        await db.assert_one_start()
        assert trio.current_time() == 5


async def test_a_run_that_returns_is_done() -> None:
    db = ManifoldHarness()
    async with open_engine({"db": db.manifold()}) as engine:
        await db.assert_one_start()
        db.finish()
        assert await engine.wait_state("db", "done") == "done"
        await db.assert_no_start()
        assert not db.is_running


async def test_the_next_starts_fail_as_told(autojump_clock: MockClock) -> None:
    db = ManifoldHarness()
    db.fail_next(Failure("1"), Failure("2"))
    async with open_engine({"db": db.manifold()}) as engine:
        assert (db.starts, db.ends) == (3, 2)
        assert [end.error for end in engine.report().manifolds["db"].history] == [
            "Failure: 1",
            "Failure: 2",
        ]


async def test_the_test_says_when_it_is_ready() -> None:
    db, web = ManifoldHarness(ready=False), ManifoldHarness()
    async with open_engine(
        {"db": db.manifold(), "web": web.manifold(inputs=("db",))}, settle_within=None
    ) as engine:
        await db.assert_one_start()
        await web.assert_no_start()
        assert engine.report().manifolds["db"].state == "starting"

        db.started()
        await web.assert_one_start()
        assert engine.report().manifolds["db"].state == "started"


async def test_its_output_and_its_getter_are_the_engines() -> None:
    db, web = ManifoldHarness(5), ManifoldHarness()
    async with open_engine({"db": db.manifold(), "web": web.manifold(inputs=("db",))}) as engine:
        assert web.get("db", int) == 5

        db.output = 6
        engine.restart("db")
        await engine.wait_settled()
        assert web.get("db", int) == 6


async def test_it_is_stopped_as_any_other() -> None:
    db = ManifoldHarness()
    async with open_engine({"db": db.manifold()}) as engine:
        assert (db.is_running, db.ends) == (True, 0)
        engine.hold("db")
        await engine.wait_settled()
        assert (db.is_running, db.ends) == (False, 1)


async def test_it_may_be_installed_again_once_it_has_ended() -> None:
    db = ManifoldHarness()
    for _ in range(2):
        async with open_engine({"db": db.manifold()}):
            await db.assert_one_start()

    assert repr(db) == "<ManifoldHarness 'ManifoldHarness', starts: 2, ends: 2>"


# -- what it finds ---------------------------------------------------------------------------------


async def test_a_start_that_does_not_come_is_found_within_the_bound(
    autojump_clock: MockClock,
) -> None:
    db = ManifoldHarness(name="db")

    message = r'^"db" was not started within 3 s \(starts: 0, ends: 0\)$'
    with pytest.raises(AssertionError, match=message):
        await db.assert_one_start(within=3)

    assert trio.current_time() == 3


async def test_a_start_that_does_not_come_is_found_also_when_the_clock_stands_still(
    mock_clock: MockClock,
) -> None:
    with pytest.raises(AssertionError, match="was not started within"):
        await ManifoldHarness().assert_one_start(within=0.02)


async def test_two_starts_are_not_one(autojump_clock: MockClock) -> None:
    db = ManifoldHarness(name="db")
    async with open_engine({"db": db.manifold()}) as engine:
        engine.restart("db")
        await engine.wait_settled()

        with pytest.raises(AssertionError, match=r'^"db" was started 2 times'):
            await db.assert_one_start()

        await db.assert_no_start()


async def test_a_start_is_not_none() -> None:
    db = ManifoldHarness(name="db")
    async with open_engine({"db": db.manifold()}):
        with pytest.raises(AssertionError, match=r'^"db" was started once \(starts: 1, ends: 0\)$'):
            await db.assert_no_start()


async def test_a_start_that_is_about_to_be_is_not_none() -> None:
    db = ManifoldHarness()
    async with open_engine() as engine:
        engine.install("db", db.manifold())
        assert db.starts == 0

        with pytest.raises(AssertionError, match="was started once"):
            await db.assert_no_start()


async def test_absence_cannot_be_asserted_while_a_task_never_blocks(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(_bounds, "PATIENCE", 0.02)
    nursery.start_soon(spin)

    with pytest.raises(AssertionError, match="some task keeps running without ever blocking"):
        await ManifoldHarness().assert_no_start()

    nursery.cancel_scope.cancel()


# -- misuse ----------------------------------------------------------------------------------------


ACTS: dict[str, Callable[[ManifoldHarness], object]] = {
    r"fail\(\)": lambda harness: harness.fail(Failure()),
    r"finish\(\)": lambda harness: harness.finish(),
    r"started\(\)": lambda harness: harness.started(),
    "get": lambda harness: harness.get,
}


@pytest.mark.parametrize("what, act", ACTS.items(), ids=["fail", "finish", "started", "get"])
async def test_what_does_not_run_cannot_be_played(
    what: str, act: Callable[[ManifoldHarness], object]
) -> None:
    message = rf"""^"db": {what} while it does not run; first write 'await harness.assert_one"""
    with pytest.raises(LifetimeError, match=message):
        act(ManifoldHarness(name="db"))


async def test_a_run_is_told_to_end_once() -> None:
    db = ManifoldHarness()
    async with open_engine({"db": db.manifold()}):
        db.finish()

        with pytest.raises(LifetimeError, match=r"fail\(\) of a run that was told to end before$"):
            db.fail(Failure())

        await wait_all_tasks_blocked()

    assert (db.starts, db.ends) == (1, 1)


async def test_a_run_is_ready_once() -> None:
    db = ManifoldHarness()
    async with open_engine({"db": db.manifold()}):
        with pytest.raises(RuntimeError, match=r"started\(\) was called twice"):
            db.started()


@pytest.mark.parametrize("method", ["fail", "fail_next"])
@pytest.mark.parametrize("wrong", [Failure, "why"])
def test_an_error_that_is_no_exception_is_refused(method: str, wrong: object) -> None:
    message = rf"^ManifoldHarness\.{method}\(error\) takes an exception"
    with pytest.raises(TypeError, match=message):
        getattr(ManifoldHarness(), method)(wrong)


@pytest.mark.parametrize("absent", [True, False])
async def test_one_harness_cannot_play_two_manifolds(absent: Any) -> None:
    db = ManifoldHarness(name="db")
    async with open_engine() as engine:
        install_twice(engine, db)

        with pytest.raises(MisuseError, match=r'^"db" was started while it ran: it plays one'):
            await (db.assert_no_start() if absent else db.assert_one_start())


def install_twice(engine: Engine, harness: ManifoldHarness) -> None:
    engine.install("one", harness.manifold())
    engine.install("two", harness.manifold())
