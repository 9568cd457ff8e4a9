"""From output folders to a cohort: measures of slides and patients, groups compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings.cohort import CohortSettings
from dualproto_wsi.stats.cohort.definitions import Definitions, find_roles
from dualproto_wsi.stats.cohort.flags import find_flags
from dualproto_wsi.stats.cohort.formula import Formula, compute_values
from dualproto_wsi.stats.cohort.intervals import block_intervals
from dualproto_wsi.stats.cohort.measures import list_formulas
from dualproto_wsi.stats.cohort.model import (
    Cohort,
    CohortPatient,
    CohortSlide,
    Value,
)
from dualproto_wsi.stats.cohort.quantities import Quantities, join_quantities
from dualproto_wsi.workflow.batch.outcome import FAILED
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY, RECORD
from dualproto_wsi.workflow.cohort.groups import Cases, compare_all, summarise_all
from dualproto_wsi.workflow.cohort.measure import measure_slide
from dualproto_wsi.workflow.cohort.notes import cohort_notes
from dualproto_wsi.workflow.cohort.patients import Patients, check_groups, join_patients
from dualproto_wsi.workflow.cohort.quality import MEASURES, quality_flags, quality_values
from dualproto_wsi.workflow.cohort.results import SlideResult, classes_of, model_name, read_results
from dualproto_wsi.workflow.cohort.table import read_metadata
from dualproto_wsi.workflow.cohort.times import read_survival
from dualproto_wsi.workflow.cores import usable_cores

OnSlide = Callable[[str], None]

MOST_THREADS = 4
"""Slides that are measured at a time; each may need some hundred MB."""


@dataclass(frozen=True, slots=True)
class Study:
    """What is known of the patients, and what is asked of them.

    Parameters
    ----------
    metadata : Path or None
        A table of patients, or of slides with their patients.
    id : str
        The patients' column in it; empty: the first of known names.
    by : str
        Column that says the group; empty: none.
    time, event : str
        Columns of the time to an event, and whether it came; both or none.
    """

    metadata: Path | None = None
    id: str = ""
    by: str = ""
    time: str = ""
    event: str = ""

    def __post_init__(self) -> None:
        if self.metadata is None and (self.id or self.time or self.event):
            option = "--id" if self.id else "--time" if self.time else "--event"
            raise DataError(f"{option} names a column of a table of patients; give it with --metadata")
        if bool(self.time) != bool(self.event):
            raise DataError(
                "--time and --event need each other: the time to the event or the last visit, and which it was"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    slide: SlideResult
    found: Quantities | None
    values: dict[str, Value]


def build_cohort(
    outs: Sequence[Path],
    report: Path,
    study: Study = Study(),
    settings: CohortSettings = CohortSettings(),  # noqa: B008 - frozen
    title: str = "Cohort",
    on_slide: OnSlide = lambda key: None,
) -> Cohort:
    """Measure every slide of output folders, and tell of patients and groups.

    Parameters
    ----------
    outs : sequence of Path
        Folders that ``segment`` wrote.
    report : Path
        Folder that paths of files are relative to.
    study : Study
    settings : CohortSettings
    title : str
    on_slide : callable
        Called with the key of each slide when it is measured.

    Returns
    -------
    Cohort

    Raises
    ------
    DataError, SettingsError
        If what was given cannot make right numbers; the message says what, where and why.
    """
    metadata = read_metadata(study.metadata) if study.metadata else None
    results, notes = read_results(outs)
    patients = join_patients(results, metadata, study.id, study.by)
    notes += check_groups(patients, study.by)
    survival, survival_notes = read_survival(metadata, patients, study.time, study.event)
    definitions, formulas = _definitions(results, settings)
    measured: list[_Measured] = []
    with ThreadPoolExecutor(min(MOST_THREADS, usable_cores())) as pool:
        for one in pool.map(lambda result: _measure(result, definitions, formulas, settings), results):
            measured.append(one)
            on_slide(one.slide.key)
    slides = tuple(_slide(one, patients, report) for one in measured)
    found = _patients(measured, patients, definitions, formulas, settings) if patients.of_slide else ()
    measures = tuple(formula.measure for formula in formulas)
    if any(m.name in one.values for one in measured for m in MEASURES):
        measures += MEASURES
    cases: Cases = [(p.group, p.values) for p in found] or [("", s.values) for s in slides if s.status != FAILED]
    return Cohort(
        title=title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=next((model_name(result) for result in results if result.told), ""),
        classes=tuple((c.name, c.colour) for c in definitions.classes),
        slides=slides,
        patients=found,
        measures=measures,
        flags=(*find_flags(slides, measures), *(flag for one in results for flag in quality_flags(one.key, one.told))),
        by=study.by,
        comparisons=compare_all(cases, measures, settings) if study.by else (),
        survival=survival,
        notes=(*cohort_notes(definitions, settings, study.by), *patients.notes, *notes, *survival_notes),
        summaries=summarise_all(cases, measures, settings),
    )


def _definitions(results: list[SlideResult], settings: CohortSettings) -> tuple[Definitions, list[Formula]]:
    done = [result for result in results if result.told]
    if not done:
        raise DataError(
            f"{results[0].where}: none of {len(results)} slide(s) has results; {results[0].name}: {results[0].error}"
        )
    classes: ClassScheme = classes_of(done[0])
    roles = find_roles(classes, dict(settings.roles))
    definitions = Definitions(
        classes, roles, settings.margins_um, settings.front_mm2, settings.mixing_um, settings.block_squares
    )
    return definitions, list_formulas(definitions)


def _measure(
    result: SlideResult, definitions: Definitions, formulas: list[Formula], settings: CohortSettings
) -> _Measured:
    if not (result.told and result.folder):
        return _Measured(result, None, {})
    try:
        found = measure_slide(result.folder, result.told, definitions)
    except DataError as error:
        return _Measured(replace(result, error=str(error)), None, {})
    return _Measured(result, found, _values(found, definitions, formulas, settings) | quality_values(result.told))


def _values(
    found: Quantities, definitions: Definitions, formulas: list[Formula], settings: CohortSettings
) -> dict[str, Value]:
    limits = block_intervals(found, formulas, definitions.roles, settings.bootstrap, settings.seed)
    return compute_values(found, formulas, definitions.roles) | limits


def _slide(one: _Measured, patients: Patients, report: Path) -> CohortSlide:
    slide, told = one.slide, one.slide.told
    patient = patients.of_slide.get(slide.key, "")
    status = str(told.data["status"]) if told and one.found else FAILED
    return CohortSlide(
        key=slide.key,
        name=slide.name,
        patient=patient,
        group=patients.group.get(patient, ""),
        status=status,
        values=one.values,
        files=_files(slide, report),
        about=slide.about,
        error=slide.error,
    )


def _files(slide: SlideResult, report: Path) -> Mapping[str, str]:
    if not (slide.folder and slide.told):
        return {}
    names = {"labels": LABELS, "record": RECORD, "overlay": OVERLAY, "confidence": CONFIDENCE}
    names["regions"] = f"{slide.told.file}.{slide.told.output.formats[0]}"
    paths = {"folder": slide.folder} | {kind: slide.folder / name for kind, name in names.items()}
    start = report.resolve()
    return {kind: _relative(path, start) for kind, path in paths.items() if path.exists()}


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive
        return path.as_posix()


def _patients(
    measured: list[_Measured],
    patients: Patients,
    definitions: Definitions,
    formulas: list[Formula],
    settings: CohortSettings,
) -> tuple[CohortPatient, ...]:
    """Put the slides of each patient together."""
    slides: dict[str, list[_Measured]] = {}
    for one in measured:
        if patient := patients.of_slide.get(one.slide.key):
            slides.setdefault(patient, []).append(one)
    found = []
    for patient in sorted(slides):
        counted = [(one.slide.key, one.found) for one in slides[patient] if one.found]
        values: dict[str, Value] = {}
        if counted:
            values = _values(join_quantities([part for _, part in counted]), definitions, formulas, settings)
        group, about = patients.group.get(patient, ""), patients.about.get(patient, {})
        found.append(CohortPatient(patient, group, tuple(key for key, _ in counted), values, about))
    return tuple(found)
