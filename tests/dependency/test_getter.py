"""What a start function may see: three ways to ask, three refusals, live views, helpers."""

import functools
import operator
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import LifetimeError, NotDeclared, NotOffered
from trioworker.dependency import Getter, LiveView, Manifold, Missing

from .harness import Double, Life, Program, failing, leave_softly, linger, serve

Status = trio.TaskStatus[Any]


class Face(Protocol):
    """Cannot be checked at run time."""

    def use(self) -> str: ...


@runtime_checkable
class Checkable(Protocol):
    def use(self) -> str: ...


class Thing:
    def use(self) -> str:
        return "used"

    def kill(self) -> None:
        """What nobody but its owner should have."""


class Narrow:
    def __init__(self, thing: Thing) -> None:
        self.thing = thing


def required(get: Getter) -> object:
    return get("db", str)


def optional(get: Getter) -> object:
    return get.optional("db", str)


def live(get: Getter) -> object:
    return get.live("db", str)


def helper(get: Getter) -> object:
    get.start_soon(trio.sleep, 0)
    return None


class Asks:
    """Installs a manifold that asks as told, and keeps the answer or the refusal."""

    def __init__(
        self,
        program: Program,
        ask: Callable[[Getter], object],
        *,
        inputs: Iterable[str] = (),
        optional: Iterable[str] = (),
        live: Iterable[str] = (),
        roles: dict[str, str] | None = None,
    ) -> None:
        self.answers: list[object] = []
        self._ask = ask
        manifold = Manifold(
            self._start, inputs=tuple(inputs), optional=tuple(optional), live=tuple(live)
        )
        program.engine.install("asks", manifold.bind(roles or {}))

    @property
    def answer(self) -> object:
        return self.answers[-1]

    async def _start(self, get: Getter, *, task_status: Status) -> None:
        try:
            self.answers.append(self._ask(get))
        except Exception as exc:  # noqa: BLE001 - the test looks at it
            self.answers.append(exc)
        task_status.started()
        await trio.sleep_forever()


# -- refusals ----


async def test_what_is_not_declared_is_a_bug_and_says_what_to_add() -> None:
    program = Program()
    asks = Asks(program, required, inputs=["clock", "log"])
    program.install("clock")
    program.install("log")
    program.install("db")
    async with program.running():
        assert isinstance(asks.answer, NotDeclared)
        assert str(asks.answer) == (
            '"asks" asked for "db", which is not in its inputs (inputs: "clock", "log"). '
            'Add "db" to inputs.'
        )


@pytest.mark.parametrize(
    "ask, field, way",
    [
        (
            required,
            "optional",
            "an optional input: ask by get.optional('db', ...)",
        ),
        (required, "live", "a live input: ask by get.live('db', ...)"),
        (optional, "inputs", "a required input: ask by get('db', ...)"),
        (optional, "live", "a live input: ask by get.live('db', ...)"),
        (live, "inputs", "a required input: ask by get('db', ...)"),
        (
            live,
            "optional",
            "an optional input: ask by get.optional('db', ...)",
        ),
    ],
)
async def test_what_is_declared_otherwise_is_refused_showing_the_right_call(
    ask: Callable[[Getter], object], field: str, way: str
) -> None:
    program = Program()
    asks = Asks(program, ask, **{field: ["db"]})  # type: ignore[arg-type]  # one of three
    program.install("db")
    async with program.running():
        assert isinstance(asks.answer, NotDeclared)
        assert way in str(asks.answer)


@pytest.mark.parametrize(
    "ask, field",
    [
        (optional, "optional"),
        (live, "live"),
        (required, "inputs"),
    ],
)
async def test_with_nothing_declared_the_refusal_says_none(
    ask: Callable[[Getter], object], field: str
) -> None:
    program = Program()
    asks = Asks(program, ask)
    async with program.running():
        assert str(asks.answer) == (
            f'"asks" asked for "db", which is not in its {field} ({field}: none). '
            f'Add "db" to {field}.'
        )


