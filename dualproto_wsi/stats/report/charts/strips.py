"""Every value as a point, with median and quartiles: nothing is hidden behind a summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dualproto_wsi.stats.report.charts.axis import Axis, axis_for
from dualproto_wsi.stats.report.markup import Html, tag
from dualproto_wsi.stats.report.tables import Heading, Row, cell, folded, number_cell, table
from dualproto_wsi.stats.report.wording import number, titled, with_unit

WIDTH, MARGIN = 360.0, 18.0
ROW, HALF = 58.0, 17.0
"""Height of a strip with its label, and half the height of its points, px."""

BOX_FROM = 5
"""With fewer values quartiles say nothing; then only the median is drawn."""

MANY = 60
"""From here on points are smaller."""


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of points.

    Parameters
    ----------
    label : str
    points : tuple of (str, float)
        Name and finite value of each case; may be empty.
    """

    label: str
    points: tuple[tuple[str, float], ...]

    @property
    def values(self) -> list[float]:
        """The values alone."""
        return [value for _, value in self.points]


def swarm(places: Sequence[float], distance: float, levels: int) -> list[int]:
    """Return a level for each point, so that points of one level do not touch while there is room.

    Parameters
    ----------
    places : sequence of float
        Rising positions along the strip, px.
    distance : float
        Least distance within a level, px.
    levels : int
        At most this many on each side of 0.

    Returns
    -------
    list of int
        0, 1, -1, 2, … the nearest to the middle that is free, or else the one that was free longest ago.
    """
    order = sorted(range(-levels, levels + 1), key=lambda level: (abs(level), -level))
    last = dict.fromkeys(order, -np.inf)
    chosen = []
    for place in places:
        free = [level for level in order if place - last[level] >= distance]
        level = free[0] if free else min(order, key=lambda each: last[each])
        last[level] = place
        chosen.append(level)
    return chosen


def strip_chart(title: str, unit: str, strips: Sequence[Strip]) -> Html:
    """Return a figure of strips on one axis, with a table of what it shows.

    Parameters
    ----------
    title, unit : str
        Of the measure.
    strips : sequence of Strip
        At least one with a value.

    Returns
    -------
    Html
    """
    axis = axis_for([value for strip in strips for value in strip.values])
    height = ROW * len(strips) + 30
    heading = titled(title, unit)
    described = "; ".join(_in_words(strip, unit) for strip in strips)
    picture = tag(
        "svg",
        tag("title", heading),
        tag("desc", described),
        _axis_lines(axis, ROW * len(strips)),
        [_strip(strip, axis, index * ROW, unit) for index, strip in enumerate(strips)],
        role="img", aria_label=f"{heading}. {described}", viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
    )  # fmt: skip
    note = " Logarithmic scale." if axis.logarithmic else ""
    return tag(
        "figure",
        tag("figcaption", tag("strong", heading), note),
        picture,
        folded("As a table", _numbers(heading, strips)),
        class_="panel",
    )


def _x(axis: Axis, value: float) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * axis.place(value)


def _axis_lines(axis: Axis, bottom: float) -> list[Html]:
    drawn = []
    for tick in axis.ticks:
        x = _x(axis, tick)
        drawn.append(tag("line", x1=x, x2=x, y1=20.0, y2=bottom + 4, class_="grid"))
        drawn.append(tag("text", number(tick), x=x, y=bottom + 19, text_anchor="middle", class_="tick"))
    return drawn


def _strip(strip: Strip, axis: Axis, top: float, unit: str) -> list[Html]:
    label = f"{strip.label} (n = {len(strip.points)})" if strip.label else f"n = {len(strip.points)}"
    middle = top + 22 + HALF
    drawn = [tag("text", label, x=MARGIN, y=top + 14, class_="label")]
    if not strip.points:
        return drawn
    low, median, high = (_x(axis, float(q)) for q in np.quantile(strip.values, (0.25, 0.5, 0.75)))
    if len(strip.points) >= BOX_FROM:
        drawn.append(tag("rect", x=low, width=high - low, y=middle - HALF, height=2 * HALF, class_="box"))
    drawn.append(tag("line", x1=median, x2=median, y1=middle - HALF - 2, y2=middle + HALF + 2, class_="median"))
    points = sorted(((_x(axis, value), name, value) for name, value in strip.points), key=lambda point: point[0])
    radius = 3.0 if len(points) < MANY else 2.2
    levels = swarm([x for x, _, _ in points], 2 * radius, int((HALF - radius) // (2 * radius)))
    for (x, name, value), level in zip(points, levels, strict=True):
        spoken = tag("title", f"{name}: {with_unit(value, unit)}")
        drawn.append(tag("circle", spoken, cx=x, cy=middle + 2 * radius * level, r=radius))
    return drawn


def _in_words(strip: Strip, unit: str) -> str:
    named = f"{strip.label}: " if strip.label else ""
    if not strip.points:
        return f"{named}no values"
    low, median, high = (float(q) for q in np.quantile(strip.values, (0.25, 0.5, 0.75)))
    return (
        f"{named}{len(strip.points)} values, median {with_unit(median, unit)}, "
        f"quartiles {number(low)} and {number(high)}, from {number(min(strip.values))} to {number(max(strip.values))}"
    )


def _numbers(caption: str, strips: Sequence[Strip]) -> Html:
    names = ("n", "least", "lower quartile", "median", "upper quartile", "most")
    headings = [Heading("Group" if strips[0].label else "Cases"), *(Heading(name, numeric=True) for name in names)]
    rows = []
    for strip in strips:
        five = np.quantile(strip.values, (0, 0.25, 0.5, 0.75, 1)).tolist() if strip.points else [None] * 5
        rows.append(Row([strip.label or "all", cell(number(len(strip.points))), *(number_cell(v) for v in five)]))
    return table(caption, headings, rows)
