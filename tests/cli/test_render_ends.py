"""The table as a worker, and what of a flood of transitions it shows."""

import io

import pytest
import trio
from rich.console import Console
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, Getter, Manifold
from trioworker._cli._render import ReportTable
from trioworker.dependency import EventStream


async def forever(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def test_a_table_can_be_owned_like_any_worker(autojump_clock: MockClock) -> None:
    engine = Engine()
    engine.install("a", Manifold(forever))
    out = io.StringIO()
    table = ReportTable(engine, console=Console(file=out))
    ended: list[str] = []

    async def wait() -> None:
        await table.wait()
        ended.append("table")

    async with trio.open_nursery() as nursery:
        await nursery.start(table.run)
        nursery.start_soon(wait)
        nursery.start_soon(engine.run)
        await engine.wait_state("a", "started")
        await wait_all_tasks_blocked()
        assert not ended
        engine.kill()
        table.kill()

    assert ended == ["table"]
    assert "a: starting -> started" in out.getvalue()


async def test_transitions_that_were_not_shown_are_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps up with any program; but not with one that never lets it run."""
    events = Engine.events

    def few(engine: Engine, **_: object) -> EventStream:
        return events(engine, capacity=10)

    monkeypatch.setattr(Engine, "events", few)
    engine = Engine()
    engine.install("a", Manifold(forever))
    out = io.StringIO()
    async with ReportTable(engine, console=Console(file=out)), trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("a", "started")
        await wait_all_tasks_blocked()
        for _ in range(10):
            engine.install("b", Manifold(forever, inputs=("never",)))
            engine.uninstall("b")
        await wait_all_tasks_blocked()
        engine.kill()

    assert out.getvalue().count("(10 transitions were not shown)") == 1
