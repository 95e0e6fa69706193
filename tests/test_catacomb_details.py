"""Catacomb, what a user sees from near by: words, cancellation reasons, interrupts."""

import math
import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trioworker._catacomb import Catacomb
from trioworker._errors import Dying, LifetimeError
from trioworker._simple import simple_worker
from trioworker._tomb import Tomb

from .interrupts import protection_noted, unprotected


class Reason(Exception):
    """Why."""


class Other(Exception):
    """What else."""


class Deaf:
    """Forgets every kill(), and tells what its cancellation says."""

    name = "deaf"

    def __init__(self) -> None:
        self.said: str | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as exc:
            self.said = exc.reason
            raise

    def kill(self, reason: BaseException | None = None) -> None:
        pass

    async def wait(self) -> None:
        await trio.sleep_forever()


class Quick(Deaf):
    """Ends at once, and never says that it can be used."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        pass


async def refusal_of(call: Callable[[Deaf], object]) -> Dying:
    with pytest.raises(Dying) as caught:
        result = call(Deaf())
        if isinstance(result, Awaitable):
            await result
    return caught.value


async def add_early(catacomb: Catacomb) -> None:
    catacomb.add(simple_worker(trio.sleep_forever))


async def start_early(catacomb: Catacomb) -> None:
    await catacomb.start(simple_worker(trio.sleep_forever))


async def enter_twice(catacomb: Catacomb) -> None:
    async with catacomb, catacomb:
        pass


async def add_a_class(catacomb: Catacomb) -> None:
    async with catacomb:
        catacomb.add(Deaf)  # type: ignore[arg-type]  # the mistake


async def start_a_function(catacomb: Catacomb) -> None:
    async with catacomb:
        await catacomb.start(add_early)  # type: ignore[arg-type]  # the mistake


async def add_when_dying(catacomb: Catacomb) -> None:
    refused: list[Dying] = []
    async with catacomb:
        catacomb.kill()
        refused.append(await refusal_of(catacomb.add))
    raise refused[0]


async def start_when_dying(catacomb: Catacomb) -> None:
    refused: list[Dying] = []
    async with catacomb:
        catacomb.kill()
        with trio.CancelScope(shield=True):
            refused.append(await refusal_of(catacomb.start))
    raise refused[0]


async def add_when_dead(catacomb: Catacomb) -> None:
    async with catacomb:
        pass
    catacomb.add(Deaf())


async def start_when_dead(catacomb: Catacomb) -> None:
    async with catacomb:
        pass
    await catacomb.start(Deaf())


async def kill_with_a_word(catacomb: Catacomb) -> None:
    catacomb.kill("why")  # type: ignore[arg-type]  # the mistake


async def give_no_grace(catacomb: Catacomb) -> None:
    Catacomb(grace=-1)


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mistake, words",
    [
        (
            add_early,
            (
                'LifetimeError: "db" catacomb: add() before it was entered; '
                "write 'async with catacomb:' and call add() inside"
            ),
        ),
        (
            start_early,
            (
                'LifetimeError: "db" catacomb: start() before it was entered; '
                "write 'async with catacomb:' and call start() inside"
            ),
        ),
        (
            enter_twice,
            (
                'LifetimeError: "db" tomb: entered a second time; a life happens once. '
                "Make a new worker, with a new Tomb(), for each run."
            ),
        ),
        (
            add_a_class,
            f"TypeError: expected a worker, got {Deaf!r}; write catacomb.add(deaf(...))",
        ),
        (
            start_a_function,
            (
                f"TypeError: expected a worker, got {add_early!r}; "
                "write catacomb.start(simple_worker(add_early))"
            ),
        ),
        (add_when_dying, 'Dying: "db" is dying'),
        (start_when_dying, 'Dying: "db" is dying'),
        (add_when_dead, 'Dying: "db" is dead'),
        (start_when_dead, 'Dying: "db" is dead'),
        (
            kill_with_a_word,
            (
                "TypeError: \"db\": kill() takes an exception or None, not 'why'; "
                "write kill(RuntimeError('why'))"
            ),
        ),
        (give_no_grace, "ValueError: Tomb(grace=...) must be at least 0, in seconds, not -1"),
    ],
)
async def test_what_a_user_reads_who_makes_a_mistake(
    mistake: Callable[[Catacomb], Awaitable[None]], words: str
) -> None:
    with pytest.raises((LifetimeError, Dying, TypeError, ValueError)) as caught:
        await mistake(Catacomb(name="db"))

    assert f"{type(caught.value).__name__}: {caught.value}" == words


async def test_a_catacomb_shows_its_state_and_how_many_it_owns() -> None:
    catacomb = Catacomb(name="db")
    assert repr(catacomb) == "<Catacomb 'db' alive, 0 children>"
    async with catacomb:
        catacomb.add(Deaf())
        catacomb.kill()
        assert repr(catacomb) == "<Catacomb 'db' dying, 1 children>"
    assert repr(catacomb) == "<Catacomb 'db' dead, 0 children>"


async def test_a_catacomb_without_a_name_has_its_tasks() -> None:
    catacomb = Catacomb()
    assert catacomb.name == "unnamed"

    async def live() -> None:
        async with catacomb:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live, name="uniter")

    assert catacomb.name == "uniter"


async def test_it_is_seen_to_live_to_die_and_to_be_dead() -> None:
    catacomb, reason, other = Catacomb(), Reason(), Other()
    states: list[tuple[object, ...]] = []

    def seen() -> tuple[object, ...]:
        return (
            str(catacomb.state),
            catacomb.is_dying,
            catacomb.is_dead,
            catacomb.reason,
            catacomb.suppressed,
        )

    assert seen() == ("alive", False, False, None, ())
    with pytest.raises(Reason):
        async with catacomb:
            catacomb.kill(reason)
            catacomb.kill(other)
            states.append(seen())
    assert states[0] == ("dying", True, False, reason, (other,))
    assert seen() == ("dead", True, True, reason, (other,))


async def test_what_is_real_in_an_error_is_the_tombs_to_say() -> None:
    catacomb, error = Catacomb(), Reason()

    assert catacomb.real_part(error) is error
    assert isinstance(catacomb.refusal(), Dying)
    assert catacomb.real_part(catacomb.refusal()) is None


# -- children --------------------------------------------------------------------------------------


async def test_a_child_accepted_late_is_cancelled_because_the_catacomb_is_dying() -> None:
    catacomb, child = Catacomb(grace=math.inf, name="db"), Deaf()
    async with catacomb:
        catacomb.kill()
        with pytest.raises(Dying):
            await catacomb.start(child)

    assert child.said == "db is dying"


async def test_a_group_that_a_late_child_raises_is_the_reason_itself_and_no_copy() -> None:
    group = BaseExceptionGroup("two", [KeyboardInterrupt(), Other()])

    class Failing(Deaf):
        async def run(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            raise group

    catacomb = Catacomb(grace=60)  # so that nothing but the child is cancelled yet
    with pytest.raises(BaseExceptionGroup) as caught:
        async with catacomb:
            catacomb.kill(Reason())
            with pytest.raises(Dying):
                catacomb.add(Failing())

    assert caught.value is catacomb.reason is group


async def test_without_a_word_there_is_no_grace(autojump_clock: MockClock) -> None:
    async with Catacomb() as catacomb:
        catacomb.add(Deaf())
        await wait_all_tasks_blocked()
        catacomb.kill()

    assert trio.current_time() == 0


async def test_the_grace_of_one_kill_may_be_shorter(autojump_clock: MockClock) -> None:
    async with Catacomb(grace=5) as catacomb:
        catacomb.add(Deaf())
        await wait_all_tasks_blocked()
        catacomb.kill(grace=2)

    assert trio.current_time() == 2


async def test_a_child_that_is_done_at_once_is_forgotten_and_ends_nothing() -> None:
    catacomb = Catacomb()
    async with catacomb:
        assert await catacomb.start(Quick()) is None
        assert not catacomb.is_dying
        assert catacomb.report().children == ()


async def test_the_tasks_of_children_have_their_names() -> None:
    catacomb, names = Catacomb(name="db"), list[str]()

    class Tells(Deaf):
        name = "tells"

        async def run(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            names.append(trio.lowlevel.current_task().name)

    async with catacomb:
        catacomb.add(Tells())

    assert names == ["tells"]


async def test_a_second_kill_asks_the_children_no_second_time() -> None:
    asked: list[BaseException | None] = []

    class Counts(Deaf):
        def kill(self, reason: BaseException | None = None) -> None:
            asked.append(reason)

    async with Catacomb() as catacomb:
        catacomb.add(Counts())
        await wait_all_tasks_blocked()
        catacomb.kill()
        catacomb.kill()

    assert asked == [None]


async def test_superseding_asks_the_children_and_keeps_the_earlier_reason() -> None:
    first, second = Reason(), Other()
    catacomb, tomb = Catacomb(grace=math.inf), Tomb()
    with pytest.raises(Other) as caught:
        async with catacomb:

            class Lives(Deaf):
                async def run(
                    self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
                ) -> None:
                    with tomb:
                        await trio.sleep_forever()

                def kill(self, reason: BaseException | None = None) -> None:
                    tomb.kill(reason)

            catacomb.add(Lives())
            await wait_all_tasks_blocked()
            catacomb.kill(first)
            catacomb.supersede(second)

    assert caught.value is second
    assert catacomb.suppressed == (first,)


async def test_to_supersede_is_to_ask_the_children() -> None:
    catacomb, reason, asked = Catacomb(grace=math.inf), Reason(), trio.Event()
    seen: list[bool] = []

    class Asked(Deaf):
        async def run(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            await asked.wait()

        def kill(self, reason: BaseException | None = None) -> None:
            asked.set()

    with pytest.raises(Reason) as caught:
        async with catacomb:
            catacomb.add(Asked())
            await wait_all_tasks_blocked()
            catacomb.supersede(reason)
            seen.append(asked.is_set())

    assert seen == [True]
    assert caught.value is reason


async def test_a_child_that_is_cancelled_from_outside_tells_the_catacomb(
    autojump_clock: MockClock,
) -> None:
    catacomb, seen = Catacomb(grace=math.inf), list[bool]()
    with trio.CancelScope() as scope:
        async with catacomb:
            await catacomb.start(Deaf())
            with trio.CancelScope(shield=True):
                scope.cancel()
                seen.append(catacomb.is_dying)
                await trio.sleep(1)
                seen.append(catacomb.is_dying)

    assert seen == [False, True]


async def test_a_childs_cancellation_in_a_group_leaves_the_block_as_well() -> None:
    class Groups(Deaf):
        async def run(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            task_status.started()
            try:
                await trio.sleep_forever()
            except trio.Cancelled as exc:
                raise BaseExceptionGroup("of one", [exc]) from None

    catacomb = Catacomb(grace=math.inf)
    with trio.CancelScope() as scope:
        async with catacomb:
            await catacomb.start(Groups())
            with trio.CancelScope(shield=True):
                scope.cancel()
                await catacomb.wait_dying()
                await wait_all_tasks_blocked()

    assert scope.cancelled_caught
    assert catacomb.report().tomb.cancelled


def test_an_interrupt_while_children_stop_is_the_reason_also_after_a_failure() -> None:
    catacomb, first = Catacomb(grace=5), Reason("first")

    class Slow(Deaf):
        async def run(
            self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
        ) -> None:
            task_status.started()
            with trio.CancelScope(shield=True):
                await trio.sleep(3)

    async def late_interrupt() -> None:
        await trio.sleep(1)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with catacomb:
            await catacomb.start(Slow())
            trio.lowlevel.spawn_system_task(late_interrupt)
            raise first

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))

    assert caught.value is catacomb.reason
    assert catacomb.suppressed == (first,)


async def test_waiting_is_a_checkpoint_also_when_it_is_over() -> None:
    async with Catacomb() as catacomb:
        pass
    with assert_checkpoints():
        await catacomb.wait()
    with assert_checkpoints():
        await catacomb.wait_dying()


# -- interrupts ------------------------------------------------------------------------------------


async def test_what_changes_a_catacomb_is_protected_against_keyboard_interrupt() -> None:
    catacomb = Catacomb()
    with protection_noted() as noted:
        try:
            async with catacomb:
                catacomb.add(Deaf())
                await wait_all_tasks_blocked()
                catacomb.kill(Other())
                catacomb.supersede(Reason())
        except Reason:
            pass

    changing = ("__aenter__", "__aexit__", "kill", "supersede", "_accept", "_run_child")
    assert unprotected(noted, *(f"Catacomb.{name}" for name in changing)) == []
