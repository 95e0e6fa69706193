"""One life: the rules T1 to T12. Each test carries the number of its rule.

Everything runs on the autojump clock or not at all: where a test says that something does *not*
happen, it lets every task run until it blocks and looks. What needs a `KeyboardInterrupt` makes a
Trio run of its own, because Trio hands it to the main task, which in an async test is pytest's.
"""

import gc
import math
import signal
import sys
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from tests.doubles import Lives, failing, failing_when_stopped, stopping_slowly
from trioworker._errors import Dying, LifetimeError
from trioworker._groups import NURSERY_MESSAGE
from trioworker._tomb import Tomb, TombState

MockClock = trio.testing.MockClock
settle = trio.testing.wait_all_tasks_blocked


class Reason(Exception):
    """Why."""


class Other(Exception):
    """What else."""


def nursery_group(*parts: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup(NURSERY_MESSAGE, parts)


def notes(exc: BaseException) -> list[str]:
    return list(getattr(exc, "__notes__", []))


def traceback_length(exc: BaseException) -> int:
    traceback, length = exc.__traceback__, 0
    while traceback is not None:
        traceback, length = traceback.tb_next, length + 1
    return length


def cancelled_reason(exc: BaseException) -> str:
    assert isinstance(exc, trio.Cancelled)
    return exc.reason or ""


async def a_cancelled() -> trio.Cancelled:
    """One of Trio's own: nobody else can make them."""
    caught: trio.Cancelled | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            caught = exc
            raise
    assert caught is not None
    return caught


async def fail_with(error: BaseException) -> None:
    raise error


async def fail_on_cancel(error: BaseException) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


def run(main: Callable[[], Awaitable[object]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


# -- T1: alive, and kill() ----------------------------------------------------------------------


def test_t1_a_new_tomb_is_alive() -> None:
    tomb = Tomb()

    assert (tomb.state, tomb.is_dying, tomb.is_dead) == (TombState.ALIVE, False, False)
    assert (tomb.reason, tomb.suppressed) == (None, ())


async def test_t1_an_entered_tomb_is_alive() -> None:
    tomb = Tomb()
    with tomb:
        assert tomb.state == "alive"


def test_t1_kill_works_outside_a_trio_run() -> None:
    tomb = Tomb()

    tomb.kill(Reason())
    tomb.kill()

    assert tomb.state == "dying"


async def test_t1_kill_may_be_called_any_number_of_times() -> None:
    tomb = Tomb()
    with tomb:
        for _ in range(100):
            tomb.kill()
    tomb.kill()

    assert tomb.state == "dead"


async def test_t1_kill_may_be_called_from_any_task() -> None:
    worker = Lives()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await settle()
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(worker.kill))

    assert worker.tomb.state == "dead"


async def test_t1_kill_does_not_wait_for_the_death() -> None:
    tomb = Tomb()
    with tomb:
        tomb.kill()
        assert tomb.state == "dying"


@pytest.mark.parametrize("reason", ["why", ValueError, 0, b""])
@pytest.mark.parametrize("kills", [0, 1])
def test_t1_kill_refuses_what_is_no_exception_and_changes_nothing(
    reason: BaseException, kills: int
) -> None:
    tomb = Tomb()
    for _ in range(kills):
        tomb.kill()
    state = tomb.state

    with pytest.raises(TypeError, match="takes an exception or None"):
        tomb.kill(reason)

    assert (tomb.state, tomb.reason) == (state, None)


async def test_t1_kill_of_a_dead_tomb_refuses_what_is_no_exception_too() -> None:
    tomb = Tomb()
    with tomb:
        pass

    with pytest.raises(TypeError):
        tomb.kill("why")  # type: ignore[arg-type]  # the mistake


async def test_t1_kill_survives_a_reason_whose_message_fails() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    tomb = Tomb(name="tomb")
    with pytest.raises(Silent), tomb:
        tomb.kill(Silent())
        tomb.kill(Silent())
        await trio.lowlevel.checkpoint()

    assert (tomb.state, len(tomb.suppressed)) == ("dead", 1)


@pytest.mark.parametrize("grace", [-1.0, math.nan, -math.inf])
async def test_t1_kill_takes_a_grace_that_is_no_span_for_none(grace: float) -> None:
    tomb = Tomb(grace=math.inf)
    with tomb:
        tomb.kill(grace=grace)
        with pytest.raises(trio.Cancelled):
            await trio.lowlevel.checkpoint()


async def test_t1_kill_after_death_changes_nothing() -> None:
    tomb = Tomb()
    with tomb:
        pass

    tomb.kill(Reason())

    assert (tomb.state, tomb.reason, tomb.suppressed) == ("dead", None, ())
    await tomb.wait()


# -- T2: the reason, and what is suppressed -----------------------------------------------------


def test_t2_the_first_reason_wins() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()

    tomb.kill(reason)
    tomb.kill(other)

    assert tomb.reason is reason
    assert tomb.suppressed == (other,)


def test_t2_a_reason_replaces_an_earlier_none() -> None:
    tomb, reason = Tomb(), Reason()

    tomb.kill()
    tomb.kill(reason)

    assert (tomb.reason, tomb.suppressed) == (reason, ())


def test_t2_none_does_not_overwrite_a_reason() -> None:
    tomb, reason = Tomb(), Reason()

    tomb.kill(reason)
    tomb.kill()

    assert (tomb.reason, tomb.suppressed) == (reason, ())


async def test_t2_a_reason_may_come_while_the_body_is_being_cancelled() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill()
        try:
            await trio.sleep_forever()
        finally:
            tomb.kill(reason)

    assert caught.value is reason


async def test_t2_what_the_body_raises_after_none_is_the_reason() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill()
        await fail_on_cancel(reason)

    assert caught.value is tomb.reason is reason


async def test_t2_what_the_body_raises_after_a_reason_is_suppressed() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill(reason)
        await fail_on_cancel(other)

    assert caught.value is reason
    assert tomb.suppressed == (other,)


@pytest.mark.parametrize("harder", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_t2_a_non_exception_takes_the_place_of_an_exception(harder: BaseException) -> None:
    tomb, reason, other = Tomb(), Reason(), Other()

    tomb.kill(reason)
    tomb.kill(other)
    tomb.kill(harder)

    assert tomb.reason is harder
    assert tomb.suppressed == (reason, other)  # oldest first


def test_t2_a_group_with_a_non_exception_takes_the_place_of_an_exception() -> None:
    tomb, reason, interrupted = Tomb(), Reason(), KeyboardInterrupt()

    tomb.kill(reason)
    tomb.kill(nursery_group(interrupted, reason))

    assert tomb.reason is interrupted
    assert tomb.suppressed == (reason,)


def test_t2_a_second_non_exception_does_not_replace_the_first() -> None:
    tomb, first, second = Tomb(), KeyboardInterrupt(), SystemExit()

    tomb.kill(first)
    tomb.kill(second)
    tomb.kill(Other())

    assert tomb.reason is first
    assert tomb.suppressed[0] is second


def test_t2_a_reason_can_be_superseded_by_one_that_is_more_important() -> None:
    tomb, reason, other, worse = Tomb(), Reason(), Other(), Other()

    tomb.supersede(reason)
    tomb.kill(other)
    tomb.supersede(worse)
    tomb.supersede(worse)

    assert (tomb.state, tomb.reason) == ("dying", worse)
    assert tomb.suppressed == (reason, other)


async def test_t2_nothing_supersedes_the_reason_of_the_dead() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason), tomb:
        raise reason

    tomb.supersede(Other())

    assert (tomb.reason, tomb.suppressed) == (reason, ())


def test_t2_the_same_object_again_is_not_suppressed() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()

    for exc in (reason, reason, other, other, reason, other):
        tomb.kill(exc)

    assert tomb.suppressed == (other,)


def test_t2_the_same_object_in_other_wrapping_is_not_suppressed() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()

    tomb.kill(reason)
    tomb.kill(nursery_group(reason))
    tomb.kill(ExceptionGroup("the program's", [reason]))
    tomb.kill(nursery_group(reason, other))

    assert tomb.reason is reason
    assert tomb.suppressed == (other,)


def test_t2_an_equal_error_that_is_another_object_is_suppressed() -> None:
    class Equal(Exception):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]  # as a dataclass has it

    tomb = Tomb()
    tomb.kill(Equal())
    tomb.kill(Equal())

    assert len(tomb.suppressed) == 1


def test_t2_sixteen_are_kept_and_the_rest_is_counted() -> None:
    tomb = Tomb()
    tomb.kill(Reason())
    others = [Other(str(n)) for n in range(20)]
    for other in others:
        tomb.kill(other)

    assert tomb.suppressed == tuple(others[:16])
    assert tomb.report().uncounted == 4


def test_t2_a_replaced_reason_is_kept_even_when_there_is_no_room() -> None:
    tomb, reason = Tomb(), Reason()
    tomb.kill(reason)
    for n in range(16):
        tomb.kill(Other(str(n)))

    tomb.kill(KeyboardInterrupt())

    assert tomb.suppressed[0] is reason
    assert len(tomb.suppressed) == 16
    assert tomb.report().uncounted == 1


async def die_with(*excs: BaseException) -> Tomb:
    tomb = Tomb()
    with pytest.raises(type(excs[0])), tomb:
        for exc in excs:
            tomb.kill(exc)
    return tomb


async def test_t2_what_is_suppressed_is_noted_at_death() -> None:
    reason = Reason()
    tomb = Tomb()
    with pytest.raises(Reason), tomb:
        tomb.kill(reason)
        tomb.kill(Other("else"))
        assert notes(reason) == []

    assert notes(reason) == ["also: Other: else"]


async def test_t2_notes_are_added_once() -> None:
    tomb = await die_with(Reason(), Other("else"))
    assert tomb.reason is not None

    tomb.kill(Other("late"))
    for _ in range(3):
        with pytest.raises(Reason):
            await tomb.wait()

    assert notes(tomb.reason) == ["also: Other: else"]


async def test_t2_there_are_three_lines_of_notes_at_most() -> None:
    tomb = await die_with(Reason(), *(Other(str(n)) for n in range(30)))
    assert tomb.reason is not None

    assert notes(tomb.reason) == ["also: Other: 0", "also: Other: 1", "also: 28 more"]


async def test_t2_an_error_noted_by_an_inner_tomb_is_not_noted_again() -> None:
    reason, other = Reason(), Other("else")
    outer, inner = Tomb(), Tomb()
    with pytest.raises(Reason) as caught, outer:
        outer.kill(reason)
        outer.kill(other)
        with inner:
            inner.kill(reason)
            inner.kill(other)

    assert caught.value is reason
    assert notes(reason) == ["also: Other: else"]


@dataclass(frozen=True)
class Frozen(Exception):
    """Refuses notes and context: a frozen class, as real programs have."""

    code: int = 0


async def test_t2_a_reason_that_refuses_notes_dies_all_the_same() -> None:
    tomb, reason = Tomb(), Frozen()
    with pytest.raises(Frozen), tomb:
        tomb.kill(reason)
        tomb.kill(Other())

    with pytest.raises(Frozen) as caught:
        await tomb.wait()
    assert (caught.value, tomb.state) == (reason, "dead")


async def test_t2_a_reason_with_broken_notes_dies_all_the_same() -> None:
    tomb, reason = Tomb(), Reason()
    reason.__notes__ = 5  # type: ignore[assignment]  # the breakage
    with pytest.raises(Reason), tomb:
        tomb.kill(reason)
        tomb.kill(Other())

    assert tomb.state == "dead"


# -- T3: what is no reason ----------------------------------------------------------------------


async def test_t3_cancelled_is_no_reason() -> None:
    tomb = Tomb()

    tomb.kill(await a_cancelled())

    assert (tomb.state, tomb.reason) == ("dying", None)


async def test_t3_a_group_of_cancelled_is_no_reason() -> None:
    tomb = Tomb()

    tomb.kill(nursery_group(await a_cancelled(), nursery_group(await a_cancelled())))

    assert (tomb.state, tomb.reason) == ("dying", None)


def test_t3_the_tombs_own_dying_is_no_reason() -> None:
    tomb = Tomb()

    tomb.kill(tomb.refusal())

    assert (tomb.state, tomb.reason) == ("dying", None)


def test_t3_anothers_dying_is_a_reason() -> None:
    tomb, other = Tomb(), Tomb()
    dying = other.refusal()

    tomb.kill(dying)

    assert tomb.reason is dying


def test_t3_a_dying_of_nobody_is_a_reason() -> None:
    tomb, dying = Tomb(), Dying("made by hand")

    tomb.kill(dying)

    assert tomb.reason is dying


async def test_t3_a_group_is_reduced_to_its_real_leaves() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()

    tomb.kill(
        nursery_group(
            await a_cancelled(), reason, nursery_group(tomb.refusal()), nursery_group(other)
        )
    )

    assert isinstance(tomb.reason, ExceptionGroup)
    assert tomb.reason.exceptions == (reason, other)


async def test_t3_noise_is_no_suppressed_error_either() -> None:
    tomb = Tomb()
    tomb.kill(Reason())

    tomb.kill(await a_cancelled())
    tomb.kill(tomb.refusal())

    assert tomb.suppressed == ()


async def test_t3_own_dying_leaving_the_body_is_a_clean_end() -> None:
    tomb = Tomb()
    with tomb:
        raise tomb.refusal()

    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t3_own_dying_in_a_group_with_cancelled_passes_only_the_cancelled() -> None:
    tomb = Tomb()
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        raise nursery_group(await a_cancelled(), tomb.refusal())

    assert scope.cancelled_caught
    assert (tomb.state, tomb.reason) == ("dead", None)


@pytest.mark.parametrize(
    "error", [None, Reason(), KeyboardInterrupt(), ExceptionGroup("own", [Reason(), Other()])]
)
async def test_t3_kill_and_raise_is_always_right(error: BaseException | None) -> None:
    """In `except BaseException as exc: tomb.kill(exc); raise`, whatever it is."""
    tomb = Tomb()
    caught: BaseException | None = None
    try:
        with tomb:
            try:
                if error is None:
                    tomb.kill()
                    await trio.lowlevel.checkpoint()
                else:
                    await fail_with(error)
            except BaseException as exc:
                tomb.kill(exc)
                raise
    except BaseException as exc:  # noqa: BLE001 - looked at below
        caught = exc

    assert caught is tomb.reason is error
    assert tomb.suppressed == ()


async def test_t3_kill_and_raise_is_right_when_cancelled_from_outside() -> None:
    tomb = Tomb()
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except BaseException as exc:
            tomb.kill(exc)
            raise

    assert scope.cancelled_caught
    assert tomb.reason is None


async def test_t3_kill_and_raise_is_right_around_a_nursery() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(fail_with, reason)
        except BaseException as exc:
            tomb.kill(exc)
            raise

    assert caught.value is tomb.reason is reason
    assert tomb.suppressed == ()


# -- T4: once -----------------------------------------------------------------------------------


async def test_t4_a_second_entry_while_alive_raises_and_changes_nothing() -> None:
    tomb = Tomb(name="once")
    with tomb:
        with pytest.raises(LifetimeError, match='"once" tomb: entered a second time'), tomb:
            raise AssertionError
        assert tomb.state == "alive"
        await trio.lowlevel.checkpoint()  # not cancelled
    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t4_a_second_entry_while_dying_raises_and_changes_nothing() -> None:
    tomb = Tomb()
    with tomb:
        tomb.kill()
        with pytest.raises(LifetimeError), tomb:
            raise AssertionError
        assert (tomb.state, tomb.reason) == ("dying", None)


async def test_t4_a_second_entry_after_death_raises_and_changes_nothing() -> None:
    tomb = await die_with(Reason())
    before = tomb.report()

    with pytest.raises(LifetimeError), tomb:
        raise AssertionError

    assert tomb.report() == before


async def test_t4_a_second_entry_from_another_task_leaves_the_first_life_alone() -> None:
    worker = Lives()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await settle()
        with pytest.raises(LifetimeError):
            await worker.run()
        assert worker.tomb.state == "alive"
        worker.kill()


def test_t4_an_entry_that_failed_for_want_of_a_trio_run_does_not_count() -> None:
    tomb = Tomb()
    with pytest.raises(RuntimeError), tomb:
        raise AssertionError

    async def main() -> None:
        with tomb:
            pass

    trio.run(main)
    assert tomb.state == "dead"


def test_t4_leaving_what_was_not_entered_is_refused() -> None:
    with pytest.raises(LifetimeError, match="left before it was entered"):
        Tomb().__exit__(None, None, None)


# -- T5: dead, exactly once, and last -----------------------------------------------------------


async def end_by_return() -> None:
    pass


async def end_by_error() -> None:
    raise Reason


async def end_by_system_exit() -> None:
    raise SystemExit


async def end_by_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(end_by_error)
        nursery.start_soon(end_by_error)


ENDS = [end_by_return, end_by_error, end_by_system_exit, end_by_nursery]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("killed", [False, True])
async def test_t5_however_the_body_ends_the_tomb_is_dead(
    end: Callable[[], Awaitable[None]], *, killed: bool
) -> None:
    tomb = Tomb()
    error: BaseException | None = None
    try:
        with tomb:
            if killed:
                tomb.kill()
            await end()
    except BaseException as exc:  # noqa: BLE001 - looked at below
        error = exc

    assert tomb.state == "dead"
    assert error is tomb.reason


async def test_t5_a_cancelled_body_is_dead() -> None:
    tomb = Tomb()
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        await trio.sleep_forever()

    assert tomb.state == "dead"


async def test_t5_dead_comes_after_everything_inside_has_exited(
    autojump_clock: MockClock,
) -> None:
    record: list[str] = []
    worker = Lives(stopping_slowly(1))

    async def watch() -> None:
        await worker.wait()
        record.append(f"dead at {trio.current_time() - began}")

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(worker.run)
        await settle()
        worker.kill()
        await settle()
        record.append(worker.tomb.state)

    assert record == ["dying", "dead at 1.0"]


async def test_t5_all_waiters_wake() -> None:
    worker = Lives()
    woken: list[int] = []

    async def watch(number: int) -> None:
        await worker.wait()
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(watch, number)
        nursery.start_soon(worker.run)
        await settle()
        assert woken == []
        worker.kill()

    assert sorted(woken) == [0, 1, 2, 3, 4]


async def test_t5_those_who_wait_for_dying_wake_when_the_body_returns() -> None:
    tomb = Tomb()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tomb.wait_dying)
        await settle()
        with tomb:
            await settle()

    assert tomb.state == "dead"


