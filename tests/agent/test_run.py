"""Running an engine as a program: signals and statuses. No signal leaves this process."""

import signal
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, Getter, Manifold
from trioworker.agent import run_engine


@pytest.fixture(autouse=True)
def no_stray_signal() -> Iterator[None]:
    """A signal that no receiver takes fails the test, instead of ending the whole run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def fail(number: int, frame: object) -> None:
        pytest.fail(f"nobody was there to receive signal {number}")

    for number in before:
        signal.signal(number, fail)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def forever(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def wants_a_minute(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def shielded(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    with trio.CancelScope(shield=True):
        await trio.sleep(30)


POLITE = Manifold(wants_a_minute, ask=lambda _: None, grace=60)


def engine_of(manifold: Manifold, config: EngineConfig | None = None) -> Engine:
    engine = Engine(config)
    engine.install("a", manifold)
    return engine


async def status_after(engine: Engine, *signals: signal.Signals) -> tuple[int, list[int]]:
    """Run `engine`, raise signals one after the other; return its status, and how it was left."""
    left: list[int] = []
    result: list[int] = []

    async def run() -> None:
        result.append(await run_engine(engine, leave=left.append))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await engine.wait_state("a", "started")
        for number in signals:
            signal.raise_signal(number)
            await wait_all_tasks_blocked(0.01)
    return result[0], left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_cleanly(number: signal.Signals) -> None:
    assert await status_after(engine_of(Manifold(forever)), number) == (0, [])


async def test_an_engine_that_ends_by_itself_ends_the_program() -> None:
    engine = engine_of(Manifold(forever))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, engine)
        await engine.wait_state("a", "started")
        engine.kill()
    assert engine.state == "dead"


async def test_one_signal_leaves_the_grace(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    assert await status_after(engine_of(POLITE), signal.SIGTERM) == (0, [])
    assert trio.current_time() - begin == pytest.approx(60)


@pytest.mark.parametrize(
    "second, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
async def test_a_second_signal_ends_the_grace(second: signal.Signals, status: int) -> None:
    assert await status_after(engine_of(POLITE), signal.SIGINT, second) == (status, [])


async def test_what_shields_itself_is_left_behind_a_second_later(
    autojump_clock: MockClock,
) -> None:
    status, left = await status_after(engine_of(Manifold(shielded)), signal.SIGINT, signal.SIGINT)

    assert (status, left) == (130, [130])


async def test_a_third_signal_leaves_at_once(autojump_clock: MockClock) -> None:
    engine = engine_of(Manifold(shielded, stop_timeout=None))

    _, left = await status_after(engine, signal.SIGINT, signal.SIGINT, signal.SIGTERM)

    assert left[0] in {130, 143}


async def test_the_error_of_the_engine_is_raised_as_it_is() -> None:
    error = ValueError("boom")

    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise error

    engine = engine_of(Manifold(fail), EngineConfig(is_fatal=lambda _: True))
    with pytest.raises(ValueError, match="boom") as caught:
        await run_engine(engine)
    assert caught.value is error


async def test_the_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    await status_after(engine_of(Manifold(forever)), signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) is before
