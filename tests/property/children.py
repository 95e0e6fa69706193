"""A worker that does what it is told, well or badly, and whose life is in the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import strategies as st

from trioworker import Tomb

from .scripts import GRACES, Answer, History, Script
from .tombs import TombModel

SHAPES = st.fixed_dictionaries(
    {
        "answer": st.sampled_from([Answer.LEAVE, *Answer]),
        "grace": GRACES,
        "starts": st.booleans(),
        "deaf": st.sampled_from([False, False, False, True]),
        "rude": st.sampled_from([False, False, False, False, True]),
    }
)
"""What a `Child` may be like."""

RUDENESS = RuntimeError("kill() is rude")
"""What the ``kill()`` of a rude one raises."""


class Child:
    """A worker that does what its script says.

    Args:
        history: where it writes what happens to it.
        name: what it is called.
        error: makes what it fails with while it is being cancelled.
        answer: how it answers being cancelled.
        grace: its own.
        starts: whether it calls ``started()`` at once, or when told.
        deaf: whether it forgets ``kill()``, and ends by cancellation or by itself.
        rude: whether its ``kill()`` raises.

    Attributes:
        model: its own tomb; it also knows who killed it.
        runs, kills, started, ended, error: what the history says about it.
    """

    def __init__(
        self,
        history: History,
        name: str,
        error: Callable[[], BaseException],
        *,
        answer: Answer,
        grace: float,
        starts: bool,
        deaf: bool,
        rude: bool,
    ) -> None:
        self.name = name
        self.starts, self.deaf, self.rude = starts, deaf, rude
        self.script = Script(history, self, answer, error)
        self.status: trio.TaskStatus[str] | None = None
        self.runs = 0
        self.kills = 0
        self.started = False
        self.ended = False
        self.error: BaseException | None = None
        self._history = history
        self._tomb = Tomb(grace=grace, name=name)
        self.model = TombModel(self._tomb, grace)

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        self._history.write("run", self)
        left: BaseException | None = None
        try:
            with self._tomb:
                self.model.enter(trio.current_time())
                self.status = task_status
                if self.starts:
                    self.start()
                await self.script.live()
        except BaseException as exc:
            left = exc
            raise
        finally:
            self._history.write("ended", self, left)

    def start(self) -> None:
        if self.status is not None and not self.started:
            self.started = True
            self._history.write("started", self)
            self.status.started(self.name)

    def kill(self, reason: BaseException | None = None) -> None:
        if trio.lowlevel.in_trio_task():
            self._history.write("asked", self, reason)
        if not self.deaf:
            self.model.kill(trio.current_time(), reason)
            self._tomb.kill(reason)
        if self.rude:
            raise RUDENESS

    def kill_by_another(self, error: BaseException | None = None) -> None:
        """As if somebody had killed it who is not its owner."""
        if not self.deaf:
            self.model.kill(trio.current_time(), error)
            self._tomb.kill(error)

    def enter_again(self) -> None:
        """Try to live a second time."""
        with self._tomb:
            pytest.fail("a life happened twice")

    async def wait(self) -> None:
        await self._tomb.wait()

    def __repr__(self) -> str:
        return self.name
