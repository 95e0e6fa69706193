"""What a manifold is: how to start a worker, what it needs, and what it offers.

A manifold is a frozen description. It starts nothing and may be installed in many engines, under
many names. What `Manifold.start` gets is a `Getter`, its one view of the rest of the program, and a
``task_status`` to say that it is ready: exactly what ``nursery.start()`` gives, so that any Trio
service function is a manifold by one lambda.

Inputs are **roles**, the names that the start function uses. ``bind()`` gives roles to manifolds of
other names; an unbound role means the manifold of that name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, final, get_origin, overload

import attrs
import trio

from .._errors import NotDeclared
from .._restart import RestartPolicy
from .._util import check_async, check_seconds, check_sync, name_of
from .._worker import Worker

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class LiveView(Protocol[T_co]):
    """What an input offers now, read without ever restarting the reader.

    Level-triggered: who is slow sees the latest value, not every one in between.
    """

    @property
    def value(self) -> T_co | None:
        """The input's output, or ``None`` while the input is not started."""
        ...

    async def wait_value(self, predicate: Callable[[T_co | None], bool], /) -> T_co | None:
        """Wait until `predicate` holds of the value, and return it. A checkpoint."""
        ...

    def __aiter__(self) -> AsyncIterator[T_co | None]:
        """Iterate over the values: the present one first, then each change, for ever."""
        ...


class Getter(Protocol):
    """What a start function may see of the program. Good for as long as its run.

    Each refusal names the asking manifold and shows the way:

    - `NotDeclared`: the name is not declared in that way; a bug, hence an error and not a wait;
    - `Missing`: it is declared and not running now; let it pass, and we wait for a change;
    - `NotOffered`: the input does not offer that type; the message lists the types that it does;
    - `LifetimeError`: the run is over.
    """

    # Twice each: mypy takes no Protocol for a type[T] (its rule "type-abstract"), but for a
    # Callable[..., T]; and that alone would make a plain `list` a list of nothing.

    @overload
    def __call__(self, name: str, type_: type[T], /) -> T: ...
    @overload
    def __call__(self, name: str, type_: Callable[..., T], /) -> T: ...
    def __call__(self, name: str, type_: Any, /) -> Any:
        """Return what the required input `name` offers as `type_`."""
        ...

    @overload
    def optional(self, name: str, type_: type[T], /) -> T | None: ...
    @overload
    def optional(self, name: str, type_: Callable[..., T], /) -> T | None: ...
    def optional(self, name: str, type_: Any, /) -> Any:
        """Return what the optional input `name` offers as `type_`; ``None`` if it does not run."""
        ...

    @overload
    def live(self, name: str, type_: type[T], /) -> LiveView[T]: ...
    @overload
    def live(self, name: str, type_: Callable[..., T], /) -> LiveView[T]: ...
    def live(self, name: str, type_: Any, /) -> Any:
        """Return a view of what the live input `name` offers as `type_`, now and later."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to stop, those that used it having ended."""
        ...

    async def wait_stopping(self) -> None:
        """Wait until the run is asked to stop: with grace, before it is cancelled. A checkpoint."""
        ...

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], /, *args: Any, name: object = None
    ) -> None:
        """Run ``async_fn(*args)`` as a helper, in the manifold's own nursery.

        Its errors are the manifold's. It is cancelled with the run, and the run ends after it.
        """
        ...


StartFunction = Callable[..., Awaitable[object]]
"""``async def start(get: Getter, *, task_status: trio.TaskStatus[Output]) -> None``."""


class Options(TypedDict, total=False):
    """The keyword arguments of `Manifold` that its other constructors pass on."""

    inputs: Iterable[str]
    optional: Iterable[str]
    live: Iterable[str]
    outputs: Mapping[type, Callable[[Any], object]]
    filter: Callable[[Exception], BaseException | None] | None
    grace: float
    start_timeout: float | None
    stop_timeout: float | None
    restart: RestartPolicy | None
    ask: Callable[[Any], object] | None


