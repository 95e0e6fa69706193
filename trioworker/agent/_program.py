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

from trioworker import Engine, Manifold, MisuseError

from ._environment import Mask
from ._factory import Importer, is_plain, required
from ._load import load
from ._problems import AgentFileError, Problem, Problems, one_line
from ._structure import FAILED

_ASYNC = "it is async; name a plain function"
_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


@final
@attrs.frozen
class Program:
    """An engine that is ready to run, and how to print what it says."""

    engine: Engine
    """Not run yet."""
    mask: Callable[[str], str]
    """Puts ``${NAME}`` where a value came from the environment of an agent file."""
    count: int
    """How many manifolds it has of its own: without the built-in one of an agent file."""


def open_program(target: str) -> Program:
    """Return the program that `target` names; nothing of it runs yet.

    Args:
        target: the path of an agent file, or ``module:attribute``; the module is looked for in the
            current directory first.

    Raises:
        AgentFileError: with every problem that was found.
    """
    if not target:
        message = "is empty; name an agent file, or module:attribute"
        raise AgentFileError([Problem("the target", message)])
    if _OBJECT.fullmatch(target) and not Path(target).exists():
        engine = _engine(target)
        return Program(engine, Mask(), len(engine.report().manifolds))
    try:
        agent = load(target)
    except AgentFileError as exc:
        raise AgentFileError([_hinted(p, target) for p in exc.problems], exc.mask) from None
    return Program(agent.engine(), agent.mask, len(agent.manifolds))


def _hinted(problem: Problem, target: str) -> Problem:
    """Return `problem`; with the other form, if this was perhaps not meant to be an agent file."""
    path = Path(target)
    if problem.path != str(path) or path.suffix == ".toml":
        return problem
    message = f"{problem.message}; a Python program is given as module:attribute"
    return attrs.evolve(problem, message=message)


def _engine(target: str) -> Engine:
    problems = Problems()
    importer = Importer(
        Path.cwd(), problems, where="in the current directory", is_wanted=_is_program
    )
    found = importer.find(target, ())
    if found is not FAILED:
        try:
            return _made(found, target.partition(":")[2])
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001 - foreign code, sys.exit() included
            told = str(exc) if isinstance(exc, MisuseError) else one_line(exc)
            problems.add((), told, cause=exc)
    raise AgentFileError(attrs.evolve(problem, path=target) for problem in problems.found)


def _is_program(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(item, Manifold) for item in value.values())
    if is_plain(value):
        returned = getattr(value, "__annotations__", {}).get("return")
        return returned is not Manifold and returned != "Manifold"
    return isinstance(value, Engine)


def _made(found: Any, attribute: str) -> Engine:
    if callable(found) and not isinstance(found, (Engine, Mapping)):
        _check_callable(found)
        found = found()
        attribute += "()"
    if inspect.iscoroutine(found):
        found.close()  # otherwise Python warns that nobody awaited it
        raise MisuseError(_ASYNC)
    if isinstance(found, Manifold):
        name = attribute.removesuffix("()").rpartition(".")[2]
        raise MisuseError(f"{attribute} is a Manifold; wrap it: {{{name!r}: {attribute}}}")
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


def _check_callable(found: Callable[..., Any]) -> None:
    """Refuse what cannot be called without arguments, as far as it says so."""
    if inspect.iscoroutinefunction(found):
        raise MisuseError(_ASYNC)
    try:
        needed = required(found)
    except (ValueError, TypeError):
        return
    if needed:
        told = " (this one is a factory for an agent file)" if needed == ["config"] else ""
        takes = ", ".join(needed)
        raise MisuseError(f"it takes ({takes}); name a function without arguments{told}")
