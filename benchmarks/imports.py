"""How long does it take to import trioworker, beyond importing Trio?

In fresh interpreters, each timing the import alone, so without what it takes to start Python.
"""

from __future__ import annotations

import subprocess
import sys

from ._method import Bar, Question, Trial

CODE = """
from time import perf_counter
began = perf_counter()
import {module}
print(1000 * (perf_counter() - began))
"""


def importing(module: str) -> Trial:
    """Make a trial that imports `module` in an interpreter of its own, in milliseconds."""

    def trial(n: int) -> dict[str, float]:
        times = [
            float(subprocess.check_output([sys.executable, "-c", CODE.format(module=module)]))
            for _ in range(n)
        ]
        return {"trioworker": sum(times) / n}

    return trial


QUESTIONS = [
    Question(
        name="imports",
        ours=importing("trioworker"),
        floor=importing("trio"),
        sizes=(1,),
        bars={"trioworker": Bar(limit=15.0, of="difference")},
        unit="ms",
        runs=21,
    )
]
