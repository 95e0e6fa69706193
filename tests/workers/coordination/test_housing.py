"""Housing: flags first, then the fortress, then the manifold itself."""

from pathlib import Path
from typing import final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Engine, Getter, Manifold, Missing, Uninstall, Worker, simple_worker
from trioworker.agent import load
from trioworker.patterns import Flag
from trioworker.testing import ManifoldHarness, StubGetter, open_engine
from trioworker.workers.coordination import fortress
from trioworker.workers.coordination.fortress import Guard, Guest
from trioworker.workers.coordination.housing import housed

from .taking import Taker, calling, nursery_to_leave


@final
class Answer:
    """A flag, by itself."""

    def __init__(self, *, is_so: bool) -> None:
        self.is_so = is_so
        self.asked = 0

    def check(self) -> bool:
        self.asked += 1
        return self.is_so


def flag(answer: Answer) -> Manifold:
    async def start(get: Getter, *, task_status: trio.TaskStatus[Answer]) -> None:
        task_status.started(answer)
        await trio.sleep_forever()

    return Manifold(start, outputs={Flag: _itself})


def _itself(answer: Answer) -> Answer:
    return answer


def kept(error: Exception) -> Exception:
    return error


def refused(error: Exception) -> Exception:
    return Uninstall(str(error))


# -- flags -----------------------------------------------------------------------------------------


async def test_it_runs_while_all_flags_are_true(autojump_clock: MockClock) -> None:
    user = ManifoldHarness()
    parts = {
        "one": flag(Answer(is_so=True)),
        "two": flag(Answer(is_so=True)),
        "user": housed(user.manifold(), flags=("one", "two")),
    }
    async with open_engine(parts):
        await user.assert_one_start()


async def test_a_flag_that_is_false_is_missing_by_name(autojump_clock: MockClock) -> None:
    user = ManifoldHarness()
    one, two, three = Answer(is_so=True), Answer(is_so=False), Answer(is_so=True)
    parts = {
        "one": flag(one),
        "two": flag(two),
        "three": flag(three),
        "user": housed(user.manifold(), flags=("one", "two", "three")),
    }
    async with open_engine(parts) as engine:
        await user.assert_no_start()
        assert engine.report().manifolds["user"].state == "waiting"
        assert 'the flag "two" is false' in str(engine.explain("user"))
        assert three.asked == 0

        two.is_so = True
        engine.restart("two")  # as a flag does, when its answer is another
        await user.assert_one_start()


async def test_a_flag_that_is_not_there_is_missing(autojump_clock: MockClock) -> None:
    manifold = housed(ManifoldHarness().manifold(), flags=("one",))
    with pytest.raises(Missing):
        await manifold.start(
            StubGetter(required={"one": None}), task_status=trio.TASK_STATUS_IGNORED
        )


# -- the fortress ----------------------------------------------------------------------------------


async def test_it_runs_inside_a_visit_that_lasts_as_long_as_it(autojump_clock: MockClock) -> None:
    guard, user = Taker("fortress", Guard), ManifoldHarness()
    parts = {
        "fortress": fortress.manifold(),
        "guard": guard.manifold(),
        "user": housed(user.manifold(), occupy="fortress"),
    }
    async with open_engine(parts, settle_within=None) as engine, nursery_to_leave() as tasks:
        await user.assert_no_start()
        assert engine.report().manifolds["user"].state == "starting"
        guard[Guard].unlock()
        await user.assert_one_start()
        lockdown = await calling(tasks, guard[Guard].lockdown)
        assert lockdown.blocks()

        user.fail(OSError("its own error"))
        await lockdown.ended.wait()

        assert lockdown.error is None
        await trio.sleep(60)  # it wants to start again, and waits at the door
        await user.assert_no_start()
        guard[Guard].unlock()
        await user.assert_one_start()


async def test_one_that_waits_at_the_door_can_be_stopped_and_has_not_begun(
    autojump_clock: MockClock,
) -> None:
    user = ManifoldHarness()
    parts = {
        "fortress": fortress.manifold(),
        "user": housed(user.manifold(), occupy="fortress"),
    }
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("user", "starting")
        await wait_all_tasks_blocked()
        engine.hold("user")
        await engine.wait_state("user", "held")

        assert user.starts == 0


async def test_flags_are_checked_before_the_fortress_is_entered(autojump_clock: MockClock) -> None:
    """Who is not meant to run does not stand at the door."""
    user = ManifoldHarness()
    parts = {
        "flag": flag(Answer(is_so=False)),
        "fortress": fortress.manifold(),
        "user": housed(user.manifold(), flags=("flag",), occupy="fortress"),
    }
    async with open_engine(parts) as engine:
        assert engine.report().manifolds["user"].state == "waiting"
        report = engine.report().manifolds["fortress"].worker
        assert isinstance(report, fortress.FortressReport)
        assert report.at_the_door == 0


@pytest.mark.parametrize("first", ["flags", "occupy"])
async def test_the_order_is_the_same_when_it_is_housed_twice(
    first: str, autojump_clock: MockClock
) -> None:
    plain = ManifoldHarness().manifold()
    if first == "flags":
        manifold = housed(housed(plain, flags=("flag",)), occupy="fortress")
    else:
        manifold = housed(housed(plain, occupy="fortress"), flags=("flag",))
    answer, guard = Answer(is_so=False), Taker("fortress", Guard)
    parts = {
        "flag": flag(answer),
        "fortress": fortress.manifold(),
        "guard": guard.manifold(),
        "user": manifold,
    }
    async with open_engine(parts) as engine:
        assert 'the flag "flag" is false' in str(engine.explain("user"))

        answer.is_so = True
        engine.restart("flag")
        await engine.wait_state("user", "starting")
        guard[Guard].unlock()
        await engine.wait_state("user", "started")
        report = engine.report().manifolds["fortress"].worker
        assert isinstance(report, fortress.FortressReport)
        assert report.inside == 1  # once, and not once for each house