def test_t5_a_keyboard_interrupt_in_the_body_is_the_reason() -> None:
    tomb = Tomb()

    async def main() -> None:
        with tomb:
            interrupt()
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt) as caught:
        run(main)

    assert caught.value is tomb.reason
    assert tomb.state == "dead"


def test_t5_a_keyboard_interrupt_during_clean_up_replaces_the_reason() -> None:
    tomb, reason = Tomb(), Reason()

    async def main() -> None:
        with tomb:
            try:
                tomb.kill(reason)
                await trio.sleep_forever()
            finally:
                interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(main)

    assert tomb.state == "dead"
    assert isinstance(tomb.reason, KeyboardInterrupt)
    assert tomb.suppressed == (reason,)


def interrupted_everywhere(scenario: Callable[[], Awaitable[Tomb]], functions: set[str]) -> int:
    """Run `scenario` again and again, with ^C at each next line inside `functions`.

    Returns how many lines there were. Each run has to leave a dead tomb behind.
    """
    line = 0
    while True:
        line += 1
        seen = 0
        fired = False
        tombs: list[Tomb] = []

        def trace(frame: object, event: str, arg: object, line: int = line) -> object:
            nonlocal seen, fired
            code = getattr(frame, "f_code", None)
            if code is None or "trioworker" not in code.co_filename:
                return None
            if code.co_name not in functions:
                return None
            if event == "line":
                seen += 1
                if seen == line:
                    fired = True
                    interrupt()
            return trace

        async def main(tombs: list[Tomb] = tombs, trace: object = trace) -> None:
            others = sys.gettrace()  # a debugger's, or coverage's
            sys.settrace(trace)  # type: ignore[arg-type]  # a trace function calls itself
            try:
                tombs.append(await scenario())
            finally:
                sys.settrace(others)
            await trio.lowlevel.checkpoint()

        try:
            run(main)
        except KeyboardInterrupt:
            assert fired
        assert [tomb.state for tomb in tombs] == ["dead"]
        if not fired:
            return line - 1


