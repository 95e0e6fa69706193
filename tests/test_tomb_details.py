"""Tomb, what a user sees from near by: words, cancellation reasons, references, interrupts."""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Catacomb, Engine, EngineConfig
from trioworker._errors import Dying, LifetimeError
from trioworker._tomb import Tomb

from .interrupts import protection_noted, unprotected


class Reason(Exception):
    """Why."""


class Other(Exception):
    """What else."""


def enter_twice() -> None:
    async def main() -> None:
        with Tomb(name="db") as tomb, tomb:
            pass

    trio.run(main)


def leave_unentered() -> None:
    Tomb(name="db").__exit__(None, None, None)


def call_dying() -> None:
    tomb = Tomb(name="db")
    tomb.kill()
    with tomb.while_alive():
        pass


def call_dying_for_a_reason() -> None:
    tomb = Tomb(name="db")
    tomb.kill(Reason("disk full"))
    with tomb.while_alive():
        pass


def call_dead() -> None:
    tomb = Tomb(name="db")

    async def main() -> None:
        with tomb:
            pass

    trio.run(main)
    with tomb.while_alive():
        pass


def call_dead_for_a_reason() -> None:
    tomb = Tomb(name="db")

    async def main() -> None:
        with pytest.raises(Reason), tomb:
            raise Reason("disk full")

    trio.run(main)
    with tomb.while_alive():
        pass


def call_nameless() -> None:
    tomb = Tomb()
    tomb.kill()
    with tomb.while_alive():
        pass


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake, words",
    [
        (
            enter_twice,
            (
                'LifetimeError: "db" tomb: entered a second time; a life happens once. '
                "Make a new worker, with a new Tomb(), for each run."
            ),
        ),
        (
            leave_unentered,
            'LifetimeError: "db" tomb: left before it was entered; write "with tomb:"',
        ),
        (call_dying, 'Dying: "db" is dying'),
        (call_dying_for_a_reason, 'Dying: "db" is dying because of Reason: disk full'),
        (call_dead, 'Dying: "db" is dead'),
        (call_dead_for_a_reason, 'Dying: "db" is dead because of Reason: disk full'),
        (call_nameless, 'Dying: "unnamed" is dying'),
        (
            lambda: Tomb(grace=-1),
            "ValueError: Tomb(grace=...) must be at least 0, in seconds, not -1",
        ),
        (
            lambda: Tomb(grace="1"),  # type: ignore[arg-type]  # the mistake
            "TypeError: Tomb(grace=...) must be a number of seconds, not '1'",
        ),
        (
            lambda: Tomb(name="db").kill("why"),  # type: ignore[arg-type]  # the mistake
            (
                "TypeError: \"db\": kill() takes an exception or None, not 'why'; "
                "write kill(RuntimeError('why'))"
            ),
        ),
    ],
)
def test_what_a_user_reads_who_makes_a_mistake(mistake: Callable[[], object], words: str) -> None:
    with pytest.raises((LifetimeError, Dying, TypeError, ValueError)) as caught:
        mistake()

    assert f"{type(caught.value).__name__}: {caught.value}" == words


async def test_a_tomb_shows_its_state_and_why() -> None:
    tomb = Tomb(name="db")
    assert repr(tomb) == "<Tomb 'db' alive>"
    tomb.kill()
    assert repr(tomb) == "<Tomb 'db' dying>"
    tomb.kill(Reason("disk full"))
    assert repr(tomb) == "<Tomb 'db' dying: Reason: disk full>"
    with pytest.raises(Reason), tomb:
        pass
    assert repr(tomb) == "<Tomb 'db' dead: Reason: disk full>"


async def test_a_tomb_that_was_cancelled_from_outside_shows_it() -> None:
    tomb = Tomb(name="db")
    with trio.CancelScope() as scope, tomb:
        scope.cancel()
        await trio.lowlevel.checkpoint()

    assert repr(tomb) == "<Tomb 'db' dead, cancelled from outside>"
    assert tomb.report().cancelled


async def test_a_tomb_that_ended_cleanly_shows_no_reason() -> None:
    tomb = Tomb(name="db")
    with tomb:
        pass

    assert repr(tomb) == "<Tomb 'db' dead>"
    assert not tomb.report().cancelled


