"""What the documentation shows: a chart for each question, and one page of tables.

    python -m benchmarks._pages

writes them again from `results/latest.json`, as a whole run of the benchmarks does.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._charts import chart

BENCHMARKS = Path(__file__).resolve().parent
LATEST = BENCHMARKS / "results" / "latest.json"
PAGES = BENCHMARKS.parent / "docs" / "benchmarks"
TABLE = "results.md"


def pages(data: dict[str, Any]) -> dict[str, str]:
    """Return what is to be in `docs/benchmarks`, by file name."""
    questions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for result in data["results"]:
        questions[result["question"]].append(result)
    charts = {f"{slug(name)}.svg": chart(name, results) for name, results in questions.items()}
    return {**charts, TABLE: page(data, questions)}


def page(data: dict[str, Any], questions: dict[str, list[dict[str, Any]]]) -> str:
    """Return the tables, and the charts beside them."""
    lines = ["<!-- Written by benchmarks/_pages.py from benchmarks/results/latest.json. -->", ""]
    lines.append("Taken on: " + ", ".join(f"{key} {fact}" for key, fact in data["machine"].items()))
    lines += ["", "## Peers", "", *peer_table(data["results"]), "", "## The bars", ""]
    lines += ["| question | n | bar | measured | |", "|---|---|---|---|---|"]
    for result in data["results"]:
        if bar := result["bar"]:
            unit = f" {result['unit']}" if bar["of"] != "ratio" else ""
            verdict = "held" if bar["passed"] else "**missed**"
            lines.append(
                f"| {title(result)} | {result['n']} | {bar['limit']:g}{unit} "
                f"| {bar['value']:.2f}{unit} | {verdict} |"
            )
    lines += ["", "## Growth", "", "| question | n | ours | floor |", "|---|---|---|---|"]
    for growth in data["growth"]:
        first, last = growth["sizes"][0], growth["sizes"][-1]
        ours, floor = growth["ours"]["median"], growth["floor"]["median"]
        lines.append(f"| {growth['title']} | {first} to {last} | {ours:+.2f} | {floor:+.2f} |")
    lines += ["", "## Question by question", ""]
    for name, results in questions.items():
        lines += [f"### {name}", "", f"![{name}](benchmarks/{slug(name)}.svg)", ""]
        lines += [*table(results), ""]
    return "\n".join(lines)


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return our own numbers about one question."""
    lines = ["| question | n | ours | floor | ratio | the floor is |", "|---|---|---|---|---|---|"]
    for result in results:
        unit = result["unit"]
        ratio = spread(result["ratio"], 2) if result["ratio"] else "-"
        lines.append(
            f"| {title(result)} | {result['n']} | {spread(result['ours'], 1)} {unit} "
            f"| {spread(result['floor'], 1)} {unit} | {ratio} | {result['against']} |"
        )
    return lines


def peer_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Return everybody's ratios side by side, and below it why some have none."""
    asked = [result for result in results if result["peers"]]
    peers = list(dict.fromkeys(name for result in asked for name in result["peers"]))
    heads = [head(name, asked) for name in peers]
    lines = [
        "| question | n | trioworker, on trio | " + " | ".join(heads) + " |",
        "|---" * (len(peers) + 3) + "|",
    ]
    notes: dict[str, int] = {}
    for result in asked:
        cells = [cell(result["peers"].get(name), notes) for name in peers]
        ours = number(result, result["unit"])
        lines.append(f"| {title(result)} | {result['n']} | {ours} | " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"{mark}. {note}" for note, mark in notes.items()]
    return lines


def head(name: str, results: Sequence[dict[str, Any]]) -> str:
    """Return a peer's name, version and runtime."""
    answers = [result["peers"][name] for result in results if name in result["peers"]]
    version = next((answer["version"] for answer in answers if answer["version"]), "")
    return f"{name} {version}".strip() + f", on {answers[0]['runtime']}"


def cell(answer: dict[str, Any] | None, notes: dict[str, int]) -> str:
    """Return what the table says about one peer, with the number of a note if there is one."""
    if answer is None:
        return ""
    said = answer.get("lacks") or answer.get("failed") or answer.get("by_hand")
    mark = f" [{notes.setdefault(said, len(notes) + 1)}]" if said else ""
    if "lacks" in answer:
        return f"none{mark}"
    if "failed" in answer:
        return f"failed{mark}"
    return number(answer, "") + mark


def number(answer: dict[str, Any], unit: str) -> str:
    """Return the ratio, or the difference where there is none."""
    if answer["ratio"]:
        return f"{answer['ratio']['median']:.2f}"
    return f"+{answer['difference']['median']:.3g} {unit}".strip()


def spread(values: dict[str, float], digits: int) -> str:
    """Show a median with its minimum and maximum."""
    low, high = values["min"], values["max"]
    return f"{values['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def title(result: dict[str, Any]) -> str:
    """Return the question, and what of it this is about."""
    return f"{result['question']}: {result['what']}"


def slug(name: str) -> str:
    """Return the name of a question as that of a file."""
    return name.replace(",", "").replace(" ", "-")


def write_pages(data: dict[str, Any]) -> None:
    """Write them all, and remove the charts of questions that are no longer asked."""
    PAGES.mkdir(parents=True, exist_ok=True)
    written = pages(data)
    for path in PAGES.glob("*.svg"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (PAGES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(json.loads(LATEST.read_text(encoding="utf-8")))