def test_t5_entry_kill_and_exit_are_protected_against_keyboard_interrupt() -> None:
    """At whatever line ^C comes, it waits for a checkpoint: the scenario ends as it should."""

    async def scenario() -> Tomb:
        tomb = Tomb(grace=1)
        try:
            with tomb, tomb.while_alive():
                tomb.kill(Reason())
                tomb.kill(Other(), grace=0)
        except Reason:
            pass
        return tomb

    functions = {"__enter__", "__exit__", "kill", "_admit", "_cancel_after", "_die", "attach"}

    assert interrupted_everywhere(scenario, functions) > 40


# -- T6: what leaves the block ------------------------------------------------------------------


async def test_t6_a_return_leaves_nothing() -> None:
    tomb = Tomb()
    with tomb:
        pass

    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t6_own_kill_leaves_nothing() -> None:
    tomb = Tomb()
    with tomb:
        tomb.kill()
        await trio.sleep_forever()

    assert (tomb.reason, tomb.report().cancelled) == (None, False)


async def test_t6_an_error_of_the_body_leaves_as_the_same_object() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        raise reason

    assert caught.value is tomb.reason is reason


async def test_t6_killed_with_a_reason_and_returned_the_reason_is_raised() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill(reason)

    assert caught.value is reason


async def test_t6_the_reason_is_raised_alone_also_when_an_outer_scope_is_cancelled() -> None:
    tomb, reason = Tomb(), Reason()
    with trio.CancelScope() as scope, pytest.raises(Reason) as caught, tomb:
        scope.cancel()
        tomb.kill(reason)
        await trio.sleep_forever()

    assert caught.value is reason
    assert not scope.cancelled_caught


