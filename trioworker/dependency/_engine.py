"""The engine: applies the table of states, and runs the tasks.

**How it is built.** One task for each run of a manifold. In it one cancel scope, the run's stop
button, in which the start function runs inline; a nursery only for a run that starts helpers
(`_helpers.py`). Around all runs the engine's own nursery, shielded; outside the shield one watcher
task that feels a cancellation from outside. One more task fires the timers. There is no loop that
decides: a transition is a plain sync function on plain data (`Node`, `Run`), called from
``started()``, from the end of a run, from a verb, or from a timer. Between two awaits nothing else
runs, so there are no locks and no messages.

**What a transition does.** `_move` changes the state by the table and tells the neighbours: an
output came or went, a busy manifold came to rest. Three counters make that O(degree): how many
required inputs of a node are not started (`unready`), how many runs use a node's output (`users`),
how many nodes are in motion.

**Who stops when.** `_stop` marks a manifold and everybody who uses it, transitively, as *draining*.
Nobody is asked to stop before its last user has ended: the end of a run releases its inputs, and an
input that drains and is released begins to stop. So every stop, of one manifold or of all, goes
deepest first, and each step is taken by the end that allows it.

**Where errors go.** What leaves a run is judged in `_judge.py`, turned into what comes next in
`_after_end`, kept as text in the history and logged once there. Nothing else catches ``Exception``
but the calls of foreign hooks. If the engine's own code fails, Trio unwinds it all: that error
leaves ``run()``.
"""

from __future__ import annotations

import inspect
import logging
import math
import random as random_module
import time
from typing import TYPE_CHECKING, Any, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import InternalError, LifetimeError, StartTimeout
from .._groups import attach, describe, leaves, only
from .._restart import Restarts
from .._tomb import Tomb, TombState
from .._util import check_reason
from ._config import EngineConfig
from ._explain import Explanation, explained
from ._getter import RunGetter
from ._graph import reached
from ._helpers import Helpers
from ._history import log, record
from ._judge import judge, worst
from ._manifold import Manifold, endless
from ._node import Node, Run, frames_of, place, stack_of
from ._observers import EventStream, Observers
from ._registry import Registry
from ._report import EngineReport, engine_report
from ._states import BUSY, MOVING, Event, Intention, State, moved
from ._timers import Timers
from ._verdicts import Kind, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

logger = logging.getLogger("trioworker.engine")


