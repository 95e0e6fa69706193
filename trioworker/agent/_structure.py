"""From the plain data of a file to the attrs class that a factory asks for: strict, and complete.

cattrs knows how types are taken apart; what is added here is that nothing is converted that only
looks convertible (``"8080"`` is no integer, ``true`` is no number), that a class collects what is
wrong with all of its fields, and that what is wrong is said in the words of the file.

The one conversion that there is: a number may come from the environment, which has only strings.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import re
import types
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)

from ._environment import EnvStr, Mask, hide, number_from, variables
from ._problems import Key, Place, Problems, choices, one_line

Hook = Callable[[Any, Any], Any]
Failed = tuple[Place, str, BaseException | None]


class Broken(Exception):
    """What is wrong with a value: places within it, and what is to be said of each."""

    def __init__(self, *failed: Failed) -> None:
        super().__init__(failed)
        self.failed = failed


FAILED: Any = object()
"""What `structure` returns instead of a value; the problems are told."""


def structure(value: Any, type_: Any, place: Place, problems: Problems) -> Any:
    """Return `value` as `type_`; or `FAILED`, having added what is wrong with it."""
    try:
        return converter().structure(value, type_)
    except Exception as exc:  # noqa: BLE001 - validators are foreign code; all is told
        for inner, message, cause in failures(exc):
            at = (*place, *inner)
            if not problems.is_unusable(at):
                mask = Mask(variables(found(value, inner)), least=1)
                problems.add(at, message, mask=mask, cause=cause)
        return FAILED


def found(data: Any, place: Place) -> Any:
    """Return what is at `place` of `data`, or the last thing on the way there."""
    for part in place:
        try:
            data = data[part]
        except (LookupError, TypeError):
            break
    return data


def failures(exc: BaseException) -> Iterator[Failed]:
    """Yield what is wrong, from what a hook raised."""
    if isinstance(exc, Broken):
        yield from exc.failed
    elif isinstance(exc, (IterableValidationError, ClassValidationError)):
        noted, others = exc.group_exceptions()
        for inner, note in noted:
            for place, message, cause in _noted(inner, note):
                yield (_part(note), *place), message, cause
        for inner in others:
            yield from failures(inner)
    else:
        yield (), what(exc), exc


def _part(note: IterableValidationNote | AttributeValidationNote) -> Key | str | int:
    """Return where in a container, or in a class that is not attrs', an error is."""
    if isinstance(note, AttributeValidationNote):
        return note.name
    return Key(note.index) if isinstance(note.index, str) else note.index


def _noted(
    exc: Exception, note: IterableValidationNote | AttributeValidationNote
) -> Iterator[Failed]:
    if isinstance(exc, KeyError) and exc.args == (getattr(note, "name", None),):
        yield (), "missing; it is required", exc  # cattrs looks the field up, and that is all
    else:
        yield from failures(exc)


def what(exc: BaseException) -> str:
    """Return what to say of an error of foreign code."""
    if isinstance(exc, StructureHandlerNotFoundError):
        return f"its type {exc.type_!r} cannot be read from a file"
    if isinstance(exc, (ValueError, TypeError)) and exc.args:
        # attrs' own validators put the attribute and the value behind the message.
        text = " ".join(str(exc.args[0]).split())
        return _OWN.sub("", text) or type(exc).__name__
    return one_line(exc)


# Our configs name themselves and the field; here the place does.
_OWN = re.compile(r"^(?:EngineConfig|RestartPolicy)\(\w+=[^,)]*\)(?:: \w+)? (?=must )")


# -- the converter ---------------------------------------------------------------------------------


@functools.cache
def converter() -> Converter:
    """Return the one converter there is."""
    made = Converter()
    for type_, hook in _SCALARS.items():
        made.register_structure_hook(type_, _or_enum(hook))
    # The containers are cattrs' own business, once the value is one: a string is a sequence too.
    busy: list[Any] = []

    def is_container(type_: Any) -> bool:
        return container(type_) is not None and type_ not in busy

    made.register_structure_hook_factory(is_literal, _literal)
    made.register_structure_hook_factory(is_enum, _enum)
    made.register_structure_hook_factory(attrs.has, functools.partial(_class, made))
    made.register_structure_hook_factory(is_union, functools.partial(_union, made))
    made.register_structure_hook_factory(is_container, functools.partial(_guarded, made, busy))
    made.register_structure_hook_factory(is_table, functools.partial(_table, made))
    return made


def is_literal(type_: Any) -> bool:
    """Whether `type_` lists the values that it has."""
    return get_origin(type_) is Literal


def is_enum(type_: Any) -> bool:
    """Whether `type_` is an enum, whose values a file writes."""
    return isinstance(type_, type) and issubclass(type_, enum.Enum)


def is_table(type_: Any) -> bool:
    """Whether `type_` is a mapping whose values are all of one type."""
    return (get_origin(type_) or type_) in {dict, Mapping, MutableMapping}


