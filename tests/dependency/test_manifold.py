"""Manifold: each field broken on its own, the three other ways to make one, and roles."""

import contextlib
import functools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.doubles import Lives, started_with
from trioworker import NotDeclared, RestartPolicy
from trioworker.dependency import Engine, EngineConfig, Getter, Manifold

from .harness import Program

Status = trio.TaskStatus[Any]


async def start(get: Getter, *, task_status: Status) -> None:
    task_status.started("up")
    await trio.sleep_forever()


def sync_start(get: Getter, *, task_status: Status) -> None:
    """What its author forgot to make async."""


async def fail(why: str) -> None:
    raise OSError(why)


async def no_status(get: Getter) -> None:
    """What nursery.start_soon() would take."""


# -- fields ----


def test_the_documented_defaults() -> None:
    manifold = Manifold(start)

    assert manifold.inputs == manifold.optional == manifold.live == ()
    assert dict(manifold.outputs) == {}
    for field in ("filter", "ask", "start_timeout", "restart"):
        assert getattr(manifold, field) is None
    assert manifold.grace == 0.0
    assert manifold.stop_timeout == 10.0
    assert dict(manifold.bindings) == {}


@pytest.mark.parametrize(
    "fields, error, says",
    [
        ({"inputs": "db"}, TypeError, ["inputs", '("db",)']),
        ({"optional": "db"}, TypeError, ["optional", '("db",)']),
        ({"live": "db"}, TypeError, ["live", '("db",)']),
        ({"inputs": None}, TypeError, ["inputs", "None", "names"]),
        ({"optional": 5}, TypeError, ["optional", "5", "names"]),
        ({"live": True}, TypeError, ["live", "True", "names"]),
        ({"inputs": [5]}, TypeError, ["inputs", "5", "names"]),
        ({"optional": [""]}, TypeError, ["optional", "''", "names"]),
        ({"live": [None]}, TypeError, ["live", "None", "names"]),
        ({"inputs": ["db", "db"]}, ValueError, ["db", "twice", "inputs", "keep one"]),
        ({"inputs": ["db"], "live": ["db"]}, ValueError, ["db", "inputs", "live", "keep one"]),
        (
            {"optional": ["db"], "live": ["db"]},
            ValueError,
            ["db", "optional", "live", "keep one"],
        ),
        ({"outputs": {str: 5}}, TypeError, ["outputs", "str", "5", "function"]),
        ({"outputs": None}, TypeError, ["outputs", "None", "type"]),
        ({"outputs": [str]}, TypeError, ["outputs", "type"]),
        ({"outputs": str}, TypeError, ["outputs", "type"]),
        ({"filter": 5}, TypeError, ["filter", "5", "function"]),
        ({"filter": KeyError("k")}, TypeError, ["filter", "KeyError", "function"]),
        ({"ask": "kill"}, TypeError, ["ask", "'kill'", "function"]),
        ({"filter": trio.sleep}, TypeError, ["filter", "plain function", "async"]),
        ({"ask": trio.sleep}, TypeError, ["ask", "plain function", "async"]),
        ({"outputs": {str: trio.sleep}}, TypeError, ["outputs", "str", "plain", "async"]),
        ({"grace": 1.0}, ValueError, ["grace=1.0", "needs ask"]),
        ({"grace": math.inf}, ValueError, ["grace=inf", "needs ask"]),
        ({"grace": -1.0, "ask": id}, ValueError, ["grace", "at least 0", "-1.0"]),
        ({"grace": math.nan, "ask": id}, ValueError, ["grace", "at least 0", "nan"]),
        ({"grace": "1", "ask": id}, TypeError, ["grace", "seconds", "'1'"]),
        ({"grace": None, "ask": id}, TypeError, ["grace", "seconds", "None"]),
        ({"start_timeout": 0}, ValueError, ["start_timeout", "greater than 0"]),
        ({"start_timeout": -1}, ValueError, ["start_timeout", "greater than 0"]),
        ({"start_timeout": math.nan}, ValueError, ["start_timeout", "greater than 0"]),
        ({"start_timeout": "1"}, TypeError, ["start_timeout", "seconds", "'1'"]),
        ({"start_timeout": True}, TypeError, ["start_timeout", "seconds", "True"]),
        ({"stop_timeout": -1}, ValueError, ["stop_timeout", "at least 0"]),
        ({"stop_timeout": math.nan}, ValueError, ["stop_timeout", "at least 0"]),
        ({"stop_timeout": "1"}, TypeError, ["stop_timeout", "seconds", "'1'"]),
        ({"restart": 1.0}, TypeError, ["restart", "RestartPolicy", "1.0"]),
        ({"restart": EngineConfig()}, TypeError, ["restart", "RestartPolicy"]),
    ],
)
def test_a_broken_field_is_refused_by_name_with_the_way_out(
    fields: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        Manifold(start, **fields)

    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"grace": 5, "ask": id},
        {"grace": math.inf, "ask": id},
        {"grace": 0, "ask": None},
        {"start_timeout": math.inf},
        {"stop_timeout": 0},
        {"stop_timeout": None},
        {"stop_timeout": math.inf},
        {"restart": RestartPolicy(max_restarts=0)},
        {"filter": str},
    ],
)
def test_what_is_usable_is_kept(fields: dict[str, Any]) -> None:
    manifold = Manifold(start, **fields)

    for field, value in fields.items():
        assert getattr(manifold, field) == value


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), {"a": 1, "b": 2}, iter("ab")])
def test_inputs_may_be_any_iterable_of_names(given: Any) -> None:
    assert Manifold(start, inputs=given).inputs == ("a", "b")


