"""The flag: sampled once, watched, and over when the answer is another."""

import functools
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Bounce, LifetimeError, Manifold, WatcherClosed, open_worker
from trioworker.patterns import Flag, FlagChanged, SampledFlag, as_flag, bounce_on
from trioworker.testing import ManifoldHarness, check_alive, clean_kill, dirty_kill, open_engine

from .values import Script


def is_even(number: int) -> bool:
    return number % 2 == 0


def never_asked(number: int) -> NoReturn:
    raise AssertionError(f"asked about {number}")


async def test_the_answer_is_there_when_it_is_ready_and_stays() -> None:
    value = Script(2, 4, 6)
    async with open_worker(SampledFlag(value, is_even)) as flag:
        assert flag.check() is True
        await wait_all_tasks_blocked()
        value.tell()
        await check_alive(flag)

        assert flag.check() is True
        assert value.calls == ["read", "watch", "read", "read"]
        await clean_kill(flag)
        assert flag.check() is True


async def test_a_false_flag_lives_as_well() -> None:
    async with open_worker(SampledFlag(Script(1), is_even)) as flag:
        await check_alive(flag)

        assert flag.check() is False


async def test_what_a_predicate_returns_becomes_a_boolean() -> None:
    def odd_one(number: int) -> bool:
        return [number]  # type: ignore[return-value]  # such predicates are written

    async with open_worker(SampledFlag(Script(1), odd_one)) as flag:
        assert flag.check() is True


async def test_a_change_before_the_watch_began_is_seen() -> None:
    """The watcher's first event is the second look."""
    value = Script(2, 3)
    flag = SampledFlag(value, is_even, name="even")
    with pytest.raises(FlagChanged, match='"even" is False now'):
        await flag.run()

    assert value.calls == ["read", "watch", "read"]
    assert flag.check() is True


async def test_a_later_change_of_the_answer_ends_it() -> None:
    value = Script(1, 3, 5, 6)
    with pytest.raises(FlagChanged):
        async with open_worker(SampledFlag(value, is_even)) as flag:
            await wait_all_tasks_blocked()
            value.tell()
            await check_alive(flag)
            value.tell()
            await trio.sleep_forever()

    assert value.calls == ["read", "watch", "read", "read", "read"]


async def test_several_changes_may_be_one_and_only_the_last_value_counts() -> None:
    value = Script(2, 2, 4)
    async with open_worker(SampledFlag(value, is_even)) as flag:
        await wait_all_tasks_blocked()
        for _ in range(5):
            value.tell()
        await check_alive(flag)

    assert value.calls == ["read", "watch", "read", "read"]


async def test_an_error_of_the_first_reading_ends_it_before_it_is_ready() -> None:
    """Nothing is asked, nothing is watched."""
    value: Script[int] = Script(OSError("no answer"))
    flag = SampledFlag(value, never_asked)
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="no answer"):
            await nursery.start(flag.run)

    assert value.calls == ["read"]


async def test_an_error_of_the_watch_ends_it() -> None:
    value = Script(2, watch_error=OSError("cannot watch"))
    with pytest.raises(OSError, match="cannot watch"):
        await SampledFlag(value, is_even).run()

    assert value.calls == ["read", "watch"]


async def test_an_error_of_a_later_reading_ends_it() -> None:
    value = Script(2, OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await SampledFlag(value, is_even).run()

    assert value.calls == ["read", "watch", "read"]


async def test_an_error_of_the_predicate_ends_it() -> None:
    with pytest.raises(AssertionError, match="asked about 2"):
        await SampledFlag(Script(2), never_asked).run()


async def test_the_end_of_its_watcher_is_its_end() -> None:
    value = Script(2)
    with pytest.raises(OSError, match="watcher broke"):
        async with open_worker(SampledFlag(value, is_even)):
            await wait_all_tasks_blocked()
            value.watchers[0].fail(OSError("watcher broke"))
            await trio.sleep_forever()


async def test_a_watcher_that_falls_silent_is_an_error(autojump_clock: MockClock) -> None:
    value = Script(2)
    with pytest.raises(WatcherClosed):
        async with open_worker(SampledFlag(value, is_even)):
            await wait_all_tasks_blocked()
            value.watchers[0].close()
            await trio.sleep_forever()


async def test_its_watcher_does_not_outlive_it() -> None:
    value = Script(2)
    async with open_worker(SampledFlag(value, is_even)) as flag:
        await wait_all_tasks_blocked()
        await clean_kill(flag)

        with trio.fail_after(1):
            await value.watchers[0].wait()


async def test_killed_with_a_reason_it_ends_with_that() -> None:
    flag = SampledFlag(Script(2), is_even)
    with pytest.raises(ValueError, match="why"):
        async with open_worker(flag):
            flag.kill(ValueError("why"))
            await trio.sleep_forever()
    error = await dirty_kill(flag)
    assert isinstance(error, ValueError)


async def test_killed_while_it_reads_for_the_first_time_it_ends_cleanly() -> None:
    class Slow:
        async def read(self) -> int:
            await trio.sleep_forever()
            raise AssertionError

        watch = Script(0).watch

    flag = SampledFlag(Slow(), never_asked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flag.run)
        await wait_all_tasks_blocked()
        with pytest.raises(LifetimeError, match="before the value was read"):
            flag.check()
        assert repr(flag) == "<flag 'flag' alive, not read yet>"
        flag.kill()
        with trio.fail_after(1):
            await flag.wait()


async def test_the_report_tells_the_answer() -> None:
    flag = SampledFlag(Script(2), is_even, name="even")
    assert flag.report().answer is None
    async with open_worker(flag):
        assert flag.report() == (flag.report().tomb, True)
        assert flag.report().tomb.name == "even"
        assert repr(flag) == "<flag 'even' alive, True>"


# -- for a manifold --------------------------------------------------------------------------------


def test_of_the_worker_only_check_is_offered() -> None:
    face = as_flag(SampledFlag(Script(2), is_even))

    assert {name for name in dir(face) if not name.startswith("_")} == {"check"}


def test_the_filter_turns_what_is_meant_into_a_bounce_and_nothing_else() -> None:
    bounced = bounce_on(FlagChanged)
    changed, other = FlagChanged("other now"), OSError()
    caused = OSError()
    caused.__cause__ = changed

    assert isinstance(bounced(changed), Bounce)
    assert str(bounced(changed)) == "other now"
    assert isinstance(bounced(ExceptionGroup("", [ExceptionGroup("", [changed])])), Bounce)
    assert bounced(other) is other
    assert bounced(caused) is caused
    both = ExceptionGroup("", [changed, other])
    assert bounced(both) is both


async def test_dependents_are_restarted_with_the_new_answer(autojump_clock: MockClock) -> None:
    value = Script(2, 2, 3)
    user = ManifoldHarness()
    flag = Manifold.from_worker(
        lambda get: SampledFlag(value, is_even),
        outputs={Flag: as_flag},
        filter=bounce_on(FlagChanged),
    )
    parts = {"flag": flag, "user": user.manifold(inputs=("flag",))}
    async with open_engine(parts) as engine:
        await user.assert_one_start()
        check = functools.partial(lambda: user.get("flag", Flag).check())
        assert check() is True
        value.tell()
        await user.assert_one_start()

        assert check() is False
        assert engine.report().manifolds["flag"].failures == 0
