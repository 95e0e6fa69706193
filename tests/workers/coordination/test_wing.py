"""What holds of every worker of the wing.

**Nobody hangs on the dead.** Each public async method of each output, called on a dead worker, and
called on one that dies while the call waits, raises `Dying`. `CALLS` is the table. What belongs
there is found by what the wing's manifolds offer, and by what that hands out in turn: a new worker
fails the tests until it has its rows.

**No singletons.** Two engines made of one agent file, in one process, do not touch each other:
`STORIES` says, for each worker, what is done in the one and looked at in the other.
"""

import contextlib
import importlib
import inspect
import pkgutil
import signal
import typing
from collections import abc
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, get_origin

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import Dying, Engine, Manifold, Reporter, Worker, open_worker
from trioworker.agent import Agent, load
from trioworker.patterns import Flag
from trioworker.workers import coordination
from trioworker.workers.coordination import (
    centralhub,
    flockfortress,
    fortress,
    gate,
    gateflag,
    leadership,
    lease,
    leaseexpiry,
    lifeflag,
    migrationflag,
    reboot,
    retrystrategy,
    simplesignalhandler,
    singular,
    terminationworker,
)
from trioworker.workers.coordination.centralhub import (
    Delivery,
    Hub,
    Publisher,
    Subscriber,
    Subscription,
)
from trioworker.workers.coordination.flockfortress import FlockFortress
from trioworker.workers.coordination.fortress import Fortress, Guard, Guest
from trioworker.workers.coordination.gate import Gate, Lock, Unlocker, Waiter
from trioworker.workers.coordination.leadership import Tracker, Tracking
from trioworker.workers.coordination.lease import (
    Checker,
    ClaimDenied,
    Claimer,
    Key,
    Leases,
    Manager,
    Pinner,
    Reader,
    Request,
    Revoker,
    Store,
    StoreWorker,
)

from .facades import FakeMigrations, FakePolicies, Telling
from .leasing import FakeClaimer, ScriptedStore, open_scripted
from .taking import Taker, calling, nursery_to_leave

WING = "trioworker.workers.coordination"
FACADES = "tests.workers.coordination.facades"

# -- the tables ------------------------------------------------------------------------------------

NOT_WORKERS: dict[str, str] = {
    "common": "makes workers of workers and manifolds of values; what runs is the program's",
    "housing": "makes manifolds of manifolds; what runs is theirs",
}
"""Modules without a `manifold()`, each with the reason."""

MANIFOLDS: dict[str, Callable[[Path], Manifold]] = {
    "centralhub": lambda path: centralhub.manifold(),
    "flockfortress": lambda path: flockfortress.manifold(flockfortress.Config(path=path / "lock")),
    "fortress": lambda path: fortress.manifold(),
    "gate": lambda path: gate.manifold(),
    "gateflag": lambda path: gateflag.manifold(),
    "leadership": lambda path: leadership.manifold(
        leadership.Config(application="app", unit="app/0")
    ),
    "lease": lambda path: lease.manifold(),
    "leaseexpiry": lambda path: leaseexpiry.manifold(),
    "lifeflag": lambda path: lifeflag.manifold(
        lifeflag.Config(entity="machine-3", true_when={lifeflag.Life.ALIVE})
    ),
    "migrationflag": lambda path: migrationflag.manifold(
        migrationflag.Config(model=FakeMigrations.MODEL)
    ),
    "reboot": lambda path: reboot.manifold(reboot.Config(machine="3", lock=path / "lock")),
    "retrystrategy": lambda path: retrystrategy.manifold(
        retrystrategy.Config(entity=FakePolicies.ENTITY)
    ),
    "simplesignalhandler": lambda path: simplesignalhandler.manifold(),
    "singular": lambda path: singular.manifold(singular.Config(entity="a", claimant="me")),
    "terminationworker": lambda path: terminationworker.manifold(),
}
"""How to make a manifold of each; `path` is an empty directory."""