def test_a_manifold_is_frozen_and_so_are_its_outputs() -> None:
    outputs: dict[type, Callable[[Any], object]] = {str: str}
    manifold = Manifold(start, outputs=outputs)
    outputs[int] = int

    assert dict(manifold.outputs) == {str: str}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        manifold.grace = 5.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        manifold.outputs[int] = int  # type: ignore[index]  # pyright: ignore[reportIndexIssue]


def test_two_manifolds_are_equal_only_if_they_are_the_same() -> None:
    a, b = Manifold(start), Manifold(start)

    assert a != b
    assert len({a, b, a}) == 2


# -- the start function ----


@pytest.mark.parametrize("broken", [None, 5, "start"])
def test_what_cannot_be_called_is_refused(broken: Any) -> None:
    with pytest.raises(TypeError, match="expected an async function"):
        Manifold(broken)


def test_a_sync_start_function_is_refused_showing_the_way() -> None:
    with pytest.raises(TypeError, match=r"sync_start is not async: define it with 'async def'"):
        Manifold(sync_start)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_called_start_function_is_refused_showing_the_way() -> None:
    with pytest.raises(TypeError, match="got the coroutine"):
        Manifold(no_status(None))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_a_start_function_without_task_status_is_refused_showing_the_way() -> None:
    with pytest.raises(TypeError) as caught:
        Manifold(no_status)

    assert "no_status takes no task_status" in str(caught.value)
    assert "async def start(get, *, task_status)" in str(caught.value)


async def test_a_lambda_a_partial_and_an_object_will_do() -> None:
    class Object:
        async def __call__(self, get: Getter, *, task_status: Status) -> None:
            await start(get, task_status=task_status)

    async def more(extra: str, get: Getter, *, task_status: Status) -> None:
        await start(get, task_status=task_status)

    async def any_keywords(get: Getter, **keywords: Any) -> None:
        await start(get, **keywords)

    program = Program()
    as_lambda: Any = lambda get, *, task_status: start(get, task_status=task_status)  # noqa: E731  # pyright: ignore[reportUnknownLambdaType]
    program.engine.install("a", Manifold(as_lambda))
    program.engine.install("b", Manifold(functools.partial(more, "extra")))
    program.engine.install("c", Manifold(Object()))
    program.engine.install("d", Manifold(any_keywords))
    async with program.running():
        assert set(program.states.values()) == {"started"}


