"""A cohort as tables: rows of text, numbers and empty cells, and what every column means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from dualproto_wsi.stats.cohort.model import Cohort, Measure, Value

Row = dict[str, Value]

SLIDE_COLUMNS = {
    "slide": "Key of the slide in this cohort: its file's name, with more where two share that.",
    "patient": "Patient the slide is of; empty where not known.",
    "group": "Group of the patient.",
    "status": "done, empty (no tissue found) or failed (no figures).",
    "folder": "Folder of the slide's results, from the folder of this table on.",
    "flags": "Kinds of what a person should look at; see flags.csv.",
    "error": "Why the slide failed.",
}
PATIENT_COLUMNS = {
    "patient": SLIDE_COLUMNS["patient"],
    "group": SLIDE_COLUMNS["group"],
    "slides": "Number of slides that are in the patient's figures.",
}
ENDS = {"low": "Lower", "high": "Upper"}


def value_columns(measures: Sequence[Measure]) -> list[str]:
    """Return the columns of the measures' values, limits of intervals behind their measure."""
    return [name for m in measures for name in (m.name, *(f"{m.name}_{end}" for end in ENDS if m.interval))]


def slide_rows(cohort: Cohort) -> list[Row]:
    """Return a row a slide, also of failed ones."""
    kinds: dict[str, list[str]] = {}
    for flag in cohort.flags:
        kinds.setdefault(flag.slide, []).append(flag.kind)
    columns = value_columns(cohort.measures)
    given = _given([slide.about for slide in cohort.slides])
    rows = []
    for s in cohort.slides:
        row: Row = {"slide": s.key, "patient": s.patient, "group": s.group, "status": s.status}
        row |= {as_named: s.about.get(name, "") for name, as_named in given.items()}
        row |= {name: s.values.get(name) for name in columns}
        found = "; ".join(dict.fromkeys(kinds.get(s.key, ())))
        rows.append(row | {"folder": s.files.get("folder", ""), "flags": found, "error": s.error})
    return rows


def patient_rows(cohort: Cohort) -> list[Row]:
    """Return a row a patient."""
    columns = value_columns([m for m in cohort.measures if not m.name.startswith("qc_")])
    given = _given([patient.about for patient in cohort.patients])
    rows = []
    for p in cohort.patients:
        row: Row = {"patient": p.patient, "group": p.group, "slides": len(p.slides)}
        row |= {as_named: p.about.get(name, "") for name, as_named in given.items()}
        rows.append(row | {name: p.values.get(name) for name in columns})
    return rows


def _given(abouts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what the user's columns are called here: ``given_…``, so that they never meet ours."""
    return {name: f"given_{name}" for name in dict.fromkeys(name for about in abouts for name in about)}


def summary_rows(cohort: Cohort) -> list[Row]:
    """Return a row a main measure and group."""
    return [asdict(summary) for summary in cohort.summaries]


def comparison_rows(cohort: Cohort) -> list[Row]:
    """Return a row a measure that groups were compared in."""
    rows = []
    for comparison in cohort.comparisons:
        row: Row = {"measure": comparison.measure}
        for group, count, median in zip(comparison.groups, comparison.counts, comparison.medians, strict=True):
            row |= {f"n {group}": count, f"median {group}": None if median != median else median}
        names = ("test", "p", "p_adjusted", "effect_name", "effect", "effect_low", "effect_high", "warning")
        rows.append(row | {name: getattr(comparison, name) for name in names})
    return rows


def survival_rows(cohort: Cohort) -> list[Row]:
    """Return a row a step of each group's curve."""
    found = cohort.survival
    if found is None:
        return []
    curves = zip(found.groups, found.at_risk, found.times, found.shares, found.low, found.high, strict=True)
    return [
        {"group": group, "patients": patients, "time": time, "share": share, "low": low, "high": high}
        for group, patients, *curve in curves
        for time, share, low, high in zip(*curve, strict=True)
    ]


def flag_rows(cohort: Cohort) -> list[Row]:
    """Return a row a flag."""
    return [asdict(flag) for flag in cohort.flags]


def dictionary_rows(cohort: Cohort) -> list[Row]:
    """Return a row a column of ``cohort.csv`` and ``patients.csv``."""
    return [asdict(measure) for measure in _described(cohort)]


def _described(cohort: Cohort) -> Iterator[Measure]:
    for name, said in (SLIDE_COLUMNS | PATIENT_COLUMNS).items():
        yield Measure(name, name.capitalize(), "", said, "")
    abouts = [*(slide.about for slide in cohort.slides), *(patient.about for patient in cohort.patients)]
    for name, as_named in _given(abouts).items():
        yield Measure(as_named, name, "", f"Column {name!r} as the user gave it.", "", "the user")
    for measure in cohort.measures:
        yield measure
        if measure.interval:
            for end, word in ENDS.items():
                said = f"{word} limit of the 95 % interval of {measure.name}."
                how = f"{'2.5' if end == 'low' else '97.5'}th percentile over draws of blocks"
                yield Measure(f"{measure.name}_{end}", f"{measure.title}, {end}", measure.unit, said, how, EFRON)


EFRON = "Efron, Ann Stat 7:1, 1979, doi:10.1214/aos/1176344552"
