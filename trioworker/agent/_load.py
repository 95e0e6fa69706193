"""Reading an agent file: every problem in one pass, and nothing started.

The order is that of the questions, and each is asked of whatever the ones before left standing:
Is it a TOML file? Are its strings complete (`_environment`)? Has each table the right keys and
kinds (`_structure`)? Is there such a factory, does its Config fit, what does it return
(`_factory`)? Do inputs name roles and manifolds that exist, and does anything wait for itself?

A manifold whose factory could not be called has no roles that could be checked; the names that its
inputs are bound to, and its options, are checked all the same.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, final

import attrs

from trioworker import Engine, EngineConfig, Manifold, RestartPolicy

from ._builtin import ENGINE, engine_offering_itself, is_wanted
from ._environment import Mask, expand, variables
from ._factory import Importer, call
from ._problems import AgentFileError, Key, Place, Problem, Problems, choices, quoted
from ._structure import FAILED, Broken, made_of, structure, what

if TYPE_CHECKING:
    import trio

    from trioworker import Getter

TOO_LARGE = 10_000_000
"""A file of so many bytes is no agent file."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_KINDS = ("inputs", "optional", "live")
_TOP: dict[str, Any] = {"engine": dict[str, Any], "manifolds": dict[str, Any]}
ENGINE_KEYS: dict[str, Any] = {
    "name": str,
    "restart": RestartPolicy,
    "on_failed": Literal["report", "fatal"],
    "history": int,
}
OPTION_KEYS: dict[str, Any] = {
    "start_timeout": float,
    "grace": float,
    "stop_timeout": float,
    "restart": RestartPolicy,
}
MANIFOLD_KEYS: dict[str, Any] = {
    "use": str,
    **dict.fromkeys(_KINDS, list[str] | dict[str, str]),
    **OPTION_KEYS,
    "config": dict[str, Any],
}
_MOST_CYCLES = 20


