"""Reacting to changes: a watcher says that something changed, a handler does something about it.

::

    set_up() ──▶ watcher ──changes──▶ handle() ... handle() ──▶ tear_down()

The worker owns the watcher that ``set_up()`` returns: it runs in the worker's catacomb, so neither
outlives the other. ``tear_down()`` comes after every ``set_up()``, also one that failed half-way,
while the worker is dying and before it is dead. It runs shielded, for a limited time; an error from
it is kept beside the one that ended the worker.

What a watcher that is still wanted may not do is stop. It can in two ways, and both are errors:

- Its channel ends. Mostly that is its own failure on the way out (``async with channel:`` closes
  first), and that error tells more than "closed", so we give it a moment to arrive.
- Its run ends and the channel stays open. Nobody would ever hear of it, so the watcher's run is
  followed too, and what it had sent by then is still handled.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar, final, runtime_checkable

import trio

from ._catacomb import Catacomb
from ._errors import TearDownTimeout, WatcherClosed
from ._util import check_async, check_seconds, name_of
from ._worker import Worker

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_LAST_WORDS = 1.0
"""Seconds that a watcher has, after its channel ended, to end with an error of its own."""


@runtime_checkable
class Watcher(Worker, Protocol[T_co]):
    """A worker that tells of changes.

    - The first event comes at once: it stands for the present state.
    - It sends until it is killed; a channel that ends before means that the watcher failed.
    - One listener: who listens owns the watcher, or knows who does.
    """

    @property
    def changes(self) -> trio.MemoryReceiveChannel[T_co]:
        """Where the events come from."""
        ...


class NotifyHandler(Protocol):
    """What `notify_worker` needs: somebody who looks for himself what changed."""

    async def set_up(self) -> Watcher[object]:
        """Return a watcher that nobody runs yet; from then on it is the worker's to run."""
        ...

    async def handle(self) -> None:
        """Bring things in line with the present state. An error ends the worker."""
        ...

    async def tear_down(self) -> None:
        """Clean up; called once after every ``set_up()``, also one that failed or was cancelled."""
        ...


class StringsHandler(Protocol):
    """What `strings_worker` needs: somebody who is told the names of what changed."""

    async def set_up(self) -> Watcher[tuple[str, ...]]:
        """Return a watcher that nobody runs yet; from then on it is the worker's to run."""
        ...

    async def handle(self, change: tuple[str, ...], /) -> None:
        """Deal with one `change`. They come in order, each once. An error ends the worker."""
        ...

    async def tear_down(self) -> None:
        """Clean up; called once after every ``set_up()``, also one that failed or was cancelled."""
        ...


def notify_worker(handler: NotifyHandler, *, tear_down_timeout: float = 10.0) -> Worker:
    """Return a worker that calls ``await handler.handle()`` after every change.

    Changes that come while one is handled are answered by one more call.

    Args:
        handler: what to call; it should not be shared between workers.
        tear_down_timeout: seconds that ``tear_down()`` may take.

    Raises:
        TypeError: `handler` lacks a method, or one of them is not async.
        ValueError: `tear_down_timeout` is not a finite number above 0.
    """
    _check("notify_worker", handler, tear_down_timeout)
    return _WatchWorker(handler, _notify(handler), tear_down_timeout)


def strings_worker(handler: StringsHandler, *, tear_down_timeout: float = 10.0) -> Worker:
    """Return a worker that calls ``await handler.handle(change)`` for every change, in order.

    Args and Raises as for `notify_worker`.
    """
    _check("strings_worker", handler, tear_down_timeout)
    return _WatchWorker(handler, _strings(handler), tear_down_timeout)


