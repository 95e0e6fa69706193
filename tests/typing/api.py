"""The types that users see; never run, but read by both type checkers.

``assert_type`` pins what a use of ours is inferred as. A line with an ignore is a mistake that a
user might make: both checkers must find it, mypy by the code in ``type: ignore``, pyright by the
rule in ``pyright: ignore``; an ignore that is not needed is an error itself. What only one of them
finds has one of the two.
"""

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, assert_type

import trio

from trioworker import (
    AlreadyExists,
    Bounce,
    Catacomb,
    CatacombReport,
    CycleError,
    Dying,
    Engine,
    EngineConfig,
    Getter,
    Installer,
    LiveView,
    Manifold,
    Missing,
    NotifyHandler,
    Reporter,
    RestartPolicy,
    RetryAfter,
    Runner,
    RunnerConfig,
    RunnerReport,
    RunnerWorkerReport,
    State,
    StringsHandler,
    Tomb,
    TombReport,
    TombState,
    TrioworkerError,
    Uninstall,
    Watcher,
    Worker,
    notify_worker,
    open_worker,
    periodic_worker,
    self_manifold,
    simple_worker,
    stop,
    strings_worker,
)
from trioworker.agent import (
    Agent,
    AgentFileError,
    Mask,
    Problem,
    Program,
    configure_logging,
    load,
    open_program,
    run_agent,
    run_engine,
)
from trioworker.dependency import (
    End,
    EngineReport,
    EventStream,
    Explanation,
    ManifoldReport,
    Transition,
)
from trioworker.testing import (
    DeadWorker,
    ErrorWorker,
    Faces,
    FakeWatcher,
    ForeverWorker,
    ManifoldHarness,
    StubGetter,
    check_alive,
    check_killed,
    clean_kill,
    dirty_kill,
    open_engine,
)

# -- workers --------------------------------------------------------------------------------------


class Forwarder:
    """A worker as users write it; nothing says that it is one."""

    def __init__(self) -> None:
        self._tomb = Tomb(name="forwarder", grace=1.0)

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        with self._tomb as tomb:
            assert_type(tomb, Tomb)
            task_status.started(1)
            await self._tomb.wait_dying()

    def kill(self, reason: BaseException | None = None) -> None:
        self._tomb.kill(reason)

    async def wait(self) -> None:
        await self._tomb.wait()


