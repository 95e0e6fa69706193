"""Does a manifold cost more among many than among few?

The cost per manifold among n, over the cost among a tenth of them, as `engine.py` measures it. Raw
Trio grows as well, by the garbage collector and the processor's caches; what must not grow is how
much we grow beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import engine
from ._method import Bar, Question, Trial
from ._shapes import ANY_SIZE
from ._trio import in_trio


def growth(trial: Trial) -> Trial:
    """Make a trial of the growth of another."""

    def ratio(n: int) -> Mapping[str, float]:
        few, many = trial(max(1, n // 10)), trial(n)
        return {what: many[what] / few[what] for what in many}

    return ratio


QUESTIONS = [
    Question(
        name=f"growth, {name}",
        ours=growth(in_trio(engine.ours, shape)),
        floor=growth(in_trio(engine.floor, shape)),
        sizes=(10000,),
        bars={"start": Bar(limit=1.25), "stop": Bar(limit=1.25)},
        unit="x",
        against="raw Trio's own growth",
    )
    for name, shape in ANY_SIZE.items()
    if name != "independent"
]
