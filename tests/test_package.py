"""The distribution and the package agree."""

import importlib.metadata

import trio
from trio.testing import MockClock

import trioworker


def test_the_installed_version_is_the_one_the_package_states() -> None:
    assert importlib.metadata.version("trioworker") == trioworker.__version__


async def test_async_tests_run_and_can_skip_time(autojump_clock: MockClock) -> None:
    await trio.sleep(1000)

    assert autojump_clock.current_time() >= 1000
