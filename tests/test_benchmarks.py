"""The benchmarks run, and answer in the promised form. What they measure is not asserted."""

import gc
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio

from benchmarks import __main__ as command, _method, _peers, engine, events, idle, renewals
from benchmarks.__main__ import FILES, as_json, ask, main, questions_of
from benchmarks._charts import LEFT, WIDTH, chart
from benchmarks._method import Bar, Question, Result, Spread, answers, exponent, growths
from benchmarks._pages import LATEST, PAGES, pages
from benchmarks._peers import NOT_ASKED, PEERS, Answer, Peer, ask_peer
from benchmarks._shapes import ANY_SIZE, ONE_SIZE, layered
from benchmarks._table import check, peer_table
from trioworker import Engine, Manifold

SIZE = 3
SPREAD = {"median", "min", "max"}
MAY_BE_NOTHING = {"idle", "waiters", "renewals"}


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Idle for a moment only, and spare the collector, which is called often, what pytest holds."""
    monkeypatch.setattr(idle, "SECONDS", 0.01)
    monkeypatch.setattr(renewals, "TERM", 0.02)
    monkeypatch.setattr(renewals, "SECONDS", 0.02)
    gc.freeze()
    yield
    gc.unfreeze()


def result(*, ours: float, bar: Bar | None = None, floor: float = 2.0, n: int = 1) -> Result:
    return Result(
        question="q, kind",
        what="work",
        n=n,
        unit="us",
        against="raw Trio",
        pairs=[(ours, floor)] * 3,
        bar=bar,
    )


# -- the questions


@pytest.mark.parametrize("file", FILES)
def test_every_question_is_answered_for_each_thing_it_measures(file: str) -> None:
    questions = questions_of(file)
    assert questions
    for question in questions:
        n = question.sizes[0] if question.is_fixed else SIZE
        answered = list(answers(question, n=n, rounds=1))
        assert {answer.what for answer in answered} >= set(question.bars)
        for answer in answered:
            least = 0 if file in MAY_BE_NOTHING else 1e-9
            for spread in (answer.ours, answer.floor):
                assert least <= spread.min <= spread.median <= spread.max


def test_every_file_is_asked_and_no_two_questions_have_one_name() -> None:
    folder = Path(import_module("benchmarks").__file__ or "").parent
    assert sorted(p.stem for p in folder.glob("[!_]*.py")) == sorted(FILES)

    names = [question.name for file in FILES for question in questions_of(file)]
    assert len(names) == len(set(names))
    assert [name.partition(",")[0] for name in names] == [
        file for file in FILES for _ in questions_of(file)
    ]


def test_the_quick_sizes_are_no_larger_than_the_real_ones() -> None:
    assert {r.n for r in ask(["tomb", "catacomb"], 7, quick=True)} == {20}
    fixed = [q for file in FILES for q in questions_of(file) if q.is_fixed]
    assert {q.sizes for q in fixed} == {(1,), (29,), (32,)}
    assert all(question.peers_at == question.sizes[0] for question in fixed)


def test_the_graphs_have_no_cycles_and_the_random_one_is_always_the_same() -> None:
    for shape in ANY_SIZE.values():
        assert all(needed < i for i, needs in enumerate(shape(50)) for needed in needs)
    assert layered(50) == layered(50)
    assert max(map(len, layered(1000))) == 4
    assert len(ONE_SIZE) == 2
    for shape in ONE_SIZE.values():
        engine_of_it = Engine()
        engine_of_it.install_all(
            {
                str(i): Manifold(sleep, inputs=list(map(str, needs)))
                for i, needs in enumerate(shape(0))
            }
        )  # which refuses a cycle, and a name that is not there


async def sleep(get: object, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def test_an_engine_tells_its_subscribers_as_many_steps_as_the_floor_does() -> None:
    engine = Engine()
    engine.install_all({str(i): Manifold(sleep, inputs=("0",) if i else ()) for i in range(3)})
    seen: Counter[str] = Counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        with engine.events() as stream:
            engine.restart("0")
            await engine.wait_settled()
        async for transition in stream:
            seen[transition.manifold] += 1
        engine.kill()
    assert set(seen.values()) == {len(events.DOWN) + len(events.UP)}


async def test_a_wake_up_is_counted() -> None:
    async def poll() -> None:
        while True:  # noqa: ASYNC110 - just what is to be found out
            await trio.sleep(0.001)

    assert await idle.WakeUps.per_second() == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        assert await idle.WakeUps.per_second() > 0
        nursery.cancel_scope.cancel()


async def test_a_lease_that_lapses_and_one_that_is_another_s_are_counted() -> None:
    async def renew(name: str, term: float) -> tuple[int, float]:
        await trio.lowlevel.checkpoint()
        times[name] += 1
        late = 2 * term if name == "late" and times[name] == 2 else 0
        return times[name] if name == "lost" else 1, trio.current_time() + term + late

    times: Counter[str] = Counter()
    names = ["late", "lost", "kept", "kept as well"]
    costs = await renewals.renewed(names, renew, term=0.2, seconds=0.4)
    assert costs["lapsed"] == 50
    assert 0 < costs["of a core"] <= 110


def test_the_promise_about_renewals_is_looked_after_by_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    renewals.main(3, 1.0, 0.1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0][6:] for line in lines] == ["memory", "sqlite"]
    assert "3 leases of 1 s for 0.1 s: 0 % lapsed" in lines[0]


# -- the method


def test_a_ratio_is_taken_pair_by_pair() -> None:
    ours, floor = iter([0, 3.0, 8.0, 30.0]), iter([0, 2.0, 2.0, 5.0])
    question = Question(
        name="q",
        ours=lambda _: {"work": next(ours)},
        floor=lambda _: {"work": next(floor)},
        sizes=(1,),
    )
    (answer,) = answers(question, n=1, rounds=3)  # the first round does not count
    assert answer.ratio == Spread(4.0, 1.5, 6.0)
    assert answer.difference == Spread(6.0, 1.0, 25.0)


def test_the_time_of_other_programs_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_method, "process_time", iter([10.0, 10.002]).__next__)
    monkeypatch.setattr(_method, "perf_counter", iter([50.0, 50.008]).__next__)
    for total in ("all_real", "all_busy"):
        monkeypatch.setattr(_method.Stopwatch, total, 0.0)
    assert _method.Stopwatch(1000).read() == pytest.approx(2.0)  # microseconds for each
    assert _method.Stopwatch.undisturbed() == pytest.approx(0.25)


def test_there_is_no_ratio_to_a_floor_that_costs_nothing() -> None:
    bar = Bar(limit=0.0, of="difference")
    assert result(ours=0.0, floor=0.0).ratio is None
    assert result(ours=0.0, floor=0.0, bar=bar).passed
    assert not result(ours=0.5, floor=0.0, bar=bar).passed


def test_a_bar_holds_at_its_sizes_only() -> None:
    bars = {"a": Bar(limit=0, at=(2, 3)), "b": Bar(limit=0, at=(1, 2)), "c": Bar(limit=0)}
    question = Question(
        name="q",
        ours=lambda _: dict.fromkeys("abcd", 3.0),
        floor=lambda _: dict.fromkeys("abcd", 2.0),
        sizes=(1,),
        bars=bars,
    )
    given = {answer.what: answer.bar for answer in answers(question, n=1, rounds=1)}
    assert given == {"a": None, "b": bars["b"], "c": bars["c"], "d": None}


def test_growth_is_fitted_over_at_least_three_sizes() -> None:
    assert exponent((1, 10, 100), (5, 50, 500)) == pytest.approx(1.0)
    assert exponent((1, 4, 16), (1, 2, 4)) == pytest.approx(0.5)

    grown = [result(ours=7.0 * n, floor=7.0, n=n) for n in (1, 10, 100)]
    (growth,) = growths(grown)
    assert growth.ours.median == pytest.approx(1.0)
    assert growth.floor.median == pytest.approx(0.0)
    assert growth.beyond.median == pytest.approx(1.0)
    assert not growths(grown[:2])


# -- the command


def test_quick_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = LATEST.read_bytes() if LATEST.exists() else None
    path = tmp_path / "new" / "results.json"
    assert main(["tomb", "catacomb", "--quick", "--results", str(path)]) == 0
    out = capsys.readouterr().out
    data = json.loads(path.read_text())

    assert "catacomb: stop" in out
    assert "gc on" in out
    assert "of the time measured" in out
    assert set(data) == {"machine", "results", "growth"}
    assert [(r["question"], r["what"]) for r in data["results"]] == [
        ("tomb", "life"),
        ("catacomb", "add"),
        ("catacomb", "stop"),
    ]
    first = data["results"][0]
    assert set(first) == {
        *("question", "what", "n", "unit", "against", "ours", "floor", "ratio", "difference"),
        *("pairs", "bar", "peers"),
    }
    assert set(first["ratio"]) == SPREAD
    assert set(first["bar"]) == {"of", "limit", "value", "passed"}
    assert set(data["machine"]) == {
        *("date", "python", "trio", "trioworker", "system", "processor", "cores", "load", "gc"),
        "undisturbed",
    }
    assert (LATEST.read_bytes() if LATEST.exists() else None) == before


def silent(peer: Peer, question: Question, rounds: int) -> Iterator[Answer]:
    return iter(())


@pytest.mark.parametrize(
    "args", [["tomb", "--quick"], ["tomb", "--peers", "none"], ["--quick"], []]
)
def test_only_a_whole_run_is_kept(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tomb,) = questions_of("tomb")
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(command, "FILES", ("tomb",))
    monkeypatch.setattr(command, "PEERS", PEERS[:1])
    monkeypatch.setattr(command, "LATEST", tmp_path / "latest.json")
    monkeypatch.setattr(command, "write_pages", shown.append)
    monkeypatch.setattr(command, "ask_peer", silent)
    monkeypatch.setattr(command, "questions_of", {"tomb": [replace(tomb, sizes=(SIZE,))]}.get)
    assert main(args) == 0
    kept = [path.name for path in tmp_path.iterdir()]
    assert kept == ([] if args else ["latest.json"])
    assert len(shown) == len(kept)


@pytest.mark.parametrize(
    "args, words",
    [
        (["tomb", "--rounds", "3"], "fewer than 7 rounds"),
        (["--peers", "nobody"], "no peer is called nobody; there are anyio, "),
    ],
)
def test_what_cannot_be_asked_is_refused(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(args)
    assert words in capsys.readouterr().err


def test_check_fails_when_a_bar_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    held = result(ours=3.0, bar=Bar(limit=1.5))
    missed = result(ours=3.0, bar=Bar(limit=0.5, of="difference"))
    unbarred = result(ours=9.0, bar=None)

    assert check([held, unbarred]) == 0
    assert check([held, missed, unbarred]) == 1
    out = capsys.readouterr().out
    assert "PASS  q, kind: work, n = 1: ratio 1.50 (bar 1.5)" in out
    assert "FAIL  q, kind: work, n = 1: difference 1.00 (bar 0.5 us)" in out
    assert "1 of 2 bars missed" in out


# -- peers


class _AnyName(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything


class Anything(metaclass=_AnyName):
    """Stands for whatever a peer offers, which is not installed here."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_answers_every_question_or_says_what_it_lacks(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aiomisc", "anyio", "asphalt", "asphalt.core", "mode", "tricycle", "triotp"):
        stand_in = ModuleType(name)
        stand_in.__getattr__ = lambda _: Anything  # type: ignore[method-assign] # as PEP 562 has it
        monkeypatch.setitem(sys.modules, name, stand_in)
    module = f"benchmarks.peers.{peer.module}"
    try:
        answered = import_module(module).TRIALS
        floors = import_module(module).FLOORS
    finally:
        sys.modules.pop(module, None)
        logging.disable(logging.NOTSET)  # some are noisy

    names = {q.name for file in FILES if file not in NOT_ASKED for q in questions_of(file)}
    lacking = {n for n in names if n in peer.lacks or n.partition(",")[0] in peer.lacks}
    assert set(answered) == names - lacking
    assert floors is None or set(answered) <= set(floors)


