"""What a start function sees of its engine: the three ways to ask, and the three refusals.

A getter belongs to one run and reads the nodes of that run's inputs; it changes nothing. What it
hands out is the started value seen through ``outputs``, the narrower faces that the input's
manifold declares by type.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final, get_origin

import trio

from .._errors import LifetimeError, NotDeclared, NotOffered
from ._manifold import is_type
from ._states import State
from ._verdicts import Missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_util import AsyncValue

    from ._manifold import LiveView, Manifold
    from ._node import Node, Run

T = TypeVar("T")

_HAS_OUTPUT = (State.STARTED, State.DRAINING)


@final
class RunGetter:
    """The `Getter` of one run."""

    __slots__ = ("_run", "_start_soon")

    def __init__(self, run: Run, start_soon: Callable[..., None]) -> None:
        self._run = run
        self._start_soon = start_soon

    def __call__(self, name: str, type_: Callable[..., T], /) -> T:
        """Return what the required input `name` offers as `type_`."""
        node = self._input(name, "inputs")
        if node.run is None or node.state not in _HAS_OUTPUT:
            msg = f'"{self._run.node.name}" needs {_called(name, node)}, which is {node.state} now'
            raise Missing(msg)
        return _face(node.run, type_, self._run.node.name, name)

    def optional(self, name: str, type_: Callable[..., T], /) -> T | None:
        """Return what the optional input `name` offers as `type_`; ``None`` if it does not run."""
        node = self._input(name, "optional")
        # One that came since we began restarts us, and until then would not wait for our end.
        if node.run is None or node.state not in _HAS_OUTPUT or node not in self._run.uses:
            return None
        return _face(node.run, type_, self._run.node.name, name)

    def live(self, name: str, type_: Callable[..., T], /) -> LiveView[T]:
        """Return a view of what the live input `name` offers as `type_`, now and later."""
        node = self._input(name, "live")
        if node.output is None:
            # Here, because importing it is a quarter of what importing us takes.
            from trio_util import AsyncValue  # noqa: PLC0415 - as above

            node.output = AsyncValue(node.run if node.state is State.STARTED else None)
        return _View(node.output, type_, self._run, name)

    @property
    def is_stopping(self) -> bool:
        """Whether the run was asked to stop, those that used it having ended."""
        return self._run.is_over or self._run.node.state is State.STOPPING

    async def wait_stopping(self) -> None:
        """Wait until the run is asked to stop. A checkpoint."""
        if self.is_stopping:
            await trio.lowlevel.checkpoint()
            return
        if self._run.stopping is None:
            self._run.stopping = trio.Event()
        await self._run.stopping.wait()

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], /, *args: Any, name: object = None
    ) -> None:
        """Run a helper in the manifold's own nursery: its errors are the manifold's."""
        _refuse_if_over(self._run, "get.start_soon()")
        self._start_soon(self._run, async_fn, args, name)

    def __repr__(self) -> str:
        return f"<Getter of {self._run.node.name!r}>"

    def _input(self, role: str, field: str) -> Node:
        run = self._run
        _refuse_if_over(run, "get()")
        manifold = run.node.manifold
        if manifold is None or role not in getattr(manifold, field):
            raise _undeclared(run.node.name, manifold, role, field)
        name = manifold.bindings.get(role, role)
        declared = (*run.node.required, *run.node.optional, *run.node.live)
        return next(node for node in declared if node.name == name)


@final
class _View(Generic[T]):
    """A `LiveView`: what the present run of an input offers, if it is started."""

    def __init__(
        self, output: AsyncValue[Run | None], type_: Callable[..., T], reader: Run, role: str
    ) -> None:
        self._output = output
        self._type = type_
        self._reader = reader
        self._role = role

    @property
    def value(self) -> T | None:
        """The input's output, or ``None`` while the input is not started."""
        return self._now()

    async def wait_value(self, predicate: Callable[[T | None], bool], /) -> T | None:
        """Wait until `predicate` holds of the value, and return it. A checkpoint."""
        # In this task, not in the engine's: the predicate is foreign code.
        async for value in self:
            if predicate(value):
                return value
        raise AssertionError  # pragma: no cover - the iteration has no end

    def __aiter__(self) -> AsyncIterator[T | None]:
        return _Changes(self._output, self._now, self._refuse_if_over)

    def _refuse_if_over(self) -> None:
        _refuse_if_over(self._reader, "a live view")

    def _now(self) -> T | None:
        self._refuse_if_over()
        run = self._output.value
        return None if run is None else _face(run, self._type, self._reader.node.name, self._role)


