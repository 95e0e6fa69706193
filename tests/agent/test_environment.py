"""Rule A4: values of the environment go in, and never come out."""

import copy
import io
import json
import logging
import pickle
import sys

import pytest
from hypothesis import given, strategies as st

from trioworker._groups import describe
from trioworker.agent import AgentFileError, Mask, configure_logging
from trioworker.agent._environment import EnvStr, expand
from trioworker.agent._problems import Problems

from .conftest import Folder

WEB = '[manifolds.db]\nuse="workers:plain"\n[manifolds.web]\nuse="workers:web"\n'


def expanded(text: str, **environ: str) -> tuple[str, list[str]]:
    problems = Problems()
    value = expand({"a": text}, (), problems, environ)["a"]
    return value, [str(problem) for problem in problems.found]


@pytest.mark.parametrize(
    "text, value",
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("x${A}y${B}z", "xoneytwoz"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$$${A}", "$one"),
        ("${EMPTY}", ""),
        ("${RECURSIVE}", "${A}"),
    ],
)
def test_A4_a_string_is_expanded_once(text: str, value: str) -> None:
    assert expanded(text, A="one", B="two", EMPTY="", RECURSIVE="${A}") == (value, [])


@pytest.mark.parametrize("text", ["$", "a$b", "${", "${A", "${}", "${1}", "${a-b}", "$A", "${ A}"])
def test_A4_a_dollar_alone_is_a_problem(text: str) -> None:
    assert expanded(text, A="one")[1] == [
        "$.a: a '$' alone; write '$$' for a dollar, '${NAME}' for a variable"
    ]


def test_A4_an_unset_name_is_an_error_naming_it() -> None:
    assert expanded("${A}${B}${C}", B="")[1] == [
        "$.a: ${A} is not set in the environment",
        "$.a: ${C} is not set in the environment",
    ]


def test_A4_an_unset_name_is_told_once_whatever_the_field_is(folder: Folder) -> None:
    assert folder.problems(WEB + 'config = { port = "${PORT}" }') == [
        "$.manifolds['web'].config.port: ${PORT} is not set in the environment"
    ]
    assert "Config" not in str(folder.calls())


def test_A4_it_works_in_every_string_of_the_file(folder: Folder) -> None:
    folder.environ = {"NAME": "shop", "DB": "db", "FACTORY": "web"}
    agent = folder.load(
        """
        engine.name = "${NAME}-1"
        manifolds.db.use = "workers:plain"
        manifolds.web.use = "workers:${FACTORY}"
        manifolds.web.inputs.db = "${DB}"
        """
    )

    assert agent.name == "shop-1"
    assert agent.mask(f"{agent.name} is up") == "${NAME}-1 is up"


def test_A4_a_config_gets_the_value_and_shows_the_name(folder: Folder) -> None:
    folder.environ = {"TOKEN": "sesame", "PORT": "8080"}
    folder.load(WEB + 'config = { port = "${PORT}", token = "Bearer ${TOKEN}" }')

    config = folder.calls()[-1]
    assert (config.port, config.token) == (8080, "Bearer sesame")  # type: ignore[attr-defined]  # a test's Config
    assert f"{config.port} {config.token}" == "8080 Bearer sesame"  # type: ignore[attr-defined]  # likewise
    assert repr(config) == "Config(port=${PORT}, token='Bearer ${TOKEN}')"


def test_A4_an_error_shows_the_name(folder: Folder) -> None:
    folder.environ = {"PORT": "x", "TOKEN": "sesame"}
    folder.module(
        "strict",
        """
        import attrs
        from attrs.validators import matches_re, ge
        from workers import Manifold, forever
        def refuse(instance, attribute, value):
            raise ValueError(f"{value} will not do")
        @attrs.frozen
        class Config:
            token: str = attrs.field(default="", validator=refuse)
            port: int = attrs.field(default=10, validator=ge(10))
        def manifold(config: Config):
            return Manifold(forever)
        def leaky(config: Config):
            raise ValueError(config.token[:-1] + config.token[-1])
        """,
    )

    assert folder.problems(WEB + 'config = { port = "${PORT}" }') == [
        "$.manifolds['web'].config.port: expected an integer, got ${PORT}"
    ]
    folder.environ["PORT"] = "7"
    assert folder.problems(
        '[manifolds.a]\nuse="strict:manifold"\nconfig={port="${PORT}", token="${TOKEN}"}'
    ) == [
        "$.manifolds['a'].config.port: 'port' must be >= 10: ${PORT}",
        "$.manifolds['a'].config.token: ${TOKEN} will not do",
    ]