OTHERS: dict[tuple[str, str], Callable[[Path], Manifold]] = {
    ("lease", "etcd_store"): lambda path: lease.etcd_store(
        lease.EtcdConfig(endpoints=("http://localhost",))
    ),
    ("lease", "memory_store"): lambda path: lease.memory_store(),
    ("lease", "postgres_store"): lambda path: lease.postgres_store(
        lease.PostgresConfig(conninfo="")
    ),
    ("lease", "sqlite_store"): lambda path: lease.sqlite_store(
        lease.SqliteConfig(path=path / "leases.db")
    ),
    ("lease", "store_manifold"): lambda path: lease.store_manifold(
        lambda: open_scripted(ScriptedStore())
    ),
    ("simplesignalhandler", "source"): lambda path: simplesignalhandler.source(
        simplesignalhandler.SourceConfig(signals=("SIGHUP",))
    ),
}
"""The same of those that a module has beside `manifold()`."""


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


async def locked_down(guard: Any, tasks: trio.Nursery) -> None:
    await guard.lockdown()


unlocking = Row(
    worker=lambda path: Gate(),
    call=lambda gate: gate.unlock(),
    never_waits="unlocking waits for nobody",
)
passing = Row(worker=lambda path: Gate(), call=lambda gate: gate.wait_unlocked())

KEY, REQUEST = Key("singular", "", "a"), Request("me", 60)


def over_a_store_that_hangs(*methods: str) -> Callable[[Path], Worker]:
    """A lease manager; its first look at the store succeeds, and nothing else."""
    return lambda path: Manager(ScriptedStore(hangs=methods))


def stored(call: Callable[[Store], Awaitable[object]], hangs: str) -> Row:
    """A call of a store that hangs."""
    return Row(
        worker=lambda path: StoreWorker(lambda: open_scripted(ScriptedStore(hangs=(hangs,)))),
        call=call,
    )


def minion(path: Path) -> Worker:
    """A unit that does not lead, and waits for a lease that nobody frees."""
    return Tracking(FakeClaimer(ClaimDenied()), leadership.Config(application="app", unit="app/0"))


def leader(path: Path) -> Worker:
    """A unit that leads."""
    return Tracking(FakeClaimer(), leadership.Config(application="app", unit="app/0"))


OF_LEADERS: dict[tuple[str, Any, str], Row] = {
    ("leadership", Tracker, "claim_leader"): Row(
        worker=leader,
        call=lambda its: its.claim_leader(),
        never_waits="but for a renewal that is due, as tested with the worker",
    ),
    ("leadership", Tracker, "wait_leader"): Row(worker=minion, call=lambda its: its.wait_leader()),
    ("leadership", Tracker, "wait_minion"): Row(worker=leader, call=lambda its: its.wait_minion()),
}

OF_LEASES: dict[tuple[str, Any, str], Row] = {
    ("lease", Claimer, "claim"): Row(
        worker=over_a_store_that_hangs("claim"),
        call=lambda its: its.claimer("singular").claim("a", "me", 60),
    ),
    ("lease", Claimer, "wait_until_expired"): Row(
        worker=over_a_store_that_hangs("read"),
        call=lambda its: its.claimer("singular").wait_until_expired("a"),
    ),
    ("lease", Checker, "check"): Row(
        worker=over_a_store_that_hangs("read"),
        call=lambda its: its.checker("singular").check("a", "me"),
    ),
    ("lease", Revoker, "revoke"): Row(
        worker=over_a_store_that_hangs("read"),
        call=lambda its: its.revoker("singular").revoke("a", "me"),
    ),
    ("lease", Pinner, "pin"): Row(
        worker=over_a_store_that_hangs("pin"),
        call=lambda its: its.pinner("singular").pin("a", "upgrade"),
    ),
    ("lease", Pinner, "unpin"): Row(
        worker=over_a_store_that_hangs("unpin"),
        call=lambda its: its.pinner("singular").unpin("a", "upgrade"),
    ),
    ("lease", Pinner, "pinned"): Row(
        worker=over_a_store_that_hangs("pinned"),
        call=lambda its: its.pinner("singular").pinned(),
    ),
    ("lease", Reader, "leases"): Row(
        worker=over_a_store_that_hangs("look again"),
        call=lambda its: its.reader("singular").leases(),
    ),
    ("lease", Store, "leases"): stored(lambda its: its.leases(0, KEY), "read"),
    ("lease", Store, "claim"): stored(lambda its: its.claim(KEY, REQUEST, 0), "claim"),
    ("lease", Store, "extend"): stored(lambda its: its.extend(KEY, REQUEST, 0), "extend"),
    ("lease", Store, "revoke"): stored(lambda its: its.revoke(KEY, "me", 0), "revoke"),
    ("lease", Store, "pin"): stored(lambda its: its.pin(KEY, "upgrade", 0), "pin"),
    ("lease", Store, "unpin"): stored(lambda its: its.unpin(KEY, "upgrade", 0), "unpin"),
    ("lease", Store, "pinned"): stored(lambda its: its.pinned(0), "pinned"),
    ("lease", Store, "expire"): stored(lambda its: its.expire(0), "expire"),
}


