"""What became of each slide, and the table of a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import OutputError
from dualproto_wsi.files import absolute, replacing
from dualproto_wsi.workflow.batch.claims import table_locked

DONE, EMPTY, FAILED = "done", "empty", "failed"

TABLE = "slides.csv"

QC_NUMBERS = {
    "qc_focus": "focus",
    "qc_blurred": "blurred_share",
    "qc_haematoxylin": "haematoxylin_od",
    "qc_eosin": "eosin_od",
    "qc_ink": "ink_share",
}
"""Columns of a slide's quality as a picture, with what they are called in its record; cells of old rows are empty."""
QC_FLAGS = "qc_flags"
QC_COLUMNS = (*QC_NUMBERS, QC_FLAGS)


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """One row of ``slides.csv``.

    Parameters
    ----------
    slide : Path
        As given.
    folder : Path or None
        Where its results are; None when it failed before any.
    status : str
        ``done``, ``empty`` (no tissue found) or ``failed``.
    tiles : int
        Windows that went through the model.
    regions : int
        Polygons written.
    mpp : float or None
        µm per level-0 px.
    mpp_source : str
        Where that came from.
    analysed_mm2 : float
        Tissue that was analysed, mm²: the denominator of the fractions.
    unsure_mm2 : float
        Part of it that has no confident class, mm².
    mm2, fractions : dict
        By class name.
    seconds : float
        Wall-clock time.
    error : str
        Why it failed; empty otherwise.
    about : dict of str
        Further columns that the user gave for the slide, by name.
    skipped : bool
        Whether an earlier run, or another process, did it; it is not told in the row.
    qc : dict or None
        What :meth:`~dualproto_wsi.slide.quality.SlideQuality.to_json` says of the slide as a picture; None where that
        is not known, as of slides that were done before it was measured.
    """

    slide: Path
    folder: Path | None
    status: str
    tiles: int = 0
    regions: int = 0
    mpp: float | None = None
    mpp_source: str = ""
    analysed_mm2: float = 0.0
    unsure_mm2: float = 0.0
    mm2: dict[str, float] = field(default_factory=dict)
    fractions: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    about: dict[str, str] = field(default_factory=dict)
    skipped: bool = False
    qc: Mapping[str, Any] | None = None

    def row(self) -> dict[str, str]:
        """Return the row as text; what is unknown is an empty cell."""
        row = {
            "slide": self.slide.name,
            "path": absolute(self.slide),
            **self.about,
            "folder": self.folder.name if self.folder else "",
            "status": self.status,
            "tiles": str(self.tiles),
            "regions": str(self.regions),
            "mpp": _number(self.mpp),
            "mpp_source": self.mpp_source,
            "analysed_mm2": "" if self.status == FAILED else _number(self.analysed_mm2),
            "unsure_mm2": "" if self.status == FAILED else _number(self.unsure_mm2),
        }
        row |= {f"{name}_mm2": _number(value) for name, value in self.mm2.items()}
        row |= {f"{name}_fraction": _number(value) for name, value in self.fractions.items()}
        if self.qc is not None:
            row |= {column: _number(self.qc[name]) for column, name in QC_NUMBERS.items()}
            row[QC_FLAGS] = ";".join(self.qc["flags"])
        return row | {"seconds": f"{self.seconds:.1f}", "error": self.error}


def same_row(one: Mapping[str, str] | None, other: Mapping[str, str] | None) -> bool:
    """Tell whether rows say the same; other slides may have brought columns that are empty in one of them."""
    texts = [{name: value for name, value in (row or {}).items() if value} for row in (one, other)]
    return texts[0] == texts[1]


COLUMNS = ("folder", "status", "tiles", "regions", "mpp", "mpp_source", "analysed_mm2", "unsure_mm2")


def _rank(column: str) -> int:
    """Return a column's place: the slide, what the user says of it, what was found, the classes, the rest."""
    if column in COLUMNS:
        return 2 + COLUMNS.index(column)
    if column in QC_COLUMNS:
        return 92 + QC_COLUMNS.index(column)
    ends = {"slide": 0, "path": 0, "seconds": 98, "error": 99}
    if column in ends:
        return ends[column]
    return 90 if column.endswith("_mm2") else 91 if column.endswith("_fraction") else 1


def outcome_from_record(record: Mapping[str, Any], slide: Path, folder: Path, about: dict[str, str]) -> SlideOutcome:
    """Return the outcome that a slide's record tells of, as one that is skipped now."""
    analysed = record["analysed_mm2"]
    return SlideOutcome(
        slide=slide,
        folder=folder,
        status=record["status"],
        tiles=record["tiles"],
        regions=record["regions"],
        mpp=record["slide"]["mpp"],
        mpp_source=record["slide"]["mpp_source"],
        analysed_mm2=analysed,
        unsure_mm2=record["unsure_mm2"],
        mm2=record["mm2"],
        fractions={name: area / analysed if analysed else float("nan") for name, area in record["mm2"].items()},
        seconds=record["seconds"]["total"],
        about=about,
        skipped=True,
        qc=record.get("qc"),
    )


def outcome_from_row(row: Mapping[str, str], slide: Path, about: dict[str, str]) -> SlideOutcome:
    """Return the failure that a row tells of, as one that is skipped now."""
    return SlideOutcome(
        slide, None, row["status"], seconds=float(row["seconds"]), error=row["error"], about=about, skipped=True
    )


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


class SlideTable:
    """``slides.csv`` of an output folder.

    Rows are sorted by path, so that a table does not depend on who finished first. Rows of earlier runs on other slides
    stay; a slide that is run again gets a new row in place of its old one. The file is read and rewritten whole for
    every row, under a lock: it is never half a table, and several processes may add to it.

    Parameters
    ----------
    folder : Path
        The output folder.

    Raises
    ------
    OutputError
        If there is a table of another program.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / TABLE
        self.rows()

    def rows(self) -> dict[str, dict[str, str]]:
        """Read the rows, by the slide's path.

        Raises
        ------
        OutputError
            If the table is not one of this program.
        """
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if not {"path", "status"} <= set(reader.fieldnames or ()):
                    raise OutputError(f"{self.path}: not a table of this program (no column 'path'); choose another -o")
                return {row["path"]: row for row in reader}
        except FileNotFoundError:
            return {}

    def row(self, slide: Path) -> dict[str, str] | None:
        """Read the row of a slide, where it has one."""
        return self.rows().get(absolute(slide))

    def add(self, outcome: SlideOutcome) -> None:
        """Add or replace the row of a slide, and write the table; what is there word for word is not written again.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        row = outcome.row()
        with table_locked(self.folder):
            rows = self.rows()
            if same_row(rows.get(row["path"]), row):
                return
            # A slide that was moved keeps its folder; its row of before would tell the folder twice.
            rows = {
                path: other for path, other in rows.items() if not row["folder"] or other["folder"] != row["folder"]
            }
            rows[row["path"]] = row
            self._write([rows[path] for path in sorted(rows)])

    def _write(self, rows: list[dict[str, str]]) -> None:
        columns = sorted(dict.fromkeys(name for row in rows for name in row), key=_rank)
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        try:
            with replacing(self.path) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error.strerror}); make room, or choose another -o; the same command "
                "goes on from here"
            ) from error