@final
class _Changes(Generic[T]):
    """The changes of a view, the present value first. No generator: nothing needs closing."""

    def __init__(
        self,
        output: AsyncValue[Run | None],
        now: Callable[[], T | None],
        refuse_if_over: Callable[[], None],
    ) -> None:
        self._output = output
        self._now = now
        self._refuse_if_over = refuse_if_over
        self._last: object = self  # nothing that the output ever is

    def __aiter__(self) -> _Changes[T]:
        return self

    async def __anext__(self) -> T | None:
        self._refuse_if_over()
        while True:
            await self._output.wait_value(self._is_new)
            # The latest, not the one that woke us: that one may have ended meanwhile.
            if self._is_new(run := self._output.value):
                self._last = run
                return self._now()

    def _is_new(self, run: Run | None) -> bool:
        return run is not self._last


def _face(run: Run, type_: Callable[..., T], asking: str, role: str) -> T:
    node = run.node
    if not is_type(type_):
        msg = f'"{asking}" asked for "{node.name}" as {type_!r}, which is no type: name a class'
        raise TypeError(msg)
    outputs = {} if node.manifold is None else node.manifold.outputs
    if outputs:
        adapter = outputs.get(cast("type", type_))
        if adapter is not None:
            try:
                return cast("T", adapter(run.value))  # by the manifold's word
            except Exception as exc:
                with suppress(Exception):  # a class may refuse notes; the error counts
                    exc.add_note(f'raised by the outputs of "{node.name}", for {_type_name(type_)}')
                raise
        offered = ", ".join(_type_name(face) for face in outputs)
    else:
        if _is_one(run.value, type_):
            return run.value  # type: ignore[no-any-return]  # checked as far as can be
        offered = _type_name(type(run.value))
    msg = (
        f'"{asking}" asked for {_called(role, node)} as {_type_name(type_)}, which it does not '
        f"offer (it offers: {offered}). Ask for one of these, or add it to the outputs of "
        f'"{node.name}".'
    )
    raise NotOffered(msg)


def _is_one(value: object, type_: object) -> bool:
    origin = get_origin(type_) or type_
    try:
        return isinstance(value, origin)  # type: ignore[arg-type]  # what is no class raises
    except TypeError:
        # Any, or a Protocol that cannot be checked at run time: the caller's word counts.
        return True


def _type_name(type_: object) -> str:
    return type_.__qualname__ if isinstance(type_, type) else repr(type_)


def _called(role: str, node: Node) -> str:
    return _bound(role, node.name)


def _bound(role: str, name: str) -> str:
    return f'"{role}"' if role == name else f'"{role}" (the manifold "{name}")'


def _refuse_if_over(run: Run, what: str) -> None:
    if run.is_over or (run.helpers is not None and run.helpers.is_over):
        msg = (
            f'"{run.node.name}": {what} was used after the run it belongs to had ended; '
            "each run gets its own, as the first argument of its start function"
        )
        raise LifetimeError(msg)


def _undeclared(asking: str, manifold: Manifold | None, role: str, field: str) -> NotDeclared:
    ways = {"inputs": "get({!r}, ...)", "optional": "get.optional({!r}, ...)"}
    ways["live"] = "get.live({!r}, ...)"
    for other, way in ways.items():
        if manifold is not None and role in getattr(manifold, other):
            kind = {"inputs": "a required", "optional": "an optional", "live": "a live"}[other]
            msg = f'"{asking}" asked for "{role}", which is {kind} input: ask by {way.format(role)}'
            return NotDeclared(msg)
    declared = () if manifold is None else getattr(manifold, field)
    names = {} if manifold is None else manifold.bindings
    known = ", ".join(_bound(other, names.get(other, other)) for other in declared) or "none"
    msg = (
        f'"{asking}" asked for "{role}", which is not in its {field} ({field}: {known}). '
        f'Add "{role}" to {field}.'
    )
    return NotDeclared(msg)
