"""Is it good? Every stage of `make check`, each with its name and its seconds.

What only reads the sources, and the quick tests in other places (`elsewhere.py`), runs side by
side, two at a time: each of them uses one core. The full tests come last and alone, with branch
coverage: some of them measure time, and their closing line is the last thing to be said about a
failure. A stage that fails does not keep the others from being run. In the end it tells what was
not run, and which stages failed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from elsewhere import (
    MINORS,
    CannotMakeError,
    Done,
    build_wheel,
    found_pythons,
    places,
    run_in,
)

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Tools that look for a Python of their own, as pyright does, find ours first; and the make inside
# is a plain one, whatever flags the outer one was given.
ENVIRON = {
    **{name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
}
MAKE = [os.environ.get("MAKE", "make"), "--no-print-directory"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))

# benchmarks/ and tools/ are checked like the package and its tests, as soon as they are there.
SOURCES = [
    name for name in ["trioworker", "tests", "tools", "benchmarks"] if (ROOT / name).is_dir()
]

READING: dict[str, list[str | Path]] = {
    "types, pyright": [BIN / "pyright", *SOURCES],
    "types, mypy": [BIN / "mypy", *SOURCES],
    "public types": [BIN / "pyright", "--verifytypes", "trioworker", "--ignoreexternal"],
    "docs": [*MAKE, "docs"],
    "format": [BIN / "ruff", "format", "--check", "."],
    "lint": [BIN / "ruff", "check", "."],
    "layering": [*PYTEST, "tests/test_layering.py"],
    "exports": [*PYTEST, "tests/test_exports.py"],
}
# All that `make test` runs, and what each floor must have covered.
TESTS = [*MAKE, "cover"]

Work = Callable[[], Done]


def run(command: list[str | Path]) -> Done:
    """Run a command of the checkout, and keep what it says."""
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRON, check=False, capture_output=True, text=True
    )
    return Done(done.returncode, done.stdout + done.stderr)


def stage(name: str, work: Work) -> bool:
    """Do one stage, say how it went, its output in one piece only if it failed."""
    began = time.perf_counter()
    done = work()
    return report(name, began, done)


def report(name: str, began: float, done: Done) -> bool:
    """Say how a stage went, and return whether it went well."""
    verdict = "FAILED" if done.code else "ok"
    note = f"; {done.note}" if done.note else ""
    shown = done.output if done.code else ""
    print(f"{shown}== {name}: {verdict}, {time.perf_counter() - began:.1f} s{note}", flush=True)
    return done.code == 0


def elsewhere(pythons: dict[int, Path]) -> dict[str, Work]:
    """Return the stages of the other places; without a wheel that is one, which fails."""
    try:
        wheel = build_wheel()
    except CannotMakeError as exc:
        failed = Done(1, str(exc))
        return {"wheel": lambda: failed}
    return {
        f"quick tests, {place.name}": partial(run_in, place, wheel) for place in places(pythons)
    }


def not_run(pythons: dict[int, Path]) -> list[str]:
    """Return what this check leaves out, a line each."""
    absent = [f"3.{minor}" for minor in MINORS if minor not in {*pythons, sys.version_info.minor}]
    return [
        *([f"the quick tests on Python {', '.join(absent)}: not found here"] if absent else []),
        "the long tests: make stress",
        "the mutants: make mutants",
        "the benchmarks: make bench",
    ]


def main() -> int:
    """Run all stages; 0 if all of them are good."""
    began = time.perf_counter()
    pythons = found_pythons(os.environ.get("PATH", ""), PYENV)
    stages: dict[str, Work] = {name: partial(run, command) for name, command in READING.items()}
    stages |= elsewhere(pythons)
    with ThreadPoolExecutor(max_workers=2) as pool:
        good = dict(zip(stages, pool.map(stage, stages.keys(), stages.values()), strict=True))

    tests_began = time.perf_counter()
    code = subprocess.run(TESTS, cwd=ROOT, env=ENVIRON, check=False).returncode
    good["tests and coverage"] = report("tests and coverage", tests_began, Done(code, ""))

    for line in not_run(pythons):
        print(f"== not run: {line}")
    failed = ", ".join(name for name, was_good in good.items() if not was_good)
    return int(not report("check", began, Done(int(bool(failed)), "", failed)))


if __name__ == "__main__":
    sys.exit(main())
