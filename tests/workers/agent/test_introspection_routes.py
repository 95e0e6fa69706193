"""What a program answers about itself."""

import json
import logging
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from trioworker import Engine, EngineConfig, Getter, Manifold, NotFound
from trioworker.backends.http import Request
from trioworker.dependency import Explanation, Inspector, TaskStack
from trioworker.workers.agent.introspection import Recorder
from trioworker.workers.agent.introspection._access import Rules
from trioworker.workers.agent.introspection._routes import Inside, answer
from trioworker.workers.agent.metrics import PrometheusMetrics

from .asking import PATIENCE, Asker, hang, running, serve


async def fail(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    raise ValueError("<script>alert(1)</script>\x00\udc80")


SHOP = {
    "db": Manifold(serve),
    "web": Manifold(hang, inputs=("db",)),
    "front": Manifold(serve, inputs=("web",)),
}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncGenerator[tuple[Engine, Asker]]:
    async with running(tmp_path, SHOP) as (engine, asker):
        with trio.fail_after(PATIENCE):
            await engine.wait_state("web", "starting")
        yield engine, asker


Shop = tuple[Engine, Asker]


async def test_it_says_that_it_lives(shop: Shop) -> None:
    answer = await shop[1].get("/healthz")

    assert (answer.status, answer.body) == (200, b"ok\n")


async def test_the_report_is_the_engine_s_and_tells_both_clocks(shop: Shop) -> None:
    engine, asker = shop
    answer = await asker.get("/report")

    report = engine.report()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["name"] == "shop"
    assert answer.json["tomb"]["state"] == "alive"
    assert answer.json["now"] <= trio.current_time()
    assert answer.json["epoch"] > 1.7e9
    assert list(answer.json["manifolds"]) == list(report.manifolds)
    front = answer.json["manifolds"]["front"]
    assert list(front) == list(report.manifolds["front"]._fields)
    assert (front["state"], front["inputs"], front["waiting_for"]) == ("waiting", ["web"], ["web"])


async def test_an_explanation_leads_to_the_cause(shop: Shop) -> None:
    _, asker = shop
    answer = (await asker.get("/explain/front")).json

    assert [link["manifold"] for link in answer["chain"]] == ["front", "web"]
    assert answer["sentence"].startswith("front waits for web; web has been starting for")
    assert answer["state"] == "waiting"
    assert answer["blast_radius"] == []
    assert (await asker.get("/explain/db")).json["blast_radius"] == ["web", "front"]


async def test_an_unknown_name_gets_those_that_are_near(shop: Shop) -> None:
    answer = await shop[1].get("/explain/fron")

    assert answer.status == 404
    assert answer.json == {
        "error": "there is no manifold 'fron'",
        "hint": "did you mean 'front'?",
    }
    assert "there are: 'engine'" in (await shop[1].get("/stacks/zzz")).json["hint"]


async def test_an_unknown_name_that_is_long_is_marked_where_it_is_cut_off(shop: Shop) -> None:
    answer = await shop[1].get(f"/explain/{'x' * 201}")

    assert answer.json["error"] == f"there is no manifold '{'x' * 199}…'"


async def test_a_program_that_is_not_ready_says_who_holds_it_up_the_cause_first(shop: Shop) -> None:
    answer = await shop[1].get("/readyz")

    assert answer.status == 503
    assert not answer.json["ready"]
    assert [one["manifold"] for one in answer.json["waiting"]] == ["web", "front"]
    assert "without calling started()" in answer.json["waiting"][0]["sentence"]


async def test_it_is_ready_when_all_are_started_done_or_held(shop: Shop) -> None:
    engine, asker = shop
    engine.hold("web")
    engine.hold("front")
    await engine.wait_settled()

    answer = await asker.get("/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True})


async def test_of_many_that_wait_the_first_are_told(tmp_path: Path) -> None:
    many = {f"m{n}": Manifold(hang) for n in range(60)}
    async with running(tmp_path, many) as (_, asker):
        answer = (await asker.get("/readyz")).json

    assert len(answer["waiting"]) == 50
    assert answer["more"] == 10


async def test_stacks_tell_where_the_tasks_stand(shop: Shop) -> None:
    engine, asker = shop
    [stack] = (await asker.get("/stacks/web")).json

    assert stack["name"] == "web"
    assert any("in hang" in frame for frame in stack["frames"])
    assert stack["children"] == []
    everybody = (await asker.get("/stacks")).json
    assert everybody["web"] == [stack]
    assert list(everybody) == list(engine.report().manifolds)
    assert any("_serve_one" in child["name"] for child in tasks(everybody["introspection"]))


def tasks(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [task for stack in stacks for task in (stack, *tasks(stack["children"]))]


async def test_what_workers_say_is_never_anything_but_a_string(tmp_path: Path) -> None:
    async with running(tmp_path, {"<b>": Manifold(fail)}) as (engine, asker):
        with trio.fail_after(PATIENCE):
            await engine.wait_state("<b>", "delayed")
        answer = await asker.get("/report")
        explained = await asker.get("/explain/%3Cb%3E")

    assert answer.body.isascii()
    why = answer.json["manifolds"]["<b>"]["why"]
    assert "<script>alert(1)</script>" in why
    assert "<script>" in explained.json["sentence"]
    for one in (answer, explained):
        assert one.headers["content-type"] == "application/json"
        assert one.headers["x-content-type-options"] == "nosniff"
        assert one.headers["content-security-policy"].startswith("default-src 'none'")


async def test_what_is_waited_for_and_not_installed_is_explained(shop: Shop) -> None:
    engine, asker = shop
    engine.install("late", Manifold(serve, inputs=("nothing",)))
    answer = (await asker.get("/explain/nothing")).json

    assert (answer["state"], answer["blast_radius"]) == ("absent", [])


async def test_what_goes_while_an_answer_is_made_is_left_out(shop: Shop) -> None:
    engine, _ = shop

    class Going:
        """An inspector whose `db` is uninstalled after it was listed."""

        view = engine.view

        def stacks(self, name: str) -> tuple[TaskStack, ...]:
            if name == "db":
                raise NotFound(name)
            return engine.stacks(name)

        def explain(self, name: str) -> Explanation:
            raise NotFound(name)

    inside = Inside(
        inspector=cast("Inspector", Going()),
        operator=engine,
        recorder=Recorder(engine),
        exposition=None,
        mask=None,
        own=frozenset(),
    )
    stacks = await ask_inside(inside, "stacks")
    assert list(stacks) == ["engine", "introspection", "web", "front"]
    [first, *_] = (await ask_inside(inside, "readyz"))["waiting"]
    assert first["sentence"] == "web was uninstalled"


async def ask_inside(inside: Inside, path: str) -> Any:
    request = Request(
        method="GET",
        parts=(path,),
        query={},
        headers=(("host", "localhost"),),
        peer_uid=os.getuid(),
    )
    response = await answer(inside, Rules(uid=os.getuid()), request)
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


async def test_a_program_that_counts_nothing_says_how_it_could(shop: Shop) -> None:
    answer = await shop[1].get("/metrics")

    assert answer.status == 404
    assert "PrometheusMetrics" in answer.json["hint"]


# -- slices ----


class Slices(trio.abc.Instrument):
    """The longest time that one task had without giving others a turn."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.begun = time.thread_time()
        self.longest = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.begun = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.longest = max(self.longest, time.thread_time() - self.begun)


@pytest.mark.full
@pytest.mark.parametrize("path", ["report", "readyz", "stacks", "metrics", "trace.json", ""])
async def test_what_is_long_is_made_in_slices(path: str) -> None:
    """Of a thousand manifolds: five milliseconds at most, in the best of five attempts."""
    metrics = PrometheusMetrics()
    engine = Engine(EngineConfig(metrics=metrics))
    inside = Inside(
        inspector=engine,
        operator=engine,
        recorder=Recorder(engine),
        exposition=metrics,
        mask=None,
        own=frozenset(),
    )
    request = Request(
        method="GET",
        parts=(path,),
        query={},
        headers=(("host", "localhost"),),
        peer_uid=os.getuid(),
    )
    engine.install_all({f"m{n}": Manifold(serve) for n in range(1000)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await engine.wait_settled()
        longest: list[float] = []
        for _ in range(5):
            await trio.lowlevel.checkpoint()
            slices = Slices()
            trio.lowlevel.add_instrument(slices)
            assert (await answer(inside, Rules(uid=os.getuid()), request)).status == 200
            await trio.lowlevel.checkpoint()
            trio.lowlevel.remove_instrument(slices)
            longest.append(slices.longest)
        engine.kill(grace=0)

    assert min(longest) < 0.005


# -- actions ----


async def test_what_is_restarted_is_restarted_and_its_dependents_with_it(shop: Shop) -> None:
    engine, asker = shop
    answer = await asker.post("/restart/db")

    assert (answer.status, answer.json) == (202, {})
    with trio.fail_after(PATIENCE):
        await engine.wait_state("web", "starting")
    assert engine.report().manifolds["db"].starts == 2


async def test_what_is_held_stays_stopped_until_it_is_released(shop: Shop) -> None:
    engine, asker = shop
    await asker.post("/hold/db")
    with trio.fail_after(PATIENCE):
        await engine.wait_state("db", "held")
        assert (await asker.post("/release/db")).status == 202
        await engine.wait_state("db", "started")


async def test_a_drained_program_still_answers_and_can_be_released(shop: Shop) -> None:
    engine, asker = shop
    assert (await asker.post("/drain")).status == 202
    with trio.fail_after(PATIENCE):
        await engine.wait_state("db", "held")

    states = {n: m["state"] for n, m in (await asker.get("/report")).json["manifolds"].items()}
    assert states == {
        "engine": "started",
        "introspection": "started",
        "db": "held",
        "web": "held",
        "front": "held",
    }
    assert engine.report().manifolds["introspection"].starts == 1


@pytest.mark.parametrize("name", ["engine", "introspection"])
async def test_it_does_not_hold_itself_for_nobody_could_release_it(shop: Shop, name: str) -> None:
    engine, asker = shop
    answer = await asker.post(f"/hold/{name}")

    assert answer.status == 409
    assert engine.report().manifolds[name].state == "started"


async def test_it_restarts_itself_having_answered(shop: Shop) -> None:
    engine, asker = shop
    assert (await asker.post("/restart/introspection")).status == 202
    with trio.fail_after(PATIENCE):
        await engine.wait_state("introspection", "starting", "stopping")
        await engine.wait_state("introspection", "started")
    assert (await asker.get("/healthz")).status == 200


@pytest.mark.parametrize("verb", ["restart", "hold", "release"])
async def test_an_action_on_an_unknown_name_is_404(shop: Shop, verb: str) -> None:
    assert (await shop[1].post(f"/{verb}/frunt")).status == 404


@pytest.mark.parametrize(
    "path", ["restart/db", "hold/db", "release/db", "drain", "log-level?level=debug"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_is_changed_but_by_post(shop: Shop, path: str, method: str) -> None:
    engine, asker = shop
    before = states_and_starts(engine)
    answer = await asker.ask(method, f"/{path}")

    assert answer.status == 405
    assert answer.headers["allow"] == "POST"
    assert states_and_starts(engine) == before


def states_and_starts(engine: Engine) -> dict[str, tuple[str, int]]:
    return {name: (one.state, one.starts) for name, one in engine.report().manifolds.items()}


@pytest.mark.parametrize("path", ["", "nothing", "report/x", "restart", "explain/a/b", "drain/x"])
async def test_what_is_not_there_is_404_and_what_is_there_is_listed(shop: Shop, path: str) -> None:
    answer = await shop[1].get(f"/{path}?x=y")

    if path or answer.status != 200:
        assert answer.status == 404
        assert "/explain/NAME" in answer.json["hint"]


async def test_the_rest_is_read_only(shop: Shop) -> None:
    answer = await shop[1].post("/report")

    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


# -- log levels ----


async def test_the_level_of_a_logger_of_ours_can_be_set(shop: Shop) -> None:
    logger = logging.getLogger("trioworker.engine.web")
    try:
        path = "/log-level?level=DEBUG&logger=trioworker.engine.web"
        assert (await shop[1].post(path)).status == 202
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.NOTSET)


async def test_without_a_logger_it_is_that_of_all_of_ours(shop: Shop) -> None:
    logger = logging.getLogger("trioworker")
    before = logger.level
    try:
        assert (await shop[1].post("/log-level?level=error")).status == 202
        assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?level=loud",
        "?level=debug&logger=trioworker." + "x" * 200,
        "?level=debug&logger=root",
        "?level=debug&logger=trioworkerx",
    ],
)
async def test_other_levels_and_loggers_are_refused(shop: Shop, query: str) -> None:
    before = logging.getLogger().level
    answer = await shop[1].post(f"/log-level{query}")

    assert answer.status == 400
    assert answer.json["hint"]
    assert logging.getLogger().level == before


# -- events ----


async def test_events_come_as_they_happen(shop: Shop) -> None:
    engine, asker = shop
    with trio.fail_after(PATIENCE):
        async with await asker.connect() as stream:
            lines = lines_of(stream)
            await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await anext(lines)  # it listens
            engine.restart("db")
            events = [json.loads((await anext(lines)).removeprefix("data: ")) for _ in range(4)]
            await lines.aclose()

    assert [(event["manifold"], event["after"]) for event in events] == [
        ("web", "draining"),
        ("db", "draining"),
        ("web", "stopping"),
        ("web", "waiting"),
    ]
    assert list(events[0]) == ["time", "manifold", "before", "after", "cause", "origin", "text"]
    assert events[0]["cause"] == "restart('db')"
    assert len({event["origin"] for event in events}) == 1


async def lines_of(stream: trio.abc.ReceiveStream) -> AsyncGenerator[str]:
    """Yield the lines of a stream of events that say something, without HTTP around them."""
    rest = b""
    while data := await stream.receive_some(4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith((b"data:", b"event:", b": ")):
                yield line.decode()
