"""What holds of every worker of the wing.

**Nobody hangs on the dead.** Each public async method of each output, called on a dead worker, and
called on one that dies while the call waits, raises `Dying`. `CALLS` is the table; that no method
is missing from it is tested as well, so that a new worker only adds its rows.

**No singletons.** Two engines made of one agent file, in one process, do not touch each other:
`STORIES` says, for each worker, what is done in the one and looked at in the other.
"""

import importlib
import inspect
import pkgutil
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, Engine, Manifold, Worker, open_worker
from trioworker.agent import load
from trioworker.testing import open_engine
from trioworker.workers import coordination
from trioworker.workers.coordination import fortress, gate
from trioworker.workers.coordination.fortress import Fortress, Guard, Guest
from trioworker.workers.coordination.gate import Gate, Lock, Unlocker, Waiter

from .taking import Taker, calling, nursery_to_leave

WING = "trioworker.workers.coordination"

# -- the tables ------------------------------------------------------------------------------------

NOT_WORKERS: dict[str, str] = {}
"""Modules without a `manifold()`, each with the reason."""

MANIFOLDS: dict[str, Callable[[Path], Manifold]] = {
    "fortress": lambda path: fortress.manifold(),
    "gate": lambda path: gate.manifold(),
}
"""How to make a manifold of each; `path` is an empty directory."""


@attrs.frozen(kw_only=True)
class Row:
    """An async method of an output, and how to see it wait on a worker that dies."""

    worker: Callable[[Path], Worker]
    """Makes one on which the call waits."""
    call: Callable[[Any], Awaitable[object]]
    """Calls the method, through the face that others get."""
    prepare: Callable[[Any, trio.Nursery], Awaitable[object]] | None = None
    """What makes the call wait, if the worker is not born so."""
    never_waits: str = ""
    """The reason why there is no call that waits."""
    why_not_dying: str = ""
    """The reason why a call that waits when the worker is killed does not raise `Dying`."""


async def visit(guest: Guest) -> None:
    async with guest.visit():
        pass


async def occupied(guard: Any, tasks: trio.Nursery) -> None:
    """Somebody is inside, and leaves a little after everybody else has settled."""

    async def guest() -> None:
        async with guard.visit():
            await trio.sleep(1)

    guard.unlock()
    tasks.start_soon(guest)
    await wait_all_tasks_blocked()


unlocking = Row(
    worker=lambda path: Gate(),
    call=lambda gate: gate.unlock(),
    never_waits="unlocking waits for nobody",
)
passing = Row(worker=lambda path: Gate(), call=lambda gate: gate.wait_unlocked())

CALLS: dict[tuple[type, str], Row] = {
    (Guard, "lockdown"): Row(
        worker=lambda path: Fortress(),
        call=lambda guard: guard.lockdown(),
        prepare=occupied,
        why_not_dying="a fortress is dead when the last guest has left: the lockdown has succeeded",
    ),
    (Guest, "visit"): Row(
        worker=lambda path: Fortress(),
        call=visit,
    ),
    (Unlocker, "unlock"): unlocking,
    (Waiter, "wait_unlocked"): passing,
    (Lock, "unlock"): unlocking,
    (Lock, "wait_unlocked"): passing,
}

Story = Callable[[Taker, Taker], Awaitable[None]]


async def of_fortresses(one: Taker, other: Taker) -> None:
    one[Guard].unlock()
    await visit(one[Guest])
    with trio.move_on_after(1) as scope:
        await visit(other[Guest])
    assert scope.cancelled_caught


async def of_gates(one: Taker, other: Taker) -> None:
    await one[Lock].unlock()
    assert one[Lock].is_unlocked
    assert not other[Lock].is_unlocked


STORIES: dict[str, tuple[str, tuple[Any, ...], Story]] = {
    "fortress": ("", (Guard, Guest), of_fortresses),
    "gate": ("", (Lock,), of_gates),
}
"""For each worker, its config in the agent file, the faces taken, and what is done with them."""


# -- the tables are complete -----------------------------------------------------------------------


ASYNC = (AbstractAsyncContextManager, AsyncIterable)


def modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(coordination.__path__)}


def async_methods(face: Any) -> Iterator[str]:
    """Yield the methods of `face` that are awaited, or return what ``async`` goes before."""
    for name, method in inspect.getmembers(face, inspect.isfunction):
        if name.startswith("_"):
            continue
        hints = get_type_hints(method, vars(inspect.getmodule(face)))
        returned = get_origin(hints.get("return")) or hints.get("return")
        is_async = inspect.isclass(returned) and bool({*ASYNC} & {*inspect.getmro(returned)})
        if inspect.iscoroutinefunction(method) or is_async:
            yield name


