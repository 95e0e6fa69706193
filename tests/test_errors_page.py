"""The page about errors shows what is said: each message on it is provoked here, word for word.

Numbers of seconds and of lines in files are as the page has them; what changes from machine to
machine is left out on both sides.
"""

import logging
import re
import socket
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from trioworker import (
    Catacomb,
    Engine,
    EngineConfig,
    Getter,
    Manifold,
    Missing,
    RestartPolicy,
    Runner,
    RunnerConfig,
    Tomb,
    TrioworkerError,
    Worker,
    notify_worker,
    open_worker,
    simple_worker,
)
from trioworker._cli._client import Client
from trioworker.agent import load
from trioworker.dependency._states import Event, State, impossible
from trioworker.testing import FakeWatcher

from .pages import DOCS

PAGE = (DOCS / "errors.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```text\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)

Start = Callable[..., Awaitable[object]]
Provoke = Callable[..., Awaitable[object]]
PROVOKED: list[Provoke] = []


def provokes(function: Provoke) -> Provoke:
    """Register what raises an error whose message the page has, or returns the message."""
    PROVOKED.append(function)
    return function


async def said_by(function: Provoke, tmp_path: Path) -> str:
    """Return the message, without what differs between machines."""
    try:
        told = await function(tmp_path)
    except Exception as exc:  # noqa: BLE001 - whichever it is, the page has its message
        told = exc
    text = str(told)
    text = re.sub(r"it was at \S+/tests/\w+\.py:\d+", "it was at shop.py:12", text)
    return text.replace(f"{tmp_path}/", "").split("\n")[0]


def test_the_page_shows_nothing_else() -> None:
    assert len(SHOWN) == len(set(SHOWN)) == len(PROVOKED)


def test_the_page_has_each_public_error_of_the_framework() -> None:
    for package in ("trioworker", "trioworker.agent"):
        module = import_module(package)
        errors = [
            name
            for name in module.__all__
            if isinstance(thing := getattr(module, name), type)
            and issubclass(thing, TrioworkerError)
        ]
        assert errors
        assert [name for name in errors if name not in PAGE] == []


def forever() -> Worker:
    return simple_worker(trio.sleep_forever)


# -- lifetimes -------------------------------------------------------------------------------------


@provokes
async def dying(_: Path) -> object:
    tomb = Tomb(name="db")
    tomb.kill(OSError("no line"))
    return tomb.refusal()


@provokes
async def dead(_: Path) -> None:
    crew = Catacomb(name="crew")
    async with crew:
        pass
    crew.add(forever())


@provokes
async def entered_twice(_: Path) -> None:
    tomb = Tomb(name="db")
    with tomb:
        pass
    with tomb:
        pass


@provokes
async def added_too_early(_: Path) -> None:
    Catacomb(name="crew").add(forever())


async def ready(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
    task_status.started("news")
    await trio.sleep_forever()


async def hangs(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
    await trio.sleep_forever()


def engine_of(**manifolds: Manifold) -> Engine:
    config = EngineConfig(name="shop", is_fatal=lambda exc: isinstance(exc, TrioworkerError))
    engine = Engine(config)
    engine.install_all(manifolds)
    return engine


async def run_until_it_fails(page: Manifold) -> None:
    async with open_worker(engine_of(page=page)) as engine:
        await engine.wait()


async def asked(ask: Callable[[Getter], object], **options: Any) -> object:
    """Return what a start function gets that asks so, with an input "feed" that runs."""
    got: list[object] = []

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            ask(get)
        except TrioworkerError as exc:
            got.append(exc)
        task_status.started()

    engine = engine_of(feed=Manifold(ready), page=Manifold(start, **options))
    async with open_worker(engine):
        await engine.wait_state("page", "done")
    return got[0]


@provokes
async def getter_kept(_: Path) -> None:
    kept: list[Getter] = []

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        kept.append(get)
        task_status.started()

    engine = engine_of(page=Manifold(start))
    async with open_worker(engine):
        await engine.wait_state("page", "done")
        kept[0]("feed", str)


@provokes
async def cancelled_kept(_: Path) -> None:
    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        kept: list[BaseException] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                kept.append(exc)
                raise
        raise kept[0]

    await run_until_it_fails(Manifold(start))


# -- names -----------------------------------------------------------------------------------------


@provokes
async def installed_twice(_: Path) -> None:
    engine = engine_of(db=Manifold(ready))
    async with open_worker(engine):
        await engine.wait_state("db", "started")
        engine.install("db", Manifold(ready))


@provokes
async def runner_name_taken(_: Path) -> None:
    async with open_worker(Runner(RunnerConfig(name="crew"))) as runner:
        runner.start_worker("db", forever)
        await runner.worker("db")
        runner.start_worker("db", forever)


@provokes
async def no_such_manifold(_: Path) -> None:
    engine_of(page=Manifold(ready)).explain("pgae")


@provokes
async def no_such_worker(_: Path) -> None:
    async with open_worker(Runner(RunnerConfig(name="crew"))) as runner:
        await runner.worker("db")


@provokes
async def uninstalled_while_waited_for(_: Path) -> None:
    engine = engine_of(page=Manifold(hangs))
    async with open_worker(engine):
        await engine.wait_state("page", "starting")
        engine.uninstall("page")
        await engine.wait_state("page", "started")


@provokes
async def cycle(_: Path) -> None:
    engine_of(page=Manifold(ready, inputs=("feed",)), feed=Manifold(ready, inputs=("page",)))


@provokes
async def unknown_input(_: Path) -> None:
    engine_of(page=Manifold(ready, inputs=("fed",)), feed=Manifold(ready))


# -- asking ----------------------------------------------------------------------------------------


@provokes
async def not_declared(_: Path) -> object:
    return await asked(lambda get: get("db", str), inputs=("feed",))


@provokes
async def declared_otherwise(_: Path) -> object:
    return await asked(lambda get: get("feed", str), optional=("feed",))


@provokes
async def no_role(_: Path) -> None:
    Manifold(ready, inputs=("feed",)).bind({"db": "other"})


@provokes
async def not_offered(_: Path) -> object:
    return await asked(lambda get: get("feed", int), inputs=("feed",))


@provokes
async def not_running(_: Path) -> object:
    got: list[object] = []
    fail = trio.Event()

    async def feed(get: Getter, *, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("news")
        await fail.wait()
        raise OSError

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            try:
                get("feed", str)
            except Missing as exc:
                got.append(exc)

    engine = engine_of(feed=Manifold(feed), page=Manifold(start, inputs=("feed",)))
    async with open_worker(engine):
        await engine.wait_state("page", "started")
        fail.set()
        await engine.wait_state("page", "waiting")
    return got[0]


# -- time ------------------------------------------------------------------------------------------


@provokes
async def never_ready(_: Path) -> None:
    await run_until_it_fails(Manifold(hangs, start_timeout=2))


class Handler:
    """Takes changes; its clean-up waits for ever."""

    name = "reader"

    def __init__(self) -> None:
        self.watcher = FakeWatcher[None](name="files")

    async def set_up(self) -> FakeWatcher[None]:
        return self.watcher

    async def handle(self) -> None:
        """Nothing is to be done."""

    async def tear_down(self) -> None:
        """Nothing is to be done."""


@provokes
async def watcher_stopped(_: Path) -> None:
    handler = Handler()
    async with open_worker(notify_worker(handler)) as worker:
        handler.watcher.kill()
        await worker.wait()


@provokes
async def clean_up_hangs(_: Path) -> None:
    handler = Handler()
    handler.tear_down = trio.sleep_forever  # type: ignore[method-assign]  # for this test
    async with open_worker(notify_worker(handler, tear_down_timeout=2)):
        pass


@provokes
async def stuck(_: Path) -> object:
    """What a run that ignores its cancellation has logged."""
    logged: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("trioworker.engine.page")
    go_on = trio.Event()

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await go_on.wait()

    logger.addHandler(handler)
    try:
        async with open_worker(engine_of(page=Manifold(start, stop_timeout=2))) as engine:
            await engine.wait_state("page", "started")
            engine.restart("page")
            await trio.sleep(3)
            go_on.set()
    finally:
        logger.removeHandler(handler)
    return next(line for line in logged if "stuck" in line)


# -- what cannot be used ---------------------------------------------------------------------------


@provokes
async def no_manifold(_: Path) -> None:
    Engine().install("page", 3)  # type: ignore[arg-type]  # which is the point


@provokes
async def no_tuple(_: Path) -> None:
    Manifold(ready, inputs="feed")


@provokes
async def out_of_range(_: Path) -> None:
    RestartPolicy(jitter=2)


@provokes
async def too_few(_: Path) -> None:
    EngineConfig(history=-1)


@provokes
async def contradiction(_: Path) -> object:
    return impossible("page", State.WAITING, Event.READY)


@provokes
async def extra_missing(_: Path) -> None:
    spec = find_spec("trioworker.backends.sqlite")
    assert spec is not None
    assert spec.loader is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "apsw", None)
        spec.loader.exec_module(module_from_spec(spec))


# -- agent files -----------------------------------------------------------------------------------

SHOP = """
import attrs
from trioworker import Manifold

@attrs.frozen
class Config:
    port: int

async def start(get, *, task_status):
    task_status.started()

def catalogue() -> Manifold:
    return Manifold(start)

def server(config: Config) -> Manifold:
    return Manifold(start, inputs=("goods",))

def broken() -> Manifold:
    raise ValueError("no")
"""


def provokes_problem(text: str) -> None:
    """Register what is wrong with an agent file beside the module of a shop."""

    async def provoke(folder: Path) -> None:
        (folder / "shop.py").write_text(SHOP, encoding="utf-8")
        (folder / "agent.toml").write_text(text, encoding="utf-8")
        before = list(sys.path)
        try:
            load(folder / "agent.toml", environ={})
        finally:
            sys.path[:] = before
            sys.modules.pop("shop", None)

    provoke.__name__ = f"problem_{len(PROVOKED)}"
    PROVOKED.append(provoke)


CATALOGUE = '[manifolds.catalogue]\nuse = "shop:catalogue"\n'
WEB = "[manifolds.web]\nconfig.port = 1\n"
provokes_problem(f'{CATALOGUE}[engine]\nnmae = "shop"')
provokes_problem(f'{CATALOGUE}[engine]\nname = "${{SHOP}}"')
provokes_problem(f'{CATALOGUE}[engine]\nhistory = "4"')
provokes_problem('[manifolds.web]\nuse = "shopp:server"')
provokes_problem('[manifolds.web]\nuse = "shop:sever"')
provokes_problem('[manifolds.web]\nuse = "shop:broken"')
provokes_problem(f'{CATALOGUE}[manifolds.web]\nuse = "shop:server"\ninputs.goods = "catalogue"')
provokes_problem(f'{CATALOGUE}{WEB}use = "shop:server"\ninputs.goods = "katalogue"')
provokes_problem(f'{WEB}use = "shop:server"')


# -- asking a program ------------------------------------------------------------------------------


@provokes
async def no_socket(folder: Path) -> None:
    Client(folder / "nowhere.sock").get("report")


@provokes
async def killed_program(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "gone.sock"))
        listening.listen()
    Client(folder / "gone.sock").get("report")


@provokes
async def blocked_program(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "blocked.sock"))
        listening.listen()
        Client(folder / "blocked.sock", timeout=0.05).get("report")


@pytest.mark.parametrize("provoke", PROVOKED, ids=lambda function: function.__name__)
async def test_the_page_shows_what_is_said(
    provoke: Provoke, tmp_path: Path, autojump_clock: object
) -> None:
    said = await said_by(provoke, tmp_path)

    assert said in SHOWN, f"docs/errors.md lacks {said}"
