"""Stacked bars of shares; they stretch with the page while their text keeps its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dualproto_wsi.stats.report.charts.patterns import fill_of
from dualproto_wsi.stats.report.markup import Html, tag
from dualproto_wsi.stats.report.wording import number

COLUMN_HEIGHT = 220.0
"""Of the chart of many cases, px."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One case.

    Parameters
    ----------
    name : str
    aside : str
        What stands behind the bar.
    shares : tuple of float
        Of the classes and of the rest; they add up to 1.
    anchor : str
        Id of the row that the name leads to.
    """

    name: str
    aside: str
    shares: tuple[float, ...]
    anchor: str


def shares_in_words(names: Sequence[str], shares: Sequence[float]) -> str:
    """Return ``tumor 0.42, stroma 0.5``, without what is 0."""
    return ", ".join(f"{name} {number(share)}" for name, share in zip(names, shares, strict=True) if share > 0)


def bar_rows(bars: Sequence[Bar], names: Sequence[str]) -> Html:
    """Return a bar below the other, each with its name and a picture text; for as many as one likes to read."""
    return tag("ul", [_bar_row(bar, names) for bar in bars], class_="bars")


def _bar_row(bar: Bar, names: Sequence[str]) -> Html:
    rectangles = [
        tag(
            "rect", tag("title", f"{bar.name}: {name} {number(share)}"), x=f"{100 * start:.2f}%",
            width=f"{100 * share:.2f}%", height="100%", fill=fill_of(index), class_="edge",
        )
        for index, (name, share, start) in enumerate(zip(names, bar.shares, _starts(bar.shares), strict=True))
        if share > 0
    ]  # fmt: skip
    spoken = f"{bar.name}: {shares_in_words(names, bar.shares)}"
    picture = tag("svg", rectangles, role="img", aria_label=spoken, width="100%", height=18)
    name = tag("a", bar.name, href=f"#{bar.anchor}", class_="name")
    return tag("li", name, picture, tag("span", bar.aside, class_="aside"))


def _starts(shares: Sequence[float]) -> list[float]:
    return [0.0, *accumulate(shares)][: len(shares)]


def bar_columns(bars: Sequence[Bar], names: Sequence[str], title: str, description: str) -> Html:
    """Return thin columns side by side, for more cases than names have room; each tells its name under the mouse."""
    step = 100 / max(len(bars), 1)
    columns = [_column(bar, names, index * step, step) for index, bar in enumerate(bars)]
    lines = [
        tag("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid") for y in (0.0, COLUMN_HEIGHT / 2, COLUMN_HEIGHT)
    ]
    return tag(
        "svg", tag("title", title), tag("desc", description), columns, lines, role="img", width="100%",
        height=COLUMN_HEIGHT, aria_label=f"{title}. {description}", class_="columns",
    )  # fmt: skip


def _column(bar: Bar, names: Sequence[str], x: float, width: float) -> Html:
    spoken = f"{bar.name}: {shares_in_words(names, bar.shares)}"
    rectangles = [
        tag(
            "rect", x=f"{x:.3f}%", width=f"{0.9 * width:.3f}%", y=COLUMN_HEIGHT * (1 - start - share),
            height=COLUMN_HEIGHT * share, fill=fill_of(index),
        )
        for index, (share, start) in enumerate(zip(bar.shares, _starts(bar.shares), strict=True))
        if share > 0
    ]  # fmt: skip
    return tag("g", tag("title", spoken), rectangles)
