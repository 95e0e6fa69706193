"""Would the tests notice? Break a module in one small way after another, and see a test fail.

    make mutants                      all modules of the core
    make mutants MODULE=_tomb         one of them

What can be broken is told in ``mutations.py``. Nothing is written into the checkout but the result,
``tests/mutants.md``: the sources are copied, and the broken module exists only in the process that
tests it. That process is forked from this one, which has imported pytest and Trio and nothing of
ours; so a mutant costs the import of the package and the tests that matter, and no start of Python.
Which tests matter is measured first: those of the module's own quick tests that reach one of the
mutated lines, the quickest first, until one fails. A mutant is killed by a failing test, or by not
being done in time; the latter is counted on its own.

mutmut and cosmic-ray were tried first. mutmut 3 leaves decorated functions and module-level code
alone, which is all that is protected against KeyboardInterrupt (that is, everything that moves a
state), every property, and the tables. cosmic-ray 8 neither removes statements nor changes strings,
calls or returns; half of what it does change in our modules are annotations; it writes each mutant
into the checkout, and starts a new pytest with all tests of a module for each.

``tests/mutants.md`` is read and written here: survivors keep the reason that stands above them,
those that are gone are dropped, and new ones appear under "Not explained". With any of these, or
with less than 95 % killed, the exit status is 1.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import os
import pickle
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, ModuleType

import coverage
import pytest
from mutations import Mutation, mutations

# What every test imports is imported once, here: a mutant's process has it already.
for _name in ("attrs", "hypothesis", "pytest_trio", "trio.testing"):
    importlib.import_module(_name)

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "tests" / "mutants.md"
WANTED = 95.0

# The quick tests of each module. Those of the engine's modules are told by its rules, one file
# each; the storms are left out, because what random graphs notice is not worth waiting for.
_ENGINE = [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "tests" / "dependency").glob("test_*.py"))
    if path.name != "test_storm.py"
]
TESTS = {
    "_tomb": ["tests/test_tomb.py", "tests/test_worker.py"],
    "_catacomb": ["tests/test_catacomb.py"],
    "_runner": ["tests/test_runner.py"],
    "_named": ["tests/test_runner.py"],
    "_runner_config": ["tests/test_runner.py"],
    "_restart": ["tests/test_restart.py"],
    "_groups": ["tests/test_groups.py", "tests/test_groups_details.py"],
    **{
        f"dependency/{path.stem}": _ENGINE
        for path in sorted((ROOT / "trioworker" / "dependency").glob("_*.py"))
        if path.stem != "__init__"
    },
}

# A mutant may take so many seconds, and so many times as long as its tests took unmutated.
LEAST_SECONDS = 12.0
TIMES = 5.0
MAX_MEMORY = 1 << 30


# -- one process per mutant -----------------------------------------------------------------------


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a tree in memory instead of its file."""

    tree: ast.Module

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.tree, self.get_filename(fullname), "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, fullname: str, file: Path, tree: ast.Module) -> None:
        self._fullname = fullname
        self._loader = _Loader(fullname, str(file))
        self._loader.tree = tree

    def find_spec(
        self,
        fullname: str,
        path: object,  # noqa: ARG002 - as the import system calls it
        target: ModuleType | None = None,  # noqa: ARG002 - likewise
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._fullname:
            return None
        return importlib.machinery.ModuleSpec(fullname, self._loader, origin=self._loader.path)


class _Chosen:
    """Runs the tests it is told, and those it has never heard of, in the order it is told."""

    def __init__(self, seconds: dict[str, float], chosen: set[str]) -> None:
        self._seconds = seconds
        self._chosen = chosen

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [
            item
            for item in items
            if item.nodeid in self._chosen or item.nodeid not in self._seconds
        ]
        items[:] = sorted(wanted, key=lambda item: self._seconds.get(item.nodeid, 0.0))


class _Recorder:
    """Notes which lines each test reaches, and how long it takes."""

    def __init__(self, cover: coverage.Coverage) -> None:
        self._cover = cover
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._cover.switch_context(item.nodeid)
        began = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - began
        self._cover.switch_context("")
        return result


def _forked(work: Callable[[], int]) -> int:
    """Do `work` in a process of its own, and return its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(_output(os.getpid()), os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        code = work()
    except MemoryError:
        code = 3  # as pytest says it
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        os._exit(code)  # an error of ours is 70, which nobody takes for a failed test


def _pytest(tests: list[str], plugin: object) -> int:
    args = ["-q", "-x", "--tier=quick", "-p", "no:cacheprovider"]
    args += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is here before pytest
    args += tests
    return int(pytest.main(args, plugins=[plugin]))


def _output(pid: int) -> Path:
    return Path(f"output-{pid}")  # in the copy, which is where we are


# -- measuring and mutating -----------------------------------------------------------------------


@dataclass
class Measured:
    """What the unbroken module's tests do."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, set[int]]]
    """By module, by test: the lines it reaches."""


def measure(copy: Path, modules: list[str]) -> Measured:
    """Run the tests of `modules`, which share them, on the package as it is."""
    files = {module: str(copy / "trioworker" / f"{module}.py") for module in modules}
    result = copy / "measured.pickle"

    def work() -> int:
        cover = coverage.Coverage(data_file=None, include=list(files.values()), config_file=False)
        recorder = _Recorder(cover)
        cover.start()
        code = _pytest(TESTS[modules[0]], recorder)
        cover.stop()
        data = cover.get_data()
        lines: dict[str, dict[str, set[int]]] = {}
        for module, file in files.items():
            reached: dict[str, set[int]] = defaultdict(set)
            for line, tests in data.contexts_by_lineno(file).items():
                for test in filter(None, tests):
                    reached[test].add(line)
            lines[module] = dict(reached)
        result.write_bytes(pickle.dumps(Measured(recorder.seconds, lines)))
        return code

    pid = _forked(work)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{_output(pid).read_text()}\nthe tests fail as they are")
    measured: Measured = pickle.loads(result.read_bytes())  # noqa: S301 - written above
    return measured


@dataclass
class Outcome:
    """What became of the mutants of one module."""

    module: str
    total: int
    late: int
    survivors: list[Mutation]
    seconds: float

    @property
    def percent(self) -> float:
        """How many of a hundred were killed."""
        return 100 * (1 - len(self.survivors) / self.total)


def tried(copy: Path, module: str, measured: Measured, workers: int, only: str) -> Outcome:
    """Test every mutant of `module`, `workers` at a time."""
    began = time.perf_counter()
    file = copy / "trioworker" / f"{module}.py"
    fullname = f"trioworker.{module}".replace("/", ".")
    tree, found = mutations(file.read_text())
    found = [mutation for mutation in found if only in mutation.text]
    reached = measured.lines[module]
    pending = list(reversed(found))
    running: dict[int, tuple[Mutation, float]] = {}
    survivors: list[Mutation] = []
    late = done = 0
    while pending or running:
        while pending and len(running) < workers:
            mutation = pending.pop()
            chosen = _reaching(mutation, reached)
            if not chosen:
                survivors.append(mutation)
                done += 1
                continue

            def work(mutation: Mutation = mutation, chosen: set[str] = chosen) -> int:
                mutation.apply()
                sys.meta_path.insert(0, _Finder(fullname, file, tree))
                files = sorted({test.partition("::")[0] for test in chosen})
                return _pytest(files, _Chosen(measured.seconds, chosen))

            limit = LEAST_SECONDS + TIMES * sum(measured.seconds[test] for test in chosen)
            running[_forked(work)] = mutation, time.monotonic() + limit
        for pid, (mutation, deadline) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                if _survived(pid, os.waitstatus_to_exitcode(status)):
                    survivors.append(mutation)
            elif time.monotonic() > deadline:
                _put_down(pid)
                late += 1
            else:
                continue
            del running[pid]
            _output(pid).unlink()
            done += 1
            _progress(module, done, len(found), len(survivors))
        time.sleep(0.005)
    survivors.sort(key=lambda mutation: mutation.line)
    return Outcome(module, len(found), late, survivors, time.perf_counter() - began)


def _survived(pid: int, code: int) -> bool:
    # 1: a test failed. 2: a module could not be imported. 3: pytest failed itself, from lack of
    # memory, say. A signal: likewise.
    if code > 3:
        sys.exit(f"{_output(pid).read_text()}\npytest ended with {code}")
    return code == 0


def _reaching(mutation: Mutation, reached: dict[str, set[int]]) -> set[str]:
    lines = mutation.reached_by
    return {test for test, seen in reached.items() if lines is None or lines & seen}


def _put_down(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _progress(module: str, done: int, total: int, survivors: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{module}: {done}/{total}, {survivors} survived ", end="", file=sys.stderr)


# -- the committed file ---------------------------------------------------------------------------

_HEAD = """\
# What the tests would not notice

Written by `make mutants` (`tools/mutants.py`), which breaks each module of the core in one small
way after another and runs the module's own quick tests that reach what is broken. *Late* mutants
are those that were put down because the tests did not end; they count as killed. Below the table
stands every survivor, under the reason why nobody could notice, or why nobody should.

Not broken, because it has no effect at run time or because a checker sees to it: annotations,
docstrings, imports, `__slots__`, `__all__`, overloads, Protocols, `@final`.

| module | mutants | killed | late | survived | killed in % | seconds | date | Python |
|---|---|---|---|---|---|---|---|---|
"""
_UNEXPLAINED = "Not explained:"


@dataclass
class Section:
    """What the file says about one module."""

    row: str
    reasons: dict[str, str]
    """By survivor: why nobody notices."""


def read_result(text: str) -> dict[str, Section]:
    """Return what is in the file, by module."""
    sections: dict[str, Section] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            sections[line.split("`")[1]] = Section(line, {})
    module = reason = ""
    for block in text.split("\n\n"):
        if block.startswith("## "):
            module = block.split("`")[1]
        elif module and block.startswith("- ``"):
            for line in block.splitlines():
                sections[module].reasons[line[len("- `` ") : -len(" ``")]] = reason
        elif module:
            reason = block
    return sections


def written_result(sections: dict[str, Section]) -> str:
    """Return the file as text."""
    parts = [_HEAD + "\n".join(sections[name].row for name in TESTS if name in sections)]
    for name in TESTS:
        if name not in sections or not sections[name].reasons:
            continue
        parts.append(f"## `{name}`")
        by_reason: dict[str, list[str]] = defaultdict(list)
        for survivor, reason in sections[name].reasons.items():
            by_reason[reason].append(survivor)
        for reason, survivors in by_reason.items():
            parts.append(reason)
            parts.append("\n".join(f"- `` {survivor} ``" for survivor in survivors))
    return "\n\n".join(parts) + "\n"


def section(outcome: Outcome, before: Section | None) -> Section:
    """Return what is to be said about `outcome`, with the reasons that were given before."""
    killed = outcome.total - len(outcome.survivors)
    cells = [
        f"`{outcome.module}`",
        outcome.total,
        killed,
        outcome.late,
        len(outcome.survivors),
        f"{outcome.percent:.1f}",
        round(outcome.seconds),
        datetime.now(UTC).date(),
        platform.python_version(),
    ]
    known = before.reasons if before else {}
    names = [_code(mutation.text) for mutation in outcome.survivors]
    reasons = {name: reason for name, reason in known.items() if name in names}
    reasons.update((name, _UNEXPLAINED) for name in names if name not in reasons)
    return Section("| " + " | ".join(map(str, cells)) + " |", reasons)


def _code(text: str) -> str:
    return text.replace("``", "''")  # what stands between double backticks has none


# -- the command ----------------------------------------------------------------------------------


def main() -> int:
    """Try the modules that were asked for; 0 if all is well."""
    parser = argparse.ArgumentParser(description="Break the core and see the tests notice.")
    parser.add_argument("module", nargs="*", help="such as _tomb; all of them by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--only", default="", help="mutants with this in their text; writes nothing"
    )
    args = parser.parse_args()
    modules = [_module(name) for name in args.module] or list(TESTS)

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("trioworker", "tests", "docs"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["COVERAGE_CORE"] = "ctrace"  # the one that knows which test it is in
        good = True
        while modules:
            alike = [name for name in modules if TESTS[name] == TESTS[modules[0]]]
            modules = [name for name in modules if name not in alike]
            measured = measure(copy, alike)
            for module in alike:
                outcome = tried(copy, module, measured, args.workers, args.only)
                good = told(outcome, keep=not args.only) and good
    return 0 if good else 1


def told(outcome: Outcome, *, keep: bool) -> bool:
    """Print how it went, keep it in the file, and say whether it is good."""
    killed = outcome.total - len(outcome.survivors)
    print(
        f"== {outcome.module}: {killed} of {outcome.total} killed, {outcome.percent:.1f} %, "
        f"{outcome.late} of them late, {outcome.seconds:.0f} s",
        flush=True,
    )
    text = RESULT.read_text() if RESULT.exists() else ""
    sections = read_result(text)
    mine = section(outcome, sections.get(outcome.module))
    for mutation in outcome.survivors:
        explained = mine.reasons[_code(mutation.text)] != _UNEXPLAINED
        if not explained:
            print(f"{mutation.line:5} {mutation.text}", flush=True)
    if keep:
        sections[outcome.module] = mine
        RESULT.write_text(written_result(sections))
    return outcome.percent >= WANTED and _UNEXPLAINED not in mine.reasons.values()


def _module(name: str) -> str:
    if name in TESTS:
        return name
    if f"dependency/{name}" in TESTS:
        return f"dependency/{name}"
    sys.exit(f"there is no {name!r}; modules: {', '.join(TESTS)}")


if __name__ == "__main__":
    sys.exit(main())
