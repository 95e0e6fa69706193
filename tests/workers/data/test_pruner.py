"""The pruner: when it deletes, with which limits, in which bites; on real records too."""

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.patterns.values import Script
from trioworker import (
    Engine,
    Getter,
    Manifold,
    NotOffered,
    Reporter,
    Watcher,
    WatcherClosed,
    open_worker,
)
from trioworker.agent import load
from trioworker.backends.sqlite import Database, open_database
from trioworker.testing import check_alive, clean_kill
from trioworker.workers.data.pruner import (
    Config,
    Limits,
    LiveLimits,
    Prunable,
    Pruner,
    manifold,
)

from .prunables import Files, Rows

AGE, SIZE = Limits(max_age=60), Limits(max_bytes=60)
INTERVAL = 10.0


@final
class Records:
    """Notes when it is asked, and for what; says that it deleted as many as `deleted` has."""

    def __init__(self, *deleted: int | Exception, seconds: float = 0) -> None:
        self.deleted: list[int | Exception] = list(deleted)
        self.seconds = seconds
        self.asked: list[tuple[float, Limits, int]] = []

    async def prune(self, limits: Limits, at_most: int) -> int:
        self.asked.append((trio.current_time(), limits, at_most))
        await trio.sleep(self.seconds)
        deleted = self.deleted.pop(0) if self.deleted else 0
        if isinstance(deleted, Exception):
            raise deleted
        return deleted

    @property
    def times(self) -> list[float]:
        return [time for time, _, _ in self.asked]


@final
class Live:
    """The limits that a script has."""

    def __init__(self, *values: Limits | Exception, watch_error: Exception | None = None) -> None:
        self.script = Script[Limits](*values, watch_error=watch_error)

    async def limits(self) -> Limits:
        return await self.script.read()

    async def watch_limits(self) -> Watcher[object]:
        return await self.script.watch()


def following(records: Prunable, live: LiveLimits) -> Pruner:
    return Pruner(records, Config(interval=INTERVAL), live)


def fixed(records: Prunable, limits: Limits = SIZE, bite: int = 1000) -> Pruner:
    return Pruner(records, Config(interval=INTERVAL, bite=bite, limits=limits))


# -- when ------------------------------------------------------------------------------------------


async def test_it_deletes_at_the_interval_and_not_a_moment_before(mock_clock: MockClock) -> None:
    records = Records()
    async with open_worker(fixed(records)):
        await wait_all_tasks_blocked()
        mock_clock.jump(math.nextafter(INTERVAL, 0))
        await wait_all_tasks_blocked()
        assert records.asked == []
        mock_clock.jump(INTERVAL - trio.current_time())
        await wait_all_tasks_blocked()
        assert records.asked == [(INTERVAL, SIZE, 1000)]


async def test_nothing_is_deleted_before_the_limits_are_known(autojump_clock: MockClock) -> None:
    records, live = Records(), Live(SIZE)
    reading = trio.Event()

    async def slowly() -> Limits:
        await reading.wait()
        return SIZE

    live.limits = slowly  # type: ignore[method-assign]  # whose answer takes its time
    async with open_worker(following(records, live)) as pruner:
        await trio.sleep(1000 * INTERVAL)
        assert records.asked == []
        assert pruner.report().limits is None
        reading.set()
        await trio.sleep(INTERVAL + 1)
        assert records.asked == [(1001 * INTERVAL, SIZE, 1000)]


async def test_the_interval_counts_from_the_end_so_they_never_overlap(
    autojump_clock: MockClock,
) -> None:
    records = Records(seconds=3 * INTERVAL)
    async with open_worker(fixed(records)):
        await trio.sleep(9.5 * INTERVAL)

    assert records.times == [INTERVAL, 5 * INTERVAL, 9 * INTERVAL]