async def test_t6_an_error_while_cancelled_from_outside_is_raised_alone() -> None:
    tomb, reason = Tomb(), Reason()
    with trio.CancelScope() as scope, pytest.raises(Reason) as caught, tomb:
        scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail_on_cancel, reason)

    assert caught.value is reason


@pytest.mark.parametrize("killed", [False, True])
async def test_t6_cancelled_from_outside_passes_unchanged(*, killed: bool) -> None:
    tomb = Tomb(name="tomb")
    seen: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            with tomb:
                if killed:
                    tomb.kill()
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as exc:
                    seen.append(exc)
                    raise
        except trio.Cancelled as exc:
            seen.append(exc)
            raise

    assert scope.cancelled_caught
    assert seen[0] is seen[1]
    assert (tomb.state, tomb.reason) == ("dead", None)
    assert tomb.report().cancelled
    assert "cancelled" in repr(tomb)
    await tomb.wait()


async def test_t6_a_group_of_cancelled_from_outside_passes() -> None:
    tomb = Tomb()
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    assert scope.cancelled_caught
    assert tomb.reason is None


async def test_t6_a_nurserys_group_of_one_is_unwrapped() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        async with trio.open_nursery(), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail_with, reason)

    assert caught.value is tomb.reason is reason


async def test_t6_a_programs_group_of_one_is_left_alone() -> None:
    tomb, group = Tomb(), ExceptionGroup("the program's", [Reason()])
    with pytest.raises(ExceptionGroup) as caught, tomb:
        raise group

    assert caught.value is tomb.reason is group


async def test_t6_a_programs_group_inside_a_nursery_is_left_alone() -> None:
    """Trio itself rebuilds it while it takes out the Cancelled of the nursery's body."""
    tomb, reason = Tomb(), Reason()
    with pytest.raises(ExceptionGroup) as caught, tomb:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_with, ExceptionGroup("the program's", [reason]))

    assert caught.value is tomb.reason
    assert (caught.value.message, caught.value.exceptions) == ("the program's", (reason,))


async def test_t6_several_real_errors_are_one_group() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()
    with pytest.raises(ExceptionGroup) as caught, tomb:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_with, reason)
            nursery.start_soon(fail_with, other)
            nursery.start_soon(trio.sleep_forever)

    assert caught.value is tomb.reason
    assert set(caught.value.exceptions) == {reason, other}
    assert tomb.suppressed == ()


async def test_t6_several_real_errors_after_own_kill_are_one_group_without_cancelled() -> None:
    tomb, reason, other = Tomb(), Reason(), Other()
    with pytest.raises(ExceptionGroup) as caught, tomb:
        tomb.kill()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_on_cancel, reason)
            nursery.start_soon(fail_on_cancel, other)
            nursery.start_soon(trio.sleep_forever)

    assert caught.value is tomb.reason
    assert set(caught.value.exceptions) == {reason, other}
    assert tomb.suppressed == ()


