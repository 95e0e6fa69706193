"""Doubles for the engine's tests: manifolds that record what happens to them and do as told.

::

    program = Program()
    db = program.install("db")
    api = program.install("api", "db")  # needs db
    async with program.running():  # settled on entry; killed, reaped and checked on exit
        db.life.fail(OSError("gone"))
        ...
        assert program.record == ["start db", "ready db", "start api", ...]

What a run does is its `body`, a function of its `Life`; a test can hand over its own, or change
``double.body`` between two runs. The record has ``start``, ``ready``, ``ask`` and ``end`` of each.

Every double checks on its own, at each of its starts, what no schedule may break: that no other
run of it is alive, and that its required inputs are up. Leaving ``running()`` checks that each
start had one end and that no run outlived the engine, and raises what these checks have found.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict, Unpack

import trio
import trio.testing

from trioworker import RestartPolicy
from trioworker.dependency import Engine, EngineConfig, Getter, LiveView, Manifold

Body = Callable[["Life"], Awaitable[object]]


class Options(TypedDict, total=False):
    """The keyword arguments of `Manifold` beside its inputs."""

    optional: Iterable[str]
    live: Iterable[str]
    outputs: Mapping[type, Callable[[Any], object]]
    filter: Callable[[Exception], BaseException | None] | None
    ask: Callable[[Any], object]
    grace: float
    start_timeout: float | None
    stop_timeout: float | None
    restart: RestartPolicy | None


class Life:
    """One run of a double, and how to tell it from outside what to do."""

    def __init__(self, double: "Double", get: Getter, status: trio.TaskStatus[Any]) -> None:
        self.double = double
        self.get = get
        self.status = status
        self.number = len(double.lives) + 1
        self.is_ready = False
        self.is_over = False
        self.cancelled: trio.Cancelled | None = None
        self._may_get_ready = trio.Event()
        self._told = trio.Event()
        self._error: BaseException | None = None

    # -- for the test ----

    def get_ready(self) -> None:
        """Let a run whose body is `when_told` call ``started()``."""
        self._may_get_ready.set()

    def finish(self) -> None:
        """Let it return."""
        self._told.set()

    def fail(self, error: BaseException) -> None:
        """Let it raise `error`."""
        self._error = error
        self._told.set()

    # -- for bodies ----

    def ready(self) -> None:
        """Call ``started()`` with the double's value."""
        self.double.note("ready")
        self.is_ready = True
        self.status.started(self.double.value)

    async def wait_told_ready(self) -> None:
        await self._may_get_ready.wait()

    async def obey(self) -> None:
        """Wait to be told, by `finish` or `fail`, and do it."""
        await self._told.wait()
        if self._error is not None:
            raise self._error


class Double:
    """A manifold, and all of its lives."""

    def __init__(
        self,
        program: "Program",
        name: str,
        body: Body,
        value: object,
        inputs: tuple[str, ...],
        **options: Unpack[Options],
    ) -> None:
        self.program = program
        self.name = name
        self.body = body
        self.value = value
        self.lives: list[Life] = []
        self.let_go = trio.Event()  # for runs that linger
        if options.get("grace"):
            options.setdefault("ask", self._ask)
        self.manifold = Manifold(self._start, inputs=inputs, **options)

    @property
    def starts(self) -> int:
        return len(self.lives)

    @property
    def life(self) -> Life:
        """The latest life."""
        return self.lives[-1]

    @property
    def is_alive(self) -> bool:
        return any(not life.is_over for life in self.lives)

    @property
    def state(self) -> str:
        """What the engine's report says; ``absent`` if it is not in it."""
        report = self.program.engine.report().manifolds.get(self.name)
        return "absent" if report is None else report.state

    def note(self, what: str) -> None:
        self.program.record.append(f"{what} {self.name}")

    def _ask(self, value: object) -> None:
        """Hear that the soft phase has begun; the body decides what to do about it."""
        assert value is self.value
        self.note("ask")

    async def _start(self, get: Getter, *, task_status: trio.TaskStatus[Any]) -> None:
        self._check_start()
        life = Life(self, get, task_status)
        self.lives.append(life)
        self.note("start")
        try:
            await self.body(life)
        except trio.Cancelled as exc:
            life.cancelled = exc
            raise
        finally:
            life.is_over = True
            self.note("end")

    def _check_start(self) -> None:
        wrong = self.program.violations
        if self.is_alive:
            wrong.append(f"{self.name} was started while a run of it was alive")
        for role in self.manifold.inputs:
            other = self.program.doubles.get(self.manifold.bindings.get(role, role))
            if other is not None and not any(
                life.is_ready and not life.is_over for life in other.lives
            ):
                wrong.append(f"{self.name} was started without its input {role}")


