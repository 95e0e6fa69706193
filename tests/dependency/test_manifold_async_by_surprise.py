"""What is async and cannot be seen to be so before it is called is told when it is."""

from typing import Any

import pytest
from trio.testing import MockClock

from trioworker.dependency import Getter, Manifold

from .harness import Program


class Opens:
    """An object whose call is async."""

    async def __call__(self, get: Getter) -> None:
        """Neither open anything nor make a worker."""


@pytest.mark.parametrize(
    "make, says",
    [
        (Manifold.from_context, "which is no async context manager"),
        (Manifold.from_worker, "Opens is async; build(get) must be a plain function"),
    ],
)
async def test_an_object_whose_call_is_async_fails_showing_the_way(
    make: Any, says: str, autojump_clock: MockClock
) -> None:
    """And Python does not warn of the coroutine that nobody awaited."""
    program = Program()
    program.engine.install("db", make(Opens()))
    async with program.running(settle=False):
        error = program.engine.report().manifolds["db"].history[0].error

    assert error is not None
    assert error.startswith("TypeError: ")
    assert says in error
