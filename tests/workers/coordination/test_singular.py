"""Singular: true for one of several, and over by its own clock."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioworker import Bounce, LifetimeError, Manifold, Missing, open_worker
from trioworker.patterns import Flag
from trioworker.testing import (
    ManifoldHarness,
    StubGetter,
    check_alive,
    clean_kill,
    open_engine,
)
from trioworker.workers.coordination import lease, singular
from trioworker.workers.coordination.lease import (
    ClaimDenied,
    Grant,
    Manager,
    MemoryStore,
)
from trioworker.workers.coordination.singular import Config, Refresh, Singular, Term

from .leasing import open_scripted, world

Answer = Exception | str | int | None


class FakeFacade:
    """Claims are answered by the script: an error, "hang", or a token (1 by default)."""

    def __init__(self, *claims: Answer, wait: Answer = "hang") -> None:
        self.claims = list(claims)
        self.waits = wait
        self.calls: list[object] = []

    async def claim(self, duration: float) -> Grant:
        self.calls.append(duration)
        sent = trio.current_time()
        answer = self.claims.pop(0) if self.claims else None
        await self._play(answer)
        return Grant(answer if isinstance(answer, int) else 1, sent + duration)

    async def wait(self) -> None:
        self.calls.append("wait")
        await self._play(self.waits)

    async def _play(self, answer: Answer) -> None:
        await trio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer
        if answer == "hang":
            await trio.sleep_forever()


def chained() -> Exception:
    error = RuntimeError("the call failed")
    error.__cause__ = ClaimDenied("another")
    return error


DENIALS: dict[str, Callable[[], Exception]] = {
    "plain": lambda: ClaimDenied("another"),
    "caused": chained,
    "grouped": lambda: ExceptionGroup("", [ClaimDenied("another")]),
}


async def test_an_error_of_the_first_claim_means_no_worker() -> None:
    started = False

    class Status:
        def started(self, value: object = None) -> None:
            nonlocal started
            started = True

    flag = Singular(FakeFacade(OSError("squish")), 60)
    with pytest.raises(OSError, match="squish"):
        await flag.run(task_status=Status())
    assert not started
    with pytest.raises(LifetimeError):
        flag.check()


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
async def test_denied_it_is_false_and_waits(
    denial: Callable[[], Exception], autojump_clock: MockClock
) -> None:
    facade = FakeFacade(denial())
    async with open_worker(Singular(facade, 60)) as flag:
        await trio.sleep(1000)
        await check_alive(flag)
        assert (flag.check(), flag.token) == (False, None)
        assert facade.calls == [60, "wait"]
        assert flag.report() == (flag.report().tomb, False, None)
        await clean_kill(flag)  # the original cannot be stopped while it waits


async def test_denied_it_ends_when_the_lease_is_free() -> None:
    facade = FakeFacade(ClaimDenied(), wait=None)
    with pytest.raises(Refresh):
        await Singular(facade, 60).run()
    assert facade.calls == [60, "wait"]


async def test_denied_it_ends_with_the_error_of_waiting() -> None:
    with pytest.raises(OSError, match="squish"):
        await Singular(FakeFacade(ClaimDenied(), wait=OSError("squish")), 60).run()


@pytest.mark.parametrize("denial", DENIALS.values(), ids=DENIALS)
async def test_granted_it_is_true_until_a_renewal_is_denied(
    denial: Callable[[], Exception], autojump_clock: MockClock
) -> None:
    facade = FakeFacade(1, denial())
    with pytest.raises(Refresh):
        async with open_worker(Singular(facade, 60)) as flag:
            await trio.sleep(29)
            await check_alive(flag)
            assert (flag.check(), flag.token) == (True, 1)
            assert facade.calls == [60]
            await trio.sleep(2)
            raise AssertionError
    assert facade.calls == [60, 60]
    assert trio.current_time() == 30


async def test_an_error_of_a_renewal_is_its_end(autojump_clock: MockClock) -> None:
    with pytest.raises(OSError, match="squish"):
        await Singular(FakeFacade(1, OSError("squish")), 60).run()


async def test_it_renews_again_and_again_and_keeps_its_token(autojump_clock: MockClock) -> None:
    facade = FakeFacade()
    async with open_worker(Singular(facade, 60)) as flag:
        await trio.sleep(301)
        assert facade.calls == [60] * 11
        assert (flag.check(), flag.token) == (True, 1)
        assert repr(flag) == "<Singular 'singular' alive, True>"


async def test_a_late_timer_causes_one_claim_and_no_burst(mock_clock: MockClock) -> None:
    facade = FakeFacade()
    async with open_worker(Singular(facade, 60)) as flag:
        for claims in (2, 3):
            await wait_all_tasks_blocked()
            mock_clock.jump(53)
            await wait_all_tasks_blocked()
            assert facade.calls == [60] * claims
        assert flag.check()


async def test_a_process_that_was_stopped_past_its_term_gives_up_without_asking(
    mock_clock: MockClock,
) -> None:
    """Another may have had the lease meanwhile: what depends on us has to be told."""
    facade = FakeFacade()
    with pytest.raises(Refresh):
        async with open_worker(Singular(facade, 60)):
            await wait_all_tasks_blocked()
            mock_clock.jump(60)
            await wait_all_tasks_blocked()
            raise AssertionError
    assert facade.calls == [60]


async def test_it_gives_up_before_the_term_ends_though_the_renewal_hangs(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(Refresh, match="in time"):
        await Singular(FakeFacade(1, "hang"), 60).run()
    assert trio.current_time() == 54


async def test_a_claim_that_took_longer_than_its_term_has_got_nothing(
    autojump_clock: MockClock,
) -> None:
    """Found by the test of five flags below: the term of another had begun already."""

    class Slow(FakeFacade):
        async def claim(self, duration: float) -> Grant:
            grant = await super().claim(duration)
            await trio.sleep(54)
            return grant

    flag = Singular(Slow(), 60)
    with pytest.raises(Refresh, match="too late"):
        await flag.run()
    with pytest.raises(LifetimeError):
        flag.check()


async def test_a_renewal_under_another_token_is_another_term(autojump_clock: MockClock) -> None:
    with pytest.raises(Refresh, match="too late"):
        await Singular(FakeFacade(1, 2), 60).run()


@pytest.mark.parametrize("duration", [0, -1, float("inf"), float("nan")])
def test_durations_are_positive(duration: float) -> None:
    with pytest.raises(ValueError, match="duration must be"):
        Singular(FakeFacade(), duration)
    with pytest.raises(ValueError, match="duration must be"):
        Config(entity="a", claimant="me", duration=duration)


@pytest.mark.parametrize("field", ["entity", "claimant", "namespace"])
def test_a_config_has_names(field: str) -> None:
    fields: dict[str, Any] = {"entity": "a", "claimant": "me", field: ""}
    with pytest.raises(ValueError, match=f"{field} must be a name"):
        Config(**fields)


def test_the_docstring_says_when_not_to_use_it() -> None:
    assert "When not to use it" in str(singular.__doc__)


# -- the manifold ----------------------------------------------------------------------------------

CONFIG = Config(entity="model-7", claimant="machine-0")


def test_what_it_needs_and_offers() -> None:
    manifold = singular.manifold(CONFIG)
    assert manifold.inputs == ("leases",)
    assert list(manifold.outputs) == [Flag, Term]
    assert CONFIG.duration == 60


async def test_without_leases_it_is_missing() -> None:
    with pytest.raises(Missing):
        await singular.manifold(CONFIG).start(
            StubGetter(required={"leases": None}), task_status=trio.TASK_STATUS_IGNORED
        )


def test_a_refresh_is_a_bounce_however_it_is_wrapped_and_nothing_else_is() -> None:
    filter_ = singular.manifold(CONFIG).filter
    assert filter_ is not None
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = Refresh()
    bounces: list[Exception] = [Refresh(), wrapped, ExceptionGroup("", [Refresh(), Refresh()])]
    assert [type(filter_(error)) for error in bounces] == [Bounce] * 3
    others: list[Exception] = [OSError(), ExceptionGroup("", [Refresh(), OSError()])]
    assert [filter_(error) for error in others] == others


def program(store: MemoryStore, who: str, user: ManifoldHarness) -> dict[str, Manifold]:
    config = Config(entity="model-7", claimant=who)
    return {
        "store": lease.store_manifold(lambda: open_scripted(store)),
        "leases": lease.manifold(clock=world),
        "flag": singular.manifold(config),
        "user": user.manifold(inputs=("flag",)),
    }


async def test_of_two_programs_one_is_it_and_the_other_takes_over(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    mine, yours = ManifoldHarness(), ManifoldHarness()
    async with (
        open_engine(program(store, "you", yours), settle_within=None),
        open_engine(program(store, "me", mine)) as engine,
    ):
        await yours.assert_one_start()
        first = yours.get("flag", Term).token
        assert yours.get("flag", Flag).check()
        await mine.assert_one_start()
        assert not mine.get("flag", Flag).check()
        await trio.sleep(300)
        assert engine.report().manifolds["flag"].starts == 1

        # As if the other had been killed: nobody renews.
        [(key, info)] = (await store.leases(world())).items()
        await store.revoke(key, info.holder, world())
        began = trio.current_time()
        await trio.sleep(62)
        tokens = [yours.get("flag", Term).token, mine.get("flag", Term).token]
        assert sorted(token is None for token in tokens) == [False, True]
        assert max(token or 0 for token in tokens) > (first or 0)
        assert trio.current_time() - began == 62


async def test_never_do_two_believe_it_whatever_the_store_does(autojump_clock: MockClock) -> None:
    """Five flags over a store that is slow, and hangs for longer than a term."""
    chance = random.Random(6)
    store = MemoryStore()
    true: set[int] = set()
    tokens: list[int] = []

    class Slow:
        def __init__(self, claimer: lease.Claimer, who: int) -> None:
            self.claimer, self.who = claimer, who

        async def claim(self, duration: float) -> Grant:
            await trio.sleep(chance.choice([0, 0, 1, 5, 20]))
            grant = await self.claimer.claim("a", str(self.who), duration)
            await trio.sleep(chance.choice([0, 0, 1, 5, 20]))
            return grant

        async def wait(self) -> None:
            await self.claimer.wait_until_expired("a")

    async def one(claimer: lease.Claimer, who: int) -> None:
        while True:
            flag = Singular(Slow(claimer, who), 10)
            try:
                async with open_worker(flag):
                    if flag.check() and flag.token is not None:
                        assert not true, f"{who} and {true}"
                        true.add(who)
                        tokens.append(flag.token)
                    await trio.sleep_forever()
            except Refresh:
                true.discard(who)

    async with open_worker(Manager(store, clock=world)) as manager:
        with trio.move_on_after(3000):
            async with trio.open_nursery() as nursery:
                for who in range(5):
                    nursery.start_soon(one, manager.claimer("singular"), who)

    assert tokens == sorted(tokens)
    assert len(set(tokens)) > 10
