"""From ``use = "package.module:factory"`` to what the factory returns.

All of this runs code of the program: importing a module and calling a factory. Whatever that code
does, raising and ``sys.exit()`` included, becomes one problem of the file; only an interrupt of
the person at the keyboard goes through.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import attrs

from trioworker import Manifold

from ._problems import Place, Problems, choices, one_line, quoted
from ._structure import FAILED, structure

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
USE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@final
class Importer:
    """Imports what is named, each module once, with `directory` first on ``sys.path``.

    Args:
        directory: where modules are looked for first.
        problems: takes what is wrong.
        where: how messages call the directory.
        is_wanted: whether an attribute is offered in place of one that is not there.
    """

    def __init__(
        self,
        directory: Path,
        problems: Problems,
        *,
        where: str = "beside the file",
        is_wanted: Callable[[Any], bool] | None = None,
    ) -> None:
        self._directory = str(directory)
        self._problems = problems
        self._where = where
        self._is_wanted = _is_factory if is_wanted is None else is_wanted
        self._imported: dict[str, Any] = {}

    def factory(self, use: str, place: Place) -> Callable[..., Any] | None:
        """Return the function that `use` names; ``None`` if there is a problem with it."""
        found = self.find(use, place)
        return None if found is FAILED else self._checked(use, found, place)

    def find(self, use: str, place: Place) -> Any:
        """Return what `use` names; `FAILED` if there is no such thing."""
        if not USE.fullmatch(use):
            message = f"expected 'package.module:factory', got {quoted(use)}"
            if _DOTTED.fullmatch(use):
                message += f"; did you mean {quoted(':'.join(use.rsplit('.', 1)))}?"
            self._problems.add(place, message)
            return FAILED
        module_name, _, attribute = use.partition(":")
        module = self._module(module_name)
        if isinstance(module, BaseException):
            self._problems.add(place, self._why_not(module_name, module), cause=module)
            return FAILED
        found: Any = module
        owner, separator = module_name, ":"
        for name in attribute.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                what = choices(name, self._offered(found), "there are")
                self._problems.add(place, f"{owner!r} has no {name!r}{what}")
                return FAILED
            owner, separator = f"{owner}{separator}{name}", "."
        return found

    def _offered(self, owner: Any) -> list[str]:
        """Return the names in `owner` that may be meant; of functions only its own."""
        home = getattr(owner, "__name__", None)
        return sorted(
            name
            for name, value in getattr(owner, "__dict__", {}).items()
            if not name.startswith("_")
            and (not inspect.isroutine(value) or getattr(value, "__module__", None) == home)
            and self._is_wanted(value)
        )

    def _checked(self, use: str, found: Any, place: Place) -> Callable[..., Any] | None:
        if isinstance(found, Manifold):
            message = f"{use!r} is a Manifold; name a function that returns one"
        elif not callable(found):
            message = f"{use!r} is no function but {_a(found)}"
        elif inspect.iscoroutinefunction(found):
            message = f"{use!r} is async; a factory is a plain function that returns a Manifold"
        else:
            return typing.cast("Callable[..., Any]", found)
        self._problems.add(place, message)
        return None

    def _module(self, name: str) -> Any:
        if name not in self._imported:
            if sys.path[:1] != [self._directory]:
                sys.path.insert(0, self._directory)
            importlib.invalidate_caches()  # a module may be younger than what is cached
            try:
                self._imported[name] = importlib.import_module(name)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:  # noqa: BLE001 - also sys.exit(): told, not obeyed
                self._imported[name] = exc
        return self._imported[name]

    def _why_not(self, name: str, exc: BaseException) -> str:
        missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            found = pkgutil.iter_modules([self._directory])
            here = [info.name for info in found if info.name.isidentifier()]
            return f"there is no module {missing!r}{choices(missing, here, self._where)}"
        return f"importing {name!r} raised {one_line(exc)}{_at(exc)}"


def call(
    use: str, factory: Callable[..., Any], raw: Any, place: Place, problems: Problems
) -> Manifold | None:
    """Return the manifold that `factory` makes of the `raw` config; ``None`` on any problem.

    Args:
        use: what the file calls the factory.
        factory: it.
        raw: the config as the file has it, or ``None``.
        place: of the manifold in the file.
        problems: takes what is wrong.
    """
    at_use = (*place, "use")
    try:
        arguments = _arguments(use, factory, raw, (*place, "config"), problems)
    except NoFactory as exc:
        problems.add(at_use, str(exc), cause=exc.__cause__)
        return None
    if arguments is None or problems.is_unusable((*place, "config")):
        return None
    try:
        made = factory(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - also sys.exit(): told, not obeyed
        problems.add(at_use, f"{use!r} raised {one_line(exc)}{_at(exc)}", cause=exc)
        return None
    if isinstance(made, Manifold):
        return made
    if inspect.iscoroutine(made):
        made.close()  # otherwise Python warns that nobody awaited it
    problems.add(at_use, f"{use!r} returned {_a(made)} instead of a Manifold")
    return None


class NoFactory(Exception):
    """What a file names cannot be called as a factory."""


def _arguments(
    use: str, factory: Callable[..., Any], raw: Any, place: Place, problems: Problems
) -> dict[str, Any] | None:
    """Return what to call `factory` with; ``None`` if there are problems with the config."""
    try:
        parameters = inspect.signature(factory).parameters
    except (ValueError, TypeError) as exc:
        raise NoFactory(f"{use!r} does not say what it takes: {one_line(exc)}") from exc
    needed = required(factory)
    config = parameters.get("config")
    if set(needed) - {"config"} or (config is not None and config.kind is config.POSITIONAL_ONLY):
        raise NoFactory(f"{use!r} takes ({', '.join(needed)}); a factory takes (config) or nothing")
    if config is None:
        if raw is not None:
            problems.add(place, f"{use!r} takes no config; remove the table")
        return {} if raw is None else None
    if raw is None and config.default is not config.empty:
        return {}
    type_ = config_type(use, factory, config.annotation)
    value = structure({} if raw is None else raw, type_, place, problems)
    return None if value is FAILED else {"config": value}


def config_type(use: str, factory: Any, annotation: Any) -> Any:
    """Return the attrs class that the `annotation` of a factory's config means.

    Raises:
        NoFactory: it means no attrs class, or cannot be made out.
    """
    if isinstance(annotation, str):
        # Only this annotation: others may name what exists for type checkers alone.
        inner = inspect.unwrap(factory)
        inner = getattr(inner, "func", inner)  # of a partial
        if inspect.isclass(inner) or not hasattr(inner, "__globals__"):
            scope = vars(sys.modules[inner.__module__])
        else:
            scope = inner.__globals__
        holder = type("holder", (), {"__annotations__": {"config": annotation}})
        try:
            annotation = typing.get_type_hints(holder, globalns=scope, localns=scope)["config"]
        except Exception as exc:
            msg = f"{use!r}: the type of config cannot be made out: {one_line(exc)}"
            raise NoFactory(msg) from exc
    if not (isinstance(annotation, type) and attrs.has(annotation)):
        told = "none" if annotation is inspect.Parameter.empty else _name(annotation)
        raise NoFactory(
            f"{use!r}: the type of config must be an attrs class (@attrs.frozen), not {told}"
        )
    try:
        attrs.resolve_types(annotation)
    except Exception as exc:
        msg = f"{use!r}: the types in {_name(annotation)} cannot be made out: {one_line(exc)}"
        raise NoFactory(msg) from exc
    return annotation


def required(function: Callable[..., Any]) -> list[str]:
    """Return the parameters that `function` cannot be called without.

    Raises:
        ValueError, TypeError: it does not say what it takes.
    """
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in {p.VAR_KEYWORD, p.VAR_POSITIONAL}
    ]


def is_plain(value: Any, *given: str) -> bool:
    """Whether `value` is a plain function that can be called with no arguments but the `given`."""
    if not inspect.isroutine(value) or inspect.iscoroutinefunction(value):
        return False
    try:
        return set(required(value)) <= set(given)
    except (ValueError, TypeError):
        return False


def _is_factory(value: Any) -> bool:
    return is_plain(value, "config")


def _a(value: object) -> str:
    return "None" if value is None else f"a value of type {_name(type(value))}"


def _name(type_: Any) -> str:
    name = getattr(type_, "__qualname__", None)
    return name if isinstance(name, str) else str(type_)


def _at(exc: BaseException) -> str:
    """Say where foreign code raised `exc`."""
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<frozen importlib")
        and frame.filename not in {__file__, importlib.__file__}
    ]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