@final
class Engine:
    """Keeps every manifold that can run running; itself a worker.

    Verbs are sync, may be called before, during and (to no effect) after ``run()``, and only record
    what is to happen: it happens in the tasks of the engine. They raise `NotFound` for an unknown
    name.

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
        self._config = EngineConfig() if config is None else config
        self._random = random
        # The tomb never cancels us: dying means draining, and the last end is the end.
        self._tomb = Tomb(grace=math.inf, name=self._config.name)
        self._registry = Registry(self._config.name)
        self._nursery: Any = None  # the runs', once run() has opened it
        self._timers = Timers()
        self._observers = Observers()
        self._is_open = False  # runs may be started
        self._is_closing = False
        self._grace = math.inf  # no soft phase lasts longer than this
        self._moving = 0  # nodes in a state that will be left by itself
        self._runs = 0
        self._quiet = trio.Event()  # closing, and no run is left
        self._errors: list[BaseException] = []  # what run() raises, worst first in the end

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
                        outer.cancel_scope.cancel(reason=f"{self.name} has ended")
                finally:
                    for error in worst(self._errors, self._config.worst_error):
                        self._tomb.kill(error)
        finally:
            if self._tomb.is_dead and self._nursery is not None:
                self._observers.end(self._tomb.refusal())

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask the engine to stop: dependents first, each with its grace. Never blocks.

        Args:
            reason: why; ``run()`` and ``wait()`` raise the worst of all reasons and fatal errors.
            grace: seconds that no soft phase may outlast from now on; 0 makes each hard at once.

        Raises:
            TypeError: `reason` is no exception.
        """
        check_reason(self.name, reason)
        if self._tomb.is_dead:
            return
        if reason is not None and (real := self._tomb.real_part(reason)) is not None:
            self._condemn(real)
        self._shut_down("the engine was killed")
        if grace is not None and not grace >= self._grace:
            self._harden(max(grace, 0.0))

    async def wait(self) -> None:
        """Wait until dead; raise the worst fatal error, if any. A checkpoint."""
        await self._tomb.wait()

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._config.name

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
        self._refuse_if_dying()
        self._registry.check({name: manifold}, later=None)
        self._try_start(self._add(name, manifold))

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
        self._refuse_if_dying()
        self._registry.check(manifolds, later)
        for node in [self._add(name, manifold) for name, manifold in manifolds.items()]:
            self._try_start(node)

    @enable_ki_protection
    def uninstall(self, name: str) -> None:
        """Remove `name`, its dependents stopping first. It is gone when its run has ended."""
        self._halt(self._registry.installed(name), Intention.UNINSTALL, f"uninstall({name!r})")

    # -- the operator -----------------------------------------------------------------------------

    @enable_ki_protection
    def restart(self, name: str) -> None:
        """Stop `name`, dependents first, and start it again; also when failed, done or delayed.

        One that is held stays held.
        """
        node = self._registry.installed(name)
        if node.run is not None:
            # One that is ending by itself already: its end counts as wanted, so no delay follows.
            node.run.planned = True
            self._stop([node], f"restart({name!r})")
        elif node.intention is Intention.AGAIN:
            node.missing = None
            if node.restarts is not None and node.state is State.FAILED:
                node.restarts.forgive()
            self._cancel_delay(node)
            self._move(node, Event.RESTART)
            self._try_start(node)

    @enable_ki_protection
    def hold(self, name: str) -> None:
        """Stop `name`, dependents first, and keep it stopped until ``release()``."""
        self._halt(self._registry.installed(name), Intention.HOLD, f"hold({name!r})")

    @enable_ki_protection
    def release(self, name: str) -> None:
        """Let `name` run again after ``hold()``; nothing, if it is not held."""
        node = self._registry.installed(name)
        if node.intention is Intention.HOLD:
            node.intention = Intention.AGAIN
            if node.state is State.HELD:
                self._move(node, Event.RELEASE)
                self._try_start(node)

    @enable_ki_protection
    def drain(self) -> None:
        """Hold everything, dependents first. The engine stays up and answers."""
        for node in self._registry.all_installed():
            self._halt(node, Intention.HOLD, "drain()")

    # -- what can be seen -------------------------------------------------------------------------

    def report(self) -> EngineReport:
        """Return the present state as plain frozen data, nested engines included. Never raises."""
        nodes = self._registry.all_installed()
        return engine_report(self.name, self._tomb.report(), nodes, self._now(), time.perf_counter)

    def explain(self, name: str) -> Explanation:
        """Return why `name` is in its state, down to the root cause; ``str()`` says it.

        Raises:
            NotFound: nothing has that name, nor depends on it.
        """
        node = self._registry.known(name)
        return explained(node, self._now(), is_open=self._is_open or self._is_closing)

    def blast_radius(self, name: str) -> tuple[str, ...]:
        """Return who stops when `name` stops: its dependents, transitively, nearest first."""
        return tuple(n.name for n in reached([self._registry.installed(name)], Node.dependents))

    def events(self, capacity: int = 1000) -> EventStream:
        """Return a stream of all transitions from its ``with`` on; see `EventStream`."""
        return EventStream(self._observers, capacity)

    async def wait_state(self, name: str, *states: str) -> State:
        """Wait until `name` is in, or passes through, one of `states`; return it. A checkpoint.

        Raises:
            NotFound: nothing has that name, or it was uninstalled meanwhile.
            Dying: the engine has ended before.
            ValueError: a state that does not exist.
        """
        wanted = frozenset(State(state) for state in states or (State.STARTED,))
        node = self._registry.installed(name)
        if node.state in wanted:
            await trio.lowlevel.checkpoint()
            return node.state
        if self._tomb.is_dead:
            raise self._tomb.refusal()
        return await self._observers.wait_state(node, wanted)

    async def wait_settled(self) -> None:
        """Wait until no manifold starts, stops or waits for a delay; or the engine is dead.

        Waiting for an input is settled: only somebody else can change it. A checkpoint.
        """
        await trio.lowlevel.checkpoint()
        while self._moving or not (self._is_open or self._tomb.is_dead):
            await self._observers.wait_change_of_quiet()

    # -- the tasks --------------------------------------------------------------------------------

    async def _supervise(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._timers.run, name=f"{self.name}: timers")
            task_status.started()
            self._open()
            await self._until_quiet()
            self._nursery.cancel_scope.cancel(reason=f"{self.name} has ended")

    async def _until_quiet(self) -> None:
        while not self._quiet.is_set():
            try:
                await self._quiet.wait()
            except trio.Cancelled:
                raise
            except BaseException as exc:  # noqa: BLE001 - an interrupt; it leaves run() in the end
                self._condemn(exc)

    async def _feel(self) -> None:
        """Stand outside the shield, and turn a cancellation from outside into a hard stop."""
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if not self._quiet.is_set():
                self._shut_down("the engine was cancelled from outside")
                self._harden(0.0)
            raise

    async def _live(self, run: Run) -> None:
        """Be the task of one run, from its start to its end."""
        run.task = trio.lowlevel.current_task()
        leaving: BaseException | None = None
        try:
            if not run.cancelled:
                with trio.CancelScope() as run.scope:
                    try:
                        await self._begin(run)
                    except BaseException as exc:
                        if run.late or not run.cancelled:
                            self._fall(run, exc)
                        raise
        except BaseException as exc:  # noqa: BLE001 - judged below, or raised again
            leaving = exc
        try:
            if run.helpers is not None:
                leaving = await run.helpers.join(leaving)
            cancelled = self._end(run, leaving)
            if cancelled is not None:
                raise cancelled
        finally:
            leaving = cancelled = None  # their tracebacks hold this frame

    def _begin(self, run: Run) -> Awaitable[object]:
        if run.node.state is not State.STARTING:
            # To be stopped before its first step, but users of an earlier run of it still drain:
            # its inputs may be gone, so all it may do is wait its turn to end.
            return trio.sleep_forever()  # noqa: ASYNC105 - awaited by the caller
        manifold = run.manifold
        get = RunGetter(run, self._start_helper)
        awaitable: Any = manifold.start(get, task_status=run)
        if not inspect.isawaitable(awaitable):
            msg = (
                f'"{run.node.name}" manifold: its start function returned {awaitable!r} instead '
                "of something to await; define it with 'async def'"
            )
            raise TypeError(msg)
        return awaitable

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
                run.helpers.cancel(_story(run))
            self._nursery.start_soon(run.helpers.run, name=f"{run.node.name}: helpers")
        run.helpers.start_soon(self._help, run, async_fn, args, name=name or async_fn)

    async def _help(
        self, run: Run, async_fn: Callable[..., Awaitable[object]], args: tuple[Any, ...]
    ) -> None:
        try:
            await async_fn(*args)
        except BaseException as exc:
            if not isinstance(exc, trio.Cancelled):
                self._fall(run, exc)
                cast("trio.CancelScope", run.scope).cancel(reason="a helper has failed")
            raise

    # -- transitions: sync, on plain data ---------------------------------------------------------

    @enable_ki_protection
    def _open(self) -> None:
        self._is_open = not self._is_closing
        now = self._now()
        for node in self._registry.all_installed():
            node.since = now  # what came before had no clock
        for node in self._registry.all_installed():
            self._try_start(node)
        if not self._moving:
            self._settle()

    def _move(self, node: Node, event: Event, now: float | None = None) -> None:
        """Change the state of `node` by the table, and tell those who depend on it."""
        before = node.state
        try:
            after = moved(node.name, before, event)
        except InternalError as exc:
            self._break(exc)
            raise
        if after is before:
            return
        if now is None:
            now = self._now()
        node.state = after
        node.since = now
        self._moving += (after in MOVING) - (before in MOVING)
        if self._observers.active:
            self._observers.moved(node, before, _cause(node), now)
        if after is State.STARTED:
            self._output_came(node)
        elif before is State.STARTED:
            self._output_went(node, stop_users=event is not Event.STOP)
        elif node.optional_by and before in BUSY and after not in BUSY:
            self._try_start_all(node.optional_by)
        if not self._moving:
            self._settle()

    def _settle(self) -> None:
        """Nothing moves, for now: every timer belongs to something that moves, so none is live."""
        self._timers.rest()
        if self._observers.active:
            self._observers.quiet()

    def _output_came(self, node: Node) -> None:
        if node.output is not None:
            node.output.value = node.run
        for dependent in node.required_by or ():
            dependent.unready -= 1
            self._input_changed(dependent)
        for dependent in list(node.optional_by or ()):
            self._input_changed(dependent)
            if dependent.state in (State.STARTING, State.STARTED):
                self._stop([dependent], f"its optional input {node.name!r} came")
        for reader in list(node.live_by or ()):
            self._input_changed(reader)

    def _output_went(self, node: Node, *, stop_users: bool) -> None:
        if node.output is not None:
            node.output.value = None
        for dependent in node.required_by or ():
            dependent.unready += 1
        if stop_users and node.users:
            self._stop(_users(node), f"its input {node.name!r} ended")
        for readers in (node.required_by, node.optional_by, node.live_by):
            if readers:
                for reader in list(readers):
                    self._input_changed(reader)
        if node.state not in BUSY and node.optional_by:
            self._try_start_all(node.optional_by)

    def _input_changed(self, node: Node) -> None:
        node.changed = True
        if node.state is State.WAITING:
            node.missing = None
        elif node.state is State.DELAYED or node.state is State.DONE:
            self._cancel_delay(node)
            self._move(node, Event.WAKE)
        else:
            return
        if not node.unready:
            self._try_start(node)

    def _try_start_all(self, nodes: Iterable[Node]) -> None:
        for node in list(nodes):
            self._try_start(node)

    def _try_start(self, node: Node) -> None:
        """Start `node` if nothing is in the way; before it, what it would restart for."""
        if not self._can_start(node):
            return
        if not node.optional:
            self._start(node)
            return
        tried = {node}
        stack = [node]
        while stack:
            node = stack[-1]
            better = next((o for o in node.optional if o not in tried and self._can_start(o)), None)
            if better is not None:
                tried.add(better)
                stack.append(better)
                continue
            stack.pop()
            if self._can_start(node) and not any(o.state in BUSY for o in node.optional):
                self._start(node)

    def _can_start(self, node: Node) -> bool:
        return (
            node.state is State.WAITING
            and not node.unready
            and node.missing is None
            and self._is_open
        )

    def _start(self, node: Node) -> None:
        manifold = cast("Manifold", node.manifold)  # what is installed has one
        uses = node.required
        if node.optional:
            uses = (*uses, *(o for o in node.optional if o.state is State.STARTED))
        now = self._now()
        run = Run(node, manifold, now, uses, self._ready)
        for used in uses:
            used.users += 1
        node.run = run
        node.changed = False
        node.starts += 1
        self._runs += 1
        if not endless(manifold.start_timeout):
            when = now + cast("float", manifold.start_timeout)
            run.timer = self._timers.add(when, self._too_late, run)
        self._move(node, Event.START, now)
        self._nursery.start_soon(self._live, run, name=node.name)

    @enable_ki_protection
    def _ready(self, run: Run, value: object) -> None:
        if run.said:
            msg = (
                f'"{run.node.name}" manifold: started() was called twice; call it once, when ready'
            )
            raise RuntimeError(msg)
        run.said = True
        if run.is_over:
            return
        if run.node.state is State.STARTING:
            self._timers.cancel(run.timer)
            run.value = value
            run.ready = now = self._now()
            self._move(run.node, Event.READY, now)
        else:
            self._move(run.node, Event.READY)

    def _halt(self, node: Node, intention: Intention, cause: str) -> None:
        """Stop `node` for good, as far as `intention` means it."""
        node.intention = max(node.intention, intention)
        if node.run is None:
            self._rest(node)
        else:
            self._stop([node], cause)

    def _rest(self, node: Node) -> None:
        """Give a node without a run the state that it is intended to rest in."""
        self._cancel_delay(node)
        if node.intention is Intention.SHUTDOWN:
            self._move(node, Event.SHUT_DOWN)
        elif node.intention is Intention.UNINSTALL:
            self._remove(node, "it was uninstalled")
        elif node.intention is Intention.HOLD:
            self._move(node, Event.HOLD)

    def _stop(self, nodes: Iterable[Node], cause: str) -> None:
        """Let the runs of `nodes` end, those that use them first."""
        now = self._now()
        pending = list(nodes)
        drained: list[Node] = []
        while pending:
            node = pending.pop()
            run = node.run
            if run is None or (
                node.state is not State.STARTED and node.state is not State.STARTING
            ):
                continue  # it stops already, and its users with it
            run.planned = True
            run.cause = cause
            self._move(node, Event.STOP, now)
            if node.users:
                pending.extend(_users(node))
            else:
                drained.append(node)
        for node in drained:
            self._if_drained(node, now)

    def _if_drained(self, node: Node, now: float) -> None:
        if node.state is State.DRAINING and not node.users:
            self._stop_run(cast("Run", node.run), now)

    def _stop_run(self, run: Run, now: float) -> None:
        """Nobody uses `run` any more: ask it, and cancel it when its grace is over."""
        node, manifold = run.node, run.manifold
        self._timers.cancel(run.timer)
        self._move(node, Event.DRAINED, now)
        if run.stopping is not None:
            run.stopping.set()
        grace = min(manifold.grace, self._grace) if run.ready is not None else 0.0
        if run.ready is not None and manifold.ask is not None:
            run.soft = True
            try:
                manifold.ask(run.value)
            except Exception as exc:  # noqa: BLE001 - foreign code; judged with the end of the run
                run.ask_error = exc
                grace = 0.0
            grace = min(grace, self._grace)  # what we asked may have killed the engine, hard
        if run.is_over or run.cancelled:
            return
        if grace > 0:
            if grace < math.inf:
                run.timer = self._timers.add(now + grace, self._cancel, run)
        else:
            self._cancel(run)

    @enable_ki_protection
    def _cancel(self, run: Run) -> None:
        run.soft = False
        run.cancelled = True
        if run.scope is not None:  # else its task has not begun, and will end at once
            story = _story(run)
            run.scope.cancel(reason=story)
            if run.helpers is not None:
                run.helpers.cancel(story)
            self._watch_stop(run)

    def _watch_stop(self, run: Run) -> None:
        limit = run.manifold.stop_timeout
        self._timers.cancel(run.timer)
        if not endless(limit):
            when = self._now() + cast("float", limit)
            run.timer = self._timers.add(when, self._got_stuck, run)

    @enable_ki_protection
    def _fall(self, run: Run, exc: BaseException | None) -> None:
        """`run` is ending by itself: an error is leaving it, or it took too long to start."""
        if run.late and run.place is None and exc is not None:
            run.place = place(frames_of(exc))
        if run.node.run is run and run.node.state is not State.STOPPING:
            self._move(run.node, Event.FALL)
            if run.stopping is not None:
                run.stopping.set()
            if exc is None or run.helpers is not None:
                self._watch_stop(run)  # there is still somebody to wait for

    @enable_ki_protection
    def _too_late(self, run: Run) -> None:
        run.late = True
        limit = run.manifold.start_timeout
        run.cause = f"it was not ready after {limit:g} s"
        self._fall(run, None)
        self._cancel(run)

    @enable_ki_protection
    def _got_stuck(self, run: Run) -> None:
        """`run` was cancelled and does not end: it no longer holds up its inputs."""
        run.stuck = stack_of(run)
        limit = run.manifold.stop_timeout
        logger.error(
            '"%s" manifold is stuck: cancelled %s s ago and still running; it stands at\n  %s',
            run.node.name,
            limit,
            "\n  ".join(run.stuck) or "an unknown place",
        )
        self._release(run, self._now())

    @enable_ki_protection
    def _end(self, run: Run, leaving: BaseException | None) -> BaseException | None:
        """The task of `run` ends with `leaving`: judge it, and do what comes next.

        Returns `leaving` if it is Trio's to have, because the engine is being cancelled.
        """
        run.is_over = True
        self._timers.cancel(run.timer)
        if run.stopping is not None:
            run.stopping.set()
        if leaving is None and not run.late and run.ask_error is None:
            self._after_end(run, Kind.RETURNED, None)
            return None
        cancelled = None if leaving is None else only(leaving, _is_cancelled)
        error = None if leaving is None else self._tomb.real_part(leaving)
        if error is None:
            error = self._unseen_error(run, is_rogue=cancelled is not None)
        if run.ask_error is not None:
            if error is None:
                error = run.ask_error
            elif error is not run.ask_error:
                attach(error, [run.ask_error])
        self._after_end(run, *judge(error, run.manifold, self._config))
        return leaving if cancelled is not None and self._is_cancelled else None

    def _after_end(self, run: Run, kind: Kind, error: BaseException | None) -> None:
        """Decide what comes after the end of `run`: the one place where errors become decisions."""
        node, now = run.node, self._now()
        if kind is Kind.FATAL and error is not None:
            self._condemn(error)
        elif kind is Kind.UNINSTALL:
            node.intention = max(node.intention, Intention.UNINSTALL)
        event, delay = self._next(run, kind, error, now)
        if event is Event.GIVE_UP and self._config.on_failed == "fatal" and error is not None:
            self._condemn(error)
            event = Event.SHUT_DOWN
        node.ends += 1
        node.run = None
        node.why = None if error is None else describe(error)
        node.missing = node.why if kind is Kind.MISSING and event is Event.AGAIN else None
        record(run, kind, error, now, self._config.history)
        log(logger, node, kind, error, event, delay)
        self._runs -= 1
        if event is Event.REMOVE:
            self._remove(node, node.why or "it was uninstalled")
        else:
            if event is Event.LATER:
                node.delay = self._timers.add(now + delay, self._wake, node)
            self._move(node, event, now)
        if not run.stuck:
            self._release(run, now)
        if event is Event.AGAIN:
            if node.changed:
                node.missing = None
            self._try_start(node)
        if self._is_closing and not self._runs:
            self._quiet.set()

    def _next(
        self, run: Run, kind: Kind, error: BaseException | None, now: float
    ) -> tuple[Event, float]:
        """Return what follows the end of `run`, and for `Event.LATER` the delay in seconds."""
        node = run.node
        resting = _RESTING[node.intention]
        if resting is not None:
            return resting, 0.0
        if run.planned:
            return Event.AGAIN, 0.0
        if kind is Kind.RETURNED:
            return (Event.AGAIN if node.changed else Event.RETURN), 0.0
        if kind is Kind.MISSING:
            return Event.AGAIN, 0.0
        policy = run.manifold.restart or self._config.restart
        restarts = node.restarts = node.restarts or Restarts()
        spread = 2 * self._random() - 1
        if kind is Kind.RETRY and error is not None:
            retry = next(leaf for leaf in leaves(error) if isinstance(leaf, RetryAfter))
            return Event.LATER, retry.seconds
        if kind is Kind.DYING:
            return Event.LATER, restarts.current_delay(policy, spread)
        if kind is Kind.BOUNCE:
            delay = policy.bounce_delay
        else:
            healthy = 0.0 if run.ready is None else now - run.ready
            delay = restarts.error_delay(policy, healthy, spread)
        if restarts.over_limit(policy, now):
            return Event.GIVE_UP, 0.0
        return Event.LATER, delay

    def _release(self, run: Run, now: float) -> None:
        for used in run.uses:
            used.users -= 1
            if not used.users:
                self._if_drained(used, now)

    @enable_ki_protection
    def _wake(self, node: Node) -> None:
        """The delay of `node` is over."""
        node.delay = None
        self._move(node, Event.WAKE)
        self._try_start(node)

    def _cancel_delay(self, node: Node) -> None:
        self._timers.cancel(node.delay)
        node.delay = None

    # -- the end of it all ------------------------------------------------------------------------

    def _condemn(self, error: BaseException) -> None:
        """`error` ends the engine; a second interrupt cancels everything at once."""
        interrupts = [e for e in self._errors if not isinstance(e, Exception)]
        if not any(error is known for known in self._errors):
            self._errors.append(error)
        if interrupts and not isinstance(error, Exception) and error is not interrupts[0]:
            self._cancel_all("interrupted a second time")
        self._shut_down(f"fatal: {describe(error)}")

    @enable_ki_protection
    def _shut_down(self, cause: str) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._is_open = False
        self._tomb.kill()
        nodes = self._registry.all_installed()
        for node in nodes:
            node.intention = Intention.SHUTDOWN
            if node.run is None:
                self._rest(node)
        self._stop(nodes, cause)
        if not self._runs:
            self._quiet.set()

    def _harden(self, grace: float) -> None:
        """From now on no soft phase lasts longer than `grace` seconds, those under way included."""
        self._grace = min(self._grace, grace)
        for node in self._registry.all_installed():
            run = node.run
            if run is None or not run.soft:
                continue
            if self._grace == 0:
                self._timers.cancel(run.timer)
                self._cancel(run)
            else:
                when = self._now() + self._grace
                if run.timer is None or run.timer.when > when:
                    self._timers.cancel(run.timer)
                    run.timer = self._timers.add(when, self._cancel, run)

    def _cancel_all(self, why: str) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=f"{self.name} was {why}")

    def _break(self, exc: InternalError) -> None:
        """Our own code contradicted itself: nothing that it decides can be trusted any more."""
        if not any(exc is known for known in self._errors):
            self._errors.append(exc)
        self._is_open = False
        self._is_closing = True
        self._tomb.kill()
        self._quiet.set()
        self._cancel_all("stopped by an error of its own")

    @property
    def _is_cancelled(self) -> bool:
        return self._nursery is not None and self._nursery.cancel_scope.cancel_called

    def _unseen_error(self, run: Run, *, is_rogue: bool) -> BaseException | None:
        """Return the error of a run that nothing real has left, if it deserves one."""
        if run.late:
            limit = run.manifold.start_timeout
            msg = (
                f'"{run.node.name}" manifold: started() was not called within {limit:g} s; '
                f"it was at {run.place or 'an unknown place'}"
            )
            return StartTimeout(msg)
        if is_rogue and not self._is_cancelled:
            msg = (
                f'"{run.node.name}" manifold: raised a Cancelled of a scope that it had left; '
                "never keep a trio.Cancelled to raise it later"
            )
            return LifetimeError(msg)
        return None

    # -- small things -----------------------------------------------------------------------------

    def _add(self, name: str, manifold: Manifold) -> Node:
        node = self._registry.add(name, manifold)
        self._move(node, Event.INSTALL)
        return node

    def _remove(self, node: Node, farewell: str) -> None:
        self._move(node, Event.REMOVE)
        self._registry.remove(node, farewell)

    def _refuse_if_dying(self) -> None:
        if self._tomb.is_dying:
            raise self._tomb.refusal()

    @staticmethod
    def _now() -> float:
        try:
            return trio.current_time()
        except RuntimeError:  # described before trio.run(): nothing has a time yet
            return 0.0


# By intention: what a run, or having none, leads to, whatever its end was.
_RESTING = (None, Event.HOLD, Event.REMOVE, Event.SHUT_DOWN)


def _users(node: Node) -> list[Node]:
    """Return those whose present run uses the output of `node`."""
    return [d for d in node.dependents() if d.run is not None and node in d.run.uses]


def _cause(node: Node) -> str | None:
    return node.why if node.run is None else node.run.cause


def _story(run: Run) -> str:
    return f'"{run.node.name}" is stopping: {run.cause}'


def _is_cancelled(exc: BaseException) -> bool:
    return isinstance(exc, trio.Cancelled)