@pytest.mark.parametrize("peer", [p for p in PEERS if p.distribution], ids=lambda peer: peer.name)
def test_a_peer_is_pinned_with_hashes_and_without_addresses(peer: Peer) -> None:
    folder = _peers.REQUIREMENTS
    pins = (folder / f"{peer.name}.txt").read_text()
    (wanted,) = [
        line
        for line in (folder / f"{peer.name}.in").read_text().splitlines()
        if line.startswith(peer.distribution or "")
    ]
    assert f"{peer.distribution}=={wanted.partition('==')[2]} " in pins
    assert "--hash=sha256:" in pins
    assert "://" not in pins


@pytest.mark.full
def test_a_peer_is_asked_in_a_process_of_its_own() -> None:
    (tomb,) = questions_of("tomb")
    (answer,) = ask_peer(PEERS[-1], replace(tomb, sizes=(SIZE,)), rounds=2)
    assert PEERS[-1].name == "asyncio"
    assert answer.title == "tomb: life"
    assert answer.version == ".".join(map(str, sys.version_info[:3]))
    assert answer.result is not None
    assert answer.result.against == "raw asyncio"
    assert len(answer.result.pairs) == 2


@pytest.mark.full
def test_a_peer_that_fails_says_how() -> None:
    question = Question(name="unheard of", ours=dict, floor=dict, sizes=(1,))  # type: ignore[arg-type] # never called
    (answer,) = ask_peer(PEERS[-1], question, rounds=1)
    assert answer.result is None
    assert not answer.is_lack
    assert answer.says == "KeyError: 'unheard of'"


