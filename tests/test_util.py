"""The small things: names, spans of time, what can be killed with, what can be awaited."""

import functools
import math

import pytest
import trio
import trio.testing

from tests.doubles import Nameless
from trioworker._util import (
    Started,
    check_async,
    check_reason,
    check_seconds,
    name_of,
    settle_names,
)


async def an_async_function() -> None: ...


def a_sync_function() -> None: ...


class AsyncCall:
    async def __call__(self) -> None: ...


class Named:
    def __init__(self, name: object) -> None:
        self.name = name


def test_name_of_prefers_a_name_attribute() -> None:
    assert name_of(Named("pruner")) == "pruner"


@pytest.mark.parametrize("name", ["", 7, None])
def test_name_of_ignores_a_name_that_is_no_name(name: object) -> None:
    assert name_of(Named(name)) == "Named"


def test_name_of_a_function_is_its_qualified_name() -> None:
    assert name_of(an_async_function) == "an_async_function"


def test_name_of_a_partial_is_that_of_its_function() -> None:
    assert name_of(functools.partial(functools.partial(an_async_function))) == "an_async_function"


def test_name_of_never_fails() -> None:
    assert name_of(Nameless()) == "Nameless"


@pytest.mark.parametrize("value", [0, 0.5, 10])
def test_check_seconds_takes_spans(value: float) -> None:
    check_seconds("x", value)  # does not raise


def test_check_seconds_takes_infinity_only_where_it_will_do() -> None:
    check_seconds("x", math.inf, inf=True)
    with pytest.raises(ValueError, match="x must be at least 0 and finite, in seconds, not inf"):
        check_seconds("x", math.inf)


def test_check_seconds_takes_zero_only_where_it_will_do() -> None:
    with pytest.raises(ValueError, match="x must be greater than 0 and finite"):
        check_seconds("x", 0, zero=False)


@pytest.mark.parametrize("value", [-1, -0.1, math.nan, -math.inf])
def test_check_seconds_refuses_what_is_no_span(value: float) -> None:
    with pytest.raises(ValueError, match="x must be at least 0, in seconds"):
        check_seconds("x", value, inf=True)


@pytest.mark.parametrize("value", ["1", None, True, 1j])
def test_check_seconds_refuses_what_is_no_number(value: float) -> None:
    with pytest.raises(TypeError, match="x must be a number of seconds"):
        check_seconds("x", value)


@pytest.mark.parametrize("reason", [None, ValueError(), KeyboardInterrupt()])
def test_check_reason_takes_exceptions_and_none(reason: object) -> None:
    check_reason("w", reason)  # does not raise


@pytest.mark.parametrize("reason", ["why", ValueError, 0, False])
def test_check_reason_refuses_the_rest_and_shows_the_right_call(reason: object) -> None:
    with pytest.raises(TypeError, match=r'"w": .*write kill\(RuntimeError'):
        check_reason("w", reason)


@pytest.mark.parametrize(
    "fn", [an_async_function, functools.partial(an_async_function), AsyncCall(), AsyncCall.__call__]
)
def test_check_async_takes_all_that_is_async(fn: object) -> None:
    check_async("f({})", fn)  # does not raise


def test_check_async_explains_a_call_too_many() -> None:
    """And the coroutine gives no warning: warnings are errors here."""
    with pytest.raises(TypeError, match=r"write f\(an_async_function, \.\.\.\)"):
        check_async("f({})", an_async_function())


def test_check_async_explains_a_sync_function() -> None:
    with pytest.raises(TypeError, match="a_sync_function is not async: define it with 'async def'"):
        check_async("f({})", a_sync_function)


@pytest.mark.parametrize("fn", [None, 3, "an_async_function"])
def test_check_async_explains_what_cannot_be_called(fn: object) -> None:
    with pytest.raises(TypeError, match="expected an async function, got"):
        check_async("f({})", fn)


async def test_started_hands_on_the_value() -> None:
    status = Started[int]()
    status.started(5)

    with trio.testing.assert_checkpoints():
        await status.wait()

    assert (status.is_set, status.value) == (True, 5)


async def test_started_twice_is_an_error_and_keeps_the_first() -> None:
    status = Started[int]()
    status.started(5)

    with pytest.raises(RuntimeError, match="called twice"):
        status.started(6)

    assert status.value == 5


async def test_giving_up_wakes_without_a_value() -> None:
    status = Started[int]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(status.wait)
        await trio.testing.wait_all_tasks_blocked()
        status.give_up()

    assert (status.is_set, status.value) == (False, None)


def test_settled_names_say_where_users_import_them_from() -> None:
    class Thing:
        def method(self) -> None: ...

        @classmethod
        def made(cls) -> None: ...

    class Foreign: ...

    Thing.__module__ = Thing.method.__module__ = "trioworker._thing"
    vars(Thing)["made"].__func__.__module__ = "trioworker._thing"
    namespace = {"__all__": ["Foreign", "Thing", "number"]}

    settle_names("trioworker", {**namespace, "Thing": Thing, "Foreign": Foreign, "number": 1})

    assert Thing.__module__ == Thing.method.__module__ == Thing.made.__module__ == "trioworker"
    assert Foreign.__module__ == __name__


async def test_several_may_wait_for_one_start() -> None:
    status = Started[int]()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await status.wait()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        status.started(7)
    assert sorted(woken) == [1, 2]