def test_A4_an_error_of_a_factory_shows_the_name(folder: Folder) -> None:
    folder.environ = {"TOKEN": "sesame"}
    folder.module(
        "leaky",
        """
        from workers import Config
        def manifold(config: Config):
            raise ValueError("bad: " + config.token)
        """,
    )

    with pytest.raises(AgentFileError) as caught:
        folder.load('[manifolds.a]\nuse="leaky:manifold"\nconfig={token="${TOKEN}"}')

    assert str(caught.value) == (
        "$.manifolds['a'].use: 'leaky:manifold' raised ValueError: bad: ${TOKEN} (leaky.py:4)"
    )
    assert "sesame" not in repr(caught.value)
    assert caught.value.mask("open sesame") == "open ${TOKEN}"


@pytest.mark.parametrize(
    "value, number",
    [("8080", 8080), (" 8080 ", 8080), ("-1", -1), ("1_000", None), ("0x10", None), ("٣", None)],
)
def test_A4_an_integer_may_come_from_the_environment(
    folder: Folder, value: str, number: int | None
) -> None:
    folder.environ = {"PORT": value}
    text = WEB + 'config = { port = "${PORT}" }'
    if number is None:
        assert len(folder.problems(text)) == 1
    else:
        folder.load(text)
        assert folder.calls()[-1].port == number  # type: ignore[attr-defined]  # a test's Config


def test_a_string_that_hides_is_one_in_every_other_way() -> None:
    text = EnvStr("sesame", "${T}", (("T", "sesame"),))

    assert text == "sesame"
    assert f"{text}" == "sesame"
    assert json.dumps(text) == '"sesame"'
    for same in (text, copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert same == "sesame"
        assert repr(same) == "${T}"


def test_A4_a_number_is_a_plain_one_and_hidden_by_the_config_that_has_it(folder: Folder) -> None:
    """Plain, because getaddrinfo() takes no subclass of int."""
    folder.environ = {"PORT": "7"}
    folder.load(WEB + 'config = { port = "${PORT}" }')
    config = folder.calls()[-1]

    assert type(config.port) is int  # type: ignore[attr-defined]  # a test's Config
    assert repr(config) == "Config(port=${PORT}, token='')"
    assert repr(type(config)(port=7)) == "Config(port=7, token='')"  # type: ignore[call-arg]  # likewise
    assert config == type(config)(port=7)  # type: ignore[call-arg]  # likewise


@pytest.mark.parametrize(
    "value, text, masked",
    [
        ("sesame", "open sesame!", "open ${T}!"),
        ("sesame", "sesames", "sesames"),
        ("sesame-street", "xsesame-streetx", "x${T}x"),
        ("a\nb c", "it was 'a\\nb c'", "it was '${T}'"),
        ("a\nb c", "it was a b c", "it was ${T}"),
        ("ab", "ab", "ab"),
        ("", "nothing", "nothing"),
        ("key: 0123456789abcdef0123", "got key: 0123456789abc…", "got ${T}…"),
        ("-----KEY\nlong-line-of-it\n", "see long-line-of-it here", "see ${T} here"),
        ("sesame-street", "open sesame-s… (again)", "open ${T}… (again)"),
        ("sesame-street", "open sesame-s...", "open ${T}..."),
        ("sesame-street", "open sesame…", "open sesame…"),
        ("sesame..street", "open sesame.....", "open ${T}..."),
        ("sesame-street-and-more", "open sesame-street-and\n", "open ${T}\n"),
        ("sesame-street-and-more", "open sesame-street", "open sesame-street"),
        ("sesame-street-and-more", "open sesame-street-and it", "open sesame-street-and it"),
        ("a\nb-long-one", "it was 'a\\nb-long…", "it was '${T}…"),
    ],
)
def test_A4_the_mask_finds_a_value_in_a_text(value: str, text: str, masked: str) -> None:
    assert Mask([("T", value)])(text) == masked


def test_the_longest_value_is_masked_first() -> None:
    mask = Mask([("A", "secret"), ("B", "secret-and-more")])

    assert mask("secret-and-more secret") == "${B} ${A}"


def test_a_value_in_another_that_was_cut_off_does_not_hide_it_from_the_mask() -> None:
    mask = Mask([("USER", "anna"), ("URL", "db://anna:hunter22@host/shop")])

    assert mask("no db://anna:hunter22@ho… for anna") == "no ${URL}… for ${USER}"


def test_values_that_overlap_are_both_masked_to_the_end() -> None:
    mask = Mask([("A", "left-and-middle"), ("B", "middle-and-right")])

    assert mask("see left-and-middle-and-right") == "see ${A}${B}"
    assert mask("see left-and-middle…") == "see ${A}…"
    assert Mask([("T", "sesame-sesame")])("sesame-sesame-sesame") == "${T}"


def test_of_two_values_the_one_of_which_more_is_left_is_masked() -> None:
    mask = Mask([("A", "secret-key"), ("B", "secret-key-and-more")])

    assert mask("secret-key-and… secret-key…") == "${B}… ${A}…"


def test_a_path_from_the_environment_leaves_other_paths_readable() -> None:
    """Every path that shared a directory with the value was masked as if it were cut off."""
    mask = Mask([("HOME", "/srv/somebody/courier/post")])
    traceback = """\
  File "/srv/somebody/courier/courier.py", line 45, in main
  File "/srv/somebody/courier/v/lib/python3.11/socket.py", line 9, in bind
OSError: /srv/somebody/courier/post/sock is in use, not /srv/somebody/courier/poster
"""

    assert mask(traceback) == traceback.replace("/srv/somebody/courier/post", "${HOME}")


def test_a_description_that_the_engine_shortened_leaks_no_beginning() -> None:
    mask = Mask([("T", "sesame-street-and-more")])
    told = describe(ValueError("x" * 170 + " sesame-street-and-more"))

    assert told.endswith(" sesame-street-an…")
    assert mask(f"web failed: {told}; again in 3 s").endswith("x ${T}…; again in 3 s")


VALUES = st.text("ab/.-…\n'é", min_size=8, max_size=40)
AROUND = st.text("ab/.-…\n'é", max_size=30)


@given(VALUES, AROUND, AROUND)
def test_a_whole_value_is_never_shown(value: str, before: str, after: str) -> None:
    assert value not in Mask([("T", value)])(before + value + after)


@given(VALUES, st.integers(0, 40), st.sampled_from(["…", "...", ""]), AROUND)
def test_of_a_value_that_was_cut_off_only_the_allowed_rest_is_shown(
    value: str, length: int, mark: str, after: str
) -> None:
    allowed = 7 if mark else 15
    cut = value[:length]

    shown = Mask([("T", value)])(f"got <{cut}{mark}{after if mark else ''}")

    assert len(cut) <= allowed or not shown.startswith(f"got <{cut[: allowed + 1]}")


@given(
    st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=5).map("/".join),
    st.text("abc", min_size=1),
    st.text("def", min_size=1),
)
def test_a_path_that_only_shares_a_directory_is_left_alone(
    directory: str, name: str, other: str
) -> None:
    text = f'File "/{directory}/{other}", line 1, in /{directory}: /{directory}/{other}'

    assert Mask([("HOME", f"/{directory}/{name}")])(text) == text


