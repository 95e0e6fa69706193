"""Agent files live in a folder of their own, and what they import is forgotten afterwards."""

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import pytest

from trioworker.agent import Agent, AgentFileError, load

WORKERS = """
import attrs
import trio
from trioworker import Manifold

calls = []

async def forever(get, *, task_status):
    task_status.started("output")
    await trio.sleep_forever()

def plain():
    calls.append("plain")
    return Manifold(forever)

@attrs.frozen
class Config:
    port: int = 80
    token: str = ""

def web(config: Config):
    calls.append(config)
    return Manifold(forever, inputs=("db",), optional=("cache",), live=("settings",))
"""


@final
class Folder:
    """A folder with agent files, and the modules that they use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ: dict[str, str] = {}
        self.module("workers", WORKERS)

    def module(self, name: str, source: str) -> None:
        (self.path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")

    def file(self, text: str, name: str = "agent.toml") -> Path:
        path = self.path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def load(self, text: str) -> Agent:
        return load(self.file(text), environ=self.environ)

    def problems(self, text: str) -> list[str]:
        """Return the lines that loading `text` is refused with."""
        with pytest.raises(AgentFileError) as caught:
            self.load(text)
        assert str(caught.value).splitlines() == list(map(str, caught.value.problems))
        return str(caught.value).splitlines()

    def calls(self, module: str = "workers") -> list[object]:
        """Return what the factories of a module were called with."""
        calls: list[object] = sys.modules[module].calls if module in sys.modules else []
        return calls


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before: Mapping[str, object] = dict(sys.modules)
    yield Folder(tmp_path)
    for name in set(sys.modules) - set(before):
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]
