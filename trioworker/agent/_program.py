"""What the command line is pointed at: an agent file, or an object in a module.

A word is an agent file if there is such a file, else ``module:attribute`` if it looks like that,
else a file that does not exist. The attribute is an `Engine`, a mapping of names to manifolds, or a
function without arguments that returns either.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, final

import attrs

from trioworker import Engine, MisuseError

from ._environment import Mask
from ._factory import Importer
from ._load import load
from ._problems import AgentFileError, Problems, one_line
from ._structure import FAILED

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@final
@attrs.frozen
class Program:
    """An engine that is ready to run, and how to print what it says."""

    engine: Engine
    """Not run yet."""
    mask: Callable[[str], str]
    """Puts ``${NAME}`` where a value came from the environment of an agent file."""


def open_program(target: str) -> Program:
    """Return the program that `target` names; nothing of it runs yet.

    Args:
        target: the path of an agent file, or ``module:attribute``; the module is looked for in the
            current directory first.

    Raises:
        AgentFileError: with every problem that was found.
    """
    if _OBJECT.fullmatch(target) and not Path(target).exists():
        return Program(_engine(target), Mask())
    agent = load(target)
    return Program(agent.engine(), agent.mask)


def _engine(target: str) -> Engine:
    problems = Problems()
    found = Importer(Path.cwd(), problems).find(target, ())
    if found is not FAILED:
        try:
            return _made(found)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - foreign code, sys.exit() included
            told = str(exc) if isinstance(exc, MisuseError) else one_line(exc)
            problems.add((), told, cause=exc)
    raise AgentFileError(attrs.evolve(problem, path=target) for problem in problems.found)


def _made(found: Any) -> Engine:
    if callable(found) and not isinstance(found, (Engine, Mapping)):
        found = found()
    if inspect.iscoroutine(found):
        found.close()  # otherwise Python warns that nobody awaited it
        raise MisuseError("it is async; name a plain function")
    if isinstance(found, Engine):
        return found
    if isinstance(found, Mapping):
        engine = Engine()
        engine.install_all(found)
        return engine
    raise MisuseError(
        "expected an Engine, a mapping of names to Manifolds, or a function that returns either, "
        f"got a value of type {type(found).__qualname__}"
    )
