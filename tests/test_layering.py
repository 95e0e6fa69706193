"""The house keeps its floors: who may import whom, as a table, checked by parsing the imports.

Every import counts, also one inside a function or under TYPE_CHECKING: a reader has to follow it
just the same. The rules are pure functions over `{path: source}`, so that the second half of this
file can show each of them a violation and see it caught.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs
import pytest

import trioworker

# A module imports from its own floor or from below. The root package re-exports floors 0 to 3, so
# it counts as one of floor 3: what stands above may import from it, what stands below may not.
FLOORS = {
    0: {"_errors", "_util"},
    1: {"_worker", "_tomb", "_restart", "_report", "_groups"},
    2: {"_catacomb", "_simple", "_periodic", "_watch", "_runner", "_runner_config", "_named"},
    3: {"dependency", ""},
    4: {"patterns", "backends", "_drawing"},
    5: {"workers", "testing"},
    6: {"agent", "_demo"},
    7: {"_cli", "__main__"},
}

FLOOR = {module: floor for floor, modules in FLOORS.items() for module in modules}

# These decide and never wait: no Trio and no clock. So does every module called `_model`.
PURE = {
    "_restart",
    "_groups",
    "dependency._states",
    "dependency._graph",
    "dependency._report",
    "dependency._explain",
    "dependency._sequel",
    "_drawing",
    "workers.agent.introspection._access",
    "workers.agent.introspection._data",
}
NOT_IN_PURE = {"trio", "trio_util", "asyncio", "time", "datetime", "sched"}

# These are users of the framework like any other: they import what is public, and private modules
# of their own sub-package only. PRIVATE_ALLOWED has the exceptions, each with its reason.
PUBLIC_ONLY = {"workers", "testing", "agent", "_demo", "_cli"}
PRIVATE_ALLOWED = {
    ("workers", "_util"),  # as for those below: objects say where they are imported from
    ("testing", "_util"),  # messages name workers and refuse bad calls in one way everywhere
    ("agent", "_util"),  # its objects say that they live in it, as those of the packages below do
    ("_cli", "_drawing"),  # the command line and the page draw one picture
    ("workers", "_drawing"),  # likewise
    ("_cli", "_demo"),  # `trioworker demo` starts it, and nobody else is to import it
}

# A worker stands alone, unless it is named here: (the worker that imports, the one it imports).
SIBLINGS: set[tuple[str, str]] = {
    *(
        (f"workers.coordination.{user}", "workers.coordination.lease")  # what they are made of
        for user in ("leadership", "leaseexpiry", "singular")
    ),
    ("workers.coordination.gateflag", "workers.coordination.gate"),  # whose flag it is
    ("workers.coordination.flockfortress", "workers.coordination.fortress"),  # the same faces
    ("workers.coordination.housing", "workers.coordination.fortress"),  # which it visits
}

# What the base install brings, and who imports what an extra brings: one module each, which says
# how to install it when it is missing.
BASE = {"trio", "trio_util", "outcome", "attrs", "cattrs"}
OPTIONAL = {
    "apsw": {"backends.sqlite"},
    "cyclopts": {"_cli._app"},
    "h11": {"backends.etcd._connection", "backends.http"},
    "psycopg": {"backends.postgres"},
    "rich": {"_cli._render"},
    "structlog": {"agent._logging"},
}


@attrs.frozen
class Import:
    """One imported name. Our modules go without the package's name: `_tomb`, and "" is the root."""

    importer: str
    line: int
    target: str  # the module, or the top-level name of somebody else's
    ours: bool
    name: str  # what is taken out of the target, unless that is a module

    def __str__(self) -> str:
        what = ".".join(filter(None, [self.target, self.name])) if self.ours else self.target
        return f"{self.importer or 'trioworker'}:{self.line} imports {what or 'trioworker'}"


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")


def unit(module: str) -> str:
    """What the floor table lists: the first part of the module's name."""
    return module.partition(".")[0]


def worker(module: str) -> str:
    """`workers.coordination.gate` for the module and for all inside it; "" for any other."""
    parts = module.split(".")
    return ".".join(parts[:3]) if parts[0] == "workers" and len(parts) > 2 else ""


