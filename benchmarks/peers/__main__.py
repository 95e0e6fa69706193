"""Ask one peer one question; started by `_peers.py` in the peer's environment.

    python -m benchmarks.peers MODULE QUESTION N ROUNDS PATH

What the rounds cost is written to PATH; what is printed may be the peer's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from pathlib import Path
from platform import python_version

from benchmarks._method import Question, Trial, answers


def main(module: str, name: str, n: int, rounds: int, path: Path) -> None:
    """Ask, and write the answer or why there is none."""
    peer = import_module(f"benchmarks.peers.{module}")
    distribution: str | None = peer.DISTRIBUTION
    version = metadata.version(distribution) if distribution else python_version()
    trials: Mapping[str, Trial] = peer.TRIALS
    question = Question(name=name, ours=trials[name], floor=floor(peer.FLOORS, name), sizes=(n,))
    answer: dict[str, object] = {"version": version}
    try:
        results = list(answers(question, n, rounds))
        answer["pairs"] = {result.what: result.pairs for result in results}
    except Exception as error:  # noqa: BLE001 - another's failure is what we are to tell
        answer["failed"] = f"{type(error).__name__}: {error}".strip(": ")
    path.write_text(json.dumps(answer), encoding="utf-8")


def floor(floors: Mapping[str, Trial] | None, name: str) -> Trial:
    """Return the floor of a question: the peer's runtime's, or on Trio the question's own."""
    if floors is not None:
        return floors[name]
    questions: list[Question] = import_module(f"benchmarks.{name.partition(',')[0]}").QUESTIONS
    (found,) = (question for question in questions if question.name == name)
    return found.floor


if __name__ == "__main__":
    _, module, name, n, rounds, path = sys.argv
    main(module, name, int(n), int(rounds), Path(path))
