"""The graph of a running engine: states, neighbourhoods, and names that are not to be trusted."""

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trioworker import Engine, EngineConfig, Getter, Manifold
from trioworker.dependency import EngineReport
from trioworker.testing import open_engine
from trioworker.workers.agent.introspection._graph import (
    MOST,
    NEAREST,
    dot,
    mermaid,
    neighbourhood,
    svg,
)

NASTY = '<script>alert("1")</script>\n\x1b&\'"'


async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


def report(name: str = "shop", /, **inputs: tuple[str, ...]) -> EngineReport:
    engine = Engine(EngineConfig(name=name))
    engine.install_all({key: Manifold(start, inputs=found) for key, found in inputs.items()})
    return engine.report()


def many(count: int) -> EngineReport:
    """A tree: each needs the one of half its number."""
    return report(**{f"m{i}": (f"m{i // 2}",) if i > 1 else () for i in range(1, count + 1)})


def nodes(drawn: str) -> dict[str, str]:
    """Each node that is drawn, and its classes."""
    groups = ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}g")
    return {g.attrib["data-name"]: g.attrib["class"] for g in groups if "data-name" in g.attrib}


def title(drawn: str) -> str:
    found = ET.fromstring(drawn).find("{http://www.w3.org/2000/svg}title")
    assert found is not None
    return found.text or ""


async def test_each_manifold_says_its_state_in_a_word_and_in_a_class() -> None:
    manifolds = {"db": Manifold(start), "web": Manifold(start, inputs=("db",), optional=("lost",))}
    async with open_engine(manifolds) as engine:
        await wait_all_tasks_blocked()
        engine.hold("db")
        await wait_all_tasks_blocked()
        drawn = svg(engine.report())

    assert nodes(drawn) == {"db": "node held", "web": "node waiting", "lost": "node absent"}
    texts = [t.text for t in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert {"held", "waiting", "absent"} <= set(texts)


def test_the_chosen_one_is_marked() -> None:
    drawn = nodes(svg(report(a=(), b=("a",)), around="b"))

    assert drawn == {"a": "node waiting", "b": "node waiting chosen"}


def test_as_many_as_can_be_read_are_all_drawn() -> None:
    assert len(nodes(svg(many(MOST), around="m1"))) == MOST


def test_of_more_nothing_is_drawn_until_one_is_chosen() -> None:
    drawn = svg(many(MOST + 1))

    assert nodes(drawn) == {}
    assert title(drawn) == f"shop ({MOST + 1} manifolds; choose one to see those around it)"
    assert svg(many(MOST + 1), around="unknown") == drawn


def test_of_more_the_nearest_to_the_chosen_one_are_drawn() -> None:
    drawn = svg(many(1000), around="m8")

    assert len(nodes(drawn)) == NEAREST
    assert {"m1", "m2", "m4", "m8", "m16", "m17", "m33"} <= set(nodes(drawn))
    assert "m999" not in nodes(drawn)
    assert title(drawn) == f"shop ({NEAREST} of 1000 manifolds, the nearest to m8)"


def test_a_neighbourhood_grows_in_both_directions_and_what_is_needed_comes_first() -> None:
    chain = report(a=(), b=("a",), c=("b",), d=("c",), e=("d",))

    assert neighbourhood(chain, "c", most=1) == {"c"}
    assert neighbourhood(chain, "c", most=2) == {"c", "b"}
    assert neighbourhood(chain, "c", most=3) == {"b", "c", "d"}
    assert neighbourhood(chain, "c") == {"a", "b", "c", "d", "e"}


def test_a_neighbourhood_has_what_is_not_installed_and_live_cycles() -> None:
    engine = Engine()
    engine.install("a", Manifold(start, inputs=("lost",), live=("b",)))
    engine.install("b", Manifold(start, optional=("a",)))

    assert neighbourhood(engine.report(), "b") == {"a", "b", "lost"}


def test_no_edge_leads_out_of_what_is_drawn() -> None:
    """Those at the rim need others that are farther away."""
    names = {f"m{i}": (f"m{i // 2}", f"n{i}") if i > 1 else () for i in range(1, 200)}
    drawn = svg(report(**names, **{f"n{i}": () for i in range(2, 200)}), around="m8")
    paths = ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}path")
    ends = {p.attrib[end] for p in paths for end in ("data-from", "data-to") if end in p.attrib}

    assert ends == set(nodes(drawn))
    assert len(ends) == NEAREST


def test_a_wide_layer_is_broken_into_rows() -> None:
    star = report(**{f"leaf-{i}": ("hub",) for i in range(120)}, hub=())
    width = float(ET.fromstring(svg(star)).attrib["width"])

    assert width < 1300


@pytest.mark.parametrize("draw", [svg, dot, mermaid])
def test_a_name_cannot_break_out(draw: Callable[[EngineReport], str]) -> None:
    drawn = draw(report(NASTY, **{NASTY: (), "b": (NASTY,)}))

    assert "\x1b" not in drawn
    if draw is svg:
        assert "<script" not in drawn
        assert len(nodes(drawn)) == 2
    else:
        bare = drawn.replace('\\"', "")  # as Graphviz writes a quotation mark
        assert all(line.count('"') % 2 == 0 for line in bare.splitlines())


def test_nothing_in_a_picture_needs_leave_to_run_or_to_style() -> None:
    drawn = svg(report(a=(), b=("a",)))

    assert "<style" not in drawn
    assert "style=" not in drawn
    assert "<script" not in drawn
    assert "href" not in drawn


def test_pictures_are_drawn_in_time() -> None:
    """Generous: what it takes is in the benchmark of the page."""
    whole, part = many(MOST), many(1000)
    begin = time.process_time()

    svg(whole)
    svg(part, around="m500")

    assert time.process_time() - begin < 0.5