async def listen(hub: Subscriber) -> None:
    with hub.subscribe("news") as messages:
        await messages.receive()


async def follow(hub: Subscriber) -> None:
    with hub.subscribe("news") as messages:
        async for _ in messages:
            pass


async def nobody_handles(hub: Any, tasks: trio.Nursery) -> None:
    """Somebody is subscribed and never reads."""

    async def guest() -> None:
        with hub.subscribe("news"):
            await trio.sleep_forever()

    tasks.start_soon(guest)
    await wait_all_tasks_blocked()


CALLS: dict[tuple[str, type, str], Row] = {
    ("centralhub", Subscription, "receive"): Row(worker=lambda path: Hub(), call=listen),
    ("centralhub", Subscription, "__anext__"): Row(worker=lambda path: Hub(), call=follow),
    ("centralhub", Delivery, "wait"): Row(
        worker=lambda path: Hub(),
        call=lambda hub: hub.publish("news", {}).wait(),
        prepare=nobody_handles,
    ),
    **OF_LEADERS,
    **OF_LEASES,
    ("fortress", Guard, "lockdown"): Row(
        worker=lambda path: Fortress(),
        call=lambda guard: guard.lockdown(),
        prepare=occupied,
        why_not_dying="a fortress is dead when the last guest has left: the lockdown has succeeded",
    ),
    ("fortress", Guest, "visit"): Row(
        worker=lambda path: Fortress(),
        call=visit,
    ),
    ("flockfortress", Guard, "lockdown"): Row(
        worker=lambda path: FlockFortress(path / "lock"),
        call=lambda guard: guard.lockdown(),
        prepare=occupied,
    ),
    ("flockfortress", Guest, "visit"): Row(
        worker=lambda path: FlockFortress(path / "lock"),
        call=visit,
        prepare=locked_down,
    ),
    ("gate", Unlocker, "unlock"): unlocking,
    ("gate", Waiter, "wait_unlocked"): passing,
    ("gate", Lock, "unlock"): unlocking,
    ("gate", Lock, "wait_unlocked"): passing,
}

Story = Callable[[Engine, Engine], Awaitable[None]]


async def took(engine: Engine, role: str, *faces: Any) -> Taker:
    """Take from `role` what it offers as `faces`, now and again after each restart."""
    taker = Taker(role, *faces)
    engine.install(f"taker-of-{role}", taker.manifold())
    await engine.wait_state(f"taker-of-{role}", "started")
    return taker


async def of_hubs(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Publisher, Subscriber), await took(other, "it", Subscriber)
    with mine[Subscriber].subscribe("*") as near, theirs[Subscriber].subscribe("*") as far:
        mine[Publisher].publish("news", {})
        assert (await near.receive()).topic == "news"
        with trio.move_on_after(1) as scope:
            await far.receive()
        assert scope.cancelled_caught


