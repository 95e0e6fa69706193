"""What does it cost to look inside a running program, and does that slow it down?

A star of n manifolds, asked for its page, its report and its metrics over the Unix socket, in the
same process: reading the answer is counted too. The floor is `json.dumps` of the same report.

Long answers are made in slices, between which the program goes on. So there are two more questions:
how long the longest slice is, and how much slower a bounce of the star becomes while somebody asks
without pause.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import attrs
import trio

from trioworker import Engine, Getter, Manifold, self_manifold
from trioworker.workers.agent.introspection import Config, Exposition, manifold
from trioworker.workers.agent.metrics import PrometheusMetrics

from ._method import Bar, Question, Stopwatch
from ._ours import NO_DELAYS
from ._trio import countdown, in_trio
from .report import plain

PATHS = {"page": "/", "report": "/report", "metrics": "/metrics"}


class Program:
    """A star that can be asked."""

    def __init__(self, n: int, socket: Path) -> None:
        metrics = PrometheusMetrics()
        self.engine = Engine(attrs.evolve(NO_DELAYS, metrics=metrics))
        itself = self_manifold(self.engine)
        more: dict[Any, Callable[[Any], object]] = {Exposition: lambda _: metrics}
        self.engine.install("engine", attrs.evolve(itself, outputs={**itself.outputs, **more}))
        self.engine.install("introspection", manifold(Config(socket=socket)))
        self.up = countdown(n)
        for i in range(n):
            self.engine.install(str(i), Manifold(self._worker, inputs=("0",) if i else ()))
        self._socket = socket

    async def _worker(self, get: Getter, *, task_status: trio.TaskStatus[None]) -> None:  # noqa: ARG002 - what a start function gets
        task_status.started()
        self.up.down()
        await trio.sleep_forever()

    async def ask(self, path: str) -> int:
        """Ask once; return the size of the answer in bytes."""
        size = 0
        async with await trio.open_unix_socket(str(self._socket)) as stream:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await stream.send_all(request.encode())
            while data := await stream.receive_some(1 << 20):
                size += len(data)
        return size

    async def ask_always(self) -> None:
        """Ask for one after the other, without pause."""
        while True:
            for path in PATHS.values():
                await self.ask(path)


@asynccontextmanager
async def running(n: int) -> AsyncGenerator[Program]:
    """Run a star of `n`, all up and listening."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program(n, Path(folder) / "private" / "star.sock")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.engine.run)
            await program.up.wait()
            await program.engine.wait_state("introspection")
            yield program
            program.engine.kill(grace=0)


async def ask(n: int) -> dict[str, float]:
    """Ask for each once."""
    costs: dict[str, float] = {}
    async with running(n) as program:
        for name, path in PATHS.items():
            watch = Stopwatch(n)
            await program.ask(path)
            costs[name] = watch.read()
    return costs


async def dump(n: int) -> dict[str, float]:
    """Dump the plain report."""
    async with running(n) as program:
        data = plain(program.engine.report())
    watch = Stopwatch(n)
    json.dumps(data, default=repr)
    cost = watch.read()
    return dict.fromkeys(PATHS, cost)


class Slices(trio.abc.Instrument):
    """The longest step of any task."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = math.inf

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        """Note when it begins."""
        self._began = process_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - Trio's signature
        """Keep how long it took, if that was longest."""
        self.longest = max(self.longest, process_time() - self._began)


async def slices(n: int) -> dict[str, float]:
    """Ask for each once; return the longest step meanwhile, in milliseconds."""
    longest: dict[str, float] = {}
    async with running(n) as program:
        for name, path in PATHS.items():
            steps = Slices()
            trio.lowlevel.add_instrument(steps)
            await program.ask(path)
            trio.lowlevel.remove_instrument(steps)
            longest[name] = 1000 * steps.longest
    return longest


async def in_one_go(n: int) -> dict[str, float]:
    """Dump the plain report, which is one step; in milliseconds."""
    return {name: cost * n / 1000 for name, cost in (await dump(n)).items()}


async def bounce(n: int, *, asked: bool) -> dict[str, float]:
    """Bounce the star, while somebody asks without pause or nobody does."""
    async with running(n) as program, trio.open_nursery() as nursery:
        if asked:
            nursery.start_soon(program.ask_always)
            await program.ask("/healthz")
        program.up = countdown(n)
        watch = Stopwatch(n)
        program.engine.restart("0")
        await program.up.wait()
        cost = watch.read()
        nursery.cancel_scope.cancel()
    return {"bounce": cost}


WITHIN_50_MS = Bar(limit=50.0, of="ours", at=(1000,))
"""50 ms for a thousand manifolds: microseconds for each."""

QUESTIONS = [
    Question(
        name="introspection",
        ours=in_trio(ask),
        floor=in_trio(dump),
        sizes=(100, 1000, 5000),
        bars=dict.fromkeys(PATHS, WITHIN_50_MS),
        against="json.dumps of the report",
    ),
    Question(
        name="introspection, longest slice",
        ours=in_trio(slices),
        floor=in_trio(in_one_go),
        sizes=(1000,),
        unit="ms",
        bars=dict.fromkeys(PATHS, Bar(limit=5.0, of="ours")),
        against="json.dumps of the report",
    ),
    Question(
        name="introspection, bounce meanwhile",
        ours=in_trio(partial(bounce, asked=True)),
        floor=in_trio(partial(bounce, asked=False)),
        sizes=(1000,),
        bars={"bounce": Bar(limit=1.1)},
        against="nobody asking",
        rounds=15,
    ),
]
