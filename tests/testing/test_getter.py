"""`StubGetter`: what it gives, and that it refuses as an engine's getter does."""

from collections.abc import Callable
from typing import Any, Protocol

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import (
    Engine,
    Getter,
    LifetimeError,
    Manifold,
    Missing,
    NotDeclared,
    NotOffered,
    TrioworkerError,
    open_worker,
)
from trioworker.testing import Faces, StubGetter

Status = trio.TaskStatus[Any]
Ask = Callable[[Getter], object]


class Database:
    pass


class Clock(Protocol):
    def now(self) -> float: ...


class FakeDatabase:
    """Not a Database by class."""


DATABASE = Database()


# -- what it gives ---------------------------------------------------------------------------------


def test_it_is_a_getter() -> None:
    get: Getter = StubGetter()

    assert not get.is_stopping
    assert repr(get) == "<StubGetter of 'stub'>"


def test_a_required_input_is_given_as_what_it_is() -> None:
    get = StubGetter(required={"db": DATABASE})

    assert get("db", Database) is DATABASE
    assert get("db", object) is DATABASE


def test_it_notes_what_was_asked_for_and_in_which_order() -> None:
    get = StubGetter(required={"db": DATABASE}, optional={"cache": None}, live={"clock": 1})
    get.live("clock", int)
    get("db", Database)
    get.optional("cache", object)
    with pytest.raises(NotDeclared):
        get("metrics", object)

    assert get.asked == ["clock", "db", "cache", "metrics"]


def test_an_input_is_given_as_a_protocol_by_the_tests_word() -> None:
    get = StubGetter(required={"clock": DATABASE})

    clock: object = get("clock", Clock)
    assert clock is DATABASE


def test_an_input_is_given_as_a_generic_or_as_any() -> None:
    get: Any = StubGetter(required={"names": ["a"]})

    assert get("names", list[str]) == ["a"]
    assert get("names", Any) == ["a"]


def test_faces_are_given_by_their_type() -> None:
    fake = FakeDatabase()
    get = StubGetter(required={"db": Faces({Database: fake})}, optional={"x": Faces({int: 3})})

    found: object = get("db", Database)
    assert found is fake
    assert get.optional("x", int) == 3
    assert repr(Faces({int: 3})) == "Faces({<class 'int'>: 3})"


def test_an_optional_input_is_given_or_none() -> None:
    get = StubGetter(optional={"cache": DATABASE, "spare": None})

    assert get.optional("cache", Database) is DATABASE
    assert get.optional("spare", Database) is None


async def test_a_live_view_follows_every_change() -> None:
    get = StubGetter(live={"config": 1})
    view = get.live("config", int)
    seen: list[int | None] = []

    async def read() -> None:
        async for value in aiter(view):  # what it iterates by can be iterated, as any iterator
            seen.append(value)  # noqa: PERF401 - the test reads it while this goes on

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for value in [1, None, 2]:
            get.change("config", value)
            assert view.value == value
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert seen == [1, 1, None, 2]


async def test_a_slow_reader_of_a_live_view_sees_the_latest_value() -> None:
    get = StubGetter(live={"config": 1})
    changes = aiter(get.live("config", int))
    assert await anext(changes) == 1

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            assert await anext(changes) == 3

        await wait_all_tasks_blocked()
        get.change("config", 2)
        get.change("config", 3)


async def test_a_live_view_waits_for_a_value(nursery: trio.Nursery) -> None:
    get = StubGetter(live={"config": None})

    async def change() -> None:
        await wait_all_tasks_blocked()
        get.change("config", 1)
        await wait_all_tasks_blocked()
        get.change("config", 2)

    nursery.start_soon(change)

    assert await get.live("config", int).wait_value(lambda value: value == 2) == 2


async def test_a_test_tells_the_run_to_stop(nursery: trio.Nursery) -> None:
    get = StubGetter()
    stopped: list[str] = []

    async def start() -> None:
        await get.wait_stopping()
        stopped.append("yes")

    nursery.start_soon(start)
    await wait_all_tasks_blocked()
    assert stopped == []

    get.stop()
    await wait_all_tasks_blocked()
    assert stopped == ["yes"]
    assert get.is_stopping
    await get.wait_stopping()


async def test_helpers_run_in_the_tests_nursery() -> None:
    seen: list[int] = []

    async def helper(value: int) -> None:
        seen.append(value)

    async with trio.open_nursery() as nursery:
        StubGetter(nursery=nursery).start_soon(helper, 3)

    assert seen == [3]


async def test_a_start_function_runs_with_it_in_a_bare_nursery(nursery: trio.Nursery) -> None:
    async def start(get: Getter, *, task_status: Status) -> None:
        task_status.started(("ready", get("db", Database)))
        await get.wait_stopping()

    get = StubGetter(required={"db": DATABASE})

    assert await nursery.start(start, get) == ("ready", DATABASE)

    get.stop()