def is_union(type_: Any) -> bool:
    """Whether `type_` is one of several, or may be ``None``."""
    return get_origin(type_) in {Union, types.UnionType}


def expected(wanted: str, value: Any) -> Broken:
    """Return what to raise for a `value` of the wrong kind."""
    return Broken(((), f"expected {wanted}, got {_told(value)}", None))


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return str(value).lower()  # as TOML writes it
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"  # noqa: PLR2004 - a line stays a line


def _string(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise expected("a string", value)
    return value  # the same object: it may be an EnvStr


def _integer(value: Any, _: Any) -> int:
    if isinstance(value, EnvStr):
        number = number_from(value, int, r"[+-]?\d{1,400}")
        if number is not None:
            return int(number)
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected("an integer", value)
    return value


def _number(value: Any, _: Any) -> float:
    if isinstance(value, EnvStr):
        number = number_from(value, float, r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf")
        if number is not None:
            return float(number)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise expected("a number", value)
    try:
        return float(value)
    except OverflowError:
        raise expected("a number below 1.8e308", value) from None


def _boolean(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def _path(value: Any, _: Any) -> Path:
    return Path(_string(value, str))


def _exactly(type_: type, wanted: str) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not type_:
            raise expected(wanted, value)
        return value

    return hook


_SCALARS: dict[Any, Hook] = {
    str: _string,
    int: _integer,
    float: _number,
    bool: _boolean,
    Path: _path,
    dt.datetime: _exactly(dt.datetime, "a date with a time"),
    dt.date: _exactly(dt.date, "a date"),
    dt.time: _exactly(dt.time, "a time"),
}


def _choice(allowed: Collection[Any]) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        for choice in allowed:
            # True is an int and equals 1, but nobody means it.
            if choice == value and isinstance(value, bool) == isinstance(choice, bool):
                return value
        raise expected(_either(map(repr, allowed)), value)

    return hook


def _literal(type_: Any) -> Hook:
    return _choice(get_args(type_))


def _enum(type_: type[enum.Enum]) -> Hook:
    choice = _choice([member.value for member in type_])
    return lambda value, _: type_(choice(value, type_))


def _or_enum(hook: Hook) -> Hook:
    """Return `hook`, but for enums: cattrs finds it by the base, and a `StrEnum` is a string."""

    def either(value: Any, type_: Any) -> Any:
        return _enum(type_)(value, type_) if is_enum(type_) else hook(value, type_)

    return either


def _union(made: Converter, type_: Any) -> Hook:
    members = [member for member in get_args(type_) if member is not type(None)]
    hooks = [(member, made.get_structure_hook(member)) for member in members]
    if len(hooks) == 1:  # None is not in any file
        return lambda value, _: hooks[0][1](value, hooks[0][0])
    tables = [hook for hook in hooks if _kind(hook[0]) == "a table"]
    arrays = [hook for hook in hooks if _kind(hook[0]) == "an array"]

    def structure_union(value: Any, _: Any) -> Any:
        for shape, those in ((dict, tables), (list, arrays)):
            if isinstance(value, shape) and len(those) == 1:
                return those[0][1](value, those[0][0])
        for member, hook in hooks:
            try:
                return hook(value, member)
            except Exception:  # noqa: BLE001, S112 - the next member may fit
                continue
        raise expected(_either(_kind(member) for member in members), value)

    return structure_union


_KINDS: dict[Any, str] = {
    str: "a string",
    Path: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
}


def _kind(type_: Any) -> str:
    if is_literal(type_):
        return _either(map(repr, get_args(type_)))
    if is_union(type_):
        return _either(_kind(member) for member in get_args(type_) if member is not type(None))
    kind = _KINDS.get(type_) or ("a table" if attrs.has(type_) else container(type_))
    return kind or str(getattr(type_, "__name__", type_))


def _either(words: Any) -> str:
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} or {last}" if most else str(last)


def container(type_: Any) -> str | None:
    """Say what a file must have for a container type; ``None`` for any other."""
    origin = get_origin(type_) or type_
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, enum.Enum)):
        return None
    if issubclass(origin, Mapping):
        return "a table"
    return "an array" if issubclass(origin, Collection) else None


def _guarded(made: Converter, busy: list[Any], type_: Any) -> Hook:
    busy.append(type_)
    try:
        inner = made.get_structure_hook(type_, cache_result=False)
    finally:
        busy.remove(type_)
    wanted = container(type_) or "a container"
    shape = dict if wanted == "a table" else list

    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, shape):
            raise expected(wanted, value)
        return inner(value, type_)

    return hook


