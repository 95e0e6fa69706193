"""The flag of an entity's life. The sequences of calls are part of what it promises."""

from collections.abc import Callable
from typing import final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import Bounce, EngineConfig, Missing, NotFound, Watcher, open_worker
from trioworker.patterns import Flag, FlagChanged
from trioworker.testing import (
    FakeWatcher,
    ManifoldHarness,
    StubGetter,
    check_alive,
    clean_kill,
    open_engine,
)
from trioworker.workers.coordination.lifeflag import (
    Config,
    EntityNotFound,
    Life,
    LifeFlag,
    Lives,
    manifold,
)

from .facades import FakeLives, offering
from .taking import nursery_to_leave

GONE = NotFound("no such machine")


def not_alive(life: Life) -> bool:
    return life is not Life.ALIVE


def not_dead(life: Life) -> bool:
    return life is not Life.DEAD


def never_asked(life: Life) -> bool:
    raise AssertionError(f"asked about {life}")


def flag_of(
    script: Script[Life],
    predicate: Callable[[Life], bool] = not_dead,
    *,
    not_found_is_dead: bool = False,
) -> LifeFlag:
    return LifeFlag(FakeLives(script), "machine-3", predicate, not_found_is_dead=not_found_is_dead)


async def test_an_entity_that_is_not_there_is_an_error_before_anything_is_asked() -> None:
    script: Script[Life] = Script(GONE)
    flag = flag_of(script, never_asked)
    with pytest.raises(EntityNotFound, match="no entity 'machine-3'") as caught:
        await flag.run()

    assert caught.value.__cause__ is GONE
    assert script.calls == ["read"]
    with pytest.raises(EntityNotFound):
        await flag.wait()


