"""What the tutorial and the guide on several machines show: their program, as processes.

The agent file is the tutorial's. It moves to etcd by the lines that both pages show.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import final

import pytest

from tests.services.etcd import Cluster

from ..pages import DOCS
from .process import BOUND, wait_for

pytestmark = pytest.mark.full

PROGRAM = DOCS / "examples" / "tutorial" / "reporter"
PAGES = ["tutorial/8-several-machines", "howto/several-machines"]


def moved(agent_file: str, page: str) -> str:
    """Return the agent file after the change that a page shows."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    assert agent_file.count(before) == 1, "the page's diff is not of this file"
    return agent_file.replace(before, after)


@final
class Machine:
    """An agent in a process of its own, which is a machine for the others."""

    def __init__(self, name: str, directory: Path, environ: dict[str, str]) -> None:
        self.name = name
        self.lines: list[str] = []
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")
        }
        with (directory / f"{name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trioworker", "run", "agent.toml"],
                cwd=directory,
                env={**inherited, **environ, "REPORTER_NAME": name},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line)

    @property
    def tokens(self) -> list[int]:
        """Under what it has sent reports."""
        found = [re.fullmatch(r"sends a report under token (\d+)\n", line) for line in self.lines]
        return [int(one[1]) for one in found if one]

    def kill(self) -> None:
        """With -9."""
        self.process.kill()
        self.process.wait()
        self._thread.join(BOUND)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROGRAM, tmp_path / "reporter"))


@pytest.fixture
def machines(directory: Path, request: pytest.FixtureRequest) -> Generator[list[Machine]]:
    """Two of them. What the parameter names is where their leases are."""
    environ = {"REPORTER_HOME": str(directory)}
    with ExitStack() as stack:
        if request.param != "sqlite":
            cluster = stack.enter_context(Cluster(directory, size=3))
            cluster.start()
            cluster.wait_healthy()
            environ = {f"ETCD_{number}": url for number, url in enumerate(cluster.urls, 1)}
            file = directory / "agent.toml"
            file.write_text(moved(file.read_text(), PAGES[0]))
        two = [Machine(name, directory, environ) for name in ("first", "second")]
        for machine in two:
            stack.callback(machine.kill)
        yield two


def one_of(machines: Sequence[Machine]) -> tuple[Machine, Machine]:
    """Wait until one of them works; return that and the other."""
    wait_for(lambda: any(machine.tokens for machine in machines), "a report")
    working, idle = sorted(machines, key=lambda machine: not machine.tokens)
    return working, idle


@pytest.mark.parametrize("machines", ["sqlite", "etcd"], indirect=True)
def test_when_the_one_that_works_is_killed_the_other_takes_over(
    machines: list[Machine],
) -> None:
    working, idle = one_of(machines)
    wait_for(lambda: len(working.tokens) > 2, "more reports")
    assert idle.tokens == []
    working.kill()
    wait_for(lambda: idle.tokens, "that the other takes over")

    assert len(set(working.tokens)) == len(set(idle.tokens)) == 1
    assert idle.tokens[0] > working.tokens[0]


def test_only_the_store_is_another_on_all_pages() -> None:
    before = (PROGRAM / "agent.toml").read_text(encoding="utf-8")
    after, *others = (moved(before, page) for page in PAGES)
    lines = zip(before.splitlines(), after.splitlines(), strict=True)

    assert others == [after]
    assert [line.partition(" = ")[0] for line, other in lines if line != other] == ["use", "config"]
