"""What a stress of random graphs and verbs found, each with the rule that it broke."""

import logging
import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioworker import (
    Bounce,
    Dying,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Missing,
    RestartPolicy,
    Runner,
    StartTimeout,
    Tomb,
)

Status = trio.TaskStatus[Any]
Start = Callable[..., Awaitable[None]]


def lasting(ends: dict[str, float], name: str, clean_up: float = 0.0) -> Start:
    """Run until cancelled, take `clean_up` seconds for it, and note the time of the end."""

    async def start(get: Getter, *, task_status: Status) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(clean_up)
            ends[name] = trio.current_time()

    return start


def failing_on(event: trio.Event, error: Exception) -> Start:
    """Run until `event`, then raise `error`."""

    async def start(get: Getter, *, task_status: Status) -> None:
        task_status.started()
        await event.wait()
        raise error

    return start


async def in_engine(engine: Engine, body: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        await body()
        engine.kill(grace=0)


def states(engine: Engine) -> dict[str, str]:
    return {name: report.state for name, report in engine.report().manifolds.items()}


async def test_e4_one_that_a_crash_has_woken_does_not_start_on_what_crashes(
    autojump_clock: MockClock,
) -> None:
    """R needs a, and runs only while b is away; a's crash sends b away first."""
    crash = trio.Event()

    async def reader(get: Getter, *, task_status: Status) -> None:
        if get.live("b", object).value is not None:
            raise Missing("only while b is away")
        task_status.started()
        await trio.sleep_forever()

    async def b(get: Getter, *, task_status: Status) -> None:
        task_status.started("b")
        await trio.sleep_forever()

    engine = Engine(EngineConfig(restart=RestartPolicy(error_delay=5, jitter=0)))
    engine.install("a", Manifold(failing_on(crash, OSError())))
    engine.install("b", Manifold(b, inputs=("a",)))
    engine.install("r", Manifold(reader, inputs=("a",), live=("b",)))

    async def body() -> None:
        await engine.wait_state("b", "started")
        crash.set()
        await engine.wait_state("a", "delayed")
        await trio.sleep(1)
        assert states(engine) == {"a": "delayed", "b": "waiting", "r": "waiting"}

    await in_engine(engine, body)


async def test_e16_a_drain_goes_on_when_an_ask_uninstalls_another(
    autojump_clock: MockClock,
) -> None:
    async def returning(get: Getter, *, task_status: Status) -> None:
        """Be done."""

    engine = Engine()
    engine.install("a", Manifold(lasting({}, "a"), ask=lambda _: engine.uninstall("b")))
    engine.install("b", Manifold(returning))

    async def body() -> None:
        engine.drain()
        await engine.wait_settled()
        assert engine.state == "alive"
        assert states(engine) == {"a": "held"}

    await in_engine(engine, body)


@pytest.mark.parametrize("where", ["filter", "ask"])
async def test_e4_a_hard_kill_from_foreign_code_releases_no_input_twice(
    where: str, autojump_clock: MockClock
) -> None:
    """I has two users; the one that ends at once must not count for the slow one as well."""
    ends: dict[str, float] = {}
    asked = trio.Event()

    def ask(value: object) -> None:
        asked.set()
        if where == "ask":
            engine.kill(grace=2)

    def translate(exc: Exception) -> Exception:
        engine.kill(grace=0)
        return exc

    engine = Engine()
    engine.install("i", Manifold(lasting(ends, "i")))
    engine.install(
        "quick",
        Manifold(
            failing_on(asked, OSError("while stopping")),
            inputs=("i",),
            ask=ask,
            grace=5,
            stop_timeout=1,
            filter=translate if where == "filter" else None,
        ),
    )
    engine.install("slow", Manifold(lasting(ends, "slow", 8), inputs=("i",), stop_timeout=None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        engine.restart("i")

        if where == "filter":
            engine.kill()
    assert ends["slow"] <= ends["i"]


async def test_e12_one_that_was_ready_in_time_is_not_late_because_it_drains(
    autojump_clock: MockClock,
) -> None:
    """It was asked to stop while users of its earlier run were still ending."""
    bounce = trio.Event()
    runs: list[int] = []

    async def a(get: Getter, *, task_status: Status) -> None:
        runs.append(len(runs))
        if runs == [0]:
            task_status.started()
            await bounce.wait()
            raise Bounce
        await trio.sleep(1)
        task_status.started()
        await trio.sleep_forever()

    engine = Engine(EngineConfig(is_fatal=lambda exc: isinstance(exc, StartTimeout)))
    engine.install("a", Manifold(a, start_timeout=3))
    engine.install("b", Manifold(lasting({}, "b", 10), inputs=("a",), stop_timeout=None))

    async def body() -> None:
        bounce.set()
        await trio.sleep(0.5)
        engine.restart("a")
        await engine.wait_settled()
        assert engine.state == "alive"
        assert states(engine) == {"a": "started", "b": "started"}

    await in_engine(engine, body)


async def test_e11_a_run_whose_helper_fails_in_the_soft_phase_is_found_to_be_stuck(
    autojump_clock: MockClock,
) -> None:
    asked = trio.Event()

    async def helper() -> None:
        await asked.wait()
        raise OSError

    async def start(get: Getter, *, task_status: Status) -> None:
        get.start_soon(helper)
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(50)

    engine = Engine()
    manifold = Manifold(start, ask=lambda _: asked.set(), grace=math.inf, stop_timeout=1)
    engine.install("m", manifold)

    async def body() -> None:
        engine.hold("m")
        await trio.sleep(5)
        assert engine.report().manifolds["m"].stuck

    await in_engine(engine, body)


async def test_e4_a_stuck_run_keeps_its_place_in_the_order_for_those_who_used_it(
    autojump_clock: MockClock,
) -> None:
    """A <- b <- c: b is stuck after a crash, c takes its time, and a waits for c."""
    ends: dict[str, float] = {}
    crash = trio.Event()

    async def hang() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)

    async def b(get: Getter, *, task_status: Status) -> None:
        get.start_soon(hang)
        task_status.started()
        await crash.wait()
        raise OSError

    engine = Engine()
    engine.install("a", Manifold(lasting(ends, "a")))
    engine.install("b", Manifold(b, inputs=("a",), stop_timeout=1))
    engine.install("c", Manifold(lasting(ends, "c", 20), inputs=("b",), stop_timeout=None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        crash.set()
        await trio.sleep(0.01)
        engine.kill()

    assert ends["c"] <= ends["a"]


@contextmanager
def handling(handle: Callable[[logging.LogRecord], None]) -> Generator[None]:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handle(record)

    handler = Handler()
    logger = logging.getLogger("trioworker.engine")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


async def test_e9_a_log_handler_may_call_a_verb(autojump_clock: MockClock) -> None:
    fail = trio.Event()
    engine = Engine()
    engine.install("m", Manifold(failing_on(fail, OSError())))

    async def body() -> None:
        fail.set()
        await engine.wait_state("m", "held")
        assert engine.state == "alive"

    with handling(lambda _: engine.hold("m")):
        await in_engine(engine, body)


async def test_e7_two_that_read_each_other_live_do_not_end_each_others_delays(
    autojump_clock: MockClock,
) -> None:
    starts: list[float] = []

    async def start(get: Getter, *, task_status: Status) -> None:
        starts.append(trio.current_time())
        task_status.started()
        raise OSError

    engine = Engine()
    engine.install_all({"a": Manifold(start, live=("b",)), "b": Manifold(start, live=("a",))})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        for _ in range(300):
            await trio.lowlevel.checkpoint()
        assert len(starts) == 2
        engine.kill()


async def test_e13_a_group_deeper_than_the_stack_is_an_error_like_any_other(
    autojump_clock: MockClock,
) -> None:
    fail = trio.Event()
    error = ExceptionGroup[Exception]("g", [OSError("deep inside")])
    for _ in range(3000):
        error = ExceptionGroup[Exception]("g", [error])
    engine = Engine()
    engine.install("m", Manifold(failing_on(fail, error)))

    async def body() -> None:
        fail.set()
        await engine.wait_state("m", "delayed")
        assert engine.report().manifolds["m"].why == "OSError: deep inside"

    logging.getLogger("trioworker.engine").setLevel(logging.CRITICAL)  # formatting it recurses
    try:
        await in_engine(engine, body)
    finally:
        logging.getLogger("trioworker.engine").setLevel(logging.NOTSET)


async def test_r6_who_waits_for_a_worker_that_is_stopping_hears_at_once_that_the_runner_dies(
    autojump_clock: MockClock,
) -> None:
    class Slow:
        def __init__(self) -> None:
            self.tomb = Tomb(grace=math.inf)

        async def run(self, *, task_status: Status = trio.TASK_STATUS_IGNORED) -> None:
            with self.tomb:
                task_status.started()
                with trio.CancelScope(shield=True):
                    await trio.sleep(100)

        def kill(self, reason: BaseException | None = None) -> None:
            self.tomb.kill(reason)

        async def wait(self) -> None:
            await self.tomb.wait()

    runner = Runner()
    runner.start_worker("w", Slow)
    refused: list[float] = []

    async def ask() -> None:
        with pytest.raises(Dying):
            await runner.worker("w")
        refused.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(runner.run)
        await trio.sleep(1)
        runner.stop_worker("w")
        nursery.start_soon(ask)
        await trio.sleep(1)
        runner.kill()
        killed = trio.current_time()

    assert refused == [killed]


async def test_e2_nothing_starts_on_what_is_to_restart_for_an_optional_input(
    autojump_clock: MockClock,
) -> None:
    """One needs b and c, which is restarted when b, optional to it, comes back: it waits."""
    ends: dict[str, float] = {}
    fail = trio.Event()
    starts = [failing_on(fail, OSError()), lasting(ends, "b")]

    async def b(get: Getter, *, task_status: Status) -> None:
        await starts.pop(0)(get, task_status=task_status)

    engine = Engine(EngineConfig(restart=RestartPolicy(jitter=0)))
    engine.install("b", Manifold(b))
    engine.install("d", Manifold(lasting(ends, "d"), inputs=("b", "c")))
    engine.install("c", Manifold(lasting(ends, "c"), optional=("b",)))

    async def body() -> None:
        fail.set()
        await engine.wait_state("b", "delayed")
        await engine.wait_settled()
        assert states(engine) == {"b": "started", "c": "started", "d": "started"}
        assert engine.report().manifolds["d"].starts == 2

    await in_engine(engine, body)


async def test_e15_explain_goes_on_to_those_for_whom_one_that_has_ended_keeps_its_place(
    autojump_clock: MockClock,
) -> None:
    """C uses b, which uses a; b fails while c takes its time, and a is to stop: it waits for c."""
    fail = trio.Event()
    ends: dict[str, float] = {}
    engine = Engine()
    engine.install("a", Manifold(lasting(ends, "a")))
    engine.install("b", Manifold(failing_on(fail, OSError()), inputs=("a",)))
    engine.install("c", Manifold(lasting(ends, "c", 1.0), inputs=("b",)))

    async def body() -> None:
        fail.set()
        await engine.wait_state("b", "delayed")
        engine.hold("a")
        told = engine.explain("a")
        assert told.text == "a stops (hold('a')) once c has ended"
        assert told.root.manifold == "c"

    await in_engine(engine, body)


async def test_e16_a_drain_does_not_wake_one_that_is_done_by_stopping_what_it_reads() -> None:
    async def once(get: Getter, *, task_status: Status) -> None:
        """Be done."""

    engine = Engine()
    engine.install("a", Manifold(lasting({}, "a")))
    engine.install("e", Manifold(once, live=("a",)))

    async def body() -> None:
        before = engine.report().manifolds["e"].starts
        engine.drain()
        await engine.wait_settled()
        assert states(engine) == {"a": "held", "e": "held"}
        assert engine.report().manifolds["e"].starts == before

    await in_engine(engine, body)