async def test_not_declared_is_an_error_and_no_wait(autojump_clock: MockClock) -> None:
    async def body(life: Life) -> None:
        life.get("db", str)

    program = Program()
    program.install("api", body=body)
    async with program.running(settle=False):
        report = program.engine.report().manifolds["api"]
        assert report.state == "delayed"
        assert report.history[0].kind == "error"


async def test_what_does_not_run_is_a_wait_that_names_its_state() -> None:
    """A required input can be gone only once we are on the way out ourselves."""
    refusals: list[Missing] = []

    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            try:
                life.get("db", str)
            except Missing as exc:
                refusals.append(exc)

    program = Program()
    db = program.install("db", body=failing())
    program.install("api", "db", body=body)
    async with program.running() as engine:
        db.body = failing(OSError("still down"))
        db.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert [str(r) for r in refusals] == ['"api" needs "db", which is delayed now']
        engine.restart("db")
        await engine.wait_settled()
        assert program.states == {"db": "started", "api": "started"}


async def test_what_is_not_offered_lists_the_types_that_are() -> None:
    program = Program()
    asks = Asks(program, lambda get: get("db", int), inputs=["db"])
    program.install("db", value=Thing(), outputs={Narrow: Narrow, Face: str})
    async with program.running():
        assert isinstance(asks.answer, NotOffered)
        assert str(asks.answer) == (
            '"asks" asked for "db" as int, which it does not offer (it offers: Narrow, Face). '
            'Ask for one of these, or add it to the outputs of "db".'
        )


async def test_without_outputs_the_started_value_itself_is_offered() -> None:
    thing = Thing()
    program = Program()
    asks = Asks(
        program,
        lambda get: [get("db", t) for t in (Thing, object, Face, Checkable)],
        inputs=["db"],
    )
    program.install("db", value=thing)
    async with program.running():
        assert asks.answer == [thing] * 4


@pytest.mark.parametrize("wrong", [int, str, Narrow])
async def test_without_outputs_another_type_is_refused_naming_its_own(wrong: type[object]) -> None:
    program = Program()
    asks = Asks(program, lambda get: get("db", wrong), inputs=["db"])
    program.install("db", value=Thing())
    async with program.running():
        assert isinstance(asks.answer, NotOffered)
        assert "(it offers: Thing)" in str(asks.answer)
        assert wrong.__name__ in str(asks.answer)


async def test_with_outputs_the_started_value_itself_is_not_offered() -> None:
    """The narrowest face: who declares outputs hands out nothing else."""
    program = Program()
    asks = Asks(program, lambda get: get("db", Thing), inputs=["db"])
    program.install("db", value=Thing(), outputs={Narrow: Narrow})
    async with program.running():
        assert isinstance(asks.answer, NotOffered)


async def test_a_role_is_asked_for_by_role_and_shown_with_its_name() -> None:
    program = Program()
    asks = Asks(program, lambda get: get("db", int), inputs=["db"], roles={"db": "main-db"})
    program.install("main-db")
    async with program.running():
        assert isinstance(asks.answer, NotOffered)
        assert '"db" (the manifold "main-db")' in str(asks.answer)


async def test_the_name_behind_a_role_is_not_declared_and_the_refusal_shows_the_role() -> None:
    program = Program()
    asks = Asks(program, lambda get: get("main-db", str), inputs=["db"], roles={"db": "main-db"})
    program.install("main-db")
    async with program.running():
        assert isinstance(asks.answer, NotDeclared)
        assert 'inputs: "db" (the manifold "main-db")' in str(asks.answer)


async def test_an_outputs_adapter_gets_the_started_value_and_its_error_is_the_askers(
    autojump_clock: MockClock,
) -> None:
    def broken(value: object) -> Narrow:
        raise OSError(f"no face of {value}")

    async def body(life: Life) -> None:
        life.get("db", Narrow)

    program = Program()
    program.install("db", value="a connection", outputs={Narrow: broken})
    program.install("api", "db", body=body)
    async with program.running(settle=False):
        report = program.engine.report().manifolds
        assert report["api"].history[0].error == "OSError: no face of a connection"
        assert report["db"].state == "started"
        assert report["db"].ends == 0


