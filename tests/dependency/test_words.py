"""What a user reads who is refused, word for word: these sentences are meant to help."""

import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import trio

from trioworker import (
    AlreadyExists,
    CycleError,
    LifetimeError,
    NotDeclared,
    NotFound,
    NotOffered,
    UnknownInput,
    Worker,
    simple_worker,
)
from trioworker.dependency import Engine, EngineConfig, Manifold, Missing
from trioworker.dependency._getter import RunGetter
from trioworker.dependency._manifold import _check_context, _check_worker
from trioworker.dependency._node import Node, Run
from trioworker.dependency._states import State


async def start(get: object, *, task_status: object) -> None:
    """A start function of no interest."""


class NoMetrics:
    def start(self) -> None: ...


def message(call: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the message is what is looked at
        call()
    return str(caught.value)


# -- EngineConfig ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"name": ""}, "EngineConfig(name=...) must be a string that is not empty, not ''"),
        ({"restart": 3}, "EngineConfig(restart=...) must be a RestartPolicy, not 3"),
        (
            {"is_fatal": OSError},
            "EngineConfig(is_fatal=...) must be a function of the error, not <class 'OSError'>",
        ),
        (
            {"on_failed": "stop"},
            'EngineConfig(on_failed=...) must be "report" or "fatal", not \'stop\'',
        ),
        ({"history": "3"}, "EngineConfig(history=...) must be a number of ends to keep, not '3'"),
        ({"history": -1}, "EngineConfig(history=...) must be at least 0, not -1"),
    ],
)
def test_a_config_says_what_each_field_must_be(fields: dict[str, Any], words: str) -> None:
    assert message(lambda: EngineConfig(**fields)) == words


def test_a_config_says_what_metrics_lack() -> None:
    assert message(lambda: EngineConfig(metrics=5)) == (  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "EngineConfig(metrics=...) must be an object with the methods of Metrics, "
        "state, start, ready, end included, not 5"
    )


def test_an_engine_says_what_it_takes() -> None:
    assert message(lambda: Engine(5)) == (  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "Engine() takes an EngineConfig, not 5; write Engine(EngineConfig(...))"
    )


# -- Manifold --------------------------------------------------------------------------------------


def function(value: object) -> object:
    return value


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"inputs": "db"}, 'inputs is a tuple of names: write ("db",), not "db"'),
        ({"optional": "db"}, 'optional is a tuple of names: write ("db",), not "db"'),
        ({"live": "db"}, 'live is a tuple of names: write ("db",), not "db"'),
        ({"inputs": 3}, "inputs must be names, not 3"),
        ({"inputs": [3]}, "inputs must be names, not 3"),
        (
            {"inputs": ["db"], "live": ["db"]},
            '"db" is declared twice, in inputs and in live: keep one',
        ),
        ({"outputs": 3}, "outputs maps each type to a function of the started value, not 3"),
        (
            {"outputs": {3: function}},
            "outputs: 3 is no type; write outputs={Face: function_of_the_value}",
        ),
        (
            {"outputs": {int: 3}},
            "outputs: <class 'int'> needs a function of the started value, not 3",
        ),
        ({"filter": 3}, "filter must be a plain function, not 3"),
        ({"ask": 3}, "ask must be a plain function, not 3"),
        ({"grace": -1}, "grace must be at least 0, in seconds, not -1"),
        (
            {"grace": 5},
            (
                "grace=5 needs ask, a function that asks the started value to stop; "
                "ask=lambda value: None, if the start function watches get.wait_stopping()"
            ),
        ),
        ({"start_timeout": 0}, "start_timeout must be greater than 0, in seconds, not 0"),
        ({"stop_timeout": -1}, "stop_timeout must be at least 0, in seconds, not -1"),
        ({"restart": 3}, "restart must be a RestartPolicy, not 3"),
    ],
)
def test_a_manifold_says_what_each_field_must_be(fields: dict[str, Any], words: str) -> None:
    assert message(lambda: Manifold(start, **fields)) == words