async def test_t6_a_falsy_error_counts() -> None:
    class Falsy(Exception):
        def __bool__(self) -> bool:
            return False

    tomb, reason = Tomb(), Falsy()
    with pytest.raises(Falsy) as caught, tomb:
        raise reason

    assert caught.value is tomb.reason is reason


async def test_t6_an_observer_sees_no_cancelled_that_is_not_its_own() -> None:
    worker = Lives(stopping_slowly(0))
    observed: list[str] = []

    async def watch() -> None:
        await worker.wait()
        observed.append("a clean end")

    async with trio.open_nursery() as observers:
        observers.start_soon(watch)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as owner:
                owner.start_soon(worker.run)
                await settle()
                scope.cancel()

    assert observed == ["a clean end"]


# -- T7: wait() ---------------------------------------------------------------------------------


async def test_t7_wait_is_a_checkpoint_when_dead() -> None:
    tomb = Tomb()
    with tomb:
        pass

    with trio.testing.assert_checkpoints():
        await tomb.wait()
    with trio.testing.assert_checkpoints():
        await tomb.wait_dying()


async def test_t7_wait_is_a_checkpoint_when_it_raises() -> None:
    tomb = await die_with(Reason())

    with pytest.raises(Reason), trio.testing.assert_checkpoints():
        await tomb.wait()


async def test_t7_wait_of_a_dead_tomb_can_be_cancelled() -> None:
    tomb = await die_with(Reason())
    with trio.CancelScope() as scope:
        scope.cancel()
        await tomb.wait()

    assert scope.cancelled_caught


async def test_t7_wait_before_entry_waits() -> None:
    tomb = Tomb()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tomb.wait)
            tomb.kill()
            await settle()
            scope.cancel()

    assert scope.cancelled_caught


async def test_t7_everybody_gets_the_same_object() -> None:
    tomb, reason = Tomb(), Reason()
    seen: list[BaseException] = []

    async def watch() -> None:
        try:
            await tomb.wait()
        except Reason as exc:
            seen.append(exc)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        nursery.start_soon(watch)
        await settle()
        with pytest.raises(Reason), tomb:
            raise reason
    await watch()

    assert len(seen) == 3
    assert all(exc is reason for exc in seen)


async def length_after_wait(tomb: Tomb) -> int:
    try:
        await tomb.wait()
    except Reason as exc:
        return traceback_length(exc)
    raise AssertionError


async def test_t7_a_thousand_waits_leave_the_traceback_no_longer() -> None:
    tomb = Tomb()
    with pytest.raises(Reason), tomb:
        await fail_with(Reason())
    first = await length_after_wait(tomb)

    for _ in range(999):
        await length_after_wait(tomb)

    assert await length_after_wait(tomb) == first


async def test_t7_nor_when_the_reason_was_never_raised_before_death() -> None:
    tomb = await die_with(Reason())
    first = await length_after_wait(tomb)

    for _ in range(999):
        await length_after_wait(tomb)

    assert await length_after_wait(tomb) == first


async def test_t7_the_traceback_leads_to_the_error() -> None:
    tomb = Tomb()
    with pytest.raises(Reason), tomb:
        await fail_with(Reason())
    with pytest.raises(Reason) as caught:
        await tomb.wait()

    functions = [entry.name for entry in caught.traceback]
    assert functions[-1] == "fail_with"
    assert functions.count("test_t7_the_traceback_leads_to_the_error") == 2  # waited, and lived


async def test_t7_the_context_is_what_it_was_at_death() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason), tomb:
        try:
            raise KeyError
        except KeyError:
            raise reason  # noqa: B904 - the context is what is tested
    context = reason.__context__
    assert isinstance(context, KeyError)

    for _ in range(3):
        with pytest.raises(Reason):
            try:
                raise OSError
            except OSError:
                await tomb.wait()

    assert reason.__context__ is context


async def test_t7_a_reason_without_context_gets_none_from_its_observers() -> None:
    tomb = await die_with(Reason())

    with pytest.raises(Reason) as caught:
        try:
            raise OSError
        except OSError:
            await tomb.wait()

    assert caught.value.__context__ is None


async def test_t7_an_observer_that_chains_does_not_change_the_others() -> None:
    tomb = await die_with(Reason())
    with pytest.raises(OSError, match=r"^$") as caught:
        try:
            await tomb.wait()
        except Reason as exc:
            raise OSError from exc

    assert caught.value.__cause__ is tomb.reason
    with pytest.raises(Reason) as again:
        await tomb.wait()
    assert again.value.__context__ is None


async def test_t7_the_reason_gets_no_context_from_the_exit() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason), tomb:
        tomb.kill(reason)
        await trio.sleep_forever()

    assert reason.__context__ is None


async def live_and_die_cleanly(how: str) -> weakref.ref[Lives]:
    worker = Lives(name=how)
    if how == "kill before":
        worker.kill()
        await worker.run()
    elif how == "cancel":
        with trio.move_on_after(0):
            await worker.run()
    else:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run)
            nursery.start_soon(worker.wait)
            await settle()
            if how == "guarded":

                async def call() -> None:
                    with pytest.raises(Dying), worker.tomb.while_alive():
                        await trio.sleep_forever()

                nursery.start_soon(call)
                await settle()
            worker.kill()
    return weakref.ref(worker)


@pytest.mark.parametrize("how", ["kill", "kill before", "cancel"])
async def test_t7_a_clean_death_makes_no_reference_cycle(how: str) -> None:
    await live_and_die_cleanly(how)
    gc.collect()
    gc.disable()
    try:
        worker = await live_and_die_cleanly(how)
        # The task's own frame may hold the last exception until its next step.
        await trio.lowlevel.checkpoint()

        assert worker() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["kill", "kill before", "cancel"])
async def test_t7_a_clean_death_leaves_nothing_to_the_collector(how: str) -> None:
    await live_and_die_cleanly(how)
    gc.collect()
    gc.disable()
    old = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            await live_and_die_cleanly(how)
        gc.collect()
        garbage = [type(thing).__name__ for thing in gc.garbage]
    finally:
        gc.set_debug(old)
        gc.garbage.clear()
        gc.enable()

    assert "Tomb" not in garbage
    assert "Cancelled" not in garbage
    assert "traceback" not in garbage


# -- T8: killed before entry --------------------------------------------------------------------


