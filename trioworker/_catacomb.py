"""A catacomb: a tomb with children, on one nursery.

::

    async with catacomb:                 tomb's scope
        body                             └─ nursery
                                            ├─ body
                                            ├─ child ...

The tomb's cancel scope lies around the nursery, so cancelling the life cancels body and children
together, and leaving the life waits for all of them. The nursery never sees a child's error: a
child's task hands it to the tomb (`Tomb.kill`), which decides what is the reason and what is
suppressed, and then ends quietly. Only ``Cancelled`` travels on, because it is Trio's. So one
failing child cannot cut the others' grace short, which a bare nursery would do.

Dying asks every child (``child.kill()``) at once and cancels all when the catacomb's own grace is
over. A child that comes later is accepted and run all the same, under a cancelled scope: whoever
waits for it gets an answer. That holds until the catacomb is dead. The nursery closes one step
earlier, when the body has left and the last child has ended; who comes in that step gets a nursery
of their own, so that "dying" never means accepted here and refused there.

A catacomb is a tool for building a worker, not a worker: give yours one, and let ``kill()`` and
``wait()`` pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from ._errors import Dying, LifetimeError
from ._groups import pass_on, raise_unchanged, reduced
from ._report import CatacombReport, report_of
from ._tomb import Tomb, TombState
from ._util import Started, is_cancelled, name_of
from ._worker import check_worker

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from ._worker import Worker


@final
class Catacomb:
    """A life that owns other workers: when it ends, they end first; when one fails, it ends.

    ::

        async def run(self, *, task_status=trio.TASK_STATUS_IGNORED):
            async with self._catacomb as catacomb:
                database = Database(...)
                await catacomb.start(database)
                catacomb.add(Pruner(database))
                task_status.started()
                await catacomb.wait_dying()

    The end of the block is the end of the worker: leaving it, also by return, kills the catacomb
    and waits for every child. A body that only owns children ends in ``wait_dying()``.

    Args:
        grace: seconds that body and children have between ``kill()`` and cancellation; it bounds
            the children's own grace. 0 cancels at once, ``math.inf`` never.
        name: what to call it in messages; the name of the task that enters it by default.
    """

    def __init__(self, *, grace: float = 0.0, name: str = "") -> None:
        self._tomb = Tomb(grace=grace, name=name)
        self._manager: Any = None
        self._nursery: trio.Nursery | None = None
        # Accepted and not yet ended, in the order they came. Keyed by the record, not the worker:
        # workers need not be hashable, and one that is added twice must be found out by its tomb.
        self._children: dict[_Child, None] = {}
        self._left = False
        self._asked = False

    @enable_ki_protection
    async def __aenter__(self) -> Self:
        """Begin the life. Not a checkpoint.

        Raises:
            LifetimeError: it was entered before; nothing changes.
        """
        self._tomb.__enter__()
        await self._open()
        return self

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        leaving = exc
        self.kill(exc)
        self._left = True
        while True:
            try:
                # Without the body's error: it would make the nursery cut the children's grace.
                await self._manager.__aexit__(None, None, None)
            except BaseException as err:  # noqa: BLE001 - the tomb decides what leaves
                if leaving is not None or self._children:  # else __exit__() below is given it
                    self._tomb.kill(err)
                leaving = err if leaving is None else leaving
            if not self._children:
                break
            nursery = await self._open()
            for child in list(self._children):
                nursery.start_soon(self._run_child, child, name=name_of(child.worker))
        try:
            swallowed = self._tomb.__exit__(exc_type, leaving, traceback)
            if leaving is not None and leaving is not exc and not swallowed:
                raise_unchanged(leaving)
            return swallowed
        finally:
            del leaving, exc, traceback  # a frame in a traceback must not hold the traceback

    def add(self, worker: Worker) -> None:
        """Accept `worker` and run it from the next step on. Sync, like ``start_soon``.

        From here on it is ours to run, to stop and to reap. An error from it kills the catacomb
        with that error; a clean end is forgotten at once. Anybody may still ``kill()`` it.

        Raises:
            Dying: the catacomb is dying: the worker was accepted, killed, and is run under a
                cancelled scope, so that it ends. Or the catacomb is dead: it was not accepted.
            LifetimeError: the catacomb was not entered yet: the worker was not accepted.
        """
        self._accept(worker, "add")
        if self._tomb.is_dying:
            raise self._tomb.refusal()

    async def start(self, worker: Worker) -> Any:
        """Accept `worker`, wait until it can be used, and return what it passed to ``started()``.

        It runs in the catacomb, never under the caller's scopes: a caller that is cancelled while
        it waits leaves the worker to the catacomb.

        - It ends cleanly before ``started()``: returns ``None``, or raises `Dying` if the catacomb
          has come to an end meanwhile.
        - It fails before ``started()``: that error kills the catacomb and is raised here, the same
          object.
        - The catacomb is dying: waits for the worker's end, then raises its error, else `Dying`.

        Raises:
            Dying: as above, or the catacomb is dead (not accepted).
            LifetimeError: the catacomb was not entered yet (not accepted).
        """
        child = self._accept(worker, "start")
        await child.status.wait()
        if child.status.is_set:
            return child.status.value
        if child.error is not None:
            raise_unchanged(child.error)
        if self._tomb.is_dying:
            raise self._tomb.refusal()
        return None

    @enable_ki_protection
    def kill(self, reason: BaseException | None = None, *, grace: float | None = None) -> None:
        """Ask body and children to end; exactly as `Tomb.kill`. Each child is asked once."""
        self._tomb.kill(reason, grace=grace)
        if not self._asked:
            self._asked = True
            for child in list(self._children):
                self._ask(child)

    @enable_ki_protection
    def supersede(self, reason: BaseException) -> None:
        """Kill with `reason` in the place of the present one. As `Tomb.supersede`."""
        self._tomb.supersede(reason)
        self.kill()

    async def wait(self) -> None:
        """Wait until dead; raise the reason, if any. As `Tomb.wait`."""
        await self._tomb.wait()

    async def wait_dying(self) -> None:
        """Wait until dying or dead. As `Tomb.wait_dying`."""
        await self._tomb.wait_dying()

    def while_alive(self) -> AbstractContextManager[None]:
        """Guard a client's call. As `Tomb.while_alive`."""
        return self._tomb.while_alive()

    def refusal(self) -> Dying:
        """Return the `Dying` that a late caller deserves. As `Tomb.refusal`."""
        return self._tomb.refusal()

    def real_part(self, exc: BaseException) -> BaseException | None:
        """Return what of `exc` can be a reason. As `Tomb.real_part`."""
        return self._tomb.real_part(exc)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._tomb.name

    @property
    def state(self) -> TombState:
        """``alive``, ``dying`` or ``dead``."""
        return self._tomb.state

    @property
    def is_dying(self) -> bool:
        """Whether it is no longer alive."""
        return self._tomb.is_dying

    @property
    def is_dead(self) -> bool:
        """Whether the block was left and every child has ended."""
        return self._tomb.is_dead

    @property
    def reason(self) -> BaseException | None:
        """Why it is dying or dead; ``None`` while alive and after a clean end."""
        return self._tomb.reason

    @property
    def suppressed(self) -> tuple[BaseException, ...]:
        """What else went wrong, children's errors while stopping included; as `Tomb.suppressed`."""
        return self._tomb.suppressed

    def report(self) -> CatacombReport:
        """Return the present state and the children's reports as plain data. Never raises."""
        return CatacombReport(
            tomb=self._tomb.report(),
            children=tuple(report_of(c.worker, name_of(c.worker)) for c in list(self._children)),
        )

    def __repr__(self) -> str:
        return f"<Catacomb {self.name!r} {self.state}, {len(self._children)} children>"

    async def _open(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        nursery: trio.Nursery = await self._manager.__aenter__()
        self._nursery = nursery
        return nursery

    @enable_ki_protection
    def _accept(self, worker: Worker, verb: str) -> _Child:
        if self._nursery is None:
            msg = (
                f'"{self.name}" catacomb: {verb}() before it was entered; '
                f"write 'async with catacomb:' and call {verb}() inside"
            )
            raise LifetimeError(msg)
        if self._tomb.is_dead:
            raise self._tomb.refusal()
        check_worker(f"catacomb.{verb}({{}})", worker)
        child = _Child(worker)
        self._children[child] = None
        # With the last task of a block that was left, the nursery has closed: see __aexit__().
        if not self._left or self._nursery.child_tasks:
            self._nursery.start_soon(self._run_child, child, name=name_of(worker))
        if self._tomb.is_dying:
            self._ask(child)
        return child

    @enable_ki_protection
    async def _run_child(self, child: _Child) -> None:
        try:
            if self._tomb.is_dying:
                # Not every worker remembers a kill() that came before its run(): this ends it.
                # And it is of no use to start()'s caller, so only its end counts.
                with trio.CancelScope() as scope:
                    scope.cancel(reason=f"{self.name} is dying")
                    try:
                        await _live(child.worker, trio.TASK_STATUS_IGNORED)
                    except BaseException as exc:
                        # Seen here: of a group that passes it, the scope makes another one.
                        child.error = reduced(exc, is_cancelled)
                        raise
            else:
                await _live(child.worker, child.status)
        except trio.Cancelled:  # the common end of a child, and nothing real in it
            if not self._tomb.is_dying:
                self.kill()
            raise
        except BaseException as exc:  # noqa: BLE001 - the tomb takes what is real
            if child.error is None:
                child.error = reduced(exc, is_cancelled)
            self.kill(child.error)
            pass_on(exc, is_cancelled)
        finally:
            del self._children[child]
            child.status.give_up()

    def _ask(self, child: _Child) -> None:
        try:
            child.worker.kill()
        except BaseException as exc:  # noqa: BLE001 - foreign code; its error goes where all go
            self._tomb.kill(exc)


class _Child:
    """One accepted worker, from acceptance to its end."""

    __slots__ = ("error", "status", "worker")

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.status: Started[Any] = Started()
        self.error: BaseException | None = None


@disable_ki_protection
async def _live(worker: Worker, status: trio.TaskStatus[Any]) -> None:
    await worker.run(task_status=status)