async def no_getter(*, task_status: object) -> None: ...


async def no_status(get: object) -> None: ...


class Made:
    async def no_getter(self, *, task_status: object) -> None: ...

    async def whole(self, get: object, *, task_status: object) -> None: ...


@pytest.mark.parametrize(
    "wrong, words",
    [
        (5, "expected an async function, got 5; write Manifold(an_async_function)"),
        (
            no_getter,
            "no_getter takes no getter: write 'async def start(get, *, task_status)'",
        ),
        (
            Made().no_getter,
            "Made.no_getter takes no getter: write 'async def start(get, *, task_status)'",
        ),
        (
            no_status,
            (
                "no_status takes no task_status: write 'async def start(get, *, task_status)' "
                "and call task_status.started(output)"
            ),
        ),
    ],
)
def test_a_manifold_says_what_a_start_function_is(wrong: Any, words: str) -> None:
    assert message(lambda: Manifold(wrong)) == words
    Manifold(Made().whole)


def test_the_other_constructors_say_what_they_take() -> None:
    manifold: Any = Manifold
    assert message(lambda: manifold.from_context(5)) == (
        "Manifold.from_context() takes a function (get) -> an async context manager, "
        "as @contextlib.asynccontextmanager makes one, not 5"
    )
    assert message(lambda: manifold.from_worker(5)) == (
        "Manifold.from_worker() takes a function (get) -> a Worker, without async, not 5"
    )


def test_what_a_constructors_function_returned_is_shown_with_the_way_out() -> None:
    assert message(lambda: _check_context(start, 5)) == (
        "start returned 5, which is no async context manager; "
        "decorate it with @contextlib.asynccontextmanager"
    )
    assert message(lambda: _check_worker(start, 5)) == (
        "start returned 5, no Worker: it needs run(), kill() and wait()"
    )


@pytest.mark.parametrize("check", [_check_context, _check_worker])
def test_a_coroutine_that_came_by_mistake_is_closed(
    check: Callable[[object, object], None],
) -> None:
    """Otherwise Python says that it was never awaited, after our message."""
    coroutine = start(None, task_status=None)
    message(lambda: check(start, coroutine))

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


@pytest.mark.parametrize(
    "field",
    [
        "inputs",
        "optional",
        "live",
        "outputs",
        "filter",
        "ask",
        "grace",
        "start_timeout",
        "stop_timeout",
        "restart",
        "bindings",
    ],
)
def test_all_but_the_start_function_goes_by_keyword(field: str) -> None:
    parameter = inspect.signature(Manifold).parameters[field]

    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY


def test_a_manifold_shows_what_its_author_wrote() -> None:
    assert "bindings" not in repr(Manifold(start))


def test_a_role_that_is_not_there_is_refused_with_those_that_are() -> None:
    assert message(lambda: Manifold(start).bind({"db": "a"})) == (
        'bind(): "db" is not a role of this manifold (its roles: none)'
    )
    assert message(lambda: Manifold(start, inputs=("x",), live=("y",)).bind({"db": "a"})) == (
        'bind(): "db" is not a role of this manifold (its roles: "x", "y")'
    )


def test_a_made_start_function_has_the_name_and_the_words_of_what_it_was_made_of() -> None:
    @contextlib.asynccontextmanager
    async def opened(get: object) -> AsyncGenerator[int]:
        """Say what it is for."""
        yield 5

    vars(opened)["color"] = "green"  # as some decorators do

    made: Any = Manifold.from_context(opened).start

    assert made.__qualname__ == opened.__qualname__
    assert made.__doc__ == "Say what it is for."
    assert "task_status" in made.__annotations__
    assert vars(made) == {}