async def of_fortresses(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Guard, Guest), await took(other, "it", Guest)
    mine[Guard].unlock()
    await visit(mine[Guest])
    with trio.move_on_after(1) as scope:
        await visit(theirs[Guest])
    assert scope.cancelled_caught


async def of_flock_fortresses(one: Engine, other: Engine) -> None:
    """Each engine has a lock file of its own, and what has the same one is meant to meet."""
    mine, theirs = await took(one, "it", Guard, Guest), await took(other, "it", Guest)
    await mine[Guard].lockdown()
    await visit(theirs[Guest])
    with trio.move_on_after(1) as scope:
        await visit(mine[Guest])
    assert scope.cancelled_caught


async def of_gates(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Lock), await took(other, "it", Lock)
    await mine[Lock].unlock()
    assert mine[Lock].is_unlocked
    assert not theirs[Lock].is_unlocked


async def of_gate_flags(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Flag), await took(other, "it", Flag)
    await (await took(one, "gate", Lock))[Lock].unlock()
    await trio.sleep(1)
    assert (mine[Flag].check(), mine.starts) == (True, 2)
    assert (theirs[Flag].check(), theirs.starts) == (False, 1)


async def of_leases(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Leases), await took(other, "it", Leases)
    await mine[Leases].claimer("singular").claim("a", "me", 60)
    assert await theirs[Leases].reader("singular").leases() == {}


async def of_janitors(one: Engine, other: Engine) -> None:
    mine = await took(one, "store", Store)
    theirs = await took(other, "store", Store)
    await mine[Store].claim(KEY, REQUEST, 0)
    await theirs[Store].claim(KEY, REQUEST, 0)
    other.hold("it")
    await trio.sleep(1.5)
    assert await mine[Store].expire(10**10) == 0
    assert await theirs[Store].expire(10**10) == 1


async def of_leaders(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Tracker), await took(other, "it", Tracker)
    assert await mine[Tracker].claim_leader()
    assert await theirs[Tracker].claim_leader()


async def of_singulars(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Flag), await took(other, "it", Flag)
    assert mine[Flag].check()
    assert theirs[Flag].check()


async def of_sampled_flags(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Flag), await took(other, "it", Flag)
    (await took(one, "facade", Script))[Script].tell()
    await trio.sleep(1)
    assert (mine[Flag].check(), mine.starts) == (False, 2)
    assert (theirs[Flag].check(), theirs.starts) == (True, 1)


async def of_retry_strategies(one: Engine, other: Engine) -> None:
    strategy = retrystrategy.Strategy
    mine, theirs = await took(one, "it", strategy), await took(other, "it", strategy)
    (await took(one, "facade", Script))[Script].tell()
    await trio.sleep(1)
    assert (mine[strategy].policy.factor, mine.starts) == (3, 2)
    assert (theirs[strategy].policy.factor, theirs.starts) == (2, 1)


async def of_signal_handlers(one: Engine, other: Engine) -> None:
    mine, theirs = await took(one, "it", Reporter), await took(other, "it", Reporter)
    (await took(one, "source", Telling))[Telling].tell(signal.SIGHUP)
    await trio.sleep(0.5)  # less than the delay after an error
    assert (mine.starts, theirs.starts) == (2, 1)


async def of_terminations(one: Engine, other: Engine) -> None:
    """A signal belongs to the process, and is tested with the worker; this is the rest."""
    mine, theirs = await took(one, "it", Reporter), await took(other, "it", Reporter)
    other.hold("it")
    await trio.sleep(1)
    [still, over] = [taker[Reporter].report() for taker in (mine, theirs)]
    assert [report.tomb.state for report in (still, over)] == ["alive", "dead"]  # type: ignore[attr-defined]  # a report is any object


async def of_reboots(one: Engine, other: Engine) -> None:
    facade = await took(one, "facade", Script)
    await trio.sleep(1)  # or its first look sees the change as well
    facade[Script].tell()
    await trio.sleep(0.5)  # less than the delay after an error
    assert one.report().manifolds["it"].failures == 1
    assert other.report().manifolds["it"].failures == 0


