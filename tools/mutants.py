"""Would the tests notice? Break a module in one small way after another, and see a test fail.

    make mutants                      all modules of the core
    make mutants MODULE=_tomb         one of them

What can be broken is told in ``mutations.py``. Nothing is written into the checkout but the result,
``tests/mutants.md``: the sources are copied, and a broken module exists only in the process that
tests it. That process is forked from one that has imported and collected everything, and puts the
broken code in the place of the good one; so a mutant costs the tests that matter and nothing else.
What is done at import (tables, defaults, decorators) cannot be put in place later: for such a
mutant, the process is forked from one that has imported pytest and Trio and nothing of ours, and
tries one file of tests after the other.

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
import gc
import importlib
import importlib.abc
import importlib.machinery
import inspect
import os
import pickle
import platform
import re
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
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NoReturn, Self

import coverage
import pytest
import trio
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
# What a manifold is can be told without an engine, but for the time-outs that never end.
_MANIFOLD = [
    f"tests/dependency/test_{name}.py"
    for name in (
        "manifold",
        "manifold_async_by_surprise",
        "words",
        "getter",
        "e01_install",
        "e12_start_timeout",
    )
]
_RUNNER = ["tests/test_runner.py", "tests/test_runner_details.py"]
TESTS = {
    "_tomb": ["tests/test_tomb.py", "tests/test_tomb_details.py", "tests/test_worker.py"],
    "_catacomb": ["tests/test_catacomb.py", "tests/test_catacomb_details.py"],
    "_runner": _RUNNER,
    "_named": _RUNNER,
    "_runner_config": _RUNNER,
    "_restart": ["tests/test_restart.py"],
    "_groups": ["tests/test_groups.py", "tests/test_groups_details.py"],
    **{
        f"dependency/{path.stem}": _MANIFOLD if path.stem == "_manifold" else _ENGINE
        for path in sorted((ROOT / "trioworker" / "dependency").glob("_*.py"))
        if path.stem != "__init__"
    },
}

# What a mutant may take in all; each of its tests has a limit of its own, see _Limits.
LEAST_SECONDS = 60.0
TIMES = 10.0
MAX_MEMORY = 768 << 20


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


class _Limits:
    """Ends the process when a test takes much longer than it did before: idle, or spinning."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = self._seconds.get(_id(item), 1.0)
        signal.setitimer(signal.ITIMER_REAL, 4 + 10 * before)
        signal.setitimer(signal.ITIMER_PROF, 2 + 5 * before)
        result = yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return result


_TOO_LATE = {-signal.SIGALRM, -signal.SIGPROF, -signal.SIGKILL}


class _Chosen(_Limits):
    """Runs the tests it is told, and those it has never heard of, in the order it is told."""

    def __init__(self, seconds: dict[str, float], chosen: set[str]) -> None:
        super().__init__(seconds)
        self._chosen = chosen

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        wanted = [i for i in items if _id(i) in self._chosen or _id(i) not in self._seconds]
        items[:] = sorted(wanted, key=lambda item: self._seconds.get(_id(item), 0.0))


def _id(item: pytest.Item) -> str:
    return re.sub("0x[0-9a-f]+", "0x", item.nodeid)  # some show where a parameter lies in memory


class _Recorder:
    """Notes which lines each test reaches, and how long it takes."""

    def __init__(self, cover: coverage.Coverage) -> None:
        self._cover = cover
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._cover.switch_context(_id(item))
        began = time.perf_counter()
        result = yield
        self.seconds[_id(item)] = time.perf_counter() - began
        self._cover.switch_context("")
        return result


class _Server:
    """Instead of running what pytest has collected, forks a process for each mutant to do so."""

    def __init__(self, copy: Path, module: str, workers: int, only: str) -> None:
        self._copy = copy
        self._module = module
        self._workers = workers
        self._only = only

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        result = self._copy / "measured.pickle"
        if not result.exists():
            measure(session, self._copy, result)
        measured: Measured = pickle.loads(result.read_bytes())  # noqa: S301 - written above
        live = _functions(self._copy / "trioworker" / f"{self._module}.py")
        gc.collect()
        gc.freeze()  # the processes share what they do not touch
        tree, found = _found(self._copy, self._module, self._only)
        items = {_id(item): item for item in session.items}
        entered: set[str] = set()
        with Race(self._module, measured, self._workers) as race:
            for mutation in found:
                functions = live.get(mutation.function or "", [])
                if not functions or any(function.__closure__ for function in functions):
                    continue  # done at import, or uses super(): not to be put in place

                def work(
                    chosen: list[str],
                    mutation: Mutation = mutation,
                    functions: list[FunctionType] = functions,
                ) -> int:
                    _put_in_place(self._copy, self._module, tree, mutation, functions)
                    session.config.pluginmanager.register(_Limits(measured.seconds))
                    return _run_items(session, [items[test] for test in chosen])

                race.enter(mutation, work)
                entered.add(mutation.text)
        raced = race.survivors, race.late, entered
        (self._copy / "raced.pickle").write_bytes(pickle.dumps(raced))
        return True


