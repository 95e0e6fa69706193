"""The engine, what a user sees from near by: words, reasons, names of tasks, interrupts."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trioworker import LifetimeError
from trioworker.dependency import Engine, EngineConfig, Getter, Manifold, State

from ..interrupts import protection_noted, unprotected
from .harness import Life, Program, linger, serve
from .test_e10_cancellation import interrupting


class Hook:
    """Takes what metrics are told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.states: list[str] = []

    def state(self, manifold: str, before: State, after: State) -> None:
        self.states.append(f"{manifold}: {before} -> {after}")

    def start(self, manifold: str, nth: int) -> None: ...

    def ready(self, manifold: str, seconds: float) -> None: ...

    def end(self, manifold: str, kind: str, error: object, stop_seconds: float | None) -> None:
        self.ends.append((manifold, kind))


class Reason(Exception):
    """Why."""


def message(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the message is what is looked at
        call()
    return str(caught.value)


async def idle(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


# -- words -----------------------------------------------------------------------------------------


def test_an_engine_shows_its_name_its_state_and_how_many_names_it_knows() -> None:
    engine = Engine(EngineConfig(name="ingest"))
    engine.install("api", Manifold(idle, inputs=("db",)))

    assert repr(engine) == "<Engine 'ingest' alive, 2 names>"


def test_what_is_no_reason_is_refused_with_the_right_call() -> None:
    engine: Any = Engine(EngineConfig(name="ingest"))

    assert message(lambda: engine.kill("over")) == (
        "\"ingest\": kill() takes an exception or None, not 'over'; write kill(RuntimeError('why'))"
    )
    assert engine.state == "alive"


async def test_what_is_no_state_is_refused_with_all_that_are() -> None:
    with pytest.raises(ValueError, match="is no state") as caught:
        await Engine().wait_state("db", "running")

    assert str(caught.value) == (
        "'running' is no state of a manifold; these are: absent, waiting, delayed, starting, "
        "started, draining, stopping, done, failed, held, stopped"
    )
    assert caught.value.__suppress_context__


def test_a_stream_of_events_keeps_a_thousand_unless_told_otherwise() -> None:
    engine = Engine()
    engine.install("db", Manifold(idle))
    with engine.events() as events:
        for _ in range(501):
            engine.hold("db")
            engine.release("db")
        assert len(events.take()) == 1000
        assert events.dropped == 2


def test_an_engine_tells_its_name_in_a_view_and_its_hook() -> None:
    hook = Hook()
    engine = Engine(EngineConfig(name="ingest", metrics=hook))

    assert engine.metrics is hook
    assert engine.view().name == "ingest"


# -- reasons ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb, given, cause",
    [
        ("restart", "db", "restart('db')"),
        ("uninstall", "db", "uninstall('db')"),
        ("hold", "db", "hold('db')"),
        ("drain", None, "drain()"),
        ("kill", None, "the engine was killed"),
        ("kill", ValueError("why"), "fatal: ValueError: why"),
    ],
)
async def test_a_worker_that_is_stopped_is_told_by_which_verb(
    verb: str, given: object, cause: str
) -> None:
    program = Program()
    db = program.install("db")
    try:
        async with program.running() as engine:
            getattr(engine, verb)(*([given] if given else []))
            await wait_all_tasks_blocked()
            cancelled = db.lives[0].cancelled
    except ValueError:
        cancelled = db.lives[0].cancelled
    assert cancelled is not None
    assert cancelled.reason == f'"db" is stopping: {cause}'


async def test_a_worker_is_told_that_the_engine_was_cancelled_from_outside() -> None:
    program = Program()
    db = program.install("db")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.engine.run)
        await program.engine.wait_settled()
        nursery.cancel_scope.cancel()
    assert db.life.cancelled is not None
    assert db.life.cancelled.reason == ('"db" is stopping: the engine was cancelled from outside')


