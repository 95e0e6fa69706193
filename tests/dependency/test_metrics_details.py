"""The queue of a metrics hook: where an interrupt may strike, and under which name it logs."""

import logging

import pytest
import trio

from trioworker.dependency import State
from trioworker.dependency._metrics import Feed


class Hook:
    """Notes whether an interrupt could strike, and raises as told."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.protected: list[bool] = []
        self._error = error

    def _told(self) -> None:
        self.protected.append(trio.lowlevel.currently_ki_protected())
        if self._error is not None:
            raise self._error

    def state(self, manifold: str, before: State, after: State) -> None:
        self._told()

    def start(self, manifold: str, nth: int) -> None:
        self._told()

    def ready(self, manifold: str, seconds: float) -> None:
        self._told()

    def end(self, manifold: str, kind: str, error: object, stop_seconds: float | None) -> None:
        self._told()


async def test_an_interrupt_may_strike_in_a_hook_and_not_between_its_calls() -> None:
    """There it would take a call with it that is off the queue already."""
    interrupt = KeyboardInterrupt()
    hook = Hook(interrupt)
    condemned: list[tuple[BaseException, bool]] = []

    def condemn(exc: BaseException) -> None:
        condemned.append((exc, trio.lowlevel.currently_ki_protected()))

    feed = Feed(hook, condemn)
    feed.put("start", "db", 1)
    feed.put("ready", "db", 0.5)
    feed.flush()

    assert hook.protected == [False, False]
    assert condemned == [(interrupt, True), (interrupt, True)]


async def test_a_hook_that_fails_is_logged_by_the_engines_logger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = OSError("the disk is full")
    condemned: list[BaseException] = []
    feed = Feed(Hook(error), condemned.append)
    feed.put("start", "db", 1)
    feed.flush()

    [record] = caplog.records
    assert (record.name, record.levelno) == ("trioworker.engine", logging.ERROR)
    assert record.getMessage() == "the metrics hook's start() failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert condemned == []
