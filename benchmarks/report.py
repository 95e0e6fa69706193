"""What does it cost to take the report of n manifolds?

The floor is no Trio here: it is `json.dumps` of that report as plain dicts, lists and strings, the
least that anybody will do with a report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import trio

from trioworker import Engine, Manifold
from trioworker.dependency import EngineReport

from ._method import Bar, Question, Stopwatch
from ._ours import NO_DELAYS, sleeper
from ._trio import countdown, in_trio

REPORTS = 2000
"""So many manifolds are reported on in one trial, in however many reports that takes."""


def plain(report: object) -> Any:
    """Return named tuples as dicts, and tuples as lists."""
    if isinstance(report, tuple):
        fields: tuple[str, ...] | None = getattr(report, "_fields", None)
        if fields is None:
            return [plain(item) for item in report]
        return {name: plain(value) for name, value in zip(fields, report, strict=True)}
    if isinstance(report, Mapping):
        return {name: plain(value) for name, value in report.items()}
    return report


async def floor(n: int) -> dict[str, float]:
    """Dump the plain form."""
    data = plain((await reports(n, 1))[1])
    times = max(1, REPORTS // n)
    watch = Stopwatch(n * times)
    for _ in range(times):
        json.dumps(data)
    return {"report": watch.read()}


async def ours(n: int) -> dict[str, float]:
    """Take the report."""
    cost, _ = await reports(n, max(1, REPORTS // n))
    return {"report": cost}


async def reports(n: int, times: int) -> tuple[float, EngineReport]:
    """Report `times` times on a star of `n`, all up; return what one manifold cost."""
    up = countdown(n)
    worker = sleeper(up)
    engine = Engine(NO_DELAYS)
    engine.install_all({str(i): Manifold(worker, inputs=("0",) if i else ()) for i in range(n)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await up.wait()
        report = engine.report()
        watch = Stopwatch(n * times)
        for _ in range(times):
            report = engine.report()
        cost = watch.read()
        engine.kill()
    return cost, report


QUESTIONS = [
    Question(
        name="report",
        ours=in_trio(ours),
        floor=in_trio(floor),
        sizes=(100, 1000, 5000, 10000),
        bars={"report": Bar(limit=1.0, at=(1000,))},
        against="json.dumps of it",
    )
]