def test_the_report_tells_the_reason_and_counts_what_was_not_kept() -> None:
    tomb = Tomb(name="db")
    tomb.kill(Reason("disk full"))
    for number in range(18):
        tomb.kill(Other(number))

    report = tomb.report()
    assert (report.name, report.state) == ("db", "dying")
    assert report.reason == "Reason: disk full"
    assert report.suppressed == tuple(f"Other: {number}" for number in range(16))
    assert report.uncounted == 2


async def test_what_was_not_kept_is_counted_in_the_notes() -> None:
    tomb = Tomb()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill(Reason())
        for number in range(18):
            tomb.kill(Other(number))

    assert caught.value.__notes__ == ["also: Other: 0", "also: Other: 1", "also: 16 more"]


# -- reasons ---------------------------------------------------------------------------------------


async def test_to_supersede_is_to_kill() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason) as caught, tomb:
        tomb.supersede(reason)
        await trio.sleep_forever()

    assert caught.value is reason
    assert tomb.suppressed == ()


def test_a_group_too_deep_to_be_read_is_not_suppressed_beside_itself() -> None:
    deep: BaseException = Reason()
    for _ in range(5000):
        parts: list[BaseException] = [deep]
        deep = BaseExceptionGroup("deeper", parts)
    tomb = Tomb()
    tomb.kill(deep)
    tomb.kill(deep)

    assert tomb.reason is deep
    assert tomb.suppressed == ()


async def test_left_before_what_was_entered_inside_it_is_dead_of_trios_complaint() -> None:
    tomb, inner = Tomb(), trio.CancelScope()
    tomb.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="Cancel scope stack corrupted") as caught:
        tomb.__exit__(None, None, None)

    assert tomb.state == "dead"
    assert tomb.reason is caught.value
    with suppress(RuntimeError):
        inner.__exit__(None, None, None)


async def test_a_context_that_an_observer_gave_the_reason_is_not_the_next_observers() -> None:
    tomb, reason = Tomb(), Reason()
    with pytest.raises(Reason), tomb:
        raise reason
    with pytest.raises(Reason):
        try:
            raise Other
        except Other:
            raise reason  # noqa: B904 - Python chains it by itself
    assert isinstance(reason.__context__, Other)

    with pytest.raises(Reason) as caught:
        await tomb.wait()

    assert caught.value is reason
    assert reason.__context__ is None


def test_a_truth_is_no_span_of_time() -> None:
    with pytest.raises(TypeError) as caught:
        Tomb(grace=True)

    assert str(caught.value) == "Tomb(grace=...) must be a number of seconds, not True"


# -- cancellation ----------------------------------------------------------------------------------


async def cancellation_in_a_call(tomb: Tomb) -> str | None:
    """What the Cancelled in a client's call says."""
    said: str | None = None
    with pytest.raises(Dying), tomb.while_alive():
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            said = exc.reason
            raise
    return said


@pytest.mark.parametrize(
    "reason, words",
    [(None, "db was killed"), (Reason("disk full"), "db was killed because of Reason: disk full")],
)
async def test_body_and_calls_are_cancelled_with_the_whole_story(
    reason: Exception | None, words: str
) -> None:
    tomb = Tomb(name="db")
    said: list[str | None] = []

    async def call() -> None:
        said.append(await cancellation_in_a_call(tomb))

    async def live() -> None:
        with suppress(Reason), tomb:
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                said.append(exc.reason)
                raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        nursery.start_soon(live)
        await wait_all_tasks_blocked()
        tomb.kill(reason)

    assert said == [words, words]


async def test_a_call_that_outlived_the_worker_is_cancelled_because_it_is_dead() -> None:
    tomb = Tomb(name="db")
    said: list[str | None] = []

    async def call() -> None:
        said.append(await cancellation_in_a_call(tomb))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        with tomb:
            await wait_all_tasks_blocked()

    assert said == ["db is dead"]


async def test_without_a_word_there_is_no_grace(autojump_clock: MockClock) -> None:
    with Tomb() as tomb:
        tomb.kill()
        await trio.sleep_forever()

    assert trio.current_time() == 0


async def test_a_grace_below_a_second_is_a_grace(autojump_clock: MockClock) -> None:
    with Tomb(grace=0.5) as tomb:
        tomb.kill()
        await trio.sleep_forever()

    assert trio.current_time() == 0.5


async def test_a_later_kill_does_not_lengthen_the_wait(autojump_clock: MockClock) -> None:
    with Tomb(grace=3) as tomb:
        tomb.kill(grace=1)
        tomb.kill()
        tomb.kill(grace=2)
        await trio.sleep_forever()

    assert trio.current_time() == 1


