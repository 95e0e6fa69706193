"""EngineConfig: the documented defaults, and each field broken on its own."""

from typing import Any

import attrs
import pytest

from trioworker import RestartPolicy
from trioworker.dependency import Engine, EngineConfig


def test_the_documented_defaults() -> None:
    config = EngineConfig()

    assert config.name == "engine"
    assert config.restart == RestartPolicy()
    assert config.is_fatal(KeyError()) is False
    first, second = KeyError(1), KeyError(2)
    assert config.worst_error(first, second) is first
    assert config.filter is None
    assert config.on_failed == "report"
    assert config.history == 16


@pytest.mark.parametrize(
    "field, value, error",
    [
        ("name", "", TypeError),
        ("name", 5, TypeError),
        ("name", None, TypeError),
        ("restart", None, TypeError),
        ("restart", 1.0, TypeError),
        ("restart", {"error_delay": 1.0}, TypeError),
        ("is_fatal", None, TypeError),
        ("is_fatal", True, TypeError),
        ("is_fatal", ValueError("an instance"), TypeError),
        ("worst_error", None, TypeError),
        ("worst_error", "first", TypeError),
        ("filter", "none", TypeError),
        ("filter", {}, TypeError),
        ("on_failed", "ignore", ValueError),
        ("on_failed", None, ValueError),
        ("on_failed", True, ValueError),
        ("on_failed", [], ValueError),
        ("history", None, TypeError),
        ("history", True, TypeError),
        ("history", 1.5, TypeError),
        ("history", "16", TypeError),
        ("history", -1, ValueError),
    ],
)
def test_a_broken_field_is_refused_by_name_and_value(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        EngineConfig(**{field: value})

    assert str(caught.value).startswith(f"EngineConfig({field}=...) must be ")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "field, value",
    [
        ("on_failed", "fatal"),
        ("history", 0),
        ("filter", str),
        ("restart", RestartPolicy(max_restarts=3)),
    ],
)
def test_what_is_usable_is_kept(field: str, value: Any) -> None:
    config = EngineConfig(**{field: value})

    assert getattr(config, field) is value


def test_it_is_keyword_only_and_frozen() -> None:
    with pytest.raises(TypeError):
        EngineConfig("engine")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # the point
    config = EngineConfig()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # the point


def test_is_fatal_is_a_function_and_not_the_errors_themselves() -> None:
    """A class is true for whatever it is called with: every error would be fatal."""
    with pytest.raises(TypeError, match=r"EngineConfig\(is_fatal=\.\.\.\) must be a function"):
        EngineConfig(is_fatal=OSError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_is_fatal_is_not_async() -> None:
    """A coroutine is true as well."""

    async def is_fatal(exc: BaseException) -> bool:
        return False

    with pytest.raises(TypeError, match="must be a plain function, not an async one"):
        EngineConfig(is_fatal=is_fatal)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_an_engine_shows_how_to_give_it_a_config() -> None:
    with pytest.raises(TypeError, match=r"write Engine\(EngineConfig\(\.\.\.\)\)"):
        Engine(RestartPolicy())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