async def test_from_worker_gives_the_getter_to_what_makes_the_worker() -> None:
    given: list[object] = []

    def build(get: object) -> Worker:
        given.append(get)
        return simple_worker(trio.sleep_forever)

    engine = Engine()
    engine.install("api", Manifold.from_worker(build))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        engine.kill()

    assert [repr(get) for get in given] == ["<Getter of 'api'>"]


# -- names -----------------------------------------------------------------------------------------


def test_a_name_is_a_string_that_is_not_empty() -> None:
    assert message(lambda: Engine().install("", Manifold(start))) == (
        "\"engine\": a manifold needs a name, a string, not ''"
    )


def test_what_is_no_manifold_is_refused_with_the_right_call() -> None:
    assert message(lambda: Engine().install("db", 5)) == (  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        '"db": expected a Manifold, got 5; write install("db", Manifold(start_function))'
    )


def test_what_is_no_mapping_is_refused() -> None:
    assert message(lambda: Engine().install_all(5)) == (  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        "install_all() takes a mapping from names to manifolds, not 5"
    )


def test_a_name_that_is_taken_is_refused_with_what_to_wait_for() -> None:
    engine = Engine()
    engine.install("db", Manifold(start))
    with pytest.raises(AlreadyExists) as caught:
        engine.install("db", Manifold(start))

    assert str(caught.value) == (
        '"db" is installed already (waiting); a name stays taken until its run has ended: '
        'uninstall("db"), then await wait_state("db", "absent")'
    )


def test_inputs_that_nothing_provides_are_all_named() -> None:
    with pytest.raises(UnknownInput) as caught:
        Engine().install_all({"api": Manifold(start, inputs=("db", "apy"))})

    assert str(caught.value) == (
        'inputs that nothing provides: "api" needs "db"; '
        '"api" needs "apy" (did you mean "api"?). '
        "Install them with the others, or say that they come later: later={...}"
    )


def test_two_that_need_each_other_are_refused_with_the_path() -> None:
    with pytest.raises(CycleError) as caught:
        Engine().install_all(
            {"a": Manifold(start, inputs=("b",)), "b": Manifold(start, inputs=("a",))}
        )

    assert str(caught.value) == (
        "these would wait for each other for ever: a -> b -> a. Make one of the inputs live."
    )


def near(count: int, *more: str) -> str:
    engine = Engine()
    for number in range(count - len(more)):
        engine.install(f"{number:09}", Manifold(start))
    for name in more:
        engine.install(name, Manifold(start))
    with pytest.raises(NotFound) as caught:
        engine.restart("worker")
    return str(caught.value)


def test_at_most_three_near_names_are_proposed() -> None:
    assert near(4, "worker1", "worker2", "worker3", "worker4").count("worker") == 4
    assert near(2, "worker1", "worker2") == (
        'no manifold "worker" is installed in "engine" (did you mean "worker2" or "worker1"?)'
    )


def test_near_names_are_looked_for_among_200_and_no_more() -> None:
    assert near(200, "worker1").endswith('(did you mean "worker1"?)')
    assert not near(201, "worker1").endswith("?)")


def test_two_roles_of_one_manifold_count_by_the_stronger() -> None:
    engine = Engine()
    manifold = Manifold(start, inputs=("db",), optional=("cache",))
    engine.install("api", manifold.bind({"cache": "db"}))

    report = engine.report().manifolds["api"]
    assert (report.inputs, report.optional) == (("db",), ())


def test_a_name_that_is_only_declared_can_be_asked_about() -> None:
    engine = Engine()
    engine.install("api", Manifold(start, inputs=("db",)))

    assert str(engine.explain("db")) == "db is not installed"


# -- getters ---------------------------------------------------------------------------------------


def never_ready(run: Run, value: object) -> None:
    raise AssertionError


def no_helper(*args: object) -> None:
    raise AssertionError


