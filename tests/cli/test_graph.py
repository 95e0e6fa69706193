"""Drawing who needs whom, in four formats."""

import json
import random
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import trio

import trioworker
from trioworker import Engine, EngineConfig, Getter, Manifold
from trioworker._cli._graph import FORMATS, text
from trioworker._drawing import Graph, dot, graph_of, layers, mermaid, svg


async def start(get: Getter, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()


def graph(name: str = "shop", /, **manifolds: Manifold) -> Graph:
    engine = Engine(EngineConfig(name=name))
    for key, manifold in manifolds.items():
        engine.install(key, manifold)
    return graph_of(engine.report())


WEB = Manifold(start, inputs=("db", "clock"), optional=("cache",), live=("settings",))
SHOP = graph(
    clock=Manifold(start),
    store=Manifold(start, inputs=("clock",)),
    settings=Manifold(start),
    web=WEB.bind({"db": "store"}),
)


def test_a_manifold_stands_above_all_that_it_needs_and_live_does_not_count() -> None:
    assert layers(SHOP) == [["clock", "settings", "cache"], ["store"], ["web"]]


def test_text_is_layer_by_layer() -> None:
    assert text(SHOP) == (
        "shop: 4 manifolds in 3 layers\n"
        "\n"
        "  web       needs store (as db), clock, cache (optional, not installed), settings (live)\n"
        "\n"
        "  store     needs clock\n"
        "\n"
        "  clock\n"
        "  settings\n"
        "  cache     (not installed)"
    )


def test_dot_has_solid_dashed_and_dotted_edges() -> None:
    assert dot(SHOP).splitlines() == [
        'digraph "shop" {',
        "  node [shape=box];",
        '  "clock";',
        '  "store";',
        '  "settings";',
        '  "web";',
        '  "cache" [style=dashed];',
        '  "store" -> "clock" [style=solid];',
        '  "web" -> "store" [style=solid, label="db"];',
        '  "web" -> "clock" [style=solid];',
        '  "web" -> "cache" [style=dashed];',
        '  "web" -> "settings" [style=dotted];',
        "}",
    ]


def test_mermaid_has_them_too() -> None:
    drawn = mermaid(SHOP).splitlines()

    assert drawn[0] == "flowchart TD"
    assert '  n3 -->|"db"| n1' in drawn
    assert '  n3 -->|"optional"| n4' in drawn
    assert "  linkStyle 3 stroke-dasharray:7 4" in drawn
    assert "  linkStyle 4 stroke-dasharray:2 4" in drawn


def test_svg_has_a_box_for_each_manifold_and_an_edge_for_each_need() -> None:
    root = ET.fromstring(svg(SHOP))
    kind = "{http://www.w3.org/2000/svg}"
    boxes = list(root.iter(f"{kind}rect"))
    edges = [p for p in root.iter(f"{kind}path") if p.find(f"{kind}title") is not None]

    assert len(boxes) == 5
    assert [edge.attrib["class"] for edge in edges] == [
        "edge required",
        "edge required",
        "edge required",
        "edge optional",
        "edge live",
    ]
    assert {t.text for t in root.iter(f"{kind}text")} >= {"clock", "store", "web", "cache"}
    assert "script" not in svg(SHOP)


def test_svg_boxes_do_not_overlap() -> None:
    random.seed(1)
    names = [f"manifold-{i}" for i in range(60)]
    manifolds = {
        name: Manifold(start, inputs=tuple(random.sample(names[:i], min(i, 3))))
        for i, name in enumerate(names)
    }
    root = ET.fromstring(svg(graph(**manifolds)))
    boxes = [
        (float(r.attrib["x"]), float(r.attrib["y"]), float(r.attrib["width"]))
        for r in root.iter("{http://www.w3.org/2000/svg}rect")
    ]

    assert len(boxes) == 60
    for i, (x, y, width) in enumerate(boxes):
        assert x >= 0
        assert x + width <= float(root.attrib["width"])
        assert all(y != y2 or x + width < x2 or x2 + w2 < x for x2, y2, w2 in boxes[i + 1 :])


NASTY = 'a"<b>&\\\n]--\x1b'


@pytest.mark.parametrize("name", FORMATS)
def test_a_name_cannot_break_out_of_the_drawing(name: str) -> None:
    drawn = FORMATS[name](graph(NASTY, **{NASTY: Manifold(start, inputs=("<script>",))}))

    assert "\x1b" not in drawn
    if name == "svg":
        assert "<script" not in drawn
        ET.fromstring(drawn)
    if name == "dot":
        assert r'  "a\"<b>&\\\\n]--\\x1b";' in drawn.splitlines()
    if name == "mermaid":
        assert all(line.count('"') in {0, 2} for line in drawn.splitlines())


@pytest.mark.parametrize("name", FORMATS)
def test_an_engine_without_manifolds_can_be_drawn(name: str) -> None:
    assert FORMATS[name](graph("empty"))


def test_names_are_masked() -> None:
    engine = Engine(EngineConfig(name="secret"))

    assert graph_of(engine.report(), lambda name: name.replace("secret", "${S}")).name == "${S}"


@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_manifolds_are_drawn_in_time(name: str) -> None:
    manifolds = {
        f"m{i}": Manifold(start, inputs=(f"m{i // 2}",) if i else ()) for i in range(1, 1000)
    }
    many = graph(**manifolds)
    begin = time.perf_counter()

    FORMATS[name](many)

    assert time.perf_counter() - begin < 5


def test_real_graphs_are_drawn() -> None:
    graphs = list((Path(trioworker.__file__).parent / "_demo" / "graphs").glob("*.json"))
    for path in graphs:
        needs: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
        real = graph(**{n: Manifold(start, inputs=tuple(m)) for n, m in needs.items()})
        assert sum(map(len, layers(real))) == len(needs)
        ET.fromstring(svg(real))
