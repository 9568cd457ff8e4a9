"""The files of a cohort: tables for programs, a report for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import OutputError
from dualproto_wsi.files import replacing
from dualproto_wsi.stats.cohort.model import Cohort, CohortSlide, Value
from dualproto_wsi.stats.report import render_report
from dualproto_wsi.workflow.cohort import tables
from dualproto_wsi.workflow.cohort.tables import Row

COHORT, PATIENTS, DICTIONARY, REPORT = "cohort.csv", "patients.csv", "data_dictionary.csv", "report.html"
PARQUET = "cohort.parquet"


def write_cohort(cohort: Cohort, folder: Path) -> list[Path]:
    """Write a cohort's files, each whole or not at all; those of an earlier one that this has not are removed.

    Parameters
    ----------
    cohort : Cohort
        Whose paths are relative to ``folder``.
    folder : Path
        Made if missing.

    Returns
    -------
    list of Path
        What was written. ``cohort.parquet`` is among them where pyarrow is installed.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    rows = {
        COHORT: tables.slide_rows(cohort),
        PATIENTS: tables.patient_rows(cohort),
        "summaries.csv": tables.summary_rows(cohort),
        "comparisons.csv": tables.comparison_rows(cohort),
        "survival.csv": tables.survival_rows(cohort),
        "flags.csv": tables.flag_rows(cohort),
        DICTIONARY: tables.dictionary_rows(cohort),
    }
    texts = {name: _csv(found) for name, found in rows.items() if found}
    texts[REPORT] = render_report(cohort, lambda slide: _overlay(slide, folder))
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*rows, PARQUET):
            if name not in texts:
                (folder / name).unlink(missing_ok=True)
        for name, text in texts.items():
            with replacing(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
            written.append(folder / name)
        if _write_parquet(rows[COHORT], folder / PARQUET):
            written.append(folder / PARQUET)
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written ({error.strerror or error}); make room, or choose another -o"
        ) from error
    return written


def _overlay(slide: CohortSlide, folder: Path) -> bytes | None:
    path = slide.files.get("overlay")
    try:
        return (folder / path).read_bytes() if path else None
    except OSError:  # the report says that there is no picture
        return None


def _csv(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Value) -> str:
    return "" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _write_parquet(rows: Sequence[Row], path: Path) -> bool:
    """Write ``cohort.csv``'s rows with their types; return False where pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return False
    columns: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        text = any(isinstance(value, str) for value in values)
        kind = pyarrow.string() if text else pyarrow.float64()
        columns[name] = pyarrow.array([str(v) if text and v is not None else v for v in values], kind)
    with replacing(path) as temporary:
        parquet.write_table(pyarrow.table(columns), temporary)
    return True
