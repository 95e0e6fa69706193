"""simple_worker(): a plain function as a worker."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker._errors import LifetimeError
from trioworker._simple import simple_worker
from trioworker._util import name_of
from trioworker._worker import Worker, open_worker, stop


async def nothing() -> None:
    pass


async def test_the_function_gets_its_arguments_and_its_end_is_the_workers() -> None:
    got: list[object] = []

    async def collect(a: int, b: str) -> str:
        got.extend((a, b))
        return "dropped"

    worker = simple_worker(collect, 1, "two")
    await worker.run()
    await worker.wait()

    assert got == [1, "two"]


async def test_the_functions_error_is_the_workers_the_same_object() -> None:
    error = ValueError("no")

    async def fail() -> None:
        raise error

    worker = simple_worker(fail)
    for observe in (worker.run, worker.wait):
        with pytest.raises(ValueError, match="no") as caught:
            await observe()
        assert caught.value is error


async def test_kill_cancels_the_function() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            steps.append("cancelled")

    async with open_worker(simple_worker(work)) as worker:
        await wait_all_tasks_blocked()
        await stop(worker)

    assert steps == ["cancelled"]


async def test_killed_with_a_reason_it_raises_that() -> None:
    reason = OSError("gone")
    worker = simple_worker(trio.sleep_forever)

    with pytest.raises(OSError, match="gone") as caught:
        async with open_worker(worker):
            worker.kill(reason)

    assert caught.value is reason


async def test_killed_before_it_was_run_it_never_calls_the_function() -> None:
    calls: list[None] = []

    async def work() -> None:
        calls.append(None)

    worker = simple_worker(work)
    worker.kill()
    await worker.run()

    assert not calls


async def test_it_runs_once() -> None:
    worker = simple_worker(nothing)
    await worker.run()

    with pytest.raises(LifetimeError, match="a life happens once"):
        await worker.run()


async def test_it_has_started_before_the_function_is_called() -> None:
    async with trio.open_nursery() as nursery:
        worker = simple_worker(trio.sleep_forever)
        await nursery.start(worker.run)
        worker.kill()


def test_it_is_a_worker_that_has_the_functions_name() -> None:
    worker = simple_worker(functools.partial(nothing))

    assert isinstance(worker, Worker)
    assert name_of(worker) == "nothing"
    assert repr(worker) == "<worker 'nothing' alive>"


def plain() -> None:
    pass


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: None, "<lambda> is not async"),
        (plain, "plain is not async: define it with 'async def', then simple_worker(plain)"),
        (3, "expected an async function, got 3; write simple_worker(an_async_function)"),
    ],
)
def test_what_is_no_async_function_is_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        simple_worker(make)

    assert message in str(caught.value)


def test_a_coroutine_is_refused_at_once_and_closed() -> None:
    with pytest.raises(TypeError, match=r"got the coroutine nothing\(...\); write simple_worker"):
        simple_worker(nothing())  # type: ignore[arg-type]


def test_methods_partials_and_callable_objects_will_do() -> None:
    class Thing:
        async def method(self) -> None: ...

        async def __call__(self) -> None: ...

    thing = Thing()
    good: list[Callable[[], Any]] = [thing.method, functools.partial(thing.method), thing]

    assert all(isinstance(simple_worker(fn), Worker) for fn in good)