# -- optional ----


async def test_an_optional_input_is_none_while_it_does_not_run() -> None:
    program = Program()
    asks = Asks(program, lambda get: get.optional("cache", str), optional=["cache"])
    async with program.running() as engine:
        assert asks.answers == [None]
        program.install("cache")
        await engine.wait_settled()
        assert asks.answers == [None, "cache"]
        engine.hold("cache")
        await engine.wait_settled()
        assert asks.answers == [None, "cache", None]


async def test_an_optional_input_that_came_meanwhile_is_not_seen_by_the_run_it_restarts() -> None:
    """That run is no user of it: nobody would wait for it before stopping the input."""
    seen: list[object] = []

    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            seen.append(life.get.optional("cache", str))

    program = Program()
    api = program.install("api", body=body, optional=("cache",))
    async with program.running() as engine:
        api.body = serve
        program.install("cache")
        await engine.wait_settled()
        assert api.starts == 2
        assert seen == [None]


async def test_an_optional_input_of_another_type_is_refused() -> None:
    program = Program()
    asks = Asks(program, lambda get: get.optional("cache", int), optional=["cache"])
    program.install("cache")
    async with program.running():
        assert isinstance(asks.answer, NotOffered)


# -- live ----


class Reader:
    """Installs a manifold with a live input, and keeps its view."""

    def __init__(self, program: Program, type_: type = str, name: str = "reader") -> None:
        self.views: list[LiveView[Any]] = []
        self.gets: list[Getter] = []
        self.double: Double = program.install(name, body=self._body, live=("config",))
        self._type = type_

    @property
    def view(self) -> LiveView[Any]:
        return self.views[-1]

    def now(self) -> Any:
        return self.view.value

    async def _body(self, life: Life) -> None:
        self.gets.append(life.get)
        self.views.append(life.get.live("config", self._type))
        life.ready()
        await life.obey()


async def test_a_live_view_follows_the_input_without_restarting_the_reader() -> None:
    program = Program()
    reader = Reader(program)
    async with program.running() as engine:
        assert reader.now() is None
        program.install("config", value="one")
        await engine.wait_settled()
        assert reader.now() == "one"
        engine.uninstall("config")
        await engine.wait_settled()
        assert reader.now() is None
        program.install("config", value="two")
        await engine.wait_settled()
        assert reader.now() == "two"
        assert reader.double.starts == 1


@pytest.mark.parametrize("verb", ["restart", "hold", "uninstall"])
async def test_a_live_view_is_empty_as_soon_as_the_input_leaves_started(verb: str) -> None:
    program = Program()
    reader = Reader(program)
    config = program.install("config", body=linger)
    async with program.running() as engine:
        assert reader.now() == "config"
        getattr(engine, verb)("config")
        assert reader.now() is None
        await wait_all_tasks_blocked()
        assert config.state == "stopping"
        assert reader.now() is None
        config.let_go.set()


async def test_a_live_view_is_empty_when_the_input_crashes(autojump_clock: MockClock) -> None:
    program = Program()
    reader = Reader(program)
    config = program.install("config")
    async with program.running() as engine:
        config.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert reader.now() is None
        await engine.wait_settled()
        assert reader.now() == "config"
        assert reader.double.starts == 1


async def test_wait_value_returns_the_value_of_which_the_predicate_holds() -> None:
    program = Program()
    reader = Reader(program)
    answers: list[object] = []

    async def wait(predicate: Callable[[object], bool]) -> None:
        answers.append(await reader.view.wait_value(predicate))

    async with program.running() as engine, trio.open_nursery() as nursery:
        nursery.start_soon(wait, functools.partial(operator.eq, "two"))
        nursery.start_soon(wait, operator.not_)
        await wait_all_tasks_blocked()
        assert answers == [None]
        program.install("config", value="one")
        await wait_all_tasks_blocked()
        assert answers == [None]
        engine.uninstall("config")
        await wait_all_tasks_blocked()
        program.install("config", value="two")
        await wait_all_tasks_blocked()
        assert answers == [None, "two"]


