"""Sync steps over a Trio run, so that a Hypothesis state machine can drive what is async.

The run is a guest (`trio.lowlevel.start_guest_run`): it lives in a queue of callbacks, and goes on
only while we take them out. One task of it, the *server*, does what the steps say. Its round::

    server:  wait_all_tasks_blocked() ──▶ say "settled" ──▶ checkpoint() ──▶ carry out the order
    host:    ... pump ........................▲ stop          pump again with the next order

After it has said "settled" one callback is left in the queue, the server's checkpoint, and the host
leaves it there until it has another order. So Trio never has to wait: it does not come to use the
thread in which a guest run waits for I/O, and a step costs some 100 us.

**Time** is a `trio.testing.MockClock` that only `jump` moves.

**Order** is Trio's own: it shuffles a batch of tasks by a generator that Hypothesis seeds. A
machine that wants to see different orders draws ``st.random_module()`` before its first step; the
same example is then the same run (``test_driver.py`` sees to that).

**Nothing hangs.** A run that gives no sign of life for `PATIENCE` seconds, or that does not settle
within `MOST_TICKS`, fails with its tree of tasks and where each of them stands. A task that
outlives its cancellation fails too, and is then ended by taking all shields away, so that the next
example finds a clean thread.
"""

from __future__ import annotations

import gc
import math
import queue
from collections.abc import Awaitable, Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar, TypeVarTuple

import outcome
import trio
from outcome import Error, Outcome
from trio.testing import MockClock, wait_all_tasks_blocked

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PATIENCE = 20.0
"""Seconds of real time in which a run that has not settled must give a sign of life."""

MOST_TICKS = 20_000
"""How many rounds of Trio's loop one step may cause; a step of ours causes fewer than a hundred."""


class Stuck(Exception):
    """The run does not settle, or a task outlived it; the message shows where its tasks stand."""


class Spawned(Generic[T]):
    """A task that the driver started, under a cancel scope of its own.

    Attributes:
        scope: what surrounds the task's function.
        outcome: what the function returned or raised (`trio.Cancelled` if that is what left it);
            ``None`` while it runs.
    """

    def __init__(self, driver: Driver, name: str) -> None:
        self.scope = trio.CancelScope()
        self.outcome: Outcome[T] | None = None
        self._driver = driver
        self._name = name

    @property
    def done(self) -> bool:
        """Whether the function has ended."""
        return self.outcome is not None

    @property
    def error(self) -> BaseException | None:
        """What the function raised; ``None`` if it runs still or has returned."""
        return self.outcome.error if isinstance(self.outcome, Error) else None

    def cancel(self) -> None:
        """Cancel the task from outside, and let all happen that follows."""
        self._driver.do(self.scope.cancel)

    def __repr__(self) -> str:
        return f"<Spawned {self._name} {self.outcome or 'runs'}>"


