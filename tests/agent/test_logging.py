"""The name of the manifold in the lines of the log."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock

from trioworker import Engine, Getter, Manifold
from trioworker.agent import configure_logging


@pytest.fixture(params=["structlog", "logging"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With structlog, and without."""
    if request.param == "logging":
        monkeypatch.setitem(sys.modules, "structlog", None)
    yield request.param
    if request.param == "structlog":
        sys.modules["structlog"].reset_defaults()


async def logged() -> None:
    """Log a line of a manifold's own, one that the engine writes about it, and one of nobody."""

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        logging.getLogger("app").warning("hello")
        raise OSError("gone")

    engine = Engine()
    engine.install("db", Manifold(start))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("db", "delayed")
        logging.getLogger("app").warning("nobody")
        engine.kill()


async def test_every_json_line_of_a_manifold_or_about_it_has_its_name(
    library: str, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json")

    await logged()

    own, about, nobody = map(json.loads, capsys.readouterr().err.splitlines())
    assert (own["event"], own["logger"], own["manifold"]) == ("hello", "app", "db")
    assert (about["logger"], about["manifold"]) == ("trioworker.engine.db", "db")
    assert "manifold" not in nobody


async def test_on_the_console_only_lines_of_other_loggers_have_it(
    library: str, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("console")
    told = "manifold=db" if library == "structlog" else "app (db): "

    await logged()

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if told in line] == [lines[0]]
    assert "hello" in lines[0]


def test_a_field_of_that_name_that_somebody_chose_is_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import structlog

    configure_logging("json")

    structlog.get_logger("trioworker.engine.db").warning("hello", manifold="mine")

    assert json.loads(capsys.readouterr().err)["manifold"] == "mine"
    structlog.reset_defaults()
