"""E15: reports, explanations, blast radius, events, waiting for states and for quiet."""

import functools
import itertools
import json
from collections.abc import Callable
from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Dying, NotFound, RestartPolicy
from trioworker.dependency import (
    Bounce,
    Engine,
    EngineConfig,
    EngineReport,
    Getter,
    Manifold,
    ManifoldReport,
    Missing,
    RetryAfter,
    Transition,
    Uninstall,
    self_manifold,
)
from trioworker.dependency._report import engine_report

from .harness import (
    Double,
    Life,
    Program,
    failing,
    failing_when_stopped,
    leave_softly,
    linger,
    ready_and_return,
    serve,
    when_told,
)


class Reports:
    """A value with a report of its own."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked = 0

    def report(self) -> object:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Rude:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> object:
        raise ValueError(name)


class RudeProperty:
    @property
    def report(self) -> object:
        raise RuntimeError("of the property")


class NotCallable:
    report = "a text"


def one(program: Program, name: str) -> ManifoldReport:
    return program.engine.report().manifolds[name]


# -- report ----


def test_e15_an_engine_that_never_ran_reports_outside_of_trio() -> None:
    engine = Engine(EngineConfig(name="ingest"))
    report = engine.report()

    assert isinstance(report, EngineReport)
    assert report.name == "ingest"
    assert report.tomb.state == "alive"
    assert dict(report.manifolds) == {}


async def test_e15_a_report_says_everything_about_each_in_order_of_installation(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db")
    program.install("api", "db", "queue", optional=("cache",), live=("config",))
    async with program.running() as engine:
        await trio.sleep(3)
        report = engine.report()
        assert list(report.manifolds) == ["db", "api"]
        db, api = report.manifolds.values()
        assert (db.name, db.state, db.since) == ("db", "started", 3)
        assert (db.starts, db.ends, db.failures) == (1, 0, 0)
        assert (api.state, api.starts) == ("waiting", 0)
        assert (api.inputs, api.optional, api.live) == (("db", "queue"), ("cache",), ("config",))
        assert api.waiting_for == ("queue",)
        for field in ("retry_in", "why", "stop_cause", "stuck", "worker"):
            assert getattr(db, field) is None


async def test_e15_a_report_is_frozen_plain_data(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", value=Reports({"queries": 5}))
    async with program.running() as engine:
        db.life.fail(OSError("gone"))
        await engine.wait_state("db", "delayed")
        before = engine.report()
        await engine.wait_settled()
        after = engine.report()

        assert before.manifolds["db"].state == "delayed"
        assert json.loads(json.dumps(after._asdict()))["manifolds"] != {}
        for thing in (after, after.manifolds["db"], after.tomb):
            with pytest.raises(AttributeError):
                thing.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(AttributeError):
            after.manifolds["db"].history[0].kind = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_e15_a_report_of_one_who_backs_off_says_why_and_how_long(
    autojump_clock: MockClock,
) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(error_delay=10.0)))
    program.install("db", body=failing(OSError("gone")))
    async with program.running(settle=False) as engine:
        await trio.sleep(4)
        report = one(program, "db")
        assert report.why == "OSError: gone"
        assert report.retry_in == 6
        assert report.failures == 1
        await engine.wait_settled()
        assert one(program, "db").retry_in is None
        assert one(program, "db").why is None, "nothing is the matter with it now"


async def test_e15_a_report_of_one_being_stopped_says_why() -> None:
    program = Program()
    db = program.install("db", body=linger)
    async with program.running() as engine:
        engine.hold("db")
        await wait_all_tasks_blocked()
        assert one(program, "db").stop_cause == "hold('db')"
        db.let_go.set()


async def test_e15_history_keeps_the_latest_ends(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(history=2))
    db = program.install("db", body=failing(OSError("1"), Bounce("2"), RetryAfter(1, "3")))
    async with program.running() as engine:
        await engine.wait_settled()
        await trio.sleep(2)
        engine.restart("db")
        await engine.wait_settled()
        first, second = one(program, "db").history
        assert (first.kind, first.error, first.cause) == ("retry", "RetryAfter: in 1 s: 3", None)
        assert (second.kind, second.error, second.cause) == ("stopped", None, "restart('db')")
        assert (first.was_ready, second.was_ready) == (False, True)
        assert (first.lasted, second.lasted) == (0, 2)
        assert second.time == trio.current_time()
        assert any("in body" in line for line in first.traceback)
        assert second.traceback == ()
        assert db.starts == one(program, "db").starts == 5


async def test_e15_a_history_of_none_keeps_none(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(history=0))
    program.install("db", body=failing(OSError()))
    async with program.running() as engine:
        await engine.wait_settled()
        assert one(program, "db").history == ()
        assert one(program, "db").ends == 1
        str(engine.explain("db"))


async def test_e15_a_workers_own_report_is_included_while_it_is_ready() -> None:
    value = Reports({"queries": 5})
    program = Program()
    db = program.install("db", body=when_told, value=value)
    async with program.running(settle=False) as engine:
        assert one(program, "db").worker is None
        assert value.asked == 0
        db.life.get_ready()
        await engine.wait_state("db", "started")
        assert one(program, "db").worker == {"queries": 5}


@pytest.mark.parametrize(
    "value, says",
    [
        (Reports(ZeroDivisionError()), "db: report() raised ZeroDivisionError"),
        (Reports(RecursionError()), "db: report() raised RecursionError"),
        (RudeProperty(), "db: report() raised RuntimeError"),
        (Rude(), "db: report() raised ValueError"),
        (NotCallable(), None),
        ("no report at all", None),
    ],
    ids=repr,
)
async def test_e15_a_report_never_raises_whatever_the_worker_does(
    value: object, says: str | None
) -> None:
    program = Program()
    program.install("db", value=value)
    program.install("api", value=Reports("fine"))
    async with program.running():
        assert one(program, "db").worker in (says, "db" if says is None else says)
        assert one(program, "api").worker == "fine"


async def test_e15_a_workers_report_may_call_verbs() -> None:
    class Meddles:
        def report(self) -> object:
            program.engine.hold("api")
            program.engine.uninstall("web")
            program.engine.report()
            return "meddled"

    program = Program()
    seen: list[str] = []

    class MeddlesOnce(Meddles):
        def report(self) -> object:
            if seen:
                return "again"
            seen.append("once")
            return super().report()

    program.install("db", value=MeddlesOnce())
    program.install("api", "db")
    program.install("web", body=failing(Missing()))
    async with program.running() as engine:
        assert engine.report().manifolds["db"].worker == "meddled"
        await engine.wait_settled()
        assert program.states == {"db": "started", "api": "held"}


async def test_e15_slow_reports_cost_the_others_theirs_and_no_more_than_a_bounded_time() -> None:
    class Slow:
        def report(self) -> str:
            times[0] += 0.04
            return "slow"

    times = [0.0]
    program = Program()
    for i in range(5):
        program.install(str(i), value=Slow())
    async with program.running() as engine:
        nodes = engine._registry.all_installed()
        report = engine_report("e", engine._tomb.report(), nodes, 0.0, lambda: times[0])
    asked = [m.worker for m in report.manifolds.values()]
    assert asked == ["slow", "slow", *["not asked: the others took too long"] * 3]


async def test_e15_nested_engines_are_included() -> None:
    inner = Engine(EngineConfig(name="inner"))
    inner_program = Program()
    inner.install("worker", Manifold(inner_program.make("worker").manifold.start))
    program = Program()
    program.engine.install("inner", Manifold.from_worker(lambda get: inner))  # pyright: ignore[reportUnknownLambdaType]
    async with program.running() as engine:
        await inner.wait_settled()
        report = engine.report().manifolds["inner"].worker
        assert isinstance(report, EngineReport)
        assert report.manifolds["worker"].state == "started"


async def test_e15_an_engine_that_is_its_own_manifold_does_not_report_itself_for_ever() -> None:
    program = Program()
    program.engine.install("self", self_manifold(program.engine))
    async with program.running() as engine:
        assert engine.report().manifolds["self"].worker is None
        assert engine.report().manifolds["self"].state == "started"


async def test_e15_a_dead_engine_still_reports() -> None:
    program = Program(EngineConfig(is_fatal=lambda exc: True))
    program.install("db", body=failing_when_stopped(OSError("second")))
    program.install("api", "db", body=failing(OSError("first")))
    with pytest.raises(OSError, match="first"):
        await program.engine.run()
    report = program.engine.report()
    assert report.tomb.state == "dead"
    assert report.tomb.reason == "OSError: first"
    assert report.tomb.suppressed == ("OSError: second",)
    assert {m.state for m in report.manifolds.values()} == {"stopped"}


# -- explain ----


async def explained(
    prepare: Callable[[Program], object], name: str = "api", *, act: str = ""
) -> list[str]:
    """Return the chain of causes of `name`, by manifold and state."""
    program = Program()
    prepare(program)
    async with program.running(settle=False) as engine:
        if act:
            getattr(engine, act)("db")
            await wait_all_tasks_blocked()
        chain: list[str] = []
        link = engine.explain(name)
        root = link.root
        while True:
            chain.append(f"{link.manifold} {link.state}")
            if link.because is None:
                break
            link = link.because
        assert link is root
        for double in program.doubles.values():
            double.let_go.set()
        return chain


def of_db(program: Program, **options: Any) -> Double:
    db = program.install("db", **options)
    program.install("api", "db")
    return db


def prepared(**options: Any) -> Callable[[Program], object]:
    return functools.partial(of_db, **options)


def without_db(program: Program) -> None:
    program.install("api", "db")


@pytest.mark.parametrize(
    "prepare, act, chain",
    [
        (without_db, "", ["api waiting", "db absent"]),
        (prepared(body=failing(OSError())), "", ["api waiting", "db delayed"]),
        (prepared(body=when_told), "", ["api waiting", "db starting"]),
        (prepared(), "hold", ["api waiting", "db held"]),
        (prepared(body=linger), "hold", ["api waiting", "db stopping"]),
        (prepared(body=ready_and_return), "", ["api waiting", "db done"]),
        (prepared(body=failing(Missing())), "", ["api waiting", "db waiting"]),
        (
            prepared(body=failing(OSError()), restart=RestartPolicy(max_restarts=0)),
            "",
            ["api waiting", "db failed"],
        ),
        (prepared(body=failing(Uninstall())), "", ["api waiting", "db absent"]),
        (prepared(), "", ["api started"]),
    ],
)
async def test_e15_explain_goes_down_to_the_root_from_every_state(
    prepare: Callable[[Program], object], act: str, chain: list[str], autojump_clock: MockClock
) -> None:
    assert await explained(prepare, act=act) == chain


async def sentence(program: Program, name: str, after: float = 0.0) -> str:
    async with program.running(settle=False) as engine:
        await trio.sleep(after)
        text = str(engine.explain(name))
        for double in program.doubles.values():
            double.let_go.set()
        return text


async def test_e15_explain_says_a_backoff_in_a_sentence(autojump_clock: MockClock) -> None:
    program = Program(EngineConfig(restart=RestartPolicy(error_delay=1.0, factor=2.0)))
    program.install("db", body=failing(*(ConnectionRefusedError() for _ in range(9))))
    program.install("api", "db")

    assert await sentence(program, "api", after=10.8) == (
        "api waits for db; db is backing off 4.2 s more after ConnectionRefusedError, 4th failure"
    )


async def test_e15_explain_says_what_is_not_installed_and_why(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=failing(Uninstall("wrong machine")))
    program.install("api", "db")

    assert await sentence(program, "api") == (
        "api waits for db; db is not installed (Uninstall: wrong machine)"
    )


async def test_e15_explain_says_where_a_start_hangs(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=when_told)

    text = await sentence(program, "db", after=5)

    assert text.startswith("db has been starting for 5 s without calling started(); it is at ")
    assert "harness.py" in text


async def test_e15_explain_says_what_missing_waits_for(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("clock")
    program.install("db", "clock", body=failing(Missing("no config")), live=("config",))

    assert await sentence(program, "db") == (
        "db waits for a change of its inputs (clock, config): Missing: no config"
    )


async def test_e15_explain_says_who_holds_up_a_drain(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db")
    api = program.install("api", "db", body=linger)
    async with program.running() as engine:
        engine.restart("db")
        await trio.sleep(2)
        assert str(engine.explain("db")) == (
            "db stops (restart('db')) once api has ended; "
            "api has been stopping for 2 s (restart('db'))"
        )
        api.let_go.set()


async def test_e15_explain_says_that_a_soft_phase_is_under_way(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=serve, grace=5.0)
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(2)
        assert str(engine.explain("db")) == (
            "db has been stopping for 2 s (hold('db')); it was asked and not cancelled yet"
        )


async def test_e15_explain_names_who_is_stuck(autojump_clock: MockClock) -> None:
    program = Program()
    db = program.install("db", body=linger, stop_timeout=1.0)
    program.install("api", "db")
    async with program.running() as engine:
        engine.hold("db")
        await trio.sleep(3)
        text = str(engine.explain("api"))
        assert text.startswith("api waits for db; db has been stopping for 3 s (hold")
        assert "is stuck at" in text
        assert one(program, "db").stuck is not None
        db.let_go.set()


async def test_e15_explain_says_for_which_optional_input_a_start_waits(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    cache = program.install("cache", body=when_told)
    program.install("api", optional=("cache",))
    async with program.running(settle=False) as engine:
        text = str(engine.explain("api"))
        assert text.startswith("api waits until its optional cache has settled; cache has been ")
        cache.life.get_ready()
        await engine.wait_settled()


async def test_e15_explain_after_the_end_says_that_the_engine_has_stopped() -> None:
    program = Program()
    program.install("db")
    async with program.running():
        pass

    assert str(program.engine.explain("db")) == (
        "db is stopped with its engine (the engine was killed)"
    )


def test_e15_explain_before_run_says_so() -> None:
    engine = Engine()
    engine.install("db", Manifold(Program().make("db").manifold.start))

    assert str(engine.explain("db")) == "db waits for the engine to run"


async def test_e15_explain_follows_a_chain_of_5000_quickly() -> None:
    program = Program()
    names = [str(i) for i in range(5000)]
    manifold = program.make("x").manifold
    program.engine.install_all(
        {b: Manifold(manifold.start, inputs=(a,)) for a, b in itertools.pairwise(names)},
        later=["0"],
    )
    async with program.running() as engine:
        explanation = engine.explain("4999")
        assert explanation.root.manifold == "0"
        assert str(explanation).count("waits for") == 4999


def test_e15_explain_refuses_a_name_that_nobody_knows_naming_the_nearest() -> None:
    engine = Engine()
    engine.install("database", Manifold(Program().make("x").manifold.start))

    with pytest.raises(NotFound, match=r'no manifold "databse" .*did you mean "database"\?'):
        engine.explain("databse")


async def test_e15_ask_may_explain_and_report_while_everything_is_in_motion() -> None:
    texts: list[str] = []

    def look(value: object) -> None:
        texts.extend(str(program.engine.explain(name)) for name in ("db", "api", "web"))
        program.engine.report()

    program = Program()
    for name, inputs in ("db", ()), ("api", ("db",)), ("web", ("db",)):
        program.install(name, *inputs, ask=look)
    async with program.running() as engine:
        engine.restart("db")
        await engine.wait_settled()
        assert len(texts) == 9
        assert not any("once  has ended" in text for text in texts)


# -- blast radius ----


def test_e15_the_blast_radius_is_all_who_would_stop_nearest_first() -> None:
    program = Program()
    program.install("web", "api", live=("db",))
    program.install("api", "db")
    program.install("job", optional=("db",))
    program.install("log", live=("db",))
    program.install("db")

    assert program.engine.blast_radius("db") == ("api", "job", "web")
    assert program.engine.blast_radius("web") == ()
    with pytest.raises(NotFound):
        program.engine.blast_radius("nobody")


# -- events ----


async def test_e15_events_stream_every_transition_with_its_cause(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db")
    program.install("api", "db")
    seen: list[str] = []

    async def read() -> None:
        with program.engine.events() as events:
            async for transition in events:
                seen.append(str(transition))  # noqa: PERF401 - looked at meanwhile

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        async with program.running() as engine:
            engine.restart("db")
            await engine.wait_settled()
    cause = "(restart('db'))"
    assert seen[:4] == [
        "db: waiting -> starting",
        "db: starting -> started",
        "api: waiting -> starting",
        "api: starting -> started",
    ]
    assert set(seen[4:6]) == {f"{name}: started -> draining {cause}" for name in ("db", "api")}
    assert f"api: draining -> stopping {cause}" in seen
    assert seen[-1] == "db: stopping -> stopped"


async def test_e15_events_carry_the_error_as_cause(autojump_clock: MockClock) -> None:
    program = Program()
    program.install("db", body=failing(OSError("gone")))
    with program.engine.events() as events:
        async with program.running() as engine:
            await engine.wait_settled()
        seen = [t async for t in events]
    delayed = next(t for t in seen if t.after == "delayed")
    assert delayed == Transition(
        0.0, "db", delayed.before, delayed.after, "OSError: gone", delayed.origin
    )


async def test_e15_events_begin_with_the_with_and_end_when_the_engine_is_dead() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with engine.events() as events:
            engine.hold("db")
            await engine.wait_settled()
            first = await anext(events)
            assert (first.manifold, str(first.before)) == ("db", "started")
            engine.kill()
            rest = [t async for t in events]
            assert [str(t.after) for t in rest] == ["stopping", "held", "stopped"]


async def test_e15_events_of_a_dead_engine_are_over_at_once() -> None:
    program = Program()
    async with program.running():
        pass
    with program.engine.events() as events:
        assert [t async for t in events] == []


async def test_e15_events_end_with_their_with() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with engine.events() as events:
            pass
        engine.restart("db")
        await engine.wait_settled()
        assert [t async for t in events] == []


async def test_e15_a_slow_reader_of_events_loses_the_oldest_and_they_are_counted() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with engine.events(capacity=3) as slow, engine.events(capacity=100) as quick:
            for _ in range(4):
                engine.restart("db")
                await engine.wait_settled()
            engine.kill()
            await engine.wait()
            kept = [t async for t in slow]
            every = [t async for t in quick]
            assert len(kept) == 3
            assert kept == every[-3:]
            assert slow.dropped == len(every) - 3
            assert quick.dropped == 0


async def test_e15_reading_events_is_a_checkpoint_and_can_be_cancelled() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with engine.events() as events:
            with trio.move_on_after(0) as idle:
                await anext(events)
            assert idle.cancelled_caught
            engine.hold("db")
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(events)
            assert scope.cancelled_caught
            assert str((await anext(events)).after) == "draining"


# -- stacks ----


async def test_e15_stacks_show_where_the_tasks_of_a_manifold_stand() -> None:
    async def helper(name: str) -> None:
        await trio.sleep_forever()

    async def body(life: Life) -> None:
        life.get.start_soon(helper, "one", name="helper one")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever, name="inner")
            life.ready()

    program = Program()
    program.install("db", body=body)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        main, beside = engine.stacks("db")
        assert main.name == "db"
        assert any(frame.endswith("in body") for frame in main.frames)
        assert [child.name for child in main.children] == ["inner"]
        assert beside.name == "helper one"
        assert any(frame.endswith("in helper") for frame in beside.frames)
        lines = str(main).splitlines()
        assert lines[0] == "db"
        assert "  | inner" in lines


async def test_e15_stacks_of_what_does_not_run_are_empty() -> None:
    program = Program()
    program.install("db", "nothing")
    async with program.running() as engine:
        assert engine.stacks("db") == ()
        with pytest.raises(NotFound):
            engine.stacks("nothing")


async def test_e15_a_task_that_has_not_begun_stands_at_its_first_line() -> None:
    async def body(life: Life) -> None:
        async with trio.open_nursery() as nursery:
            life.ready()
            nursery.start_soon(trio.sleep_forever, name="inner")
            (inner,) = program.engine.stacks("db")[0].children
            seen.extend((inner.name, frame) for frame in inner.frames)
            await life.obey()

    seen: list[tuple[str, str]] = []
    program = Program()
    program.install("db", body=body)
    async with program.running():
        await program.settle()
        [(name, where)] = seen
        assert name == "inner"
        assert where.endswith("in sleep_forever")


# -- wait_state ----


async def test_e15_wait_state_returns_at_once_where_it_is() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        assert await engine.wait_state("db") == "started"
        assert await engine.wait_state("db", "held", "started") == "started"


async def test_e15_wait_state_is_a_checkpoint() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with trio.CancelScope() as scope:
            scope.cancel()
            await engine.wait_state("db")
        assert scope.cancelled_caught


@pytest.mark.parametrize("state", ["starting", "started", "draining", "stopping", "waiting"])
async def test_e15_wait_state_sees_states_that_only_pass(state: str) -> None:
    program = Program()
    program.install("db")
    seen: list[str] = []

    async def wait() -> None:
        seen.append(await program.engine.wait_state("db", state))

    async with program.running() as engine:
        engine.hold("db")
        await engine.wait_settled()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            engine.release("db")
            await engine.wait_settled()
            if state in {"draining", "stopping"}:
                engine.hold("db")
                await engine.wait_settled()
    assert seen == [state]


async def test_e15_wait_state_returns_the_state_that_it_has_seen() -> None:
    """Also if somebody changes it during the checkpoint."""
    program = Program()
    program.install("db")
    async with program.running() as engine:
        waiting = engine.wait_state("db", "started")
        waiting.send(None)
        engine.hold("db")
        with pytest.raises(StopIteration) as end:
            waiting.send(outcome.Value(None))
        assert end.value.value == "started"
        await engine.wait_settled()


async def test_e15_wait_state_refuses_an_unknown_name_and_an_unknown_state() -> None:
    program = Program()
    program.install("database")
    async with program.running() as engine:
        with pytest.raises(NotFound, match='did you mean "database"'):
            await engine.wait_state("databse")
        with pytest.raises(ValueError, match="runing"):
            await engine.wait_state("database", "runing")


async def test_e15_wait_state_ends_with_not_found_if_it_is_uninstalled_meanwhile() -> None:
    program = Program()
    program.install("db", body=failing(Missing()))
    async with program.running() as engine, trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(NotFound, match="was uninstalled before it was held or started"):
                await engine.wait_state("db", "started", "held")

        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        engine.uninstall("db")


async def test_e15_wait_state_absent_is_what_follows_uninstall_with_or_without_a_run() -> None:
    program = Program()
    program.install("db")
    program.install("api", body=failing(Missing()))
    async with program.running() as engine:
        for name in "db", "api":
            engine.uninstall(name)
            assert await engine.wait_state(name, "absent") == "absent"
            program.install(name)
        await engine.wait_settled()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_e15_wait_state_ends_with_dying_if_the_engine_does(when: str) -> None:
    program = Program()
    program.install("db", body=failing(Missing()))

    async def wait() -> None:
        with pytest.raises(Dying):
            await program.engine.wait_state("db", "started")

    async with trio.open_nursery() as nursery:
        async with program.running():
            if when == "before":
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
        if when == "after":
            await wait()
    assert await program.engine.wait_state("db", "stopped") == "stopped"


async def test_e15_a_cancelled_waiter_leaves_nothing_behind() -> None:
    program = Program()
    program.install("db", body=failing(Missing()))
    async with program.running() as engine:
        for _ in range(3):
            with trio.move_on_after(0):
                await engine.wait_state("db", "started")
        observers = engine._machine.observers
        assert (observers.active, observers._waiters) == (False, {})


# -- wait_settled ----


async def test_e15_wait_settled_waits_for_starts_stops_and_delays(
    autojump_clock: MockClock,
) -> None:
    async def slow(life: Life) -> None:
        await trio.sleep(3)
        life.ready()
        try:
            await life.obey()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    program = Program()
    db = program.install("db", body=slow)
    program.install("api", "db", body=failing(OSError()))
    async with program.running() as engine:
        assert trio.current_time() == 4
        engine.restart("db")
        await engine.wait_settled()
        assert trio.current_time() == 4 + 5 + 3
        assert db.starts == 2
        db.body = serve


async def test_e15_wait_settled_does_not_wait_for_what_only_others_can_change() -> None:
    program = Program()
    program.install("waits", "nobody")
    program.install("misses", body=failing(Missing()))
    program.install("done", body=ready_and_return)
    program.install("held")
    program.engine.hold("held")
    async with program.running() as engine:
        await engine.wait_settled()
        assert program.states == {
            "waits": "waiting",
            "misses": "waiting",
            "done": "done",
            "held": "held",
        }


async def test_e15_wait_settled_is_answered_by_the_end_of_the_engine(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("db", body=when_told)
    settled: list[float] = []

    async def wait() -> None:
        await program.engine.wait_settled()
        settled.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        async with program.running(settle=False):
            await trio.sleep(7)
            assert settled == []
    assert settled == [7, 7]
    await program.engine.wait_settled()


async def test_e15_nobody_who_watched_leaves_a_cost_behind() -> None:
    program = Program()
    program.install("db", body=leave_softly, grace=1.0)
    async with program.running() as engine:
        with engine.events():
            await engine.wait_state("db")
            engine.restart("db")
            await engine.wait_settled()
        assert engine._machine.observers.active is False


async def test_e15_explain_says_of_one_that_is_done_that_it_was_never_ready(
    autojump_clock: MockClock,
) -> None:
    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        """Forget to call started()."""

    program = Program()
    program.engine.install("db", Manifold(start))
    program.install("api", "db")
    async with program.running() as engine:
        text = str(engine.explain("api"))

    assert text.startswith(
        "api waits for db; "
        "db is done: it returned without error and without having called started()"
    )


async def test_e15_explain_says_that_an_optional_input_is_not_there(
    autojump_clock: MockClock,
) -> None:
    program = Program()
    program.install("api", optional=("dbb",))
    async with program.running() as engine:
        assert str(engine.explain("api")).endswith("; its optional dbb is not installed")


async def test_e15_a_state_that_does_not_exist_is_refused_with_those_that_do() -> None:
    program = Program()
    program.install("db")
    async with program.running() as engine:
        with pytest.raises(ValueError, match="'startd' is no state of a manifold; these are: "):
            await engine.wait_state("db", "startd")
