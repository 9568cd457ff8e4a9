"""Charts: what is drawn lies where the numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.stats.report.charts.axis import axis_for, nice_ticks
from dualproto_wsi.stats.report.charts.bars import Bar, bar_columns, bar_rows
from dualproto_wsi.stats.report.charts.patterns import HATCHES, definitions, legend
from dualproto_wsi.stats.report.charts.steps import Curve, step_chart
from dualproto_wsi.stats.report.charts.strips import MARGIN, WIDTH, Strip, strip_chart, swarm

FLOATS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(st.lists(FLOATS, min_size=1, max_size=30))
def test_an_axis_holds_all_values(values: list[float]) -> None:
    axis = axis_for(values)
    rounding = 1e-8 * max(abs(value) for value in values)
    assert axis.ticks[0] <= min(values) + rounding
    assert axis.ticks[-1] >= max(values) - rounding
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert 2 <= len(axis.ticks) <= 8
    order = [axis.place(value) for value in sorted(values)]
    assert order == sorted(order)
    assert 0 <= order[0] <= order[-1] <= 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0, 47, (0, 10, 20, 30, 40, 50)),
        (4.3, 6.9, (4, 5, 6, 7)),
        (0, 61.5, (0, 20, 40, 60, 80)),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_a_skewed_measure_gets_a_logarithmic_axis() -> None:
    axis = axis_for([1.0, 2.0, 3.0, 900.0])
    assert axis.logarithmic
    assert axis.ticks == (1, 10, 100, 1000)
    assert axis.place(10) == pytest.approx(1 / 3)
    assert not axis_for([0.0, 2.0, 3.0, 900.0]).logarithmic


def test_equal_values_have_an_axis() -> None:
    assert axis_for([3.0, 3.0]).place(3.0) == pytest.approx(0.5, abs=0.2)
    assert axis_for([0.0]).place(0.0) == pytest.approx(0.5, abs=0.2)


@given(st.lists(st.floats(0, 50), max_size=40))
def test_points_of_a_level_touch_only_where_there_is_no_room(places: list[float]) -> None:
    places.sort()
    levels = swarm(places, 6.0, 2)
    assert set(levels) <= {-2, -1, 0, 1, 2}
    for i, (place, level) in enumerate(zip(places, levels, strict=True)):
        near = {levels[j] for j in range(i) if place - places[j] < 6}
        assert level not in near or len(near) == 5


def _svg(figure: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", figure, re.DOTALL)
    assert found
    return ElementTree.fromstring(found[0])


def test_every_value_is_a_point_at_its_place() -> None:
    strips = [Strip("A", (("p1", 0.0), ("p2", 0.5))), Strip("B", (("p3", 1.0),)), Strip("C", ())]
    svg = _svg(strip_chart("Share", "1", strips).split("<details>")[0])
    found = {c.find("title").text: float(c.get("cx")) for c in svg.iter("circle")}
    inner = WIDTH - 2 * MARGIN
    assert found == {"p1: 0": MARGIN, "p2: 0.5": MARGIN + inner / 2, "p3: 1": MARGIN + inner}
    assert svg.find("title").text == "Share"
    assert svg.find("desc").text == (
        "A: 2 values, median 0.25, quartiles 0.125 and 0.375, from 0 to 0.5; "
        "B: 1 values, median 1, quartiles 1 and 1, from 1 to 1; C: no values"
    )
    assert [text.text for text in svg.iter("text") if text.get("class") == "label"] == [
        "A (n = 2)", "B (n = 1)", "C (n = 0)",
    ]  # fmt: skip
    assert not [rect for rect in svg.iter("rect") if rect.get("class") == "box"]


def test_quartiles_are_drawn_from_five_values_on() -> None:
    points = tuple((f"p{i}", i / 4) for i in range(5))
    svg = _svg(strip_chart("Share", "1", [Strip("", points)]).split("<details>")[0])
    (box,) = [rect for rect in svg.iter("rect") if rect.get("class") == "box"]
    inner = WIDTH - 2 * MARGIN
    assert float(box.get("x")) == pytest.approx(MARGIN + inner / 4)
    assert float(box.get("width")) == pytest.approx(inner / 2)


def test_bars_add_up_and_say_what_they_show() -> None:
    bar = Bar("P<1>", "3 mm²", (0.5, 0.25, 0.0, 0.25), "patient-0")
    row = ElementTree.fromstring(bar_rows([bar], ["tumor", "stroma", "fat", "rest"]))
    svg = row.find("li/svg")
    assert svg.get("aria-label") == "P<1>: tumor 0.5, stroma 0.25, rest 0.25"
    rects = svg.findall("rect")
    assert [(r.get("x"), r.get("width"), r.get("fill")) for r in rects] == [
        ("0.00%", "50.00%", "url(#class-0)"),
        ("50.00%", "25.00%", "url(#class-1)"),
        ("75.00%", "25.00%", "url(#class-3)"),
    ]


def test_columns_stand_side_by_side() -> None:
    bars = [Bar(f"p{i}", "", (0.25, 0.75), f"patient-{i}") for i in range(4)]
    svg = _svg(bar_columns(bars, ["tumor", "rest"], "Title", "Words"))
    assert [g.find("title").text for g in svg.findall("g")] == [f"p{i}: tumor 0.25, rest 0.75" for i in range(4)]
    assert [g.find("rect").get("x") for g in svg.findall("g")] == ["0.000%", "25.000%", "50.000%", "75.000%"]
    low, high = svg.find("g").findall("rect")
    assert float(low.get("y")) + float(low.get("height")) == pytest.approx(220)
    assert (float(high.get("y")), float(high.get("height"))) == (0, pytest.approx(165))


def test_neighbouring_classes_differ_in_more_than_colour() -> None:
    assert len(set(HATCHES)) == len(HATCHES)
    svg = _svg(definitions([("a", (0, 0, 0)), ("b", (255, 255, 255)), ("c", (9, 9, 9))]))
    assert [p.get("id") for p in svg.iter("pattern")] == ["class-0", "class-1", "class-2", "class-3"]
    assert [p.find("path") is not None for p in svg.iter("pattern")] == [False, True, True, True]
    assert "Unsure" in legend([("a", (0, 0, 0))], rest=True)
    assert "Unsure" not in legend([("a", (0, 0, 0))], rest=False)


def test_curves_fall_in_steps() -> None:
    curve = Curve("A", (0.0, 10.0), (1.0, 0.5), (1.0, 0.25), (1.0, 0.75))
    svg = _svg(step_chart([curve, Curve("B", (), (), (), ())], "T", "D", "Time (months)"))
    band, line = svg.findall("path")
    corners = [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", line.get("d"))]
    assert corners == [(46.0, 12.0), (426.0, 12.0), (426.0, 133.0)]
    assert band.get("d").endswith("Z")
    assert line.find("title").text == "A"
    assert "Time (months)" in [text.text for text in svg.iter("text")]


def test_a_curve_that_begins_later_begins_at_one() -> None:
    curve = Curve("A", (5.0, 10.0), (0.5, 0.25), (0.5, 0.25), (0.5, 0.25))
    svg = _svg(step_chart([curve], "T", "D", "Time"))
    assert svg.findall("path")[1].get("d").startswith("M46.0 12.0")
