"""The points in the second package are where they are legal, and it leaves nothing behind."""

from __future__ import annotations

import ast
import logging
import sys

import pytest
import trio

from .explore import quiet
from .perturb import CHECK, CORE, ENTER, FOLDER, KINDS, NAME, Core, Rewriter, perturbed
from .scheduler import Trace


def places() -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for entry in CORE:
        path = FOLDER / entry
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            rewriter = Rewriter()
            rewriter.visit(ast.parse(file.read_text()))
            found[file.name] = rewriter.places
    return found


def test_every_await_of_the_core_has_its_kind() -> None:
    found = places()
    assert sum(map(len, found.values())) > 60
    kinds = {kind for file in found.values() for _, kind in file}
    assert kinds == {*KINDS.values(), "call", "leave", "turn"}
    entered = {(name, kind) for name, file in found.items() for _, kind in file if kind == ENTER}
    assert entered == {("_catacomb.py", ENTER)}
    assert {name for name, file in found.items() for _, kind in file if kind == CHECK} == {
        "_manifold.py",
        "_simple.py",
        "_watch.py",
    }


def test_the_points_are_there_and_follow_from_the_seed() -> None:
    with perturbed() as core:
        points_follow(core)


def points_follow(core: Core) -> None:
    async def story() -> None:
        tomb = core.api.Tomb()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tomb.wait)
            with tomb:
                pass

    def steps(seed: int | None) -> int:
        trace = Trace()
        if seed is not None:
            core.perturbation.begin(seed)
        try:
            trio.run(story, instruments=[trace])
        finally:
            core.perturbation.end()
        return len(trace.steps)

    usual = steps(None)
    counts = [steps(seed) for seed in range(40)]
    assert min(counts) == usual
    assert len(set(counts)) > 3
    assert counts == [steps(seed) for seed in range(40)]


def test_afterwards_nothing_of_the_second_package_remains() -> None:
    modules, finders = set(sys.modules), list(sys.meta_path)
    level = logging.root.manager.disable
    with perturbed() as core, quiet():
        assert core.api.__name__ == NAME
        assert core.api.Tomb is not sys.modules["trioworker"].Tomb
    assert not [name for name in sys.modules if name.startswith(NAME)]
    assert {name for name in modules if name.startswith("trioworker")} <= set(sys.modules)
    assert sys.meta_path == finders
    assert logging.root.manager.disable == level


def test_a_fault_that_can_no_longer_be_planted_says_so() -> None:
    with (
        pytest.raises(LookupError, match="has not once, but 0 times"),
        perturbed({"_tomb.py": ("no such line", "")}),
    ):
        pass
