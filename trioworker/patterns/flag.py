"""A flag: a boolean that is constant for the life of its worker.

When the truth changes, the worker ends with `FlagChanged`, which its manifold's filter turns into
`Bounce`: so whoever depends on the flag is stopped, and started again with the new answer. Nobody
has to watch a flag; to have got it is enough.

**Sample, then watch, then look again.** `SampledFlag` reads the value once before it is ready. Then
it watches, and reads at each event. A watcher's first event comes at once, so a change between the
first reading and the beginning of the watch is seen. Compared are the answers, not the values: a
value may change as it likes while the answer stays. Several changes may be one event, and one that
is undone between two readings has not happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, final

import trio

from trioworker import Bounce, LifetimeError, Tomb, TombReport, Watcher, notify_worker

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Flag(Protocol):
    """A boolean that never changes while one has it."""

    def check(self) -> bool:
        """Whether it is so. Always the same answer."""
        ...


class WatchedValue(Protocol[T_co]):
    """Something that can be read, and whose changes can be watched."""

    async def read(self) -> T_co:
        """Return the present value."""
        ...

    async def watch(self) -> Watcher[object]:
        """Return a watcher that nobody runs yet; from then on it is the flag's to run.

        Its first event comes at once, as any watcher's does.
        """
        ...


class FlagChanged(Exception):
    """The flag's answer has become another: ask a new one. No fault."""


@final
class FlagReport(NamedTuple):
    """How a flag stands."""

    tomb: TombReport
    """The life of its worker."""
    answer: bool | None
    """What ``check()`` says; ``None`` before it is ready."""


@final
class SampledFlag(Generic[T]):
    """Whether `predicate` holds of a value; ends when that has changed.

    Ready when the value was read for the first time. Ends with `FlagChanged`; with what reading,
    watching or `predicate` raise; with `trioworker.WatcherClosed` when its watcher stops.

    Args:
        value: what to read and to watch.
        predicate: what to ask of it; not called before there is a value.
        name: what to call it in messages.
    """

    def __init__(
        self, value: WatchedValue[T], predicate: Callable[[T], bool], *, name: str = "flag"
    ) -> None:
        self.name = name
        self._value = value
        self._predicate = predicate
        self._answer: bool | None = None
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Read, be ready, and watch until killed or changed."""
        with self._tomb:
            self._answer = await self._ask()
            task_status.started(self)
            await notify_worker(_Follower(self.name, self._value, self._look_again)).run()

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def check(self) -> bool:
        """Return the answer to the first value; also when dead.

        Raises:
            LifetimeError: it was not ready yet.
        """
        if self._answer is None:
            raise LifetimeError(
                f'"{self.name}": check() before the value was read; wait for started()'
            )
        return self._answer

    def report(self) -> FlagReport:
        """Return how it stands."""
        return FlagReport(self._tomb.report(), self._answer)

    def __repr__(self) -> str:
        answer = "not read yet" if self._answer is None else self._answer
        return f"<flag {self.name!r} {self._tomb.state}, {answer}>"

    async def _ask(self) -> bool:
        return bool(self._predicate(await self._value.read()))

    async def _look_again(self) -> None:
        if await self._ask() != self._answer:
            raise FlagChanged(f'"{self.name}" is {not self._answer} now')


@final
class _Follower:
    """What a flag does about each change, as the handler of a `notify_worker`."""

    def __init__(self, name: str, value: WatchedValue[object], handle: Callable[[], Any]) -> None:
        self.name = name
        self.set_up = value.watch
        self._handle = handle

    async def handle(self) -> None:
        await self._handle()

    async def tear_down(self) -> None:
        """Nothing: the watcher is stopped by who runs it."""


@final
class _FlagFace:
    """All that others may do with a flag, and no more."""

    def __init__(self, flag: Flag) -> None:
        self.check = flag.check


def as_flag(worker: Flag) -> Flag:
    """Return what a manifold offers as `Flag`: ``check()`` alone, without the worker's levers."""
    return _FlagFace(worker)


def bounce_on(*errors: type[Exception]) -> Callable[[Exception], BaseException]:
    """Return a manifold's ``filter`` that turns these `errors` into `Bounce`.

    A group is one of them if all its leaves are; causes and contexts are not looked at. What is
    none of them is returned as it is.
    """

    def filter_(error: Exception) -> BaseException:
        if isinstance(error, ExceptionGroup):
            is_meant = error.split(errors)[1] is None
        else:
            is_meant = isinstance(error, errors)
        return Bounce(str(error)) if is_meant else error

    return filter_
