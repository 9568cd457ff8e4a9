"""How measures spread over the cases, all together and group by group."""

from __future__ import annotations

from collections.abc import Sequence

from dualproto_wsi.stats.cohort.model import Cohort, Comparison, Measure
from dualproto_wsi.stats.report.cases import Case, case_word, cases_of, groups_of, plotted_measures
from dualproto_wsi.stats.report.charts.strips import Strip, strip_chart
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.tables import Heading, Row, cell, folded, number_cell, table
from dualproto_wsi.stats.report.wording import finite, interval_text, number, p_text, titled

SHOWN_AT_ONCE = 9
"""Measures that are drawn without being asked for; a three by three of panels on a wide screen."""


def render_all(cohort: Cohort) -> Html:
    """Return a panel a measure with every case as a point."""
    cases = cases_of(cohort)
    measures = plotted_measures(cohort, cases)
    if not measures:
        return tag("p", "No measure has a value.")
    each = case_word(cohort)
    if len(cases) == 1:
        return tag("p", f"There is one {each}: its values are in the table below.")
    return join(
        _summaries(cohort, grouped=False),
        tag("p", f"Every point is a {each}; the thick line is the median, the box holds the middle half."),
        _panels([(m, [_strip("", cases, m)]) for m in measures]),
    )


def render_groups(cohort: Cohort) -> Html:
    """Return the comparison of groups: the table first, then a panel a measure with a strip a group."""
    cases, names = cases_of(cohort), groups_of(cohort)
    left_out = sum(case.group not in names for case in cases)
    note = f" {number(left_out)} without a group are not in this section." if left_out else ""
    measures = plotted_measures(cohort, cases)
    panels = [(m, [_strip(name, [c for c in cases if c.group == name], m) for name in names]) for m in measures]
    drawn = [(m, strips) for m, strips in panels if any(strip.points for strip in strips)]
    return join(
        tag("p", f"Groups by the column “{cohort.by}”.{note}"),
        _comparisons(cohort),
        folded("Means and medians of each group", summaries)
        if (summaries := _summaries(cohort, grouped=True))
        else None,
        tag("p", f"Every point is a {case_word(cohort)}; the thick line is the median, the box holds the middle half."),
        _panels(drawn),
    )


def _strip(label: str, cases: Sequence[Case], measure: Measure) -> Strip:
    found = ((case.name, finite(case.values.get(measure.name))) for case in cases)
    return Strip(label, tuple((name, value) for name, value in found if value is not None))


def _panels(panels: Sequence[tuple[Measure, Sequence[Strip]]]) -> Html:
    drawn = [strip_chart(measure.title, measure.unit, strips) for measure, strips in panels]
    rest = drawn[SHOWN_AT_ONCE:]
    return join(
        tag("div", drawn[:SHOWN_AT_ONCE], class_="panels"),
        folded(f"{number(len(rest))} more measures", tag("div", rest, class_="panels")) if rest else None,
    )


def _summaries(cohort: Cohort, grouped: bool) -> Html | None:
    chosen = [summary for summary in cohort.summaries if bool(summary.group) is grouped and summary.count]
    if not chosen:
        return None
    known = {measure.name: measure for measure in cohort.measures}
    named = [Heading("Group")] if grouped else []
    headings = [Heading("Mean (95 % interval)", numeric=True), Heading("Median (quartiles)", numeric=True)]
    rows = [
        Row(
            [
                titled(known[s.measure].title, known[s.measure].unit) if s.measure in known else s.measure,
                *([cell(s.group)] if grouped else []),
                number_cell(s.count),
                number_cell(s.mean, s.low, s.high),
                number_cell(s.median, s.q1, s.q3),
            ]
        )
        for s in chosen
    ]
    caption = "Main measures of each group" if grouped else "Main measures"
    return table(
        caption,
        [Heading("Measure"), *named, Heading(f"{case_word(cohort).capitalize()}s", numeric=True), *headings],
        rows,
    )


def _comparisons(cohort: Cohort) -> Html:
    if not cohort.comparisons:
        return tag("p", "Nothing was tested: see the notes.")
    tests = sorted({comparison.test for comparison in cohort.comparisons})
    headings = [
        Heading("Measure"),
        Heading("Cases and median of each group", sortable=False),
        Heading("Effect (95 % interval)", numeric=True),
        Heading("p", numeric=True),
        Heading("p adjusted", numeric=True),
        Heading("Caution"),
    ]
    known = {measure.name: measure for measure in cohort.measures}
    rows = [_comparison(comparison, known.get(comparison.measure)) for comparison in cohort.comparisons]
    return join(
        table("Groups compared", headings, rows, tools=True),
        tag(
            "p",
            f"Test: {' and '.join(tests)}. “p adjusted” takes into account that {number(len(cohort.comparisons))} "
            "measures were compared; a small p says that groups differ, the effect says how much.",
            class_="small",
        ),
    )


def _comparison(comparison: Comparison, measure: Measure | None) -> Row:
    title = titled(measure.title, measure.unit) if measure else comparison.measure
    groups = [
        tag("li", f"{group}: {number(median)} (n = {n})" if finite(median) is not None else f"{group}: none (n = {n})")
        for group, n, median in zip(comparison.groups, comparison.counts, comparison.medians, strict=True)
    ]
    effect = interval_text(comparison.effect, comparison.effect_low, comparison.effect_high)
    named = tag("span", comparison.effect_name, class_="small") if comparison.effect is not None else None
    return Row(
        [
            title,
            cell(tag("ul", groups, class_="plain")),
            tag("td", effect, named, class_="n", data_v=_key(comparison.effect)),
            tag("td", p_text(comparison.p), class_="n", data_v=_key(comparison.p)),
            tag("td", p_text(comparison.p_adjusted), class_="n", data_v=_key(comparison.p_adjusted)),
            cell(comparison.warning or tag("span", "nothing", class_="heard")),
        ]
    )


def _key(value: float | None) -> str | None:
    return None if finite(value) is None else repr(value)
