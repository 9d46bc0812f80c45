"""The topology's layout: nothing lies upon anything else, few arrows run backwards, and the same firm looks the same."""

import random

import pytest
from browser_kit import needs_browser

pytestmark = needs_browser
LAY = """async ([nodes, links, how]) => {
  const { layout } = await import("/static/layout.js");
  const { places, paths, box } = layout(nodes, links, how);
  return { places: Object.fromEntries(places), paths: Object.fromEntries(paths), box };
}"""
MARGIN = 0.001


def a_graph(seed: int, nodes_count: int, links_count: int, *, is_acyclic: bool = False) -> tuple[list, list]:
    dice = random.Random(seed)
    nodes = [{"id": f"n{i}", "width": 132, "height": dice.choice([56, 56, 200])} for i in range(nodes_count)]
    pairs = {tuple(dice.sample(range(nodes_count), 2)) for _ in range(links_count)}
    if is_acyclic:
        pairs = {(min(pair), max(pair)) for pair in pairs}
    links = [{"key": f"{a} {b}", "from": f"n{a}", "to": f"n{b}"} for a, b in sorted(pairs)]
    dice.shuffle(links)
    return nodes, links


def edges(node: dict) -> tuple[float, float, float, float]:
    return (
        node["x"] - node["width"] / 2,
        node["x"] + node["width"] / 2,
        node["y"] - node["height"] / 2,
        node["y"] + node["height"] / 2,
    )


@pytest.fixture(scope="module")
def lay(browser, shared_page):
    page = browser.new_context().new_page()
    page.goto(shared_page.look)
    yield lambda nodes, links, down: page.evaluate(LAY, [nodes, links, {"down": down, "gap": 20, "step": 36}])
    page.close()


@pytest.mark.parametrize("down", [False, True])
def test_no_node_lies_upon_another_and_all_are_in_the_box(lay, down):
    for seed in range(12):
        nodes, links = a_graph(seed, seed * 5 + 1, seed * 9)
        laid = lay(nodes, links, down)
        boxes = [edges(laid["places"][node["id"]]) for node in nodes]
        for i, (left, right, top, bottom) in enumerate(boxes):
            assert laid["box"]["x"] - MARGIN <= left
            assert right <= laid["box"]["x"] + laid["box"]["width"] + MARGIN
            assert laid["box"]["y"] - MARGIN <= top
            assert bottom <= laid["box"]["y"] + laid["box"]["height"] + MARGIN
            for other_left, other_right, other_top, other_bottom in boxes[:i]:
                apart = (
                    other_right <= left or right <= other_left or other_bottom <= top or bottom <= other_top
                )
                assert apart, (seed, i)


@pytest.mark.parametrize(("down", "axis"), [(False, "x"), (True, "y")])
def test_without_circles_every_arrow_runs_with_the_stream(lay, down, axis):
    nodes, links = a_graph(3, 30, 60, is_acyclic=True)
    laid = lay(nodes, links, down)
    for link in links:
        along = [point[axis] for point in laid["paths"][link["key"]]]
        assert along == sorted(along)
        assert laid["places"][link["from"]][axis] < laid["places"][link["to"]][axis]


def test_an_arrow_begins_and_ends_at_its_nodes(lay):
    nodes, links = a_graph(5, 20, 45)
    laid = lay(nodes, links, False)
    for link in links:
        points = laid["paths"][link["key"]]
        for point, name in ((points[0], link["from"]), (points[-1], link["to"])):
            left, right, top, bottom = edges(laid["places"][name])
            assert min(abs(point["x"] - left), abs(point["x"] - right)) < MARGIN
            assert top <= point["y"] <= bottom


def test_the_same_firm_is_laid_out_alike(lay):
    nodes, links = a_graph(8, 25, 50)
    assert lay(nodes, links, False) == lay(nodes, links, False)


def test_no_node_and_no_link_is_no_mistake(lay):
    assert lay([], [], False)["box"] == {"x": 0, "y": 0, "width": 1, "height": 1}
