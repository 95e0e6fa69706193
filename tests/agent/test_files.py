"""Agent files, rules A1 to A3 and A5: what is accepted, and the line that each mistake gets."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio

from trioworker import Engine, RestartPolicy
from trioworker.agent import AgentFileError, Problem, load

from .conftest import Folder

GOOD = """
[engine]
name = "ingest"
history = 4
on_failed = "fatal"
restart = { error_delay = 0.5, max_restarts = 3 }

[manifolds.main-db]
use = "workers:plain"

[manifolds.settings]
use = "workers:plain"

[manifolds.web]
use = "workers:web"
inputs = { db = "main-db" }
live = ["settings"]
start_timeout = 5
stop_timeout = 2.5
restart = { error_delay = 0.1 }
config = { port = 8080 }
"""


def test_a_whole_file_becomes_an_agent(folder: Folder) -> None:
    agent = folder.load(GOOD)

    assert agent.name == agent.config.name == "ingest"
    assert agent.config.history == 4
    assert agent.config.on_failed == "fatal"
    assert agent.config.restart == RestartPolicy(error_delay=0.5, max_restarts=3)
    assert list(agent.manifolds) == ["main-db", "settings", "web"]
    web = agent.manifolds["web"]
    assert web.bound(web.inputs) == ("main-db",)
    assert web.bound(web.optional) == ("cache",)
    assert (web.start_timeout, web.stop_timeout) == (5.0, 2.5)
    assert web.restart == RestartPolicy(error_delay=0.1)
    assert str(folder.calls()[-1]) == "Config(port=8080, token='')"


def test_an_agent_is_frozen_and_makes_a_new_engine_each_time(folder: Folder) -> None:
    agent = folder.load(GOOD)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        agent.path = Path()  # type: ignore[misc]  # which is the point
    assert agent.engine() is not agent.engine()
    assert set(agent.engine().report().manifolds) == {"main-db", "settings", "web"}


async def test_what_was_loaded_runs(folder: Folder) -> None:
    engine: Engine = folder.load(GOOD).engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_state("web", "started")
        engine.kill()


# -- A1: factories ---------------------------------------------------------------------------------


def test_A1_a_factory_without_parameter_takes_no_config(folder: Folder) -> None:
    assert list(folder.load('[manifolds.a]\nuse = "workers:plain"').manifolds) == ["a"]


def test_A1_a_missing_config_table_is_an_empty_one(folder: Folder) -> None:
    folder.module(
        "more",
        """
        import attrs
        from workers import Manifold, forever
        @attrs.frozen
        class Config:
            size: int = 3
        seen = []
        def one(config: Config):
            seen.append(config.size)
            return Manifold(forever)
        def two(*, config: "Config", extra=None):
            seen.append(config.size)
            return Manifold(forever)
        def three(config: Config = Config(size=7)):
            seen.append(config.size)
            return Manifold(forever)
        """,
    )
    folder.load("".join(f'[manifolds.{n}]\nuse = "more:{n}"\n' for n in ("one", "two", "three")))

    assert sys.modules["more"].seen == [3, 3, 7]


def test_A1_a_factory_may_be_called_many_times(folder: Folder) -> None:
    agent = folder.load(
        '[manifolds.a]\nuse = "workers:plain"\n[manifolds.b]\nuse = "workers:plain"'
    )

    assert folder.calls() == ["plain", "plain"]
    assert agent.manifolds["a"] is not agent.manifolds["b"]


BROKEN_FACTORIES = {
    "not a name": ("x", "expected 'package.module:factory', got 'x'"),
    "no colon": (
        "bad.ready",
        "expected 'package.module:factory', got 'bad.ready'; did you mean 'bad:ready'?",
    ),
    "a path": ("./x.py:f", "expected 'package.module:factory', got './x.py:f'"),
    "no module": (
        "worker:plain",
        "there is no module 'worker'; did you mean 'workers'? beside the file: 'bad', 'workers'",
    ),
    "no package": (
        "nowhere.at_all:plain",
        "there is no module 'nowhere'; beside the file: 'bad', 'workers'",
    ),
    "no attribute": (
        "workers:plane",
        "'workers' has no 'plane'; did you mean 'plain'? there are: 'plain', 'web'",
    ),
    "nothing that has attributes": (
        "workers:calls.plain",
        "'workers:calls' has no 'plain'; there are: none",
    ),
    "no function": ("workers:calls", "'workers:calls' is no function but a value of type list"),
    "an async one": (
        "workers:forever",
        "'workers:forever' is async; a factory is a plain function that returns a Manifold",
    ),
    "a Manifold": ("bad:ready", "'bad:ready' is a Manifold; name a function that returns one"),
    "raises": ("bad:raises", "'bad:raises' raised LookupError: gone (bad.py:7)"),
    "exits": ("bad:exits", "'bad:exits' raised SystemExit: 3 (bad.py:9)"),
    "returns None": ("bad:nothing", "'bad:nothing' returned None instead of a Manifold"),
    "returns other": (
        "bad:other",
        "'bad:other' returned a value of type Other instead of a Manifold",
    ),
    "a coroutine": (
        "bad:hidden",
        "'bad:hidden' returned a value of type coroutine instead of a Manifold",
    ),
    "too many": (
        "bad:many",
        "'bad:many' takes (config, more); a factory takes (config) or nothing",
    ),
    "no annotation": (
        "bad:bare",
        "'bad:bare': the type of config must be an attrs class (@attrs.frozen), not none",
    ),
    "not attrs": (
        "bad:plain_class",
        "'bad:plain_class': the type of config must be an attrs class (@attrs.frozen), not Other",
    ),
    "unknown annotation": (
        "bad:unknown",
        "'bad:unknown': the type of config cannot be made out: NameError: name 'No' is not defined",
    ),
}
BAD = """\
import attrs
from workers import Manifold, forever
ready = Manifold(forever)
class Other:
    pass
