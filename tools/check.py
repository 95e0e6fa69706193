"""Is it good? Every stage of `make check`, each with its name and its seconds.

The two type checkers take longest and use one core each, so what only reads the sources runs side
by side. The tests come last and alone: some of them measure time, and their closing line is the
last thing to be said about a failure. A stage that fails does not keep the others from being run.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# Tools that look for a Python of their own, as pyright does, find ours first; and the make inside
# is a plain one, whatever flags the outer one was given.
ENVIRON = {
    **{name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
}
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

# benchmarks/ and tools/ are checked like the package and its tests, as soon as they are there.
SOURCES = [
    name for name in ["trioworker", "tests", "tools", "benchmarks"] if (ROOT / name).is_dir()
]

READING = {
    "types, pyright": [BIN / "pyright", *SOURCES],
    "types, mypy": [BIN / "mypy", *SOURCES],
    "public types": [BIN / "pyright", "--verifytypes", "trioworker", "--ignoreexternal"],
    "docs": [os.environ.get("MAKE", "make"), "--no-print-directory", "docs"],
    "format": [BIN / "ruff", "format", "--check", "."],
    "lint": [BIN / "ruff", "check", "."],
    "layering": [*PYTEST, "tests/test_layering.py"],
    "exports": [*PYTEST, "tests/test_exports.py"],
}
# The command the README names, so that it is known to work.
TESTS = [os.environ.get("MAKE", "make"), "--no-print-directory", "test"]


def run(name: str, command: list[str | Path]) -> bool:
    """Run one stage; print its output in one piece, and only if it failed."""
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRON, check=False, capture_output=True, text=True
    )
    return report(name, began, done.returncode, done.stdout + done.stderr)


def report(name: str, began: float, code: int, output: str = "") -> bool:
    """Say how the stage went, and whether it went well."""
    verdict = "ok" if code == 0 else "FAILED"
    shown = output if code else ""
    print(f"{shown}== {name}: {verdict}, {time.perf_counter() - began:.1f} s", flush=True)
    return code == 0


def main() -> int:
    """Run all stages; 0 if all of them are good."""
    began = time.perf_counter()
    with ThreadPoolExecutor(max_workers=2) as pool:
        good = list(pool.map(run, READING.keys(), READING.values()))

    tests_began = time.perf_counter()
    code = subprocess.run(TESTS, cwd=ROOT, env=ENVIRON, check=False).returncode
    good.append(report("tests", tests_began, code))

    return 0 if report("check", began, int(not all(good))) else 1


if __name__ == "__main__":
    sys.exit(main())
