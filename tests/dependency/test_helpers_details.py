"""The helpers of one run from inside: what they are told, what outlasts what, what is kept."""

import gc
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, Getter, Manifold, open_worker
from trioworker.dependency._helpers import Helpers

from .harness import Life, Program


@asynccontextmanager
async def hosted() -> AsyncGenerator[Helpers]:
    async with trio.open_nursery() as nursery:
        helpers = Helpers()
        nursery.start_soon(helpers.run)
        await wait_all_tasks_blocked()
        try:
            yield helpers
        finally:
            helpers._main_ended.set()  # a test that fails is not to hang


class Told:
    """Helpers that note why they are cancelled."""

    def __init__(self) -> None:
        self.reasons: list[str | None] = []

    async def wait(self) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            self.reasons.append(exc.reason)
            raise


async def test_helpers_are_told_why_they_are_cancelled() -> None:
    told = Told()
    async with hosted() as helpers:
        helpers.start_soon(told.wait, name=None)
        await wait_all_tasks_blocked()
        helpers.cancel("a change of plan")
        await helpers.join(None)

    assert told.reasons == ["a change of plan"]


async def test_helpers_that_are_cancelled_before_they_begin_are_told_why() -> None:
    told, helpers = Told(), Helpers()
    helpers.start_soon(told.wait, name=None)
    helpers.cancel("a change of plan")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helpers.run)
        await helpers.join(None)

    assert told.reasons == ["a change of plan"]


async def test_helpers_are_told_that_the_start_function_has_failed() -> None:
    told, error = Told(), OSError("gone")
    async with hosted() as helpers:
        helpers.start_soon(told.wait, name=None)
        await wait_all_tasks_blocked()
        assert await helpers.join(error) is error

    assert told.reasons == ["its start function has failed"]


async def test_a_helper_may_be_started_although_the_others_were_cancelled_and_have_ended() -> None:
    begun: list[str] = []

    async def begin() -> None:
        begun.append("late")
        await trio.lowlevel.checkpoint()

    async with hosted() as helpers:
        helpers.start_soon(trio.sleep_forever, name=None)
        await wait_all_tasks_blocked()
        helpers.cancel("a change of plan")
        await wait_all_tasks_blocked()
        helpers.start_soon(begin, name=None)
        await wait_all_tasks_blocked()
        assert begun == ["late"]
        assert not helpers.is_over
        await helpers.join(None)
        assert helpers.is_over


async def test_joining_waits_for_all_helpers_also_when_it_is_cancelled() -> None:
    may_end = trio.Event()
    ended: list[str] = []

    async def linger() -> None:
        await may_end.wait()
        ended.append("helper")

    async def join(helpers: Helpers) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await helpers.join(None)
            ended.append("join")

    async with hosted() as helpers, trio.open_nursery() as nursery:
        helpers.start_soon(linger, name=None)
        nursery.start_soon(join, helpers)
        await wait_all_tasks_blocked()
        may_end.set()

    assert ended == ["helper", "join"]


async def test_helpers_are_what_a_run_waits_for_only_when_its_start_function_has_ended() -> None:
    may_end = trio.Event()
    async with hosted() as helpers, trio.open_nursery() as nursery:
        helpers.start_soon(may_end.wait, name="a")
        await wait_all_tasks_blocked()
        before: object = helpers.awaited
        assert before is None
        nursery.start_soon(helpers.join, None)
        await wait_all_tasks_blocked()
        awaited: object = helpers.awaited
        assert isinstance(awaited, trio.lowlevel.Task)
        may_end.set()


async def test_helpers_are_listed_by_name() -> None:
    may_end = trio.Event()
    helpers = Helpers()
    for name in ("c", "a", "b"):  # before the host has begun
        helpers.start_soon(may_end.wait, name=name)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helpers.run)
        await wait_all_tasks_blocked()
        for name in ("f", "d", "e"):
            helpers.start_soon(may_end.wait, name=name)
        assert [task.name for task in helpers.tasks()] == ["a", "b", "c", "d", "e", "f"]
        may_end.set()
        await helpers.join(None)


async def test_a_helper_that_waits_for_the_stop_hears_of_a_failure() -> None:
    heard: list[bool] = []

    async def helper(life: Life) -> None:
        await life.get.wait_stopping()
        heard.append(life.get.is_stopping)

    async def body(life: Life) -> None:
        life.get.start_soon(helper, life)
        life.ready()
        await life.obey()

    program = Program()
    double = program.install("db", body=body)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        double.life.fail(OSError("gone"))
        await engine.wait_state("db", "delayed")
        assert heard == [True]


class Large:
    """Handed to a helper."""


async def test_what_the_first_helpers_were_given_goes_with_them_although_the_run_goes_on() -> None:
    """Those that are started before the host has begun are kept by it until then, and no longer."""
    helpers = Helpers()
    larges = [Large(), Large()]
    left = [weakref.ref(large) for large in larges]

    async def use(large: Large) -> None:
        await trio.lowlevel.checkpoint()

    while larges:
        helpers.start_soon(use, larges.pop(), name=None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helpers.run)
        await wait_all_tasks_blocked()
        gc.collect()
        alive = [ref() for ref in left]
        await helpers.join(None)

    assert alive == [None, None]


async def test_an_error_that_is_false_is_an_error(autojump_clock: MockClock) -> None:
    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        get.start_soon(trio.lowlevel.checkpoint)
        task_status.started()
        raise Empty("real")

    engine = Engine()
    engine.install("a", Manifold(start))
    async with open_worker(engine):
        await engine.wait_state("a", "delayed")
        assert "Empty: real" in str(engine.explain("a"))
