"""What a signal of the operating system does to a program, as the end of a worker.

In an agent file::

    [manifolds.signals]
    use = "trioworker.workers.coordination.simplesignalhandler:source"
    config = { signals = ["SIGHUP", "SIGUSR1"] }

    [manifolds.on-signal]
    use = "trioworker.workers.coordination.simplesignalhandler:manifold"
    inputs = { signals = "signals" }
    config = { ends = { SIGHUP = "bounce" } }

Whoever has ``on-signal`` among its inputs is restarted at each SIGHUP.

**Two halves.** The *source* registers signals with Python, for as long as it lives, and keeps those
that come until somebody takes them. The *watcher* waits for one, asks its handler for an error, and
ends with exactly that; it reads no second one. The engine judges that end like any other: a bounce
starts it again, an error does after a delay, and one that ``is_fatal`` knows stops the engine. The
source lives on meanwhile, so no signal is lost while the watcher is restarted. Killed at the moment
that a signal comes, the watcher takes the signal, or a request to stop would be lost in a bounce.

**"finish" is for ever.** A handler that returns ``None`` ends the watcher without an error, and the
engine runs it again when an input changes, and not before: nobody takes further signals.

**Which signals.** SIGKILL and SIGSTOP cannot be caught, and are refused. ``trioworker run`` and
`trioworker.agent.run_engine` take SIGINT and SIGTERM, and a source of these would take them away
from it. Signals can be registered in the main thread only. Equal signals that come quickly may be
one; what nobody takes is kept up to 64, and then told in the log and dropped. So is what comes in
the last moment of a source: nobody else is killed by it.
"""

from __future__ import annotations

import enum
import logging
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, final, runtime_checkable

import attrs
import trio

from trioworker import Bounce, Manifold, Reporter, Tomb, TombReport, TrioworkerError, Uninstall
from trioworker.backends.signals import SignalInbox

if TYPE_CHECKING:
    from trioworker import Getter

__all__ = [
    "ChannelClosed",
    "Config",
    "End",
    "Handler",
    "SignalSource",
    "SignalSourceReport",
    "SignalWatcher",
    "SignalWatcherReport",
    "Signalled",
    "Signals",
    "SourceConfig",
    "manifold",
    "signal_handler",
    "source",
]

_logger = logging.getLogger(__name__)

Handler = Callable[[signal.Signals], BaseException | None]
"""Says with what error to end because of a signal; ``None``: without."""

_KEPT = 64
_UNCATCHABLE = (signal.SIGKILL, signal.SIGSTOP)


class Signalled(Exception):
    """A signal came. An engine's ``is_fatal`` may know it by its `signal`."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"{number.name} came")
        self.signal = number


class ChannelClosed(TrioworkerError):
    """Nobody will tell of signals any more, though nobody had asked for that."""


@runtime_checkable
class Signals(Protocol):
    """Who tells of signals."""

    @property
    def channel(self) -> trio.MemoryReceiveChannel[signal.Signals]:
        """Where they come from: each signal once, to whoever reads first."""
        ...


@final
class End(enum.StrEnum):
    """What a signal does to the watcher."""

    ERROR = "error"
    """It ends with `Signalled`."""
    BOUNCE = "bounce"
    """It is started again at once, and with it those who depend on it."""
    UNINSTALL = "uninstall"
    """It is removed, and those who depend on it stop."""
    FINISH = "finish"
    """It ends without an error, and takes no further signals."""

    def of(self, number: signal.Signals) -> BaseException | None:
        """Return the error that this is, for the signal `number`."""
        if self is End.FINISH:
            return None
        if self is End.BOUNCE:
            return Bounce(f"{number.name} came")
        if self is End.UNINSTALL:
            return Uninstall(f"{number.name} came")
        return Signalled(number)


def _number(name: str | int) -> signal.Signals:
    """Return the signal of that name."""
    if isinstance(name, str) and name not in signal.Signals.__members__:
        raise ValueError(f"there is no signal {name!r}; names are like 'SIGHUP'")
    number = signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
    if number in _UNCATCHABLE:
        raise ValueError(f"{number.name} cannot be caught")
    return number


def _numbers(names: Iterable[str | int]) -> tuple[signal.Signals, ...]:
    return tuple(dict.fromkeys(map(_number, names)))


def _ends(value: Mapping[str, End]) -> dict[str, End]:
    return dict(value)


def _names(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value)


def _checked(config: Config, attribute: Any, value: Mapping[str, End]) -> None:  # noqa: ARG001 - of attrs
    _numbers(value)


def _some(config: SourceConfig, attribute: Any, value: tuple[str, ...]) -> None:  # noqa: ARG001 - of attrs
    if not value:
        raise ValueError("signals must name at least one")
    _numbers(value)


@final
@attrs.frozen(kw_only=True)
class SourceConfig:
    """Which signals to take.

    Raises:
        ValueError: `signals` is empty, or names one that is not there or cannot be caught.
    """

    signals: tuple[str, ...] = attrs.field(converter=_names, validator=_some)
    """Their names, such as ``"SIGHUP"``."""


@final
@attrs.frozen(kw_only=True)
class Config:
    """What each signal does.

    Raises:
        ValueError: `ends` names a signal that is not there or cannot be caught.
    """

    ends: Mapping[str, End] = attrs.field(factory=dict, converter=_ends, validator=_checked)
    """By the signal's name."""
    default: End = End.ERROR
    """What others do."""


