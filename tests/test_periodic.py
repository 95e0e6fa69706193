"""periodic_worker(): the same function again and again."""

import functools
import inspect
import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioworker._periodic import periodic_worker
from trioworker._util import name_of
from trioworker._worker import Worker, open_worker


class Calls:
    """Writes down when it was called, and takes `takes` seconds."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.starts: list[float] = []

    async def __call__(self) -> None:
        self.starts.append(trio.current_time())
        await trio.sleep(self.takes)


async def starts_within(seconds: float, calls: Calls, worker: Worker) -> list[float]:
    begin = trio.current_time()
    async with open_worker(worker):
        await trio.sleep(seconds)
    return [start - begin for start in calls.starts]


async def test_the_first_call_comes_at_once_and_the_others_follow(
    autojump_clock: MockClock,
) -> None:
    calls = Calls()

    starts = await starts_within(35, calls, periodic_worker(calls, period=10))

    assert starts == [0, 10, 20, 30]


async def test_not_immediately_means_after_one_period(autojump_clock: MockClock) -> None:
    calls = Calls()

    starts = await starts_within(35, calls, periodic_worker(calls, period=10, immediately=False))

    assert starts == [10, 20, 30]


async def test_the_period_runs_from_the_end_of_one_call_to_the_start_of_the_next(
    autojump_clock: MockClock,
) -> None:
    calls = Calls(takes=15)

    starts = await starts_within(60, calls, periodic_worker(calls, period=10))

    assert starts == [0, 25, 50]


async def test_jitter_spreads_every_pause_both_ways(autojump_clock: MockClock) -> None:
    calls = Calls()
    numbers = iter([0.0, 1.0, 0.5, 0.25, 0.5])
    worker = periodic_worker(
        calls, period=10, jitter=0.2, immediately=False, random=numbers.__next__
    )

    starts = await starts_within(39.5, calls, worker)

    assert starts == pytest.approx([8, 20, 30, 39])


async def test_full_jitter_may_mean_no_pause_but_never_no_checkpoint(
    autojump_clock: MockClock,
) -> None:
    async def nothing() -> None:
        pass

    with trio.move_on_after(1) as scope:
        async with open_worker(periodic_worker(nothing, period=1, jitter=1, random=lambda: 0.0)):
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught


async def test_without_jitter_no_number_is_drawn(autojump_clock: MockClock) -> None:
    def never() -> float:
        raise AssertionError

    calls = Calls()

    assert await starts_within(15, calls, periodic_worker(calls, period=10, random=never)) == [
        0,
        10,
    ]


async def test_an_error_ends_it_the_same_object(autojump_clock: MockClock) -> None:
    error = ValueError("third time unlucky")
    calls: list[str] = []

    async def work(name: str) -> None:
        calls.append(name)
        if len(calls) == 3:
            raise error

    with pytest.raises(ValueError, match="unlucky") as caught:
        await periodic_worker(work, "x", period=1).run()

    assert caught.value is error
    assert calls == ["x"] * 3


async def test_killed_before_it_was_run_it_never_calls() -> None:
    calls = Calls()
    worker = periodic_worker(calls, period=1)
    worker.kill()
    await worker.run()

    assert calls.starts == []


def test_it_has_the_functions_name() -> None:
    async def prune() -> None: ...

    assert name_of(periodic_worker(prune, period=1)).endswith("prune")
    assert name_of(periodic_worker(functools.partial(prune), period=1)).endswith("prune")


def test_the_documented_defaults() -> None:
    parameters = inspect.signature(periodic_worker).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not p.empty}

    assert (defaults["jitter"], defaults["immediately"]) == (0.0, True)
    assert 0 <= defaults["random"]() <= 1


def plain() -> None:
    pass


@pytest.mark.parametrize(
    "broken, error, message",
    [
        ({"async_fn": plain}, TypeError, "then periodic_worker(plain, period=60.0)"),
        ({"async_fn": 3}, TypeError, "write periodic_worker(an_async_function, period=60.0)"),
        ({"period": 0}, ValueError, "periodic_worker(period=...) must be greater than 0"),
        ({"period": -1}, ValueError, "periodic_worker(period=...) must be greater than 0"),
        ({"period": math.nan}, ValueError, "periodic_worker(period=...) must be greater than 0"),
        ({"period": math.inf}, ValueError, "periodic_worker(period=...) must be greater than 0"),
        ({"period": "1"}, TypeError, "periodic_worker(period=...) must be a number of seconds"),
        ({"jitter": -0.1}, ValueError, "periodic_worker(jitter=...) must be from 0 to 1"),
        ({"jitter": 1.1}, ValueError, "periodic_worker(jitter=...) must be from 0 to 1"),
        ({"jitter": math.nan}, ValueError, "periodic_worker(jitter=...) must be from 0 to 1"),
        ({"jitter": True}, TypeError, "periodic_worker(jitter=...) must be a number from 0 to 1"),
        ({"jitter": "1"}, TypeError, "periodic_worker(jitter=...) must be a number from 0 to 1"),
        ({"random": 0.5}, TypeError, "periodic_worker(random=...) must be a function, not 0.5"),
    ],
)
def test_a_broken_argument_is_refused_at_once_by_name(
    broken: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"async_fn": trio.sleep_forever, "period": 1.0, **broken}
    async_fn = arguments.pop("async_fn")

    with pytest.raises(error) as caught:
        periodic_worker(async_fn, **arguments)

    assert message in str(caught.value)
