"""The page and the graph, as a running program serves them."""

from pathlib import Path

import pytest
import trio

from trioworker import Manifold
from trioworker.workers.agent.introspection import Config
from trioworker.workers.agent.introspection._page import CSS, POLICY, SCRIPT, locked

from .asking import TOKEN, Asker, running, serve

BEARER = {"authorization": f"Bearer {TOKEN}"}
OVER_TCP = Config(port=0, token=TOKEN)


async def test_the_page_is_served_with_its_policy(tmp_path: Path) -> None:
    async with running(tmp_path, {"db": Manifold(serve)}) as (_, asker):
        page = await asker.get("/")
        style = await asker.get("/page.css")
        script = await asker.get("/page.js")

    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == POLICY
    assert b'<tr data-name="db" data-state="started">' in page.body
    assert (style.headers["content-type"], style.body) == ("text/css; charset=utf-8", CSS)
    assert (script.headers["content-type"], script.body) == (
        "text/javascript; charset=utf-8",
        SCRIPT,
    )


async def test_over_tcp_the_page_without_a_token_asks_for_it_and_tells_nothing(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, {"db": Manifold(serve)}, config=OVER_TCP) as (_, remote):
        for wrong in ({}, {"authorization": "Bearer wrong"}):
            answer = await remote.ask("GET", "/", wrong)
            assert answer.status == 200
            assert answer.body == locked().encode()
            assert answer.headers["content-security-policy"] == POLICY
            assert (await remote.ask("GET", "/page.css", wrong)).body == CSS
            assert (await remote.ask("GET", "/page.js", wrong)).body == SCRIPT
            assert (await remote.ask("GET", "/graph.svg", wrong)).status == 401
            assert (await remote.ask("POST", "/", wrong)).status == 401
        assert b'data-name="db"' in (await remote.ask("GET", "/", BEARER)).body


@pytest.mark.parametrize("enabled", [False, True])
async def test_the_page_offers_actions_to_those_who_may(tmp_path: Path, *, enabled: bool) -> None:
    config = Config(port=0, token=TOKEN, actions_over_tcp=enabled)
    async with running(tmp_path, {"db": Manifold(serve)}, config=config) as (_, remote):
        local = Asker(remote.path)

        assert b"<body data-actions>" in (await local.get("/")).body
        assert (b"<body data-actions>" in (await remote.ask("GET", "/", BEARER)).body) is enabled


async def test_the_graph_is_served_in_three_languages(tmp_path: Path) -> None:
    manifolds = {"db": Manifold(serve), "web": Manifold(serve, inputs=("db",))}
    async with running(tmp_path, manifolds) as (_, asker):
        svg = await asker.get("/graph.svg?around=web")
        dot = await asker.get("/graph.dot")
        mermaid = await asker.get("/graph.mmd")
        unknown = await asker.get("/graph.svg?around=wbe")

    assert svg.headers["content-type"] == "image/svg+xml; charset=utf-8"
    assert b'class="node started chosen" data-name="web"' in svg.body
    assert b'"web" -> "db"' in dot.body
    assert mermaid.body.startswith(b"flowchart TD")
    assert unknown.status == 404
    assert unknown.json["hint"] == "did you mean 'web'?"


async def test_a_name_that_no_encoding_has_is_shown_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, {"\ud800": Manifold(serve)}) as (_, asker):
        for target in ("/", "/graph.svg", "/graph.dot", "/graph.mmd"):
            with trio.fail_after(10):
                assert (await asker.get(target)).status == 200
