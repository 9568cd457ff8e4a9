"""Main measures over patients and groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dualproto_wsi.settings.cohort import CohortSettings
from dualproto_wsi.stats.cohort.compare import compare_groups
from dualproto_wsi.stats.cohort.intervals import summarise
from dualproto_wsi.stats.cohort.model import Comparison, Measure, Summary, Value

Cases = list[tuple[str, Mapping[str, Value]]]
"""Group and values of each patient."""


def _by_group(cases: Cases, measure: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {group: [] for group in sorted({group for group, _ in cases} - {""})}
    for group, values in cases:
        value = values.get(measure)
        if group and isinstance(value, int | float):
            groups[group].append(float(value))
    return groups


def compare_all(cases: Cases, measures: Sequence[Measure], settings: CohortSettings) -> tuple[Comparison, ...]:
    """Compare two or more groups in every main measure that is defined for some patient."""
    if len({group for group, _ in cases} - {""}) < 2:
        return ()
    known = {m.name: _by_group(cases, m.name) for m in measures if m.main}
    defined = {name: groups for name, groups in known.items() if any(groups.values())}
    return compare_groups(defined, settings.bootstrap, settings.seed)


def summarise_all(cases: Cases, measures: Sequence[Measure], settings: CohortSettings) -> tuple[Summary, ...]:
    """Return every main measure over all patients, and over those of each group."""
    found = []
    for measure in (m for m in measures if m.main):
        everyone = [values.get(measure.name) for _, values in cases]
        numbers = [float(value) for value in everyone if isinstance(value, int | float)]
        parts = {"": numbers} | _by_group(cases, measure.name)
        found += [
            summarise(measure.name, group, part, settings.bootstrap, settings.seed) for group, part in parts.items()
        ]
    return tuple(found)
