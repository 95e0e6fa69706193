"""Every public callable has a docstring, which tells of each parameter.

What counts as telling: the parameter's name, or a word of it, stands in the text of the function or
of its class; or the text sends the reader to another one. That is crude, and notices what was
forgotten: a new parameter, say, of which nobody wrote a word.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import trioworker
from trioworker.agent._schema import field_texts

Function = Callable[..., Any]

# The verbs of each worker, told once: see `trioworker.Worker`.
OF_A_WORKER = {"run": {"task_status"}, "kill": {"reason", "grace"}}

# Attrs calls these, and looks at nothing but where they are in the line.
OF_ATTRS = {"trioworker.patterns.named", "trioworker.patterns.positive"}

ELSEWHERE = re.compile(r"\b([Ss]ee|[Aa]s|[Ll]ike|as for|what) `")
AS_ANOTHER_CLASS = re.compile(r"\bas the methods of `")


def modules() -> Iterator[str]:
    yield "trioworker"
    for found in pkgutil.walk_packages(trioworker.__path__, "trioworker."):
        if "._" not in found.name and hasattr(importlib.import_module(found.name), "__all__"):
            yield found.name


def functions() -> Iterator[tuple[str, Function, str]]:
    """Each public function and method, by name, with the text of its class."""
    for module in modules():
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            if inspect.isclass(thing) and thing.__module__.startswith("trioworker"):
                yield from methods(f"{module}.{name}", thing)
            elif inspect.isroutine(thing):
                yield f"{module}.{name}", thing, ""


def methods(name: str, class_: type) -> Iterator[tuple[str, Function, str]]:
    for attribute, value in vars(class_).items():
        if isinstance(value, property):
            value = value.fget  # noqa: PLW2901 - what it is made of is looked at
        elif isinstance(value, (classmethod, staticmethod)):
            value = value.__func__  # noqa: PLW2901 - likewise
        if inspect.isfunction(value) and not attribute.startswith("_"):
            yield f"{name}.{attribute}", value, class_.__doc__ or ""


def untold(name: str, function: Function, of_class: str = "") -> list[str]:
    """Return the parameters of which neither text says anything."""
    text = function.__doc__ or ""
    if ELSEWHERE.search(text) or AS_ANOTHER_CLASS.search(of_class) or name in OF_ATTRS:
        return []
    told = set(re.findall(r"[a-z]+", f"{text} {of_class}".lower()))
    known = OF_A_WORKER.get(name.rpartition(".")[2], set())
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in {"self", "cls", "config", *known}
        and parameter.kind is not parameter.VAR_KEYWORD
        and not any(is_told(word, told) for word in parameter.name.strip("_").split("_"))
    ]


def is_told(word: str, told: set[str]) -> bool:
    return bool({word, f"{word}s", word.removesuffix("s")} & told)


def test_every_public_module_and_class_has_a_docstring() -> None:
    for module in modules():
        assert importlib.import_module(module).__doc__, module
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            if inspect.isclass(thing):
                assert thing.__doc__, f"{module}.{name}"


def test_every_public_function_has_a_docstring() -> None:
    found = list(functions())

    assert len(found) > 400
    assert [name for name, function, _ in found if not function.__doc__] == []


def test_every_parameter_is_told_of() -> None:
    missing = {name: lacking for name, f, text in functions() if (lacking := untold(name, f, text))}

    assert missing == {}


UNIT = re.compile(
    r"second|\bclock|delay|\bpart|multiplies|current_time|Unix time|0 to 1", re.IGNORECASE
)


def test_every_field_that_is_a_number_with_a_point_says_of_what() -> None:
    unclear: list[str] = []
    for module in modules():
        for name in importlib.import_module(module).__all__:
            thing = getattr(importlib.import_module(module), name)
            if inspect.isclass(thing):
                texts = field_texts(thing)
                unclear += [
                    f"{module}.{name}.{field}"
                    for field, type_ in inspect.get_annotations(thing).items()
                    if "float" in str(type_) and "Callable" not in str(type_)
                    if not UNIT.search(f"{field} {texts.get(field, '')}")
                ]

    assert unclear == []


def move(thing: object, distance: float, by_hand: bool = False) -> None:  # noqa: FBT001, FBT002
    """Carry a thing."""


def moved(distance: float) -> None:
    """As `move`."""


@pytest.mark.parametrize(
    "of_class, missing",
    [("", ["distance", "by_hand"]), ("Its distances are in metres.", ["by_hand"])],
)
def test_a_parameter_of_which_nothing_is_said_is_noticed(of_class: str, missing: list[str]) -> None:
    assert untold("move", move, of_class) == missing
    assert untold("moved", moved) == []