@pytest.mark.parametrize("grace", [0, 5, math.inf])
async def test_t8_killed_before_entry_ends_at_the_first_checkpoint(grace: float) -> None:
    tomb = Tomb(grace=grace)
    tomb.kill()
    reached: list[str] = []
    with tomb:
        reached.append(tomb.state)
        await trio.lowlevel.checkpoint()
        reached.append("after a checkpoint")

    assert reached == ["dying"]
    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t8_killed_before_entry_with_a_reason_raises_it() -> None:
    tomb, reason = Tomb(grace=math.inf), Reason()
    tomb.kill(reason)
    with pytest.raises(Reason) as caught, tomb:
        await trio.sleep_forever()

    assert caught.value is reason


async def test_t8_killed_before_entry_a_body_without_checkpoint_may_return() -> None:
    tomb = Tomb()
    tomb.kill()
    with tomb:
        pass

    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t8_kill_before_entry_wakes_those_who_wait_for_dying() -> None:
    tomb = Tomb()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tomb.wait_dying)
        await settle()
        tomb.kill()


async def test_t8_a_call_in_flight_is_interrupted_when_the_block_is_entered(
    autojump_clock: MockClock,
) -> None:
    """The body is cancelled there and then, so T11 applies; not only when it is dead."""
    worker = Lives(stopping_slowly(10))
    interrupted: list[float] = []

    async def call() -> None:
        with pytest.raises(Dying), worker.tomb.while_alive():
            await trio.sleep_forever()
        interrupted.append(trio.current_time() - began)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await settle()
        worker.kill()
        nursery.start_soon(worker.run)

    assert interrupted == [0]


# -- T9: grace ----------------------------------------------------------------------------------


async def time_to_die(
    tomb: Tomb, *kills: tuple[float, float | None], body: float = math.inf
) -> float:
    """Kill as told, (when, grace), and return when the body ended, counted from the first."""
    began = 0.0

    async def kill() -> None:
        nonlocal began
        began = trio.current_time()
        for when, grace in kills:
            await trio.sleep_until(began + when)
            tomb.kill(grace=grace)

    async with trio.open_nursery() as nursery:
        with tomb:
            nursery.start_soon(kill)
            await trio.sleep(body)
        ended = trio.current_time()
        nursery.cancel_scope.cancel()
    return round(ended - began, 6)


@pytest.mark.parametrize(
    "grace, kills, expected",
    [
        (0, [(0, None)], 0),
        (5, [(0, None)], 5),
        (5, [(0, 2)], 2),
        (5, [(0, 0)], 0),
        (5, [(0, 9)], 5),
        (5, [(0, math.inf)], 5),
        (0, [(0, 3)], 0),
        (math.inf, [(0, 3)], 3),
        (5, [(0, None), (1, 1)], 2),
        (5, [(0, None), (1, 0)], 1),
        (5, [(0, None), (3, None)], 5),
        (5, [(0, None), (3, 4)], 5),
        (5, [(0, 1), (0.5, None)], 1),
        (5, [(0, 1), (0.5, math.inf)], 1),
        (math.inf, [(0, None), (7, 0)], 7),
        (math.inf, [(0, None), (7, 2), (8, 5)], 9),
    ],
)
async def test_t9_grace_ends_in_time_and_nothing_lengthens_it(
    autojump_clock: MockClock,
    grace: float,
    kills: list[tuple[float, float | None]],
    expected: float,
) -> None:
    assert await time_to_die(Tomb(grace=grace), *kills) == expected


async def test_t9_with_infinite_grace_the_body_alone_decides(autojump_clock: MockClock) -> None:
    assert await time_to_die(Tomb(grace=math.inf), (0, None), (50, math.inf), body=1000) == 1000


async def test_t9_dying_comes_at_once() -> None:
    tomb = Tomb(grace=5)
    record: list[str] = []

    async def watch() -> None:
        await tomb.wait_dying()
        record.append(tomb.state)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        with tomb:
            await settle()
            tomb.kill()
            assert tomb.is_dying
            assert not tomb.is_dead
            await settle()  # not cancelled
            record.append("body still runs")

    assert record == ["dying", "body still runs"]


async def test_t9_the_body_may_end_early(autojump_clock: MockClock) -> None:
    tomb = Tomb(grace=5)
    began = trio.current_time()
    with tomb:
        tomb.kill()
        await tomb.wait_dying()
        await trio.sleep(1)

    assert trio.current_time() - began == 1
    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t9_grace_needs_no_task() -> None:
    tomb = Tomb(grace=5)
    with tomb:
        before = trio.lowlevel.current_statistics().tasks_living
        tomb.kill()
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_t9_a_reason_given_during_grace_is_the_reason(autojump_clock: MockClock) -> None:
    tomb, reason = Tomb(grace=5), Reason()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill()
        await trio.sleep(1)
        tomb.kill(reason)
        await trio.sleep_forever()

    assert caught.value is reason


async def test_t9_cancellation_from_outside_skips_dying(autojump_clock: MockClock) -> None:
    tomb = Tomb(grace=5)
    states: list[str] = []
    began = trio.current_time()
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            states.append(tomb.state)

    assert states == ["alive"]
    assert trio.current_time() == began


async def test_t9_cancellation_from_outside_cuts_grace_short(autojump_clock: MockClock) -> None:
    tomb = Tomb(grace=5)
    began = trio.current_time()
    with trio.move_on_after(1) as scope, tomb:
        tomb.kill()
        await trio.sleep_forever()

    assert scope.cancelled_caught
    assert trio.current_time() - began == 1
    assert tomb.reason is None


@pytest.mark.parametrize("grace", [-1, math.nan])
def test_t9_a_grace_that_is_no_span_is_refused(grace: float) -> None:
    with pytest.raises(ValueError, match=r"Tomb\(grace=\.\.\.\)"):
        Tomb(grace=grace)


def test_t9_a_grace_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Tomb\(grace=\.\.\.\)"):
        Tomb(grace="1")  # type: ignore[arg-type]  # the mistake


# -- T10: the cancellation's story --------------------------------------------------------------


async def cancellation_of(tomb: Tomb) -> trio.Cancelled:
    caught: trio.Cancelled | None = None
    with tomb:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            caught = exc
            raise
    assert caught is not None
    return caught


