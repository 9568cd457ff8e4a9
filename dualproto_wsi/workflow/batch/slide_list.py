"""The slides of a job: files, folders, and tables (CSV) that name slides one by one."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dualproto_wsi.errors import SettingsError, SlideNotFound
from dualproto_wsi.files import absolute
from dualproto_wsi.slide.reader import find_slides
from dualproto_wsi.vector.geojson.output import SUFFIXES
from dualproto_wsi.workflow.batch.outcome import QC_COLUMNS

COLUMNS = ("path", "id", "mpp", "group", "regions")
RESERVED = (
    "slide", "folder", "status", "tiles", "mpp_source", "analysed_mm2", "unsure_mm2", "seconds", "error", *QC_COLUMNS
)  # fmt: skip
"""Columns that ``slides.csv`` of a run has by itself."""
SEPARATORS = ",;\t"
SLIPS = {"mpp": 0.66, "group": 0.8, "regions": 0.8}
"""From which likeness on a column's name is taken for a slip; names that a study may well use are less alike."""


@dataclass(frozen=True, slots=True)
class SlideItem:
    """A slide, and what the user says of it.

    Parameters
    ----------
    path : Path
        The slide file; it need not exist: opening it says what is wrong.
    id : str
        The user's name for it; empty: none.
    mpp : float or None
        µm per level-0 px; replaces what the file says, and the setting.
    group : str
        What it is compared by, such as a patient or an arm of a study.
    regions : Path or None
        GeoJSON or mask of the part to analyse; exists.
    metadata : tuple of (str, str)
        Further columns of the table, by name, as they are written there.
    """

    path: Path
    id: str = ""
    mpp: float | None = None
    group: str = ""
    regions: Path | None = None
    metadata: tuple[tuple[str, str], ...] = ()


def gather_slides(paths: Iterable[Path]) -> list[SlideItem]:
    """List the slides named by files, folders and tables.

    Parameters
    ----------
    paths : iterable of Path
        A name that ends in ``.csv`` is a table (:func:`read_slide_list`); the rest is for
        :func:`dualproto_wsi.slide.reader.find_slides`.

    Returns
    -------
    list of SlideItem
        In the order given, each slide once; what a table says of a slide counts before what a folder finds.

    Raises
    ------
    SlideNotFound, SettingsError
        If a table is missing or wrong, or two tables name one slide.
    """
    found: dict[str, SlideItem] = {}
    listed: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.suffix.lower() != ".csv":
            for slide in find_slides([path]):
                found.setdefault(absolute(slide), SlideItem(slide))
            continue
        for item in read_slide_list(path):
            key = absolute(item.path)
            if key in listed:
                raise SettingsError(f"{path}: {item.path} is in {listed[key]}, too; name each slide once")
            listed[key], found[key] = path, item
    return list(found.values())


def read_slide_list(table: Path) -> list[SlideItem]:
    """Read a table of slides.

    The first line names the columns: ``path`` (from the table's own folder on, or absolute) and, as wanted, ``id``,
    ``mpp``, ``group`` and ``regions`` (a file, as ``path``). Any further column is kept as it is; but one whose name is
    nearly that of a known column is refused as a slip. Separators are commas, semicolons or tabs; letter case of known
    columns and empty lines do not matter.

    Parameters
    ----------
    table : Path
        A CSV in UTF-8, with or without a byte order mark.

    Returns
    -------
    list of SlideItem
        In the order of the table.

    Raises
    ------
    SlideNotFound
        If there is no such table.
    SettingsError
        If it is no table of slides; the message names file, line, column and value.
    """
    lines = _text(table).splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip(f"{SEPARATORS} ")), None)
    if first is None:
        raise SettingsError(f"{table}: the table is empty; its first line names the columns: {', '.join(COLUMNS)}")
    separator = max(SEPARATORS, key=lines[first].count)
    if lines[first].lower().startswith("sep=") and len(lines[first]) == 5:  # a habit of Excel
        first, separator = first + 1, lines[first][4]
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), delimiter=separator, strict=True)
    try:
        columns = _columns(table, first + 1, next(reader, []))
        rows = [
            TableRow(table, first + reader.line_num, cells, columns, separator)
            for cells in reader
            if any(map(str.strip, cells))
        ]
    except csv.Error as error:
        raise SettingsError(f"{table}, line {first + reader.line_num}: not CSV ({error})") from error
    if not rows:
        raise SettingsError(f"{table}: no slides below the line that names the columns; add a line a slide")
    items = [row.item() for row in rows]
    _refuse_twice(rows, "path", [absolute(item.path) for item in items])
    _refuse_twice(rows, "id", [item.id for item in items])
    return items