def _functions(file: Path) -> dict[str, list[FunctionType]]:
    """Return the functions that were made from `file`, by the names that code knows them by."""
    found: dict[str, list[FunctionType]] = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename == str(file):
            found[thing.__code__.co_qualname].append(thing)
    return dict(found)


def _put_in_place(
    copy: Path, module: str, tree: ast.Module, mutation: Mutation, functions: list[FunctionType]
) -> None:
    mutation.apply()
    file = copy / "trioworker" / f"{module}.py"
    name = mutation.function
    codes = list(_codes(compile(tree, str(file), "exec", dont_inherit=True)))
    for function in functions:
        old = function.__code__
        new = next(
            code
            for code in codes
            if (code.co_qualname, code.co_firstlineno) == (name, old.co_firstlineno)
        )
        function.__code__ = new
        for protect in (trio.lowlevel.enable_ki_protection, trio.lowlevel.disable_ki_protection):
            if f"@{protect.__name__}" in inspect.getsource(old).partition("def ")[0]:
                protect(function)  # Trio remembers it by the code


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _run_items(session: pytest.Session, items: list[pytest.Item]) -> int:
    for item, following in zip_longest(items, items[1:]):
        try:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        except BaseException:  # noqa: BLE001 - a KeyboardInterrupt, out of memory, or pytest's own
            traceback.print_exc()
            return 2
        if session.testsfailed:
            return 1
    return 0


def _forked(work: Callable[[], int]) -> int:
    """Do `work` in a process of its own, and return its id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(_output(os.getpid()), os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
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
    args = ["-q", "-x", "-s", "--tier=quick", "-p", "no:cacheprovider"]
    args += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is here before pytest
    return int(pytest.main(args + tests, plugins=[plugin]))


def _by_file(module: str, tests: list[str], plugin: _Chosen) -> int:
    """Run the tests of one file after the other, the module's own first; each file afresh."""
    own = f"/test{Path(module).name}"
    files = sorted(dict.fromkeys(test.partition("::")[0] for test in tests))
    for file in sorted(files, key=lambda file: own not in file):
        pid = os.fork()
        if not pid:
            code = 3
            try:
                code = _pytest([file], plugin)
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code in _TOO_LATE:
            os.kill(os.getpid(), -code)
        if code not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}:
            return code if code > 0 else 3
    return 0


def _output(pid: int) -> Path:
    return Path(f"output-{pid}")  # in the copy, which is where we are


# -- measuring and mutating ------------------------------------------------------------------------


@dataclass
class Measured:
    """What the tests do on the package as it is."""

    seconds: dict[str, float]
    lines: dict[str, dict[str, set[int]]]
    """By module, by test: the lines it reaches."""


def measure(session: pytest.Session, copy: Path, result: Path) -> None:
    """Run what was collected once, and write to `result` what it reaches."""
    files = {module: str(copy / "trioworker" / f"{module}.py") for module in TESTS}

    def work() -> int:
        cover = coverage.Coverage(data_file=None, include=list(files.values()), config_file=False)
        recorder = _Recorder(cover)
        session.config.pluginmanager.register(recorder)
        cover.start()
        code = _run_items(session, session.items)
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

    _reaped(_forked(work), "the tests fail as they are")


def _reaped(pid: int, complaint: str) -> None:
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGTERM)  # which makes it end its own
        raise
    if os.waitstatus_to_exitcode(status) != 0:
        sys.stderr.write(_output(pid).read_text() + "\n")
        sys.exit(complaint)