async def test_t10_the_cancellation_names_the_worker_and_why() -> None:
    tomb = Tomb(name="uniter")
    tomb_dies = pytest.raises(Reason)
    caught: BaseException | None = None
    with tomb_dies, tomb:
        tomb.kill(Reason("disk full"))
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as exc:
            caught = exc
            raise

    assert isinstance(caught, trio.Cancelled)
    assert "uniter" in cancelled_reason(caught)
    assert "Reason: disk full" in cancelled_reason(caught)
    assert caught.source == "explicit"


async def test_t10_a_clean_kill_names_the_worker() -> None:
    tomb = Tomb(name="uniter")
    tomb.kill()

    assert "uniter" in cancelled_reason(await cancellation_of(tomb))


async def test_t10_killed_before_entry_it_names_the_worker_by_its_task() -> None:
    tomb = Tomb()
    tomb.kill()
    caught: list[trio.Cancelled] = []

    async def live() -> None:
        caught.append(await cancellation_of(tomb))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, name="uniter")

    assert "uniter" in cancelled_reason(caught[0])


async def test_t10_after_grace_the_source_is_the_deadline(autojump_clock: MockClock) -> None:
    tomb = Tomb(name="uniter", grace=5)
    caught: list[trio.Cancelled] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle_then, tomb.kill)
        caught.append(await cancellation_of(tomb))

    assert caught[0].source == "deadline"
    assert tomb.report().state == "dead"


async def settle_then(fn: Callable[[], object]) -> None:
    await settle()
    fn()


async def test_t10_after_grace_reason_and_report_tell_why(autojump_clock: MockClock) -> None:
    tomb, reason = Tomb(grace=5), Reason("disk full")
    with pytest.raises(Reason), tomb:
        tomb.kill(reason)
        await trio.sleep_forever()

    assert tomb.reason is reason
    assert tomb.report().reason == "Reason: disk full"


# -- T11: while_alive() -------------------------------------------------------------------------


async def test_t11_a_call_in_life_returns() -> None:
    tomb = Tomb()
    with tomb, tomb.while_alive():
        await trio.lowlevel.checkpoint()

    assert tomb.reason is None


async def test_t11_a_call_before_entry_is_let_in() -> None:
    tomb = Tomb()
    with tomb.while_alive():
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("grace", [0, 5, math.inf])
async def test_t11_new_calls_are_refused_from_dying_on(grace: float) -> None:
    tomb = Tomb(grace=grace, name="uniter")
    with tomb:
        tomb.kill()
        with pytest.raises(Dying, match='"uniter" is dying') as caught, tomb.while_alive():
            raise AssertionError
        assert caught.value.owner is tomb


async def test_t11_new_calls_are_refused_when_killed_before_entry() -> None:
    tomb = Tomb()
    tomb.kill()
    with pytest.raises(Dying), tomb.while_alive():
        raise AssertionError


async def test_t11_new_calls_are_refused_when_dead() -> None:
    tomb = await die_with(Reason("disk full"))
    with pytest.raises(Dying, match="is dead because of Reason: disk full"), tomb.while_alive():
        raise AssertionError


class Caller:
    """A client's call in flight: what became of it, and when."""

    def __init__(self, tomb: Tomb, *outer: Tomb) -> None:
        self.tombs = (*outer, tomb)
        self.outcome: BaseException | str | None = None
        self.at = math.nan
        self.scope = trio.CancelScope()

    async def call(self, inside: Callable[[], Awaitable[object]] = trio.sleep_forever) -> None:
        began = trio.current_time()
        try:
            with self.scope:
                await self._guarded(inside, *self.tombs)
                self.outcome = "returned"
            if self.scope.cancelled_caught:
                self.outcome = "cancelled"
        except BaseException as exc:  # noqa: BLE001 - looked at by the test
            self.outcome = exc
        self.at = trio.current_time() - began

    async def _guarded(self, inside: Callable[[], Awaitable[object]], *tombs: Tomb) -> None:
        if not tombs:
            await inside()
            return
        with tombs[0].while_alive():
            await self._guarded(inside, *tombs[1:])

    @property
    def owner(self) -> object:
        assert isinstance(self.outcome, Dying)
        return self.outcome.owner


@pytest.mark.parametrize("grace", [0, 5])
async def test_t11_a_call_in_flight_lasts_as_long_as_the_body_is_not_cancelled(
    autojump_clock: MockClock, grace: float
) -> None:
    worker = Lives(stopping_slowly(100), grace=grace)
    caller = Caller(worker.tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call)
        await settle()
        worker.kill()

    assert caller.owner is worker.tomb
    assert caller.at == grace


async def test_t11_a_harder_kill_interrupts_a_call_in_flight(autojump_clock: MockClock) -> None:
    worker = Lives(grace=math.inf)
    caller = Caller(worker.tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call)
        await settle()
        worker.kill()
        await trio.sleep(1)
        assert caller.outcome is None
        worker.tomb.kill(grace=2)

    assert caller.owner is worker.tomb
    assert caller.at == 3


async def test_t11_a_body_that_ends_within_its_grace_interrupts_a_call_in_flight(
    autojump_clock: MockClock,
) -> None:
    tomb = Tomb(grace=50)
    caller = Caller(tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.call)
        with tomb:
            await settle()
            tomb.kill()
            await trio.sleep(3)

    assert caller.owner is tomb
    assert caller.at == 3


async def test_t11_a_return_of_the_body_interrupts_a_call_in_flight() -> None:
    tomb = Tomb()
    caller = Caller(tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.call)
        with tomb:
            await settle()

    assert caller.owner is tomb


async def test_t11_a_failure_of_the_body_interrupts_a_call_in_flight() -> None:
    tomb = Tomb()
    caller = Caller(tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.call)
        with pytest.raises(Reason), tomb:
            await settle()
            raise Reason("disk full")

    assert caller.owner is tomb
    assert "disk full" in str(caller.outcome)


async def test_t11_cancellation_of_the_body_from_outside_interrupts_a_call_in_flight() -> None:
    tomb = Tomb()
    caller = Caller(tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.call)
        with trio.CancelScope() as scope, tomb:
            await settle()
            scope.cancel()
            await trio.sleep_forever()

    assert caller.owner is tomb


async def test_t11_the_callers_own_cancellation_wins() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call)
        await settle()
        worker.kill()
        caller.scope.cancel()

    assert caller.outcome == "cancelled"