_DEFAULT = Config()


def signal_handler(
    default: BaseException | None, errors: Mapping[signal.Signals, BaseException | None]
) -> Handler:
    """Return a handler: the error that `errors` has for a signal, or else `default`.

    A signal with ``None`` for an error has that, and not the default.

    Raises:
        ValueError: `errors` has a signal that cannot be caught.
    """
    errors = {_number(number): error for number, error in errors.items()}
    return lambda number: errors.get(number, default)


@final
class SignalWatcherReport(NamedTuple):
    """How a watcher stands."""

    tomb: TombReport
    """Its life."""
    signal: str | None
    """Which one ended it."""


@final
class SignalWatcher:
    """Waits for one signal, and ends with the error that `handler` has for it.

    Args:
        signals: where they come from; stays open.
        handler: is asked once.
        name: what to call it in messages.
    """

    def __init__(
        self,
        signals: trio.MemoryReceiveChannel[signal.Signals],
        handler: Handler,
        *,
        name: str = "signal-watcher",
    ) -> None:
        self.name = name
        self._signals = signals
        self._handler = handler
        self._signal: signal.Signals | None = None
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Wait until killed or for the first signal."""
        with self._tomb:
            task_status.started(self)
            self._signal = await self._next()
            error = self._handler(self._signal)
            if error is not None:
                raise error

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def report(self) -> SignalWatcherReport:
        """Return how it stands."""
        name = None if self._signal is None else self._signal.name
        return SignalWatcherReport(self._tomb.report(), name)

    def __repr__(self) -> str:
        return f"<SignalWatcher {self.name!r} {self._tomb.state}>"

    async def _next(self) -> signal.Signals:
        try:
            return await self._signals.receive()
        except trio.EndOfChannel:
            raise ChannelClosed(f'"{self.name}": signal channel closed unexpectedly') from None
        except trio.Cancelled:
            try:
                return self._signals.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                pass
            raise


@final
class SignalSourceReport(NamedTuple):
    """How a source stands."""

    tomb: TombReport
    """Its life."""
    signals: tuple[str, ...]
    """What it takes."""
    came: int
    """How many have come."""
    waiting: int
    """How many nobody has taken yet."""


@final
class SignalSource:
    """Takes signals, and keeps them for whoever reads `channel`.

    Args:
        config: which.
        name: what to call it in messages.

    Attributes:
        channel: where to read them.
    """

    def __init__(self, config: SourceConfig, *, name: str = "signals") -> None:
        self.name = name
        self._config = config
        self._send, receive = trio.open_memory_channel[signal.Signals](_KEPT)
        self.channel: trio.MemoryReceiveChannel[signal.Signals] = receive
        self._came = 0
        self._tomb = Tomb(name=name)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        """Take them until killed. They are registered before it is ready."""
        signals = SignalInbox(*_numbers(self._config.signals))
        with self._tomb, self._send:
            try:
                with signals:
                    task_status.started(self)
                    while True:
                        self._keep(await signals.receive())
            finally:
                for number in signals.take_all():
                    _logger.warning(
                        "%s: %s came in the last moment, and is dropped", self.name, number.name
                    )

    def kill(self, reason: BaseException | None = None) -> None:
        """Ask to stop."""
        self._tomb.kill(reason)

    async def wait(self) -> None:
        """Wait until dead."""
        await self._tomb.wait()

    def report(self) -> SignalSourceReport:
        """Return how it stands."""
        waiting = self.channel.statistics().current_buffer_used
        return SignalSourceReport(self._tomb.report(), self._config.signals, self._came, waiting)

    def __repr__(self) -> str:
        return (
            f"<SignalSource {self.name!r} of {', '.join(self._config.signals)} {self._tomb.state}>"
        )

    def _keep(self, number: signal.Signals) -> None:
        self._came += 1
        try:
            self._send.send_nowait(number)
        except (trio.WouldBlock, trio.BrokenResourceError):
            _logger.warning("%s: %s is dropped: nobody reads", self.name, number.name)


@final
class _SignalsFace:
    """The channel, and no more."""

    def __init__(self, worker: SignalSource) -> None:
        self.channel = worker.channel


@final
class _ReporterFace:
    """All that others may do with a watcher."""

    def __init__(self, worker: SignalWatcher) -> None:
        self.report = worker.report


def source(config: SourceConfig) -> Manifold:
    """Return the manifold of a source. It offers `Signals`.

    Args:
        config: which signals.
    """

    def signals(get: Getter) -> SignalSource:  # noqa: ARG001 - it needs nothing
        return SignalSource(config)

    return Manifold.from_worker(signals, outputs={Signals: _SignalsFace})


def manifold(config: Config = _DEFAULT, *, handler: Handler | None = None) -> Manifold:
    """Return the manifold of a watcher; its one input is ``signals``. It offers `Reporter` alone.

    Args:
        config: what each signal does.
        handler: takes the place of what the config says.
    """

    def watcher(get: Getter) -> SignalWatcher:
        return SignalWatcher(get("signals", Signals).channel, handler or from_config)

    def from_config(number: signal.Signals) -> BaseException | None:
        return config.ends.get(number.name, config.default).of(number)

    return Manifold.from_worker(watcher, inputs=("signals",), outputs={Reporter: _ReporterFace})
