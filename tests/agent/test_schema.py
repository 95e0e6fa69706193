"""The JSON Schema of agent files: what it refuses, the reader refuses, and the other way round."""

import datetime as dt
import enum
import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from jsonschema import Draft7Validator, FormatChecker

import trioworker
from trioworker.agent import AgentFileError, file_schema, load
from trioworker.agent._problems import Problems
from trioworker.agent._schema import field_texts, ready_made, schema_of
from trioworker.agent._structure import FAILED, structure

from .conftest import Folder

ROOT = Path(__file__).parents[2]
FILES = [
    Path(trioworker.__file__).parent / "_demo" / "agent.toml",  # where it was installed
    *(
        path
        for path in sorted((ROOT / "docs/examples").rglob("*.toml"))
        if "[manifolds." in path.read_text(encoding="utf-8")
    ),
]
GATE = "trioworker.workers.coordination.gate:manifold"
FORTRESS = "trioworker.workers.coordination.fortress:manifold"
FLOCK = "trioworker.workers.coordination.flockfortress:manifold"

GOOD = f"""
[engine]
name = "ingest"
history = "${{HISTORY}}"
on_failed = "fatal"
restart = {{ error_delay = 0.5, max_delay = inf, max_restarts = 3 }}

[manifolds.main-db]
use = "workers:plain"

[manifolds.gate]
use = "{GATE}"

[manifolds.web]
use = "workers:web"
inputs = {{ db = "main-db" }}
live = {{ settings = "gate" }}
start_timeout = 5
stop_timeout = inf
restart = {{ error_delay = 0.1 }}
config = {{ port = "80${{HISTORY}}", token = "a$$b" }}
"""


