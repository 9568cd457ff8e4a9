"""Which patient a slide is of, and what is known of patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.cohort.results import SlideResult, some
from dualproto_wsi.workflow.cohort.table import Metadata, TableLine

IDS = (
    *("patient", "patient_id", "patientid", "patient id", "case", "case_id", "case_submitter_id"),
    *("bcr_patient_barcode", "subject", "subject_id", "id"),
)
SLIDES = ("slide", "slide_id", "slide_name", "filename", "file_name", "file", "path", "image")
OF_RUN = ("patient", "patient_id", "case", "case_id", "subject", "id")
"""Columns of ``slides.csv`` that name the patient, the first one that is there."""

MOST_GROUPS = 12

TCGA = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Patients:
    """Patients of the slides.

    Parameters
    ----------
    of_slide : dict of str to str
        Patient by the slide's key; slides of unknown patients are left out.
    about : dict of str to dict
        Columns of the metadata by patient; where a patient has several lines, those that are the same in all.
    group : dict of str to str
        By patient, where one is known.
    notes : list of str
    lines : dict of str to TableLine
        The first line of each patient.
    """

    of_slide: dict[str, str]
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    group: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    lines: dict[str, TableLine] = field(default_factory=dict)


def join_patients(slides: Sequence[SlideResult], metadata: Metadata | None, id_column: str, by: str) -> Patients:
    """Find the patient of each slide, and each patient's group.

    A slide's patient is, in this order: what the metadata says of the slide's file, in a column ``slide`` or the like;
    what the table that ``segment`` was given says (:data:`OF_RUN`); the beginning of a TCGA barcode in its name; a
    patient of the metadata whose id is the name of the file without its ending.

    Parameters
    ----------
    slides : sequence of SlideResult
    metadata : Metadata or None
    id_column : str
        The patients' column in it; empty: the first of :data:`IDS`.
    by : str
        Column that says the group: of the metadata, or without one of ``slides.csv``; empty: none.

    Raises
    ------
    DataError
        If a column is missing, a patient or slide is there twice, a patient is in two groups, or no slide matches.
    """
    if metadata is None:
        return _without(slides, by)
    column = metadata.find(id_column, "--id") if id_column else metadata.first_of(IDS)
    if column is None:
        raise DataError(
            f"{metadata.path}: no column of patients among {', '.join(metadata.columns)}; name it with --id COLUMN"
        )
    by = metadata.find(by, "--by") if by else ""
    slide_column = metadata.first_of([name for name in SLIDES if name != column.casefold()])
    lines = _lines_by_patient(metadata, column, slide_column)
    listed = _by_slide(metadata, column, slide_column)
    known = {patient.casefold(): patient for patient in lines}
    of_slide, sources = _match(slides, listed, known, f"column {slide_column!r} of {metadata.path.name}")
    matched = {key: patient for key, patient in of_slide.items() if patient in lines}
    if not matched:
        names = some([of_slide.get(slide.key, slide.name) for slide in slides], 3)
        raise DataError(
            f"{metadata.path}: no slide is of a patient in its column {column!r}, such as {next(iter(lines))!r}; "
            f"slides are {names}; add a column 'slide' with the files' names"
        )
    found = Patients(of_slide, lines={patient: rows[0] for patient, rows in lines.items()})
    for patient, rows in lines.items():
        found.about[patient] = _common(metadata, rows)
        if by and (group := _one_group(metadata, patient, rows, by)):
            found.group[patient] = group
    found.notes.extend(_notes(slides, found, lines, sources, by, metadata))
    return found


def check_groups(patients: Patients, by: str) -> list[str]:
    """Return what is to be said of the groups of patients that have slides.

    Raises
    ------
    DataError
        If there are more than :data:`MOST_GROUPS`.
    """
    groups = sorted({group for patient, group in patients.group.items() if patient in set(patients.of_slide.values())})
    if len(groups) > MOST_GROUPS:
        raise DataError(
            f"--by {by}: {len(groups)} groups ({some(groups, 3)}); name a column of at most {MOST_GROUPS}, or make one"
        )
    if by and len(groups) < 2:
        return [f"Nothing is compared: of the patients with slides, {by!r} knows {len(groups)} group(s)."]
    return []


def _without(slides: Sequence[SlideResult], by: str) -> Patients:
    of_slide, sources = _match(slides, {}, {}, "")
    notes = [_sources(sources)] if sources else ["No patients are known: every slide stands for itself."]
    unknown = [slide.key for slide in slides if slide.key not in of_slide]
    if sources and unknown:
        notes.append(f"{len(unknown)} slide(s) of no known patient are in no patient's figures: {some(unknown)}.")
    found = Patients(of_slide, notes=notes)
    if not by:
        return found
    if not any(by in slide.about for slide in slides):
        others = sorted({name for slide in slides for name in slide.about}) or ["none of the user's"]
        raise DataError(
            f"slides.csv: no column {by!r} for --by; its columns are {', '.join(others)}; or give --metadata"
        )
    if not of_slide:
        raise DataError(
            f"--by {by}: groups are compared patient by patient, and no patients are known; give --metadata, or a "
            "column 'patient' in the table for `segment`"
        )
    for slide in slides:
        patient, group = of_slide.get(slide.key), slide.about.get(by)
        if patient and group and found.group.setdefault(patient, group) != group:
            raise DataError(
                f"slides.csv: patient {patient!r} is {found.group[patient]!r} and {group!r} in column {by!r}; make it "
                "one"
            )
    return found


def _lines_by_patient(metadata: Metadata, column: str, slides: str | None) -> dict[str, list[TableLine]]:
    lines: dict[str, list[TableLine]] = {}
    spelling: dict[str, str] = {}
    for line in metadata.lines:
        patient = line.values[column]
        if not patient:
            raise metadata.wrong(line, column, "is empty; name the patient")
        patient = spelling.setdefault(patient.casefold(), patient)
        lines.setdefault(patient, []).append(line)
        if len(lines[patient]) > 1 and slides is None:
            raise metadata.wrong(
                line, column, f"is in line {lines[patient][0].number}, too; a line a patient, or a column 'slide'"
            )
    return lines


def _by_slide(metadata: Metadata, column: str, slides: str | None) -> dict[str, str]:
    """Return the patient of each slide that is named, by the name of its file."""
    found: dict[str, tuple[str, int]] = {}
    for line in metadata.lines if slides else ():
        name = PurePath(line.values[slides or ""].replace("\\", "/")).name.casefold()
        if not name:
            continue
        if name in found:
            raise metadata.wrong(line, slides or "", f"is in line {found[name][1]}, too; name each slide once")
        found[name] = line.values[column], line.number
    return {name: patient for name, (patient, _) in found.items()}


def _match(
    slides: Sequence[SlideResult], listed: Mapping[str, str], known: Mapping[str, str], by_list: str
) -> tuple[dict[str, str], Counter[str]]:
    """Return the patient of each slide by its key, and how often each source told it."""
    of_slide: dict[str, str] = {}
    sources: Counter[str] = Counter()
    for slide in slides:
        for source, patient in _candidates(slide, listed, known, by_list):
            if patient:
                of_slide[slide.key] = known.get(patient.casefold(), patient)
                sources[source] += 1
                break
    return of_slide, sources


def _candidates(
    slide: SlideResult, listed: Mapping[str, str], known: Mapping[str, str], by_list: str
) -> Iterator[tuple[str, str]]:
    name, stem = slide.name.casefold(), PurePath(slide.name).stem.casefold()
    yield by_list, listed.get(name) or listed.get(stem, "")
    about = {column.casefold(): value for column, value in slide.about.items()}
    column = next((column for column in OF_RUN if about.get(column)), "")
    yield f"column {column!r} of slides.csv", about.get(column, "")
    barcode = TCGA.search(slide.name)
    yield "TCGA barcode in the file's name", barcode.group().upper() if barcode else ""
    yield "name of the file", known.get(stem, "")


def _common(metadata: Metadata, rows: list[TableLine]) -> dict[str, str]:
    return {
        column: rows[0].values[column]
        for column in metadata.columns
        if len({line.values[column] for line in rows}) == 1
    }


def _one_group(metadata: Metadata, patient: str, rows: list[TableLine], by: str) -> str:
    groups = {line.values[by]: line for line in rows if line.values[by]}
    if len(groups) > 1:
        one, other = list(groups)[:2]
        raise metadata.wrong(
            groups[other], by, f"but {patient!r} is {one!r} in line {groups[one].number}; a patient is in one group"
        )
    return next(iter(groups), "")


def _notes(
    slides: Sequence[SlideResult],
    found: Patients,
    lines: Mapping[str, object],
    sources: Counter[str],
    by: str,
    metadata: Metadata,
) -> Iterator[str]:
    yield _sources(sources)
    with_slide = set(found.of_slide.values())
    absent = [patient for patient in lines if patient not in with_slide]
    if absent:
        yield f"{len(absent)} patient(s) of {metadata.path.name} have no slide here: {some(absent)}."
    strangers = sorted({patient for patient in with_slide if patient not in lines})
    if strangers:
        yield (
            f"{len(strangers)} patient(s) with slides are not in {metadata.path.name}, and so in no group: "
            f"{some(strangers)}."
        )
    unknown = [slide.key for slide in slides if slide.key not in found.of_slide]
    if unknown:
        yield f"{len(unknown)} slide(s) of no known patient are in no patient's figures: {some(unknown)}."
    without = [patient for patient in lines if by and patient in with_slide and patient not in found.group]
    if without:
        yield f"{len(without)} patient(s) have an empty {by!r} and are in no group: {some(without)}."


def _sources(sources: Counter[str]) -> str:
    told = "; ".join(f"{source} ({count})" for source, count in sources.most_common())
    return f"Patients of slides are from: {told}."