class Program:
    """An engine, the doubles in it, and the record of what happened, in order."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        # No jitter: delays are exactly what the policy says.
        self.engine = Engine(config, random=lambda: 0.5)
        self.record: list[str] = []
        self.doubles: dict[str, Double] = {}
        self.violations: list[str] = []

    def make(
        self,
        name: str,
        *inputs: str,
        body: Body | None = None,
        value: object = None,
        **options: Unpack[Options],
    ) -> Double:
        """Make a double without installing it; it needs `inputs`, and by default serves."""
        double = Double(self, name, body or serve, value or name, inputs, **options)
        self.doubles[name] = double
        return double

    def install(
        self,
        name: str,
        *inputs: str,
        body: Body | None = None,
        value: object = None,
        **options: Unpack[Options],
    ) -> Double:
        """Make a double and install it."""
        double = self.make(name, *inputs, body=body, value=value, **options)
        self.engine.install(name, double.manifold)
        return double

    def chain(self, *names: str) -> list[Double]:
        """Install a chain: each needs the one before it."""
        doubles: list[Double] = []
        for i, name in enumerate(names):
            doubles.append(self.install(name, *names[max(i - 1, 0) : i]))
        return doubles

    def happened(self, what: str) -> list[str]:
        """Return the names to which `what` (start, ready, ask, end) happened, in order."""
        return [entry.split(" ", 1)[1] for entry in self.record if entry.startswith(f"{what} ")]

    @property
    def starts(self) -> list[str]:
        return self.happened("start")

    @property
    def ends(self) -> list[str]:
        return self.happened("end")

    @property
    def states(self) -> dict[str, str]:
        """The state of everything that is installed."""
        return {name: m.state for name, m in self.engine.report().manifolds.items()}

    @property
    def live_timers(self) -> int:
        return len(self.engine._machine.timers)

    async def settle(self) -> None:
        """Wait until all that was told has been done, and the engine has come to rest."""
        await trio.testing.wait_all_tasks_blocked()
        await self.engine.wait_settled()

    def forget(self) -> None:
        """Empty the record: what has happened so far is of no interest."""
        self.record.clear()

    def check(self) -> None:
        """Raise for what no schedule may break."""
        assert not self.violations, self.violations
        for double in self.doubles.values():
            assert not double.is_alive, f"{double.name} outlived the engine"
        for name, manifold in self.engine.report().manifolds.items():
            assert manifold.starts == manifold.ends, name

    @asynccontextmanager
    async def running(self, *, settle: bool = True) -> AsyncGenerator[Engine]:
        """Run the engine for the length of the block; settled on entry unless told not to.

        Whatever the engine raises leaves the block alone, without a group around it.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.engine.run)
                if settle:
                    await self.engine.wait_settled()
                else:
                    await trio.testing.wait_all_tasks_blocked()
                try:
                    yield self.engine
                    self.engine.kill()
                finally:
                    for double in self.doubles.values():
                        double.let_go.set()
        except BaseExceptionGroup as group:
            if len(set(group.exceptions)) == 1:  # the block may have raised the engine's own
                raise group.exceptions[0] from None
            raise
        finally:
            self.check()


# -- bodies ------------------------------------------------------------------------------------


async def serve(life: Life) -> None:
    """Be ready at once, then do as told."""
    life.ready()
    await life.obey()


async def when_told(life: Life) -> None:
    """Hang in the start phase until told `get_ready` (or `fail`, or `finish` before it)."""
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await life.wait_told_ready()
            life.ready()

        nursery.start_soon(watch)
        await life.obey()
        nursery.cancel_scope.cancel()


async def return_at_once(life: Life) -> None:
    """Return without ever being ready."""


async def ready_and_return(life: Life) -> None:
    """Return right after ``started()``."""
    life.ready()


async def linger(life: Life) -> None:
    """Be ready, and once cancelled take until ``double.let_go`` is set."""
    life.ready()
    try:
        await life.obey()
    finally:
        with trio.CancelScope(shield=True):
            await life.double.let_go.wait()


async def leave_softly(life: Life) -> None:
    """Be ready, and return as soon as asked to stop: for doubles with grace."""
    life.ready()
    await life.get.wait_stopping()


def failing(*errors: BaseException) -> Body:
    """Fail before ``started()``, with each of `errors` in turn; serve once they are used up."""
    left = list(errors)

    async def body(life: Life) -> None:
        if left:
            raise left.pop(0)
        await serve(life)

    return body


def stopping_in(seconds: float) -> Body:
    """Be ready, and once cancelled take so many seconds to clean up."""

    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)

    return body


def failing_when_stopped(error: BaseException) -> Body:
    """Be ready, and raise `error` once cancelled."""

    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        except trio.Cancelled:
            raise error from None

    return body


def starting_in(seconds: float) -> Body:
    """Be ready after so many seconds, then do as told."""

    async def body(life: Life) -> None:
        await trio.sleep(seconds)
        await serve(life)

    return body


def seen_in(view: LiveView[Any]) -> object:
    """Return what a view shows now: for the type checkers, not the same as a moment ago."""
    return view.value


def in_order(before: str, after: str, record: Iterable[str]) -> bool:
    """Whether `before` comes before `after` in the record, both being there exactly once."""
    entries = list(record)
    assert entries.count(before) == 1, before
    assert entries.count(after) == 1, after
    return entries.index(before) < entries.index(after)
