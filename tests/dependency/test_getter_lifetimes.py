"""What a getter, a helper or a live view is good for, and how long."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import LifetimeError

from .harness import Life, Program, return_at_once, serve


async def test_a_helper_may_be_started_at_any_time_of_the_run() -> None:
    """Also when others are running, long after the start function began."""
    program = Program()
    began: list[str] = []

    async def helper(name: str) -> None:
        began.append(name)
        await trio.sleep_forever()

    db = program.install("db")
    async with program.running():
        for name in ("first", "second"):
            db.life.get.start_soon(helper, name)
            await wait_all_tasks_blocked()
            assert began[-1] == name


class AtTheEndOf(trio.abc.Instrument):
    """Calls a function in the very step in which the task of that name ends."""

    def __init__(self, name: str, function: object) -> None:
        self._name = name
        self._function = function

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(self._name) and callable(self._function):
            self._function()


async def test_a_helper_is_refused_as_soon_as_nothing_of_the_run_is_left(
    autojump_clock: MockClock,
) -> None:
    """Also before the run's own task has learned that the last helper has ended."""
    program = Program()
    refused: list[str] = []

    async def body(life: Life) -> None:
        life.ready()
        life.get.start_soon(trio.sleep, 1, name="the last")

    def one_more() -> None:
        with pytest.raises(LifetimeError) as caught:
            db.life.get.start_soon(trio.sleep, 1)
        refused.append(str(caught.value))

    db = program.install("db", body=body)
    instrument = AtTheEndOf("the last", one_more)
    trio.lowlevel.add_instrument(instrument)
    async with program.running(settle=False) as engine:
        await engine.wait_state("db", "done")
    trio.lowlevel.remove_instrument(instrument)

    [message] = refused
    assert "after the run it belongs to had ended" in message


async def test_all_who_wait_for_the_stop_of_a_run_are_woken() -> None:
    program = Program()
    woken: list[int] = []

    async def wait(life: Life, number: int) -> None:
        await life.get.wait_stopping()
        woken.append(number)

    async def body(life: Life) -> None:
        for number in range(3):
            life.get.start_soon(wait, life, number)
        life.ready()
        await life.get.wait_stopping()

    program.install("db", body=body, grace=5.0)
    async with program.running() as engine:
        await wait_all_tasks_blocked()  # now all of them wait
        engine.hold("db")
        await engine.wait_state("db", "held")

    assert sorted(woken) == [0, 1, 2]


async def test_a_shielded_helper_hears_that_its_run_is_failing() -> None:
    program = Program()
    heard: list[str] = []

    async def save(life: Life) -> None:
        with trio.CancelScope(shield=True):
            await life.get.wait_stopping()
            heard.append(life.double.state)

    async def body(life: Life) -> None:
        life.get.start_soon(save, life)
        await serve(life)

    db = program.install("db", body=body)
    async with program.running():
        db.life.fail(ValueError())
        await wait_all_tasks_blocked()
        assert heard == ["stopping"]


async def test_started_after_the_end_of_the_run_is_ignored() -> None:
    """As it is after a stop: whoever was handed the task_status may be late."""
    program = Program()
    db = program.install("db", body=return_at_once)
    async with program.running():
        assert db.state == "done"
        db.life.status.started("late")
        assert db.state == "done"


async def test_an_iterator_of_a_live_view_goes_on_in_a_loop() -> None:
    program = Program()
    seen: list[object] = []

    async def body(life: Life) -> None:
        life.ready()
        changes = aiter(life.get.live("db", str))
        seen.append(await anext(changes))
        async for value in changes:
            seen.append(value)  # noqa: PERF401 - each when it comes

    program.install("db")
    program.install("api", live=("db",), body=body)
    async with program.running() as engine:
        await wait_all_tasks_blocked()
        seen.clear()
        engine.hold("db")
        await wait_all_tasks_blocked()

    assert seen == [None]


class Unchangeable(Exception):
    """Refuses to have any of its attributes set."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


async def test_an_adapters_error_that_takes_no_notes_is_the_askers_all_the_same() -> None:
    error = Unchangeable()
    caught: list[BaseException] = []

    def adapter(value: object) -> str:
        raise error

    async def body(life: Life) -> None:
        with pytest.raises(Unchangeable) as raised:
            life.get("db", str)
        caught.append(raised.value)
        await serve(life)

    program = Program()
    program.install("db", outputs={str: adapter})
    program.install("api", "db", body=body)
    async with program.running():
        assert caught == [error]
