"""What every number means, and what no number here can say."""

from __future__ import annotations

import re

from dualproto_wsi.stats.cohort.model import Cohort, Measure
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.tables import Heading, Row, cell, table

DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?(10\.\d{4,9}/[^\s\"<>;,]*[^\s\"<>;,.)\]])", re.IGNORECASE)

LIMITS = (
    "Not for diagnosis: a model for research made these maps, and no number here may guide the care of a person.",
    "The model gives every place one of its classes; tissue that it does not know gets the most similar one.",
    "An undefined value is shown as –, never as 0. Failed slides are in no number; empty ones have no tissue to count.",
)


def render_dictionary(cohort: Cohort) -> Html:
    """Return the data dictionary; DOIs are links; the unit of a plain number is 1."""
    if not cohort.measures:
        return tag("p", "There are no measures.")
    names = ("Measure and column", "Unit", "Definition", "Formula", "Source")
    rows = [_row(measure) for measure in cohort.measures]
    return table("Measures", [Heading(name) for name in names], rows, tools=True)


def _row(measure: Measure) -> Row:
    return Row(
        [
            join(measure.title, " ", tag("code", _breakable(measure.name))),
            cell(measure.unit or "1"),
            cell(measure.definition),
            cell(measure.formula),
            cell(_linked(measure.source)),
        ]
    )


def _breakable(name: str) -> Html:
    first, *rest = name.split("_")
    return join(first, [(tag("wbr"), f"_{part}") for part in rest])


def _linked(source: str) -> Html:
    parts, end = [], 0
    for found in DOI.finditer(source):
        parts += [source[end : found.start()], tag("a", f"doi:{found[1]}", href=f"https://doi.org/{found[1]}")]
        end = found.end()
    return join(*parts, source[end:])


def render_notes(cohort: Cohort) -> Html:
    """Return the cohort's notes and the limits of all such reports."""
    return tag("ul", [tag("li", note) for note in (*cohort.notes, *LIMITS)])