def test_every_module_of_the_wing_is_in_the_tables() -> None:
    assert modules() == {*NOT_WORKERS, *MANIFOLDS}
    assert modules() == {*NOT_WORKERS, *STORIES}


def test_no_async_method_of_an_output_is_missing_from_the_table(tmp_path: Path) -> None:
    faces = {face for make in MANIFOLDS.values() for face in make(tmp_path).outputs}
    public = {(face, name) for face in faces for name in async_methods(face)}

    assert public == set(CALLS)


def test_what_is_awaited_and_what_is_entered_is_found() -> None:
    """The check above can fail: these are what it looks for."""
    assert list(async_methods(Guard)) == ["lockdown"]
    assert list(async_methods(Guest)) == ["visit"]


@pytest.mark.parametrize("name", MANIFOLDS)
def test_a_manifold_offers_faces_and_never_the_worker(name: str, tmp_path: Path) -> None:
    outputs = MANIFOLDS[name](tmp_path).outputs

    assert outputs
    for face in outputs:
        assert getattr(face, "_is_protocol", False), f"{face} is no Protocol"
        assert not {"run", "kill", "wait"} & set(dir(face))


@pytest.mark.parametrize("name", MANIFOLDS)
def test_a_module_says_what_is_public(name: str) -> None:
    module = importlib.import_module(f"{WING}.{name}")

    assert module.__all__ == sorted(module.__all__)
    assert "manifold" in module.__all__


# -- nobody hangs on the dead ----------------------------------------------------------------------

ROWS = {f"{face.__name__}.{method}": row for (face, method), row in CALLS.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_call_on_a_dead_worker_raises_dying(row: Row, tmp_path: Path) -> None:
    async with open_worker(row.worker(tmp_path)) as worker:
        worker.kill()
        await worker.wait()
        with trio.fail_after(5), pytest.raises(Dying):
            await row.call(worker)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
async def test_a_call_on_a_dying_worker_raises_dying(row: Row, tmp_path: Path) -> None:
    async with open_worker(row.worker(tmp_path)) as worker:
        worker.kill()
        with trio.fail_after(5), pytest.raises(Dying):
            await row.call(worker)


WAITING = {name: row for name, row in ROWS.items() if not row.never_waits}


@pytest.mark.parametrize("row", WAITING.values(), ids=WAITING)
@pytest.mark.parametrize("how", ["killed", "failed", "cancelled"])
async def test_a_call_that_waits_when_the_worker_dies_raises_dying(
    row: Row, how: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with nursery_to_leave() as tasks:
        worker = row.worker(tmp_path)
        owner = await calling(tasks, worker.run)
        if row.prepare is not None:
            await row.prepare(worker, tasks)
        call = await calling(tasks, lambda: row.call(worker))
        assert call.blocks(), "this test wants a call that waits"
        if how == "cancelled":
            owner.scope.cancel()
        else:
            worker.kill(ValueError("broken") if how == "failed" else None)
        with trio.fail_after(5):
            await call.ended.wait()
            await owner.ended.wait()

        expected = type(None) if row.why_not_dying else Dying
        assert isinstance(call.error, expected)
        assert isinstance(owner.error, ValueError if how == "failed" else type(None))


# -- no singletons ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("loaded", ["once", "twice"])
async def test_two_engines_of_one_agent_file_do_not_touch_each_other(
    name: str, loaded: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    config, faces, story = STORIES[name]
    file = tmp_path / "agent.toml"
    file.write_text(f'[manifolds.it]\nuse = "{WING}.{name}:manifold"\n{config}')
    agent = load(file)
    engines = [agent.engine(), (agent if loaded == "once" else load(file)).engine()]
    takers = [Taker("it", *faces), Taker("it", *faces)]
    async with open_worker(engines[0]), open_worker(engines[1]):
        for engine, taker in zip(engines, takers, strict=True):
            engine.install("taker", taker.manifold())
            await engine.wait_state("taker", "started")
        await story(*takers)


# -- each tells how it is --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFOLDS)
async def test_a_report_is_plain_data_and_has_the_tombs(name: str, tmp_path: Path) -> None:
    async with open_engine({name: MANIFOLDS[name](tmp_path)}) as engine:
        assert isinstance(engine, Engine)
        report: Any = engine.report().manifolds[name].worker

        assert report.tomb.state == "alive"
        assert report._fields[0] == "tomb"
