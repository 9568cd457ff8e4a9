"""What became of each slide, and the table of a run."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from dualproto_wsi.errors import OutputError
from dualproto_wsi.files import absolute, replacing

DONE, EMPTY, FAILED = "done", "empty", "failed"

TABLE = "slides.csv"


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

    def row(self) -> dict[str, str]:
        """Return the row as text; what is unknown is an empty cell."""
        row = {
            "slide": self.slide.name,
            "path": absolute(self.slide),
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
        return row | {"seconds": f"{self.seconds:.1f}", "error": self.error}


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"


class SlideTable:
    """``slides.csv`` of an output folder.

    Rows of earlier runs on other slides stay; a slide that is run again gets a new row in place of its old one. The
    file is rewritten whole after each slide, so it is never half a table.

    Parameters
    ----------
    folder : Path
        The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TABLE
        self._rows: dict[str, dict[str, str]] = {}
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                if "path" not in (reader.fieldnames or ()):
                    raise OutputError(f"{self.path}: not a table of this program (no column 'path'); choose another -o")
                self._rows = {row["path"]: row for row in reader}

    def add(self, outcome: SlideOutcome) -> None:
        """Add or replace the row of a slide, and write the table."""
        row = outcome.row()
        self._rows.pop(row["path"], None)
        self._rows[row["path"]] = row
        self._write()

    def _write(self) -> None:
        columns: dict[str, None] = {}
        for row in self._rows.values():
            columns |= dict.fromkeys(row)
        for last in ("seconds", "error"):
            columns.pop(last, None)
            columns[last] = None
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows.values())
        with replacing(self.path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