async def test_a_predicate_that_raises_harms_only_who_waits() -> None:
    program = Program()
    reader = Reader(program)

    def broken(value: object) -> bool:
        if value is None:
            return False
        raise ZeroDivisionError

    caught: list[Exception] = []

    async def wait() -> None:
        try:
            await reader.view.wait_value(broken)
        except ZeroDivisionError as exc:
            caught.append(exc)

    async with program.running(), trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        program.install("config")
        await wait_all_tasks_blocked()
        assert len(caught) == 1
        assert program.states == {"reader": "started", "config": "started"}


async def test_iterating_a_live_view_gives_the_present_value_first_then_each_change() -> None:
    program = Program()
    reader = Reader(program)
    seen: list[object] = []

    async def iterate() -> None:
        async for value in reader.view:
            seen.append(value)  # noqa: PERF401 - it has no end

    async with program.running() as engine, trio.open_nursery() as nursery:
        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        for value in "one", "two":
            program.install("config", value=value)
            await wait_all_tasks_blocked()
            engine.uninstall("config")
            await wait_all_tasks_blocked()
        assert seen == [None, "one", None, "two", None]
        nursery.cancel_scope.cancel()


async def test_a_slow_iterator_sees_the_latest_value_and_never_that_of_a_run_that_ended() -> None:
    program = Program()
    reader = Reader(program)
    config = program.install("config", value="one")
    async with program.running() as engine:
        values = aiter(reader.view)
        assert await anext(values) == "one"
        for value in "two", "three":
            config.value = value
            engine.restart("config")
            await engine.wait_settled()
        assert await anext(values) == "three"


async def test_an_iterator_woken_by_a_value_that_is_gone_again_waits_on() -> None:
    async def flash(life: Life) -> None:
        life.ready()

    program = Program()
    reader = Reader(program)
    seen: list[object] = []

    async def iterate() -> None:
        async for value in reader.view:
            seen.append(value)  # noqa: PERF401 - it has no end

    async with program.running() as engine, trio.open_nursery() as nursery:
        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        program.install("config", body=flash)
        await engine.wait_settled()
        await wait_all_tasks_blocked()
        assert program.states["config"] == "done"
        assert seen == [None]
        nursery.cancel_scope.cancel()


async def test_a_live_view_hands_out_the_face_of_its_type_and_refuses_another() -> None:
    program = Program()
    reader = Reader(program, Narrow)
    other = Reader(program, int, name="other")
    thing = Thing()
    program.install("config", value=thing, outputs={Narrow: Narrow})
    async with program.running():
        assert reader.now().thing is thing
        with pytest.raises(NotOffered, match="it offers: Narrow"):
            other.now()


async def test_an_adapter_that_raises_harms_only_the_live_reader_that_looks() -> None:
    def broken(value: object) -> Narrow:
        raise ZeroDivisionError

    program = Program()
    reader = Reader(program, Narrow)
    async with program.running() as engine:
        program.install("config", outputs={Narrow: broken})
        await engine.wait_settled()
        with pytest.raises(ZeroDivisionError):
            reader.now()
        assert program.states == {"reader": "started", "config": "started"}


# -- its time ----


@pytest.mark.parametrize(
    "use",
    [
        required,
        optional,
        live,
        helper,
    ],
)
async def test_after_its_run_a_getter_refuses_naming_whose_it_was(
    use: Callable[[Getter], object],
) -> None:
    program = Program()
    api = program.install("api")
    async with program.running() as engine:
        old = api.life.get
        engine.restart("api")
        await engine.wait_settled()
        with pytest.raises(LifetimeError, match="after the run it belongs to had ended"):
            use(old)
    with pytest.raises(LifetimeError):
        use(api.life.get)


