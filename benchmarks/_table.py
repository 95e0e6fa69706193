"""What is printed: one line for each answer, the peers side by side, and the bars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ._method import Growth, Result, Spread
from ._peers import PEERS, Answer

WIDTHS = (44, 6, 4, 24, 24, 18, 22)


def heading() -> str:
    """Return the heading of the first table."""
    cells = ("question", "n", "unit", "ours", "floor", "ratio", "difference")
    return f"Each side per worker: median (min-max). Lower is better.\n{row(*cells)}"


def row(*cells: str) -> str:
    """Line up one row of the table."""
    return "  ".join(
        f"{cell:<{width}}" if i in (0, 2) else f"{cell:>{width}}"
        for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ).rstrip()


def spread(values: Spread | None, digits: int = 1) -> str:
    """Show a median with its minimum and maximum."""
    if values is None:
        return "-"
    return f"{values.median:.{digits}f} ({values.min:.{digits}f}-{values.max:.{digits}f})"


def result_line(result: Result, title: str = "") -> str:
    """Return one line of the table."""
    return row(
        title or result.title,
        str(result.n),
        result.unit,
        spread(result.ours),
        spread(result.floor),
        spread(result.ratio, 2),
        spread(result.difference),
    )


def growth_line(growth: Growth) -> str:
    """Return one line about a growth."""
    return (
        f"{growth.title}: from n = {growth.sizes[0]} to {growth.sizes[-1]} the cost per worker "
        f"grows as n^{growth.ours.median:.2f}, the floor's as n^{growth.floor.median:.2f}"
    )


def peer_line(answer: Answer) -> str:
    """Return one line about a peer."""
    if answer.result is None:
        return f"{answer.peer}, {answer.title}: {answer.says}"
    return result_line(answer.result, f"{answer.peer}, {answer.title}{'*' * bool(answer.says)}")


def peer_table(results: Sequence[Result], answers: Sequence[Answer]) -> str:
    """Return all peers' ratios side by side, each to the floor of its own process."""
    names = [peer.name for peer in PEERS if any(a.peer == peer.name for a in answers)]
    versions = {a.peer: a.version for a in answers if a.version}
    runtimes = {peer.name: peer.runtime for peer in PEERS}
    width = max(16, *map(len, names)) if names else 16

    def line(title: str, n: str, cells: Sequence[str]) -> str:
        return f"{title:<40}{n:>6}" + "".join(f"{cell:>{width}}" for cell in cells)

    lines = [
        "Side by side: each one's ratio to the floor of its own process and runtime, medians.",
        "(* not a feature of it: made by hand; -- it lacks this; ! it failed or is not here)",
        line("", "n", ["trioworker", *names]),
        line("", "", ["", *(versions.get(name, "") for name in names)]),
        line("", "", ["trio", *(runtimes[name] for name in names)]),
    ]
    for result in results:
        asked = {a.peer: a for a in answers if a.is_about(result)}
        if asked:
            cells = [cell(asked.get(name)) for name in names]
            lines.append(line(result.title, str(result.n), [number(result), *cells]))
    return "\n".join([*lines, *reasons(answers)])


def reasons(answers: Sequence[Answer]) -> list[str]:
    """Return why some have no number: what several lack for one reason in one line."""
    lacking: dict[str, dict[str, None]] = defaultdict(dict)
    failed: list[str] = []
    for answer in answers:
        if answer.is_lack:
            lacking[answer.says][answer.peer] = None
        elif answer.result is None:
            failed.append(f"! {answer.peer}, {answer.title}: {answer.says}")
    return [*failed, *(f"-- {says}: {', '.join(peers)}" for says, peers in lacking.items())]


def number(result: Result) -> str:
    """Return the ratio, or the difference where that is what counts."""
    if result.ratio is None:
        return f"+{result.difference.median:.3g} {result.unit}"
    return f"{result.ratio.median:.2f}"


def cell(answer: Answer | None) -> str:
    """Return what the side-by-side table says about one peer."""
    if answer is None:
        return ""
    if answer.result is None:
        return "--" if answer.is_lack else "!"
    return number(answer.result) + "*" * bool(answer.says)


def check(results: Sequence[Result]) -> int:
    """Print each bar with PASS or FAIL; 1 if there is a FAIL."""
    print()
    for result in results:
        if result.bar is not None:
            verdict = "PASS" if result.passed else "FAIL"
            unit = f" {result.unit}" if result.bar.of != "ratio" else ""
            print(
                f"{verdict}  {result.title}, n = {result.n}: {result.bar.of} "
                f"{result.value:.2f} (bar {result.bar.limit:g}{unit})"
            )
    missed = sum(not result.passed for result in results)
    print(f"\n{missed} of {sum(result.bar is not None for result in results)} bars missed")
    return 1 if missed else 0