LEASES = (
    f'[manifolds.leases]\nuse = "{WING}.lease:manifold"\n'
    f'[manifolds.store]\nuse = "{WING}.lease:memory_store"'
)

STORIES: dict[str, tuple[str, Story]] = {
    "centralhub": ("", of_hubs),
    "flockfortress": ('config = { path = "${FILE}" }', of_flock_fortresses),
    "fortress": ("", of_fortresses),
    "gate": ("", of_gates),
    "gateflag": (f'[manifolds.gate]\nuse = "{WING}.gate:manifold"', of_gate_flags),
    "leadership": (
        f'config = {{ application = "app", unit = "app/0" }}\n{LEASES}',
        of_leaders,
    ),
    "leaseexpiry": (
        f'inputs = {{ store = "store" }}\n[manifolds.store]\nuse = "{WING}.lease:memory_store"',
        of_janitors,
    ),
    "lease": (
        f'inputs = {{ store = "store" }}\n[manifolds.store]\nuse = "{WING}.lease:memory_store"',
        of_leases,
    ),
    "lifeflag": (
        (
            'config = { entity = "machine-3", true_when = ["alive", "dying"] }\n'
            'inputs = { lives = "facade" }\n'
            f'[manifolds.facade]\nuse = "{FACADES}:lives"'
        ),
        of_sampled_flags,
    ),
    "migrationflag": (
        (
            f'config = {{ model = "{FakeMigrations.MODEL}" }}\n'
            'inputs = { migrations = "facade" }\n'
            f'[manifolds.facade]\nuse = "{FACADES}:migrations"'
        ),
        of_sampled_flags,
    ),
    "reboot": (
        (
            'config = { machine = "3", lock = "${FILE}" }\n'
            'inputs = { reboots = "facade" }\n'
            f'[manifolds.facade]\nuse = "{FACADES}:reboots"'
        ),
        of_reboots,
    ),
    "retrystrategy": (
        (
            f'config = {{ entity = "{FakePolicies.ENTITY}" }}\n'
            'inputs = { policies = "facade" }\n'
            f'[manifolds.facade]\nuse = "{FACADES}:policies"'
        ),
        of_retry_strategies,
    ),
    "simplesignalhandler": (
        (
            'config = { default = "bounce" }\n'
            'inputs = { signals = "source" }\n'
            f'[manifolds.source]\nuse = "{FACADES}:signals"'
        ),
        of_signal_handlers,
    ),
    "singular": (f'config = {{ entity = "a", claimant = "me" }}\n{LEASES}', of_singulars),
    "terminationworker": ("", of_terminations),
}
"""For each worker, what else there is in the agent file, and what is done with the two engines."""


# -- the tables are complete -----------------------------------------------------------------------


ASYNC = (AbstractAsyncContextManager, AsyncIterable, Awaitable)
SPECIAL = {"__aenter__", "__anext__", "__await__"}


def modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules(coordination.__path__)}


def makers() -> set[tuple[str, str]]:
    """Return all public functions of the wing that make a manifold, by module and name."""
    return {
        (module, name)
        for module in modules() - set(NOT_WORKERS)
        for name, member in vars(importlib.import_module(f"{WING}.{module}")).items()
        if not name.startswith("_") and inspect.isfunction(member)
        if member.__module__ == f"{WING}.{module}"
        if returned(member) is Manifold
    }


def returned(function: Any) -> Any:
    """Return the type that a function returns, without its arguments."""
    hint = function.__annotations__.get("return")
    if isinstance(hint, str):  # names that only the type checker imports are of the first three
        names = (vars(abc), vars(contextlib), vars(typing), function.__globals__)
        hint = eval(hint, {key: value for one in names for key, value in one.items()})
    return get_origin(hint) or hint


