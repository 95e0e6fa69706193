"""A getter without an engine, for unit tests of start functions.

It refuses as an engine's does, in the same words; a test compares the two.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final, get_origin

import trio
from trio_util import AsyncValue

from .. import LifetimeError, Missing, NotDeclared, NotOffered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from .. import LiveView

T = TypeVar("T")

_WAYS = {
    "inputs": ("a required", "get({!r}, ...)"),
    "optional": ("an optional", "get.optional({!r}, ...)"),
    "live": ("a live", "get.live({!r}, ...)"),
}


@final
class Faces:
    """An output that is handed out by type, as a manifold's ``outputs`` do it.

    ::

        StubGetter(required={"db": Faces({Database: FakeDatabase()})})

    Args:
        faces: what to hand out to who asks for that type.
    """

    def __init__(self, faces: Mapping[type, object]) -> None:
        self.faces: Mapping[type, object] = MappingProxyType(dict(faces))

    def __repr__(self) -> str:
        return f"Faces({dict(self.faces)!r})"


@final
class StubGetter:
    """A `Getter` whose inputs the test gives, to call a start function with.

    ::

        get = StubGetter(required={"db": FakeDatabase()}, optional={"cache": None})
        output = await nursery.start(start, get)

    An input is declared by being given. Its value is what the manifold put out, a `Faces` where it
    offers types, or ``None`` if it does not run now. Values without `Faces` are handed out to who
    asks for a class of theirs, or for a Protocol. ``change()`` gives an input another value.

    It refuses as an engine's getter does, with `NotDeclared` (not given, or asked for in the wrong
    way), `Missing` (required, and ``None``), `NotOffered` (not of that type), and `LifetimeError`
    (after ``end()``).

    Args:
        required: the values of the required inputs, by name.
        optional: those of the optional ones.
        live: those of the live ones.
        nursery: where ``start_soon()`` puts helpers; the test's own.
        name: what to call the asking manifold in messages.

    Raises:
        ValueError: a name is given in two ways.

    Attributes:
        asked: the inputs that were asked for, in order; also those that were refused.
    """

    def __init__(
        self,
        *,
        required: Mapping[str, object] = MappingProxyType({}),
        optional: Mapping[str, object] = MappingProxyType({}),
        live: Mapping[str, object] = MappingProxyType({}),
        nursery: trio.Nursery | None = None,
        name: str = "stub",
    ) -> None:
        self.name = name
        self.asked: list[str] = []
        self._inputs: dict[str, dict[str, AsyncValue[_Output | None]]] = {
            field: {name: AsyncValue(_output(value)) for name, value in values.items()}
            for field, values in [("inputs", required), ("optional", optional), ("live", live)]
        }
        self._nursery = nursery
        self._stopping = trio.Event()
        self._is_over = False
        seen: dict[str, str] = {}
        for field, values in self._inputs.items():
            for input_ in values:
                if input_ in seen:
                    msg = f'"{input_}" is given twice, in {seen[input_]} and in {field}: keep one'
                    raise ValueError(msg)
                seen[input_] = field

    # -- a getter ---------------------------------------------------------------------------------

    def __call__(self, name: str, type_: Any, /) -> Any:
        """Return what the required input `name` offers as `type_`."""
        output = self._input(name, "inputs").value
        if output is None:
            raise Missing(f'"{self.name}" needs "{name}", which is waiting now')
        return self._face(name, output, type_)

    def optional(self, name: str, type_: Any, /) -> Any:
        """Return what the optional input `name` offers as `type_`; ``None`` if it does not run."""
        output = self._input(name, "optional").value
        return None if output is None else self._face(name, output, type_)

    def live(self, name: str, type_: Any, /) -> LiveView[Any]:
        """Return a view of what the live input `name` offers as `type_`, now and later."""

        def seen(output: _Output | None) -> object:
            self._refuse_if_over("a live view")
            return None if output is None else self._face(name, output, type_)

        return _View(self._input(name, "live"), seen)

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop()`` or ``end()`` was called."""
        return self._stopping.is_set()

    async def wait_stopping(self) -> None:
        """Wait until ``stop()`` or ``end()`` is called. A checkpoint."""
        await self._stopping.wait()

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], /, *args: Any, name: object = None
    ) -> None:
        """Run ``async_fn(*args)`` as a helper, in the `nursery` that was given.

        Raises:
            LifetimeError: none was given, or the run is over.
        """
        self._refuse_if_over("get.start_soon()")
        if self._nursery is None:
            raise LifetimeError(
                f'"{self.name}": get.start_soon() needs a nursery of the test\'s; '
                "write StubGetter(..., nursery=nursery)"
            )
        self._nursery.start_soon(async_fn, *args, name=name or async_fn)

    # -- the test's side --------------------------------------------------------------------------

    def change(self, name: str, value: object) -> None:
        """Give the input `name` another value, or ``None`` to let it stop; live views see it.

        Raises:
            NotDeclared: no input of that name was given.
        """
        for values in self._inputs.values():
            if name in values:
                values[name].value = _output(value)
                return
        known = _quoted([name for values in self._inputs.values() for name in values])
        raise NotDeclared(
            f'change(): "{name}" is no input of this StubGetter (its inputs: {known})'
        )

    def stop(self) -> None:
        """Ask the run to stop: what `is_stopping` and ``wait_stopping()`` tell."""
        self._stopping.set()

    def end(self) -> None:
        """Let the run be over: from now on the getter refuses everything."""
        self._is_over = True
        self._stopping.set()

    def __repr__(self) -> str:
        return f"<StubGetter of {self.name!r}>"

    def _input(self, name: str, field: str) -> AsyncValue[_Output | None]:
        self.asked.append(name)
        self._refuse_if_over("get()")
        found = self._inputs[field].get(name)
        if found is not None:
            return found
        for other, (kind, way) in _WAYS.items():
            if name in self._inputs[other]:
                raise NotDeclared(
                    f'"{self.name}" asked for "{name}", which is {kind} input: '
                    f"ask by {way.format(name)}"
                )
        raise NotDeclared(
            f'"{self.name}" asked for "{name}", which is not in its {field} '
            f'({field}: {_quoted(self._inputs[field])}). Add "{name}" to {field}.'
        )

    def _face(self, name: str, output: _Output, type_: Callable[..., T]) -> T:
        value = output.value
        if isinstance(value, Faces):
            if type_ in value.faces:
                return cast("T", value.faces[cast("type", type_)])  # by the test's word
            offered = ", ".join(map(_type_name, value.faces))
        else:
            if _is_one(value, type_):
                return value  # type: ignore[return-value]  # checked as far as can be
            offered = _type_name(type(value))
        raise NotOffered(
            f'"{self.name}" asked for "{name}" as {_type_name(type_)}, which it does not offer '
            f"(it offers: {offered}). Ask for one of these, or add it to the outputs of "
            f'"{name}".'
        )

    def _refuse_if_over(self, what: str) -> None:
        if self._is_over:
            raise LifetimeError(
                f'"{self.name}": {what} was used after the run it belongs to had ended; '
                "each run gets its own, as the first argument of its start function"
            )


