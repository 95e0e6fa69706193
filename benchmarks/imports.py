"""How long does it take to import trioworker, beyond importing Trio?

In fresh interpreters, each timing the import alone, so without what it takes to start Python.
"""

from __future__ import annotations

from ._method import Bar, Question, importing

QUESTIONS = [
    Question(
        name="imports",
        ours=importing("trioworker"),
        floor=importing("trio"),
        sizes=(1,),
        bars={"import": Bar(limit=15.0, of="difference")},
        unit="ms",
        against="import trio",
        rounds=21,
        is_fixed=True,
    )
]
