"""The page of an engine, as the server makes it: what it says, and what it must never do."""

import re
import time
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, Getter, Manifold, Missing, TombReport
from trioworker.dependency import EngineReport
from trioworker.testing import open_engine
from trioworker.workers.agent.introspection._page import (
    CSS,
    POLICY,
    SCRIPT,
    duration,
    locked,
    page,
    parts,
)

NASTY = '"><script>alert("1")</script>\n\x1b&\'</tr>{name}'
MOST_BYTES = 40_000
"""That a browser has to read before it can show a row: HTML, style and script."""


async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


def failing(exc: BaseException) -> Manifold:
    async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        raise exc

    return Manifold(fail)


def installed(manifolds: dict[str, Manifold]) -> EngineReport:
    engine = Engine(EngineConfig(name="shop"))
    engine.install_all(manifolds)
    return engine.report()


def many(count: int) -> EngineReport:
    """Every manifold waits for the one before it."""
    return installed(
        {f"m{i}": Manifold(start, inputs=(f"m{i - 1}",) if i else ()) for i in range(count)}
    )


class Reader(HTMLParser):
    """Takes a page apart as a browser does: cells by row, and all tags with what they carry."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._row: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        name = dict(attrs).get("data-name")
        if tag == "tr" and name is not None:
            self._row = self.rows[name] = []
        elif tag in {"th", "td"} and self._row is not None:
            self._row.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self._row = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._row:
            self._row[-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


async def shown(manifolds: dict[str, Manifold], *held: str, seconds: float = 0) -> Reader:
    async with open_engine(manifolds, settle_within=None) as engine:
        for name in held:
            engine.hold(name)
        await trio.sleep(seconds)
        await wait_all_tasks_blocked()
        return Reader(page("shop", engine.report()))


# -- what it says ----------------------------------------------------------------------------------


async def test_a_row_has_name_state_why_since_starts_and_last_error(autojump_clock: object) -> None:
    found = await shown({"db": Manifold(start)}, seconds=90)

    assert found.rows == {"db": ["db", "started", "", "1 min", "1", ""]}


async def test_a_delay_says_the_error_and_counts_down(autojump_clock: object) -> None:
    found = await shown({"db": failing(ValueError("no disk"))}, seconds=0.01)
    name, state, why, _, starts, error = found.rows["db"]

    assert (name, state, starts) == ("db", "delayed", "1")
    assert re.fullmatch(r"ValueError: no disk; again in \d\.\d s", why)
    assert error == "ValueError: no disk"


async def test_who_waits_is_told_where_the_waiting_begins() -> None:
    found = await shown(
        {
            "db": Manifold(start),
            "store": Manifold(start, inputs=("db",)),
            "web": Manifold(start, inputs=("store",)),
        },
        "db",
    )

    assert found.rows["db"][2] == "by an operator"
    assert found.rows["store"][2] == "waits for db; db is held: by an operator"
    assert found.rows["web"][2] == "waits for store; db is held: by an operator"


async def test_of_many_inputs_a_few_are_named_and_the_one_that_does_not_wait_is_the_cause() -> None:
    inputs = tuple(f"i{n}" for n in range(5))
    found = await shown(
        {
            "gone": failing(Missing("not yet")),
            **{name: Manifold(start, inputs=("gone",)) for name in inputs},
            "web": Manifold(start, inputs=(*inputs, "gone")),
        }
    )

    assert found.rows["web"][2] == (
        "waits for i0, i1, i2 and 3 more; "
        "gone is waiting: waits for a change of its inputs: Missing: not yet"
    )


def test_what_is_not_installed_is_a_cause_too() -> None:
    engine = Engine()
    engine.install_all({"web": Manifold(start, inputs=("db",))}, later={"db"})

    assert Reader(page("x", engine.report())).rows["web"][2] == "waits for db; db is not installed"


async def test_each_state_is_told_in_words(autojump_clock: object) -> None:
    async def hang(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    async def end(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def stay(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    async with open_engine(
        {
            "hangs": Manifold(hang, start_timeout=None),
            "ends": Manifold(end),
            "user": Manifold(stay, inputs=("used",)),
            "used": Manifold(start),
        },
        settle_within=None,
    ) as engine:
        await trio.sleep(1)
        engine.restart("used")
        await wait_all_tasks_blocked()
        found = Reader(page("shop", engine.report()))

    whys = {name: (cells[1], cells[2]) for name, cells in found.rows.items()}
    assert whys["hangs"] == ("starting", "has not called started() yet")
    assert whys["ends"] == ("done", "returned")
    assert whys["used"][0] == "draining"
    assert whys["used"][1].startswith("stops after its dependents (")
    assert whys["user"][0] == "stopping"
    assert whys["user"][1]


async def test_a_failed_one_and_a_stuck_one_say_so() -> None:
    report = installed({"a": Manifold(start)})
    one = report.manifolds["a"]

    def why(**changes: object) -> str:
        changed = one._replace(**changes)  # type: ignore[arg-type]  # whatever is to be changed
        return Reader(page("x", report._replace(manifolds={"a": changed}))).rows["a"][2]

    assert why(state="failed", why="OSError: no") == "restarted too often (OSError: no)"
    stuck = why(state="stopping", stuck=("a.py:1 in f", "b.py:2 in g"), stop_cause="restart")
    assert stuck == "is stuck at b.py:2 in g (restart)"
    assert why(state="stopping", stop_cause="restart()") == "restart()"


def test_the_states_are_counted() -> None:
    found = Reader(page("shop", many(30)))
    [chip] = [tag for tag in found.attributes("button") if "data-only" in tag]

    assert chip["data-only"] == "waiting"
    assert "waiting 30" in found.text


def test_an_engine_that_dies_says_why() -> None:
    tomb = TombReport("shop", "dying", "OSError: disk", (), 0, cancelled=False)
    report = many(1)

    assert "the engine is" not in page("shop", report)
    dying = page("shop", report._replace(tomb=tomb))
    assert "the engine is dying: OSError: disk" in dying


def test_an_engine_without_manifolds_has_a_page() -> None:
    assert "This engine has no manifolds." in page("shop", installed({}))


def test_actions_are_offered_to_those_who_may() -> None:
    [without] = Reader(page("shop", many(1))).attributes("body")
    [with_] = Reader(page("shop", many(1), actions=True)).attributes("body")

    assert "data-actions" not in without
    assert "data-actions" in with_


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 d"),
        (864000, "10 d"),
    ],
)
def test_a_span_of_time_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- what it must not do ---------------------------------------------------------------------------


async def test_names_and_messages_are_never_markup() -> None:
    manifolds = {NASTY: failing(ValueError(NASTY)), "b": Manifold(start, inputs=(NASTY,))}
    async with open_engine(manifolds, settle_within=None) as engine:
        await wait_all_tasks_blocked()
        report = engine.report()._replace(name=NASTY)
        text = page(NASTY, report, actions=True)
    found = Reader(text)

    assert set(found.rows) == {NASTY, "b"}
    assert "\x1b" not in text.replace(f'data-name="{NASTY[0]}', "").partition("<tbody")[0]
    assert [tag.get("src") for tag in found.attributes("script")] == ["page.js"]
    assert all(cell.isprintable() for cells in found.rows.values() for cell in cells)
    plain = Reader(page("shop", many(2), actions=True))
    kinds = {tag for tag, _ in plain.tags} | {"span"}  # with a delay
    assert {tag for tag, _ in found.tags} <= kinds


@pytest.mark.parametrize("make", [locked, lambda: page(NASTY, many(3), actions=True)])
def test_nothing_in_a_page_needs_more_than_its_policy_allows(make: Callable[[], str]) -> None:
    found = Reader(make())

    for tag, attributes in found.tags:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert "//" not in (attributes.get("src") or attributes.get("href") or "")
    assert "unsafe" not in POLICY
    assert b"@import" not in CSS
    assert b"//" not in re.sub(rb"(?m)^\s*//.*$|\s// .*$", b"", SCRIPT).replace(
        b"http://www.w3.org/2000/svg", b""
    )
    made = rb"innerHTML\s*[+]?=[^=]|outerHTML|insertAdjacentHTML|eval\(|document\.write|setHTML"
    assert not re.search(made, SCRIPT)


def test_a_locked_page_tells_nothing_and_has_no_field_that_a_browser_would_send() -> None:
    found = Reader(locked())

    assert found.rows == {}
    [body] = found.attributes("body")
    assert "data-locked" in body
    assert not [field for field in found.attributes("input") if "name" in field]


def test_a_long_message_is_cut() -> None:
    one = many(1).manifolds["m0"]._replace(why="x" * 10_000)
    found = Reader(page("shop", many(1)._replace(manifolds={"m0": one})))

    assert len(found.rows["m0"][2]) < 300


async def test_a_mask_hides_what_messages_say() -> None:
    broken = {"db": failing(ValueError("password 1234"))}
    async with open_engine(broken, settle_within=None) as engine:
        await wait_all_tasks_blocked()
        report = engine.report()

    assert "1234" in page("x", report)
    assert "1234" not in page("x", report, mask=lambda text: text.replace("1234", "${PASSWORD}"))


# -- numbers ---------------------------------------------------------------------------------------


def test_little_has_to_be_read_before_the_first_row() -> None:
    head = page("shop", many(1000)).partition("<tr data-name")[0]

    assert len(head.encode()) + len(CSS) + len(SCRIPT) <= MOST_BYTES


def test_a_page_comes_in_parts() -> None:
    report = many(1000)
    found = list(parts("shop", report))

    assert "".join(found) == page("shop", report)
    assert len(found) > 30


def test_a_thousand_rows_are_made_in_time() -> None:
    """Generous, for a busy machine: what it takes on a quiet one is told in the documentation."""
    report = many(1000)
    times: list[float] = []
    for _ in range(3):
        begin = time.process_time()
        page("shop", report)
        times.append(time.process_time() - begin)

    assert min(times) < 0.2