class Driver:
    """Sync steps over a Trio run in guest mode, with `MockClock` as time.

    A step returns when everything has happened that follows from it: all tasks are blocked then.
    """

    def __init__(self) -> None:
        self.clock = MockClock()
        self._callbacks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._order: Callable[[], object] | None = None
        self._shield = trio.CancelScope(shield=True)
        self._settled = False
        self._pumping = False
        self._closing = False
        self._nursery: trio.Nursery | None = None
        self._end: Outcome[None] | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._callbacks.put,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            clock=self.clock,
        )
        self._pump()

    # -- steps -------------------------------------------------------------------------------------

    def do(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call ``fn(*args)`` in a task of the run, settle, and return or raise what it did."""
        result: list[Outcome[T]] = []
        self._order = lambda: result.append(outcome.capture(fn, *args))
        self._pump()
        return result.pop().unwrap()

    def settle(self) -> None:
        """Let everything happen that can happen without another step."""
        self.do(_nothing)

    def spawn(
        self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str = ""
    ) -> Spawned[T]:
        """Start ``async_fn(*args)`` as a task of its own, settle, and return its handle."""
        return self.do(lambda: self.spawn_soon(async_fn, *args, name=name))

    def spawn_soon(
        self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts, name: str = ""
    ) -> Spawned[T]:
        """Do as `spawn`, from within a step: the task has its first turn after the step."""
        name = name or getattr(async_fn, "__qualname__", repr(async_fn))
        spawned = Spawned[T](self, name)

        async def task() -> None:
            with spawned.scope:
                # A Cancelled may stay here: our scope ends, or all the run does.
                spawned.outcome = await outcome.acapture(async_fn, *args)

        assert self._nursery is not None
        self._nursery.start_soon(task, name=name)
        return spawned

    def jump(self, seconds: float) -> None:
        """Let time pass, and stop at each deadline on the way, as in real life."""
        end = self.now + seconds
        while (step := self.do(_seconds_to_next_deadline)) <= end - self.now:
            # A step that is rounded away would never get there.
            self.jump_at_once(max(step, math.ulp(self.now)))
        self.jump_at_once(max(end - self.now, 0.0))

    def jump_at_once(self, seconds: float) -> None:
        """Let time pass unnoticed, like a machine that slept: all deadlines come late, together."""
        self.do(self.clock.jump, seconds)

    @property
    def now(self) -> float:
        """What time it is in the run."""
        return self.clock.current_time()

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what is left and end the run. Does nothing if it has ended.

        Raises:
            Stuck: a task outlived its cancellation.
            trio.TrioInternalError: the run crashed.
        """
        if self._end is not None:
            return
        outlived = ""
        if self.do(self._cancel_all).child_tasks:
            outlived = self.tree()
            self.do(self._take_shields_away)
        self._order = self._stop_serving
        self._pump()
        if outlived:
            raise Stuck(f"tasks outlived their cancellation:\n{outlived}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tree(self) -> str:
        """Say which tasks there are, and where each of them stands."""
        root = trio.lowlevel.current_root_task()
        return "" if root is None else "\n".join(_tree(root, ""))

    # -- the run -----------------------------------------------------------------------------------

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            with self._shield:
                await self._serve()

    async def _serve(self) -> None:
        while True:
            await wait_all_tasks_blocked()
            if self._order is None:  # else a step failed half-way, and this is the next
                self._settled = True
                await trio.lowlevel.checkpoint()
            order, self._order = self._order, None
            if order is not None:
                order()
            if self._closing:
                return

    def _cancel_all(self) -> trio.Nursery:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel(reason="the driver is being closed")
        return self._nursery

    def _take_shields_away(self) -> None:
        """End what outlived: all its scopes were cancelled, and only a shield can keep that off."""
        for thing in gc.get_objects():
            if isinstance(thing, trio.CancelScope) and thing.shield and thing is not self._shield:
                thing.shield = False

    def _stop_serving(self) -> None:
        self._closing = True

    def _pump(self) -> None:
        if self._pumping:
            raise RuntimeError("a step inside a step: the run cannot drive itself")
        if self._has_ended():
            raise RuntimeError("the run has ended")
        self._pumping, self._settled = True, False
        try:
            self._take_callbacks()
        finally:
            self._pumping = False
        if self._end is not None:
            self._end.unwrap()  # raises if the run crashed

    def _take_callbacks(self) -> None:
        for _ in range(MOST_TICKS):
            try:
                callback = self._callbacks.get(timeout=PATIENCE)
            except queue.Empty:
                text = f"no sign of life for {PATIENCE:g} s"
                raise Stuck(f"{text}:\n{self.tree()}") from None
            callback()
            if self._settled or self._has_ended():
                return
        raise Stuck(f"the run does not settle within {MOST_TICKS} rounds:\n{self.tree()}")

    def _has_ended(self) -> bool:
        return self._end is not None

    def _done(self, end: Outcome[None]) -> None:
        self._end = end


def _nothing() -> None:
    pass


def _seconds_to_next_deadline() -> float:
    return trio.lowlevel.current_statistics().seconds_to_next_deadline


def _tree(task: trio.lowlevel.Task, indent: str) -> Iterator[str]:
    yield f"{indent}{task.name}"
    for frame, line in task.iter_await_frames():
        yield f"{indent}  | {frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _tree(child, indent + "    ")
