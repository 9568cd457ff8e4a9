"""Quality control comes first: what a person should look at before believing a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dualproto_wsi.stats.cohort.model import Cohort, CohortSlide, Flag
from dualproto_wsi.stats.report.cases import slide_anchor
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.sections.listing import file_links
from dualproto_wsi.stats.report.tables import Heading, Row, cell, table
from dualproto_wsi.stats.report.wording import count, number

SEVERITIES = {
    "error": ("Errors", "✕", "not in the numbers"),
    "warning": ("Warnings", "!", "in the numbers; look at them"),
    "note": ("Notes", "i", "good to know"),
}

KINDS = ("failed", "empty", "pixel size", "low tissue", "low confidence", "stain", "focus", "pen", "outlier")
"""In the order in which they are told; others follow."""


def render(cohort: Cohort) -> Html:
    """Return how many flags there are of each severity, and a table of all."""
    flags = all_flags(cohort)
    if not flags:
        return tag("p", "No slide was flagged." if cohort.slides else "There are no slides to check.")
    cards = [_card(severity, [f for f in flags if f.severity == severity]) for severity in SEVERITIES]
    places = {slide.key: (index, slide) for index, slide in enumerate(cohort.slides)}
    headings = [
        Heading("Slide"),
        Heading("Severity"),
        Heading("Kind"),
        Heading("What"),
        Heading("Files", extra=True, sortable=False),
    ]
    rows = [_row(flag, places.get(flag.slide)) for flag in flags]
    return join(tag("ul", cards, class_="cards"), table("Slides to look at", headings, rows, tools=True))


def all_flags(cohort: Cohort) -> list[Flag]:
    """Return the flags, errors first; a slide that is not done and has none gets one, so that none is passed over."""
    flagged = {flag.slide for flag in cohort.flags}
    silent = [_of_status(s) for s in cohort.slides if s.status != "done" and s.key not in flagged]
    return sorted([*cohort.flags, *silent], key=_rank)


def _of_status(slide: CohortSlide) -> Flag:
    if slide.status == "empty":
        return Flag(slide.key, "empty", "warning", "No tissue was found on this slide.")
    return Flag(slide.key, slide.status, "error", slide.error or "The slide failed; its record says no reason.")


def _rank(flag: Flag) -> tuple[int, int]:
    severities = list(SEVERITIES)
    return (
        severities.index(flag.severity) if flag.severity in severities else len(severities),
        KINDS.index(flag.kind) if flag.kind in KINDS else len(KINDS),
    )


def _card(severity: str, flags: Sequence[Flag]) -> Html:
    plural, sign, meaning = SEVERITIES[severity]
    kinds = Counter(flag.kind for flag in flags)
    told = ", ".join(f"{kind} {number(n)}" for kind, n in kinds.items())
    slides = len({flag.slide for flag in flags})
    return tag(
        "li",
        tag("span", sign, class_="sign", aria_hidden="true"),
        tag("strong", f"{plural}: {number(len(flags))}"),
        tag("span", f"on {count(slides, 'slide')}, {meaning}: {told}" if flags else "none"),
        class_=f"card {severity if flags else 'none'}",
    )


def _row(flag: Flag, place: tuple[int, CohortSlide] | None) -> Row:
    word = flag.severity if flag.severity in SEVERITIES else "other"
    sign = SEVERITIES[word][1] if word in SEVERITIES else "?"
    severity = tag("span", tag("span", sign, aria_hidden="true"), f" {flag.severity}", class_=f"badge {word}")
    order = tag("td", severity, data_v=_rank(flag)[0])
    if place is None:
        return Row([flag.slide, order, cell(flag.kind), cell(flag.text), cell(extra=True)])
    index, slide = place
    link = tag("a", slide.name, href=f"#{slide_anchor(index)}")
    return Row([link, order, cell(flag.kind), cell(flag.text), cell(file_links(slide), extra=True)])
