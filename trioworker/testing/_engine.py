"""An engine for the length of a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from .. import Engine, open_worker
from .._util import check_seconds
from ._bounds import PATIENCE, at_most

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from .. import EngineConfig, Manifold

_MOVING = ("delayed", "starting", "draining", "stopping")


@asynccontextmanager
async def open_engine(
    manifolds: Mapping[str, Manifold] | None = None,
    config: EngineConfig | None = None,
    *,
    settle_within: float | None = PATIENCE,
) -> AsyncGenerator[Engine, None]:
    """Run an engine in the background of an ``async with`` block; stop and reap it at the end.

    - `manifolds` are installed together, before anything runs: all, or none and an error.
    - With `manifolds` the block begins when the engine has settled: each of them is started, done,
      failed, or waits for an input. Without, it begins at once.
    - A fatal error of the engine cancels the block and is raised alone; if the block fails by
      itself as well, both leave in a group; see `open_worker`.
    - At the end the engine is killed as usual, so with all the grace that its manifolds have.

    Args:
        manifolds: what to install, by name.
        config: how the engine behaves; by default as in production, delays included, so run such
            tests under an autojumping `trio.testing.MockClock`.
        settle_within: seconds that settling may take, on Trio's clock or the wall's, whichever is
            over first; ``None`` not to wait for it, for manifolds that are meant not to get ready.

    Raises:
        AssertionError: it did not settle; the message explains every manifold that still moves.
        UnknownInput, AlreadyExists, CycleError: from ``Engine.install_all()``.
        TypeError, ValueError: `settle_within` is no finite time above 0.
    """
    if settle_within is not None:
        check_seconds("open_engine(settle_within=...)", settle_within, zero=False)
    engine = Engine(config)
    if manifolds is not None:
        engine.install_all(manifolds)
    async with open_worker(engine):
        if manifolds is not None and settle_within is not None:
            await _settle(engine, settle_within)
        yield engine


async def _settle(engine: Engine, seconds: float) -> None:
    with at_most(seconds) as scope:
        await engine.wait_settled()
    if engine.state == "dead":
        await engine.wait()
    if scope.cancelled_caught:
        reports = engine.report().manifolds.values()
        moving = [str(engine.explain(r.name)) for r in reports if r.state in _MOVING]
        raise AssertionError(
            f'"{engine.name}" engine: not settled after {seconds:g} s; '
            "write open_engine(..., settle_within=None) if that is meant:\n  " + "\n  ".join(moving)
        )
