"""Whoever a worker asks, played by a script that notes what was asked."""

from __future__ import annotations

import inspect
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


@final
class StubFacade(Generic[T]):
    """Plays the role that the Protocol `face` describes: answers by a script, and notes each call.

    ::

        stub = StubFacade(Lives, life=[Life.ALIVE, OSError("gone")], watch_life=[watcher])
        flag = LifeFlag(stub.face, config)
        ...
        assert stub.calls == [("life", "machine-3"), ("watch_life", "machine-3")]

    Each call of a method takes the next of its answers; the last one is for all further calls, and
    a method without answers returns ``None``. An exception is raised. An async function, such as
    `trio.sleep_forever`, is awaited, and what it returns is the answer. A method is async if the
    Protocol's is, and then it is a checkpoint.

    Args:
        face: the Protocol; its methods are what the stub has.
        answers: for each method by its name.

    Raises:
        ValueError: an answer is for a method that `face` has not, or there are none.

    Attributes:
        face: what to give to the worker.
        calls: each call, oldest first: the method's name, and the arguments. Those that were given
            by keyword come last, in a dict.
    """

    def __init__(self, face: Callable[..., T], **answers: Iterable[object]) -> None:
        methods: dict[str, Callable[..., object]] = {
            name: method
            for name, method in inspect.getmembers(face, inspect.isfunction)
            if not name.startswith("_")
        }
        self.calls: list[tuple[object, ...]] = []
        self._name: str = face.__name__
        self._answers: dict[str, deque[object]] = {}
        for name, values in answers.items():
            if name not in methods:
                known = ", ".join(methods) or "none"
                raise ValueError(
                    f"StubFacade: {self._name} has no method {name!r} (it has {known})"
                )
            self._answers[name] = deque(values)
            if not self._answers[name]:
                raise ValueError(f"StubFacade: no answers for {name!r}; leave it out for None")
        played = {
            name: (self._asynchronous if inspect.iscoroutinefunction(method) else self._plain)(name)
            for name, method in methods.items()
        }
        self.face: T = cast("T", type(f"Stub{self._name}", (), {})())
        for name, method in played.items():
            setattr(self.face, name, method)

    def __repr__(self) -> str:
        return f"<StubFacade of {self._name}, {len(self.calls)} calls>"

    def _asynchronous(self, name: str) -> Callable[..., object]:
        async def method(*args: object, **kwargs: object) -> object:
            answer = self._next(name, args, kwargs)
            await trio.lowlevel.checkpoint()
            if inspect.iscoroutinefunction(answer):
                return cast("object", await answer())
            return _returned(answer)

        return method

    def _plain(self, name: str) -> Callable[..., object]:
        def method(*args: object, **kwargs: object) -> object:
            return _returned(self._next(name, args, kwargs))

        return method

    def _next(self, name: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> object:
        self.calls.append((name, *args, kwargs) if kwargs else (name, *args))
        answers = self._answers.get(name)
        if answers is None:
            return None
        return answers.popleft() if len(answers) > 1 else answers[0]


def _returned(answer: object) -> object:
    if isinstance(answer, BaseException):
        raise answer
    return answer
