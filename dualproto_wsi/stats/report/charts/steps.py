"""Curves that fall in steps, with their bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualproto_wsi.stats.report.charts.axis import Axis, nice_ticks
from dualproto_wsi.stats.report.markup import Html, tag
from dualproto_wsi.stats.report.wording import number

WIDTH, HEIGHT = 440.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 46.0

SHARES = Axis((0.0, 0.25, 0.5, 0.75, 1.0))

DASHES = ("", "7 4", "2 3", "10 3 2 3", "4 2", "1 4")
"""Lines differ in their dashes, not in colour alone."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Steps of a group.

    Parameters
    ----------
    label : str
    times, shares, low, high : tuple of float
        From each time on the share holds until the next one.
    """

    label: str
    times: tuple[float, ...]
    shares: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def step_chart(curves: Sequence[Curve], title: str, description: str, time: str) -> Html:
    """Return the curves as a picture.

    Parameters
    ----------
    curves : sequence of Curve
    title, description : str
        For those who do not see it.
    time : str
        Below the axis.
    """
    axis = Axis(nice_ticks(0.0, max((t for curve in curves for t in curve.times), default=1.0) or 1.0))
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        _frame(axis, time),
        [_band(curve, axis, index) for index, curve in enumerate(curves)],
        [_line(curve, axis, index) for index, curve in enumerate(curves)],
        role="img", aria_label=f"{title}. {description}", viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}", class_="curves",
    )  # fmt: skip


def _x(axis: Axis, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * axis.place(value)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * SHARES.place(share)


def _frame(axis: Axis, time: str) -> list[Html]:
    drawn = []
    for tick in SHARES.ticks:
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_y(tick), y2=_y(tick), class_="grid"))
        drawn.append(tag("text", number(tick), x=LEFT - 6, y=_y(tick) + 4, text_anchor="end", class_="tick"))
    for tick in axis.ticks:
        x = _x(axis, tick)
        drawn.append(tag("line", x1=x, x2=x, y1=_y(0), y2=_y(0) + 5, class_="grid"))
        drawn.append(tag("text", number(tick), x=x, y=_y(0) + 19, text_anchor="middle", class_="tick"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*drawn, tag("text", time, x=middle, y=HEIGHT - 6, text_anchor="middle", class_="label")]


def _corners(times: Sequence[float], shares: Sequence[float], axis: Axis) -> list[tuple[float, float]]:
    points = list(zip(times, shares, strict=True))
    if points and points[0][0] > 0:
        points.insert(0, (0.0, 1.0))
    corners: list[tuple[float, float]] = []
    for time, share in points:
        if corners:
            corners.append((_x(axis, time), corners[-1][1]))
        corners.append((_x(axis, time), _y(share)))
    return corners


def _path(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in corners)


def _band(curve: Curve, axis: Axis, index: int) -> Html | None:
    if not curve.low or not curve.high:
        return None
    around = [*_corners(curve.times, curve.high, axis), *reversed(_corners(curve.times, curve.low, axis))]
    return tag("path", d=f"{_path(around)} Z", class_=f"band hue-{index % 6}")


def _line(curve: Curve, axis: Axis, index: int) -> Html | None:
    if not curve.times:
        return None
    return tag(
        "path", tag("title", curve.label), d=_path(_corners(curve.times, curve.shares, axis)),
        class_=f"step hue-{index % 6}", stroke_dasharray=DASHES[index % 6] or None,
    )  # fmt: skip


def key(labels: Sequence[str]) -> Html:
    """Return the groups beside the lines they are drawn with."""
    return tag("ul", [tag("li", _sample(index), label) for index, label in enumerate(labels)], class_="legend")


def _sample(index: int) -> Html:
    line = tag(
        "line", x1=1, x2=43, y1=7, y2=7, class_=f"step hue-{index % 6}", stroke_dasharray=DASHES[index % 6] or None
    )
    return tag("svg", line, width=44, height=14, aria_hidden="true", focusable="false")