def members(face: Any) -> Iterator[tuple[str, Any]]:
    """Yield the public methods of `face`, and what its properties get."""
    for name in dir(face):
        if not name.startswith("_") or name in SPECIAL:
            member = inspect.getattr_static(face, name)
            function = member.fget if isinstance(member, property) else member
            if inspect.isfunction(function):
                yield name, function


def async_methods(face: Any) -> Iterator[str]:
    """Yield the methods of `face` that are awaited, or return what ``async`` goes before."""
    for name, method in members(face):
        of = returned(method)
        is_async = inspect.isclass(of) and bool({*ASYNC} & {*inspect.getmro(of)})
        if inspect.iscoroutinefunction(method) or is_async:
            yield name


def handed_out(face: Any) -> set[Any]:
    """Return `face`, and all of the wing that its methods hand out, and theirs."""
    found: set[Any] = set()
    left = [face]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += [of for _, method in members(one) if is_of_the_wing(of := returned(method))]
    return found


def is_of_the_wing(kind: Any) -> bool:
    return inspect.isclass(kind) and kind.__module__.startswith(f"{WING}.")


def test_every_module_of_the_wing_is_in_the_tables() -> None:
    assert modules() == {*NOT_WORKERS, *MANIFOLDS}
    assert modules() == {*NOT_WORKERS, *STORIES}


def test_every_function_of_the_wing_that_makes_a_manifold_is_in_the_tables() -> None:
    assert makers() == {*OTHERS, *((name, "manifold") for name in MANIFOLDS)}


def test_no_async_method_of_an_output_is_missing_from_the_table(tmp_path: Path) -> None:
    made = [(name, make(tmp_path)) for name, make in MANIFOLDS.items()]
    made += [(name, make(tmp_path)) for (name, _), make in OTHERS.items()]
    public = {
        (module, face, name)
        for module, manifold in made
        for output in manifold.outputs
        for face in handed_out(output)
        for name in async_methods(face)
    }

    assert public == set(CALLS)


def test_what_is_awaited_and_what_is_entered_is_found() -> None:
    """The checks above can fail: these are what they look for."""
    assert list(async_methods(Guard)) == ["lockdown"]
    assert list(async_methods(Guest)) == ["visit"]
    assert ("lease", "sqlite_store") in makers()


def test_what_is_handed_out_by_what_is_handed_out_is_found() -> None:
    assert handed_out(Publisher) >= {Publisher, Delivery}
    assert handed_out(Subscriber) >= {Subscriber, Subscription}
    assert handed_out(Leases) >= {Leases, Claimer, Checker, Revoker, Pinner, Reader}


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

ROWS = {f"{name}-{face.__name__}.{method}": row for (name, face, method), row in CALLS.items()}


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


def agent_with(name: str, path: Path, own: str = "one") -> Agent:
    """Load a file with the worker `name` as the manifold ``it``; ``${FILE}`` ends in `own`."""
    file = path / "agent.toml"
    rest, _ = STORIES[name]
    file.write_text(f'[manifolds.it]\nuse = "{WING}.{name}:manifold"\n{rest}')
    return load(file, environ={"FILE": str(path / own)})


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("loaded", ["once", "twice"])
async def test_two_engines_of_one_agent_file_do_not_touch_each_other(
    name: str, loaded: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    agent = agent_with(name, tmp_path)
    if loaded == "twice":
        other_agent = agent_with(name, tmp_path, "other")
    elif "${FILE}" in STORIES[name][0]:
        pytest.skip("what names the same file is meant to meet there")
    else:
        other_agent = agent
    async with open_worker(agent.engine()) as one, open_worker(other_agent.engine()) as other:
        await STORIES[name][1](one, other)


# -- each tells how it is --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFOLDS)
async def test_a_report_is_plain_data_and_has_the_tombs(name: str, tmp_path: Path) -> None:
    async with open_worker(agent_with(name, tmp_path).engine()) as engine:
        await engine.wait_state("it", "started")
        report: Any = engine.report().manifolds["it"].worker

        assert report.tomb.state == "alive"
        assert report._fields[0] == "tomb"