async def test_t11_the_callers_own_earlier_cancellation_wins() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call)
        await settle()
        caller.scope.cancel()
        worker.kill()

    assert caller.outcome == "cancelled"


@pytest.mark.parametrize("also_cancelled", [False, True])
async def test_t11_a_real_error_from_inside_wins(*, also_cancelled: bool) -> None:
    worker, reason = Lives(), Reason()
    caller = Caller(worker.tomb)

    async def inside() -> None:
        await fail_on_cancel(reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        worker.kill()
        if also_cancelled:
            caller.scope.cancel()

    assert caller.outcome is reason


async def test_t11_a_real_error_in_a_group_from_inside_wins() -> None:
    worker, reason = Lives(), Reason()
    caller = Caller(worker.tomb)

    async def inside() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_on_cancel, reason)
            nursery.start_soon(trio.sleep_forever)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        worker.kill()

    assert isinstance(caller.outcome, ExceptionGroup)
    assert caller.outcome.exceptions == (reason,)


async def test_t11_a_nursery_inside_is_interrupted_as_a_whole() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)

    async def inside() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(trio.sleep_forever)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        worker.kill()

    assert caller.owner is worker.tomb


async def test_t11_guards_in_the_tasks_of_a_guarded_nursery_leave_one_dying() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)

    async def guarded() -> None:
        with worker.tomb.while_alive():
            await trio.sleep_forever()

    async def inside() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded)
            nursery.start_soon(guarded)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        worker.kill()

    assert caller.owner is worker.tomb


async def test_t11_a_call_that_finished_anyway_returns() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)

    async def inside() -> None:
        with trio.CancelScope(shield=True):
            await worker.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        worker.kill()

    assert caller.outcome == "returned"


async def test_t11_a_call_that_finished_by_an_error_of_its_own_raises_it() -> None:
    tomb, reason = Tomb(), Reason()
    with tomb, pytest.raises(Reason) as caught, tomb.while_alive():
        raise reason

    assert caught.value is reason


async def test_t11_a_cancellation_inside_the_call_is_the_calls_own_business() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)

    async def inside() -> None:
        with trio.move_on_after(0):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await settle()
        await caller.call(inside)
        assert caller.outcome == "returned"
        worker.kill()


@pytest.mark.parametrize(
    "killed, expected",
    [
        (["outer"], "outer"),
        (["inner"], "inner"),
        (["outer", "inner"], "outer"),
        (["inner", "outer"], "outer"),
    ],
)
@pytest.mark.parametrize("slow", [False, True])
async def test_t11_of_nested_guards_the_outermost_killed_one_raises(
    autojump_clock: MockClock, killed: list[str], expected: str, *, slow: bool
) -> None:
    """In whichever order, at once or while the call is unwinding."""
    workers = {"outer": Lives(name="outer"), "inner": Lives(name="inner")}
    caller = Caller(workers["inner"].tomb, workers["outer"].tomb)

    async def inside() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        for worker in workers.values():
            nursery.start_soon(worker.run)
        nursery.start_soon(caller.call, inside)
        await settle()
        for name in killed:
            workers[name].kill()
            if slow:
                await trio.sleep(1)
        await trio.sleep(20)
        for worker in workers.values():
            worker.kill()

    assert caller.owner is workers[expected].tomb


async def test_t11_a_guard_inside_the_body_ends_with_the_body() -> None:
    tomb = Tomb()
    with tomb, tomb.while_alive():
        tomb.kill()
        await trio.sleep_forever()

    assert (tomb.state, tomb.reason) == ("dead", None)


async def test_t11_a_guard_spawns_no_task() -> None:
    tomb = Tomb()
    before = trio.lowlevel.current_statistics().tasks_living
    with tomb.while_alive():
        assert trio.lowlevel.current_statistics().tasks_living == before


async def test_t11_a_dying_shows_no_cancelled_to_the_reader() -> None:
    worker = Lives()
    caller = Caller(worker.tomb)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        nursery.start_soon(caller.call)
        await settle()
        worker.kill()

    assert isinstance(caller.outcome, Dying)
    assert caller.outcome.__suppress_context__
    assert caller.outcome.__cause__ is None


async def test_t11_the_tomb_forgets_calls_that_are_over() -> None:
    tomb = Tomb()
    for _ in range(10):
        with tomb.while_alive():
            pass
    with pytest.raises(Reason), tomb.while_alive():
        raise Reason

    assert tomb._guards == set()


# -- T12: telling its state ---------------------------------------------------------------------


def test_t12_a_new_tomb_tells_its_state() -> None:
    tomb = Tomb(name="uniter")
    report = tomb.report()

    assert repr(tomb) == "<Tomb 'uniter' alive>"
    assert (report.name, report.state, report.reason) == ("uniter", "alive", None)
    assert (report.suppressed, report.uncounted, report.cancelled) == ((), 0, False)


async def test_t12_a_failed_tomb_tells_why_and_what_else() -> None:
    tomb = Tomb(name="uniter")
    with pytest.raises(Reason), tomb:
        tomb.kill(Reason("disk full"))
        tomb.kill(Other("else"))
        tomb.kill(Other())

    report = tomb.report()
    assert "uniter" in repr(tomb)
    assert "dead" in repr(tomb)
    assert "disk full" in repr(tomb)
    assert report.reason == "Reason: disk full"
    assert report.suppressed == ("Other: else", "Other")


async def test_t12_a_tomb_without_a_name_takes_its_tasks() -> None:
    tomb = Tomb()
    assert tomb.name == "unnamed"

    async def live() -> None:
        with tomb:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, name="uniter")

    assert tomb.name == "uniter"


async def test_t12_a_tomb_with_a_name_keeps_it() -> None:
    tomb = Tomb(name="uniter")
    with tomb:
        assert tomb.name == "uniter"


@pytest.mark.parametrize("failing_body", [failing, failing_when_stopped])
async def test_t12_the_report_never_raises(
    failing_body: Callable[[BaseException], Callable[[trio.TaskStatus[object]], Awaitable[object]]],
) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    worker = Lives(failing_body(Silent()))
    worker.tomb.kill()
    with pytest.raises(Silent):
        await worker.run()

    assert worker.tomb.report().reason == "Silent: <its message cannot be shown>"
    assert "Silent" in repr(worker.tomb)


def test_t12_states_are_strings() -> None:
    assert [str(state) for state in TombState] == ["alive", "dying", "dead"]
