"""Singular: true for one of several, and over by its own clock."""

import logging
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.services.process import BOUND
from trioworker import Bounce, LifetimeError, Manifold, Missing, RetryAfter, open_worker
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
    Busy,
    ClaimDenied,
    Grant,
    LeaseTimeout,
    Manager,
    MemoryStore,
    SqliteConfig,
    Store,
    _manager,
)
from trioworker.workers.coordination.singular import Config, Refresh, Singular, Term

from .leasing import ScriptedStore, open_scripted, world

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


def chained_to(cause: Exception) -> Exception:
    error = RuntimeError("the call failed")
    error.__cause__ = cause
    return error


DENIALS: dict[str, Callable[[], Exception]] = {
    "plain": lambda: ClaimDenied("another"),
    "caused": lambda: chained_to(ClaimDenied("another")),
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
        assert flag.report() == (flag.report().tomb, False, None, "")
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


async def test_while_its_term_lasts_a_store_that_is_away_is_asked_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    facade = FakeFacade(1, LeaseTimeout("it is away"), chained_to(LeaseTimeout("still")), 1)
    async with open_worker(Singular(facade, 60)) as flag:
        await trio.sleep(31.5)
        assert flag.report() == (flag.report().tomb, True, 1, "the call failed")
        await trio.sleep(29.5)
        await check_alive(flag)
        assert flag.report() == (flag.report().tomb, True, 1, "")
        assert facade.calls == [60] * 4  # at 0, 30, 31 and 32; the next is due at 62
    assert caplog.messages == ['"singular": not renewed, and tried again for 24 s: it is away']


async def test_when_its_term_is_over_it_asks_no_more_and_gives_up(
    autojump_clock: MockClock,
) -> None:
    facade = FakeFacade(1, *[LeaseTimeout("it is away")] * 100)
    with pytest.raises(Refresh, match="not renewed in time"):
        await Singular(facade, 60).run()
    assert trio.current_time() == 54


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


def test_a_store_that_is_away_is_asked_again_soon_and_no_fault() -> None:
    filter_ = singular.manifold(CONFIG).filter
    assert filter_ is not None
    away = LeaseTimeout("the store is busy")
    for error in (away, chained_to(away), ExceptionGroup("", [away])):
        told = filter_(error)
        assert isinstance(told, RetryAfter)
        assert str(told) == f"in 1 s: {error}"
    mixed = ExceptionGroup("", [away, OSError()])
    assert filter_(mixed) is mixed


def program(
    store: Store, who: str, user: ManifoldHarness, duration: float = 60.0
) -> dict[str, Manifold]:
    config = Config(entity="model-7", claimant=who, duration=duration)
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


async def test_what_is_revoked_elsewhere_is_missed_when_it_is_to_be_renewed(
    autojump_clock: MockClock,
) -> None:
    """The bound that the page tells: a store has no watch."""
    store, user = MemoryStore(), ManifoldHarness()
    async with open_engine(program(store, "me", user), settle_within=None) as engine:
        await engine.wait_state("user", "started")
        await trio.sleep(1)
        [key] = await store.leases(world())
        await store.revoke(key, "me", world())
        await store.claim(key, lease.Request("you", 60), world())
        await trio.sleep_until(29.9)
        assert user.get("flag", Flag).check()
        await trio.sleep_until(30.1)
        assert not user.get("flag", Flag).check()


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


# -- a store that is away --------------------------------------------------------------------------

AWAY = "the server is away"


def leave(store: ScriptedStore) -> None:
    for method in ("look", "read", "claim", "extend"):
        store.script[method] = [Busy(AWAY)] * 1000


async def test_an_outage_that_is_shorter_than_the_term_is_noticed_by_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store, user = ScriptedStore(), ManifoldHarness()
    async with open_engine(program(store, "me", user), settle_within=None) as engine:
        await engine.wait_state("user", "started")
        await trio.sleep(20)
        leave(store)
        await trio.sleep(30)
        store.script.clear()
        await trio.sleep(100)

        assert {m.starts for m in engine.report().manifolds.values()} == {1}
        assert user.get("flag", Flag).check()
    assert max(record.levelno for record in caplog.records) == logging.WARNING


async def test_an_outage_that_is_longer_ends_it_in_time_and_it_comes_back_by_itself(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """That of both: who had it, and who waited for it."""
    caplog.set_level(logging.INFO)
    store, mine, yours = ScriptedStore(), ManifoldHarness(), ManifoldHarness()
    async with (
        open_engine(program(store, "me", mine, 10), settle_within=None) as engine,
        open_engine(program(store, "you", yours, 10), settle_within=None) as theirs,
    ):
        await engine.wait_state("user", "started")
        await theirs.wait_state("user", "started")
        leave(store)
        began = trio.current_time()
        await engine.wait_state("user", "waiting")
        assert trio.current_time() - began < 9.1
        while AWAY not in (told := str(engine.explain("user"))):  # noqa: ASYNC110 - when not trying
            await trio.sleep(0.5)
        assert told.startswith("user waits for flag; flag is backing off")
        await trio.sleep_until(began + 30)
        assert not yours.get("flag", Flag).check()
        store.script.clear()
        await trio.sleep(10)

        answers = [user.get("flag", Flag).check() for user in (mine, yours)]
        assert sorted(answers) == [False, True]
        for one in (engine, theirs):
            report = one.report().manifolds
            assert (report["store"].starts, report["leases"].starts) == (1, 1)
            assert {run.kind for run in report["flag"].history} <= {"bounce", "retry"}
    assert all(record.levelno < logging.ERROR for record in caplog.records)


@pytest.mark.full
async def test_a_file_that_others_lock_for_longer_than_a_term_is_an_outage_like_any_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_manager, "ATTEMPTS", 3)  # takes a tenth of a second, and not some six
    config = SqliteConfig(path=tmp_path / "leases.db", busy_timeout=0.05)
    user = ManifoldHarness()
    parts = {
        "store": lease.sqlite_store(config),
        "leases": lease.manifold(),
        "flag": singular.manifold(Config(entity="a", claimant="me", duration=2)),
        "user": user.manifold(inputs=("flag",)),
    }
    with trio.fail_after(BOUND):
        async with open_engine(parts, settle_within=None) as engine:
            await engine.wait_state("user", "started")
            with closing(apsw.Connection(str(config.path))) as other:
                other.execute("BEGIN IMMEDIATE")
                await engine.wait_state("flag", "delayed")
                await engine.wait_state("user", "waiting")
                while "is busy" not in str(engine.explain("user")):  # noqa: ASYNC110 - as above
                    await trio.sleep(0.02)
                other.execute("ROLLBACK")
            await engine.wait_state("user", "started")
            assert user.get("flag", Flag).check()
    assert all(record.levelno < logging.ERROR for record in caplog.records)
