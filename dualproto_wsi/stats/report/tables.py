"""Tables that scroll in their own box and sort where scripts run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualproto_wsi.stats.cohort.model import Value
from dualproto_wsi.stats.report.markup import Child, Html, join, tag
from dualproto_wsi.stats.report.wording import finite, interval_text, value_text

BROAD = 8
"""A table of more columns takes the width that it needs, and scrolls."""

TALL = 15
"""A table to search in that has more rows scrolls below its head; all others show every row."""


@dataclass(frozen=True, slots=True)
class Heading:
    """Head of a column.

    Parameters
    ----------
    text : str
        With the unit.
    numeric : bool
        Its cells are numbers, set to the right.
    extra : bool
        Left out on paper, where a page holds only so many columns.
    sortable : bool
        Rows may be sorted by it.
    """

    text: str
    numeric: bool = False
    extra: bool = False
    sortable: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """A row; the first cell names it.

    Parameters
    ----------
    cells : sequence of Html
        From :func:`cell` and :func:`number_cell`, but the first, which may be any text.
    anchor : str or None
        Id, for links.
    """

    cells: Sequence[Child]
    anchor: str | None = None


def cell(*content: Child, extra: bool = False) -> Html:
    """Return a cell of text."""
    return tag("td", *content, class_="extra" if extra else None)


def number_cell(value: Value, low: Value = None, high: Value = None, *, extra: bool = False) -> Html:
    """Return a cell of a number, with its interval where there is one; sorted by the number in full."""
    found = finite(value)
    return tag(
        "td",
        interval_text(value, low, high) if found is not None else value_text(value),
        class_="n extra" if extra else "n",
        data_v=None if found is None else repr(found),
    )


def table(caption: str, headings: Sequence[Heading], rows: Sequence[Row], *, tools: bool = False) -> Html:
    """Return a table in a box that scrolls by itself, also by keyboard.

    Parameters
    ----------
    caption : str
        Also the name of the box.
    headings : sequence of Heading
    rows : sequence of Row
    tools : bool
        Offer sorting and a filter; a script adds them, so that without scripts there is no dead button.

    Returns
    -------
    Html
    """
    head = tag("thead", tag("tr", [_heading(heading) for heading in headings]))
    body = tag("tbody", [_row(row) for row in rows])
    classes = [name for name, on in (("tools", tools), ("broad", len(headings) > BROAD)) if on]
    content = tag("table", tag("caption", caption), head, body, class_=" ".join(classes) or None)
    tall = tools and len(rows) > TALL
    return tag(
        "div",
        content,
        class_="scroll tall" if tall else "scroll",
        role="group",
        tabindex=0,
        aria_label=f"Table: {caption}",
    )


def _heading(heading: Heading) -> Html:
    classes = " ".join(name for name, on in (("n", heading.numeric), ("extra", heading.extra)) if on)
    return tag("th", heading.text, scope="col", class_=classes or None, data_fixed=not heading.sortable)


def _row(row: Row) -> Html:
    return tag("tr", tag("th", row.cells[0], scope="row"), join(*row.cells[1:]), id=row.anchor)


def folded(summary: str, *content: Child) -> Html:
    """Return something that opens when asked for."""
    return tag("details", tag("summary", summary), *content)
