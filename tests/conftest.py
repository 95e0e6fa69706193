"""What every test relies on, and which tests a run is made of.

A test belongs to one of three tiers. Without a marker it is *quick*: unit, contract, typing and
example tests, to be run all the time. Marked ``full`` it explores or needs processes: property
tests, schedules, soak, kill -9; marked ``long`` it is only worth it overnight. ``--tier=quick``
runs the quick ones, ``--tier=full`` (the default, `make test`) those and the full ones,
``--tier=long`` (`make stress`) everything, and what explores explores ``scale`` times as much.
"""

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Fixtures for all: servers that are started once.
from tests.services.etcd import etcd as etcd
from tests.services.postgres import postgres as postgres

TIERS = ("quick", "full", "long")
SCALE = {"quick": 1, "full": 1, "long": 20}


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT; let Hypothesis draw the same examples each time, and new ones in the long tier.

    A shell that runs us in the background has us ignore SIGINT, and the programs that we start with
    us: tests of interrupts would wait for ever. The same examples, so that a run of the checks that
    fails says something about the change, and is never bad luck; and no deadline for an example:
    machines differ by more than any that would still mean something.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    is_long = config.getoption("--tier") == "long"
    settings.register_profile("trioworker", deadline=None, print_blob=True, derandomize=not is_long)
    settings.load_profile("trioworker")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier", choices=TIERS, default="full", help="which tests to run (default: %(default)s)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what belongs to a tier above the one asked for."""
    above = TIERS[TIERS.index(config.getoption("--tier")) + 1 :]
    left_out = [item for item in items if any(item.get_closest_marker(tier) for tier in above)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(scope="session")
def tier(pytestconfig: pytest.Config) -> str:
    """Which tier runs: "quick", "full" or "long"."""
    return str(pytestconfig.getoption("--tier"))


@pytest.fixture(scope="session")
def scale(tier: str) -> int:
    """How many times as much as usual is explored."""
    return SCALE[tier]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test sets up for the log of a program is gone for the next."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