def test_a_mask_of_nothing_changes_nothing() -> None:
    assert Mask()("text") == "text"


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["structlog", "logging"])
@pytest.mark.parametrize("style", ["console", "json"])
def test_A4_the_log_shows_the_name(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    style: str,
    library: str,
) -> None:
    if library == "logging":
        monkeypatch.setitem(sys.modules, "structlog", None)
    configure_logging(style, mask=Mask([("T", "sesame"), ("P", "8080")]))  # type: ignore[arg-type]  # a string of the table

    try:
        raise ValueError("no sesame here")
    except ValueError:
        logging.getLogger("x").exception("open %s on %d\x1b[2J", "sesame", 8080)
    logging.getLogger("x").debug("not shown")

    text = capsys.readouterr().err
    assert "open ${T} on ${P}" in text
    assert "ValueError: no ${T} here" in text
    assert "sesame" not in text
    assert "not shown" not in text
    assert "\x1b[2J" not in text
    if style == "json":
        [line] = text.splitlines()
        assert {"event", "level", "logger", "timestamp", "exception"} <= set(json.loads(line))


def test_structlog_is_masked_too(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    configure_logging("json", mask=Mask([("T", "sesame")]))

    structlog.get_logger("x").info("hello", token="sesame", others=["sesame"], n=3)

    event = json.loads(capsys.readouterr().err)
    assert (event["token"], event["others"], event["n"]) == ("${T}", "['${T}']", 3)
    structlog.reset_defaults()


def test_the_log_follows_a_redirected_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging()
    monkeypatch.setattr(sys, "stderr", second := io.StringIO())

    logging.getLogger("x").warning("here")

    assert "here" in second.getvalue()
    assert capsys.readouterr().err == ""
