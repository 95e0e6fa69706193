"""Ask the questions; print a table, write a JSON file, and say whether the bars are held."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from ._method import Question, Result, Spread, answers, machine

FILES = ("tomb", "catacomb", "engine", "growth", "bounce", "restart", "memory", "imports")
LATEST = Path(__file__).parent / "results" / "latest.json"
RUNS = 7
QUICK_RUNS = 2
QUICK_SIZE = 20


def main(args: Sequence[str] | None = None) -> int:
    """Run the command; 1 if a bar that was to be checked is missed."""
    options = parser().parse_args(args)
    facts = machine()
    print(", ".join(f"{name} {fact}" for name, fact in facts.items()))
    print("each side per worker, ratio = ours / raw Trio; median (min-max). Lower is better.")
    print("Other load on the machine disturbs the numbers; see benchmarks/README.md.\n")
    print(row("question", "n", "unit", "ours", "raw Trio", "ratio", "difference"))
    results: list[Result] = []
    for result in ask(options.files or FILES, options.runs, quick=options.quick):
        results.append(result)
        print(show(result), flush=True)
    if options.results is not None:
        options.results.parent.mkdir(parents=True, exist_ok=True)
        data = {"machine": facts, "results": [result.plain() for result in results]}
        options.results.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return check(results) if options.check else 0


def ask(files: Sequence[str], runs: int, *, quick: bool = False) -> Iterator[Result]:
    """Ask all questions of `files`, each at all its sizes."""
    for file in files:
        questions: list[Question] = import_module(f".{file}", __package__).QUESTIONS
        for question in questions:
            if quick:
                yield from answers(question, min(QUICK_SIZE, *question.sizes, 10**9), QUICK_RUNS)
                continue
            for n in question.sizes:
                yield from answers(question, n, max(runs, question.runs or 0))


def check(results: Sequence[Result]) -> int:
    """Print each bar with PASS or FAIL; 1 if there is a FAIL."""
    print()
    for result in results:
        if result.bar is not None:
            verdict = "PASS" if result.passed else "FAIL"
            unit = f" {result.unit}" if result.bar.of == "difference" else ""
            print(
                f"{verdict}  {result.question}, n = {result.n}: {result.bar.of} "
                f"{result.value:.2f} (bar {result.bar.limit:g}{unit})"
            )
    missed = sum(not result.passed for result in results)
    print(f"\n{missed} of {sum(result.bar is not None for result in results)} bars missed")
    return 1 if missed else 0


def parser() -> argparse.ArgumentParser:
    """Return what understands the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help=f"ask only these: {', '.join(FILES)}"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument(
        "--runs", type=at_least_7, default=RUNS, help=f"rounds of each, at least {RUNS}"
    )
    parser.add_argument(
        "--results", type=Path, metavar="PATH", help="where to write the JSON", default=LATEST
    )
    return parser


def at_least_7(text: str) -> int:
    """Read a number of rounds."""
    runs = int(text)
    if runs < RUNS:
        msg = f"fewer than {RUNS} rounds say nothing; --quick is the smoke test"
        raise argparse.ArgumentTypeError(msg)
    return runs


def show(result: Result) -> str:
    """Return one line of the table."""
    return row(
        result.question,
        str(result.n),
        result.unit,
        spread(result.ours),
        spread(result.floor),
        spread(result.ratio, 2),
        spread(result.difference),
    )


def spread(values: Spread, digits: int = 1) -> str:
    """Show a median with its minimum and maximum."""
    return f"{values.median:.{digits}f} ({values.min:.{digits}f}-{values.max:.{digits}f})"


def row(*cells: str) -> str:
    """Line up one row of the table."""
    widths = (28, 6, 4, 22, 22, 18, 20)
    left, *right = (
        f"{cell:<{width}}" if i in (0, 2) else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([left, *right]).rstrip()


if __name__ == "__main__":
    sys.exit(main())
