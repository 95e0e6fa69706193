"""Small things that every floor needs and no library has."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Started(Generic[T]):
    """A `trio.TaskStatus` that anybody can wait on: set once, by ``started()`` or by the end.

    `trio.Nursery.start` would run the child under the caller's cancel scopes until it is ready;
    our children live in their owner's nursery from the first step.
    """

    __slots__ = ("_event", "_is_over", "is_set", "value")

    def __init__(self) -> None:
        self._event: trio.Event | None = None  # made by the first who waits: most have none
        self._is_over = False
        self.is_set = False
        self.value: T | None = None

    def started(self, value: T | None = None) -> None:
        """Say that the task can be used. Raises RuntimeError the second time."""
        if self.is_set:
            msg = "started() was called twice; call it once, when the worker can be used"
            raise RuntimeError(msg)
        self.is_set = True
        self.value = value
        self.give_up()

    def give_up(self) -> None:
        """Wake those who wait: the task ended, with or without ``started()``."""
        self._is_over = True
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        """Wait for ``started()`` or ``give_up()``, whichever comes first. Always a checkpoint."""
        if self._is_over:
            await trio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


def is_cancelled(exc: BaseException) -> bool:
    """Say whether `exc` is Trio's cancellation, and not an error."""
    return isinstance(exc, trio.Cancelled)


def name_of(thing: object) -> str:
    """Return what to call a worker or a function in messages, reports and task names.

    Never raises: who fails to say its name is called by its type's.
    """
    try:
        name = getattr(thing, "name", None)
    except Exception:  # noqa: BLE001 - a property is foreign code
        name = None
    if isinstance(name, str) and name:
        return name
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    name = getattr(thing, "__qualname__", None)
    return name if isinstance(name, str) else type(thing).__qualname__


def check_seconds(field: str, value: float, *, zero: bool = True, inf: bool = False) -> None:
    """Raise TypeError or ValueError, naming the field, unless `value` is a usable time span.

    Args:
        field: what to call it, such as ``Tomb(grace=...)``.
        value: seconds.
        zero: whether 0 will do.
        inf: whether infinity will do.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        msg = f"{field} must be a number of seconds, not {value!r}"
        raise TypeError(msg)
    if (
        math.isnan(value)
        or value < 0
        or (value == 0 and not zero)
        or (value == math.inf and not inf)
    ):
        wanted = ("at least 0" if zero else "greater than 0") + ("" if inf else " and finite")
        msg = f"{field} must be {wanted}, in seconds, not {value!r}"
        raise ValueError(msg)


def check_reason(name: str, reason: object) -> None:
    """Raise TypeError, showing the right call, unless `reason` can be given to ``kill()``."""
    if reason is not None and not isinstance(reason, BaseException):
        msg = (
            f'"{name}": kill() takes an exception or None, not {reason!r}; '
            "write kill(RuntimeError('why'))"
        )
        raise TypeError(msg)


def check_grace(name: str, grace: object) -> None:
    """Raise TypeError unless `grace` is a number; ``kill()`` takes any, and NaN for none at all."""
    if isinstance(grace, bool) or not isinstance(grace, (int, float)):
        msg = f'"{name}": kill(grace=...) takes a number of seconds, not {grace!r}'
        raise TypeError(msg)


def check_sync(field: str, fn: object) -> None:
    """Raise TypeError, naming the field, unless `fn` can be called and is no async function."""
    if not callable(fn) or inspect.iscoroutinefunction(fn):
        kind = "an async one" if callable(fn) else repr(fn)
        msg = f"{field} must be a plain function, not {kind}"
        raise TypeError(msg)


def check_async(call: str, fn: object) -> None:
    """Raise TypeError, showing the right call, unless `fn` is an async function.

    Args:
        call: how to write it, with ``{}`` where the function goes, such as ``simple_worker({})``.
        fn: what was passed: a function, method, partial, or an object with an async ``__call__``.
    """
    if inspect.iscoroutine(fn):
        fn.close()  # otherwise Python warns that it was never awaited, hiding our message
        right = call.format(f"{fn.__name__}, ...")
        msg = f"expected an async function, got the coroutine {fn.__name__}(...); write {right}"
        raise TypeError(msg)
    if not callable(fn):
        msg = f"expected an async function, got {fn!r}; write {call.format('an_async_function')}"
        raise TypeError(msg)
    inner: Any = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not (inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(inner.__call__)):
        name = name_of(fn)
        hint = call.format(name if name.isidentifier() else "an_async_function")
        msg = f"{name} is not async: define it with 'async def', then {hint}"
        raise TypeError(msg)


def settle_names(module: str, namespace: Mapping[str, object]) -> None:
    """Make every class and function of `namespace` say that it lives in `module`.

    So tracebacks, pickles and docs show ``trioworker.Tomb``, the path that users import.
    """
    for name in namespace["__all__"]:  # type: ignore[attr-defined]  # __all__ is a list of names
        thing = namespace[name]
        if getattr(thing, "__module__", "").startswith("trioworker."):
            _settle(module, thing)


def _settle(module: str, thing: Any) -> None:
    thing.__module__ = module
    if isinstance(thing, type):
        for member in vars(thing).values():
            call: Callable[..., object] | object = getattr(member, "__func__", member)
            if inspect.isfunction(call) and call.__module__.startswith("trioworker."):
                call.__module__ = module