async def test_another_error_of_the_first_look_passes() -> None:
    script: Script[Life] = Script(OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        await flag_of(script, never_asked).run()

    assert script.calls == ["read"]


@pytest.mark.parametrize(
    "error, expected", [(GONE, EntityNotFound), (OSError("no answer"), OSError)]
)
async def test_an_error_of_the_watch_ends_it(error: Exception, expected: type[Exception]) -> None:
    script = Script(Life.ALIVE, watch_error=error)
    with pytest.raises(expected):
        await flag_of(script).run()

    assert script.calls == ["read", "watch"]


@pytest.mark.parametrize(
    "error, expected", [(GONE, EntityNotFound), (OSError("no answer"), OSError)]
)
async def test_an_error_of_a_later_look_ends_it(
    error: Exception, expected: type[Exception]
) -> None:
    script = Script(Life.ALIVE, error)
    with pytest.raises(expected):
        await flag_of(script).run()

    assert script.calls == ["read", "watch", "read"]


async def test_a_watcher_that_ends_because_the_entity_is_gone_is_told_as_that() -> None:
    script = Script(Life.ALIVE)
    with pytest.raises(EntityNotFound):
        async with open_worker(flag_of(script)):
            await wait_all_tasks_blocked()
            script.watchers[0].fail(GONE)
            await trio.sleep_forever()


async def test_alive_then_dead_under_not_alive() -> None:
    script = Script(Life.ALIVE, Life.DEAD)
    flag = flag_of(script, not_alive)
    with pytest.raises(FlagChanged):
        await flag.run()

    assert flag.check() is False
    assert script.calls == ["read", "watch", "read"]


async def test_dying_dying_dead_under_not_dead() -> None:
    script = Script(Life.DYING, Life.DYING, Life.DEAD)
    flag = flag_of(script)
    with pytest.raises(FlagChanged):
        async with open_worker(flag):
            await wait_all_tasks_blocked()
            assert flag.check() is True
            script.tell()
            await trio.sleep_forever()

    assert script.calls == ["read", "watch", "read", "read"]


async def test_alive_alive_dying_under_not_dead_lives() -> None:
    script = Script(Life.ALIVE, Life.ALIVE, Life.DYING)
    async with open_worker(flag_of(script)) as flag:
        await wait_all_tasks_blocked()
        script.tell()
        await check_alive(flag)

        assert flag.check() is True
        await clean_kill(flag)
    assert script.calls == ["read", "watch", "read", "read"]


# -- not found is dead -----------------------------------------------------------------------------


async def test_an_entity_that_is_not_there_may_count_as_dead() -> None:
    script = Script[Life](GONE, watch_error=GONE)
    async with open_worker(flag_of(script, not_found_is_dead=True)) as flag:
        await check_alive(flag)

        assert flag.check() is False
        await clean_kill(flag)


@pytest.mark.parametrize(
    "script",
    [Script(Life.ALIVE, GONE), Script(Life.ALIVE, watch_error=GONE)],
    ids=["seen by looking", "seen by watching"],
)
async def test_one_that_vanishes_may_count_as_dead(script: Script[Life]) -> None:
    flag = flag_of(script, not_found_is_dead=True)
    with pytest.raises(FlagChanged):
        await flag.run()

    assert flag.check() is True


async def test_what_is_dead_stays_dead_when_its_watcher_finds_it_gone() -> None:
    script = Script(Life.DEAD)
    async with open_worker(flag_of(script, not_found_is_dead=True)) as flag:
        await wait_all_tasks_blocked()
        script.watchers[0].fail(GONE)
        await check_alive(flag)

        assert flag.check() is False
        await clean_kill(flag)


# -- the manifold ----------------------------------------------------------------------------------

CONFIG = Config(entity="machine-3", true_when=frozenset({Life.ALIVE, Life.DYING}))


def test_its_only_input_are_lives_and_its_filter_makes_a_bounce_of_a_change_alone() -> None:
    made = manifold(CONFIG)
    gone = EntityNotFound()

    assert (made.inputs, made.optional, made.live) == (("lives",), (), ())
    assert made.filter is not None
    assert isinstance(made.filter(FlagChanged()), Bounce)
    assert made.filter(gone) is gone


async def test_without_lives_it_is_missing() -> None:
    with pytest.raises(Missing):
        await manifold(CONFIG).start(
            StubGetter(required={"lives": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_dependents_are_restarted_with_the_new_answer(autojump_clock: MockClock) -> None:
    script = Script(Life.ALIVE, Life.ALIVE, Life.DEAD)
    user = ManifoldHarness()
    parts = {
        "lives": offering(Lives, FakeLives(script)),
        "flag": manifold(CONFIG),
        "user": user.manifold(inputs=("flag",)),
    }
    async with open_engine(parts) as engine:
        await user.assert_one_start()
        assert user.get("flag", Flag).check() is True
        script.tell()
        await user.assert_one_start()

        assert user.get("flag", Flag).check() is False
        assert engine.report().manifolds["flag"].failures == 0


async def test_a_vanished_entity_is_fatal_where_the_engine_says_so(
    autojump_clock: MockClock,
) -> None:
    script = Script(Life.ALIVE, Life.ALIVE, GONE)
    config = EngineConfig(is_fatal=lambda error: isinstance(error, EntityNotFound))
    parts = {"lives": offering(Lives, FakeLives(script)), "flag": manifold(CONFIG)}
    with pytest.raises(EntityNotFound):
        async with open_engine(parts, config):
            await wait_all_tasks_blocked()
            script.tell()
            await trio.sleep_forever()


@final
class Children:
    """Knows whether a real child lives; the kernel tells when it does not."""

    def __init__(self, process: trio.Process, nursery: trio.Nursery) -> None:
        self._process = process
        self._nursery = nursery

    async def life(self, entity: str) -> Life:
        return Life.ALIVE if self._process.returncode is None else Life.DEAD

    async def watch_life(self, entity: str) -> Watcher[object]:
        watcher = FakeWatcher[None](None)

        async def tell() -> None:
            await self._process.wait()
            watcher.send(None)

        self._nursery.start_soon(tell)
        return watcher


async def test_the_life_of_a_real_process_is_a_flag() -> None:
    user = ManifoldHarness()
    async with nursery_to_leave() as nursery:
        process = await trio.lowlevel.open_process(["sleep", "1000"])
        try:
            parts = {
                "lives": offering(Lives, Children(process, nursery)),
                "flag": manifold(CONFIG),
                "user": user.manifold(inputs=("flag",)),
            }
            async with open_engine(parts):
                await user.assert_one_start(within=60)
                assert user.get("flag", Flag).check() is True
                process.kill()
                await user.assert_one_start(within=60)
                assert user.get("flag", Flag).check() is False
        finally:
            process.kill()


# -- the config ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field, value, told",
    [
        ("entity", "", "entity must be"),
        ("true_when", frozenset[Life](), "true_when must have"),
        ("true_when", frozenset(Life), "true_when must have"),
    ],
)
def test_a_field_that_is_not_usable_is_refused_by_name(
    field: str, value: object, told: str
) -> None:
    fields = {"entity": "machine-3", "true_when": {Life.ALIVE}, field: value}
    with pytest.raises(ValueError, match=told):
        Config(**fields)  # type: ignore[arg-type]  # one of them is wrong


def test_it_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        CONFIG.entity = "other"  # type: ignore[misc]  # which is the point


async def test_ready_it_gives_itself(nursery: trio.Nursery) -> None:
    flag = flag_of(Script(Life.ALIVE))

    assert await nursery.start(flag.run) is flag
    flag.kill()


def test_it_says_whose_life_it_is() -> None:
    flag = flag_of(Script(Life.ALIVE))

    assert repr(flag) == "<LifeFlag 'life-flag' of 'machine-3' alive>"
    assert flag.report().answer is None