def _names(field: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        msg = f'{field} is a tuple of names: write ("{value}",), not "{value}"'
        raise TypeError(msg)
    if not isinstance(value, Iterable):
        msg = f"{field} must be names, not {value!r}"
        raise TypeError(msg)
    return tuple(value)


# One converter for each of the three: a message names the field.
def _inputs(value: Any) -> tuple[str, ...]:
    return _names("inputs", value)


def _optional(value: Any) -> tuple[str, ...]:
    return _names("optional", value)


def _live(value: Any) -> tuple[str, ...]:
    return _names("live", value)


def _faces(value: Any) -> Mapping[type, Callable[[Any], object]]:
    if not isinstance(value, Mapping):
        msg = f"outputs maps each type to a function of the started value, not {value!r}"
        raise TypeError(msg)
    return MappingProxyType(dict(value))


@final
@attrs.frozen(eq=False)
class Manifold:
    """How to start a worker, what it needs, what it offers.

    What each field means is told in the reference, under "The engine".

    Raises:
        TypeError, ValueError: a field is not usable; the message names the field and the way out.
    """

    start: StartFunction
    """The start function. ``task_status.started(value)`` means ready, and `value` is the output;
    it then runs until it returns, fails or is cancelled."""
    inputs: tuple[str, ...] = attrs.field(default=(), converter=_inputs, kw_only=True)
    """Required: not started until all of these are started, stopped before any of them is."""
    optional: tuple[str, ...] = attrs.field(default=(), converter=_optional, kw_only=True)
    """May be missing; coming and going restarts us."""
    live: tuple[str, ...] = attrs.field(default=(), converter=_live, kw_only=True)
    """Never restarts us; read through a `LiveView`."""
    outputs: Mapping[type, Callable[[Any], object]] = attrs.field(
        factory=dict, converter=_faces, kw_only=True
    )
    """How to hand out narrower faces of the started value, by type. Empty: the value itself."""
    filter: Callable[[Exception], BaseException | None] | None = attrs.field(
        default=None, kw_only=True
    )
    """Translate what ended a run: return the same exception, another (a verdict, say), or ``None``
    for "finished without error". Sees every end that is an ``Exception``; before the engine's."""
    ask: Callable[[Any], object] | None = attrs.field(default=None, kw_only=True)
    """``ask(value)``, sync, asks a started run to stop by itself."""
    grace: float = attrs.field(default=0.0, kw_only=True)
    """Seconds between asking and cancelling. More than 0 needs `ask`. A run that is not ready yet
    has nothing to finish, and is cancelled at once."""
    start_timeout: float | None = attrs.field(default=None, kw_only=True)
    """Seconds until ``started()`` must have been called; ``None`` for ever."""
    stop_timeout: float | None = attrs.field(default=10.0, kw_only=True)
    """Seconds after the cancellation until the run counts as stuck; ``None`` for never."""
    restart: RestartPolicy | None = attrs.field(default=None, kw_only=True)
    """Replaces the engine's policy."""
    bindings: Mapping[str, str] = attrs.field(
        default=MappingProxyType({}), kw_only=True, repr=False
    )
    """Role to manifold, where they differ; made by `bind`."""

    def __attrs_post_init__(self) -> None:
        _check_start(self.start)
        _check_roles(self)
        _check_outputs(self.outputs)
        for field in ("filter", "ask"):
            if (value := getattr(self, field)) is not None:
                check_sync(field, value)
        check_seconds("grace", self.grace, inf=True)
        if self.grace > 0 and self.ask is None:
            msg = (
                f"grace={self.grace} needs ask, a function that asks the started value to stop; "
                "ask=lambda value: None, if the start function watches get.wait_stopping()"
            )
            raise ValueError(msg)
        if self.start_timeout is not None:
            check_seconds("start_timeout", self.start_timeout, zero=False, inf=True)
        if self.stop_timeout is not None:
            check_seconds("stop_timeout", self.stop_timeout, inf=True)
        _check_policy(self.restart)

    @overload
    @classmethod
    def from_start(cls, start: StartFunction, /, **options: Unpack[Options]) -> Manifold: ...
    @overload
    @classmethod
    def from_start(cls, /, **options: Unpack[Options]) -> Callable[[StartFunction], Manifold]: ...
    @classmethod
    def from_start(
        cls, start: StartFunction | None = None, /, **options: Unpack[Options]
    ) -> Manifold | Callable[[StartFunction], Manifold]:
        """Make a manifold of a start function; without one, a decorator that does.

        ::

            @Manifold.from_start(inputs=("db",))
            async def web(get, *, task_status):
                await trio.serve_tcp(Handler(get("db", Database)), 8080, task_status=task_status)
        """
        if start is None:
            return functools.partial(cls, **options)
        return cls(start, **options)

    @overload
    @classmethod
    def from_context(
        cls,
        open_: Callable[[Getter], AbstractAsyncContextManager[object]],
        /,
        **options: Unpack[Options],
    ) -> Manifold: ...
    @overload
    @classmethod
    def from_context(
        cls, /, **options: Unpack[Options]
    ) -> Callable[[Callable[[Getter], AbstractAsyncContextManager[object]]], Manifold]: ...
    @classmethod
    def from_context(
        cls,
        open_: Callable[[Getter], AbstractAsyncContextManager[object]] | None = None,
        /,
        **options: Unpack[Options],
    ) -> Any:
        """Make a manifold of an async context manager; without one, a decorator that does.

        ``open_(get)`` is entered to start; what it gives is the output; it is left to stop, by
        itself if ``grace`` is more than 0, else (and after the grace) by cancellation.
        """
        if open_ is None:
            return functools.partial(cls.from_context, **options)
        _check_plain(
            "from_context",
            open_,
            "(get) -> an async context manager, as @contextlib.asynccontextmanager makes one",
        )

        async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
            manager = open_(get)
            _check_context(open_, manager)
            async with manager as value:
                task_status.started(value)
                await get.wait_stopping()
                # Without grace the cancellation has come with the wish: it is what leaves.
                await trio.lowlevel.checkpoint_if_cancelled()

        options.setdefault("ask", _leave)
        return cls(_named_like(start, open_), **options)

    @overload
    @classmethod
    def from_worker(
        cls, build: Callable[[Getter], Worker], /, **options: Unpack[Options]
    ) -> Manifold: ...
    @overload
    @classmethod
    def from_worker(
        cls, /, **options: Unpack[Options]
    ) -> Callable[[Callable[[Getter], Worker]], Manifold]: ...
    @classmethod
    def from_worker(
        cls, build: Callable[[Getter], Worker] | None = None, /, **options: Unpack[Options]
    ) -> Any:
        """Make a manifold of a worker; without ``build``, a decorator that does.

        ``build(get)`` makes a new `Worker` for each run. The worker is the output (give `outputs`
        to hand out less), and it is asked to stop by its ``kill()``.
        """
        if build is None:
            return functools.partial(cls.from_worker, **options)
        _check_plain("from_worker", build, "(get) -> a Worker, without async")

        async def start(get: Getter, *, task_status: trio.TaskStatus[Worker]) -> None:
            worker = build(get)
            _check_worker(build, worker)
            await worker.run(task_status=_StartedAs(worker, task_status))

        options.setdefault("ask", _kill)
        return cls(_named_like(start, build), **options)

    def bind(self, roles: Mapping[str, str]) -> Manifold:
        """Return a copy whose `roles` mean the manifolds of other names.

        Raises:
            NotDeclared: a role is not among the inputs; the message lists those that are.
            TypeError: a role is given what is no name.
        """
        declared = (*self.inputs, *self.optional, *self.live)
        for role in roles:
            if role not in declared:
                known = ", ".join(f'"{name}"' for name in declared) or "none"
                msg = f'bind(): "{role}" is not a role of this manifold (its roles: {known})'
                raise NotDeclared(msg)
        names: Mapping[str, object] = roles  # the annotation is the caller's promise
        for role, name in names.items():
            if not isinstance(name, str) or not name:
                msg = f'bind(): "{role}" must be given the name of a manifold, not {name!r}'
                raise TypeError(msg)
        return attrs.evolve(self, bindings=MappingProxyType({**self.bindings, **roles}))

    def bound(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the manifolds that `roles` mean, each once, in order."""
        if not self.bindings:
            return tuple(roles)
        return tuple(dict.fromkeys(self.bindings.get(role, role) for role in roles))


@final
class _StartedAs:
    """A task status that passes on a given value: the output is the worker, not what it says."""

    def __init__(self, value: Worker, status: trio.TaskStatus[Worker]) -> None:
        self._value = value
        self._status = status

    def started(self, value: object = None) -> None:  # noqa: ARG002 - the worker is the output
        self._status.started(self._value)


def _leave(value: object) -> None:
    """Ask a context to be left: nothing to do, it waits for ``get.wait_stopping()``."""


def _kill(worker: Worker) -> None:
    worker.kill()


def _named_like(start: StartFunction, original: Callable[..., object]) -> StartFunction:
    named = functools.update_wrapper(
        start, original, assigned=("__qualname__", "__doc__"), updated=()
    )
    # Who asks whether the start function is async must not be told about the original.
    del named.__wrapped__
    return named


def _check_plain(constructor: str, value: object, shape: str) -> None:
    is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
    if is_async or not callable(value):
        msg = f"Manifold.{constructor}() takes a function {shape}, not {value!r}"
        raise TypeError(msg)


def _check_outputs(outputs: Mapping[type, object]) -> None:
    for face, adapter in outputs.items():
        if not is_type(face):
            msg = f"outputs: {face!r} is no type; write outputs={{Face: function_of_the_value}}"
            raise TypeError(msg)
        if not callable(adapter):
            msg = f"outputs: {face!r} needs a function of the started value, not {adapter!r}"
            raise TypeError(msg)
        check_sync(f"outputs: what makes {face!r}", adapter)


def is_type(face: object) -> bool:
    """Whether `face` can name a type: a class, ``list[int]``, a union, ``Any``."""
    return isinstance(face, type) or face is Any or get_origin(face) is not None


def _check_policy(restart: object) -> None:
    if not isinstance(restart, (RestartPolicy, type(None))):
        msg = f"restart must be a RestartPolicy, not {restart!r}"
        raise TypeError(msg)


def _check_context(open_: object, manager: object) -> None:
    if hasattr(manager, "__aenter__"):
        return
    if inspect.iscoroutine(manager):
        manager.close()  # otherwise Python's warning about it hides our message
    msg = (
        f"{name_of(open_)} returned {manager!r}, which is no async context manager; "
        "decorate it with @contextlib.asynccontextmanager"
    )
    raise TypeError(msg)


def _check_worker(build: object, worker: object) -> None:
    if isinstance(worker, Worker) and not isinstance(worker, type):
        return
    msg = f"{name_of(build)} returned {worker!r}, no Worker: it needs run(), kill() and wait()"
    if inspect.iscoroutine(worker):
        worker.close()  # otherwise Python's warning about it hides our message
        msg = f"{name_of(build)} is async; build(get) must be a plain function"
    raise TypeError(msg)


def _check_start(start: Any) -> None:
    # A lambda or a class may return an awaitable without being async itself; of a plain function
    # we expect that its author forgot the word.
    if not callable(start) or (inspect.isfunction(start) and start.__name__ != "<lambda>"):
        check_async("Manifold({})", start)
    code = getattr(start, "__code__", None)
    if code is None:
        return
    is_bound = inspect.ismethod(start)
    if code.co_argcount <= is_bound and not code.co_flags & inspect.CO_VARARGS:
        msg = f"{name_of(start)} takes no getter: write 'async def start(get, *, task_status)'"
        raise TypeError(msg)
    named = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "task_status" not in named and not code.co_flags & inspect.CO_VARKEYWORDS:
        msg = (
            f"{name_of(start)} takes no task_status: "
            "write 'async def start(get, *, task_status)' and call task_status.started(output)"
        )
        raise TypeError(msg)


def _check_roles(manifold: Manifold) -> None:
    seen: dict[str, str] = {}
    for field in ("inputs", "optional", "live"):
        for role in getattr(manifold, field):
            if not isinstance(role, str) or not role:
                msg = f"{field} must be names, not {role!r}"
                raise TypeError(msg)
            if role in seen:
                msg = f'"{role}" is declared twice, in {seen[role]} and in {field}: keep one'
                raise ValueError(msg)
            seen[role] = field