async def test_a_lambda_that_returns_nothing_to_await_fails_showing_the_way(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.engine.install("web", Manifold(lambda get, *, task_status: 5))  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]  # the point
    async with program.running(settle=False):
        end = program.engine.report().manifolds["web"].history[0]

    assert end.error is not None
    assert '"web" manifold' in end.error
    assert "returned 5 instead of something to await" in end.error


async def test_a_start_function_that_raises_before_it_is_awaited_fails_like_any(
    autojump_clock: MockClock,
) -> None:
    def broken(get: Getter, *, task_status: Status) -> Awaitable[None]:
        raise OSError("at once")

    program = Program()
    program.engine.install("web", Manifold(functools.partial(broken)))
    async with program.running(settle=False):
        assert program.states == {"web": "delayed"}
        assert program.engine.report().manifolds["web"].history[0].error == "OSError: at once"


async def test_a_trio_service_function_is_a_manifold_by_one_lambda() -> None:
    async def serve(handler: str, port: int, *, task_status: Status) -> None:
        task_status.started([handler, port])
        await trio.sleep_forever()

    program = Program()
    seen: list[list[object]] = []

    async def read(get: Getter, *, task_status: Status) -> None:
        seen.append(get("web", list))
        task_status.started()

    program.engine.install(
        "web",
        Manifold(
            lambda get, *, task_status: serve("handler", 8080, task_status=task_status)  # pyright: ignore[reportUnknownLambdaType]
        ),
    )
    program.engine.install("reader", Manifold(read, inputs=("web",)))
    async with program.running():
        assert seen == [["handler", 8080]]


# -- from_start ----


def test_from_start_is_the_constructor_and_a_decorator() -> None:
    called = Manifold.from_start(start, inputs=["db"], grace=0.0)

    @Manifold.from_start(inputs=["db"], stop_timeout=1.0)
    async def decorated(get: Getter, *, task_status: Status) -> None:
        """Start."""

    assert called.start is start
    assert called.inputs == decorated.inputs == ("db",)
    assert decorated.stop_timeout == 1.0
    assert isinstance(decorated, Manifold)


def test_from_start_as_a_decorator_checks_too() -> None:
    with pytest.raises(TypeError, match="is not async"):
        Manifold.from_start(inputs=["db"])(sync_start)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- from_context ----


async def test_from_context_offers_the_value_and_leaves_the_context_to_stop() -> None:
    record: list[str] = []

    @Manifold.from_context()
    @contextlib.asynccontextmanager
    async def db(get: Getter) -> AsyncGenerator[str]:
        record.append("open")
        try:
            yield "connection"
        finally:
            record.append("close")

    @Manifold.from_context(inputs=["db"])
    @contextlib.asynccontextmanager
    async def api(get: Getter) -> AsyncGenerator[None]:
        record.append(f"api has {get('db', str)}")
        try:
            yield
        finally:
            record.append("api closes")

    engine = Engine()
    engine.install_all({"api": api, "db": db})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        assert record == ["open", "api has connection"]
        engine.kill()

    assert record[2:] == ["api closes", "close"]


@pytest.mark.parametrize("grace, cancelled", [(0.0, True), (5.0, False)])
async def test_from_context_with_grace_is_left_without_cancellation(
    grace: float, cancelled: object, autojump_clock: MockClock
) -> None:
    seen: list[bool] = []

    @contextlib.asynccontextmanager
    async def open_(get: Getter) -> AsyncGenerator[None]:
        try:
            yield
        except trio.Cancelled:
            seen.append(True)
            raise
        else:
            await trio.sleep(1)
            seen.append(False)

    program = Program()
    program.engine.install("db", Manifold.from_context(open_, grace=grace))
    async with program.running():
        pass

    assert seen == [cancelled]
    assert trio.current_time() == (0 if cancelled else 1)


async def test_from_context_whose_leaving_outlasts_the_grace_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    @contextlib.asynccontextmanager
    async def open_(get: Getter) -> AsyncGenerator[None]:
        yield
        await trio.sleep(100)

    program = Program()
    program.engine.install("db", Manifold.from_context(open_, grace=5.0))
    async with program.running():
        pass

    assert trio.current_time() == 5