def as_json(value: Any) -> Any:
    """Return what was read from TOML as an editor hands it to a schema: it has no dates."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else value


def refusals(schema: dict[str, Any], data: object) -> list[str]:
    validator = Draft7Validator(schema, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(as_json(data))]


def test_it_is_a_schema_and_plain_json() -> None:
    schema = file_schema()

    Draft7Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_files_that_we_show_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    try:
        schema = file_schema(path)
    finally:
        for name in set(sys.modules) - before:
            if str(path.parent) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]

    assert refusals(schema, tomllib.loads(path.read_text(encoding="utf-8"))) == []


def test_the_file_of_these_tests_is_good(folder: Folder) -> None:
    folder.environ["HISTORY"] = "4"

    assert folder.load(GOOD).config.history == 4
    assert refusals(file_schema(folder.path / "agent.toml"), tomllib.loads(GOOD)) == []


@pytest.mark.parametrize(
    "old, new",
    [
        pytest.param("[engine]", "[motor]", id="an unknown table"),
        pytest.param('name = "ingest"', 'nama = "ingest"', id="an unknown key of the engine"),
        pytest.param('name = "ingest"', "name = 3", id="a number as a name"),
        pytest.param('"ingest"', '"in$gest"', id="a dollar alone"),
        pytest.param('"${HISTORY}"\n', '"4"\n', id="a string as an integer"),
        pytest.param('"${HISTORY}"\n', "true\n", id="a boolean as an integer"),
        pytest.param('"fatal"', '"panic"', id="no choice"),
        pytest.param("error_delay = 0.5", "eror_delay = 0.5", id="an unknown key of a policy"),
        pytest.param("error_delay = 0.5", 'error_delay = "0.5"', id="a string as a number"),
        pytest.param("max_restarts = 3", "max_restarts = 3.5", id="a part as an integer"),
        pytest.param("[manifolds.gate]", "[manifolds.Gate]", id="a name with a capital"),
        pytest.param("[manifolds.gate]", "[manifolds.'']", id="no name"),
        pytest.param('use = "workers:plain"', "", id="no factory"),
        pytest.param('"workers:plain"', '"workers.plain"', id="a factory without a colon"),
        pytest.param('"workers:plain"', "7", id="a number as a factory"),
        pytest.param('{ db = "main-db" }', "{ db = 3 }", id="a role that is a number"),
        pytest.param('{ settings = "gate" }', '"settings"', id="a string as roles"),
        pytest.param("start_timeout = 5", "start_timout = 5", id="an unknown key of a manifold"),
        pytest.param("start_timeout = 5", 'start_timeout = "5"', id="a string as seconds"),
        pytest.param('token = "a$$b"', "token = 3", id="a config's string that is a number"),
        pytest.param('token = "a$$b"', "tokan = 3", id="an unknown key of a config"),
        pytest.param("config = {", "config = 3 #", id="a number as a config"),
        pytest.param(f'"{GATE}"', f'"{GATE}"\nconfig.mark = "x"', id="of a ready-made worker's"),
        pytest.param(f'"{GATE}"', f'"{FORTRESS}"\nconfig.a = 1', id="config where there is none"),
        pytest.param(f'"{GATE}"', f'"{FLOCK}"', id="no config where there must be one"),
        pytest.param(f'"{GATE}"', f'"{FLOCK}"\nconfig = {{}}', id="a config without its key"),
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(folder: Folder, old: str, new: str) -> None:
    folder.environ["HISTORY"] = "4"
    folder.load(GOOD)
    assert old in GOOD
    broken = GOOD.replace(old, new)

    assert folder.problems(broken)
    assert refusals(file_schema(folder.path / "agent.toml"), tomllib.loads(broken))


@pytest.mark.parametrize("text", ["", "engine.name = 'x'", "manifolds = {}", "manifolds = 3"])
def test_a_file_without_manifolds_is_refused_by_both(folder: Folder, text: str) -> None:
    assert folder.problems(text)
    assert refusals(file_schema(), tomllib.loads(text))


# -- any class -------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    TWO = 2


class Level(enum.StrEnum):
    LOW = "low"


@attrs.frozen
class Inner:
    size: int
    deep: "Inner | None" = None


@attrs.frozen
class All:
    """A field of each kind."""

    text: str = ""
    whole: int = 0
    number: float = 0
    flag: bool = False
    path: Path = Path()
    choice: Literal["a", 1, True] = "a"
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    maybe: int | None = None
    several: bool | list[int] | dict[str, str] = False
    names: tuple[str, ...] = ()
    pair: tuple[str, int] = ("", 0)
    bare: list = attrs.field(factory=list)  # type: ignore[type-arg]  # people write it
    kinds: frozenset[Literal["x", "y"]] = frozenset()
    by_name: Mapping[str, float] = attrs.field(factory=dict)
    table: dict = attrs.field(factory=dict)  # type: ignore[type-arg]  # likewise
    inner: Inner | None = None
    many: list[Inner] = attrs.field(factory=list)
    day: dt.date = dt.date.min
    anything: Any = None
    hidden: int = attrs.field(default=0, init=False)
    _private: str = ""


# Strings without a dollar, because what the environment makes of one, no schema can know; and no
# dates, which are strings there.
STRINGS = st.sampled_from(["", "a", "x", "red", "low", "other"])
SCALARS = st.one_of(
    STRINGS,
    st.integers(-3, 3),
    st.sampled_from([0.5, float("inf")]),  # a whole float would be an integer to the schema
    st.booleans(),
)
KEYS = st.sampled_from(["size", "deep", "k", "text"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = [f.alias for f in attrs.fields(All)]


def schema_of_all() -> dict[str, Any]:
    def factory(config: All) -> None:
        """Only its config is of interest."""

    schema = schema_of({"m:f": factory})
    [name] = [name for name in schema["definitions"] if name.endswith(".All")]
    return {"$ref": f"#/definitions/{name}", "definitions": schema["definitions"]}


ALL = schema_of_all()


@pytest.mark.full
@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from([*FIELDS, "unknown"]), VALUES, min_size=1, max_size=2))
def test_reader_and_schema_agree_on_any_table(table: dict[str, Any]) -> None:
    problems = Problems()

    read = structure(table, All, (), problems)

    assert (read is FAILED) == bool(refusals(ALL, table)), [table, problems.found]


@pytest.mark.parametrize("value", [3, "2024", "x", [], True])
def test_what_is_no_date_is_refused_by_both(value: object) -> None:
    assert structure({"day": value}, All, (), Problems()) is FAILED
    assert refusals(ALL, {"day": value})


def test_a_date_is_taken_by_both() -> None:
    assert structure({"day": dt.date.min}, All, (), Problems()) is not FAILED
    assert refusals(ALL, {"day": dt.date.min}) == []


def test_defaults_are_told_as_a_file_would_have_them() -> None:
    [fields] = [v["properties"] for k, v in ALL["definitions"].items() if k.endswith(".All")]

    defaults = {key: field["default"] for key, field in fields.items() if "default" in field}
    assert defaults == {
        "text": "",
        "whole": 0,
        "number": 0,
        "flag": False,
        "path": ".",
        "choice": "a",
        "colour": "red",
        "level": "low",
        "several": False,
        "kinds": [],
        "private": "",
    }


def test_a_class_without_source_has_no_texts() -> None:
    scope: dict[str, Any] = {"attrs": attrs, "__name__": __name__}
    exec('@attrs.frozen\nclass Odd:\n    a: int = 0\n    """What a is."""', scope)

    assert field_texts(scope["Odd"]) == {}


# -- whose configs it knows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[manifolds", id="no TOML"),
        pytest.param("manifolds = 3", id="no manifolds"),
        pytest.param("[manifolds]\na = 3\nb.use = 3\nc = {}", id="no factories"),
        pytest.param('[manifolds]\na.use = "odd:none"\nb.use = "broken:f"', id="not to be had"),
        pytest.param('[manifolds]\na.use = "odd:two"\nb.use = "odd:four"', id="not to be called"),
    ],
)
def test_a_file_that_is_not_whole_still_has_a_schema(folder: Folder, text: str) -> None:
    folder.module("broken", "raise OSError('no')")
    folder.module("odd", "four = 4\ndef two(a, b): ...")

    assert file_schema(folder.file(text)) == file_schema()
    assert file_schema(folder.path / "nowhere.toml") == file_schema()


def test_of_a_factory_whose_config_has_no_class_anything_is_taken(folder: Folder) -> None:
    folder.module("odd", "def untyped(config): ...")
    path = folder.file('manifolds.a = { use = "odd:untyped", config = { a = 1 } }')

    assert refusals(file_schema(path), tomllib.loads(path.read_text(encoding="utf-8"))) == []


def test_the_rest_of_a_file_that_is_not_whole_is_known(folder: Folder) -> None:
    path = folder.file('[manifolds]\na = 3\nb.use = "workers:web"')

    assert "workers.Config" in file_schema(path)["definitions"]


def test_an_unknown_factory_may_have_any_config() -> None:
    data = {"manifolds": {"a": {"use": "shop:server", "config": {"any": ["thing"]}}}}

    assert refusals(file_schema(), data) == []


def test_a_worker_whose_extra_is_missing_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "trioworker.workers.coordination.gate"
    monkeypatch.setitem(sys.modules, name, None)

    assert not [use for use, _ in ready_made() if use.startswith(f"{name}:")]


def test_each_ready_made_worker_is_known_by_what_use_says_for_it(folder: Folder) -> None:
    uses = [use for use, _ in ready_made()]
    text = "".join(f"[manifolds.m{i}]\nuse = '{use}'\n" for i, use in enumerate(uses))

    with pytest.raises(AgentFileError) as caught:  # they need roles and configs
        load(folder.file(text), environ={})

    assert not [str(p) for p in caught.value.problems if p.path.endswith(".use")]
    assert len(uses) > 15
    assert {GATE, FORTRESS, FLOCK} <= set(uses)


UNITS = re.compile(
    r"second|bytes|part|port|how many|so many|multiplies|at most|number", re.IGNORECASE
)


def test_each_key_says_what_it_means_and_each_number_in_which_unit() -> None:
    schema = file_schema()
    tables = [
        *schema["definitions"].items(),
        ("engine", schema["properties"]["engine"]),
        ("manifold", schema["properties"]["manifolds"]["additionalProperties"]),
    ]
    for name, table in tables:
        for key, found in table["properties"].items():
            assert found.get("description"), f"{name}.{key} has no text under it"
            kinds = [member.get("type") for member in found.get("anyOf", [found])]
            if {"integer", "number"} & set(kinds):
                assert UNITS.search(f"{key} {found['description']}"), (
                    f"{name}.{key}: in which unit?"
                )