async def test_changed_limits_hold_from_the_next_time_on_and_do_not_bring_it_forward(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    records, live = Records(), Live(SIZE, AGE, AGE)
    async with open_worker(following(records, live)):
        await trio.sleep(INTERVAL - 1)
        live.script.tell()
        await trio.sleep(0.5)
        live.script.tell()  # the same once more
        await trio.sleep(INTERVAL + 1)

    assert [(time, limits) for time, limits, _ in records.asked] == [
        (INTERVAL, AGE),
        (2 * INTERVAL, AGE),
    ]
    assert [record.message for record in caplog.records] == [
        f"pruner: {limits} from the next time on" for limits in (SIZE, AGE)
    ]


async def test_limits_that_change_between_two_bites_wait_for_the_next_time(
    autojump_clock: MockClock,
) -> None:
    records, live = Records(1000, seconds=1), Live(SIZE, AGE)
    async with open_worker(following(records, live)):
        await trio.sleep(INTERVAL + 1)
        live.script.tell()
        await trio.sleep(2 * INTERVAL)

    assert [limits for _, limits, _ in records.asked] == [SIZE, SIZE, AGE]


async def test_it_bites_until_there_is_less_than_a_bite(autojump_clock: MockClock) -> None:
    records = Records(5, 5, 4, 5, 0)
    async with open_worker(fixed(records, bite=5)) as pruner:
        await trio.sleep(2.5 * INTERVAL)
        assert records.times == [INTERVAL] * 3 + [2 * INTERVAL] * 2
        assert {at_most for _, _, at_most in records.asked} == {5}
        assert pruner.report() == (pruner.report().tomb, SIZE, 2, 19)
        assert repr(pruner) == "<Pruner 'pruner' alive, 19 deleted>"


async def test_between_two_bites_it_rests_for_as_long_as_one_took(
    autojump_clock: MockClock,
) -> None:
    records = Records(1000, 1000, seconds=2)
    async with open_worker(fixed(records)):
        await trio.sleep(4 * INTERVAL)

    assert records.times == [10, 14, 18, 30]


# -- how it ends -----------------------------------------------------------------------------------


async def test_killed_it_ends_cleanly_and_deletes_nothing_more(autojump_clock: MockClock) -> None:
    records, live = Records(), Live(SIZE)
    async with open_worker(following(records, live)) as pruner:
        await check_alive(pruner)
        await clean_kill(pruner)
        await trio.sleep(10 * INTERVAL)

    assert records.asked == []


async def test_killed_while_records_are_deleted_it_ends_at_once(autojump_clock: MockClock) -> None:
    records = Records(seconds=math.inf)
    async with open_worker(fixed(records)) as pruner:
        await trio.sleep(INTERVAL + 1)
        assert len(records.asked) == 1
        await clean_kill(pruner)
        assert trio.current_time() == INTERVAL + 1


async def test_an_error_of_the_records_ends_it(autojump_clock: MockClock) -> None:
    error = OSError("disk")
    with pytest.raises(OSError, match="disk") as caught:
        await fixed(Records(error)).run()

    assert caught.value is error


async def test_an_error_of_reading_the_limits_ends_it_and_says_what_it_did(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(OSError, match="no") as caught:
        await following(Records(), Live(OSError("no"))).run()

    assert caught.value.__notes__ == ['"pruner": while reading the limits']


async def test_limits_that_are_none_end_it(autojump_clock: MockClock) -> None:
    nonsense: Any = 7
    with pytest.raises(TypeError, match=r"limits\(\) must return Limits, not 7"):
        await following(Records(), Live(nonsense)).run()


async def test_an_error_of_watching_ends_it_before_it_is_ready() -> None:
    pruner = following(Records(), Live(SIZE, watch_error=OSError("no")))
    with pytest.raises(OSError, match="no"):
        async with open_worker(pruner):
            raise AssertionError("it was ready")


async def test_a_watcher_that_stops_ends_it(autojump_clock: MockClock) -> None:
    live = Live(SIZE)
    with pytest.raises(WatcherClosed):
        async with open_worker(following(Records(), live)):
            await wait_all_tasks_blocked()
            live.script.watchers[-1].close()
            await trio.sleep_forever()


# -- what it is told -------------------------------------------------------------------------------


def test_limits_check_themselves_and_are_frozen() -> None:
    for field in ("max_age", "max_bytes"):
        for value in (-1, math.nan, math.inf):
            fields: dict[str, Any] = {field: value}
            with pytest.raises(ValueError, match=f"{field} must be at least 0 and finite"):
                Limits(**fields)
    with pytest.raises(ValueError, match="max_age and max_bytes are both 0"):
        Limits()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        SIZE.max_age = 1  # type: ignore[misc]  # which is the point


def test_the_config_checks_itself_and_is_frozen() -> None:
    for field in ("interval", "bite"):
        for value in (0, -1, math.nan, math.inf):
            fields: dict[str, Any] = {"interval": 1, field: value}
            with pytest.raises(ValueError, match=f"{field} must be more than 0 and finite"):
                Config(**fields)
    assert Config(interval=1).bite == 1000
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config(interval=1).bite = 1  # type: ignore[misc]  # which is the point


def test_the_limits_come_from_one_place() -> None:
    for config, live in (
        (Config(interval=1), None),
        (Config(interval=1, limits=SIZE), Live(SIZE)),
    ):
        with pytest.raises(TypeError, match="limits come from its config or from LiveLimits"):
            Pruner(Records(), config, live)


def test_its_inputs_are_what_it_needs() -> None:
    assert manifold(Config(interval=1)).inputs == ("records", "limits")
    assert manifold(Config(interval=1, limits=SIZE)).inputs == ("records",)


# -- in an engine ----------------------------------------------------------------------------------


def records() -> Manifold:
    """For an agent file."""
    return _offering(Prunable, Records(3))


def live() -> Manifold:
    """For an agent file."""
    return _offering(LiveLimits, Live(AGE))


def _offering(face: type, value: object) -> Manifold:
    async def start(get: Getter, *, task_status: trio.TaskStatus[object]) -> None:
        task_status.started(value)
        await trio.sleep_forever()

    return Manifold(start, outputs={face: _itself})


def _itself(value: object) -> object:
    return value


FILE = f"""
[manifolds.records]
use = "{__name__}:records"
[manifolds.live]
use = "{__name__}:live"
[manifolds.fixed]
use = "trioworker.workers.data.pruner:manifold"
inputs = {{ records = "records" }}
config = {{ interval = 10, bite = 5, limits = {{ max_bytes = 60 }} }}
[manifolds.following]
use = "trioworker.workers.data.pruner:manifold"
inputs = {{ records = "records", limits = "live" }}
config = {{ interval = 20 }}
"""


async def test_an_agent_file_has_one_of_each_kind_and_two_engines_do_not_share_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "agent.toml").write_text(FILE)
    agent = load(tmp_path / "agent.toml")
    async with open_worker(agent.engine()) as one, open_worker(agent.engine()) as other:
        other.hold("fixed")
        await trio.sleep(25)

        def report(engine: Engine, name: str) -> Any:
            return engine.report().manifolds[name].worker

        assert report(one, "fixed")[1:] == (SIZE, 2, 3)
        assert report(one, "following")[1:] == (AGE, 1, 0)
        assert report(other, "following")[1:] == (AGE, 1, 0)
        assert other.report().manifolds["fixed"].state == "held"


async def test_it_offers_its_report_and_nothing_else(autojump_clock: MockClock) -> None:
    offers: list[object] = []

    async def user(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        offers.append(get("pruner", Reporter))
        with pytest.raises(NotOffered):
            get("pruner", Pruner)
        task_status.started()

    engine = Engine()
    engine.install("records", records())
    engine.install("pruner", manifold(Config(interval=1, limits=SIZE)))
    engine.install("user", Manifold(user, inputs=("pruner",)))
    async with open_worker(engine):
        await engine.wait_state("user", "done")

    assert [name for name in dir(offers[0]) if name[0] != "_"] == ["report"]


# -- on real records -------------------------------------------------------------------------------


@asynccontextmanager
async def kept(kind: str, path: Path) -> AsyncGenerator[Rows | Files]:
    if kind == "files":
        yield Files(path)
        return
    async with open_database(path / "log.db") as database:
        yield Rows(database)


KINDS = pytest.mark.parametrize("kind", ["rows", "files"])


@KINDS
@pytest.mark.parametrize(
    "limits, left",
    [
        (Limits(max_age=50), [4, 5]),
        (Limits(max_bytes=5), [5]),
        (Limits(max_bytes=11), [4, 5]),
        (Limits(max_bytes=12), [3, 4, 5]),
        (Limits(max_age=20, max_bytes=100), [5]),
        (Limits(max_age=1000, max_bytes=9), [4, 5]),
        (Limits(max_age=1), []),
    ],
)
async def test_what_is_too_old_and_the_oldest_of_what_is_too_much_goes_in_bites(
    kind: str, limits: Limits, left: list[int], tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with kept(kind, tmp_path) as its:
        await its.fill([(100, 1), (80, 2), (60, 3), (40, 4), (10, 5)])
        async with open_worker(fixed(its, limits, bite=2)) as pruner:
            await until(lambda: pruner.report().times == 1)
            assert pruner.report().deleted == 5 - len(left)
        assert await its.sizes() == left


async def until(happened: Any) -> None:
    while not happened():  # noqa: ASYNC110 - nothing tells of it
        await trio.sleep(0.01)


async def test_ten_thousand_rows_follow_limits_that_are_lowered(tmp_path: Path) -> None:
    """On the clock of the wall; another connection writes meanwhile, and gets in between bites."""
    path, seen = tmp_path / "log.db", list[int]()
    live = Live(Limits(max_bytes=50_000), Limits(max_bytes=1_000))
    async with open_database(path) as database, open_database(path) as another:
        rows = Rows(database)
        await rows.fill((10_000 - i, 10) for i in range(10_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, another, seen)
            pruner = Pruner(rows, Config(interval=0.05, bite=250), live)
            async with open_worker(pruner):
                with trio.fail_after(60):
                    await until(lambda: pruner.report().times >= 1)
                    assert sum(await rows.sizes()) <= 50_000 + 10 * len(seen)
                    live.script.tell()
                    await until(lambda: seen[-1] <= 110)
            nursery.cancel_scope.cancel()

    between = [count for count in seen if count not in {10_000, 5_000, 100}]
    assert between, "it never got in between two bites"


async def write(database: Database, seen: list[int]) -> None:
    """Write again and again, and note how many rows there are."""
    while True:
        async with database.transaction() as its:
            now = "(julianday('now') - 2440587.5) * 86400"
            await its.execute(f"INSERT INTO log (at, bytes) VALUES ({now}, 0)")
            [(count,)] = await its.execute("SELECT count(*) FROM log WHERE bytes > 0")
        seen.append(int(str(count)))
        await trio.sleep(0.001)