@contextlib.contextmanager
def sync_context(get: Getter) -> Any:
    yield


async def undecorated(get: Getter) -> AsyncGenerator[None]:
    yield


async def coroutine(get: Getter) -> None:
    """Neither a context manager nor a generator."""


def context_of_nothing(get: Getter) -> None:
    """Forget to return it."""


@pytest.mark.parametrize("open_", [sync_context, context_of_nothing])
async def test_what_is_no_async_context_manager_fails_showing_the_way(
    open_: Any, autojump_clock: MockClock
) -> None:
    program = Program()
    program.engine.install("db", Manifold.from_context(open_))
    async with program.running(settle=False):
        error = program.engine.report().manifolds["db"].history[0].error

    assert error is not None
    assert error.startswith("TypeError: ")
    assert open_.__name__ in error
    assert "asynccontextmanager" in error


@pytest.mark.parametrize("open_", [undecorated, coroutine])
def test_an_async_function_without_its_decorator_is_refused(open_: Any) -> None:
    with pytest.raises(TypeError, match=f"asynccontextmanager.*{open_.__name__}"):
        Manifold.from_context(open_)


@pytest.mark.parametrize("make", [Manifold.from_context, Manifold.from_worker])
def test_what_cannot_be_called_is_refused_by_the_other_constructors(
    make: Callable[[Any], Manifold],
) -> None:
    with pytest.raises(TypeError, match=r"takes a function \(get\) -> an? .*, not 5"):
        make(5)


async def test_an_error_inside_the_context_is_the_manifolds(autojump_clock: MockClock) -> None:
    @contextlib.asynccontextmanager
    async def broken(get: Getter) -> AsyncGenerator[None]:
        await fail("no route")
        yield

    program = Program()
    program.engine.install("db", Manifold.from_context(broken))
    async with program.running(settle=False):
        assert program.engine.report().manifolds["db"].history[0].error == "OSError: no route"


# -- from_worker ----


async def test_from_worker_offers_the_worker_and_kills_it_to_stop() -> None:
    workers: list[Lives] = []
    seen: list[Lives] = []

    @Manifold.from_worker(grace=5.0)
    def build(get: Getter) -> Lives:
        workers.append(Lives(started_with("not the output"), grace=1.0))
        return workers[-1]

    async def read(get: Getter, *, task_status: Status) -> None:
        seen.append(get("worker", Lives))
        task_status.started()

    program = Program()
    program.engine.install("worker", build)
    program.engine.install("reader", Manifold(read, inputs=("worker",)))
    async with program.running():
        assert seen == workers
        assert len(workers) == 1

    assert workers[0].kills == 1
    assert workers[0].runs == 1


async def test_from_worker_makes_a_new_worker_for_each_run() -> None:
    workers: list[Lives] = []

    def build(get: Getter) -> Lives:
        workers.append(Lives())
        return workers[-1]

    program = Program()
    program.engine.install("worker", Manifold.from_worker(build))
    async with program.running() as engine:
        engine.restart("worker")
        await engine.wait_settled()

    assert [worker.runs for worker in workers] == [1, 1]


async def build_async(get: Getter) -> Lives:
    return Lives()


def build_nothing(get: Getter) -> None:
    """Forget to return it."""


def build_class(get: Getter) -> type[Lives]:
    """Forget to call it: the class has run(), kill() and wait() as well."""
    return Lives


@pytest.mark.parametrize(
    "build, says",
    [
        (
            build_nothing,
            "build_nothing returned None, no Worker: it needs run(), kill() and wait()",
        ),
        (build_class, "build_class returned"),
    ],
)
async def test_a_build_that_makes_no_worker_fails_showing_the_way(
    build: Any, says: str, autojump_clock: MockClock
) -> None:
    program = Program()
    program.engine.install("worker", Manifold.from_worker(build))
    async with program.running(settle=False):
        error = program.engine.report().manifolds["worker"].history[0].error

    assert error is not None
    assert says in error


