"""Targets that are functions of an unusual kind."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioworker.agent import AgentFileError, open_program

MODULE = """
import functools
from trioworker import Manifold

async def late():
    return {}

soon = functools.partial(late)
promised = lambda: late()
nothing = dict
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent_targets.py").write_text(MODULE, encoding="utf-8")
    yield
    sys.modules.pop("agent_targets", None)


@pytest.mark.parametrize("name", ["late", "soon", "promised"])
def test_what_turns_out_to_be_async_is_refused_and_python_does_not_warn(name: str) -> None:
    with pytest.raises(AgentFileError) as caught:
        open_program(f"agent_targets:{name}")
    assert str(caught.value) == f"agent_targets:{name}: it is async; name a plain function"


def test_what_does_not_say_what_it_takes_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    program = open_program("agent_targets:nothing")
    assert not program.engine.report().manifolds
