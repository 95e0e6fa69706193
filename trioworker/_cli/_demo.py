"""The `demo` command: the demo program on embedded defaults, shown while it runs."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path

REFUSED = 2


def demo(
    *,
    files: int = 200,
    seconds: float = 8.0,
    seed: int | None = None,
    dir: Path | None = None,  # noqa: A002 - the option's name
) -> int:
    """Run a small real program, and break it on purpose.

    Files of JSON lines are stored in SQLite, each exactly once.
    Before it, the engine runs two real dependency graphs. Linux only.

    Args:
        files: how many files arrive; every fortieth is malformed.
        seconds: how long they do, and how long chaos reigns.
        seed: decides about files and faults; a random one by default.
        dir: keeps the data there, and continues from it.
    """
    # Asked first: elsewhere the demo could not even be imported.
    if sys.platform != "linux":
        return _refuse(f"the demo needs inotify, which Linux has and {sys.platform} has not")
    try:
        importlib.import_module("trioworker.backends.http")  # for what its agent file names
        from trioworker._demo.program import CannotRun, Settings, run
    except ImportError as exc:
        return _refuse(str(exc))
    from ._render import ReportTable

    try:
        settings = Settings.chosen(files=files, seconds=seconds, seed=seed, directory=dir)
        return run(settings, functools.partial(ReportTable, title="trioworker demo"))
    except CannotRun as exc:
        return _refuse(str(exc))


def _refuse(why: str) -> int:
    print(f"trioworker demo: {why}", file=sys.stderr)
    return REFUSED