def test_an_async_build_is_refused() -> None:
    with pytest.raises(TypeError, match=r"without async.*build_async"):
        Manifold.from_worker(build_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_the_others_name_their_start_after_what_they_were_made_of() -> None:
    def build(get: Getter) -> Lives:
        """Build it."""
        return Lives()

    made = Manifold.from_worker(build).start

    assert getattr(made, "__qualname__", "").endswith("build")
    assert made.__doc__ == "Build it."


# -- roles ----


def test_bind_returns_a_copy_and_leaves_the_original() -> None:
    manifold = Manifold(start, inputs=("db",), optional=("cache",), live=("config",), grace=0.0)

    bound = manifold.bind({"db": "main-db"})

    assert dict(manifold.bindings) == {}
    assert dict(bound.bindings) == {"db": "main-db"}
    assert bound.inputs == ("db",)
    assert bound.bound(bound.inputs) == ("main-db",)
    assert bound.bound(bound.optional) == ("cache",)


def test_binding_again_adds_and_replaces() -> None:
    manifold = Manifold(start, inputs=("db", "queue"))

    bound = manifold.bind({"db": "a"}).bind({"queue": "b"}).bind({"db": "c"})

    assert dict(bound.bindings) == {"db": "c", "queue": "b"}


def test_binding_a_role_that_is_not_declared_is_refused_listing_those_that_are() -> None:
    manifold = Manifold(start, inputs=("db",), optional=("cache",), live=("config",))

    with pytest.raises(NotDeclared) as caught:
        manifold.bind({"database": "main-db"})

    assert '"database"' in str(caught.value)
    assert '"db", "cache", "config"' in str(caught.value)


@pytest.mark.parametrize("name", [None, 5, ""])
def test_binding_a_role_to_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(TypeError) as caught:
        Manifold(start, inputs=("db",)).bind({"db": name})

    assert '"db"' in str(caught.value)
    assert repr(name) in str(caught.value)


def test_two_roles_of_one_manifold_are_one_input() -> None:
    manifold = Manifold(start, inputs=("reads", "writes")).bind({"reads": "db", "writes": "db"})

    assert manifold.bound(manifold.inputs) == ("db",)


def test_what_bind_was_given_may_change_afterwards() -> None:
    roles = {"db": "main-db"}
    bound = Manifold(start, inputs=("db",)).bind(roles)
    roles["db"] = "other"
    bindings: Mapping[str, str] = bound.bindings

    assert dict(bindings) == {"db": "main-db"}


async def test_a_bound_role_waits_for_and_reads_the_manifold_of_that_name() -> None:
    seen: list[str] = []

    async def read(get: Getter, *, task_status: Status) -> None:
        seen.append(get("db", str))
        task_status.started()
        await trio.sleep_forever()

    program = Program()
    reader = Manifold(read, inputs=("db",))
    program.engine.install("r1", reader.bind({"db": "db-1"}))
    program.engine.install("r2", reader.bind({"db": "db-2"}))
    async with program.running():
        assert seen == []
        program.install("db-2")
        await wait_all_tasks_blocked()
        assert seen == ["db-2"]
        assert program.engine.report().manifolds["r2"].roles == {"db": "db-2"}
        assert program.engine.report().manifolds["r2"].inputs == ("db-2",)
        assert program.engine.report().manifolds["r1"].waiting_for == ("db-1",)


def test_a_start_function_without_a_getter_is_refused() -> None:
    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    with pytest.raises(TypeError, match=r"takes no getter: write 'async def start\(get, "):
        Manifold(start)


def test_an_output_is_offered_by_type_and_not_by_name() -> None:
    async def serve(get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
        """Never run."""

    with pytest.raises(TypeError, match="'Database' is no type"):
        Manifold(serve, outputs={"Database": str})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make", [Manifold.from_context, Manifold.from_worker])
def test_the_other_constructors_take_an_ask_of_your_own(make: Any) -> None:
    def ask(value: object) -> None:
        """Ask it."""

    def build(get: Getter) -> Any:
        """Never called here."""

    assert make(build, ask=ask).ask is ask
