"""Who may ask what: every rule, and each with what just breaks it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from trioworker import Manifold
from trioworker.workers.agent.introspection import Config
from trioworker.workers.agent.introspection._access import Rules, refusal

from .asking import TOKEN, Asker, running, serve

ME = 1000
RULES = Rules(uid=ME, token=TOKEN)
BEARER = f"Bearer {TOKEN}"


@attrs.frozen
class Request:
    peer_uid: int | None
    headers: Mapping[str, str]

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def over_unix(uid: int = ME, **headers: str) -> Request:
    return Request(uid, {"host": "localhost", **headers})


def over_tcp(**headers: str) -> Request:
    return Request(None, {"host": "localhost:8321", "authorization": BEARER, **headers})


def status(request: Request, rules: Rules = RULES, *, is_action: bool = False) -> int | None:
    found = refusal(request, rules, is_action=is_action)
    return None if found is None else found.status


# -- over the Unix socket ----


@pytest.mark.parametrize("uid", [ME, 0])
@pytest.mark.parametrize("is_action", [False, True])
def test_the_socket_s_owner_and_root_may_do_all(uid: int, *, is_action: bool) -> None:
    assert status(over_unix(uid), is_action=is_action) is None


@pytest.mark.parametrize("uid", [1, 999, 1001, 65534, -1, 2**32 - 1])
def test_nobody_else_may_not_even_with_the_token(uid: int) -> None:
    assert status(over_unix(uid, authorization=BEARER)) == 403


# -- over TCP ----


def test_over_tcp_who_knows_the_token_may_read() -> None:
    assert status(over_tcp()) is None
    assert status(over_tcp(authorization=f"bearer  {TOKEN} ")) is None


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
def test_over_tcp_anything_but_the_token_is_refused(authorization: str) -> None:
    assert status(over_tcp(authorization=authorization)) == 401


def test_without_a_token_nobody_gets_in_over_tcp() -> None:
    assert status(over_tcp(), Rules(uid=ME)) == 401
    assert status(over_tcp(authorization="Bearer None"), Rules(uid=ME)) == 401


def test_over_tcp_actions_are_off_unless_enabled() -> None:
    assert status(over_tcp(), is_action=True) == 403
    assert status(over_tcp(), attrs.evolve(RULES, actions_over_tcp=True), is_action=True) is None


# -- from where ----


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8321", "[::1]", "[::1]:65535"]
)
def test_the_host_is_this_machine(host: str) -> None:
    assert status(over_unix(host=host)) is None
    assert status(over_tcp(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8321",
        "localhost.evil.example",
        "evil-localhost",
        "localhost:",
        "localhost:x",
        "localhost:8321:1",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "127_0_0_1",
        "localhost, evil.example",
        "localhost\n",
        "user@localhost",
    ],
)
def test_any_other_host_is_refused_before_the_token_is_looked_at(host: str) -> None:
    assert status(over_unix(host=host)) == 403
    assert status(over_tcp(host=host)) == 403
    assert status(over_tcp(host=host, authorization="")) == 403


def test_a_request_without_a_host_is_refused() -> None:
    assert status(Request(ME, {})) == 403


@pytest.mark.parametrize("origin", ["http://localhost:8321", "http://LOCALHOST:8321"])
def test_our_own_page_may_ask(origin: str) -> None:
    assert status(over_tcp(origin=origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://evil.example",
        "https://localhost:8321",
        "http://localhost",
        "http://localhost:8322",
        "http://127.0.0.1:8321",
        "http://localhost:8321.evil.example",
        "http://localhost:8321@evil.example",
        "http://[",
        "file://",
    ],
)
def test_no_other_page_may(origin: str) -> None:
    rules = attrs.evolve(RULES, actions_over_tcp=True)
    for is_action in (False, True):
        assert status(over_tcp(origin=origin), rules, is_action=is_action) == 403
        local = over_unix(origin=origin, host="localhost:8321")  # of a socket that is forwarded
        assert status(local, is_action=is_action) == 403


# -- in a program ----


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(RULES)
    assert TOKEN not in repr(Config(port=0, token=TOKEN))


async def test_over_tcp_the_token_is_needed_and_actions_are_off(tmp_path: Path) -> None:
    config = Config(port=0, token=TOKEN)
    async with running(tmp_path, {"db": Manifold(serve)}, config=config) as (engine, asker):
        without = await asker.get("/report")
        with_it = await asker.get("/report", authorization=BEARER)
        in_url = await asker.get(f"/report?token={TOKEN}")
        action = await asker.post("/restart/db", authorization=BEARER)
        await trio.testing.wait_all_tasks_blocked()

        assert (without.status, in_url.status) == (401, 401)
        assert without.headers["www-authenticate"].startswith("Bearer")
        assert TOKEN.encode() not in without.body + with_it.body + in_url.body
        assert with_it.status == 200
        assert action.status == 403
        assert engine.report().manifolds["db"].starts == 1
        assert (await Asker(asker.path).post("/restart/db")).status == 202


async def test_over_tcp_actions_can_be_enabled(tmp_path: Path) -> None:
    config = Config(port=0, token=TOKEN, actions_over_tcp=True)
    async with running(tmp_path, {"db": Manifold(serve)}, config=config) as (engine, asker):
        assert (await asker.post("/restart/db")).status == 401
        foreign = await asker.post(
            "/restart/db", authorization=BEARER, origin="http://evil.example"
        )
        assert foreign.status == 403
        assert engine.report().manifolds["db"].starts == 1
        assert (await asker.post("/restart/db", authorization=BEARER)).status == 202


@pytest.mark.parametrize(
    "field, wrong",
    [
        ("token", {"port": 8321}),
        ("token", {"port": 8321, "token": ""}),
        ("token", {"port": 8321, "token": "short"}),
        ("token", {"port": 8321, "token": "sixteen but not one"}),
        ("token", {"port": 8321, "token": "sixteen-but-n\xf6t-ascii"}),
        ("port", {"port": 70000, "token": TOKEN}),
        ("port", {"port": -1, "token": TOKEN}),
        ("host", {"host": "0.0.0.0"}),
        ("host", {"host": "example.org"}),
        ("connections", {"connections": 0}),
    ],
)
def test_a_config_that_is_not_safe_is_refused(field: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{field} (must|is)") as caught:
        Config(**wrong)
    assert "sixteen" not in str(caught.value)
