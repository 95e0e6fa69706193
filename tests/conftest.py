"""What every test relies on."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No deadline per example: machines differ by more than any that would still mean something.
settings.register_profile("trioworker", deadline=None, print_blob=True)
settings.load_profile("trioworker")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What a test sets up for the log of a program is gone for the next."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
