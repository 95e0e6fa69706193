"""The benchmarks run, and answer in the promised form. What they measure is not asserted."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.__main__ import FILES, ask, check, main
from benchmarks._method import Bar, Question, Result, Spread, answers

pytestmark = pytest.mark.full  # seconds each: they measure

SIZE = 3


def result(*, ours: float, bar: Bar | None) -> Result:
    trial = {"work": ours}.copy
    question = Question(
        name="q",
        ours=lambda _: trial(),
        floor=lambda _: {"work": 2.0},
        sizes=(1,),
        bars={"work": bar} if bar else {},
    )
    (answer,) = answers(question, n=1, runs=3)
    return answer


@pytest.mark.parametrize("file", FILES)
def test_every_question_is_answered_for_each_thing_it_measures(file: str) -> None:
    questions: list[Question] = import_module(f"benchmarks.{file}").QUESTIONS
    assert questions
    for question in questions:
        answered = list(answers(question, n=1 if question.unit == "ms" else SIZE, runs=1))
        assert {r.question.removeprefix(f"{question.name}: ") for r in answered} >= set(
            question.bars
        )
        for answer in answered:
            for spread in (answer.ours, answer.floor, answer.ratio):
                assert 0 < spread.min <= spread.median <= spread.max


def test_every_file_is_asked() -> None:
    folder = Path(import_module("benchmarks").__file__ or "").parent
    assert sorted(p.stem for p in folder.glob("[!_]*.py")) == sorted(FILES)


def test_quick_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "results.json"
    assert main(["tomb", "catacomb", "--quick", "--results", str(path)]) == 0
    out = capsys.readouterr().out
    data = json.loads(path.read_text())

    assert "catacomb: stop" in out
    assert "gc on" in out
    assert set(data) == {"machine", "results"}
    assert [r["question"] for r in data["results"]] == [
        "tomb: life",
        "catacomb: add",
        "catacomb: stop",
    ]
    first = data["results"][0]
    assert set(first) == {
        *("question", "n", "unit", "runs", "ours", "floor", "ratio", "difference"),
        *("bar", "peers"),
    }
    assert set(first["ratio"]) == {"median", "min", "max"}
    assert set(first["bar"]) == {"of", "limit", "value", "passed"}


def test_fewer_than_7_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["tomb", "--runs", "3"])
    assert "fewer than 7 rounds" in capsys.readouterr().err


def test_a_ratio_is_taken_pair_by_pair() -> None:
    answer = result(ours=3.0, bar=None)
    assert answer.ratio == Spread(1.5, 1.5, 1.5)
    assert answer.difference == Spread(1.0, 1.0, 1.0)


def test_check_fails_when_a_bar_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    held = result(ours=3.0, bar=Bar(limit=1.5))
    missed = result(ours=3.0, bar=Bar(limit=0.5, of="difference"))
    unbarred = result(ours=9.0, bar=None)

    assert check([held, unbarred]) == 0
    assert check([held, missed, unbarred]) == 1
    out = capsys.readouterr().out
    assert "PASS  q: work, n = 1: ratio 1.50 (bar 1.5)" in out
    assert "FAIL  q: work, n = 1: difference 1.00 (bar 0.5 us)" in out
    assert "1 of 2 bars missed" in out


def test_a_bar_holds_at_its_size_only() -> None:
    assert result(ours=3.0, bar=Bar(limit=0, at=2)).bar is None
    assert result(ours=3.0, bar=Bar(limit=0, at=1)).bar is not None


def test_the_quick_sizes_are_no_larger_than_the_real_ones() -> None:
    assert [r.n for r in ask(["imports"], 7, quick=True)] == [1]
