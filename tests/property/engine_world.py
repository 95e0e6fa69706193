"""The world that an engine of the property tests lives in: workers that do anything they are told.

A `World` has one engine, and notes what happens: each call of a verb, and each thing that one of
its workers does or feels, as an `Entry` for the model. A worker (`Life`) is a start function that
first does what its `Plan` says, then what it is told, and, when it is cancelled, what its plan says
for that. Foreign code that the engine calls (`ask`, `filter`, `is_fatal`, `worst_error`) may be
*armed* with a verb, which it calls the next time that it is called itself.

Every exception has a number of its own in its text (``<17>``), so that the end of a test can look
for it in histories, results and the log.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from trioworker import Dying, RestartPolicy
from trioworker.dependency import (
    Bounce,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Missing,
    RetryAfter,
    Transition,
    Uninstall,
)

from .driver import Driver, Spawned
from .engine_model import Entry, History, Policy, Spec

RETRY = 1.37

Status = trio.TaskStatus[Any]
Verb = tuple[str, tuple[Any, ...]]


class Fault(Exception):
    """An error like any other."""


class Domain(Exception):
    """An error that the filter of a manifold may know."""


class Fatal(Exception):
    """An error that `is_fatal` says is one."""


class Poison(Exception):
    """An error that `is_fatal` cannot look at."""


KINDS: dict[type[BaseException], str] = {
    Fatal: "fatal",
    Poison: "poison",
    KeyboardInterrupt: "interrupt",
    Dying: "dying",
    Uninstall: "uninstall",
    Missing: "missing",
    Bounce: "bounce",
}


@dataclass(frozen=True)
class Token:
    """What a worker offers: which run of whom it is."""

    name: str
    number: int


@dataclass(frozen=True)
class Plan:
    """What a worker does without being told."""

    begin: str = "ready"  # or "late", "hang", "return", "fail", "flash"
    fault: str = "error"  # with which it fails
    late: float = 0.51
    stop: str = "die"  # or "raise", "linger", "stuck", "swallow", "verb"
    stop_fault: str = "error"
    ask: str = "ignore"  # or "leave", "raise"
    verb: Verb | None = None  # in its start
    stop_verb: Verb | None = None  # in its clean-up


QUIET = Plan()


@dataclass(frozen=True)
class Kind:
    """How a manifold is made, as far as the model does not need to know."""

    spec: Spec
    filter: str = "none"  # or "translate", "drop", "break"


class Life:
    """One run of a worker."""

    def __init__(self, world: World, name: str, plan: Plan) -> None:
        self.world = world
        self.name = name
        self.plan = plan
        world.numbers[name] = self.number = world.numbers.get(name, 0) + 1
        self.token = Token(name, self.number)
        self.send, self._orders = trio.open_memory_channel[tuple[Any, ...]](math.inf)
        self.let_go = trio.Event()
        self.is_ready = False
        self.is_over = False
        self.shielded = False
        self.asleep_until: float | None = None
        self.helpers: list[trio.MemorySendChannel[str]] = []

    def note(self, what: str, data: Any = None) -> Entry:
        return self.world.note(what, self.name, self.number, data)

    async def run(self, get: Getter, status: Status, spec: Spec) -> None:
        self.world.lives[self.name] = self
        self.note("begin", given(get, spec))
        try:
            try:
                await self.live(get, status, spec)
            except trio.Cancelled:
                self.note("felt")
                await self.die()
                raise
        except BaseException as exc:
            self.is_over = True
            self.note("left", kinds_of(exc))
            raise
        self.is_over = True
        self.note("left", [])

    async def live(self, get: Getter, status: Status, spec: Spec) -> None:
        plan = self.plan
        if plan.begin == "fail":
            raise self.world.error(plan.fault)
        if plan.begin == "return":
            return
        if plan.verb:
            self.world.verb(plan.verb)
        for name in spec.live:
            self.look_at(get, name)
        if plan.begin == "late":
            await self.sleep(plan.late)
        if plan.begin != "hang":
            self.ready(status)
        if plan.begin == "flash":
            return
        async for order in self._orders:
            if order[0] == "return":
                return
            if order[0] == "cancel":
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await trio.sleep_forever()
                return
            if order[0] == "live" and spec.live:
                self.look_at(get, spec.live[0])
            await self.obey(order, get, status)

    async def obey(self, order: tuple[Any, ...], get: Getter, status: Status) -> None:
        match order[0]:
            case "raise":
                raise self.world.error(order[1])
            case "ready" if not self.is_ready:
                self.ready(status)
            case "shield":
                with self.shield():
                    await self.sleep(order[1])
            case "helper":
                send, receive = trio.open_memory_channel[str](math.inf)
                self.helpers.append(send)
                self.note("helper")
                get.start_soon(self.help, receive, order[1])
            case "verb":
                self.world.verb(order[1])
            case _:
                pass

    def ready(self, status: Status) -> None:
        self.is_ready = True
        self.note("ready")
        status.started(self.token)

    def look_at(self, get: Getter, name: str) -> None:
        token = get.live(name, Token).value
        self.note("live", (name, token.number if token else 0))

    async def sleep(self, seconds: float) -> None:
        self.asleep_until = trio.current_time() + seconds
        try:
            await trio.sleep(seconds)
        finally:
            self.asleep_until = None

    async def die(self) -> None:
        plan = self.plan
        if plan.stop_verb:
            self.world.verb(plan.stop_verb)
        if plan.stop == "raise":
            raise self.world.error(plan.stop_fault) from None
        if plan.stop == "linger":
            with self.shield():
                await self.sleep(0.77)
        if plan.stop == "stuck":
            with self.shield():
                await self.let_go.wait()

    @contextmanager
    def shield(self) -> Generator[None]:
        self.shielded = True
        try:
            with trio.CancelScope(shield=True):
                yield
        finally:
            self.shielded = False

    async def help(self, orders: trio.MemoryReceiveChannel[str], lingers: bool) -> None:  # noqa: FBT001 - a plan
        leaves: list[str] = []
        try:
            order = await orders.receive()
            if order != "return":
                raise self.world.error(order)
        except trio.Cancelled:
            if lingers:
                with trio.CancelScope(shield=True):
                    await self.let_go.wait()
            raise
        except BaseException as exc:
            leaves = kinds_of(exc)
            raise
        finally:
            self.helpers = [h for h in self.helpers if h.statistics().open_receive_channels]
            self.note("helper_left", leaves)

    def asked(self) -> None:
        with self.world.hook("ask"):
            if self.plan.ask == "raise":
                error = self.world.error("error")
                self.note("asked", kinds_of(error))
                raise error
            self.note("asked", [])
            if self.plan.ask == "leave":
                self.send.send_nowait(("return",))


class World:
    """An engine, what it works on, and what was seen."""

    def __init__(
        self, driver: Driver, policy: Policy, *, on_failed: str = "report", chance: float = 0.5
    ) -> None:
        self.driver = driver
        self.policy = policy
        self.history: History = []
        self.lives: dict[str, Life] = {}
        self.numbers: dict[str, int] = {}
        self.plans: dict[str, list[Plan]] = {}
        self.made: dict[int, BaseException] = {}
        self.hidden: set[int] = set()  # by a filter, on purpose
        self.armed: dict[str, Verb] = {}
        self.depth = 0
        self.is_draining = False
        self.seen = 0  # how much of the history was before the last rest
        self.kinds: dict[str, list[Kind]] = {}  # all that were installed under a name
        self.transitions: list[Transition] = []
        self.records: list[str] = []
        self.running: Spawned[None] | None = None
        config = EngineConfig(
            restart=restart_policy(policy),
            is_fatal=self.is_fatal,
            worst_error=self.worst_error,
            filter=self.engine_filter,
            on_failed="fatal" if on_failed == "fatal" else "report",
            history=100_000,
        )
        self.engine = Engine(config, random=lambda: chance)
        self.watcher = driver.spawn(self.watch, name="recorder")
        self.tasks = driver.do(living)

    async def watch(self) -> None:
        with self.engine.events(capacity=1_000_000) as events:
            async for transition in events:
                self.transitions.append(transition)
            assert events.dropped == 0

    def note(self, what: str, name: str = "", run: int = 0, data: Any = None) -> Entry:
        entry = Entry(self.driver.now, what, name, run, data, hooked=self.depth > 0)
        self.history.append(entry)
        return entry

    # -- verbs -------------------------------------------------------------------------------------

    def verb(self, verb: Verb) -> None:
        """Call a verb of the engine, and note it with what it raised."""
        what, args = verb
        entry, call = self.call_of(what, args)
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - noted, and judged by the model
            entry.result = type(exc).__name__

    def call_of(self, what: str, args: tuple[Any, ...]) -> tuple[Entry, Callable[[], object]]:
        engine = self.engine
        if what == "kill":
            kind, grace = args
            reason = self.error(kind) if kind else None
            leaves = kinds_of(reason) if reason else []
            entry = self.note(what, data={"reason": leaves, "grace": grace})
            return entry, lambda: engine.kill(reason, grace=grace)
        if what == "drain":
            return self.note(what), self.drain
        if what == "install":
            kinds, later = args
            return self.installing(kinds, later)
        return self.note(what, args[0]), lambda: getattr(engine, what)(args[0])

    def drain(self) -> None:
        was, self.is_draining = self.is_draining, True
        try:
            self.engine.drain()
        finally:
            self.is_draining = was

    def installing(
        self, kinds: dict[str, Kind], later: tuple[str, ...] | None
    ) -> tuple[Entry, Callable[[], object]]:
        """Install one (``later`` is None) or several."""
        specs = {name: kind.spec for name, kind in kinds.items()}
        entry = self.note("install", data={"specs": specs, "later": later})
        manifolds = {name: self.manifold(name, kind) for name, kind in kinds.items()}

        def call() -> None:
            if later is None:
                for name, manifold in manifolds.items():
                    self.engine.install(name, manifold)
            else:
                self.engine.install_all(manifolds, later=later)
            for name, kind in kinds.items():
                self.kinds.setdefault(name, []).append(kind)

        return entry, call

    def manifold(self, name: str, kind: Kind) -> Manifold:
        spec = kind.spec

        async def start(get: Getter, *, task_status: Status) -> None:
            plans = self.plans.get(name)
            plan = plans.pop(0) if plans else QUIET
            await Life(self, name, plan).run(get, task_status, spec)

        def ask(token: Token) -> None:
            life = self.lives[name]
            assert life.token == token
            life.asked()

        def translate(error: Exception) -> BaseException | None:
            with self.hook("filter"):
                return self.translated(name, kind.filter, error)

        return Manifold(
            start,
            inputs=spec.inputs,
            optional=spec.optional,
            live=spec.live,
            filter=None if kind.filter == "none" else translate,
            ask=ask if spec.ask else None,
            grace=spec.grace,
            start_timeout=spec.start_timeout,
            stop_timeout=spec.stop_timeout,
            restart=None if spec.policy is None else restart_policy(spec.policy),
        )

    def translated(self, name: str, how: str, error: Exception) -> BaseException | None:
        life = self.lives[name]
        result: BaseException | None = error
        if isinstance(error, Domain) or how == "break":
            if how == "translate":
                result = self.error("missing")
                result.__cause__ = error
                self.hidden.add(number_of(error))
            elif how == "drop":
                result = None
                self.hidden.add(number_of(error))
            else:
                broken = self.error("error")
                self.note_filtered(life, broken)
                raise broken
        self.note_filtered(life, result)
        return result

    def note_filtered(self, life: Life, result: BaseException | None) -> None:
        life.note("filtered", [] if result is None else kinds_of(result))

    # -- foreign code ------------------------------------------------------------------------------

    def is_in_between(self, verb: Verb) -> bool:
        """Whether a verb that foreign code calls hits one whose end is being dealt with just now.

        Before or after the decision, it would make the difference of one failure that counts, and
        which of them it is, nobody but the engine can tell. So it is put off; likewise a release in
        the middle of a drain, before or after what it releases was held.
        """
        what, args = verb
        if what == "release" and self.is_draining:
            return True
        ending = {e.name for e in self.history[self.seen :] if e.what in ("left", "helper_left")}
        return (
            bool(ending) if what == "drain" else what in ("restart", "hold") and args[0] in ending
        )

    @contextmanager
    def hook(self, name: str) -> Generator[None]:
        self.depth += 1
        try:
            if (verb := self.armed.get(name)) and not self.is_in_between(verb):
                del self.armed[name]
                self.verb(verb)
            yield
        finally:
            self.depth -= 1

    def is_fatal(self, exc: BaseException) -> bool:
        with self.hook("is_fatal"):
            if isinstance(exc, Poison):
                raise self.error("error")
            return isinstance(exc, Fatal)

    def worst_error(self, a: BaseException, b: BaseException) -> BaseException:
        with self.hook("worst_error"):
            return a

    def engine_filter(self, exc: Exception) -> BaseException | None:
        with self.hook("engine_filter"):
            return exc

    def error(self, kind: str) -> BaseException:
        """Make an exception with a number of its own."""
        if kind.startswith("group"):
            return BaseExceptionGroup("of several", [self.error(k) for k in kind.split()[1:]])
        number = len(self.made) + 1
        text = f"<{number}>"
        error: BaseException
        if kind == "retry":
            error = RetryAfter(RETRY, text)
        elif kind == "error":
            error = Fault(text)
        elif kind == "domain":
            error = Domain(text)
        else:
            error = next(type_ for type_, name in KINDS.items() if name == kind)(text)
        self.made[number] = error
        return error


def given(get: Getter, spec: Spec) -> dict[str, int]:
    """Return the number of the run of each input that a run is given; 0 for none."""
    tokens = {name: get(name, Token).number for name in spec.inputs}
    for name in spec.optional:
        token = get.optional(name, Token)
        tokens[name] = token.number if token else 0
    return tokens


def kinds_of(exc: BaseException) -> list[str]:
    """Return what the model needs to know of an exception: the kinds of its leaves."""
    if isinstance(exc, BaseExceptionGroup):
        return [kind for part in exc.exceptions for kind in kinds_of(part)]
    if isinstance(exc, trio.Cancelled):
        return []
    number = str(exc).rpartition("<")[2].rstrip(">")
    number = number if number.isdecimal() else "0"
    if isinstance(exc, RetryAfter):
        return [f"retry {number} {exc.seconds}"]
    return [f"{KINDS.get(type(exc), 'error')} {number}"]


def number_of(exc: BaseException) -> int:
    """Return the number of an exception that `World.error` made; 0 for any other."""
    return 0 if isinstance(exc, BaseExceptionGroup) else int(kinds_of(exc)[0].split()[1])


def restart_policy(policy: Policy) -> RestartPolicy:
    return RestartPolicy(**vars(policy))


def living() -> int:
    """How many tasks there are."""
    return trio.lowlevel.current_statistics().tasks_living


class Collector(logging.Handler):
    """Keeps what was logged, as text."""

    def __init__(self, records: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.records.append(f"{record.levelname}: {record.getMessage()} | {texts(error)}")


def texts(error: BaseException | None) -> str:
    """Return the texts of all in an exception: its leaves, notes, causes and contexts."""
    found, queue, seen = list[str](), [error], set[int]()
    while queue:
        exc = queue.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        found += [str(exc), *getattr(exc, "__notes__", ())]
        queue += [exc.__cause__, exc.__context__]
        if isinstance(exc, BaseExceptionGroup):
            queue += exc.exceptions
    return " ".join(found)