async def test_a_start_function_is_told_that_a_helper_has_failed() -> None:
    program = Program()

    async def fail() -> None:
        raise OSError

    async def with_helper(life: Life) -> None:
        life.get.start_soon(fail)
        await serve(life)

    db = program.install("db", body=with_helper)
    async with program.running() as engine:
        await engine.wait_state("db", "delayed")
    assert db.life.cancelled is not None
    assert db.life.cancelled.reason == "a helper has failed"


# -- all at once -----------------------------------------------------------------------------------


async def twice_interrupted(program: Program) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with program.running() as engine:
            engine.kill(KeyboardInterrupt("first"))
            await wait_all_tasks_blocked()
            engine.kill(KeyboardInterrupt("second"))
            await engine.wait()


async def test_a_worker_is_told_that_the_engine_was_interrupted_a_second_time() -> None:
    program = Program(EngineConfig(name="ingest"))
    db = program.install("db", grace=100)
    await twice_interrupted(program)

    assert db.life.cancelled is not None
    assert db.life.cancelled.reason == "ingest was interrupted a second time"


async def test_that_all_were_cancelled_at_once_is_nobodys_error() -> None:
    program = Program()
    program.install("db", grace=100)
    await twice_interrupted(program)

    [end] = program.engine.report().manifolds["db"].history
    assert (end.kind, end.error) == ("stopped", None)


async def test_e18_the_hook_is_told_of_ends_also_when_all_are_cancelled_at_once() -> None:
    """The task that tells it is cancelled with the others."""
    hook = Hook()
    program = Program(EngineConfig(metrics=hook))
    program.install("db", grace=100)
    await twice_interrupted(program)

    assert hook.ends == [("db", "stopped")]
    assert hook.states[-1] == "db: stopping -> stopped"


CRASH = """
import trio
from trioworker import Engine, Manifold

async def start(get, *, task_status):
    task_status.started()
    await trio.sleep_forever()

async def main():
    engine = Engine()
    engine.install("db", Manifold(start))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        nursery.cancel_scope.cancel()
        await trio.lowlevel.wait_task_rescheduled(lambda _: None)

trio.run(main)
"""


def test_a_crash_of_trio_itself_ends_the_program() -> None:
    """Nothing will be quiet any more, so nobody may wait for it."""
    program = [sys.executable, "-c", CRASH]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 1
    assert "TrioInternalError" in ended.stderr


# -- what is let alone -----------------------------------------------------------------------------


async def test_who_waits_is_not_disturbed_by_a_second_run() -> None:
    program = Program()
    program.install("db")
    states: list[str] = []

    async def wait_held() -> None:
        states.append(await program.engine.wait_state("db", "held"))

    async with program.running() as engine, trio.open_nursery() as nursery:
        nursery.start_soon(wait_held)
        await wait_all_tasks_blocked()
        with pytest.raises(LifetimeError):
            await engine.run()
        engine.hold("db")
    assert states == ["held"]


async def test_a_reason_that_comes_too_late_is_not_kept() -> None:
    program = Program()
    async with program.running():
        pass
    reason = Reason()
    program.engine.kill(reason)
    alive = weakref.ref(reason)
    del reason
    gc.collect()

    assert alive() is None


# -- checkpoints -----------------------------------------------------------------------------------


async def test_waiting_for_what_is_so_already_is_a_checkpoint() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with assert_checkpoints():
            await engine.wait_state("db")
        with assert_checkpoints():
            await engine.wait_state("api", "absent")
        with assert_checkpoints():
            await engine.wait_settled()


# -- tasks -----------------------------------------------------------------------------------------


