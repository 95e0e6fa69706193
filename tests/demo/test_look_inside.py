"""The demo can be looked at from outside; several of them side by side, and where it cannot be."""

import os
import sys
from pathlib import Path

import pytest
import trio

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker import Getter, Manifold, Uninstall
from trioworker._demo.folder import Folder
from trioworker._demo.program import Ledger, name_of
from trioworker.workers.agent.introspection import SocketInUse, sockets

from .test_program import demo


def test_a_demo_is_called_by_its_directory_however_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    name = name_of(Folder(tmp_path / "a"))

    assert (
        name == name_of(Folder(tmp_path / "b" / ".." / "a")) == name_of(Folder(tmp_path / "link"))
    )
    assert name != name_of(Folder(tmp_path / "b"))
    assert len(name) == len("demo-") + 8


def test_that_nobody_can_look_inside_is_no_fault_of_the_demo() -> None:
    ledger = Ledger()
    verdict = enter(ledger, "introspection", PermissionError(13, "open to others", "place"))
    assert isinstance(verdict, Uninstall), "it is not tried again and again"
    assert ledger.unseen == "place: open to others"
    enter(ledger, "introspection", SocketInUse("process 7 listens"))
    assert ledger.unseen == "process 7 listens"
    assert ledger.unaccounted == []

    enter(ledger, "introspection", ValueError("a defect"))
    enter(ledger, "inbox", PermissionError(13, "taken away", "place"))
    assert len(ledger.unaccounted) == 2


def enter(ledger: Ledger, name: str, error: Exception) -> BaseException | None:
    watched = ledger.watch(name, Manifold(never)).filter
    assert watched is not None
    return watched(error)


async def never(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    raise NotImplementedError


@pytest.mark.full
def test_without_a_place_for_its_socket_the_demo_works_and_says_why_nobody_could_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere/at/all")
    done = demo("--seconds", "0.2", "--files", "2", "--seed", "1")

    assert done.returncode == 0, done.stdout + done.stderr
    [told] = [line for line in done.stdout.splitlines() if line.startswith("nobody could look")]
    assert told.startswith("nobody could look inside: /nowhere/at/all/trioworker")
    assert sockets(os.environ, os.getuid()) == {}
