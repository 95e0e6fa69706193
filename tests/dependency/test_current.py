"""On whose behalf code runs, and which logger tells of it."""

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from trioworker.dependency import (
    Bounce,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Uninstall,
    current_manifold,
)


async def serve(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
    task_status.started(object())
    await trio.sleep_forever()


async def running(engine: Engine, use: Callable[[], Awaitable[object]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        await use()
        engine.kill()


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


async def test_a_start_function_its_helpers_tasks_and_threads_run_on_behalf_of_their_manifold(
    autojump_clock: MockClock,
) -> None:
    seen: dict[str, str | None] = {}

    async def note(where: str) -> None:
        seen[where] = current_manifold()

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await note("start")
        get.start_soon(note, "helper")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, "task")
        seen["thread"] = await trio.to_thread.run_sync(current_manifold)
        task_status.started()

    engine = Engine()
    engine.install("db", Manifold(start))
    await running(engine, nothing)

    assert seen == dict.fromkeys(["start", "helper", "task", "thread"], "db")
    assert current_manifold() is None


async def test_of_nested_engines_the_innermost_manifold_is_told(autojump_clock: MockClock) -> None:
    seen: list[str | None] = []

    async def inner_start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        seen.append(current_manifold())
        task_status.started()

    async def outer_start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        inner = Engine()
        inner.install("inner", Manifold(inner_start))
        await running(inner, nothing)
        seen.append(current_manifold())

    engine = Engine()
    engine.install("outer", Manifold(outer_start))
    await running(engine, nothing)

    assert seen == ["inner", "outer"]


@pytest.mark.parametrize("culprit", ["db", "web"])
async def test_what_is_asked_to_stop_is_asked_on_its_own_behalf(
    culprit: str, autojump_clock: MockClock
) -> None:
    """Whoever sets off the stop: somebody else, its own input, or its own task."""
    seen: list[str | None] = []
    fail = trio.Event()

    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(object())
        if current_manifold() == culprit:
            await fail.wait()
            engine.hold(culprit)
        await trio.sleep_forever()

    engine = Engine()
    for name, inputs in {"db": (), "web": ("db",)}.items():
        stop = Manifold(start, inputs=inputs, ask=lambda _: seen.append(current_manifold()))
        engine.install(name, stop)

    async def hold() -> None:
        fail.set()
        await engine.wait_state(culprit, "held")

    await running(engine, hold)

    assert seen == ["web", "db"]
    assert current_manifold() is None


async def test_a_filter_is_called_on_behalf_of_whose_error_it_is(autojump_clock: MockClock) -> None:
    seen: list[str | None] = []

    def filtered(error: Exception) -> BaseException | None:
        seen.append(current_manifold())
        return Uninstall()

    async def fail(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        raise OSError("gone")

    engine = Engine(EngineConfig(filter=filtered))
    engine.install("db", Manifold(fail))
    engine.install("web", Manifold(serve))
    await running(engine, nothing)

    assert seen == ["db"]


async def test_each_manifold_has_a_logger_of_its_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail_once(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        if not caplog.records:
            raise OSError("gone")
        await serve(get, task_status=task_status)

    engine = Engine()
    engine.install("db", Manifold(fail_once))
    await running(engine, nothing)

    assert {record.name for record in caplog.records} == {"trioworker.engine.db"}


async def test_the_level_of_one_manifold_can_be_changed_while_it_runs(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def bounce(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(object())
        await trio.sleep(1)
        raise Bounce

    engine = Engine()
    engine.install("loud", Manifold(bounce))
    engine.install("quiet", Manifold(bounce))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await trio.sleep(1.5)
        assert not caplog.records
        with caplog.at_level(logging.INFO, "trioworker.engine.loud"):
            await trio.sleep(1.5)
        engine.kill()

    assert {record.name for record in caplog.records} == {"trioworker.engine.loud"}


async def test_a_logger_that_nobody_has_asked_for_is_not_made_for_a_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be kept for ever, also that of a manifold which came once and is gone."""

    async def fail_once(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        if not caplog.records:
            raise OSError("gone")
        await serve(get, task_status=task_status)

    engine = Engine()
    engine.install("unheard of", Manifold(fail_once))
    await running(engine, nothing)

    [record] = caplog.records
    assert record.name == "trioworker.engine.unheard of"
    assert record.filename == "_history.py"
    assert record.exc_info
    assert isinstance(record.exc_info[1], OSError)
    assert record.name not in logging.root.manager.loggerDict
