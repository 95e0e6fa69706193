"""The package once more, with more points between its steps at which others may run.

Between two awaits nothing else runs; so what an order of tasks can break lies at the awaits, and
the fewer of them really wait in a short story, the fewer orders there are. `perturbed` loads the
package a second time, under the name `NAME`, from the same files. In the modules of `CORE` every
``await X`` becomes ``await around(kind, X)``, and every ``async with`` and ``async for`` gets an
``await pause()`` at the end or the beginning of its block. Each of these is 0 to 3 schedule points,
drawn from the seed of the schedule (`Perturbation.begin`). The real package is not touched, and
when the ``with`` block of `perturbed` is left nothing of the second one remains.

**What is legal.** A point must not make a history that no program could see, or what it finds is
our own doing. `around` first evaluates X (so the event or the function is the one of that moment)
and then, by the kind of X:

========  ==========================================  ==========================================
kind      before X                                    after X, also after an error
========  ==========================================  ==========================================
wait      points; one of them may be cancelled        points; one of them may be cancelled, unless
                                                      X raised
place     none                                        the same
call      none                                        points that cannot be cancelled
check     points that cannot be cancelled             none
enter     none                                        none
========  ==========================================  ==========================================

- *wait*: it is nothing but a wait, on something that stays true: an event, a sleep, a checkpoint,
  somebody's ``wait()``. That others run just before or after is what waiting means. A cancellation
  before or after is one that comes a step earlier or later; no effect of X is lost, X has none.
- *place*: ``park()`` takes its place in the queue before it yields. A point before would part the
  question from the place, and a wake-up be lost that nobody could lose.
- *call*: of a coroutine function, ours or foreign. Calling is not yielding: it runs up to its own
  first wait, so what was checked before (still wanted? still alive?) holds when it begins. On its
  way out foreign code may yield as often as it likes, and ours might tomorrow. Not cancelled: a
  result or an error is on its way, and must not be replaced.
- *check*: ``checkpoint_if_cancelled()`` says that what follows begins uncancelled.
- *enter*: opening a nursery or a catacomb is no checkpoint, by contract. Leaving always is, so
  there are points at the end of the block and after it; not cancelled, because leaving may be
  uncancellable by contract (children are waited for).
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.abc
import importlib.util
import linecache
import sys
from collections.abc import Awaitable, Generator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import trio

import trioworker

NAME = "perturbed_trioworker"
FOLDER = Path(trioworker.__file__).parent

CORE = (
    "_catacomb.py",
    "_named.py",
    "_periodic.py",
    "_runner.py",
    "_simple.py",
    "_tomb.py",
    "_util.py",
    "_watch.py",
    "_worker.py",
    "dependency",
)
"""Files and folders of the package in which there are points."""

WAIT, PLACE, CALL, CHECK, ENTER = "wait", "place", "call", "check", "enter"

KINDS = {
    "wait": WAIT,
    "wait_dying": WAIT,
    "gone": WAIT,
    "sleep": WAIT,
    "sleep_forever": WAIT,
    "checkpoint": WAIT,
    "park": PLACE,
    "change": PLACE,  # of a Named: park(), no more
    "wait_value": PLACE,  # of trio-util: it asks, then parks
    "checkpoint_if_cancelled": CHECK,
    "__aenter__": ENTER,
    "_open": ENTER,
}
"""By the name of the function that X calls; every other is a call."""

Edits = Mapping[str, tuple[str, str]]
"""By file: a piece of its text that occurs once, and what to put in its place."""


class _Nothing:
    """No schedule point: awaiting it goes right on."""

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]  # an iterator is what `await` needs


_NOTHING = _Nothing()


class Perturbation:
    """Decides at each place how many points there are; none outside of `begin` and `end`."""

    def __init__(self) -> None:
        self._rng: Random | None = None
        self._density = 0.0

    def begin(self, seed: int) -> None:
        """From now on draw from `seed`: first how many places have any point at all."""
        self._rng = Random(f"{seed} points")
        self._density = self._rng.choice((0.0, 0.1, 0.3, 0.6))

    def end(self) -> None:
        """No more points."""
        self._rng = None

    def pause(self) -> Awaitable[None]:
        """Return some points, none of which can be cancelled."""
        rng = self._rng
        if rng is None or rng.random() >= self._density:
            return _NOTHING
        return _points(rng.randint(1, 3))

    def around(self, kind: str, awaitable: Awaitable[Any]) -> Awaitable[Any]:
        """Return `awaitable`, with points around it."""
        rng = self._rng
        if rng is None or rng.random() >= self._density:
            return awaitable
        before = rng.randrange(4) if kind in (WAIT, CHECK) else 0
        after = rng.randrange(4) if kind in (WAIT, PLACE, CALL) else 0
        if not before and not after:
            return awaitable
        soft = kind in (WAIT, PLACE) and rng.random() < 0.5
        return _around(awaitable, before, after, soft=soft)


async def _points(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _around(awaitable: Any, before: int, after: int, *, soft: bool) -> Any:
    try:
        await _points(before)
        if before and soft:
            await trio.lowlevel.checkpoint()
    except BaseException:
        if hasattr(awaitable, "close"):
            awaitable.close()  # it will not be awaited, and says so otherwise
        raise
    try:
        value = await awaitable
    except GeneratorExit:
        raise
    except BaseException:
        await _points(after)
        raise
    await _points(after)
    if after and soft:
        await trio.lowlevel.checkpoint()
    return value


class Rewriter(ast.NodeTransformer):
    """Puts the points into a module."""

    def __init__(self) -> None:
        self.places: list[tuple[int, str]] = []

    def visit_Await(self, node: ast.Await) -> ast.AST:
        """``await X``: points around, by what X calls."""
        self.generic_visit(node)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        match called:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                kind = KINDS.get(name, CALL)
            case _:
                kind = CALL
        self.places.append((node.lineno, kind))
        if kind != ENTER:
            node.value = _call("__around__", ast.Constant(kind), node.value)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST | list[ast.AST]:
        """``async with``: points at the end of the block and after it."""
        self.generic_visit(node)
        self.places.append((node.lineno, "leave"))
        # Nothing after a block that never gets there: it would change what the function returns.
        if not isinstance(node.body[-1], (ast.Return, ast.Raise)):
            node.body.append(_pause())
        return [node, _pause()]

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        """``async for``: points before each turn of the block."""
        self.generic_visit(node)
        self.places.append((node.lineno, "turn"))
        node.body.insert(0, _pause())
        return node


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(func=ast.Name(id=name, ctx=ast.Load()), args=list(args), keywords=[])


def _pause() -> ast.stmt:
    return ast.Expr(value=ast.Await(value=_call("__pause__")))


class _Loader(importlib.abc.InspectLoader):
    """Loads one module of the second package; tracebacks get their lines from `get_source`."""

    def __init__(
        self, path: Path, edit: tuple[str, str] | None, perturbation: Perturbation
    ) -> None:
        self._path = path
        self._edit = edit
        self._perturbation = perturbation
        relative = path.relative_to(FOLDER)
        self._is_core = relative.name in CORE or relative.parts[0] in CORE
        # In brackets, so that coverage of the real package is not measured here.
        self.filename = f"<perturbed {relative.as_posix()}>"

    def is_package(self, fullname: str) -> bool:
        return self._path.name == "__init__.py"

    def get_source(self, fullname: str) -> str:
        source = self._path.read_text()
        if self._edit is None:
            return source
        old, new = self._edit
        if source.count(old) != 1:
            raise LookupError(
                f"{self._path.name} has not once, but {source.count(old)} times: {old!r}. "
                "If the file has changed, change the fault that is planted in it."
            )
        return source.replace(old, new)

    def exec_module(self, module: ModuleType) -> None:
        # Python 3.11 fails to parse while the garbage collector finalizes what parses itself.
        gc.disable()
        try:
            tree: Any = ast.parse(self.get_source(module.__name__), self.filename)
        finally:
            gc.enable()
        if self._is_core:
            tree = ast.fix_missing_locations(Rewriter().visit(tree))
            vars(module)["__around__"] = self._perturbation.around
            vars(module)["__pause__"] = self._perturbation.pause
        exec(compile(tree, self.filename, "exec"), vars(module))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the second package where those of the first are."""

    def __init__(self, edits: Edits, perturbation: Perturbation) -> None:
        self._edits = dict(edits)
        self._perturbation = perturbation

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        first, *parts = fullname.split(".")
        if first != NAME:
            return None
        base = FOLDER.joinpath(*parts)
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if not file.exists():
            return None
        edit = self._edits.get(file.relative_to(FOLDER).as_posix())
        loader = _Loader(file, edit, self._perturbation)
        return importlib.util.spec_from_loader(fullname, loader, origin=loader.filename)


class Core:
    """The second package, as long as it is there.

    Attributes:
        api: the module, as ``import trioworker`` gives the first.
        perturbation: which puts its points.
    """

    def __init__(self, api: Any, perturbation: Perturbation) -> None:
        self.api: Any = api
        self.perturbation = perturbation


@contextmanager
def perturbed(edits: Edits | None = None) -> Generator[Core]:
    """Load the package a second time, for the length of the block.

    Args:
        edits: faults to plant in it.

    Raises:
        LookupError: a text to be edited is not in its file, or more than once.
    """
    if NAME in sys.modules:
        raise RuntimeError(f"{NAME} is loaded already")
    perturbation = Perturbation()
    finder = _Finder(edits or {}, perturbation)
    sys.meta_path.insert(0, finder)
    try:
        yield Core(importlib.import_module(NAME), perturbation)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
            del sys.modules[name]
        for name in [name for name in linecache.cache if name.startswith("<perturbed ")]:
            del linecache.cache[name]
