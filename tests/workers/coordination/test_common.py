"""A worker that is cleaned up after, and a value in the graph."""

from collections.abc import Callable
from typing import Any, final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Manifold, TearDownTimeout, Tomb, open_worker, simple_worker
from trioworker.testing import ErrorWorker, check_alive, clean_kill, open_engine
from trioworker.workers.coordination.common import CleanupWorker, value_manifold

from .taking import Taker, calling, nursery_to_leave


@final
class Told:
    """Tells when it ends, a second after it was asked to."""

    def __init__(self, story: list[str]) -> None:
        self.name = "told"
        self._story = story
        self._tomb = Tomb(name="told")

    async def run(self, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        with self._tomb:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                self._story.append("ended")

    def kill(self, reason: BaseException | None = None) -> None:
        self._tomb.kill(reason)

    async def wait(self) -> None:
        await self._tomb.wait()

    def report(self) -> str:
        return "as told"


def noting(story: list[str]) -> Callable[[], None]:
    return lambda: story.append("cleaned")


@pytest.fixture
def story() -> list[str]:
    return []


# -- after the end ---------------------------------------------------------------------------------


async def test_it_cleans_up_after_the_end_and_before_anybody_is_told(
    story: list[str], autojump_clock: MockClock
) -> None:
    async with open_worker(CleanupWorker(Told(story), noting(story))) as worker:
        await check_alive(worker)
        assert story == []
        await clean_kill(worker)

        assert story == ["ended", "cleaned"]


async def test_who_waits_twice_is_told_the_same_and_it_is_cleaned_once(story: list[str]) -> None:
    error = ValueError("oops")
    worker = CleanupWorker(ErrorWorker(error), noting(story))
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, worker.run)
        worker.kill()
        for _ in range(2):
            with pytest.raises(ValueError, match="oops") as caught:
                await worker.wait()
            assert caught.value is error

    assert run.error is error
    assert story == ["cleaned"]


async def test_it_is_cleaned_though_nobody_waits(story: list[str]) -> None:
    """In the original, who waits is who cleans."""
    await CleanupWorker(simple_worker(trio.lowlevel.checkpoint), noting(story)).run()

    assert story == ["cleaned"]


async def test_one_that_is_cancelled_from_outside_is_cleaned(
    story: list[str], autojump_clock: MockClock
) -> None:
    async def cleanup() -> None:
        await trio.sleep(1)
        story.append("cleaned")

    with trio.move_on_after(5) as scope:
        await CleanupWorker(Told(story), cleanup).run()

    assert scope.cancelled_caught
    assert story == ["ended", "cleaned"]


async def test_one_that_was_killed_before_it_ran_is_cleaned(story: list[str]) -> None:
    worker = CleanupWorker(simple_worker(trio.sleep_forever), noting(story))
    worker.kill()
    with trio.fail_after(5):
        await worker.run()

    assert story == ["cleaned"]


async def test_a_kill_is_passed_on_with_its_reason(
    story: list[str], autojump_clock: MockClock
) -> None:
    reason = ValueError("why")
    inside = Told(story)
    worker = CleanupWorker(inside, noting(story))
    async with nursery_to_leave() as nursery:
        run = await calling(nursery, worker.run)
        worker.kill(reason)
        await run.ended.wait()
        with pytest.raises(ValueError, match="why"):
            await inside.wait()

    assert run.error is reason
    assert story == ["ended", "cleaned"]


# -- when cleaning fails ---------------------------------------------------------------------------


def failing() -> None:
    raise OSError("cannot clean")


async def test_an_error_of_the_cleaning_is_the_end_if_there_is_no_other() -> None:
    with pytest.raises(OSError, match="cannot clean"):
        await CleanupWorker(simple_worker(trio.lowlevel.checkpoint), failing).run()


async def test_an_error_of_the_cleaning_comes_after_the_workers() -> None:
    error = ValueError("oops")

    async def work() -> None:
        raise error

    with pytest.raises(ValueError, match="oops") as caught:
        await CleanupWorker(simple_worker(work), failing).run()

    assert caught.value is error
    assert "cannot clean" in "".join(caught.value.__notes__)