def test_a_second_fortress_is_refused() -> None:
    once = housed(ManifoldHarness().manifold(), occupy="one")
    with pytest.raises(ValueError, match='"two": the manifold occupies "one" already'):
        housed(once, occupy="two")


# -- the manifold that comes out -------------------------------------------------------------------


def test_inputs_are_added_once_and_the_original_stays_as_it_was() -> None:
    plain = ManifoldHarness().manifold(inputs=("db", "flag"), optional=("cache",))
    made = housed(plain, flags=("flag", "other", "flag"), occupy="fortress")

    assert made.inputs == ("db", "flag", "other", "fortress")
    assert made.optional == ("cache",)
    assert plain.inputs == ("db", "flag")
    assert housed(made, flags=("other", "more")).inputs == (*made.inputs, "more")


def test_the_filter_replaces_the_manifolds_own() -> None:
    plain = ManifoldHarness().manifold(filter=kept)

    assert housed(plain, filter=refused).filter is refused
    assert housed(plain, flags=("flag",)).filter is plain.filter
    assert housed(housed(plain, filter=refused), flags=("flag",)).filter is refused


async def test_the_filter_sees_a_false_flag_too_as_it_sees_every_end(
    autojump_clock: MockClock,
) -> None:
    """So it has to let pass what it does not know, as any filter."""
    user = ManifoldHarness()
    parts = {
        "flag": flag(Answer(is_so=False)),
        "user": housed(user.manifold(), flags=("flag",), filter=refused),
    }
    async with open_engine(parts) as engine:
        assert "user" not in engine.report().manifolds


async def test_everything_else_of_the_manifold_is_kept(autojump_clock: MockClock) -> None:
    def build(get: Getter) -> Worker:
        return simple_worker(trio.sleep_forever)

    plain = Manifold.from_worker(build, grace=3.0, start_timeout=7.0)
    made = housed(plain, flags=("flag",)).bind({"flag": "other"})

    assert (made.grace, made.start_timeout, made.ask) == (3.0, 7.0, plain.ask)
    async with open_engine({"other": flag(Answer(is_so=True)), "user": made}) as engine:
        assert engine.report().manifolds["user"].state == "started"


@pytest.mark.parametrize("field", ["optional", "live"])
def test_a_flag_that_is_declared_in_another_way_is_refused(field: str) -> None:
    plain = ManifoldHarness().manifold(**{field: ("flag",)})
    with pytest.raises(ValueError, match='"flag" is declared twice'):
        housed(plain, flags=("flag",))


def test_a_string_for_flags_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r'write \("flag",\)'):
        housed(ManifoldHarness().manifold(), flags="flag")


async def test_a_start_that_hangs_is_told_with_the_function_that_users_know(
    autojump_clock: MockClock,
) -> None:
    async def sleepy(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    answer = Answer(is_so=True)
    slow = housed(Manifold(sleepy, start_timeout=5.0), flags=("flag",))
    parts = {"flag": flag(answer), "user": slow}
    async with open_engine(parts, settle_within=None) as engine:
        await engine.wait_state("user", "delayed")

        assert "sleepy" in str(engine.explain("user"))


# -- from an agent file ----------------------------------------------------------------------------

MODULE = """
import trio
from trioworker import Manifold
from trioworker.workers.coordination.housing import housed

def uniter():
    async def start(get, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    return housed(Manifold(start), flags=("upgraded",), occupy="fortress")

def steps():
    async def start(get, *, task_status):
        from trioworker.workers.coordination.fortress import Guard
        from trioworker.workers.coordination.gate import Unlocker
        task_status.started()
        get("fortress", Guard).unlock()
        await trio.sleep(30)
        await get("gate", Unlocker).unlock()
        await trio.sleep_forever()

    return Manifold(start, inputs=("gate", "fortress"))
"""

FILE = """
[manifolds.fortress]
use = "trioworker.workers.coordination.fortress:manifold"

[manifolds.gate]
use = "trioworker.workers.coordination.gate:manifold"

[manifolds.gate-flag]
use = "trioworker.workers.coordination.gateflag:manifold"

[manifolds.steps]
use = "housed_workers:steps"

[manifolds.uniter]
use = "housed_workers:uniter"
inputs = { upgraded = "gate-flag" }
"""


async def test_a_factory_of_an_agent_file_may_return_a_housed_manifold(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "housed_workers.py").write_text(MODULE)
    (tmp_path / "agent.toml").write_text(FILE)
    engine: Engine = load(tmp_path / "agent.toml").engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("uniter", "started")
        assert trio.current_time() >= 30
        engine.kill()


async def test_two_engines_of_one_housed_manifold_do_not_touch_each_other(
    autojump_clock: MockClock,
) -> None:
    user = housed(Manifold(_forever), occupy="fortress")
    guards = [Taker("fortress", Guard, Guest), Taker("fortress", Guard, Guest)]
    engines = [Engine(), Engine()]
    for engine, guard in zip(engines, guards, strict=True):
        engine.install_all(
            {"fortress": fortress.manifold(), "guard": guard.manifold(), "user": user}
        )
    async with trio.open_nursery() as nursery:
        for engine in engines:
            nursery.start_soon(engine.run)
            await engine.wait_state("guard", "started")
        guards[0][Guard].unlock()
        await engines[0].wait_state("user", "started")

        assert engines[1].report().manifolds["user"].state == "starting"
        for engine in engines:
            engine.kill()


async def _forever(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()
