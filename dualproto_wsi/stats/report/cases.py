"""What the report draws: cases, their shares, and the measures that come first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dualproto_wsi.stats.cohort.model import Cohort, Measure, Value
from dualproto_wsi.stats.report.wording import finite, slug

ANALYSED = "analysed_mm2"
"""The denominator of all fractions."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a point or a bar stands for: a patient, or a slide where no patients are known.

    Parameters
    ----------
    name, group : str
    values : mapping of str to Value
    anchor : str
        Id of its row in the report.
    """

    name: str
    group: str
    values: Mapping[str, Value]
    anchor: str


def cases_of(cohort: Cohort) -> list[Case]:
    """Return the patients, or the slides that are done where there are none."""
    if cohort.patients:
        return [Case(p.patient, p.group, p.values, patient_anchor(i)) for i, p in enumerate(cohort.patients)]
    return [Case(s.name, s.group, s.values, slide_anchor(i)) for i, s in enumerate(cohort.slides) if s.status == "done"]


def case_word(cohort: Cohort) -> str:
    """Return what a case is called: ``patient`` or ``slide``."""
    return "patient" if cohort.patients else "slide"


def patient_anchor(index: int) -> str:
    """Return the id of a patient's row."""
    return f"patient-{index}"


def slide_anchor(index: int) -> str:
    """Return the id of a slide's row."""
    return f"slide-{index}"


def groups_of(cohort: Cohort) -> list[str]:
    """Return the names of the groups, in order of the alphabet; empty where nothing is grouped."""
    return sorted({case.group for case in cases_of(cohort)} - {""}) if cohort.by else []


def telling_first(measures: Sequence[Measure], rows: Iterable[Mapping[str, Value]]) -> list[Measure]:
    """Return the measures in the order in which they are shown.

    The main ones come first, then ratios and lengths, then areas, which follow the size of the piece of tissue more
    than its nature; at the end those that have no number in any of the rows.
    """
    known = {name for values in rows for name, value in values.items() if finite(value) is not None}
    return sorted(measures, key=lambda m: (m.name not in known, not m.main, m.unit == "mm²" and m.name != ANALYSED))


def plotted_measures(cohort: Cohort, cases: Sequence[Case]) -> list[Measure]:
    """Return the measures that have numbers in some case, the telling ones first."""
    known = {name for case in cases for name, value in case.values.items() if finite(value) is not None}
    return telling_first([m for m in cohort.measures if m.name in known], [case.values for case in cases])


def without_patient(cohort: Cohort) -> int:
    """Return how many slides are done and yet in no patient's figures; 0 where no patients are known at all."""
    counted = {key for patient in cohort.patients for key in patient.slides}
    return sum(s.status == "done" and s.key not in counted for s in cohort.slides) if cohort.patients else 0


def composition(cohort: Cohort, values: Mapping[str, Value]) -> tuple[float, ...] | None:
    """Return the share of each class in the analysed tissue, then what is left (unsure, or of no class).

    Parameters
    ----------
    cohort : Cohort
    values : mapping of str to Value
        With ``<class>_fraction``, or else ``<class>_mm2`` and ``analysed_mm2``. ``<class>`` is the name as :func:`slug`
        writes it, with ``_<id>`` behind it where that name is taken by another column.

    Returns
    -------
    tuple of float or None
        One more than there are classes; they add up to 1. None where no share is defined.
    """
    known = {slug(name): finite(value) for name, value in values.items()}
    shares = []
    for index, (name, _) in enumerate(cohort.classes):
        column, own = slug(name), f"{slug(name)}_{index + 1}"
        taken = f"{own}_fraction" in known or f"{own}_mm2" in known
        shares.append(_share(known, own if taken else column))
    if all(share is None for share in shares):
        return None
    filled = [share or 0.0 for share in shares]
    return *filled, max(0.0, 1 - sum(filled))


def _share(known: Mapping[str, float | None], name: str) -> float | None:
    share, area, analysed = known.get(f"{name}_fraction"), known.get(f"{name}_mm2"), known.get(ANALYSED)
    if share is None and area is not None and analysed:
        return area / analysed
    return share