async def _nothing(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    """Stand for a start function that is not known."""


# What a manifold's options are tried on that could not be made; it can be asked, so any grace does.
_ANY = Manifold(_nothing, ask=callable)


@final
@attrs.frozen(kw_only=True)
class Agent:
    """What an agent file describes; nothing of it runs yet."""

    path: Path
    """The file."""
    config: EngineConfig
    """How its engine behaves."""
    manifolds: Mapping[str, Manifold] = attrs.field(repr=False)
    """By name, bound to each other, in the order of the file."""
    mask: Mask = attrs.field(factory=Mask, repr=False)
    """Puts ``${NAME}`` into a text where a value stands that came from the environment."""

    @property
    def name(self) -> str:
        """The name of its engine."""
        return self.config.name

    def engine(self) -> Engine:
        """Return a new engine with all the manifolds, to be run.

        It also has the built-in manifold ``engine``, if one of the others names that among its
        inputs and there is none of that name.
        """
        if is_wanted(self.manifolds):
            engine = engine_offering_itself(self.config, self.mask)
        else:
            engine = Engine(self.config)
        engine.install_all(self.manifolds)
        return engine


def load(path: str | os.PathLike[str], *, environ: Mapping[str, str] | None = None) -> Agent:
    """Read an agent file, import what it uses and call its factories; start nothing.

    The directory of the file is put first on ``sys.path`` and stays there, as for a script.

    Args:
        path: the file.
        environ: where ``${NAME}`` is looked up; ``os.environ`` by default.

    Raises:
        AgentFileError: with every problem that was found.
    """
    file = Path(path)
    problems = Problems()
    raw = expand(_read(file), (), problems, os.environ if environ is None else environ)
    mask = Mask(variables(raw))
    config, manifolds = _Loading(raw, file.absolute().parent, problems).all()
    problems.raise_if_any(mask)
    return Agent(path=file, config=config, manifolds=MappingProxyType(manifolds), mask=mask)


def _read(file: Path) -> dict[str, Any]:
    """Return the file's plain data."""
    try:
        with file.open("rb") as stream:
            data = stream.read(TOO_LARGE)
        if len(data) >= TOO_LARGE:
            raise ValueError(f"is too large: {TOO_LARGE // 10**6} MB or more")
        if not data.strip():
            raise ValueError("is empty")
        return tomllib.loads(data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as exc:
        raise AgentFileError([Problem(str(file), _why_unreadable(exc), exc)]) from None


def _why_unreadable(exc: Exception) -> str:
    match exc:
        case IsADirectoryError():
            return "is a directory; name the file in it"
        case FileNotFoundError():
            return "there is no such file"
        case OSError():
            return f"cannot be read: {exc.strerror or exc}"
        case UnicodeDecodeError():
            line = exc.object.count(b"\n", 0, exc.start) + 1
            return f"is not UTF-8: byte 0x{exc.object[exc.start]:02x} in line {line}"
        case tomllib.TOMLDecodeError():
            return f"is not TOML: {' '.join(str(exc).split())}"
        case RecursionError():
            return "is not TOML: nested too deeply"
        case _:
            return str(exc)


class _Loading:
    """One pass over the data of a file."""

    def __init__(self, raw: dict[str, Any], directory: Path, problems: Problems) -> None:
        self._raw = raw
        self._problems = problems
        self._importer = Importer(directory, problems)
        self._names: list[str] = []
        # What waits for what, as far as it is known: manifold -> name -> by way of.
        self._needs: dict[str, dict[str, None]] = {}

    def all(self) -> tuple[EngineConfig, dict[str, Manifold]]:
        top = self._table(self._raw, _TOP, ())
        config = self._engine(top.get("engine", {}))
        tables: dict[str, Any] = top.get("manifolds", {})
        if not tables and top.get("manifolds") is not FAILED and "manifolds" not in self._raw:
            self._problems.add(("manifolds",), "missing; write a table [manifolds.NAME] for each")
        elif not tables and self._raw.get("manifolds") == {}:
            self._problems.add(("manifolds",), "empty; write a table [manifolds.NAME] for each")
        self._names = list(tables)
        manifolds: dict[str, Manifold] = {}
        for name, table in tables.items():
            made = self._manifold(name, table)
            if made is not None:
                manifolds[name] = made
        self._check_cycles()
        return config, manifolds

    def _table(self, raw: dict[str, Any], keys: dict[str, Any], place: Place) -> dict[str, Any]:
        """Return those of `keys` that `raw` has and that are of the right type."""
        values: dict[str, Any] = {}
        for key, value in raw.items():
            if key not in keys:
                self._problems.add((*place, key), f"unknown key{choices(key, keys)}")
            elif (
                found := structure(value, keys[key], (*place, key), self._problems)
            ) is not FAILED:
                values[key] = found
        return values

    def _engine(self, raw: dict[str, Any]) -> EngineConfig:
        values = self._table(raw, ENGINE_KEYS, ("engine",))
        try:
            return made_of(EngineConfig, values)
        except Broken as exc:
            for inner, message, cause in exc.failed:
                self._problems.add(("engine", *inner), message, cause=cause)
            return EngineConfig()

    def _manifold(self, name: str, raw: Any) -> Manifold | None:
        place: Place = ("manifolds", Key(name))
        if not NAME.fullmatch(name):
            message = (
                "a manifold's name is made of a-z, 0-9, '.', '_' and '-', begins with a letter or "
                "a digit, and has at most 100 characters"
            )
            self._problems.add(place, message)
        if not isinstance(raw, dict):
            structure(raw, dict[str, Any], place, self._problems)
            return None
        values = self._table(raw, MANIFOLD_KEYS, place)
        bindings = {kind: _roles(values[kind]) for kind in _KINDS if kind in values}
        manifold = self._made(raw, values, place)
        if manifold is None:
            for kind, roles in bindings.items():
                for inner, _, target in roles:
                    self._check_target(target, (*place, kind, *inner))
            self._note_needs(name, bindings)
            self._with_options(_ANY, values, place)  # what is wrong with them is told all the same
            return None
        manifold = self._with_options(manifold, values, place)
        manifold = self._bound(manifold, bindings, place)
        self._check_unbound(manifold, place)
        self._needs[name] = dict.fromkeys(
            (*manifold.bound(manifold.inputs), *manifold.bound(manifold.optional))
        )
        return manifold

    def _made(self, raw: dict[str, Any], values: dict[str, Any], place: Place) -> Manifold | None:
        if "use" not in raw:
            message = "missing; write use = 'package.module:factory'"
            self._problems.add((*place, "use"), message)
        if "use" not in values or self._problems.is_unusable((*place, "use")):
            return None
        use: str = values["use"]
        factory = self._importer.factory(use, (*place, "use"))
        if factory is None or ("config" in raw and "config" not in values):
            return None
        return call(use, factory, values.get("config"), place, self._problems)

    def _with_options(self, manifold: Manifold, values: dict[str, Any], place: Place) -> Manifold:
        for key in OPTION_KEYS:
            if key in values:
                try:
                    manifold = attrs.evolve(manifold, **{key: values[key]})
                except (TypeError, ValueError) as exc:
                    message = what(exc).removeprefix(f"{key} ")
                    self._problems.add((*place, key), message, cause=exc)
        return manifold

    # -- inputs -----------------------------------------------------------------------------------

    def _check_target(self, target: str, place: Place) -> None:
        if not self._exists(target) and not self._problems.is_unusable(place):
            known = choices(target, self._offered(), "there are")
            self._problems.add(place, f"there is no manifold {quoted(target)}{known}")

    def _exists(self, name: str) -> bool:
        return name in self._names or name == ENGINE  # who names it gets it

    def _offered(self) -> list[str]:
        """Return the names to offer: those that are refused themselves are no way out."""
        return [name for name in self._names if NAME.fullmatch(name)]

    def _bound(
        self,
        manifold: Manifold,
        bindings: Mapping[str, list[tuple[Place, str, str]]],
        place: Place,
    ) -> Manifold:
        names: dict[str, str] = {}
        for kind, roles in bindings.items():
            for inner, role, target in roles:
                if role in getattr(manifold, kind):
                    names[role] = target
                    self._check_target(target, (*place, kind, *inner))
                elif not self._problems.is_unusable((*place, kind, *inner)):
                    self._problems.add((*place, kind, *inner), _no_role(manifold, kind, role))
        return manifold.bind({role: name for role, name in names.items() if role != name})

    def _check_unbound(self, manifold: Manifold, place: Place) -> None:
        """Say which required roles mean nothing: unbound, and no manifold has that name."""
        said = manifold.bindings
        for role in manifold.inputs:
            target = said.get(role, role)
            if not self._exists(target) and target == role:
                known = choices(role, self._offered(), "there are")
                way = f"bind it, or add {role!r}" if NAME.fullmatch(role) else "bind it"
                message = f"the role {role!r} needs a manifold: {way}{known}"
                if not self._is_written(place, role):
                    self._problems.add((*place, "inputs"), message)

    def _is_written(self, place: Place, role: str) -> bool:
        """Whether the file itself names `role` among the inputs; then it was told there."""
        written = self._raw["manifolds"][place[1]].get("inputs", ())
        return isinstance(written, (list, dict)) and role in written

    def _note_needs(self, name: str, bindings: Mapping[str, list[tuple[Place, str, str]]]) -> None:
        targets = [t for kind in ("inputs", "optional") for _, _, t in bindings.get(kind, ())]
        self._needs[name] = dict.fromkeys(targets)

    def _check_cycles(self) -> None:
        needs = {
            name: {target for target in targets if target in self._needs}
            for name, targets in self._needs.items()
        }
        for cycle in _cycles(needs):
            path = " -> ".join(cycle)
            message = f"waits for itself: {path}; make one of these inputs live"
            self._problems.add(("manifolds", Key(cycle[0])), message)


def _roles(written: list[str] | dict[str, str]) -> list[tuple[Place, str, str]]:
    """Return place, role and target of each input of a table or list."""
    if isinstance(written, dict):
        return [((role,), role, target) for role, target in written.items()]
    return [((i,), role, role) for i, role in enumerate(written)]


def _no_role(manifold: Manifold, kind: str, role: str) -> str:
    for other in _KINDS:
        if role in getattr(manifold, other):
            return f"its factory declares {quoted(role)} under {other!r}; write it there"
    roles = getattr(manifold, kind)
    return (
        f"its factory declares no {quoted(role)} under {kind!r}{choices(role, roles, 'declared')}"
    )


def _cycles(needs: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield cycles, each with its first name repeated at the end, until none is left.

    Each time one edge of the cycle is taken out, so that every cycle that is found is one of the
    file, and that those behind it are found as well.
    """
    for _ in range(_MOST_CYCLES):
        ordered = {name: sorted(targets) for name, targets in sorted(needs.items())}
        try:
            TopologicalSorter(ordered).prepare()
        except CycleError as exc:
            # graphlib lists each name before the one that needs it.
            cycle: list[str] = exc.args[1][:0:-1]
            first = cycle.index(min(cycle))
            cycle = [*cycle[first:], *cycle[:first]]
            yield [*cycle, cycle[0]]
            needs[cycle[-1]].discard(cycle[0])
        else:
            return