def _table(made: Converter, type_: Any) -> Hook:
    # Not guarded like the others: cattrs would remember its own hook for it in place of ours.
    key_type, value_type = get_args(type_) or (Any, Any)
    key_hook, value_hook = made.get_structure_hook(key_type), made.get_structure_hook(value_type)

    def hook(value: Any, _: Any) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise expected("a table", value)
        failed: list[Failed] = []
        filled: dict[Any, Any] = {}
        for key, item in value.items():
            try:
                filled[key_hook(key, key_type)] = value_hook(item, value_type)
            except Exception as exc:  # noqa: BLE001 - all that is wrong is collected
                failed += [((Key(key), *place), text, why) for place, text, why in failures(exc)]
        if failed:
            raise Broken(*failed)
        return filled

    return hook


# -- classes ---------------------------------------------------------------------------------------


def _class(made: Converter, type_: Any) -> Hook:
    def hook(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise expected("a table", value)
        return _filled(made, type_, value)

    return hook


def _filled(made: Converter, type_: Any, table: dict[str, Any]) -> Any:
    """Return an instance of the attrs class `type_` with the fields of `table`."""
    attrs.resolve_types(type_)
    fields = {field.alias or field.name: field for field in attrs.fields(type_) if field.init}
    failed: list[Failed] = [
        ((key,), f"unknown key{choices(key, fields)}", None) for key in table if key not in fields
    ]
    values: dict[str, Any] = {}
    for key, field in fields.items():
        if key in table:
            annotation = Any if field.type is None else field.type
            try:
                values[key] = made.get_structure_hook(annotation)(table[key], annotation)
            except Exception as exc:  # noqa: BLE001 - all that is wrong is collected
                failed += [((key, *place), text, cause) for place, text, cause in failures(exc)]
        elif field.default is attrs.NOTHING:
            failed.append(((key,), f"missing; it is required ({_kind(field.type)})", None))
    if failed:
        raise Broken(*failed, *_refused(type_, values))
    made_one = made_of(type_, values)
    if used := tuple(variables(table)):
        hide(made_one, used)
    return made_one


def _refused(type_: Any, values: dict[str, Any]) -> Iterator[Failed]:
    """Yield those of `values` that the validators of their fields refuse.

    For a class that cannot be made, because other fields are wrong: a validator that looks at one
    of these finds it missing, and is not asked. Checks of the whole class would see a default in
    the place of what is wrong, and blame others for it.
    """
    instance = object.__new__(type_)
    validators: list[tuple[str, Any]] = []
    for field in attrs.fields(type_):
        key = field.alias or field.name
        if key in values and not isinstance(field.converter, attrs.Converter):
            try:
                value = values[key] if field.converter is None else field.converter(values[key])
            except Exception as exc:  # noqa: BLE001 - foreign code
                yield (key,), what(exc), exc
                continue
            object.__setattr__(instance, field.name, value)
            if field.validator is not None:
                validators.append((key, field))
    for key, field in validators:
        try:
            field.validator(instance, field, getattr(instance, field.name))
        except AttributeError:
            pass
        except Exception as exc:  # noqa: BLE001 - foreign code
            yield (key,), what(exc), exc


T = TypeVar("T")


def made_of(type_: type[T], values: dict[str, Any]) -> T:
    """Return ``type_(**values)``; raise `Broken` with each field that it refuses."""
    try:
        return type_(**values)
    except Exception as exc:
        raise Broken(*_blamed(type_, values, exc)) from exc


def _blamed(type_: Any, values: dict[str, Any], exc: Exception) -> list[Failed]:
    """Find the fields that are to blame for `exc`, which the class raised for `values`.

    First the validators of the fields, one by one. If it was none of them, the fields that have a
    default are added one after the other, as often as that makes progress: what cannot be added to
    the others is to blame.
    """
    try:
        with attrs.validators.disabled():
            instance = type_(**values)
    except Exception:  # noqa: BLE001 - then it is no validator of a field
        instance = None
    failed: list[Failed] = []
    fields = {field.alias or field.name: field for field in attrs.fields(type_)}
    for key in values if instance is not None else ():
        field = fields[key]
        if field.validator is not None:
            try:
                field.validator(instance, field, getattr(instance, field.name))
            except Exception as error:  # noqa: BLE001 - foreign code
                failed.append(((key,), what(error), error))
    if failed:
        return failed
    good = {key: v for key, v in values.items() if fields[key].default is attrs.NOTHING}
    left = {key: v for key, v in values.items() if key not in good}
    if _refusal(type_, good) is None:
        while added := [k for k, v in left.items() if _refusal(type_, {**good, k: v}) is None]:
            good[added[0]] = left.pop(added[0])
        refusals = {key: _refusal(type_, {**good, key: left[key]}) for key in left}
        failed += [((key,), what(err), err) for key, err in refusals.items() if err is not None]
    return failed or [((), what(exc), exc)]


def _refusal(type_: Any, values: dict[str, Any]) -> Exception | None:
    try:
        type_(**values)
    except Exception as exc:  # noqa: BLE001 - foreign code
        return exc
    return None
