"""The flag of a migration's phase."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import Bounce, Missing, NotFound
from trioworker.patterns import Flag, FlagChanged
from trioworker.testing import ManifoldHarness, StubGetter, check_alive, clean_kill, open_engine
from trioworker.workers.coordination.migrationflag import (
    TERMINAL,
    Config,
    Migrations,
    Phase,
    is_terminal,
    manifold,
)

from .facades import FakeMigrations, offering
from .taking import calling, nursery_to_leave

MODEL = FakeMigrations.MODEL
QUIESCING = Config(model=MODEL, true_when={Phase.QUIESCE})


async def run(script: Script[Phase], config: Config = QUIESCING) -> None:
    """Run what the manifold starts, without an engine."""
    getter = StubGetter(required={"migrations": FakeMigrations(script)})
    await manifold(config).start(getter, task_status=trio.TASK_STATUS_IGNORED)


async def started(script: Script[Phase], nursery: trio.Nursery) -> Any:
    """Start it in the background, and let everything settle."""
    getter = StubGetter(required={"migrations": FakeMigrations(script)})
    flag = await nursery.start(manifold(QUIESCING).start, getter)
    await wait_all_tasks_blocked()
    return flag


async def test_an_error_of_the_first_look_passes_and_no_flag_comes_of_it() -> None:
    script: Script[Phase] = Script(OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        await run(script)

    assert script.calls == ["read"]


async def test_a_model_that_nobody_knows_is_an_error_like_any_other() -> None:
    error = NotFound("no such model")
    script: Script[Phase] = Script(error)
    with pytest.raises(NotFound) as caught:
        await run(script)

    assert caught.value is error


async def test_an_error_of_the_watch_ends_it() -> None:
    script = Script(Phase.REAP, watch_error=OSError("cannot watch"))
    with pytest.raises(OSError, match="cannot watch"):
        await run(script)

    assert script.calls == ["read", "watch"]


async def test_an_error_of_a_later_look_ends_it() -> None:
    script = Script(Phase.REAP, OSError("no answer"))
    with pytest.raises(OSError, match="no answer"):
        await run(script)

    assert script.calls == ["read", "watch", "read"]


async def test_a_change_at_once_ends_it() -> None:
    script = Script(Phase.QUIESCE, Phase.REAP)
    with pytest.raises(FlagChanged):
        await run(script)

    assert script.calls == ["read", "watch", "read"]


async def test_a_later_change_ends_it() -> None:
    script = Script(Phase.ABORT, Phase.REAP, Phase.QUIESCE)
    async with nursery_to_leave() as nursery:
        call = await calling(nursery, lambda: run(script))
        assert call.blocks()
        script.tell()
        await call.ended.wait()

    assert isinstance(call.error, FlagChanged)
    assert script.calls == ["read", "watch", "read", "read"]


async def test_changes_that_do_not_matter_leave_it_alive() -> None:
    script = Script(Phase.REAPFAILED, Phase.DONE, Phase.ABORT, Phase.IMPORT)
    async with trio.open_nursery() as nursery:
        flag = await started(script, nursery)
        for _ in range(2):
            script.tell()
            await check_alive(flag)

        assert flag.check() is False
        assert script.calls == ["read", "watch", "read", "read", "read"]
        await clean_kill(flag)


@pytest.mark.parametrize(
    "phase, is_over",
    [
        (Phase.UNKNOWN, True),
        (Phase.NONE, True),
        (Phase.ABORTDONE, True),
        (Phase.DONE, True),
        (Phase.REAPFAILED, True),
        (Phase.QUIESCE, False),
        (Phase.IMPORT, False),
        (Phase.SUCCESS, False),
        (Phase.REAP, False),
        (Phase.ABORT, False),
    ],
)
def test_which_phases_are_terminal(phase: Phase, *, is_over: bool) -> None:
    assert is_terminal(phase) is is_over
    assert (phase in TERMINAL) is is_over


# -- the manifold ----------------------------------------------------------------------------------


def test_its_only_input_are_migrations_and_its_filter_makes_a_bounce_of_a_change_alone() -> None:
    made = manifold(Config(model=MODEL))
    other = OSError()

    assert (made.inputs, made.optional, made.live) == (("migrations",), (), ())
    assert made.filter is not None
    assert isinstance(made.filter(FlagChanged()), Bounce)
    assert made.filter(other) is other


async def test_without_migrations_it_is_missing() -> None:
    with pytest.raises(Missing):
        await manifold(QUIESCING).start(
            StubGetter(required={"migrations": None}), task_status=trio.TASK_STATUS_IGNORED
        )


async def test_by_default_it_is_true_while_no_migration_is_under_way(
    autojump_clock: MockClock,
) -> None:
    first, second = (Phase.NONE, Phase.NONE), (Phase.QUIESCE, Phase.QUIESCE, Phase.QUIESCE)
    script = Script(*first, *second, Phase.ABORTDONE)
    user = ManifoldHarness()
    parts = {
        "migrations": offering(Migrations, FakeMigrations(script)),
        "flag": manifold(Config(model=MODEL)),
        "user": user.manifold(inputs=("flag",)),
    }
    async with open_engine(parts):
        for answer in (True, False, True):
            await user.assert_one_start()
            assert user.get("flag", Flag).check() is answer
            script.tell()


# -- the config ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["", "nope", "deadbeef", f"{{{MODEL}}}"])
def test_a_model_that_is_no_uuid_is_refused_and_quoted(model: str) -> None:
    with pytest.raises(ValueError, match="model must be a UUID, not") as caught:
        Config(model=model)

    assert repr(model) in str(caught.value)


@pytest.mark.parametrize("phases", [(), tuple(Phase)], ids=["none", "all"])
def test_a_flag_that_would_never_change_is_refused(phases: tuple[Phase, ...]) -> None:
    with pytest.raises(ValueError, match="true_when must have"):
        Config(model=MODEL, true_when=phases)


def test_it_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        QUIESCING.model = ""  # type: ignore[misc]  # which is the point