def imports(sources: Mapping[str, str]) -> Iterator[Import]:
    modules = {module_name(path) for path in sources}
    for path, source in sources.items():
        package = ["trioworker", *Path(path).parent.parts]
        for node in ast.walk(ast.parse(source, path)):
            if isinstance(node, ast.Import):
                wanted = [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                base += [node.module] if node.module else []
                wanted = [(".".join(base), alias.name) for alias in node.names]
            else:
                continue
            for target, name in wanted:
                top, _, inside = target.partition(".")
                if top != "trioworker":
                    found = top, False, name
                elif (submodule := f"{inside}.{name}".strip(".")) in modules:
                    found = submodule, True, ""
                else:
                    found = inside, True, name
                yield Import(module_name(path), node.lineno, *found)


def against_floors(found: Import) -> Iterator[str]:
    here, there = FLOOR[unit(found.importer)], FLOOR.get(unit(found.target), -1)
    if there == -1:
        yield f"{found}, which does not exist"
    if there > here:
        yield f"{found}, up from floor {here} to {there}"


def against_privacy(found: Import) -> Iterator[str]:
    here, there = unit(found.importer), unit(found.target)
    if here not in PUBLIC_ONLY or there == here or (here, there) in PRIVATE_ALLOWED:
        return
    if any(part.startswith("_") for part in [*found.target.split("."), found.name]):
        yield f"{found}, which is private"


def against_solitude(found: Import) -> Iterator[str]:
    pair = worker(found.importer), worker(found.target)
    if all(pair) and pair[0] != pair[1] and pair not in SIBLINGS:
        yield f"{found}, a sibling"


def against_purity(found: Import) -> Iterator[str]:
    pure = found.importer in PURE or found.importer.endswith("._model")
    if pure and found.target in NOT_IN_PURE:
        yield f"{found}, but is pure"


def against_pyproject(found: Import) -> Iterator[str]:
    if found.importer not in OPTIONAL.get(found.target, {found.importer}):
        yield f"{found}, which is for {', '.join(sorted(OPTIONAL[found.target]))} alone"
    if found.target not in {*BASE, *OPTIONAL, *sys.stdlib_module_names}:
        yield f"{found}, which is no dependency: see pyproject.toml, BASE and OPTIONAL"


def problems(sources: Mapping[str, str]) -> Iterator[str]:
    graph: dict[str, set[str]] = {}
    for module in map(module_name, sources):
        graph[module] = set()
        if unit(module) not in FLOOR:
            yield f"{module} is on no floor: give it one in FLOORS"

    for found in imports(sources):
        if unit(found.importer) not in FLOOR:
            continue
        if found.ours:
            graph[found.importer].add(found.target)
            rules = [against_floors, against_privacy, against_solitude]
        else:
            rules = [against_purity, against_pyproject]
        for rule in rules:
            yield from rule(found)

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib lists each module before the one that imports it.
        yield f"a cycle: {' -> '.join(module or 'trioworker' for module in error.args[1][::-1])}"


def test_the_house_keeps_its_floors() -> None:
    root = Path(trioworker.__file__).parent
    sources = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*.py"))
    }

    assert list(problems(sources)) == []


# -- the checker itself ----------------------------------------------------------------------------

FINE = {
    "__init__.py": "from ._tomb import Tomb as Tomb",
    "_errors.py": "import enum",
    "_tomb.py": "import trio; from ._errors import Dead",
    "dependency/__init__.py": "from ._engine import Engine as Engine",
    "dependency/_engine.py": "from .. import _errors; from . import _states; import outcome",
    "dependency/_states.py": "import enum",
    "backends/sqlite.py": "import apsw",
    "workers/coordination/gate.py": "from trioworker.dependency import Engine",
    "workers/coordination/lease/__init__.py": "from ._manager import Manager",
    "workers/coordination/lease/_manager.py": "from ._model import Claim; import trio",
    "workers/coordination/lease/_model.py": "import attrs",
    "_demo/__init__.py": "import trioworker.dependency",
    "_cli/_app.py": "import cyclopts; from trioworker._demo import demo",
    "__main__.py": "def main():\n    from trioworker._cli._app import app",
}
GATE = "workers/coordination/gate.py"
LEASE_MODEL = "workers/coordination/lease/_model.py"


def test_a_house_in_order_has_no_problems() -> None:
    assert list(problems(FINE)) == []


@pytest.mark.parametrize(
    "path, source, problem",
    [
        ("_tomb.py", "from ._runner import Runner", "imports _runner.Runner, up from floor 1 to 2"),
        ("_tomb.py", "def f(): import trioworker.agent", "imports agent, up from floor 1 to 6"),
        ("_util.py", "from . import Gate", "imports Gate, up from floor 0 to 3"),
        ("_util.py", "if TYPE_CHECKING: from ._tomb import T", "imports _tomb.T, up from floor 0"),
        ("_tomb.py", "from ._shed import rake", "imports _shed.rake, which does not exist"),
        ("_shed.py", "import trio", "_shed is on no floor"),
        (
            "dependency/_states.py",
            "from ._engine import Engine",
            "a cycle: dependency._engine -> dependency._states -> dependency._engine",
        ),
        ("dependency/_states.py", "import trio.lowlevel", "imports trio, but is pure"),
        ("dependency/_graph.py", "from time import sleep", "imports time, but is pure"),
        (LEASE_MODEL, "import trio", "imports trio, but is pure"),
        (GATE, "from trioworker._tomb import Tomb", "imports _tomb.Tomb, which is private"),
        (GATE, "from .lease import Claim", "imports workers.coordination.lease.Claim, a sibling"),
        ("agent/x.py", "from trioworker.dependency import _states", "_states, which is private"),
        ("testing/x.py", "from trioworker import _secret", "imports _secret, which is private"),
        ("_cli/run.py", "import apsw", "imports apsw, which is for backends.sqlite alone"),
        ("_tomb.py", "import requests", "imports requests, which is no dependency"),
    ],
)
def test_a_violation_is_named(path: str, source: str, problem: str) -> None:
    [found] = problems({**FINE, path: source})

    assert problem in found