def _text(table: Path) -> str:
    try:
        return table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise SlideNotFound(f"{table}: no such table of slides; check the path") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{table}: not in UTF-8; in Excel save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise SettingsError(f"{table}: cannot be read ({error.strerror})") from error


def _columns(table: Path, line: int, cells: list[str]) -> list[str]:
    """Return the names of the columns, those that we know in lower case."""
    where = f"{table}, line {line}"
    names = [name.lower() if name.lower() in COLUMNS else name for name in map(str.strip, cells)]
    while names and not names[-1]:
        names.pop()
    for name in names:
        near = [known for known, alike in SLIPS.items() if _alikeness(name, known) >= alike]
        if not name or names.count(name) > 1:
            raise SettingsError(f"{where}: column name {name!r} is {'empty' if not name else 'there twice'}")
        if name not in COLUMNS and near:
            raise SettingsError(f"{where}: column {name!r} is not known; did you mean {near[0]!r}? If not, rename it")
        if name.lower() in RESERVED or name.lower().endswith(("_mm2", "_fraction")):
            raise SettingsError(f"{where}: column {name!r} is one that slides.csv of a run has itself; rename it")
    if "path" not in names:
        raise SettingsError(f"{where}: no column 'path' among {', '.join(names)}; known are {', '.join(COLUMNS)}")
    return names


def _alikeness(name: str, known: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), known).ratio()


def _refuse_twice(rows: list[TableRow], column: str, values: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, value in zip(rows, values, strict=True):
        if value and value in seen:
            raise row.wrong(column, f"is in line {seen[value]}, too; name each once")
        seen[value] = row.line


class TableRow:
    """A line of a table of slides.

    Parameters
    ----------
    table : Path
    line : int
        Its number in the file, from 1.
    cells : list of str
    columns : list of str
        Their names.
    separator : str
        Between them; with a semicolon, numbers may have a decimal comma.
    """

    def __init__(self, table: Path, line: int, cells: list[str], columns: list[str], separator: str) -> None:
        self.table, self.line, self._separator = table, line, separator
        extra = [cell for cell in cells[len(columns) :] if cell.strip()]
        if extra:
            raise SettingsError(
                f"{table}, line {line}: {len(cells)} cells for {len(columns)} columns, {extra[0].strip()!r} is too"
                " much; put names that hold a separator in quotes"
            )
        padded = [*cells, *[""] * len(columns)]
        self.values: Mapping[str, str] = {name: cell.strip() for name, cell in zip(columns, padded, strict=False)}

    def item(self) -> SlideItem:
        """Return what it says."""
        if not self.values["path"]:
            raise self.wrong("path", "is empty; name a slide file")
        return SlideItem(
            path=self.table.parent / self.values["path"],
            id=self.values.get("id", ""),
            mpp=self._mpp(self.values.get("mpp", "")),
            group=self.values.get("group", ""),
            regions=self._regions(self.values.get("regions", "")),
            metadata=tuple((name, value) for name, value in self.values.items() if name not in COLUMNS),
        )

    def wrong(self, column: str, why: str) -> SettingsError:
        """Return an error that says where, what and why."""
        return SettingsError(f"{self.table}, line {self.line}, column {column!r}: {self.values[column]!r} {why}")

    def _mpp(self, value: str) -> float | None:
        if not value:
            return None
        try:
            mpp = float(value.replace(",", ".") if self._separator != "," else value)
        except ValueError as error:
            raise self.wrong("mpp", "is no number; microns per pixel, such as 0.25") from error
        if not 0.01 <= mpp <= 100:
            raise self.wrong("mpp", "is out of range; microns per pixel lie between 0.01 and 100")
        return mpp

    def _regions(self, value: str) -> Path | None:
        if not value:
            return None
        path = self.table.parent / value
        if not path.name.lower().endswith(SUFFIXES):
            raise self.wrong("regions", f"is no kind of file for regions; use {', '.join(SUFFIXES)}")
        if not path.is_file():
            raise self.wrong("regions", f"is not there ({path})")
        return path