async def test_after_its_run_a_live_view_refuses_too() -> None:
    program = Program()
    reader = Reader(program)
    program.install("config")
    async with program.running() as engine:
        view = reader.view
        values = aiter(view)
        assert await anext(values) == "config"
        engine.hold("reader")
        await engine.wait_settled()
        with pytest.raises(LifetimeError):
            _ = view.value
        with pytest.raises(LifetimeError):
            await view.wait_value(lambda value: True)
        with pytest.raises(LifetimeError):
            await anext(values)


async def test_after_its_run_a_getter_is_stopping_and_does_not_wait() -> None:
    program = Program()
    api = program.install("api")
    async with program.running() as engine:
        get = api.life.get
        api.life.finish()
        await engine.wait_state("api", "done")
        assert get.is_stopping
        await get.wait_stopping()
        assert "api" in repr(get)


# -- stopping ----


async def test_is_stopping_turns_true_only_when_the_last_user_has_ended() -> None:
    program = Program()
    db = program.install("db")
    api = program.install("api", "db", body=linger)
    async with program.running() as engine:
        engine.hold("db")
        await wait_all_tasks_blocked()
        assert [life.get.is_stopping for life in (db.life, api.life)] == [False, True]
        api.let_go.set()
        await engine.wait_settled()
        assert [life.get.is_stopping for life in (db.life, api.life)] == [True, True]


async def test_wait_stopping_wakes_everybody_with_grace_and_without_cancellation(
    autojump_clock: MockClock,
) -> None:
    woken: list[str] = []

    async def helper(get: Getter) -> None:
        await get.wait_stopping()
        woken.append("helper")

    async def body(life: Life) -> None:
        life.get.start_soon(helper, life.get)
        await leave_softly(life)
        assert life.get.is_stopping
        woken.append("start")

    program = Program()
    api = program.install("api", body=body, grace=5.0)
    async with program.running() as engine:
        engine.hold("api")
        await engine.wait_settled()
        assert sorted(woken) == ["helper", "start"]
        assert api.life.cancelled is None
        assert trio.current_time() == 0


async def test_wait_stopping_is_a_checkpoint_also_when_there_is_nothing_to_wait_for() -> None:
    program = Program()
    api = program.install("api")
    async with program.running() as engine:
        engine.hold("api")
        await engine.wait_settled()
        with trio.CancelScope() as scope:
            scope.cancel()
            await api.life.get.wait_stopping()
        assert scope.cancelled_caught


# -- helpers ----


def with_helper(helper: Callable[..., Awaitable[object]], *args: object) -> Callable[[Life], Any]:
    async def body(life: Life) -> None:
        life.get.start_soon(helper, *args)
        await serve(life)

    return body


async def test_a_helpers_error_is_the_manifolds_and_cancels_its_start_function(
    autojump_clock: MockClock,
) -> None:
    async def fail_when(event: trio.Event) -> None:
        await event.wait()
        raise OSError("helper")

    event = trio.Event()
    program = Program()
    api = program.install("api", body=with_helper(fail_when, event))
    async with program.running():
        event.set()
        await wait_all_tasks_blocked()
        report = program.engine.report().manifolds["api"]
        assert report.state == "delayed"
        assert report.history[0].error == "OSError: helper"
        assert api.lives[0].cancelled is not None
        api.body = serve


async def test_a_start_functions_error_cancels_the_helpers(autojump_clock: MockClock) -> None:
    ended: list[str] = []

    async def help_() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("helper")

    program = Program()
    api = program.install("api", body=with_helper(help_))
    async with program.running():
        api.life.fail(OSError("gone"))
        await wait_all_tasks_blocked()
        assert ended == ["helper"]
        assert api.state == "delayed"
        api.body = serve


async def test_errors_of_both_leave_as_one_group_and_none_is_lost(
    autojump_clock: MockClock,
) -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("helper")

    program = Program()
    api = program.install("api", body=with_helper(fail_when_cancelled))
    async with program.running():
        api.life.fail(ValueError("start"))
        await wait_all_tasks_blocked()
        error = program.engine.report().manifolds["api"].history[0].error
        assert error == "ValueError: start; OSError: helper"
        api.body = serve


