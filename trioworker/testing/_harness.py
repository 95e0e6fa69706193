"""A harness that plays a worker before an engine: the test decides when it starts, fails, returns.

Starts are counted where they happen, in the start function, and *asserted since the last
assertion*: each start is to be accounted for by one ``assert_one_start()``. So a test reads as a
story, and a start too many is found by the next assertion, whichever it is.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, final

import trio

from .. import LifetimeError, Manifold, MisuseError
from .._util import check_seconds
from ._bounds import PATIENCE, at_most, settle
from ._workers import checked_error

if TYPE_CHECKING:
    from .. import Getter


@final
class ManifoldHarness:
    """Plays the worker of one manifold.

    ::

        db = ManifoldHarness()
        engine.install("db", db.manifold())
        await db.assert_one_start()
        db.fail(ConnectionError("gone"))
        await db.assert_one_start()  # it was restarted
        db.finish()
        await db.assert_no_start()  # it returned: it is done

    Args:
        output: what it passes to ``started()``.
        ready: whether it calls ``started()`` by itself; otherwise the test does.
        name: what to call it in messages.

    Attributes:
        output: may be replaced; the next ``started()`` passes it.
        starts: how often it was started.
        ends: how many of these runs have ended, for whatever reason.
    """

    def __init__(
        self, output: object = None, *, ready: bool = True, name: str = "ManifoldHarness"
    ) -> None:
        self.name = name
        self.output = output
        self.starts: int = 0
        self.ends: int = 0
        self._ready = ready
        self._run: _Run | None = None
        self._errors: deque[BaseException] = deque()
        self._asserted = 0
        self._arrival = trio.Event()
        self._misuse: MisuseError | None = None

    def manifold(self, **options: Any) -> Manifold:
        """Return a manifold that starts this harness.

        Args:
            **options: what `Manifold` takes: `inputs`, `optional`, `live`, `filter`, ...
        """
        return Manifold(self._start, **options)

    # -- the worker's part, played by the test ----------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether there is a run now."""
        return self._run is not None

    @property
    def get(self) -> Getter:
        """The getter of the present run.

        Raises:
            LifetimeError: it does not run.
        """
        return self._present("get").get

    def started(self) -> None:
        """Say that the present run is ready, with `output`; for a harness made ``ready=False``.

        Raises:
            LifetimeError: it does not run.
            RuntimeError: this run has said so before.
        """
        self._present("started()").task_status.started(self.output)

    def fail(self, error: BaseException) -> None:
        """Let the present run end with `error`.

        Raises:
            LifetimeError: it does not run, or was told to end before.
            TypeError: `error` is no exception.
        """
        error = checked_error("ManifoldHarness.fail(error)", error)
        self._tell("fail()").error = error

    def finish(self) -> None:
        """Let the present run return.

        Raises:
            LifetimeError: it does not run, or was told to end before.
        """
        self._tell("finish()")

    def fail_next(self, *errors: BaseException) -> None:
        """Let each of the next starts fail with one of `errors`, before ``started()``.

        Raises:
            TypeError: one of them is no exception.
        """
        checked = [checked_error("ManifoldHarness.fail_next(error)", error) for error in errors]
        self._errors.extend(checked)

    # -- what the test asserts --------------------------------------------------------------------

    async def assert_one_start(self, *, within: float = PATIENCE) -> None:
        """Assert that it is started once, and only once, since the last assertion.

        A start may take its time, a restart's delay for one: it is waited for. Then everything may
        settle, and a second start is found.

        Args:
            within: seconds to wait for it, on Trio's clock or the wall's, whichever is over first.

        Raises:
            AssertionError: there was none, or more than one; or some task never blocks.
            MisuseError: it was started while it ran: two manifolds share this harness.
        """
        __tracebackhide__ = True
        check_seconds("assert_one_start(within=...)", within, zero=False)
        with at_most(within):
            while self.starts == self._asserted:
                await self._arrival.wait()
        if self.starts == self._asserted:
            raise AssertionError(
                f'"{self.name}" was not started within {within:g} s ({self._story()})'
            )
        starts = await self._starts_since()
        if starts != 1:
            raise AssertionError(f'"{self.name}" was started {starts} times ({self._story()})')

    async def assert_no_start(self) -> None:
        """Assert that it was not started since the last assertion, nor is about to be.

        Takes no time: it lets everything settle. A start that waits for a delay is not about to be.

        Raises:
            AssertionError: it was started; or some task never blocks.
            MisuseError: it was started while it ran: two manifolds share this harness.
        """
        __tracebackhide__ = True
        starts = await self._starts_since()
        if starts:
            times = "once" if starts == 1 else f"{starts} times"
            raise AssertionError(f'"{self.name}" was started {times} ({self._story()})')

    def __repr__(self) -> str:
        return f"<ManifoldHarness {self.name!r}, {self._story()}>"

    async def _start(self, get: Getter, *, task_status: trio.TaskStatus[Any]) -> None:
        if self._run is not None:
            self._misuse = MisuseError(
                f'"{self.name}" was started while it ran: it plays one manifold, installed once; '
                "make another ManifoldHarness for another"
            )
            raise self._misuse
        self.starts += 1
        self._arrival.set()
        self._arrival = trio.Event()
        run = self._run = _Run(get, task_status)
        try:
            if self._errors:
                raise self._errors.popleft()
            if self._ready:
                self.started()
            await run.told.wait()
            if run.error is not None:
                raise run.error
        finally:
            self._run = None
            self.ends += 1

    def _present(self, what: str) -> _Run:
        if self._run is None:
            raise LifetimeError(
                f'"{self.name}": {what} while it does not run; '
                "first write 'await harness.assert_one_start()'"
            )
        return self._run

    def _tell(self, what: str) -> _Run:
        run = self._present(what)
        if run.told.is_set():
            raise LifetimeError(f'"{self.name}": {what} of a run that was told to end before')
        run.told.set()
        return run

    async def _starts_since(self) -> int:
        __tracebackhide__ = True
        await settle()
        if self._misuse is not None:
            raise self._misuse
        since = self.starts - self._asserted
        self._asserted = self.starts
        return since

    def _story(self) -> str:
        return f"starts: {self.starts}, ends: {self.ends}"


@final
class _Run:
    """One run: what it was given, and what it was told."""

    def __init__(self, get: Getter, task_status: trio.TaskStatus[Any]) -> None:
        self.get = get
        self.task_status = task_status
        self.told = trio.Event()
        self.error: BaseException | None = None