@final
class _WatchWorker:
    """The life of a handler and its watcher; `answer` is what differs between the two kinds."""

    def __init__(
        self,
        handler: NotifyHandler | StringsHandler,
        answer: Callable[[_Minded[Any]], Awaitable[object]],
        tear_down_timeout: float,
    ) -> None:
        self.name = name_of(handler)
        self._handler = handler
        self._answer = answer
        self._tear_down_timeout = tear_down_timeout
        self._catacomb = Catacomb(name=self.name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        async with self._catacomb as catacomb:
            await trio.lowlevel.checkpoint_if_cancelled()  # or there would be something to undo
            try:
                watcher = await self._set_up()
                await catacomb.start(watcher)
                task_status.started()
                while True:
                    await self._next(watcher)
            except BaseException as exc:
                catacomb.kill(exc)  # now, so that what tear_down() raises comes second
                raise
            finally:
                await self._tear_down()

    def kill(self, reason: BaseException | None = None) -> None:
        self._catacomb.kill(reason)

    async def wait(self) -> None:
        await self._catacomb.wait()

    def __repr__(self) -> str:
        return f"<worker {self.name!r} {self._catacomb.state}>"

    async def _set_up(self) -> _Minded[Any]:
        watcher = await self._handler.set_up()
        if isinstance(watcher, type) or not isinstance(watcher, Watcher):
            raise TypeError(
                f'"{self.name}": set_up() returned {watcher!r}, which is no watcher; '
                "return a worker that has a receive channel called changes"
            )
        return _Minded(watcher)

    async def _next(self, watcher: _Minded[Any]) -> None:
        try:
            await self._answer(watcher)
        except _Over:
            await watcher.last_words()
            raise WatcherClosed(
                f'"{self.name}": its watcher "{watcher.name}" stopped without being asked to'
            ) from None

    async def _tear_down(self) -> None:
        with trio.move_on_after(self._tear_down_timeout, shield=True) as scope:
            await self._handler.tear_down()
        if scope.cancelled_caught:
            raise TearDownTimeout(
                f'"{self.name}": tear_down() was cancelled because it took more than '
                f"{self._tear_down_timeout} s"
            )


class _Over(Exception):
    """Nothing more will come from the watcher."""


@final
class _Minded(Generic[T]):
    """A watcher as its listener's child: nobody listens to it for ever once it has ended."""

    def __init__(self, watcher: Watcher[T]) -> None:
        self.name = name_of(watcher)
        self._watcher = watcher
        self._ended = trio.Event()
        # Around the listener's wait for an event, while there is one.
        self._listening: trio.CancelScope | None = None

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            await self._watcher.run(task_status=task_status)
        finally:
            self._ended.set()
            if self._listening is not None:
                self._listening.cancel(reason=f"{self.name} ended")

    def kill(self, reason: BaseException | None = None) -> None:
        self._watcher.kill(reason)

    async def wait(self) -> None:  # pragma: no cover - a Worker has it; a catacomb does not ask
        await self._watcher.wait()

    async def receive(self) -> T:
        """Return the next event; raise `_Over` when there will be none. A checkpoint."""
        try:
            with trio.CancelScope() as self._listening:
                if self._ended.is_set():
                    self._listening.cancel(reason=f"{self.name} ended")
                return await self._watcher.changes.receive()
        except trio.EndOfChannel:
            raise _Over from None
        finally:
            self._listening = None
        return self.receive_nowait()  # it ended, but may have sent something before

    def receive_nowait(self) -> T:
        """Return an event that has come already; raise `_Over` when there is none."""
        try:
            return self._watcher.changes.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            raise _Over from None

    async def last_words(self) -> None:
        """Wait a moment for the watcher's end: an error in it kills the catacomb, and so us."""
        with trio.move_on_after(_LAST_WORDS):
            await self._ended.wait()
        await trio.lowlevel.checkpoint()


def _notify(handler: NotifyHandler) -> Callable[[_Minded[object]], Awaitable[object]]:
    async def answer(watcher: _Minded[object]) -> None:
        await watcher.receive()
        try:
            while True:
                watcher.receive_nowait()
        except _Over:
            pass  # if the channel has ended, the next receive() says so
        await handler.handle()

    return answer


def _strings(
    handler: StringsHandler,
) -> Callable[[_Minded[tuple[str, ...]]], Awaitable[object]]:
    async def answer(watcher: _Minded[tuple[str, ...]]) -> None:
        await handler.handle(await watcher.receive())

    return answer


def _check(function: str, handler: object, tear_down_timeout: float) -> None:
    if inspect.iscoroutine(handler):
        check_async(function, handler)  # closes it and says so
    for method in ("set_up", "handle", "tear_down"):
        found = getattr(handler, method, None)
        if found is None or isinstance(handler, type):
            what = "the class" if isinstance(handler, type) else "which lacks"
            lacks = "; pass an instance of it" if isinstance(handler, type) else f" {method}()"
            raise TypeError(
                f"{function}() takes a handler, which has async set_up(), handle() and "
                f"tear_down(), not {name_of(handler)!r}, {what}{lacks}"
            )
        check_async(f"{function}(handler)", found)
    check_seconds(f"{function}(tear_down_timeout=...)", tear_down_timeout, zero=False)