async def test_helpers_end_with_the_run_before_its_inputs_stop(autojump_clock: MockClock) -> None:
    async def linger_too(program: Program) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)
            program.record.append("helper ended")

    program = Program()
    program.install("db")
    program.install("api", "db", body=with_helper(linger_too, program))
    async with program.running() as engine:
        engine.hold("db")
        await engine.wait_settled()
        assert program.record[-3:] == ["end api", "helper ended", "end db"]


async def test_a_run_lasts_as_long_as_its_last_helper() -> None:
    event = trio.Event()

    async def body(life: Life) -> None:
        life.get.start_soon(event.wait)
        life.ready()

    program = Program()
    api = program.install("api", body=body)
    async with program.running() as engine:
        assert api.state == "started"
        event.set()
        await engine.wait_settled()
        await engine.wait_state("api", "done")
        assert api.state == "done"


async def test_a_helper_may_call_started(autojump_clock: MockClock) -> None:
    async def ready(life: Life) -> None:
        await trio.sleep(3)
        life.ready()

    async def body(life: Life) -> None:
        life.get.start_soon(ready, life)
        await life.obey()

    program = Program()
    program.install("api", body=body)
    async with program.running() as engine:
        await engine.wait_state("api", "started")
        assert trio.current_time() == 3


async def test_a_helper_may_start_helpers_also_while_stopping(autojump_clock: MockClock) -> None:
    """Late ones are born cancelled."""
    record: list[str] = []

    async def late() -> None:
        record.append("late began")
        await trio.sleep(1)
        record.append("never")

    async def body(life: Life) -> None:
        life.ready()
        try:
            await life.obey()
        finally:
            life.get.start_soon(late)

    program = Program()
    program.install("api", body=body)
    async with program.running() as engine:
        engine.hold("api")
        await engine.wait_settled()
        assert record == ["late began"]
        assert trio.current_time() == 0


async def test_a_helper_keeps_the_name_it_is_given() -> None:
    names: list[str] = []

    async def note() -> None:
        names.append(trio.lowlevel.current_task().name)

    async def body(life: Life) -> None:
        life.get.start_soon(note)
        life.get.start_soon(note, name="flush")
        await serve(life)

    program = Program()
    program.install("api", body=body)
    async with program.running():
        await wait_all_tasks_blocked()
        assert len(names) == 2
        assert "note" in min(names, key=lambda name: name == "flush")
        assert "flush" in names


async def test_swallowing_the_cancellation_of_a_failed_helper_does_not_save_the_run(
    autojump_clock: MockClock,
) -> None:
    async def fail() -> None:
        raise OSError("helper")

    async def body(life: Life) -> None:
        life.get.start_soon(fail)
        life.ready()
        with suppress(trio.Cancelled):
            await life.obey()

    program = Program()
    api = program.install("api", body=body)
    async with program.running(settle=False):
        assert api.state == "delayed"
        assert program.engine.report().manifolds["api"].history[0].kind == "error"
        api.body = serve


@pytest.mark.parametrize("wrong", ["str", 3])
async def test_what_is_no_type_is_refused_and_not_taken_for_a_protocol(
    wrong: Any, autojump_clock: MockClock
) -> None:
    program = Program()
    program.install("db", value="postgres")

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        get("db", wrong)

    program.engine.install("api", Manifold(start, inputs=("db",)))
    async with program.running(settle=False) as engine:
        await engine.wait_state("api", "delayed")
        error = engine.report().manifolds["api"].history[0].error

    assert error == f'TypeError: "api" asked for "db" as {wrong!r}, which is no type: name a class'


async def test_an_output_that_fails_says_whose_it_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(value: object) -> str:
        raise ValueError("no such face")

    program = Program()
    program.install("db", outputs={str: broken})

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        get("db", str)

    program.engine.install("api", Manifold(start, inputs=("db",)))
    async with program.running(settle=False) as engine:
        await engine.wait_state("api", "delayed")

    assert 'raised by the outputs of "db", for str' in caplog.text