class Names(trio.abc.Instrument):
    """Notes the names of all tasks that are started."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.seen.append(task.name)


async def test_each_task_is_named_after_the_engine_or_the_manifold_that_it_works_for() -> None:
    program = Program(EngineConfig(name="ingest", metrics=Hook()))

    async def with_helper(life: Life) -> None:
        life.get.start_soon(trio.sleep_forever, name="poll")
        await serve(life)

    program.install("db", body=with_helper)
    names = Names()
    trio.lowlevel.add_instrument(names)
    async with program.running():
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(names)
    ours = [name for name in names.seen if name.startswith(("ingest", "db", "poll"))]

    assert sorted(ours) == [
        "db",
        "db: helpers",
        "ingest: metrics",
        "ingest: timers",
        "ingest: watcher",
        "poll",
    ]


class Promise:
    """Can be awaited, and is no coroutine."""

    def __init__(self, get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
        self._status = task_status

    def __await__(self) -> Generator[Any, Any, None]:
        self._status.started("kept")
        return trio.Event().wait().__await__()


async def test_a_start_function_may_return_anything_that_can_be_awaited() -> None:
    program = Program()
    program.engine.install("db", Manifold(Promise))
    async with program.running():
        assert program.states == {"db": "started"}


# -- interrupts ------------------------------------------------------------------------------------


async def test_what_changes_an_engine_is_protected_against_keyboard_interrupt(
    autojump_clock: MockClock,
) -> None:
    program = Program()

    async def helped(life: Life) -> None:
        life.get.start_soon(trio.sleep_forever)
        await serve(life)

    with protection_noted() as noted:
        program.install("db", body=helped)
        other = Program().make("other")
        async with program.running() as engine:
            engine.install_all({"api": other.manifold})
            for verb in (engine.restart, engine.hold, engine.release, engine.uninstall):
                verb("db")
                await wait_all_tasks_blocked()
            engine.drain()
            engine.kill()

    verbs = ("install", "install_all", "uninstall", "restart", "hold", "release", "drain", "kill")
    assert unprotected(noted, *(f"Engine.{name}" for name in (*verbs, "_live", "_help"))) == []
    assert unprotected(noted, "Machine.open", "Machine.end", "Machine.shut_down") == []


async def test_what_ends_an_engine_from_outside_is_protected_against_keyboard_interrupt() -> None:
    program = Program()
    program.install("db", body=linger)
    tasks: list[trio.lowlevel.Task] = []

    async def run() -> None:
        tasks.append(trio.lowlevel.current_task())
        with pytest.raises(KeyboardInterrupt):
            await program.engine.run()

    with protection_noted() as noted:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await program.engine.wait_settled()
            interrupting(tasks[0], KeyboardInterrupt())
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            program.doubles["db"].let_go.set()

    assert unprotected(noted, "Engine._interrupted", "Engine._feel") == []


async def test_what_a_user_wrote_can_be_interrupted() -> None:
    program = Program()
    protected: list[bool] = []

    async def look() -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async def looking(life: Life) -> None:
        await look()
        life.get.start_soon(look)
        await serve(life)

    program.install("db", body=looking)
    async with program.running():
        await wait_all_tasks_blocked()
        assert protected == [False, False]


# -- origins ---------------------------------------------------------------------------------------


class Interrupting(Hook):
    """Is interrupted when it hears of an end."""

    def end(self, manifold: str, kind: str, error: object, stop_seconds: float | None) -> None:
        raise KeyboardInterrupt


async def test_e15_an_interrupt_in_a_hook_is_something_new() -> None:
    program = Program(EngineConfig(metrics=Interrupting()))
    program.install("db")
    program.install("other")
    with pytest.raises(KeyboardInterrupt):
        async with program.running() as engine:
            engine.restart("db")
            await engine.wait()
    reports = program.engine.report().manifolds

    assert reports["other"].history[0].origin > reports["db"].history[0].origin


async def test_e15_a_cancellation_from_outside_is_something_new() -> None:
    program = Program()
    program.install("db")
    program.install("other")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.engine.run)
        await program.engine.wait_settled()
        program.engine.restart("db")
        await program.settle()
        nursery.cancel_scope.cancel()
    reports = program.engine.report().manifolds

    assert reports["other"].history[0].origin > reports["db"].history[0].origin


def test_a_source_of_random_numbers_that_is_none_is_refused() -> None:
    number: Any = 0.5

    with pytest.raises(TypeError, match=r"Engine\(random=...\) must be a plain function"):
        Engine(random=number)
