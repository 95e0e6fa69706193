"""The engine: a life, tasks, and verbs around the machine that decides.

**How it is built.** One task for each run of a manifold. In it one cancel scope, the run's stop
button, in which the start function runs inline; a nursery only for a run that starts helpers
(`_helpers.py`). Around all runs the engine's own nursery, shielded; outside the shield one watcher
task that feels a cancellation from outside. One more task fires the timers. There is no loop that
decides: what happens is decided by transitions, sync functions on plain data (`_machine.py`) that
are called from here. If our own code fails, Trio unwinds it all, and that error leaves ``run()``.
"""

from __future__ import annotations

import inspect
import math
import random as random_module
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from .._tomb import Tomb, TombState
from .._util import check_grace, check_reason, check_sync, is_cancelled
from ._config import EngineConfig, checked
from ._current import enter
from ._explain import Explanation, explained
from ._getter import RunGetter
from ._graph import reached
from ._helpers import Helpers
from ._judge import worst
from ._machine import Machine
from ._metrics import Feed
from ._node import Node, Run, story
from ._observers import EventStream
from ._report import EngineReport, engine_report, engine_view
from ._stacks import TaskStack, stacks_of
from ._states import Intention, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from ._manifold import Manifold
    from ._metrics import Metrics


@final
class Engine:
    """Keeps every manifold that can run running; itself a worker.

    Verbs are sync, and may be called before, during and (to no effect) after ``run()``. What can be
    done at once is done before they return, ``ask`` included; runs begin and end in tasks of the
    engine. They raise `NotFound` for an unknown name.

    Cancelling ``run()`` from outside is a hard stop, in the same order as any stop; deadlines
    outside an engine are not visible to its workers.

    Args:
        config: how it behaves.
        random: gives numbers in [0, 1) for the jitter of delays.
    """

    def __init__(
        self,
        config: EngineConfig | None = None,
        *,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._config = checked(config)
        check_sync("Engine(random=...)", random)
        # The tomb never cancels us: dying means draining, and the last end is the end.
        self._tomb = Tomb(grace=math.inf, name=self._config.name)
        self._nursery: Any = None  # the runs', once run() has opened it
        metrics = self._config.metrics
        self._feed = None if metrics is None else Feed(metrics, self._interrupted)
        self._machine = Machine(
            self._config,
            self._tomb,
            spawn=self._spawn,
            cancel_all=self._cancel_all,
            feed=self._feed,
            random=random,
        )
        self._registry = self._machine.registry
        self._on_helper = self._start_helper  # bound once, not for each run

    # -- a worker ---------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the manifolds running until killed; raise the worst fatal error, if any.

        Calls ``task_status.started()`` at once: an engine can be used from its first step.

        Raises:
            LifetimeError: it was run before.
        """
        try:
            with self._tomb:
                try:
                    async with trio.open_nursery() as outer:
                        outer.start_soon(self._feel, name=f"{self.name}: watcher")
                        with trio.CancelScope(shield=True):
                            await self._supervise(task_status)
                        outer.cancel_scope.cancel()
                finally:
                    errors = self._machine.errors
                    asked = len(errors)
                    ranked = worst(errors, self._config.worst_error)
                    # And what worst_error, which is foreign code, may have killed us with.
                    for error in (*ranked, *errors[asked:]):
                        self._tomb.kill(error)
        finally:
            if self._tomb.is_dead:
                self._machine.observers.end(self._tomb.refusal())

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask the engine to stop: dependents first, each with its grace. Never blocks.

        Args:
            reason: why; ``run()`` and ``wait()`` raise the worst of all reasons and fatal errors.
            grace: seconds that no soft phase may outlast from now on; 0 makes each hard at once.

        Raises:
            TypeError: `reason` is no exception, or `grace` no number.
        """
        check_reason(self.name, reason)
        if grace is not None:
            check_grace(self.name, grace)
        if self._tomb.is_dead:
            return
        self._machine.set_off()
        if reason is not None and (real := self._tomb.real_part(reason)) is not None:
            self._machine.condemn(real)
        self._machine.shut_down("the engine was killed")
        if grace is not None:
            self._machine.harden(grace)

    async def wait(self) -> None:
        """Wait until dead; raise the worst fatal error, if any. A checkpoint."""
        await self._tomb.wait()

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._config.name

    @property
    def metrics(self) -> Metrics | None:
        """The hook that its config has, if any."""
        return self._config.metrics

    @property
    def state(self) -> TombState:
        """``alive``, ``dying`` or ``dead``."""
        return self._tomb.state

    def __repr__(self) -> str:
        return f"<Engine {self.name!r} {self.state}, {len(self._registry)} names>"

    # -- the graph --------------------------------------------------------------------------------

    @enable_ki_protection
    def install(self, name: str, manifold: Manifold) -> None:
        """Add `manifold` under `name`; it starts as soon as it can. Sync.

        An input that is not installed yet is waited for. Costs O(inputs) while nobody installed
        depends on `name`, else also the search for a cycle among its ancestors.

        Raises:
            AlreadyExists: the name is taken; it stays so until the run has ended.
            CycleError: with the path, over `inputs` and `optional`.
            Dying: the engine is dying or dead.
        """
        self._machine.install({name: manifold}, later=None)

    @enable_ki_protection
    def install_all(
        self, manifolds: Mapping[str, Manifold], *, later: Collection[str] = ()
    ) -> None:
        """Add all of `manifolds`, or none if any of them is refused. O(manifolds + inputs).

        Args:
            manifolds: by name.
            later: names of required inputs that will be installed later.

        Raises:
            UnknownInput: required inputs that are neither installed, nor here, nor in `later`.
            AlreadyExists, CycleError, Dying: as `install`.
        """
        self._machine.install(manifolds, later)

    @enable_ki_protection
    def uninstall(self, name: str) -> None:
        """Remove `name`, its dependents stopping first. It is gone when its run has ended."""
        node = self._registry.installed(name)
        self._machine.halt([node], Intention.UNINSTALL, f"uninstall({name!r})")

    # -- the operator -----------------------------------------------------------------------------

    @enable_ki_protection
    def restart(self, name: str) -> None:
        """Stop `name`, dependents first, and start it again; also when failed, done or delayed.

        One that is held stays held.
        """
        self._machine.restart(self._registry.installed(name))

    @enable_ki_protection
    def hold(self, name: str) -> None:
        """Stop `name`, dependents first, and keep it stopped until ``release()``."""
        node = self._registry.installed(name)
        self._machine.halt([node], Intention.HOLD, f"hold({name!r})")

    @enable_ki_protection
    def release(self, name: str) -> None:
        """Let `name` run again after ``hold()``; nothing, if it is not held."""
        self._machine.release(self._registry.installed(name))

    @enable_ki_protection
    def drain(self) -> None:
        """Hold everything, dependents first. The engine stays up and answers."""
        self._machine.halt(self._registry.all_installed(), Intention.HOLD, "drain()")

    # -- what can be seen -------------------------------------------------------------------------

    def report(self) -> EngineReport:
        """Return the present state as plain frozen data, nested engines included. Never raises."""
        nodes = self._registry.all_installed()
        now = self._machine.now()
        return engine_report(self.name, self._tomb.report(), nodes, now, time.perf_counter)

    def view(self) -> EngineReport:
        """Return what ``report()`` does, but made manifold by manifold, when each is looked at.

        For whoever pauses in between, so that a report of thousands holds nobody up. Each is told
        as it is at that moment; one that was uninstalled since is ``absent``. Never raises.
        """
        nodes = self._registry.all_installed()
        clocks = (self._machine.now, time.perf_counter)
        return engine_view(self.name, self._tomb.report(), nodes, clocks)

    def explain(self, name: str) -> Explanation:
        """Return why `name` is in its state, down to the root cause; ``str()`` says it.

        Raises:
            NotFound: nothing has that name, nor depends on it.
        """
        node = self._registry.known(name)
        has_begun = self._machine.is_open or self._machine.is_closing
        return explained(node, self._machine.now(), is_open=has_begun)

    def blast_radius(self, name: str) -> tuple[str, ...]:
        """Return who stops when `name` stops: its dependents, transitively, nearest first."""
        node = self._registry.installed(name)
        return tuple(other.name for other in reached([node], Node.dependents))

    def stacks(self, name: str) -> tuple[TaskStack, ...]:
        """Return where the tasks of `name` stand: its start function's first, then its helpers'.

        Empty while it has no run, and before its first step.
        """
        return stacks_of(self._registry.installed(name).run)

    def events(self, capacity: int = 1000) -> EventStream:
        """Return a stream of all transitions from its ``with`` on; see `EventStream`.

        Raises:
            ValueError: `capacity` is no int of at least 1.
        """
        given: object = capacity  # for the type checkers, to which it can be nothing else
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            msg = f"events(capacity=...) must be an int of at least 1, not {capacity!r}"
            raise ValueError(msg)
        return EventStream(self._machine.observers, capacity)

    async def wait_state(self, name: str, *states: str) -> State:
        """Wait until `name` is in, or passes through, one of `states`; return it. A checkpoint.

        Raises:
            NotFound: nothing has that name, or it was uninstalled meanwhile; unless that is what
                is waited for, by ``absent``.
            Dying: the engine has ended before.
            ValueError: a state that does not exist.
        """
        wanted = frozenset(map(_state, states or (State.STARTED,)))
        if State.ABSENT in wanted and not self._registry.is_installed(name):
            await trio.lowlevel.checkpoint()
            return State.ABSENT
        node = self._registry.installed(name)
        state = node.state
        if state in wanted:
            await trio.lowlevel.checkpoint()
            return state
        if self._tomb.is_dead:
            raise self._tomb.refusal()
        return await self._machine.observers.wait_state(node, wanted)

    async def wait_settled(self) -> None:
        """Wait until no manifold starts, stops or waits for a delay; or the engine is dead.

        Waiting for an input is settled: only somebody else can change it. A checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while not self._tomb.is_dead and (self._machine.moving or not self._machine.is_open):
            await self._machine.observers.wait_change_of_quiet()

    # -- the tasks --------------------------------------------------------------------------------

    async def _supervise(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._machine.timers.run, name=f"{self.name}: timers")
            if self._feed is not None:
                self._nursery.start_soon(self._feed.run, name=f"{self.name}: metrics")
            task_status.started()
            self._machine.open()
            await self._until_quiet()
            self._nursery.cancel_scope.cancel()
        if self._feed is not None:
            self._feed.flush()  # what came when its task had been cancelled with all others

    async def _until_quiet(self) -> None:
        while not self._machine.quiet.is_set():
            try:
                await self._machine.quiet.wait()
            except (trio.Cancelled, GeneratorExit):
                raise  # GeneratorExit: Trio has crashed, and nothing will be quiet any more
            except BaseException as exc:  # noqa: BLE001 - an interrupt; it leaves run() in the end
                self._interrupted(exc)

    @enable_ki_protection
    def _interrupted(self, exc: BaseException) -> None:
        self._machine.set_off()
        self._machine.condemn(exc)

    @enable_ki_protection
    async def _feel(self) -> None:
        """Stand outside the shield, and turn a cancellation from outside into a hard stop."""
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if not self._machine.quiet.is_set():
                self._machine.set_off()
                self._machine.shut_down("the engine was cancelled from outside")
                self._machine.harden(0.0)
            raise

    @enable_ki_protection
    async def _live(self, run: Run) -> None:
        """Be the task of one run, from its start to its end."""
        run.task = trio.lowlevel.current_task()
        enter(run.node.name)
        leaving: BaseException | None = None
        try:
            if not run.cancelled:
                with trio.CancelScope() as run.scope:
                    try:
                        await self._begin(run)
                    except BaseException:
                        if run.late or not run.cancelled:
                            self._machine.fall(run)
                        raise
        except BaseException as exc:  # noqa: BLE001 - judged below, or raised again
            leaving = exc
        try:
            if run.helpers is not None:
                leaving = await run.helpers.join(leaving)
            is_ours = leaving is not None and self._nursery.cancel_scope.cancel_called
            self._machine.end(run, leaving, is_cancelled=is_ours)
        finally:
            leaving = None  # its traceback holds this frame

    @disable_ki_protection
    async def _begin(self, run: Run) -> None:
        """Call the start function; a frame of its own, because only foreign code is interrupted."""
        if run.node.state is not State.STARTING:
            # To be stopped before its first step, but users of an earlier run of it still drain:
            # its inputs may be gone, so all it may do is wait its turn to end.
            await trio.sleep_forever()
        manifold = run.manifold
        get = RunGetter(run, self._on_helper)
        awaitable: Any = manifold.start(get, task_status=run)
        # The first test is the common answer, at a tenth of the cost of the second.
        if not isinstance(awaitable, CoroutineType) and not inspect.isawaitable(awaitable):
            msg = (
                f'"{run.node.name}" manifold: its start function returned {awaitable!r} instead '
                "of something to await; define it with 'async def'"
            )
            raise TypeError(msg)
        await awaitable

    def _start_helper(
        self,
        run: Run,
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
        name: object,
    ) -> None:
        if run.helpers is None:
            run.helpers = Helpers()
            if run.cancelled:
                run.helpers.cancel(story(run))
            self._nursery.start_soon(run.helpers.run, name=f"{run.node.name}: helpers")
        run.helpers.start_soon(self._help, run, async_fn, args, name=name or async_fn)

    @enable_ki_protection
    async def _help(
        self, run: Run, async_fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]
    ) -> None:
        try:
            await _interruptible(async_fn, args)
        except BaseException as exc:
            if not is_cancelled(exc):
                self._machine.fall(run)
                scope = cast("trio.CancelScope", run.scope)  # who has helpers has begun
                scope.cancel(reason="a helper has failed")
            raise

    def _spawn(self, run: Run) -> None:
        self._nursery.start_soon(self._live, run, name=run.node.name)

    def _cancel_all(self, why: str) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=f"{self.name} was {why}")


@disable_ki_protection
async def _interruptible(async_fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
    await async_fn(*args)


def _state(name: str) -> State:
    try:
        return State(name)
    except ValueError:
        msg = f"{name!r} is no state of a manifold; these are: {', '.join(State)}"
        raise ValueError(msg) from None
