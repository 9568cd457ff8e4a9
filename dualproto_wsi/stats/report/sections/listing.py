"""All slides and all patients, a row each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dualproto_wsi.stats.cohort.model import Cohort, CohortPatient, CohortSlide, Measure, Value
from dualproto_wsi.stats.report.cases import patient_anchor, slide_anchor, telling_first
from dualproto_wsi.stats.report.markup import Html, hidden, join, link_to, tag
from dualproto_wsi.stats.report.tables import Heading, Row, cell, number_cell, table
from dualproto_wsi.stats.report.wording import titled

FILE_NAMES = {
    "overlay": "overlay",
    "folder": "folder",
    "regions": "regions",
    "labels": "label map",
    "confidence": "confidence",
    "record": "record",
}
"""What links are called; others go by their key."""

ON_PAPER = 5
"""Measures a printed table holds beside the names; the others are seen on a screen."""

ON_SCREEN = tag("p", "On a screen this table has further columns, and links to the files.", class_="paper")


def file_links(slide: CohortSlide) -> Html | None:
    """Return links to the files of a slide, each told apart for those who hear them out of context."""
    if not slide.files:
        return None
    links = [
        tag("a", FILE_NAMES.get(kind, kind), hidden(f" of {slide.name}"), href=link_to(path))
        for kind, path in slide.files.items()
    ]
    return tag("span", join(*(part for link in links for part in (" ", link))), class_="files")


def render_slides(cohort: Cohort) -> Html:
    """Return the table of slides, the empty and the failed too."""
    if not cohort.slides:
        return tag("p", "There are no slides.")
    about = _about(slide.about for slide in cohort.slides)
    measures = telling_first(cohort.measures, [slide.values for slide in cohort.slides])
    headings = [
        Heading("Slide"),
        Heading("Status"),
        *([Heading("Patient")] if cohort.patients else []),
        *([Heading(f"Group ({cohort.by})")] if cohort.by else []),
        *_measure_headings(measures),
        *(Heading(name, extra=True) for name in about),
        Heading("Files", extra=True, sortable=False),
    ]
    rows = [_slide_row(cohort, slide, index, measures, about) for index, slide in enumerate(cohort.slides)]
    return join(table("Slides", headings, rows, tools=True), ON_SCREEN)


def _slide_row(
    cohort: Cohort, slide: CohortSlide, index: int, measures: Sequence[Measure], about: Sequence[str]
) -> Row:
    status = cell(slide.status, tag("span", f" {slide.error}", class_="small") if slide.error else None)
    cells = [
        slide.name,
        status,
        *([cell(slide.patient)] if cohort.patients else []),
        *([cell(slide.group)] if cohort.by else []),
        *_measure_cells(slide.values, measures),
        *(cell(slide.about.get(name, ""), extra=True) for name in about),
        cell(file_links(slide), extra=True),
    ]
    return Row(cells, slide_anchor(index))


def render_patients(cohort: Cohort) -> Html:
    """Return the table of patients."""
    about = _about(patient.about for patient in cohort.patients)
    measures = telling_first(cohort.measures, [patient.values for patient in cohort.patients])
    headings = [
        Heading("Patient"),
        *([Heading(f"Group ({cohort.by})")] if cohort.by else []),
        Heading("Slides", numeric=True),
        *_measure_headings(measures),
        *(Heading(name, extra=True) for name in about),
    ]
    rows = [_patient_row(cohort, patient, index, measures, about) for index, patient in enumerate(cohort.patients)]
    return join(table("Patients", headings, rows, tools=True), ON_SCREEN)


def _patient_row(
    cohort: Cohort, patient: CohortPatient, index: int, measures: Sequence[Measure], about: Sequence[str]
) -> Row:
    cells = [
        patient.patient,
        *([cell(patient.group)] if cohort.by else []),
        number_cell(len(patient.slides)),
        *_measure_cells(patient.values, measures),
        *(cell(patient.about.get(name, ""), extra=True) for name in about),
    ]
    return Row(cells, patient_anchor(index))


def _about(rows: Iterable[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _measure_headings(measures: Sequence[Measure]) -> list[Heading]:
    return [Heading(titled(m.title, m.unit), numeric=True, extra=i >= ON_PAPER) for i, m in enumerate(measures)]


def _measure_cells(values: Mapping[str, Value], measures: Sequence[Measure]) -> list[Html]:
    return [
        number_cell(values.get(m.name), *(values.get(end) for end in _limits(m)), extra=i >= ON_PAPER)
        for i, m in enumerate(measures)
    ]


def _limits(measure: Measure) -> tuple[str, str] | tuple[()]:
    return (f"{measure.name}_low", f"{measure.name}_high") if measure.interval else ()