class Asking:
    """A getter of "api", which uses "db" under the name "store", and the two nodes."""

    def __init__(self, field: str = "inputs", value: object = "text") -> None:
        roles: dict[str, Any] = {field: ("store",)}
        manifold = Manifold(start, **roles).bind({"store": "db"})
        self.db = Node("db")
        self.db.state = State.STARTED
        self.db.manifold = Manifold(start)
        self.db.run = Run(self.db, self.db.manifold, 0.0, (), never_ready)
        self.db.run.value = value
        self.api = Node("api")
        self.api.manifold = manifold
        setattr(self.api, {"inputs": "required"}.get(field, field), (self.db,))
        self.run = self.api.run = Run(self.api, manifold, 0.0, (self.db,), never_ready)
        self.get = RunGetter(self.run, no_helper)


@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING])
def test_an_input_that_has_a_run_but_no_output_is_waited_for(state: State) -> None:
    asking = Asking()
    asking.db.state = state
    with pytest.raises(Missing) as caught:
        asking.get("store", str)

    assert str(caught.value) == f'"api" needs "store" (the manifold "db"), which is {state} now'


def test_what_is_not_offered_is_said_with_what_is() -> None:
    words = (
        '"api" asked for "store" (the manifold "db") as int, which it does not offer '
        '(it offers: str). Ask for one of these, or add it to the outputs of "db".'
    )
    assert message(lambda: Asking().get("store", int)) == words
    assert message(lambda: Asking("optional").get.optional("store", int)) == words
    with pytest.raises(NotOffered):
        Asking().get("store", int)


async def test_a_view_says_what_is_not_offered_with_what_is() -> None:
    view = Asking("live").get.live("store", int)
    assert message(lambda: view.value) == (
        '"api" asked for "store" (the manifold "db") as int, which it does not offer '
        '(it offers: str). Ask for one of these, or add it to the outputs of "db".'
    )


def test_a_type_with_parameters_is_checked_by_its_origin() -> None:
    assert Asking(value=[1]).get("store", list[int]) == [1]
    assert message(lambda: Asking().get("store", list[int])) == (
        '"api" asked for "store" (the manifold "db") as list[int], which it does not offer '
        '(it offers: str). Ask for one of these, or add it to the outputs of "db".'
    )


def test_what_is_no_type_is_refused() -> None:
    assert message(lambda: Asking().get("store", len)) == (
        '"api" asked for "db" as <built-in function len>, which is no type: name a class'
    )


def test_what_is_not_declared_is_refused_with_what_is() -> None:
    with pytest.raises(NotDeclared) as caught:
        Asking().get("cache", str)

    assert str(caught.value) == (
        '"api" asked for "cache", which is not in its inputs '
        '(inputs: "store" (the manifold "db")). Add "cache" to inputs.'
    )


@pytest.mark.parametrize(
    "field, words",
    [
        ("inputs", "which is a required input: ask by get('store', ...)"),
        ("optional", "which is an optional input: ask by get.optional('store', ...)"),
        ("live", "which is a live input: ask by get.live('store', ...)"),
    ],
)
def test_what_is_declared_otherwise_is_refused_with_the_right_way(field: str, words: str) -> None:
    get = Asking(field).get
    ask: Callable[[str, type], object] = get if field != "inputs" else get.optional

    assert message(lambda: ask("store", str)) == f'"api" asked for "store", {words}'


async def test_what_is_used_after_its_run_says_what_it_was() -> None:
    asking = Asking("live")
    view = asking.get.live("store", str)
    asking.run.is_over = True
    used: list[tuple[str, Callable[[], object]]] = [
        ("get()", lambda: asking.get("store", str)),
        ("get.start_soon()", lambda: asking.get.start_soon(trio.sleep, 1)),
        ("a live view", lambda: view.value),
    ]
    for what, call in used:
        with pytest.raises(LifetimeError) as caught:
            call()
        assert str(caught.value) == (
            f'"api": {what} was used after the run it belongs to had ended; '
            "each run gets its own, as the first argument of its start function"
        )


def test_a_getter_says_whose_it_is() -> None:
    assert repr(Asking().get) == "<Getter of 'api'>"