class Race:
    """Mutants against tests, a few processes at a time."""

    def __init__(self, module: str, measured: Measured, workers: int) -> None:
        self._reached = measured.lines[module]
        self._seconds = measured.seconds
        self._workers = workers
        self._running: dict[int, tuple[str, float]] = {}
        self.survivors: list[str] = []
        self.late: list[str] = []

    def enter(self, mutation: Mutation, work: Callable[[list[str]], int]) -> None:
        """Fork a process that does `work` with the tests that matter, when there is room for it."""
        lines = mutation.reached_by
        chosen = list(self._seconds)
        if lines is not None:
            chosen = [test for test, seen in self._reached.items() if lines & seen]
        if not chosen:
            self.survivors.append(mutation.text)
            return
        chosen.sort(key=lambda test: self._seconds[test])
        while len(self._running) >= self._workers:
            self._look()
        limit = LEAST_SECONDS + TIMES * sum(self._seconds[test] for test in chosen)
        pid = _forked(lambda: _limited(work, chosen))
        self._running[pid] = mutation.text, time.monotonic() + limit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc: object, traceback: object) -> None:
        """Wait for the last; if something went wrong here, end them."""
        while self._running and exc is None:
            self._look()
        for pid in self._running:
            _put_down(pid)

    def _look(self) -> None:
        for pid, (text, deadline) in list(self._running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() > deadline:
                _, status = _put_down(pid)
            elif not ended:
                continue
            del self._running[pid]
            code = os.waitstatus_to_exitcode(status)
            if code in _TOO_LATE:
                self.late.append(text)
            elif _survived(pid, code):
                self.survivors.append(text)
            _output(pid).unlink()
        time.sleep(0.002)


def _limited(work: Callable[[list[str]], int], chosen: list[str]) -> int:
    os.setpgid(0, 0)  # with all that it may start
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    return work(chosen)


def _survived(pid: int, code: int) -> bool:
    # 1: a test failed. 2: a module could not be imported. 3: pytest failed itself, from lack of
    # memory, say. A signal: likewise.
    if code > 3:
        sys.stderr.write(_output(pid).read_text() + "\n")
        sys.exit(f"pytest ended with {code}")
    return code == 0


def _put_down(pid: int) -> tuple[int, int]:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)


def _found(copy: Path, module: str, only: str) -> tuple[ast.Module, list[Mutation]]:
    tree, found = mutations((copy / "trioworker" / f"{module}.py").read_text())
    return tree, [mutation for mutation in found if only in mutation.text]


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


def tried(copy: Path, module: str, workers: int, only: str) -> Outcome:
    """Test every mutant of `module`, `workers` at a time."""
    began = time.perf_counter()
    server = _Server(copy, module, workers, only)
    _reaped(_forked(lambda: _pytest(TESTS[module], server)), f"{module} cannot be tried")
    raced = (copy / "raced.pickle").read_bytes()
    survived, late, entered = pickle.loads(raced)  # noqa: S301 - ours
    measured: Measured = pickle.loads((copy / "measured.pickle").read_bytes())  # noqa: S301 - ours

    file = copy / "trioworker" / f"{module}.py"
    fullname = f"trioworker.{module}".replace("/", ".")
    tree, found = _found(copy, module, only)
    with Race(module, measured, workers) as race:
        for mutation in found:
            if mutation.text not in entered:

                def work(chosen: list[str], mutation: Mutation = mutation) -> int:
                    mutation.apply()
                    sys.meta_path.insert(0, _Finder(fullname, file, tree))
                    return _by_file(module, chosen, _Chosen(measured.seconds, set(chosen)))

                race.enter(mutation, work)
    alive = {*survived, *race.survivors}
    survivors = [mutation for mutation in found if mutation.text in alive]
    seconds = time.perf_counter() - began
    return Outcome(module, len(found), len(late) + len(race.late), survivors, seconds)


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
    # Twice as many as there are cores: a mutant that hangs sleeps most of its time.
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument(
        "--only", default="", help="mutants with this in their text; writes nothing"
    )
    args = parser.parse_args()
    modules = [_module(name) for name in args.module] or list(TESTS)

    # A shell starts what is in its background with interrupts ignored; then no test could see one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("trioworker", "tests", "docs"):
            shutil.copytree(ROOT / part, copy / part)
        shutil.copy(ROOT / "pyproject.toml", copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        os.environ["COVERAGE_CORE"] = "ctrace"  # the one that knows which test it is in
        good = True
        while modules:
            alike = [name for name in modules if TESTS[name] == TESTS[modules[0]]]
            modules = [name for name in modules if name not in alike]
            for module in alike:
                outcome = tried(copy, module, args.workers, args.only)
                good = told(outcome, keep=not args.only) and good
            (copy / "measured.pickle").unlink()
    return 0 if good else 1


def _terminated(number: int, _frame: object) -> NoReturn:
    sys.exit(f"ended by signal {number}")


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