async def test_an_infinite_grace_leaves_the_deadline_of_an_earlier_kill(
    autojump_clock: MockClock,
) -> None:
    with Tomb(grace=math.inf) as tomb:
        tomb.kill(grace=1)
        tomb.kill()
        await trio.sleep_forever()

    assert trio.current_time() == 1


async def test_what_is_superseded_is_kept_before_what_was_suppressed() -> None:
    first, second, third = Reason("first"), Other("second"), Reason("third")
    tomb = Tomb()
    with pytest.raises(Reason) as caught, tomb:
        tomb.kill(first)
        tomb.kill(second)
        tomb.supersede(third)
        await trio.sleep_forever()

    assert caught.value is third
    assert tomb.suppressed == (first, second)


async def test_killed_again_the_reason_is_not_put_into_words_again() -> None:
    asked = 0
    asked_by: list[int] = []

    class Asked(Exception):
        def __str__(self) -> str:
            nonlocal asked
            asked += 1
            return "why"

    tomb = Tomb()
    with pytest.raises(Asked), tomb:
        tomb.kill(Asked())
        asked_by.append(asked)
        tomb.kill()
        tomb.kill(grace=0)
        asked_by.append(asked)

    first, again = asked_by
    assert again == first > 0


async def test_killed_twice_a_call_in_flight_is_told_the_first_story() -> None:
    tomb = Tomb(name="db")
    said: list[str | None] = []

    async def call() -> None:
        said.append(await cancellation_in_a_call(tomb))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)

        async def live() -> None:
            with pytest.raises(Reason), tomb:
                await trio.sleep_forever()

        nursery.start_soon(live)
        await wait_all_tasks_blocked()
        tomb.kill()
        tomb.kill(Reason("disk full"))

    assert said == ["db was killed"]


# -- waiting ---------------------------------------------------------------------------------------


async def test_waiting_for_the_dying_is_a_checkpoint() -> None:
    tomb = Tomb()
    tomb.kill()
    with trio.testing.assert_checkpoints():
        await tomb.wait_dying()


async def test_several_wait_for_the_dying_and_for_the_end() -> None:
    tomb = Tomb(grace=math.inf)
    woken: list[str] = []

    async def wait(wait: Callable[[], Awaitable[None]], what: str) -> None:
        await wait()
        woken.append(what)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, tomb.wait_dying, "dying")
            nursery.start_soon(wait, tomb.wait, "dead")
        with tomb:
            await wait_all_tasks_blocked()
            tomb.kill()
            await wait_all_tasks_blocked()
            assert woken == ["dying"] * 3

    assert woken == ["dying"] * 3 + ["dead"] * 3


# -- tracebacks and interrupts ---------------------------------------------------------------------


async def test_a_dying_shows_nothing_that_was_handled_before() -> None:
    tomb = Tomb()
    with pytest.raises(Dying) as caught, tomb.while_alive():
        with tomb:
            pass
        await trio.lowlevel.checkpoint()

    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_what_changes_a_tomb_is_protected_against_keyboard_interrupt() -> None:
    tomb = Tomb()
    with protection_noted() as noted:
        try:
            with tomb, tomb.while_alive():
                tomb.kill(Other())
                tomb.supersede(Reason())
        except Reason:
            pass

    changing = ("Tomb.__enter__", "Tomb.__exit__", "Tomb.kill", "Tomb.supersede")
    guard = ("_WhileAlive.__enter__", "_WhileAlive.__exit__")
    assert unprotected(noted, *changing, *guard) == []


@pytest.mark.parametrize("reason", ["text", None, OSError])
def test_what_is_no_exception_supersedes_nothing(reason: Any) -> None:
    tomb = Tomb(name="db")
    with pytest.raises(TypeError, match=r'"db": supersede\(\) takes an exception, not'):
        tomb.supersede(reason)

    assert tomb.state == "alive"


@pytest.mark.parametrize("grace", ["0", True, [1]])
def test_a_grace_that_is_no_number_kills_nothing(grace: Any) -> None:
    for life in (Tomb(name="db"), Catacomb(name="db"), Engine(EngineConfig(name="db"))):
        with pytest.raises(TypeError, match=r'"db": kill\(grace=...\) takes a number of seconds'):
            life.kill(OSError("why"), grace=grace)

        assert life.state == "alive"
