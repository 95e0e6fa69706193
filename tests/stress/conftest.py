"""The second package for a module's tests, and at the end of the run how much was explored."""

from collections.abc import Iterator

import pytest

from .explore import RESULTS
from .perturb import Core, perturbed


@pytest.fixture(scope="module")
def core() -> Iterator[Core]:
    """The package with points in it; gone when the module's tests are over."""
    with perturbed() as second:
        yield second


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many schedules there were, and how many of them distinct."""
    if RESULTS:
        terminalreporter.section("schedules")
        for explored in RESULTS:
            terminalreporter.line(str(explored))
        total = sum(explored.count for explored in RESULTS)
        distinct = sum(explored.distinct for explored in RESULTS)
        seconds = sum(explored.seconds for explored in RESULTS)
        terminalreporter.line(f"all: {total} schedules, {distinct} distinct, {seconds:.1f} s")
