"""The ends of a program: the last resort, an agent that ends by itself, a log without structlog."""

import io
import json
import logging
import os
import sys

import pytest

from trioworker.agent import Agent, configure_logging, run_agent
from trioworker.agent._run import leave_at_once

from .conftest import Folder


class Left(BaseException):
    """Instead of the end of this process."""


class Broken(io.StringIO):
    """The other side of the pipe has closed it."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_the_last_resort_leaves_with_the_status_and_loses_no_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flushed: list[str] = []
    statuses: list[int] = []

    class Kept(io.StringIO):
        def flush(self) -> None:
            flushed.append("stderr")

    def leave(status: int) -> None:
        statuses.append(status)
        raise Left

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Kept())
    monkeypatch.setattr(logging, "shutdown", lambda: flushed.append("log"))

    with pytest.raises(Left):
        leave_at_once(143)

    assert statuses == [143]
    assert flushed == ["log", "stderr"], "also after a stream that cannot be written any more"


async def test_an_agent_that_is_fatal_ends_with_its_error(folder: Folder) -> None:
    folder.module(
        "doomed",
        """
        from trioworker import Manifold

        async def start(get, *, task_status):
            raise SystemExit(4)

        def factory():
            return Manifold(start)
        """,
    )
    agent: Agent = folder.load('[manifolds.a]\nuse = "doomed:factory"')

    with pytest.raises(SystemExit) as caught:
        await run_agent(agent)

    assert caught.value.code == 4


def test_a_module_that_structlog_misses_is_not_taken_for_structlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log without colour and masks by accident would hide a broken installation."""
    monkeypatch.setitem(sys.modules, "structlog", None)
    configure_logging()  # without structlog there are plain lines

    def broken(*_: object) -> logging.Formatter:
        raise ModuleNotFoundError("No module named 'typing_extensions'", name="typing_extensions")

    monkeypatch.setattr("trioworker.agent._logging._structured", broken)
    with pytest.raises(ModuleNotFoundError, match="typing_extensions"):
        configure_logging()


def test_json_without_structlog_has_an_exception_only_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "structlog", None)
    configure_logging("json", mask=lambda text: text.replace("sesame", "***"))
    log = logging.getLogger("app")
    log.warning("open %s", "sesame")
    try:
        raise ValueError("sesame")
    except ValueError:
        log.exception("shut")

    plain, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert (plain["event"], plain["level"], plain["logger"]) == ("open ***", "warning", "app")
    assert "exception" not in plain
    assert failed["exception"].endswith("ValueError: ***")


@pytest.mark.parametrize("style", ["console", "json"])
def test_values_of_an_event_are_masked_and_flags_stay_flags(
    style: str, capsys: pytest.CaptureFixture[str]
) -> None:
    structlog = pytest.importorskip("structlog")
    configure_logging(style, mask=lambda text: text.replace("4711", "***"))  # type: ignore[arg-type]
    structlog.get_logger("app").warning("door", open=True, key=None, code=4711, size=3)

    line = capsys.readouterr().err
    assert "4711" not in line
    if style == "json":
        event = json.loads(line)
        assert (event["open"], event["key"], event["code"]) == (True, None, "***")
        assert event["size"] == 3
