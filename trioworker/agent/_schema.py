"""The JSON Schema of agent files, made from the classes that read them, for editors.

`schema_of` is a pure function: the tables of the file are those that `_load` reads, and a class is
taken apart as `_structure` does it. So what the schema refuses, the reader refuses; and what the
reader refuses for its structure (a key, a kind of value, something missing), the schema refuses,
with these exceptions: a number that is whole passes for an integer (JSON has but one kind), a date
is a string that looks like one, and what a validator in Python says can only be said in Python.

A string may come from the environment, and so may a number, as a string with ``${NAME}`` in it.

What stands under a field in the source becomes its description: there is nowhere else to write it.
The schema is of draft 7, which most editors know.
"""

from __future__ import annotations

import ast
import datetime as dt
import enum
import inspect
import math
import pkgutil
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import attrs

import trioworker.workers
from trioworker import EngineConfig, Manifold

from ._factory import USE, Importer, NoFactory, config_type, is_plain
from ._load import ENGINE_KEYS, MANIFOLD_KEYS, NAME, OPTION_KEYS
from ._problems import Problems
from ._structure import container, is_enum, is_literal, is_table, is_union

if TYPE_CHECKING:
    import os

Schema = dict[str, Any]
Factory = Callable[..., Any]

_NAME_IN_BRACES = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
_TEXT = rf"([^$]|\$\$|{_NAME_IN_BRACES})*"
_STRING: Schema = {"type": "string", "pattern": f"^{_TEXT}$"}
FROM_ENVIRONMENT: Schema = {"type": "string", "pattern": f"^{_TEXT}{_NAME_IN_BRACES}{_TEXT}$"}

_SCALARS: dict[Any, Schema] = {
    str: _STRING,
    Path: _STRING,
    int: {"anyOf": [{"type": "integer"}, FROM_ENVIRONMENT]},
    float: {"anyOf": [{"type": "number"}, FROM_ENVIRONMENT]},
    bool: {"type": "boolean"},
    dt.datetime: {"type": "string", "format": "date-time"},
    dt.date: {"type": "string", "format": "date"},
    dt.time: {"type": "string", "format": "time"},
}

_TEXTS: dict[str, Schema] = {
    key: {"description": text}
    for key, text in {
        "use": "The factory: 'package.module:function', which returns a manifold.",
        "inputs": "Which manifold plays which required role; a list where the names are the same.",
        "optional": "Likewise for the roles that may be missing, and that restart us.",
        "live": "Likewise for the roles that may be missing, and that never restart us.",
        "start_timeout": "Seconds until it must be ready; inf for ever.",
        "stop_timeout": "Seconds after the cancellation until it counts as stuck; inf for never.",
        "config": "What the factory is given; its keys are those of the factory's config class.",
    }.items()
}
"""What is said of a key of a manifold where its class does not say it, or in words of Python."""