class NoWorker:
    """Cannot be waited for."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    def kill(self, reason: BaseException | None = None) -> None:
        raise NotImplementedError


async def add(a: int, b: str) -> float:
    return a + len(b)


def not_async() -> None:
    raise NotImplementedError


async def workers_are_what_has_three_methods() -> None:
    all_of_ours: list[Worker] = [
        Forwarder(),
        Runner(),
        Engine(),
        simple_worker(trio.sleep_forever),
        ErrorWorker(OSError()),
        DeadWorker(),
        ForeverWorker(),
        FakeWatcher[int](1),
    ]
    assert_type(await stop(all_of_ours[0]), None)
    _: Worker = NoWorker()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await stop(NoWorker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await stop(Forwarder)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_block_keeps_the_type_of_its_worker() -> None:
    async with open_worker(Forwarder()) as forwarder:
        assert_type(forwarder, Forwarder)
    async with open_worker(Engine()) as engine:
        assert_type(engine, Engine)
    open_worker(NoWorker())  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    with open_worker(Forwarder()):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


def functions_as_workers() -> None:
    assert_type(simple_worker(add, 1, "a"), Worker)
    assert_type(periodic_worker(add, 1, "a", period=1.0, jitter=0.1, immediately=False), Worker)
    simple_worker(add, "a", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    simple_worker(add, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    simple_worker(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    periodic_worker(add, 1, "a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    periodic_worker(not_async, period=1.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    periodic_worker(add, 1, "a", period="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- tomb and catacomb ----------------------------------------------------------------------------


async def a_tomb_tells_all() -> None:
    tomb = Tomb()
    assert_type(tomb.kill(), None)
    assert_type(tomb.kill(OSError(), grace=0), None)
    assert_type(await tomb.wait(), None)
    assert_type(await tomb.wait_dying(), None)
    assert_type(tomb.while_alive(), AbstractContextManager[None])
    assert_type(tomb.state, TombState)
    assert_type(tomb.is_dying, bool)
    assert_type(tomb.is_dead, bool)
    assert_type(tomb.name, str)
    assert_type(tomb.reason, BaseException | None)
    assert_type(tomb.suppressed, tuple[BaseException, ...])
    assert_type(tomb.refusal(), Dying)
    assert_type(tomb.report(), TombReport)

    tomb.kill("why")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tomb.kill(OSError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tomb.reason = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Tomb(1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with tomb:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


async def a_catacomb_owns_workers() -> None:
    catacomb = Catacomb(name="owner", grace=math.inf)
    async with catacomb as entered:
        assert_type(entered, Catacomb)
        assert_type(catacomb.add(Forwarder()), None)
        assert_type(await catacomb.start(Forwarder()), Any)
        catacomb.add(NoWorker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        catacomb.add(trio.sleep_forever)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await catacomb.add(Forwarder())  # type: ignore[func-returns-value, misc]  # pyright: ignore[reportGeneralTypeIssues]
    assert_type(await catacomb.wait(), None)
    assert_type(catacomb.while_alive(), AbstractContextManager[None])
    assert_type(catacomb.state, TombState)
    assert_type(catacomb.report(), CatacombReport)
    assert_type(catacomb.report().tomb, TombReport)
    assert_type(catacomb.report().children, tuple[object, ...])
    with catacomb:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


# -- watchers -------------------------------------------------------------------------------------


class Files:
    """A handler of strings."""

    async def set_up(self) -> FakeWatcher[tuple[str, ...]]:
        return FakeWatcher(("a",))

    async def handle(self, change: tuple[str, ...]) -> None:
        raise NotImplementedError

    async def tear_down(self) -> None:
        raise NotImplementedError


class Ticks:
    """A handler of events without content."""

    async def set_up(self) -> Watcher[int]:
        return FakeWatcher(1)

    async def handle(self) -> None:
        raise NotImplementedError

    async def tear_down(self) -> None:
        raise NotImplementedError


def handlers_are_what_has_three_methods() -> None:
    strings: StringsHandler = Files()
    ticks: NotifyHandler = Ticks()
    assert_type(strings_worker(strings, tear_down_timeout=1.0), Worker)
    assert_type(notify_worker(ticks), Worker)
    notify_worker(Files())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    strings_worker(Ticks())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_watcher_says_what_it_watches(watcher: Watcher[bool]) -> None:
    assert_type(watcher.changes, trio.MemoryReceiveChannel[bool])
    _numbers: Watcher[int] = watcher  # a bool is an int
    _words: Watcher[str] = watcher  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# -- runner ---------------------------------------------------------------------------------------


async def make_forwarder() -> Forwarder:
    return Forwarder()


async def a_runner_keeps_workers_by_name() -> None:
    config = RunnerConfig(
        name="servers",
        is_fatal=lambda error: bool(assert_type(error, Exception).args),
        should_restart=lambda error: isinstance(error, OSError),
        more_important=lambda worst, error: error if isinstance(error, OSError) else worst,
        restart=RestartPolicy(error_delay=1, max_restarts=None),
        stop_timeout=math.inf,
    )
    runner = Runner(config)
    assert_type(runner.start_worker("plain", Forwarder), None)
    assert_type(runner.start_worker("async", make_forwarder), None)
    assert_type(runner.stop_worker("plain"), None)
    assert_type(await runner.stop_and_remove("async"), None)
    assert_type(await runner.worker("plain"), Worker)
    assert_type(runner.names(), tuple[str, ...])
    assert_type(runner.report(), RunnerReport)
    assert_type(runner.report().workers, tuple[RunnerWorkerReport, ...])
    assert_type(runner.report().workers[0].next_start, float | None)

    runner.start_worker("one", Forwarder())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    runner.start_worker("one", not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RunnerConfig("servers")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    config.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    RunnerConfig(is_fatal=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_restart_policy_is_numbers() -> None:
    policy = RestartPolicy(factor=2, max_restarts=3, period=60)
    assert_type(policy.error_delay, float)
    assert_type(policy.max_restarts, int | None)
    RestartPolicy(max_restarts=0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RestartPolicy(1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RestartPolicy(delay=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    policy.factor = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# -- manifolds ------------------------------------------------------------------------------------


class Clock(Protocol):
    """A face that an output is seen through."""

    def now(self) -> float: ...


class Wall:
    """What has that face."""

    def now(self) -> float:
        raise NotImplementedError


async def start(get: Getter, *, task_status: trio.TaskStatus[Wall]) -> None:
    """Be a start function, and ask in all ways."""
    assert_type(get("clock", Clock), Clock)
    assert_type(get("clock", Wall), Wall)
    assert_type(get("clock", list), list[Any])
    assert_type(get("names", list[str]), list[str])
    assert_type(get.optional("clock", Clock), Clock | None)
    assert_type(get.optional("clock", Wall), Wall | None)
    assert_type(get.live("clock", Clock), LiveView[Clock])
    assert_type(get.live("clock", Wall), LiveView[Wall])
    assert_type(get.is_stopping, bool)
    assert_type(await get.wait_stopping(), None)
    assert_type(get.start_soon(add, 1, "a", name="helper"), None)
    task_status.started(Wall())

    get("clock")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    get("clock", "Clock")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    get.optional("clock", Clock).now()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    get.live("clock", Clock).now()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    get.start_soon(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    get.kill()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    task_status.started(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_live_view_may_be_empty(view: LiveView[Wall]) -> None:
    assert_type(view.value, Wall | None)
    assert_type(await view.wait_value(lambda wall: wall is not None), Wall | None)
    async for wall in view:
        assert_type(wall, Wall | None)
    _: LiveView[Clock] = view  # a Wall is a Clock
    view.value.now()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    view.value = None  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@asynccontextmanager
async def open_wall(get: Getter) -> AsyncGenerator[Wall, None]:
    yield Wall()


def build(get: Getter) -> Forwarder:
    return Forwarder()


def as_clock(wall: Wall) -> Clock:
    return wall


def manifolds_are_made_in_many_ways() -> None:
    manifold = Manifold(
        start,
        inputs=("clock",),
        optional=["cache"],
        live={"config"},
        outputs={Clock: as_clock},
        filter=lambda error: Bounce() if isinstance(error, OSError) else error,
        ask=as_clock,
        grace=1,
        start_timeout=None,
        stop_timeout=math.inf,
        restart=RestartPolicy(),
    )
    assert_type(manifold.inputs, tuple[str, ...])
    assert_type(manifold.optional, tuple[str, ...])
    assert_type(manifold.live, tuple[str, ...])
    assert_type(manifold.outputs, Mapping[type, Callable[[Any], object]])
    assert_type(manifold.grace, float)
    assert_type(manifold.restart, RestartPolicy | None)
    assert_type(manifold.bind({"clock": "wall"}), Manifold)
    assert_type(manifold.bound(["clock"]), tuple[str, ...])

    assert_type(Manifold.from_start(start), Manifold)
    assert_type(Manifold.from_start(start, inputs=("clock",)), Manifold)
    assert_type(Manifold.from_context(open_wall, grace=1), Manifold)
    assert_type(Manifold.from_worker(build, inputs=("clock",)), Manifold)

    Manifold(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Manifold(start, ("clock",))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Manifold(start, input=("clock",))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    manifold.grace = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Manifold.from_start(start, input=("clock",))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Manifold.from_context(build)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Manifold.from_worker(open_wall)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Manifold.from_worker(Forwarder)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@Manifold.from_start
async def decorated(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    raise NotImplementedError


@Manifold.from_start(inputs=("clock",), grace=1.0)
async def decorated_with_options(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    raise NotImplementedError


@Manifold.from_context
@asynccontextmanager
async def decorated_context(get: Getter) -> AsyncGenerator[Wall, None]:
    yield Wall()


@Manifold.from_context(live=("config",))
@asynccontextmanager
async def decorated_context_with_options(get: Getter) -> AsyncGenerator[Wall, None]:
    yield Wall()


@Manifold.from_worker
def decorated_worker(get: Getter) -> Forwarder:
    return Forwarder()


@Manifold.from_worker(inputs=("clock",))
def decorated_worker_with_options(get: Getter) -> Forwarder:
    return Forwarder()


@Manifold.from_worker(grace="1")  # type: ignore[call-overload, untyped-decorator]  # pyright: ignore[reportArgumentType]
def decorated_wrongly(get: Getter) -> Forwarder:
    return Forwarder()


def decorated_functions_are_manifolds() -> None:
    assert_type(decorated, Manifold)
    assert_type(decorated_with_options, Manifold)
    assert_type(decorated_context, Manifold)
    assert_type(decorated_context_with_options, Manifold)
    assert_type(decorated_worker, Manifold)
    assert_type(decorated_worker_with_options, Manifold)
    decorated_worker(StubGetter())  # type: ignore[operator]  # pyright: ignore[reportCallIssue]


def verdicts_say_what_is_next() -> None:
    verdicts: list[Exception] = [Bounce(), Missing("no line"), RetryAfter(1, "busy"), Uninstall()]
    raise verdicts[0]


def a_delay_is_seconds() -> None:
    assert_type(RetryAfter(1).seconds, float)
    RetryAfter()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RetryAfter("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def errors_tell_what_they_are_about(cycle: CycleError, dying: Dying) -> TrioworkerError:
    assert_type(cycle.path, tuple[str, ...])
    assert_type(dying.owner, object)
    return AlreadyExists("one error of ours is as good as another")


# -- engine ---------------------------------------------------------------------------------------


async def an_engine_keeps_manifolds_running() -> None:
    engine = Engine(EngineConfig(name="site", on_failed="fatal"), random=lambda: 0.5)
    assert_type(engine.install("one", decorated), None)
    assert_type(engine.install_all({"two": decorated}, later=["one"]), None)
    assert_type(engine.uninstall("one"), None)
    assert_type(engine.restart("two"), None)
    assert_type(engine.hold("two"), None)
    assert_type(engine.release("two"), None)
    assert_type(engine.drain(), None)
    assert_type(engine.kill(OSError(), grace=0), None)
    assert_type(await engine.wait(), None)
    assert_type(await engine.wait_state("two", "started", State.DONE), State)
    assert_type(await engine.wait_settled(), None)
    assert_type(engine.blast_radius("two"), tuple[str, ...])
    assert_type(engine.name, str)
    assert_type(engine.state, TombState)
    assert_type(self_manifold(engine), Manifold)

    engine.install("one", start)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine.install(decorated)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    engine.install_all([decorated])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await engine.install("one", decorated)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    Engine(name="site")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    EngineConfig("site")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    EngineConfig(on_failed="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    EngineConfig(is_fatal=OSError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def an_engine_tells_all(engine: Engine) -> None:
    report = engine.report()
    assert_type(report, EngineReport)
    assert_type(report.tomb, TombReport)
    assert_type(report.manifolds, Mapping[str, ManifoldReport])
    assert_type(report.manifolds["two"].retry_in, float | None)
    assert_type(report.manifolds["two"].history, tuple[End, ...])
    assert_type(report.manifolds["two"].history[0].error, str | None)
    report.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

    explanation = engine.explain("two")
    assert_type(explanation, Explanation)
    assert_type(explanation.because, Explanation | None)
    assert_type(explanation.root, Explanation)

    with engine.events(capacity=10) as events:
        assert_type(events, EventStream)
        assert_type(events.dropped, int)
        async for transition in events:
            assert_type(transition, Transition)
            assert_type(transition.after, State)
            assert_type(transition.cause, str | None)
        for _ in events:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
            pass


def a_program_may_change_itself(get: Getter) -> None:
    installer = get("self", Installer)
    assert_type(installer, Installer)
    assert_type(installer.install("one", decorated), None)
    assert_type(installer.install_all({"one": decorated}, later=()), None)
    assert_type(installer.uninstall("one"), None)
    assert_type(get("self", Reporter).report(), object)
    engines: list[tuple[Installer, Reporter]] = [(Engine(), Engine())]
    engines[0][0].kill()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


# -- testing --------------------------------------------------------------------------------------


async def checks_take_any_worker() -> None:
    assert_type(await check_alive(Forwarder()), None)
    assert_type(await check_killed(Forwarder(), within=1), BaseException | None)
    assert_type(await clean_kill(Forwarder()), None)
    assert_type(await dirty_kill(Forwarder()), BaseException | None)
    await check_alive(NoWorker())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def doubles_do_one_thing_on_demand() -> None:
    assert_type(ErrorWorker(OSError()).fail(), None)
    assert_type(DeadWorker().error, BaseException | None)
    with ForeverWorker() as forever:
        assert_type(forever, ForeverWorker)
        assert_type(forever.kills, int)
    watcher = FakeWatcher(1, 2)
    assert_type(watcher, FakeWatcher[int])
    assert_type(watcher.changes, trio.MemoryReceiveChannel[int])
    watcher.send("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ErrorWorker("no error")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_stub_getter_is_a_getter(nursery: trio.Nursery) -> None:
    stub = StubGetter(required={"clock": Faces({Clock: Wall()})}, nursery=nursery)
    await start(stub, task_status=trio.TASK_STATUS_IGNORED)
    assert_type(stub.change("clock", Wall()), None)
    assert_type(stub.stop(), None)
    assert_type(stub.end(), None)
    StubGetter({"clock": Wall()})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def a_harness_plays_a_manifold() -> None:
    harness = ManifoldHarness("output", ready=False)
    assert_type(harness.manifold(inputs=("clock",)), Manifold)
    assert_type(harness.get, Getter)
    assert_type(harness.starts, int)
    assert_type(harness.is_running, bool)
    assert_type(await harness.assert_one_start(within=1), None)
    assert_type(await harness.assert_no_start(), None)
    harness.fail("no error")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def an_engine_runs_for_the_length_of_a_block() -> None:
    block = open_engine({"one": decorated}, EngineConfig(), settle_within=None)
    _: AbstractAsyncContextManager[Engine] = block
    async with block as engine:
        assert_type(engine, Engine)
    open_engine([decorated])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- agents ---------------------------------------------------------------------------------------


async def an_agent_file_describes_a_program() -> None:
    agent = load(Path("agent.toml"), environ={"HOME": "/"})
    assert_type(agent, Agent)
    assert_type(agent.path, Path)
    assert_type(agent.config, EngineConfig)
    assert_type(agent.manifolds, Mapping[str, Manifold])
    assert_type(agent.mask, Mask)
    assert_type(agent.mask("text"), str)
    assert_type(agent.engine(), Engine)
    assert_type(configure_logging("json", level="INFO", mask=agent.mask), None)
    assert_type(await run_agent(agent), int)
    assert_type(await run_engine(agent.engine(), leave=lambda status: None), int)
    configure_logging("xml")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    load(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run_agent("agent.toml")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def a_program_may_be_named() -> None:
    program = open_program("shop:engine")
    assert_type(program, Program)
    assert_type(program.engine, Engine)


def problems_are_told_together(error: AgentFileError) -> None:
    assert_type(error.problems, tuple[Problem, ...])
    assert_type(error.problems[0].path, str)
    assert_type(error.problems[0].cause, BaseException | None)
    assert_type(error.mask, Callable[[str], str])