@final
class _Output:
    """One value of an input. Compared by identity: each ``change()`` is one, as each run is."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def _output(value: object) -> _Output | None:
    return None if value is None else _Output(value)


@final
class _View(Generic[T]):
    """A `LiveView` of one input."""

    def __init__(
        self, output: AsyncValue[_Output | None], seen: Callable[[_Output | None], T | None]
    ) -> None:
        self._output = output
        self._seen = seen

    @property
    def value(self) -> T | None:
        return self._seen(self._output.value)

    async def wait_value(self, predicate: Callable[[T | None], bool], /) -> T | None:
        async for value in self:
            if predicate(value):
                return value
        raise AssertionError  # pragma: no cover - the iteration has no end

    def __aiter__(self) -> AsyncIterator[T | None]:
        return _Changes(self._output, self._seen)


@final
class _Changes(Generic[T]):
    """The changes of a view, the present value first. No generator: nothing needs closing."""

    def __init__(
        self, output: AsyncValue[_Output | None], seen: Callable[[_Output | None], T | None]
    ) -> None:
        self._output = output
        self._seen = seen
        self._last: object = self  # nothing that the output ever is

    def __aiter__(self) -> _Changes[T]:
        return self

    async def __anext__(self) -> T | None:
        await self._output.wait_value(self._is_new)
        self._last = output = self._output.value  # the latest, not the one that woke us
        return self._seen(output)

    def _is_new(self, output: _Output | None) -> bool:
        return output is not self._last


def _is_one(value: object, type_: object) -> bool:
    if type_ is Any:
        return True
    try:
        return isinstance(value, get_origin(type_) or type_)  # type: ignore[arg-type]  # may raise
    except TypeError:
        return True  # a Protocol that cannot be checked at run time: the caller's word counts


def _type_name(type_: object) -> str:
    return type_.__qualname__ if isinstance(type_, type) else repr(type_)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"