def file_schema(path: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of agent files, as plain data; starts nothing.

    It knows the configs of the ready-made workers whose extras are installed, and those of the
    factories that the file at `path` names, which are imported for that: see `load`. What of the
    file cannot be read or imported is passed over, for a file is edited when it is not whole.

    Args:
        path: an agent file.
    """
    factories = dict(ready_made())
    if path is not None:
        factories.update(named_in(Path(path)))
    return schema_of(factories)


def schema_of(factories: Mapping[str, Factory]) -> Schema:
    """Return the schema of agent files whose manifolds have these `factories`, or unknown ones."""
    taken = _Taken()
    conditions = [taken.condition(use, factory) for use, factory in factories.items()]
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A trioworker agent file",
        **taken.table(
            {
                "engine": {
                    "description": "How the engine behaves.",
                    **taken.table(taken.fields(EngineConfig, ENGINE_KEYS)),
                },
                "manifolds": {
                    "description": "The parts of the program, by name.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": {"pattern": f"^{NAME.pattern}$"},
                    "additionalProperties": {
                        **taken.table(taken.manifold(factories), ["use"]),
                        "allOf": [condition for condition in conditions if condition],
                    },
                },
            },
            ["manifolds"],
        ),
    }
    return {**schema, "definitions": taken.definitions}


class _Taken:
    """The classes that were taken apart for one schema."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def manifold(self, factories: Iterable[str]) -> Schema:
        """Return the schemas of the keys of a manifold."""
        keys = {key: self.type_(type_) for key, type_ in MANIFOLD_KEYS.items()}
        keys.update(self.fields(Manifold, OPTION_KEYS, with_defaults=False))
        known: Schema = {"enum": list(factories)}  # an editor offers these
        other: Schema = {"type": "string", "pattern": f"^{USE.pattern}$"}
        keys["use"] = {"anyOf": [known, other, FROM_ENVIRONMENT]}
        return {key: {**keys[key], **_TEXTS.get(key, {})} for key in keys}

    def condition(self, use: str, factory: Factory) -> Schema | None:
        """Return what follows for `config` from the `use` of this factory; ``None`` if nothing."""
        parameter = inspect.signature(factory).parameters.get("config")
        if parameter is None:
            config: Any = False
            needed: list[str] = []
        else:
            try:
                type_ = config_type(use, factory, parameter.annotation)
            except NoFactory:
                return None
            config = self.type_(type_)
            is_needed = parameter.default is parameter.empty and _required(type_)
            needed = ["config"] if is_needed else []
        then = {"properties": {"config": config}, "required": needed}
        return {"if": {"properties": {"use": {"const": use}}, "required": ["use"]}, "then": then}

    def table(self, keys: Schema, needed: Iterable[str] = ()) -> Schema:
        """Return the schema of a table with these keys and no others."""
        return {
            "type": "object",
            "properties": keys,
            "required": list(needed),
            "additionalProperties": False,
        }

    def fields(
        self, type_: Any, types: Mapping[str, Any], *, with_defaults: bool = True
    ) -> dict[str, Schema]:
        """Return the schemas of fields of a class, with what is said of them there."""
        texts = field_texts(type_)
        defaults = {f.alias or f.name: f.default for f in attrs.fields(type_)}
        schemas: dict[str, Schema] = {}
        for name, field_type in types.items():
            schema = self.type_(field_type)
            if name in texts:
                schema = {"description": texts[name], **schema}
            if with_defaults and (default := _plain(defaults[name])) is not None:
                schema = {**schema, "default": default}
            schemas[name] = schema
        return schemas

    def type_(self, type_: Any) -> Schema:
        """Return the schema of what can be read as `type_`; of anything, if that is not known."""
        if is_union(type_):
            members = [self.type_(m) for m in get_args(type_) if m is not type(None)]
            return members[0] if len(members) == 1 else {"anyOf": members}
        if is_literal(type_):
            return _choice(get_args(type_))
        if is_enum(type_):
            return _choice([member.value for member in type_])
        if type_ in _SCALARS:
            return _SCALARS[type_]
        if attrs.has(type_):
            return {"allOf": [{"$ref": f"#/definitions/{self.defined(type_)}"}]}
        if is_table(type_):
            values = (get_args(type_) or (Any, Any))[1]
            return {"type": "object", "additionalProperties": self.type_(values)}
        if container(type_) == "an array":
            return self.array(type_)
        return {"type": "object"} if container(type_) == "a table" else {}

    def array(self, type_: Any) -> Schema:
        """Return the schema of a list, a set or a tuple."""
        items = get_args(type_)
        if get_origin(type_) is tuple and items[-1:] != (...,) and items:
            size = len(items)
            each = [self.type_(item) for item in items]
            return {"type": "array", "items": each, "minItems": size, "maxItems": size}
        return {"type": "array", "items": self.type_(items[0]) if items else {}}

    def defined(self, type_: Any) -> str:
        """Return the name under which the schema of an attrs class stands in the definitions."""
        name = f"{type_.__module__}.{type_.__qualname__}"
        if name not in self.definitions:
            self.definitions[name] = {}  # now, because a class may have fields of itself
            attrs.resolve_types(type_)
            fields = {f.alias or f.name: f for f in attrs.fields(type_) if f.init}
            types = {key: Any if f.type is None else f.type for key, f in fields.items()}
            self.definitions[name] = {
                "description": (inspect.getdoc(type_) or "").partition("\n")[0],
                **self.table(self.fields(type_, types), _required(type_)),
            }
        return name


def _required(type_: Any) -> list[str]:
    return [f.alias or f.name for f in attrs.fields(type_) if f.init and f.default is attrs.NOTHING]


def _choice(values: Iterable[Any]) -> Schema:
    values = list(values)
    known: Schema = {"enum": values}
    some_are_strings = any(isinstance(value, str) for value in values)
    return {"anyOf": [known, FROM_ENVIRONMENT]} if some_are_strings else known


def _plain(default: Any) -> Any:
    """Return a default as JSON has it; ``None`` if it has none like it."""
    if isinstance(default, enum.Enum):
        default = default.value
    if isinstance(default, frozenset):
        return sorted(filter(None, map(_plain, default)))
    if isinstance(default, Path):
        return str(default)
    if isinstance(default, float) and not math.isfinite(default):
        return None
    return default if isinstance(default, (bool, int, float, str)) else None


# -- the factories that there are ------------------------------------------------------------------


def ready_made() -> Iterator[tuple[str, Factory]]:
    """Yield the factories in `trioworker.workers`, each after what `use` says for it."""
    for found in pkgutil.walk_packages(trioworker.workers.__path__, "trioworker.workers."):
        if "._" in found.name:
            continue
        try:
            module = import_module(found.name)
        except ImportError:  # an extra that is not installed
            continue
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if is_plain(value, "config") and _returns_manifold(value):
                yield f"{found.name}:{name}", value


def _returns_manifold(function: Factory) -> bool:
    return inspect.signature(function).return_annotation in {Manifold, "Manifold"}


def named_in(path: Path) -> Iterator[tuple[str, Factory]]:
    """Yield the factories that a file names, as far as they can be had."""
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return
    importer = Importer(path.absolute().parent, Problems())
    tables: Any = data.get("manifolds")
    for table in tables.values() if isinstance(tables, dict) else ():
        use = table.get("use") if isinstance(table, dict) else None
        factory = importer.factory(use, ()) if isinstance(use, str) else None
        if factory is not None and is_plain(factory, "config"):
            yield str(use), factory


# -- what is said of fields ------------------------------------------------------------------------


def field_texts(type_: type) -> dict[str, str]:
    """Return what stands under the fields of a class, by field, each text in one line."""
    body = _body(type_)
    texts: dict[str, str] = {}
    for statement, below in pairwise(body):
        match statement, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                texts[name.lstrip("_")] = " ".join(text.split())
            case _:
                continue
    return texts


def _body(type_: type) -> list[ast.stmt]:
    """Return the statements of a class; none if there is no source.

    Public classes say that they live in their package, so they are looked for in its modules too.
    """
    home = type_.__module__
    for name, module in list(sys.modules.items()):
        is_near = name == home or name.startswith(f"{home}.")
        if is_near and vars(module).get(type_.__name__) is type_:
            try:
                tree = ast.parse(textwrap.dedent(inspect.getsource(module)))
            except (OSError, TypeError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and node.name == type_.__name__:
                    return node.body
    return []
