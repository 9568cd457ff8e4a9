"""What was looked at, and what was found, in sentences."""

from __future__ import annotations

from collections import Counter

import numpy as np

from dualproto_wsi.stats.cohort.model import Cohort, Comparison
from dualproto_wsi.stats.report.cases import ANALYSED, case_word, cases_of, composition, groups_of, without_patient
from dualproto_wsi.stats.report.markup import Html, tag
from dualproto_wsi.stats.report.wording import count, finite, listed, number, p_text, with_unit

ALPHA = 0.05


def render(cohort: Cohort) -> Html:
    """Return facts as a list, and the findings in words."""
    return tag(
        "div",
        tag("dl", [tag("div", tag("dt", name), tag("dd", text)) for name, text in _facts(cohort)], class_="facts"),
        [tag("p", sentence) for sentence in sentences(cohort)],
    )


def _facts(cohort: Cohort) -> list[tuple[str, str]]:
    status = Counter(slide.status for slide in cohort.slides)
    facts = [("Slides", number(len(cohort.slides))), ("Slides analysed", number(status["done"]))]
    if cohort.patients:
        facts.insert(0, ("Patients", number(len(cohort.patients))))
    area = _analysed(cohort)
    if area is not None:
        facts.append(("Analysed tissue", with_unit(area, "mm²")))
    if cohort.by:
        facts.append((f"Groups ({cohort.by})", number(len(groups_of(cohort)))))
    return facts


def _analysed(cohort: Cohort) -> float | None:
    areas = [area for slide in cohort.slides if (area := finite(slide.values.get(ANALYSED))) is not None]
    return sum(areas) if areas else None


def sentences(cohort: Cohort) -> list[str]:
    """Return the summary, a paragraph each: what went in, what was found, how groups differ.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    list of str
        Plain text.
    """
    return [_intake(cohort), *_finding(cohort), *_contrast(cohort)]


def _intake(cohort: Cohort) -> str:
    if not cohort.slides:
        return "There are no slides in this cohort."
    status = Counter(slide.status for slide in cohort.slides)
    patients = f" and {count(len(cohort.patients), 'patient')}" if cohort.patients else ""
    told = [f"{word}: {number(n)}" for word, n in (("analysed", status["done"]), *_not_done(status)) if n]
    lost = without_patient(cohort)
    if lost:
        told.append(f"of no known patient, so in no figure of patients: {number(lost)}")
    errors = len({flag.slide for flag in cohort.flags if flag.severity == "error"})
    warned = len({flag.slide for flag in cohort.flags if flag.severity == "warning"})
    found = [
        count(n, f"slide with {what}", f"slides with {what}")
        for n, what in ((errors, "errors"), (warned, "warnings"))
        if n
    ]
    text = f"{count(len(cohort.slides), 'slide')}{patients}. Of the slides, {', '.join(told)}."
    return f"{text} Quality control found {listed(found) if found else 'nothing to look at'}."


def _not_done(status: Counter[str]) -> list[tuple[str, int]]:
    return [(word, n) for word, n in sorted(status.items()) if word != "done"]


def _finding(cohort: Cohort) -> list[str]:
    shares = [found for case in cases_of(cohort) if (found := composition(cohort, case.values)) is not None]
    if not shares:
        return []
    medians = np.median(np.array(shares), axis=0)[: len(cohort.classes)]
    order = sorted(zip(cohort.classes, medians.tolist(), strict=True), key=lambda item: -item[1])
    told = listed([f"{number(median)} {name}" for (name, _), median in order])
    each = case_word(cohort)
    if len(shares) == 1:
        return [f"The analysed tissue of the only {each} is {told}."]
    return [f"The analysed tissue of a typical {each} is {told} (medians, so they need not add up to 1)."]


def _contrast(cohort: Cohort) -> list[str]:
    if not cohort.comparisons:
        return []
    names = {measure.name: measure.title for measure in cohort.measures}
    tested = [c for c in cohort.comparisons if c.p_adjusted is not None]
    clear = sorted((c for c in tested if (c.p_adjusted or 0) < ALPHA), key=lambda c: c.p_adjusted or 0)
    text = f"{count(len(cohort.comparisons), 'measure')} compared between the groups of “{cohort.by}”"
    if not tested:
        return [f"{text}; there are too few cases for a test."]
    if not clear:
        return [
            f"{text}: none differs with an adjusted p below {ALPHA}. That is no proof of equality; "
            "the intervals below say which differences are still possible."
        ]
    told = listed([_difference(comparison, names.get(comparison.measure, comparison.measure)) for comparison in clear])
    return [f"{text}: {number(len(clear))} with an adjusted p below {ALPHA}: {told}."]


def _difference(comparison: Comparison, title: str) -> str:
    medians = listed([f"{number(m)} in {g}" for g, m in zip(comparison.groups, comparison.medians, strict=True)])
    return f"{title} (median {medians}; adjusted p {p_text(comparison.p_adjusted)})"
