"""The driver of the property tests: steps, time, order, and an end."""

from __future__ import annotations

import time

import pytest
import trio
from hypothesis import Phase, given, settings, strategies as st

from . import driver as driver_module
from .driver import Driver, Stuck


def fail(error: BaseException) -> None:
    raise error


def test_a_step_returns_what_its_function_returned() -> None:
    with Driver() as driver:
        assert driver.do(lambda a, b: a + b, 1, 2) == 3


def test_a_step_raises_what_its_function_raised() -> None:
    error = ValueError("no")
    with Driver() as driver:
        with pytest.raises(ValueError, match="no") as info:
            driver.do(fail, error)
        assert info.value is error
        assert driver.do(lambda: "goes on") == "goes on"


def test_a_step_returns_when_everything_has_happened_that_follows() -> None:
    async def ten() -> str:
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        return "ten"

    with Driver() as driver:
        spawned = driver.spawn(ten)
        assert spawned.done
        assert spawned.outcome is not None
        assert spawned.outcome.unwrap() == "ten"


def test_a_task_keeps_its_error_to_itself() -> None:
    async def broken() -> None:
        raise KeyError("x")

    with Driver() as driver:
        spawned = driver.spawn(broken)
        assert isinstance(spawned.error, KeyError)
        assert driver.do(lambda: 1) == 1


def test_one_step_may_start_several_tasks() -> None:
    with Driver() as driver:
        one, two = driver.do(
            lambda: (driver.spawn_soon(trio.sleep, 1), driver.spawn_soon(trio.sleep, 2))
        )
        driver.jump(1)
        assert one.done
        assert not two.done


def test_a_task_is_cancelled_alone() -> None:
    with Driver() as driver:
        one = driver.spawn(trio.sleep_forever)
        other = driver.spawn(trio.sleep_forever)
        one.cancel()
        assert isinstance(one.error, trio.Cancelled)
        assert not other.done
        assert other.error is None
    assert isinstance(other.error, trio.Cancelled)


def test_time_stops_at_every_deadline_on_the_way() -> None:
    seen: list[float] = []

    async def ticks(period: float) -> None:
        while True:
            await trio.sleep(period)
            seen.append(trio.current_time())

    with Driver() as driver:
        driver.spawn(ticks, 2.0)
        driver.spawn(ticks, 3.0)
        driver.jump(6.5)
        assert seen == [2.0, 3.0, 4.0, 6.0, 6.0]
        assert driver.now == 6.5


def test_a_deadline_at_the_very_end_of_a_jump_has_passed() -> None:
    with Driver() as driver:
        driver.jump(1.1)
        sleeper = driver.spawn(trio.sleep, 0.1)
        driver.jump(0.1)
        assert sleeper.done


@given(st.lists(st.floats(0.0, 1e6), max_size=5), st.floats(0.0, 1e6))
def test_every_jump_comes_to_an_end(sleeps: list[float], seconds: float) -> None:
    with Driver() as driver:
        driver.jump(seconds)
        for sleep in sleeps:
            driver.spawn(trio.sleep, sleep)
        driver.jump(seconds)
        assert driver.now == pytest.approx(2 * seconds)


def test_time_that_passes_unnoticed_stops_nowhere() -> None:
    seen: list[float] = []

    async def ticks() -> None:
        while True:
            await trio.sleep(2.0)
            seen.append(trio.current_time())

    with Driver() as driver:
        driver.spawn(ticks)
        driver.jump_at_once(6.5)
        assert seen == [6.5]


def test_a_step_inside_a_step_is_refused() -> None:
    with Driver() as driver, pytest.raises(RuntimeError, match="inside a step"):
        driver.do(driver.settle)


def test_a_task_that_outlives_its_cancellation_is_named_and_the_next_run_is_clean() -> None:
    async def outlives() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    driver = Driver()
    driver.spawn(outlives, name="the stubborn one")
    with pytest.raises(Stuck, match="the stubborn one"):
        driver.close()
    with Driver() as another:
        assert another.do(lambda: 1) == 1


def test_a_run_that_does_not_settle_fails_with_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "MOST_TICKS", 100)
    spinning = True

    async def spins() -> None:
        while spinning:
            await trio.lowlevel.checkpoint()

    driver = Driver()
    with pytest.raises(Stuck, match="spins"):
        driver.spawn(spins)
    spinning = False
    driver.close()


def test_a_run_without_a_sign_of_life_fails_with_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "PATIENCE", 0.05)
    with Driver() as driver:
        lost = driver._callbacks.get()
        with pytest.raises(Stuck, match="no sign of life"):
            driver.settle()
        driver._callbacks.put(lost)


def test_a_crash_of_the_run_is_raised_in_the_end() -> None:
    async def broken() -> None:
        raise ValueError("crash")

    driver = Driver()
    driver.do(lambda: trio.lowlevel.spawn_system_task(broken))
    with pytest.raises(trio.TrioInternalError):
        driver.close()
    driver.close()  # has nothing left to do
    with pytest.raises(RuntimeError, match="has ended"):
        driver.settle()


def test_a_step_is_cheap_since_nobody_waits_for_anything() -> None:
    began = time.perf_counter()
    for _ in range(50):
        with Driver() as driver:
            for _ in range(20):
                driver.spawn(trio.sleep, 1.0)
            driver.jump(1.0)
    # Some 0.2 s; the bound is for machines that have other things to do.
    assert time.perf_counter() - began < 10


def order_of_wakeups() -> str:
    order: list[int] = []

    async def wakes(number: int) -> None:
        await trio.sleep(1.0)
        order.append(number)

    with Driver() as driver:
        for number in range(6):
            driver.spawn(wakes, number)
        driver.jump(1.0)
    return str(order)


def orders_of_some_seeds() -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []

    @settings(max_examples=10, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.random_module())
    def explore(seed: object) -> None:
        seen.append((repr(seed), order_of_wakeups()))

    explore()
    return seen


def test_order_follows_from_a_seed_that_hypothesis_draws() -> None:
    """Fails if Trio or Hypothesis no longer see to that: then failures cannot be replayed."""
    first = orders_of_some_seeds()
    assert orders_of_some_seeds() == first
    assert len({order for _, order in first}) > 1
