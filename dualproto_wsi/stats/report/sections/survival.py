"""How long patients lived, group by group."""

from __future__ import annotations

import math

from dualproto_wsi.stats.cohort.model import Survival
from dualproto_wsi.stats.report.charts.steps import Curve, key, step_chart
from dualproto_wsi.stats.report.markup import Html, join, tag
from dualproto_wsi.stats.report.tables import Heading, Row, folded, number_cell, table
from dualproto_wsi.stats.report.wording import count, number, p_text


def render(survival: Survival) -> Html:
    """Return Kaplan-Meier curves with their bands, the medians in words, and every step as a table."""
    curves = [_curve(survival, index) for index in range(len(survival.groups))]
    described = "; ".join(_in_words(curve, n) for curve, n in zip(curves, survival.at_risk, strict=True))
    labels = [f"{curve.label} (n = {number(n)})" for curve, n in zip(curves, survival.at_risk, strict=True)]
    return join(
        tag("p", f"{described}. Shaded: 95 % bands."),
        tag("p", "Log-rank test: p ", p_text(survival.p), ".") if survival.p is not None else None,
        tag(
            "figure",
            key(labels),
            step_chart(curves, "Kaplan-Meier curves", described, f"Time ({survival.unit})"),
            tag("figcaption", "Fraction of patients without the event, over time (Kaplan-Meier)."),
            class_="wide",
        ),
        folded("As a table", _steps(survival, curves)),
    )


def _curve(survival: Survival, index: int) -> Curve:
    shares = survival.shares[index]
    low, high = (
        tuple(share if math.isnan(limit) else limit for limit, share in zip(limits[index], shares, strict=True))
        for limits in (survival.low, survival.high)
    )
    return Curve(survival.groups[index] or "All", survival.times[index], shares, low, high)


def _in_words(curve: Curve, at_risk: int) -> str:
    reached = [time for time, share in zip(curve.times, curve.shares, strict=True) if share <= 0.5]
    median = f"median {number(float(reached[0]))}" if reached else "median not reached"
    return f"{curve.label}: {count(at_risk, 'patient')}, {median}"


def _steps(survival: Survival, curves: list[Curve]) -> Html:
    headings = [
        Heading("Group"),
        Heading(f"Time ({survival.unit})", numeric=True),
        Heading("Fraction without the event (95 % interval)", numeric=True),
    ]
    rows = [
        Row([curve.label, number_cell(float(time)), number_cell(share, low, high)])
        for curve in curves
        for time, share, low, high in zip(curve.times, curve.shares, curve.low, curve.high, strict=True)
    ]
    return table("Steps of the curves", headings, rows)