def test_an_error_is_told_without_the_places_it_names() -> None:
    said = f"Warning\nERROR: no scheme://there/x, see {_peers.ROOT}/build/peers\n\n"
    assert _peers.last_line(said) == "ERROR: no ... see /build/peers"


def test_a_peer_without_its_python_is_skipped_by_name_with_the_reason() -> None:
    peer = replace(PEERS[0], python="3.99")
    (answer,) = ask_peer(peer, questions_of("tomb")[0], rounds=1)
    assert answer.says == "not here: needs Python 3.99, which was not found"
    assert "! anyio, tomb: not here" in peer_table([result(ours=1.0)], [answer])


@pytest.mark.full
def test_a_peer_that_cannot_be_installed_is_skipped_by_name_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(_peers, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(_peers, "ENVIRONMENTS", tmp_path)
    (tmp_path / "anyio.txt").write_text(f"no-such-thing==1 --hash=sha256:{'0' * 64}\n")
    (answer,) = ask_peer(replace(PEERS[0]), questions_of("tomb")[0], rounds=1)
    assert answer.says.startswith("not here: cannot be installed: ")
    assert "no-such-thing" in answer.says


def test_what_a_peer_lacks_stands_in_the_table() -> None:
    (answer,) = ask_peer(PEERS[0], questions_of("report")[0], rounds=1)
    assert answer.is_lack
    assert answer.says == "no report of what it runs"
    assert answer.plain()["lacks"] == answer.says
    table = peer_table([replace(result(ours=1.0, n=1000), question="report")], [answer])
    *_, row, reason = table.splitlines()
    assert row.endswith("--")
    assert reason == "-- no report of what it runs: anyio"


# -- what the documentation shows


def sample() -> dict[str, Any]:
    ours = [result(ours=3.0, bar=Bar(limit=1.5)), result(ours=900.0, n=10), result(ours=0.002)]
    answered = Answer(
        peer="anyio",
        version="4",
        runtime="trio",
        question="q, kind",
        what="work",
        n=10,
        result=ours[1],
        says="by <hand>",
    )
    lacking = replace(
        answered, peer="mode-streaming", result=None, says="no <such> thing", is_lack=True
    )
    return as_json({"python": "3"}, ours, growths(ours), [answered, lacking])


def test_a_chart_has_a_row_for_each_answer_and_stays_within_its_frame() -> None:
    data = sample()["results"]
    picture = chart("q", data)
    root = ET.fromstring(picture)
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    dots = [float(dot.get("cx", "nan")) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]

    assert "work, n = 1" in words
    assert "anyio 4*, trio" in words
    assert "450" in words
    assert len(dots) == 2 + 4  # the legend's, and one for each
    assert all(LEFT <= dot <= WIDTH for dot in dots)
    assert "prefers-color-scheme: dark" in picture


def test_a_chart_of_differences_begins_at_nothing() -> None:
    bar = Bar(limit=0.0, of="difference")
    picture = chart("q", [{**result(ours=0.0, floor=0.0, bar=bar).plain(), "peers": {}}])
    assert "nan" not in picture
    assert f'cx="{LEFT:.1f}"' in picture


def test_the_page_gives_the_reason_where_a_peer_has_no_number() -> None:
    page = pages(sample())["results.md"]
    assert "| q, kind: work | 10 | 450.00 | 450.00 [1] | none [2] |" in page
    assert "1. by <hand>" in page
    assert "| q, kind: work | 1 | 1.5 | 1.50 | held |" in page


@pytest.mark.skipif(not LATEST.exists(), reason="no results have been kept")
def test_what_the_documentation_shows_is_drawn_from_the_latest_results() -> None:
    for name, text in pages(json.loads(LATEST.read_text(encoding="utf-8"))).items():
        assert (PAGES / name).read_text(encoding="utf-8") == text, (
            f"docs/benchmarks/{name} is stale: python -m benchmarks._pages"
        )


def test_the_engine_is_asked_about_the_real_agents() -> None:
    assert {f"engine, {name}" for name in ONE_SIZE} <= {q.name for q in engine.QUESTIONS}
