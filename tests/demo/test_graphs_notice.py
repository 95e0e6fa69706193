"""The trial of the graphs notices an engine that does not do what the graph says."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("the demo is for Linux", allow_module_level=True)

import attrs
import trio
from trio.testing import MockClock

from trioworker import Engine, Manifold
from trioworker._demo.graphs import GraphFailed, Trial

GRAPH: dict[str, list[str]] = {"a": [], "b": ["a"]}


async def failure() -> str:
    with pytest.raises(GraphFailed) as caught:
        await Trial("a graph", GRAPH, 1).run()
    return str(caught.value)


async def test_a_start_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignored(engine: Engine, name: str) -> None:
        """Restart nothing."""

    monkeypatch.setattr(Engine, "restart", ignored)

    assert await failure() == "a graph, bouncing a: a was started 0 times, not 1"


async def test_one_that_is_started_and_did_not_stay_so(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = Engine.wait_settled

    async def settled_and_held(engine: Engine) -> None:
        await settled(engine)
        engine.hold("b")

    monkeypatch.setattr(Engine, "wait_settled", settled_and_held)

    assert (await failure()).startswith("a graph, coming up: b is ")


async def test_an_output_that_is_anothers(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    install = Engine.install

    def wrong(value: str) -> str:
        return "somebody else"

    def install_with_wrong_output(engine: Engine, name: str, manifold: Manifold) -> None:
        if name == "a":
            manifold = attrs.evolve(manifold, outputs={str: wrong})
        install(engine, name, manifold)

    async def never_settled(engine: Engine) -> None:
        await engine.wait_state("b", "delayed")
        error = engine.report().manifolds["b"].history[0].error
        assert error == "GraphFailed: a graph: b was given the wrong a"
        await trio.sleep_forever()

    monkeypatch.setattr(Engine, "install", install_with_wrong_output)
    monkeypatch.setattr(Engine, "wait_settled", never_settled)

    assert await failure() == "a graph: not done after 15 s"


async def test_an_end_before_those_who_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("a graph", GRAPH, 1)
    wait = Engine.wait

    async def wait_and_turn_round(engine: Engine) -> None:
        await wait(engine)
        trial._ends.reverse()

    monkeypatch.setattr(Engine, "wait", wait_and_turn_round)

    with pytest.raises(GraphFailed, match="a graph: a ended before b, which needs it"):
        await trial.run()


async def test_one_that_ends_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("a graph", GRAPH, 1)
    wait = Engine.wait

    async def wait_and_count_again(engine: Engine) -> None:
        await wait(engine)
        trial._ends.append("b")

    monkeypatch.setattr(Engine, "wait", wait_and_count_again)

    with pytest.raises(GraphFailed, match="a graph: b ended 2 times going down"):
        await trial.run()
