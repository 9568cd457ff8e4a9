"""What the tissue of each case is made of."""

from __future__ import annotations

from collections.abc import Sequence

from dualproto_wsi.stats.cohort.model import Cohort
from dualproto_wsi.stats.report.cases import ANALYSED, Case, case_word, cases_of, composition, groups_of
from dualproto_wsi.stats.report.charts.bars import Bar, bar_columns, bar_rows
from dualproto_wsi.stats.report.charts.patterns import REST_NAME, legend
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.tables import Heading, Row, folded, number_cell, table
from dualproto_wsi.stats.report.wording import count, finite, with_unit

ROWS_AT_MOST = 40
"""Of more cases nobody reads the names; they become thin columns."""

VISIBLE = 0.0005
"""A rest below this share is rounding."""


def render(cohort: Cohort) -> Html:
    """Return stacked bars, a group after the other, and the same as a table."""
    cases = cases_of(cohort)
    bars = {case.anchor: bar for case in cases if (bar := _bar(cohort, case)) is not None}
    if not bars:
        return tag("p", "No case has a composition to show.")
    names = [name for name, _ in cohort.classes] + [REST_NAME]
    groups: Sequence[str] = groups_of(cohort) or [""]
    if any(case.group not in groups for case in cases):
        groups = [*groups, ""] if "" not in groups else groups
    parts = [_part(cohort, cases, bars, names, group, alone=len(groups) == 1) for group in groups]
    order = f"Sorted by the fraction of {names[0]}, the largest first."
    missing = len(cases) - len(bars)
    left_out = f" {count(missing, case_word(cohort))} without analysed tissue left out." if missing else ""
    rest = any(bar.shares[-1] >= VISIBLE for bar in bars.values())
    return join(
        tag("p", f"A bar a {case_word(cohort)}: fractions of the analysed tissue. {order}{left_out}"),
        legend(cohort.classes, rest),
        parts,
        folded("As a table", _numbers(cohort, cases, bars, names)),
    )


def _bar(cohort: Cohort, case: Case) -> Bar | None:
    shares = composition(cohort, case.values)
    if shares is None:
        return None
    area = finite(case.values.get(ANALYSED))
    kept = (*shares[:-1], shares[-1] if shares[-1] >= VISIBLE else 0.0)
    return Bar(case.name, "" if area is None else with_unit(area, "mm²"), kept, case.anchor)


def _part(
    cohort: Cohort, cases: Sequence[Case], bars: dict[str, Bar], names: Sequence[str], group: str, alone: bool
) -> Html | None:
    chosen = [bars[c.anchor] for c in cases if c.anchor in bars and (alone or c.group == group)]
    if not chosen:
        return None
    chosen.sort(key=lambda bar: -bar.shares[0])
    word = f"{count(len(chosen), case_word(cohort))}"
    title = word if alone else f"{group or 'No group'}: {word}"
    heading = None if alone else tag("h3", title)
    if len(bars) <= ROWS_AT_MOST:
        return join(heading, bar_rows(chosen, names))
    picture = bar_columns(
        chosen, names, f"Composition, {title}", f"A column a {case_word(cohort)}; the table below holds the numbers."
    )
    scale = tag("p", f"A column a {case_word(cohort)}, from 0 at the bottom to 1 at the top.", class_="small")
    return join(heading, picture, scale)


def _numbers(cohort: Cohort, cases: Sequence[Case], bars: dict[str, Bar], names: Sequence[str]) -> Html:
    headings = [Heading(case_word(cohort).capitalize()), *(Heading(name, numeric=True) for name in names)]
    chosen = sorted((c for c in cases if c.anchor in bars), key=lambda case: -bars[case.anchor].shares[0])
    rows = [Row([c.name, *(number_cell(share) for share in bars[c.anchor].shares)]) for c in chosen]
    return table("Composition: fractions of the analysed tissue", headings, rows)
