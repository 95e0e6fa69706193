"""The manifold `engine` that an agent program has without its file saying so."""

import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from trioworker import Engine, EngineConfig, Installer, NotOffered, Reporter
from trioworker.agent import AgentFileError, load
from trioworker.dependency import Inspector, Operator
from trioworker.workers.agent.introspection import Exposition, Masking, Recorder

PROGRAM = """
import attrs
import trio
from trioworker import Manifold

got = {}

async def hold_on(get, *, task_status):
    task_status.started()
    await trio.sleep_forever()

def plain():
    return Manifold(hold_on)

def curious():
    async def start(get, *, task_status):
        got["get"] = get
        await hold_on(get, task_status=task_status)
    return Manifold(start, inputs=("engine",))

def watcher():
    async def start(get, *, task_status):
        got["get"] = get
        await hold_on(get, task_status=task_status)
    return Manifold(start, live=("subject",))
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "builtin_program", raising=False)
    (tmp_path / "builtin_program.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def file(directory: Path, **manifolds: str) -> Path:
    """Write an agent file that says `rest` of each manifold."""
    tables = [f"[manifolds.{n}]\nuse = 'builtin_program:{rest}\n" for n, rest in manifolds.items()]
    path = directory / "agent.toml"
    path.write_text("\n".join(tables), encoding="utf-8")
    return path


def names(engine: Engine) -> list[str]:
    return list(engine.report().manifolds)


def test_it_is_there_if_a_manifold_needs_it(directory: Path) -> None:
    assert names(load(file(directory, one="curious'")).engine()) == ["engine", "one"]


def test_it_is_there_under_another_role(directory: Path) -> None:
    agent = load(file(directory, one="watcher'\nlive = { subject = 'engine' }"))

    assert names(agent.engine()) == ["engine", "one"]


def test_it_is_not_there_if_nobody_names_it(directory: Path) -> None:
    engine = load(file(directory, one="plain'")).engine()

    assert names(engine) == ["one"]


def test_one_of_the_file_comes_in_its_place(directory: Path) -> None:
    agent = load(file(directory, one="curious'", engine="plain'"))

    assert names(agent.engine()) == ["one", "engine"]


def test_a_name_that_is_nearly_it_is_still_a_problem(directory: Path) -> None:
    with pytest.raises(AgentFileError, match="there is no manifold 'engin'"):
        load(file(directory, one="curious'\ninputs = { engine = 'engin' }"))


async def test_it_offers_the_engine_and_what_introspection_needs(directory: Path) -> None:
    engine = load(file(directory, one="curious'")).engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("one", "started")
        get = sys.modules["builtin_program"].got["get"]
        for face in (Installer, Operator, Inspector, Reporter, Masking):
            assert get("engine", face) is not None
        transitions = [str(one) for one in get("engine", Recorder).transitions()]
        assert transitions[:2] == ["engine: absent -> waiting", "one: absent -> waiting"]
        metrics = b"".join(get("engine", Exposition).parts())
        assert b'trioworker_manifold_starts_total{manifold="one"} 1\n' in metrics
        engine.kill()


def test_each_engine_has_metrics_of_its_own_and_the_agent_s_config_has_none(
    directory: Path,
) -> None:
    agent = load(file(directory, one="curious'"))
    agent.engine()
    agent.engine()

    assert agent.config == EngineConfig()


class Own:
    """A hook that is not for Prometheus."""

    def state(self, *args: Any, **kwargs: Any) -> None: ...

    start = ready = end = state


async def test_a_program_s_own_metrics_stay_in_place(directory: Path) -> None:
    agent = load(file(directory, one="curious'"))
    own = Own()
    engine = attrs.evolve(agent, config=EngineConfig(metrics=own)).engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("one", "started")
        assert engine.metrics is own
        with pytest.raises(NotOffered, match="Exposition"):
            sys.modules["builtin_program"].got["get"]("engine", Exposition)
        engine.kill()
