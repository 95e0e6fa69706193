"""`open_engine`: an engine for the length of a block."""

import pytest
import trio
from trio.testing import MockClock

from trioworker import Engine, EngineConfig, RestartPolicy, UnknownInput
from trioworker.testing import ManifoldHarness, check_alive, open_engine


class Failure(Exception):
    pass


class BlockFailure(Exception):
    pass


FATAL = EngineConfig(is_fatal=lambda exc: isinstance(exc, Failure))


async def test_the_block_begins_when_the_manifolds_have_settled() -> None:
    db, web, lost = ManifoldHarness(), ManifoldHarness(), ManifoldHarness()
    async with open_engine(
        {"web": web.manifold(inputs=("db",)), "db": db.manifold(), "lost": lost.manifold()}
    ) as engine:
        states = {r.name: r.state for r in engine.report().manifolds.values()}
        assert states == {"web": "started", "db": "started", "lost": "started"}


async def test_without_manifolds_the_block_begins_at_once_with_a_running_engine() -> None:
    async with open_engine() as engine:
        await check_alive(engine)
        assert engine.state == "alive"
        assert engine.report().manifolds == {}


async def test_at_its_end_the_engine_is_dead_and_all_has_ended() -> None:
    db = ManifoldHarness()
    async with open_engine({"db": db.manifold()}) as engine:
        assert db.is_running

    assert engine.state == "dead"
    assert not db.is_running


async def test_the_config_is_the_engines() -> None:
    async with open_engine(config=EngineConfig(name="mine")) as engine:
        assert engine.name == "mine"


async def test_a_fatal_error_cancels_the_block_and_is_raised_alone() -> None:
    db = ManifoldHarness()
    failure = Failure()
    with pytest.raises(Failure) as caught:
        async with open_engine({"db": db.manifold()}, FATAL):
            db.fail(failure)
            await trio.sleep_forever()

    assert caught.value is failure


async def test_a_fatal_error_while_settling_is_raised_alone_before_the_block() -> None:
    db = ManifoldHarness()
    failure = Failure()
    db.fail_next(failure)
    begun = False

    with pytest.raises(Failure) as caught:
        async with open_engine({"db": db.manifold()}, FATAL):
            begun = True

    assert caught.value is failure
    assert not begun


async def test_an_error_of_the_block_stops_the_engine_and_is_raised_alone() -> None:
    db = ManifoldHarness()

    with pytest.raises(BlockFailure):
        async with open_engine({"db": db.manifold()}):
            raise BlockFailure

    assert not db.is_running


async def test_what_does_not_settle_is_explained(autojump_clock: MockClock) -> None:
    slow, doomed, web = ManifoldHarness(ready=False), ManifoldHarness(), ManifoldHarness()
    doomed.fail_next(*[Failure("again")] * 100)

    with pytest.raises(AssertionError) as caught:
        async with open_engine(
            {
                "slow": slow.manifold(),
                "doomed": doomed.manifold(),
                "web": web.manifold(inputs=("slow",)),
            },
            EngineConfig(restart=RestartPolicy(error_delay=3.0, factor=1, jitter=0)),
        ):
            raise BlockFailure

    message = str(caught.value)
    assert message.startswith('"engine" engine: not settled after 10 s')
    assert "settle_within=None" in message
    assert "\n  slow " in message
    assert "\n  doomed " in message
    assert "Failure: again" in message
    assert "\n  web " not in message
    assert trio.current_time() == 10
    assert not slow.is_running


async def test_what_does_not_settle_is_found_also_when_the_clock_stands_still(
    mock_clock: MockClock,
) -> None:
    slow = ManifoldHarness(ready=False)
    with pytest.raises(AssertionError, match=r"not settled after 0\.02 s"):
        async with open_engine({"slow": slow.manifold()}, settle_within=0.02):
            raise BlockFailure


async def test_what_is_meant_not_to_settle_is_not_waited_for() -> None:
    slow = ManifoldHarness(ready=False)
    async with open_engine({"slow": slow.manifold()}, settle_within=None) as engine:
        assert await engine.wait_state("slow", "starting") == "starting"


async def test_manifolds_are_installed_all_or_none() -> None:
    db, web = ManifoldHarness(), ManifoldHarness()

    with pytest.raises(UnknownInput):
        async with open_engine({"db": db.manifold(), "web": web.manifold(inputs=("nothing",))}):
            raise BlockFailure

    assert db.starts == 0


async def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^open_engine\(settle_within=\.\.\.\) must be greater"):
        async with open_engine(settle_within=0):
            raise BlockFailure


async def test_a_manifold_that_kills_its_engine_ends_it_cleanly() -> None:
    db = ManifoldHarness()
    engines: list[Engine] = []
    async with open_engine({"db": db.manifold()}) as engine:
        engines.append(engine)
        engine.kill()
        await engine.wait()

    assert engines[0].state == "dead"
