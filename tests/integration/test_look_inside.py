"""Demos that are asked while they run: by default path, by socket, and several side by side."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

from trioworker._cli import _client
from trioworker._cli._app import main
from trioworker.workers.agent.introspection import sockets

from .process import Demo, wait_for

pytestmark = pytest.mark.full
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look only where these demos listen: on this machine others may run."""
    place = Path(os.environ["XDG_RUNTIME_DIR"], "trioworker")

    def only(environ: Mapping[str, str], uid: int) -> list[Path]:
        return [place]

    monkeypatch.setattr(_client, "directories", only)


def listening(number: int) -> dict[str, Path]:
    """Wait until so many demos listen, and return where."""
    wait_for(lambda: len(sockets(os.environ, os.getuid())) == number, f"{number} to listen")
    return sockets(os.environ, os.getuid())


def shown(capsys: Output, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_a_demo_is_asked_without_a_word_about_where_it_is(tmp_path: Path, capsys: Output) -> None:
    with Demo(tmp_path / "data", seconds=4) as demo:
        [name] = listening(1)
        demo.wait_for(lambda: f"this is {name}; to look inside: " in demo.out, "telling its name")

        status, out, _ = shown(capsys, "explain", "ingest")
        assert status == 0
        assert out.startswith("ingest ")
        status, out, _ = shown(capsys, "status")
        assert status in {0, 1}, "chaos reigns"
        assert f"\n{name}  " in out
        status, out, _ = shown(capsys, "status", "--json")
        assert set(json.loads(out)["manifolds"]) > {"inbox", "db", "ingest", "introspection"}
        demo.outcome().expect(0, " 0 lost, 0 duplicated; ")
    assert shown(capsys, "status")[0] == 3


def test_a_fault_is_seen_from_outside_as_chaos_sets_it(tmp_path: Path, capsys: Output) -> None:
    """Some of the faults make ingest wait for one that it needs, which is then the root."""
    with Demo(tmp_path / "data", seconds=30, files=20, seed=7) as demo:
        listening(1)
        seen = ""

        def waits() -> bool:
            nonlocal seen
            seen = shown(capsys, "explain", "ingest")[1]
            return "ingest waits for " in seen and "InjectedFault" in seen

        demo.wait_for(waits, "a wait for one that has failed")
        assert "root cause: inbox" in seen or "root cause: db" in seen


def test_two_demos_run_side_by_side_and_are_told_apart(tmp_path: Path, capsys: Output) -> None:
    with Demo(tmp_path / "a", seconds=4) as one, Demo(tmp_path / "b", seconds=4) as other:
        found = listening(2)

        status, out, err = shown(capsys, "status")
        assert (status, out) == (2, "")
        assert err.splitlines() == [
            "trioworker: several programs listen; choose one:",
            *(f"      {name}  --socket {path}" for name, path in sorted(found.items())),
        ]
        for name, path in found.items():
            status, out, _ = shown(capsys, "status", "--socket", str(path))
            assert status in {0, 1}
            assert f"\n{name}  " in out
        for demo in (one, other):
            demo.outcome().expect(0, " 0 lost, 0 duplicated; ")


def test_a_demo_that_was_killed_is_followed_by_one_that_listens_again(
    tmp_path: Path, capsys: Output
) -> None:
    with Demo(tmp_path / "data", seconds=4) as demo:
        before = listening(1)
        demo.process.kill()
        demo.process.wait()
    status, _, err = shown(capsys, "status")
    assert status == 3
    assert "is left over from a program that was killed" in err
    with Demo(tmp_path / "data", seconds=1) as demo:
        assert listening(1) == before, "in the same directory it has the same name"
        demo.outcome().expect(0, " 0 lost, 0 duplicated; ")
