"""The transitions of an engine: sync functions on plain data (`Node`, `Run`).

They are called from ``started()``, from the end of a run, from a verb, or from a timer. Between two
awaits nothing else runs, so there are no locks and no messages; and nothing here awaits.

**What a transition does.** `_move` changes the state by the table and tells the neighbours: an
output came or went, a busy manifold came to rest. Three counters make that O(degree): how many
required inputs of a node are not started (`unready`), how many runs use a node's output (`users`),
how many nodes are in motion.

**Who stops when.** `_stop` marks a manifold and everybody who uses it, transitively, as *draining*.
Nobody is asked to stop before its last user has ended: the end of a run releases its inputs, and an
input that drains and is released begins to stop. So every stop, of one manifold or of all, goes
deepest first, and each step is taken by the end that allows it.

**Where errors go.** What leaves a run is judged in `_judge.py`, `_sequel.py` says what follows, and
`_after_end` does it, keeps the error as text in the history and logs it once. Foreign code
(``ask``, filters, ``is_fatal``) may call any verb meanwhile: whoever calls it looks at the state
again afterwards.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast, final

import trio
from trio.lowlevel import enable_ki_protection

from .._errors import InternalError, LifetimeError, StartTimeout
from .._groups import describe, leaves, reduced
from .._util import is_cancelled as is_cancellation
from ._current import call_as
from ._history import log, log_stuck, record, what_ended
from ._judge import judge
from ._node import Node, Run, place, stack_of, story, task_frames
from ._observers import Observers
from ._registry import Registry
from ._sequel import sequel
from ._states import BUSY, MOVING, TABLE, Event, Intention, State, impossible
from ._timers import Timers
from ._verdicts import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from .._tomb import Tomb
    from ._config import EngineConfig
    from ._manifold import Manifold
    from ._metrics import Feed


@final
class Machine:
    """All that an engine knows and decides; the engine gives it a life and tasks.

    Args:
        config: the engine's.
        tomb: the engine's life, which ends with `quiet`.
        spawn: starts the task of a run.
        cancel_all: cancels every task, and says why.
        feed: takes what the metrics hook is told, if there is one.
        random: gives numbers in [0, 1).
    """

    def __init__(
        self,
        config: EngineConfig,
        tomb: Tomb,
        *,
        spawn: Callable[[Run], None],
        cancel_all: Callable[[str], None],
        feed: Feed | None,
        random: Callable[[], float],
    ) -> None:
        self.registry = Registry(config.name)
        self.timers = Timers()
        self.observers = Observers() if feed is None else Observers(feed.dropped)
        self.quiet = trio.Event()  # closing, and no run is left
        self.errors: list[BaseException] = []  # what ends the engine
        self.is_open = False  # runs may be started
        self.is_closing = False
        self.moving = 0  # nodes in a state that will be left by itself
        self.now: Callable[[], float] = _no_time_yet  # seconds on the clock of whoever opens us
        self._config = config
        self._tomb = tomb
        self._spawn = spawn
        self._cancel_all = cancel_all
        self._random = random
        self._feed = feed
        self._grace = math.inf  # no soft phase lasts longer than this
        self._runs = 0
        self._origins = 0  # how many things have set off transitions so far
        self._origin = 0  # the number of the one that what happens now follows from
        # Bound once: else each run would carry two more objects for the garbage collector.
        self._on_ready = self._ready
        self._on_stuck = self._got_stuck

    # -- verbs ------------------------------------------------------------------------------------

    def install(self, manifolds: Mapping[str, Manifold], later: Collection[str] | None) -> None:
        """Add all of `manifolds`, or none; as `Engine.install_all`. `later` is None for any."""
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        self.registry.check(manifolds, later)
        self.set_off()
        now = self.now()
        nodes = [self.registry.add(name, manifold) for name, manifold in manifolds.items()]
        for node in nodes:
            self._move(node, Event.INSTALL, now)
        if self.is_open:
            for node in nodes:
                self._try_start(node)

    def restart(self, node: Node) -> None:
        """Stop `node`, dependents first, and start it again."""
        self.set_off()
        if node.run is not None:
            # One that is ending by itself already: its end counts as wanted, so no delay follows.
            node.run.planned = True
            self._stop([node], f"restart({node.name!r})")
        elif node.intention is Intention.AGAIN:
            node.missing = None
            if node.restarts is not None and node.state is State.FAILED:
                node.restarts.forgive()
            self._cancel_delay(node)
            self._move(node, Event.RESTART)
            self._try_start(node)

    def release(self, node: Node) -> None:
        """Let `node` run again after a hold."""
        if node.intention is Intention.HOLD:
            node.intention = Intention.AGAIN
            self.set_off()
            if node.state is State.HELD:
                node.missing = None
                self._move(node, Event.RELEASE)
                self._try_start(node)

    # -- what follows from what -------------------------------------------------------------------

    @enable_ki_protection
    def open(self) -> None:
        """Begin: start what can be started."""
        self.is_open = not self.is_closing
        # The clock's own, because trio.current_time() looks for the clock each time.
        self.now = trio.lowlevel.current_clock().current_time
        now = self.now()
        for node in self.registry.all_installed():
            node.since = now  # what came before had no clock
        for node in self.registry.all_installed():
            self._origin = node.origin
            self._try_start(node)
        if not self.moving:
            self._settle()

    def set_off(self, node: Node | None = None) -> None:
        """What happens now follows from something new; or from what `node` has moved by last."""
        if node is None:
            self._origins += 1
            self._origin = self._origins
        else:
            self._origin = node.origin

    def _move(self, node: Node, event: Event, now: float | None = None) -> None:
        """Change the state of `node` by the table, and tell those who depend on it."""
        before = node.state
        after = TABLE[before].get(event)
        if after is before:
            return
        if after is None:
            exc = impossible(node.name, before, event)
            self._break(exc)
            raise exc
        if now is None:
            now = self.now()
        node.state = after
        node.since = now
        node.origin = self._origin
        more = (after in MOVING) - (before in MOVING)
        self.moving += more
        if self.observers.active:
            self.observers.moved(node, before, _cause(node), now)
        if self._feed is not None:
            self._feed.put("state", node.name, before, after)
        if after is State.STARTED:
            self._output_came(node)
        elif before is State.STARTED:
            self._output_went(node)
        elif node.optional_by and before in BUSY and after not in BUSY:
            self._try_start_all(node.optional_by)
        if more < 0 and not self.moving:
            self._settle()

    def _settle(self) -> None:
        """Nothing moves, for now: every timer belongs to something that moves, so none is live."""
        self.timers.rest()
        if self.observers.active:
            self.observers.quiet()

    def _output_came(self, node: Node) -> None:
        if node.output is not None:
            node.output.value = node.run
        if node.required_by:
            for dependent in node.required_by:
                dependent.unready -= 1
        if node.optional_by:
            for dependent in list(node.optional_by):
                run = dependent.run
                if run is not None and dependent.state in _UP and node not in run.uses:
                    self._stop([dependent], f"its optional input {node.name!r} came")
        # After that, lest one starts that needs both us and somebody who is to stop for us.
        self._tell_readers(node)

    def _output_went(self, node: Node) -> None:
        if node.output is not None:
            node.output.value = None
        if node.required_by:
            for dependent in node.required_by:
                dependent.unready += 1
        self._tell_readers(node)

    def _tell_readers(self, node: Node) -> None:
        """Wake all who declare `node`, then start those that can: one may be another's input."""
        woken: list[Node] = []
        for readers in (node.required_by, node.optional_by, node.live_by):
            if readers:
                is_live = readers is node.live_by
                woken += [r for r in list(readers) if self._input_changed(r, is_live=is_live)]
        for reader in woken:
            self._try_start(reader)

    def _input_changed(self, node: Node, *, is_live: bool) -> bool:
        """An input of `node` came or went; return whether it may be able to start."""
        node.changed = True
        if node.state is State.WAITING:
            node.missing = None
        elif is_live and self._is_too_soon(node):
            return False
        elif node.state is State.DONE or node.state is State.DELAYED:
            self._cancel_delay(node)
            self._move(node, Event.WAKE)
        else:
            return False
        return not node.unready

    def _is_too_soon(self, node: Node) -> bool:
        """Put off the end of a delay that has only just begun, and say so.

        Live inputs may form cycles: two that read each other and fail would end each other's delay
        for ever, so that neither had any.
        """
        if node.delay is None:
            return False
        policy = cast("Manifold", node.manifold).restart or self._config.restart
        when = node.since + policy.bounce_delay
        if self.now() >= when:
            return False
        if when < node.delay.when:
            self._cancel_delay(node)
            node.delay = self.timers.add(when, self._wake, node)
        return True

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
            and self.is_open
        )

    def _start(self, node: Node) -> None:
        manifold: Manifold = node.manifold  # type: ignore[assignment]  # what is installed has one
        uses = node.required
        if node.optional:
            uses = (*uses, *(o for o in node.optional if o.state is State.STARTED))
        now = self.now()
        run = Run(node, manifold, now, uses, self._on_ready)
        for used in uses:
            used.users += 1
        node.run = run
        node.changed = False
        node.starts += 1
        self._runs += 1
        limit = manifold.start_timeout
        if limit is not None and limit < math.inf:
            run.timer = self.timers.add(now + limit, self._too_late, run)
        self._move(node, Event.START, now)
        if self._feed is not None:
            self._feed.put("start", node.name, node.starts)
        self._spawn(run)

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
        self.set_off(run.node)
        if run.timer is not None and run.node.state is not State.STOPPING:
            self.timers.cancel(run.timer, run)  # of start_timeout
        if run.node.state is State.STARTING:
            run.value = value
            run.ready = now = self.now()
            if self._feed is not None:
                self._feed.put("ready", run.node.name, now - run.began)
            self._move(run.node, Event.READY, now)
        else:
            self._move(run.node, Event.READY)

    def halt(self, nodes: Iterable[Node], intention: Intention, cause: str) -> None:
        """Stop `nodes` for good, as far as `intention` means it."""
        self.set_off()
        # Those that rest come first: the stop of an input would wake them, and the `ask` of one
        # that runs might uninstall them.
        for node in sorted(nodes, key=lambda node: node.run is not None):
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
        else:
            self._move(node, Event.HOLD)

    def _stop(self, nodes: Iterable[Node], cause: str) -> None:
        """Let the runs of `nodes` end, those that use them first.

        Users are marked before what they use, so that at no time a manifold is started whose inputs
        are not.
        """
        now = self.now()
        pending = list(nodes)
        visited: dict[Node, int] = {}  # how many users were put above it in `pending`
        drained: list[Node] = []
        while pending:
            node = pending[-1]
            run = node.run
            if run is None or node.state not in _UP:  # it stops already, and its users with it
                pending.pop()
            elif node.users and visited.get(node) != node.users:
                # Again, if what we do has woken somebody who has just started to use it.
                visited[node] = node.users
                pending.extend(_users(node))
            else:
                pending.pop()
                run.cause = cause
                run.planned = True
                self._move(node, Event.STOP, now)
                drained.append(node)
        self._stop_drained(drained, now)

    def _stop_users(self, node: Node) -> None:
        """`node` ends by itself: let those end that use it, before its output is gone."""
        while users := [user for user in _users(node) if user.state in _UP] if node.users else []:
            # Again, if what we do has woken somebody who has just started to use it.
            self._stop(users, f"its input {node.name!r} ended")

    def _stop_drained(self, nodes: Iterable[Node], now: float) -> None:
        """Ask those of `nodes` that nobody uses any more, and cancel them when their grace is over.

        Cancelled right here, and not further in: a ``Cancelled`` keeps every frame between its
        scope's ``cancel()`` and the first one it shares with another.
        """
        for node in nodes:
            if node.state is State.DRAINING and not node.users:
                run = cast("Run", node.run)
                if self._stop_run(run, now) and run.scope is not None:
                    run.scope.cancel(reason=story(run))

    def _stop_run(self, run: Run, now: float) -> bool:
        """Nobody uses `run` any more: ask it; return whether it is to be cancelled now."""
        node, manifold = run.node, run.manifold
        self._move(node, Event.DRAINED, now)
        if run.stopping is not None:
            run.stopping.set()
        grace = min(manifold.grace, self._grace) if run.ready is not None else 0.0
        if run.ready is not None and manifold.ask is not None:
            run.soft = True
            try:
                call_as(run, manifold.ask, run.value)
            except BaseException as exc:  # noqa: BLE001 - foreign code; judged with the run's end
                run.ask_error = exc
                grace = 0.0
            self.set_off(node)  # whatever verb it has called
            grace = min(grace, self._grace)  # what we asked may have killed the engine, hard
        if run.cancelled:
            return False
        if grace > 0:
            if grace < math.inf:
                self.timers.cancel(run.timer, run)  # what we asked may have called kill(grace=...)
                run.timer = self.timers.add(now + grace, self._cancel, run)
            return False
        self._harden_run(run, now)
        return True

    @enable_ki_protection
    def _cancel(self, run: Run) -> None:
        self._harden_run(run, self.now())
        if run.scope is not None:
            run.scope.cancel(reason=story(run))

    def _harden_run(self, run: Run, now: float) -> None:
        run.soft = False
        run.cancelled = True
        if run.scope is not None:  # else its task has not begun, and will end at once
            if run.helpers is not None:
                run.helpers.cancel(story(run))
            self._watch_stop(run, now)

    def _watch_stop(self, run: Run, now: float) -> None:
        limit = run.manifold.stop_timeout
        if run.timer is not None:
            self.timers.cancel(run.timer, run)
        if limit is not None and limit < math.inf:
            run.timer = self.timers.add(now + limit, self._on_stuck, run)

    def fall(self, run: Run) -> None:
        """`run` is ending by itself: an error is leaving it, or it took too long to start."""
        if run.node.state is not State.STOPPING:
            self.set_off(run.node if run.planned else None)
            self._stop_users(run.node)
            self._move(run.node, Event.FALL)
            if run.stopping is not None:
                run.stopping.set()
            if run.late or run.helpers is not None:
                self._watch_stop(run, self.now())  # there is still somebody to wait for
        elif run.soft and run.helpers is not None:
            run.soft = False  # the failure has cancelled the others: the soft phase is over
            self._watch_stop(run, self.now())

    @enable_ki_protection
    def _too_late(self, run: Run) -> None:
        run.late = True
        limit = run.manifold.start_timeout
        run.cause = f"it was not ready after {limit:g} s"
        run.place = place(task_frames(run))
        self.fall(run)
        self._cancel(run)

    @enable_ki_protection
    def _got_stuck(self, run: Run) -> None:
        """`run` was cancelled and does not end: it no longer holds up its inputs."""
        run.stuck = stack_of(run)
        run.place = run.place or place(task_frames(run))
        log_stuck(run)
        self.set_off(run.node)
        self._let_go(run, self.now())

    def end(self, run: Run, leaving: BaseException | None, *, is_cancelled: bool) -> None:
        """Judge what leaves the task of `run`, and do what comes next.

        Args:
            run: which ends.
            leaving: what leaves it, whole.
            is_cancelled: whether the engine cancels all runs, so that a ``Cancelled`` is no fault.
        """
        run.is_over = True
        if run.timer is not None:
            self.timers.cancel(run.timer, run)
        if run.stopping is not None:
            run.stopping.set()
        if leaving is None and not run.late and run.ask_error is None:
            self.set_off(None if run.node.state in _UP else run.node)
            if run.node.state is State.STARTED:
                self._stop_users(run.node)
            self._after_end(run, Kind.RETURNED, None)
            return
        error = None if leaving is None else reduced(leaving, is_cancellation)
        if error is None:
            error = self._unseen_error(run, is_rogue=leaving is not None and not is_cancelled)
        if error is None:
            error = run.ask_error
        elif run.ask_error is not None and run.ask_error is not error:
            error = BaseExceptionGroup("ask and the run have failed", [error, run.ask_error])
        kind, error = judge(error, run.manifold, self._config)
        self.set_off(run.node)  # whatever verbs were called by what was asked
        self._after_end(run, kind, error)

    def _after_end(self, run: Run, kind: Kind, error: BaseException | None) -> None:
        """Decide what comes after the end of `run`: the one place where errors become decisions."""
        node, now = run.node, self.now()
        # First, because an error's own __str__ is foreign code: what it does is seen below.
        why = None if error is None else describe(error)
        if kind is Kind.FATAL and error is not None:
            self.condemn(error)
        elif kind is Kind.UNINSTALL:
            node.intention = max(node.intention, Intention.UNINSTALL)
        policy = run.manifold.restart or self._config.restart
        event, delay = sequel(run, (kind, error), policy, now, self._random)
        if event is Event.GIVE_UP and self._config.on_failed == "fatal" and error is not None:
            self.condemn(error)
            event = Event.SHUT_DOWN
        node.ends += 1
        node.run = None
        node.why = why
        waits = kind is Kind.MISSING and event is Event.AGAIN and not (run.planned or node.changed)
        node.missing = node.why if waits else None
        record(run, kind, error, now, self._config.history)
        if self._feed is not None:
            self._feed.put("end", *what_ended(run, kind, error, now))
        self._runs -= 1
        self._go_on(run, event, delay, now)
        log(node, kind, error, event, delay)
        if self.is_closing and not self._runs:
            self.quiet.set()

    def _go_on(self, run: Run, event: Event, delay: float, now: float) -> None:
        """Do what was decided: move the node, release the inputs, start again if that is next."""
        node = run.node
        if event is Event.REMOVE:
            self._remove(node, node.why or "it was uninstalled")
        else:
            if event is Event.LATER:
                node.delay = self.timers.add(now + delay, self._wake, node)
            self._move(node, event, now)
        if run.stuck is None:  # else it let go when it got stuck
            self._let_go(run, now)
        if event is Event.AGAIN:
            self._try_start(node)

    def _let_go(self, run: Run, now: float) -> None:
        """Release the inputs of `run`: now, or with the last user of its node."""
        if run.node.users:
            run.node.owed = (*run.node.owed, run)
        elif run.uses:
            self._release(run, now)

    def _release(self, run: Run, now: float) -> None:
        """`run` holds up its inputs no longer."""
        released = [run]
        while released:
            for used in released.pop().uses:
                used.users -= 1
                if not used.users:
                    if used.owed:
                        released.extend(used.owed)
                        used.owed = ()
                    self._stop_drained((used,), now)

    @enable_ki_protection
    def _wake(self, node: Node) -> None:
        """The delay of `node` is over."""
        self.set_off(node)
        node.delay = None
        self._move(node, Event.WAKE)
        self._try_start(node)

    def _cancel_delay(self, node: Node) -> None:
        self.timers.cancel(node.delay, node)
        node.delay = None

    # -- the end of it all ------------------------------------------------------------------------

    def condemn(self, error: BaseException) -> None:
        """`error` ends the engine; a second interrupt cancels everything at once."""
        interrupts = [e for e in self.errors if not isinstance(e, Exception)]
        error, *rest = _bare(error)
        for part in (error, *rest):
            if not any(part is known for known in self.errors):
                self.errors.append(part)
        if interrupts and not isinstance(error, Exception) and error is not interrupts[0]:
            self._cancel_all("interrupted a second time")
        self.shut_down(f"fatal: {describe(error)}")

    def shut_down(self, cause: str) -> None:
        """Stop everything for good, dependents first; once."""
        if self.is_closing:
            return
        self.is_closing = True
        self.is_open = False
        self._tomb.kill()
        nodes = self.registry.all_installed()
        for node in nodes:
            node.intention = Intention.SHUTDOWN
            if node.run is None:
                self._rest(node)
        self._stop(nodes, cause)
        if not self._runs:
            self.quiet.set()

    def harden(self, grace: float) -> None:
        """From now on no soft phase lasts longer than `grace` seconds, those under way included."""
        if grace >= self._grace:
            return
        self._grace = grace if grace > 0 else 0.0  # NaN too: kill() never raises
        for node in self.registry.all_installed():
            run = node.run
            if run is None or run.is_over or not run.soft:
                continue
            if self._grace == 0:
                self._cancel(run)
            else:
                when = self.now() + self._grace
                if run.timer is None or run.timer.when > when:
                    self.timers.cancel(run.timer, run)
                    run.timer = self.timers.add(when, self._cancel, run)

    def _break(self, exc: InternalError) -> None:
        """Our own code contradicted itself: nothing that it decides can be trusted any more."""
        self.errors.append(exc)
        self.is_open = False
        self.is_closing = True
        self._tomb.kill()
        self.quiet.set()
        self._cancel_all("stopped by an error of its own")

    def _unseen_error(self, run: Run, *, is_rogue: bool) -> BaseException | None:
        """Return the error of a run that nothing real has left, if it deserves one."""
        if run.late:
            limit = run.manifold.start_timeout
            msg = (
                f'"{run.node.name}" manifold: started() was not called within {limit:g} s; '
                f"it was at {run.place}"
            )
            return StartTimeout(msg)
        if is_rogue:
            msg = (
                f'"{run.node.name}" manifold: raised a Cancelled of a scope that it had left; '
                "never keep a trio.Cancelled to raise it later"
            )
            return LifetimeError(msg)
        return None

    def _remove(self, node: Node, farewell: str) -> None:
        self._move(node, Event.REMOVE)
        self.registry.remove(node, farewell)


_UP = frozenset({State.STARTING, State.STARTED})


def _no_time_yet() -> float:
    return 0.0


def _users(node: Node) -> list[Node]:
    """Return those whose present run uses the output of `node`."""
    return [d for d in node.dependents() if d.run is not None and node in d.run.uses]


def _bare(error: BaseException) -> list[BaseException]:
    """Return `error`; of a group with an interrupt in it, the interrupt alone and then the rest."""
    if isinstance(error, Exception) or not isinstance(error, BaseExceptionGroup):
        return [error]
    interrupt = next(leaf for leaf in leaves(error) if not isinstance(leaf, Exception))
    rest = reduced(error, lambda leaf: leaf is interrupt)
    return [interrupt] if rest is None else [interrupt, rest]


def _cause(node: Node) -> str | None:
    return node.why if node.run is None else node.run.cause