# -- refusals --------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Ask, type[TrioworkerError]]] = {
    "not declared": (lambda get: get("nothing", Database), NotDeclared),
    "not declared optional": (lambda get: get.optional("nothing", Database), NotDeclared),
    "not declared live": (lambda get: get.live("nothing", Database), NotDeclared),
    "optional, asked as required": (lambda get: get("cache", Database), NotDeclared),
    "live, asked as optional": (lambda get: get.optional("config", int), NotDeclared),
    "required, asked as live": (lambda get: get.live("db", Database), NotDeclared),
    "not offered": (lambda get: get("db", int), NotOffered),
    "not offered face": (lambda get: get("faces", int), NotOffered),
    "not offered optional": (lambda get: get.optional("cache", int), NotOffered),
    "not offered live": (lambda get: get.live("config", str).value, NotOffered),
    "not offered generic": (lambda get: get("db", list[int]), NotOffered),
}


def itself(value: object) -> object:
    return value


async def engines_answer(ask: Ask) -> BaseException | None:
    """What a getter of a real engine says to `ask`."""
    answers: list[BaseException] = []

    def offers(output: object, **options: Any) -> Manifold:
        async def start(get: Getter, *, task_status: Status) -> None:
            task_status.started(output)
            await trio.sleep_forever()

        return Manifold(start, **options)

    async def web(get: Getter, *, task_status: Status) -> None:
        try:
            ask(get)
        except TrioworkerError as exc:
            answers.append(exc)
        task_status.started()

    engine = Engine()
    engine.install("db", offers(DATABASE))
    engine.install("faces", offers(DATABASE, outputs={Database: itself, str: str}))
    engine.install("cache", offers(DATABASE))
    engine.install("config", offers(1))
    async with open_worker(engine):
        await engine.wait_settled()
        engine.install(
            "web",
            Manifold(web, inputs=("db", "faces"), optional=("cache",), live=("config",)),
        )
        await engine.wait_settled()
    return answers[0] if answers else None


@pytest.mark.parametrize("ask, kind", REFUSALS.values(), ids=REFUSALS)
async def test_it_refuses_in_the_words_of_an_engine(ask: Ask, kind: type[TrioworkerError]) -> None:
    get = StubGetter(
        required={"db": DATABASE, "faces": Faces({Database: DATABASE, str: "db"})},
        optional={"cache": DATABASE},
        live={"config": 1},
        name="web",
    )

    with pytest.raises(kind) as caught:
        ask(get)

    answer = await engines_answer(ask)
    assert type(answer) is kind
    assert str(caught.value) == str(answer)


def test_a_required_input_that_does_not_run_is_missing() -> None:
    get = StubGetter(required={"db": None})

    with pytest.raises(Missing, match=r'^"stub" needs "db", which is waiting now$'):
        get("db", Database)

    get.change("db", DATABASE)
    assert get("db", Database) is DATABASE


async def test_after_its_end_it_refuses_everything_in_the_words_of_an_engine() -> None:
    escaped: list[Getter] = []

    async def start(get: Getter, *, task_status: Status) -> None:
        escaped.append(get)
        task_status.started()

    engine = Engine()
    engine.install("stub", Manifold(start, live=("config",)))
    async with open_worker(engine):
        await engine.wait_settled()
    get = StubGetter(live={"config": 1})
    view = get.live("config", int)
    get.end()

    asks: list[Ask] = [
        lambda get: get("db", Database),
        lambda get: get.optional("db", Database),
        lambda get: get.live("config", Database),
        lambda get: get.start_soon(trio.sleep_forever),
    ]
    for ask in asks:
        with pytest.raises(LifetimeError) as of_stub:
            ask(get)
        with pytest.raises(LifetimeError) as of_engine:
            ask(escaped[0])
        assert str(of_stub.value) == str(of_engine.value)
    with pytest.raises(LifetimeError, match=r'^"stub": a live view was used after the run'):
        _ = view.value
    assert get.is_stopping


# -- misuse ----------------------------------------------------------------------------------------


def test_a_name_given_in_two_ways_is_refused() -> None:
    with pytest.raises(ValueError, match=r'^"db" is given twice, in inputs and in live: keep one$'):
        StubGetter(required={"db": 1}, live={"db": 1})


def test_helpers_need_a_nursery_and_the_message_says_so() -> None:
    with pytest.raises(LifetimeError, match=r"write StubGetter\(\.\.\., nursery=nursery\)$"):
        StubGetter().start_soon(trio.sleep_forever)


def test_a_change_of_what_is_no_input_is_refused() -> None:
    with pytest.raises(NotDeclared, match=r'"d" is no input of this StubGetter .*: "a", "b"\)$'):
        StubGetter(required={"a": 1}, live={"b": 1}).change("d", 2)