def raises():
    raise LookupError("gone")
def exits():
    raise SystemExit(3)
def nothing():
    pass
def other():
    return Other()
hidden = lambda: forever(None, task_status=None)
def many(config, more):
    pass
def bare(config):
    pass
def plain_class(config: Other):
    pass
def unknown(config: "No"):
    pass
"""


@pytest.mark.parametrize("use, line", BROKEN_FACTORIES.values(), ids=BROKEN_FACTORIES)
def test_A1_a_factory_that_is_none_is_one_problem(folder: Folder, use: str, line: str) -> None:
    folder.module("bad", BAD)

    assert folder.problems(f'[manifolds.a]\nuse = "{use}"') == [f"$.manifolds['a'].use: {line}"]


@pytest.mark.parametrize(
    "source, cause",
    [
        ("raise ValueError('no\\nway')", "ValueError: no way (broken.py:1)"),
        ("import sys\nsys.exit(0)", "SystemExit: 0 (broken.py:2)"),
        (
            "import no_such_thing",
            "ModuleNotFoundError: No module named 'no_such_thing' (broken.py:1)",
        ),
    ],
)
def test_A1_a_module_that_fails_at_import_is_one_problem(
    folder: Folder, source: str, cause: str
) -> None:
    folder.module("broken", source)

    with pytest.raises(AgentFileError) as caught:
        folder.load('[manifolds.a]\nuse = "broken:f"')

    [problem] = caught.value.problems
    assert str(problem) == f"$.manifolds['a'].use: importing 'broken' raised {cause}"
    assert problem.cause is not None
    assert problem.cause.__traceback__ is not None, "it is there for --debug"


def test_A1_a_broken_module_is_imported_once_and_told_for_each_manifold(folder: Folder) -> None:
    folder.module("broken", "import workers; workers.calls.append('x'); raise ValueError")

    lines = folder.problems('[manifolds.a]\nuse = "broken:f"\n[manifolds.b]\nuse = "broken:g"')

    assert [line.partition(":")[0] for line in lines] == [
        "$.manifolds['a'].use",
        "$.manifolds['b'].use",
    ]
    assert folder.calls() == ["x"]


def test_A1_an_interrupt_at_import_goes_through(folder: Folder) -> None:
    folder.module("broken", "raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        folder.load('[manifolds.a]\nuse = "broken:f"')


# -- A2: roles -------------------------------------------------------------------------------------


def test_A2_a_list_binds_roles_to_manifolds_of_the_same_name(folder: Folder) -> None:
    agent = folder.load(
        '[manifolds.db]\nuse="workers:plain"\n[manifolds.web]\nuse="workers:web"\ninputs=["db"]'
    )

    assert dict(agent.manifolds["web"].bindings) == {}


def test_A2_an_unbound_role_means_the_manifold_of_that_name(folder: Folder) -> None:
    agent = folder.load('[manifolds.db]\nuse="workers:plain"\n[manifolds.web]\nuse="workers:web"')

    assert agent.manifolds["web"].inputs == ("db",)


def test_A2_an_optional_or_live_role_may_stay_unbound(folder: Folder) -> None:
    agent = folder.load('[manifolds.db]\nuse="workers:plain"\n[manifolds.web]\nuse="workers:web"')

    assert set(agent.manifolds) == {"db", "web"}, "neither cache nor settings"


BROKEN_ROLES = {
    "inputs = { dbb = 'db' }": (
        ".inputs.dbb: its factory declares no 'dbb' under 'inputs'; "
        "did you mean 'db'? declared: 'db'"
    ),
    "inputs = ['db', 'dbb']": (
        ".inputs[1]: its factory declares no 'dbb' under 'inputs'; "
        "did you mean 'db'? declared: 'db'"
    ),
    "inputs = ['cache']": (
        ".inputs[0]: its factory declares 'cache' under 'optional'; write it there"
    ),
    "live = ['db']": ".live[0]: its factory declares 'db' under 'inputs'; write it there",
    "inputs = { db = 'dbs' }": (
        ".inputs.db: there is no manifold 'dbs'; did you mean 'db'? there are: 'db', 'web'"
    ),
    "optional = ['cache']": ".optional[0]: there is no manifold 'cache'; there are: 'db', 'web'",
    "live = { settings = 'x' }": (
        ".live.settings: there is no manifold 'x'; there are: 'db', 'web'"
    ),
    "inputs = 'db'": ".inputs: expected an array or a table, got 'db'",
    "inputs = [1]": ".inputs[0]: expected a string, got 1",
    "inputs = { db = 1 }": ".inputs['db']: expected a string, got 1",
}


@pytest.mark.parametrize("line", BROKEN_ROLES)
def test_A2_an_input_that_is_none_lists_those_that_are(folder: Folder, line: str) -> None:
    found = folder.problems(
        f'[manifolds.db]\nuse="workers:plain"\n[manifolds.web]\nuse="workers:web"\n{line}'
    )

    assert found == [f"$.manifolds['web']{BROKEN_ROLES[line]}"]


def test_A2_a_required_role_that_means_nothing_is_a_problem(folder: Folder) -> None:
    [line] = folder.problems('[manifolds.web]\nuse="workers:web"')

    assert line == (
        "$.manifolds['web'].inputs: the role 'db' needs a manifold: bind it, or add 'db'; "
        "there are: 'web'"
    )


def test_A2_a_binding_is_checked_also_when_the_factory_is_broken(folder: Folder) -> None:
    lines = folder.problems('[manifolds.web]\nuse="workers:wep"\ninputs={db="wob"}')

    assert [line.partition(":")[0] for line in lines] == [
        "$.manifolds['web'].inputs.db",
        "$.manifolds['web'].use",
    ]


def test_a_cycle_is_a_problem_with_its_path(folder: Folder) -> None:
    webs = {"a": "b", "b": "c", "c": "a"}
    text = "".join(
        f'[manifolds.{n}]\nuse="workers:web"\ninputs={{db="{m}"}}\n' for n, m in webs.items()
    )

    assert folder.problems(text) == [
        "$.manifolds['a']: waits for itself: a -> b -> c -> a; make one of these inputs live"
    ]


def test_every_cycle_is_told_and_an_optional_input_counts(folder: Folder) -> None:
    text = """
        [manifolds.a]
        use = "workers:web"
        inputs = { db = "a" }
        [manifolds.b]
        use = "workers:web"
        inputs = { db = "c" }
        [manifolds.c]
        use = "workers:web"
        inputs = { db = "d" }
        optional = { cache = "b" }
        [manifolds.d]
        use = "workers:plain"
        """

    assert folder.problems(text) == [
        "$.manifolds['a']: waits for itself: a -> a; make one of these inputs live",
        "$.manifolds['b']: waits for itself: b -> c -> b; make one of these inputs live",
    ]


def test_a_live_input_makes_no_cycle(folder: Folder) -> None:
    agent = folder.load(
        """
        [manifolds.db]
        use = "workers:plain"
        [manifolds.a]
        use = "workers:web"
        live = { settings = "b" }
        [manifolds.b]
        use = "workers:web"
        live = { settings = "a" }
        """
    )

    assert set(agent.engine().report().manifolds) == {"db", "a", "b"}, "the engine agrees"


# -- A3: where modules come from -------------------------------------------------------------------


def test_A3_the_files_own_folder_comes_first_on_the_path(folder: Folder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "workers.py").write_text("raise ValueError('the wrong one')")
    sys.path.insert(0, str(other))

    folder.load('[manifolds.a]\nuse = "workers:plain"')

    assert sys.path[0] == str(tmp_path)


def test_A3_also_of_a_file_that_is_named_relatively(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.file('[manifolds.a]\nuse = "workers:plain"')
    monkeypatch.chdir(tmp_path)

    assert list(load("agent.toml").manifolds) == ["a"]
    assert sys.path[0] == str(tmp_path)


# -- A5: problems, all of them ---------------------------------------------------------------------

UNREADABLE = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "not UTF-8": (b"a = 1\nb = '\xff'", "is not UTF-8: byte 0xff in line 2"),
    "not TOML": (
        b"a = ",
        "is not TOML: Invalid value (at end of document)",
    ),
    "10 MB": (b"#" * 10_000_000, "is too large: 10 MB or more"),
    "nested": (b"a = " + b"[" * 5000, "is not TOML: nested too deeply"),
}


@pytest.mark.parametrize("data, cause", UNREADABLE.values(), ids=UNREADABLE)
def test_A5_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(data)

    with pytest.raises(AgentFileError) as caught:
        load(path)

    assert str(caught.value) == f"{path}: {cause}"


def test_A5_so_is_one_that_is_not_there_or_is_none(tmp_path: Path) -> None:
    for path, cause in [
        (tmp_path / "nowhere.toml", "there is no such file"),
        (tmp_path, "is a directory; name the file in it"),
    ]:
        with pytest.raises(AgentFileError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: {cause}"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_A5_so_is_one_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text("a = 1")
    path.chmod(0)

    with pytest.raises(AgentFileError, match="cannot be read: Permission denied"):
        load(path)


def test_a_byte_order_mark_is_no_problem(folder: Folder) -> None:
    path = folder.file("")
    path.write_bytes(b'\xef\xbb\xbf[manifolds.a]\nuse = "workers:plain"')

    assert list(load(path).manifolds) == ["a"]


# What is wrong, and its whole line; each stands alone in a file that is right otherwise.
BROKEN = {
    "engin = {}": "$.engin: unknown key; did you mean 'engine'? allowed: 'engine', 'manifolds'",
    "engine = 1": "$.engine: expected a table, got 1",
    "engine.naem = 'x'": (
        "$.engine.naem: unknown key; did you mean 'name'? "
        "allowed: 'name', 'restart', 'on_failed', 'history'"
    ),
    "engine.name = 1": "$.engine.name: expected a string, got 1",
    "engine.name = ''": "$.engine.name: must be a string that is not empty, not ''",
    "engine.history = '3'": "$.engine.history: expected an integer, got '3'",
    "engine.history = true": "$.engine.history: expected an integer, got true",
    "engine.history = -1": "$.engine.history: must be at least 0, not -1",
    "engine.on_failed = 'x'": "$.engine.on_failed: expected 'report' or 'fatal', got 'x'",
    "engine.is_fatal = 'x'": (
        "$.engine.is_fatal: unknown key; allowed: 'name', 'restart', 'on_failed', 'history'"
    ),
    "engine.restart = 1": "$.engine.restart: expected a table, got 1",
    "engine.restart.factr = 2": (
        "$.engine.restart.factr: unknown key; did you mean 'factor'? allowed: 'error_delay', "
        "'factor', 'max_delay', 'jitter', 'reset_after', 'bounce_delay', 'max_restarts', 'period'"
    ),
    "engine.restart.factor = '2'": "$.engine.restart.factor: expected a number, got '2'",
    "engine.restart.factor = 0.5": "$.engine.restart.factor: must be at least 1",
    "engine.restart.jitter = 2": "$.engine.restart.jitter: must be from 0 to 1",
    "engine.restart.bounce_delay = 0": (
        "$.engine.restart.bounce_delay: must be greater than 0 and finite, in seconds, not 0.0"
    ),
    "engine.restart.error_delay = 100": (
        "$.engine.restart.error_delay: RestartPolicy(error_delay=100.0, max_delay=60.0): "
        "max_delay must be at least error_delay"
    ),
    "engine.restart.max_restarts = 1.5": (
        "$.engine.restart.max_restarts: expected an integer, got 1.5"
    ),
    "manifolds.a = 1": "$.manifolds['a']: expected a table, got 1",
    "manifolds.a = {}": "$.manifolds['a'].use: missing; write use = 'package.module:factory'",
    "manifolds.a.use = 1": "$.manifolds['a'].use: expected a string, got 1",
    "manifolds.Web.use = 'workers:plain'": (
        "$.manifolds['Web']: a manifold's name is made of a-z, 0-9, '.', '_' and '-', begins with "
        "a letter or a digit, and has at most 100 characters"
    ),
    "manifolds.ok.sue = 1": (
        "$.manifolds['ok'].sue: unknown key; did you mean 'use'? allowed: 'use', 'inputs', "
        "'optional', 'live', 'start_timeout', 'grace', 'stop_timeout', 'restart', 'config'"
    ),
    "manifolds.ok.start_timeout = 0": (
        "$.manifolds['ok'].start_timeout: must be greater than 0, in seconds, not 0.0"
    ),
    "manifolds.ok.stop_timeout = -1": (
        "$.manifolds['ok'].stop_timeout: must be at least 0, in seconds, not -1.0"
    ),
    "manifolds.ok.grace = 1": (
        "$.manifolds['ok'].grace: grace=1.0 needs ask, "
        "a function that asks the started value to stop; ask=lambda value: None, "
        "if the start function watches get.wait_stopping()"
    ),
    "manifolds.ok.restart.period = nan": (
        "$.manifolds['ok'].restart.period: must be greater than 0, in seconds, not nan"
    ),
    "manifolds.ok.config = {}": (
        "$.manifolds['ok'].config: 'workers:plain' takes no config; remove the table"
    ),
    "manifolds.web.config = 1": "$.manifolds['web'].config: expected a table, got 1",
    "manifolds.web.config.port = 'x'": (
        "$.manifolds['web'].config.port: expected an integer, got 'x'"
    ),
    "manifolds.web.config.prot = 1": (
        "$.manifolds['web'].config.prot: unknown key; did you mean 'port'? allowed: 'port', 'token'"
    ),
    "manifolds.web.config.'a b' = 1": (
        "$.manifolds['web'].config['a b']: unknown key; allowed: 'port', 'token'"
    ),
}
OK = """
manifolds.ok.use = "workers:plain"
manifolds.web.use = "workers:web"
manifolds.web.inputs.db = "ok"
"""


@pytest.mark.parametrize("wrong", BROKEN)
def test_A5_a_problem_has_its_path_and_shows_the_way(folder: Folder, wrong: str) -> None:
    assert folder.problems(f"{OK}{wrong}\n") == [BROKEN[wrong]]


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "a" * 100])
def test_A5_a_name_that_is_fine(folder: Folder, name: str) -> None:
    assert list(folder.load(f'[manifolds."{name}"]\nuse = "workers:plain"').manifolds) == [name]


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "_a", "a b", "ä", "A", "a" * 101, "a\\n", "<b>", "a/b", "."]
)
def test_A5_a_name_that_is_not(folder: Folder, name: str) -> None:
    [line] = folder.problems(f'[manifolds."{name}"]\nuse = "workers:plain"')

    assert "a manifold's name is made of" in line


@pytest.mark.parametrize("text", ["[engine]\nname = 'x'", "# nothing", "[manifolds]"])
def test_A5_a_file_without_manifolds_is_a_problem(folder: Folder, text: str) -> None:
    [line] = folder.problems(text)

    assert line.startswith("$.manifolds: ")
    assert line.endswith("write a table [manifolds.NAME] for each")


def test_A5_all_problems_come_at_once_sorted_by_path_and_nothing_is_half_started(
    folder: Folder,
) -> None:
    lines = folder.problems(
        """
        top = 1
        [engine]
        history = -1
        [engine.restart]
        factor = 0
        period = 0
        [manifolds.web]
        use = "workers:web"
        grace = "long"
        inputs = { db = "nowhere" }
        config = { port = "x", token = 1, more = 2 }
        [manifolds.BAD]
        use = "workers:bad"
        [manifolds.db]
        use = "nothing:plain"
        config = { token = "${NOT_SET} $" }
        """
    )

    assert [line.partition(": ")[0] for line in lines] == [
        "$.engine.history",
        "$.engine.restart.factor",
        "$.engine.restart.period",
        "$.manifolds['BAD']",
        "$.manifolds['BAD'].use",
        "$.manifolds['db'].config.token",
        "$.manifolds['db'].config.token",
        "$.manifolds['db'].use",
        "$.manifolds['web'].config.more",
        "$.manifolds['web'].config.port",
        "$.manifolds['web'].config.token",
        "$.manifolds['web'].grace",
        "$.manifolds['web'].inputs.db",
        "$.top",
    ]
    assert folder.calls() == [], "no factory was called with a config that is wrong"


def test_A5_a_message_is_one_line_whatever_is_in_the_file(folder: Folder) -> None:
    [line] = folder.problems(f'{OK}manifolds.web.config.port = "a\\nb\\u001b[2J"')

    assert line == r"$.manifolds['web'].config.port: expected an integer, got 'a\nb\x1b[2J'"


def test_a_long_list_of_choices_is_cut(folder: Folder) -> None:
    many = "".join(f'[manifolds.m{i}]\nuse = "workers:plain"\n' for i in range(50))
    [line] = folder.problems(f'{many}[manifolds.web]\nuse="workers:web"\ninputs={{db="m45x"}}')

    assert line == (
        "$.manifolds['web'].inputs.db: there is no manifold 'm45x'; "
        "did you mean 'm45' or 'm5' or 'm4'? there are: "
        "'m0', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', and 43 more"
    )


def test_a_name_that_would_be_refused_is_not_offered(folder: Folder) -> None:
    (folder.path / "work-ers.py").touch()
    lines = folder.problems(
        """
        [manifolds."Tick!"]
        use = "workers:plain"
        [manifolds.other]
        use = "worker:plain"
        [manifolds.web]
        use = "workers:web"
        inputs = { db = "tick" }
        """
    )

    assert lines[1:] == [
        (
            "$.manifolds['other'].use: there is no module 'worker'; did you mean 'workers'? "
            "beside the file: 'workers'"
        ),
        ("$.manifolds['web'].inputs.db: there is no manifold 'tick'; there are: 'other', 'web'"),
    ]


def test_a_role_that_no_manifold_could_be_called_can_only_be_bound(folder: Folder) -> None:
    folder.module(
        "odd",
        """
        from workers import Manifold, forever
        def odd():
            return Manifold(forever, inputs=("The DB",))
        """,
    )

    assert folder.problems('[manifolds.a]\nuse = "odd:odd"') == [
        "$.manifolds['a'].inputs: the role 'The DB' needs a manifold: bind it; there are: 'a'"
    ]


def test_a_problem_is_plain_data() -> None:
    assert Problem("$.a", "b") == Problem("$.a", "b", ValueError())
    assert str(Problem("$.a", "b")) == "$.a: b"


def test_importing_trioworker_imports_neither_cattrs_nor_the_agent() -> None:
    code = (
        "import sys, trioworker; "
        "sys.exit(bool({'cattrs', 'structlog', 'trioworker.agent'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
