"""What workers of many kinds share: cleaning up after one, and offering a value.

**`CleanupWorker`** is a worker around a worker, with something to do when that has ended: remove a
file, give back a lease, unregister. ``kill()`` is passed on. Dead, for whoever waits, means that
the worker inside has ended *and* the cleaning is done. It is done once, for every end: an error, a
``kill()``, a cancellation from outside, also one that came before the worker could begin. It is
shielded from cancellation, for a limited time. The first error is the worker's; one of the
cleaning is kept beside it, or is the end if there was no other.

**`value_manifold`** offers a thing that the program has made, and does nothing else: so what is no
worker has a place in the graph, and its users are told apart from those who came by it otherwise.

An agent file uses either by naming a factory of the program's own, see `value_manifold`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import trio

from trioworker import Manifold, Reporter, TearDownTimeout, Tomb, Worker
from trioworker._util import check_seconds, check_sync, name_of

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = ["CleanupWorker", "value_manifold"]

W = TypeVar("W", bound=Worker)


@final
class CleanupWorker(Generic[W]):
    """Runs `worker`, and calls `cleanup` once when that has ended, however it has.

    Args:
        worker: what to run; from here on it is ours.
        cleanup: a function, async or not.
        timeout: seconds that an async one may take; then it is cancelled, with `TearDownTimeout`.

    Raises:
        TypeError: `cleanup` is no function, or `timeout` no number.
        ValueError: `timeout` is not positive and finite.

    Attributes:
        worker: the worker inside, whose outputs a manifold hands out.
    """

    def __init__(self, worker: W, cleanup: Callable[[], object], *, timeout: float = 10.0) -> None:
        check_seconds("CleanupWorker(timeout=...)", timeout, zero=False)
        _check_function(cleanup)
        self.name: str = name_of(worker)
        self.worker: W = worker
        self._cleanup = cleanup
        self._timeout = timeout
        # The worker inside is asked, and cancelled only from outside.
        self._tomb = Tomb(name=self.name, grace=float("inf"))

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the worker, then clean up."""
        with self._tomb:
            try:
                await self.worker.run(task_status=task_status)
            except BaseException as error:
                self._tomb.kill(error)  # now, so that an error of the cleaning comes second
                raise
            finally:
                self._tomb.kill()
                await self._clean_up()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask the worker to stop."""
        self._tomb.kill(reason)
        self.worker.kill(reason)

    async def wait(self) -> None:
        """Wait until the worker has ended and the cleaning is done."""
        await self._tomb.wait()

    def report(self) -> object:
        """Return the worker's report, or how its life stands if it has none."""
        inside: object = self.worker
        return inside.report() if isinstance(inside, Reporter) else self._tomb.report()

    def __repr__(self) -> str:
        return f"<CleanupWorker {self.name!r} {self._tomb.state}>"

    async def _clean_up(self) -> None:
        with trio.move_on_after(self._timeout, shield=True) as scope:
            result = self._cleanup()
            if inspect.isawaitable(result):
                await result
        if scope.cancelled_caught:
            raise TearDownTimeout(
                f'"{self.name}": cleanup was cancelled because it took more than {self._timeout} s'
            )


def _check_function(cleanup: object) -> None:
    if not callable(cleanup):
        raise TypeError(f"CleanupWorker(cleanup=...) must be a function, not {cleanup!r}")


def value_manifold(
    make: Callable[[], object],
    *,
    outputs: Mapping[Any, Callable[[Any], object]] = MappingProxyType({}),
) -> Manifold:
    """Return the manifold of a value: what ``make()`` returns, anew at each start.

    ::

        def settings(config: Config) -> Manifold:  # named by `use` in an agent file
            return value_manifold(lambda: Settings(config.path))

    For one thing that is the same after each restart, make it outside: ``lambda: thing``. An error
    of ``make()`` is an error of the start.

    Args:
        make: returns the value.
        outputs: as a manifold's; by default it is offered whole, to whoever names its type.

    Raises:
        TypeError: `make` is no plain function: perhaps it is the value itself.
    """
    check_sync("value_manifold(make)", make)

    async def value(
        get: Getter,  # noqa: ARG001 - it needs nothing
        *,
        task_status: trio.TaskStatus[object],
    ) -> None:
        task_status.started(make())
        await trio.sleep_forever()

    return Manifold(value, outputs=outputs)
