"""A program of an agent file that can be asked how it is."""

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.workers.agent.asking import PATIENCE, Asker, port_of
from trioworker import Engine
from trioworker.agent import AgentFileError, load

PROGRAM = """
import trio
from trioworker import Manifold

def fine():
    async def start(get, *, task_status):
        task_status.started()
        await trio.sleep_forever()
    return Manifold(start)

def leaky():
    async def start(get, *, task_status):
        raise ValueError("the password is hunter2hunter2")
    return Manifold(start)
"""
FILE = """
[engine]
name = "shop"
[manifolds.introspection]
use = "trioworker.workers.agent.introspection:manifold"
config = { port = 0, token = "${SHOP_TOKEN}" }
[manifolds.fine]
use = "see_inside_program:fine"
[manifolds.leaky]
use = "see_inside_program:leaky"
restart = { error_delay = 60 }
"""
SECRET = "hunter2hunter2"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "see_inside_program", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "see_inside_program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "agent.toml").write_text(FILE, encoding="utf-8")
    return tmp_path / "agent.toml"


@asynccontextmanager
async def running(path: Path) -> AsyncGenerator[tuple[Engine, Asker]]:
    engine = load(path, environ={"SHOP_TOKEN": SECRET + "-token"}).engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        with trio.fail_after(PATIENCE):
            await engine.wait_state("introspection", "started")
            await engine.wait_state("leaky", "delayed")
        yield engine, Asker(path.parent / "trioworker" / "shop.sock")
        engine.kill()


async def test_one_line_in_the_file_is_enough(path: Path) -> None:
    async with running(path) as (_, asker):
        report = (await asker.get("/report")).json

    assert report["name"] == "shop"
    assert list(report["manifolds"]) == ["engine", "introspection", "fine", "leaky"]


async def test_its_metrics_are_counted_from_the_beginning(path: Path) -> None:
    async with running(path) as (_, asker):
        answer = await asker.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'trioworker_manifold_starts_total{manifold="engine"} 1\n' in answer.body
    assert b'failures_total{manifold="leaky",type="ValueError"} 1\n' in answer.body


async def test_its_trace_begins_with_the_engine(path: Path) -> None:
    async with running(path) as (engine, asker):
        before = (await asker.get("/trace.json")).json
        engine.restart("introspection")
        with trio.fail_after(PATIENCE):
            await engine.wait_state("introspection", "waiting")
            await engine.wait_state("introspection", "started")
        after = (await asker.get("/trace.json")).json

    for trace in (before, after):
        rows = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
        bars = [(rows[e["tid"]], e["name"]) for e in trace["traceEvents"] if e["ph"] == "X"]
        assert ("engine", "starting") in bars
        assert ("fine", "starting") in bars
        assert trace["otherData"]["forgotten"] == 0
    assert bars.count(("introspection", "started")) == 2


async def test_what_came_from_the_environment_is_not_shown(path: Path) -> None:
    token = SECRET + "-token"
    async with running(path) as (engine, asker):
        remote = Asker(asker.path, port_of(engine))
        assert (await remote.get("/report", authorization=f"Bearer {token}")).status == 200
        for target in ("/report", "/explain/leaky", "/readyz", "/trace.json", "/stacks", "/"):
            assert token.encode() not in (await asker.get(target)).body, target


def test_without_h11_the_file_has_a_problem_that_names_the_way_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(
        sys.modules, "trioworker.workers.agent.introspection._server", raising=False
    )
    monkeypatch.delitem(
        sys.modules, "trioworker.workers.agent.introspection._routes", raising=False
    )
    monkeypatch.setitem(sys.modules, "trioworker.backends.http", None)
    with pytest.raises(AgentFileError) as caught:
        load(path, environ={"SHOP_TOKEN": SECRET + "-token"})
    assert "trioworker.backends.http" in str(caught.value)


def test_a_short_token_is_a_problem_that_does_not_show_it(path: Path) -> None:
    with pytest.raises(AgentFileError) as caught:
        load(path, environ={"SHOP_TOKEN": "short-one"})

    assert "config.token: token must have at least 16 characters" in str(caught.value)
    assert "short-one" not in str(caught.value)