async def test_cleaning_that_does_not_end_is_cut_short(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    worker = CleanupWorker(simple_worker(trio.lowlevel.checkpoint), trio.sleep_forever, timeout=3)
    with pytest.raises(TearDownTimeout, match='"checkpoint": cleanup was cancelled'):
        await worker.run()

    assert trio.current_time() - began == 3


async def test_a_second_run_is_refused_and_cleans_nothing(story: list[str]) -> None:
    worker = CleanupWorker(simple_worker(trio.lowlevel.checkpoint), noting(story))
    await worker.run()
    with pytest.raises(RuntimeError, match="a second time"):
        await worker.run()

    assert story == ["cleaned"]


def test_what_cannot_clean_is_refused() -> None:
    inside = simple_worker(trio.sleep_forever)
    with pytest.raises(TypeError, match="must be a function, not 'rm'"):
        CleanupWorker(inside, "rm")  # type: ignore[arg-type]  # which is the point
    with pytest.raises(ValueError, match="timeout"):
        CleanupWorker(inside, failing, timeout=0)


# -- what others see -------------------------------------------------------------------------------


async def test_the_report_is_the_workers_if_it_has_one(story: list[str]) -> None:
    mute = CleanupWorker(simple_worker(trio.sleep_forever), failing)

    assert CleanupWorker(Told(story), failing).report() == "as told"
    assert repr(mute) == "<CleanupWorker 'sleep_forever' alive>"
    report: Any = mute.report()
    assert report.name == "sleep_forever"


async def test_a_manifold_hands_out_the_worker_inside(
    story: list[str], autojump_clock: MockClock
) -> None:
    made = Manifold.from_worker(
        lambda get: CleanupWorker(Told(story), noting(story)),
        outputs={Told: lambda worker: worker.worker},
    )
    taker = Taker("it", Told)
    async with open_engine({"it": made, "taker": taker.manifold()}):
        assert taker[Told].report() == "as told"

    assert story == ["ended", "cleaned"]


# -- a value ---------------------------------------------------------------------------------------


@final
class Box:
    def __init__(self) -> None:
        self.content = 3


async def test_a_value_is_offered_as_it_is_and_made_anew_at_each_start(
    autojump_clock: MockClock,
) -> None:
    made: list[Box] = []

    def make() -> Box:
        made.append(Box())
        return made[-1]

    taker = Taker("box", Box)
    async with open_engine({"box": value_manifold(make), "taker": taker.manifold()}) as engine:
        assert taker[Box] is made[0]
        engine.restart("box")
        await engine.wait_settled()
        await wait_all_tasks_blocked()
        assert taker[Box] is made[1]
        assert len(made) == 2


async def test_a_thing_made_outside_is_the_same_after_a_restart(autojump_clock: MockClock) -> None:
    box = Box()
    taker = Taker("box", Box)
    parts = {"box": value_manifold(lambda: box), "taker": taker.manifold()}
    async with open_engine(parts) as engine:
        engine.restart("box")
        await engine.wait_settled()
        assert taker.starts == 2
        assert taker[Box] is box


async def test_less_of_a_value_can_be_offered(autojump_clock: MockClock) -> None:
    made = value_manifold(Box, outputs={int: lambda box: box.content})
    taker, curious = Taker("box", int), Taker("box", Box)
    parts = {"box": made, "taker": taker.manifold(), "curious": curious.manifold()}
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("curious", "delayed")
        assert taker[int] == 3
        assert "it offers: int" in str(engine.explain("curious"))


async def test_an_error_of_making_it_is_an_error_of_the_start(autojump_clock: MockClock) -> None:
    def make() -> Box:
        raise OSError("no box")

    async with open_engine({"box": value_manifold(make)}, settle_within=None) as engine:
        await engine.wait_state("box", "delayed")
        assert "no box" in str(engine.explain("box"))


def test_the_value_itself_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a plain function"):
        value_manifold(Box())  # type: ignore[arg-type]  # which is the point
