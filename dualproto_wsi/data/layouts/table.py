"""The reader of a table: a CSV file that names images and says which classes each holds.

::

    path,Tumor,Stroma,patient,mask
    a.png,1,0,P1,masks/a.png
    b.png,?,1,P2,

Columns: ``path``, of an image, from the table's folder on; a column a class: 1 present, 0 absent, empty or ``?`` not
known; and as wanted

``patient``
    Whose tissue it is; without it, what the file name says (:func:`~dualproto_wsi.data.layouts.names.patient_of`).
``group``
    What else is told of it, a site for one.
``split``
    ``train``, ``val`` …; without this column, the table as a whole is whichever split is asked for.
``mask``
    Of the classes' places, from the table's folder on: 1…K are the classes in the order of their columns, 0 is not
    labelled, 255 is known to be none of the classes.
``mpp``
    µm per px, the same for all images.

Separators are commas, semicolons or tabs; UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.images import (
    ABSENT,
    BACKGROUND,
    NOT_LABELLED,
    PRESENT,
    UNKNOWN,
    Dataset,
    LabelledImage,
    MaskFile,
)
from dualproto_wsi.data.layouts.names import match_classes, patient_of
from dualproto_wsi.errors import DataError
from dualproto_wsi.files import absolute

FILE = "labels.csv"
"""Name of the table in a folder."""

COLUMNS = ("path", "patient", "group", "split", "mask", "mpp")
LABELS = {"1": PRESENT, "0": ABSENT, "": UNKNOWN, "?": UNKNOWN}
MASK_BACKGROUND = 255
"""Value of a table's masks for what is known to be no class; 0 is not labelled, 1…K are classes."""

_SEPARATORS = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: its number in the file, from 1, and its cells by column."""

    table: Path
    line: int
    cells: Mapping[str, str]

    def wrong(self, column: str, why: str) -> DataError:
        """Return an error that says where, what and why."""
        return DataError(f"{self.table}, line {self.line}, column {column!r}: {self.cells[column]!r} {why}")

    def path(self, column: str) -> Path:
        """Return the file that a cell names, from the table's folder on."""
        path = self.table.parent / self.cells[column]
        if not self.cells[column] or not path.is_file():
            raise self.wrong(column, f"is no file ({path}); correct the path or complete the data")
        return path


def table_path(root: Path) -> Path:
    """Return the table that ``root`` is, or that the folder ``root`` holds as :data:`FILE`."""
    return root / FILE if root.is_dir() else root


def find_splits(root: Path) -> tuple[str, ...]:
    """Return the values of the column ``split``; none without that column."""
    _, rows = _read_rows(table_path(root))
    return tuple(sorted({row.cells["split"] for row in rows if row.cells.get("split")}))


def read(root: Path, split: str, classes: ClassScheme, mpp: float | None, partial: bool) -> Dataset:
    """Read the lines of one split; see :func:`dualproto_wsi.data.layouts.read_dataset`."""
    table = table_path(root)
    columns, rows = _read_rows(table)
    own = [name for name in columns if name not in COLUMNS]
    if not own:
        raise DataError(f"{table}: no column of a class among {', '.join(columns)}; add one a class, with 1 or 0")
    hint = f", or take the column out: other columns are {', '.join(COLUMNS[1:])}"
    positions = match_classes(table, own, classes, partial, hint)
    _refuse_twice(rows)
    if "split" in columns:
        rows = [row for row in rows if row.cells["split"] == split]
    size = mpp or _mpp(table, rows)
    images = tuple(_image(row, own, positions, len(classes)) for row in rows)
    return Dataset(table.parent.resolve().name, classes, size, images)


def _image(row: Row, own: Sequence[str], positions: Sequence[int | None], count: int) -> LabelledImage:
    path = row.path("path")
    labels = np.full(count, UNKNOWN, np.int8)
    for name, position in zip(own, positions, strict=True):
        if row.cells[name] not in LABELS:
            raise row.wrong(name, "is no label; write 1 for present, 0 for absent, ? or nothing for not known")
        if position is not None:
            labels[position] = LABELS[row.cells[name]]
    codes = {code: BACKGROUND if at is None else at for code, at in enumerate(positions, start=1)}
    codes |= {0: NOT_LABELLED, MASK_BACKGROUND: BACKGROUND}
    mask = MaskFile(row.path("mask"), codes) if row.cells.get("mask") else None
    patient = row.cells.get("patient") or patient_of(path.name)
    return LabelledImage(path, patient, labels, row.cells.get("group", ""), mask=mask)


def _mpp(table: Path, rows: Sequence[Row]) -> float:
    values = {row.cells.get("mpp", ""): row for row in reversed(rows)}
    if not any(values):
        raise DataError(f"{table}: no pixel size; add a column mpp (microns per pixel), or pass --mpp")
    for text, row in values.items():
        try:
            known = 0.01 <= float(text.replace(",", ".")) <= 100
        except ValueError:
            known = False
        if not known:
            raise row.wrong("mpp", "is no pixel size; microns per pixel, such as 0.5")
    sizes = {float(text.replace(",", ".")): row for text, row in values.items()}
    if len(sizes) > 1:
        other = max(sizes.values(), key=lambda row: row.line)
        raise other.wrong("mpp", "is not the pixel size of the lines above; bring all images to one, and pass --mpp")
    return next(iter(sizes))


def _refuse_twice(rows: Sequence[Row]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        key = absolute(row.table.parent / row.cells["path"])
        if key in seen:
            raise row.wrong("path", f"is in line {seen[key]}, too; name each image once")
        seen[key] = row.line


def _read_rows(table: Path) -> tuple[list[str], list[Row]]:
    lines = _text(table).splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip(f"{_SEPARATORS} ")), None)
    if first is None:
        raise DataError(f"{table}: the table is empty; its first line names the columns: path, and one a class")
    separator = max(_SEPARATORS, key=lines[first].count)
    reader = csv.reader(io.StringIO("\n".join(lines[first:])), delimiter=separator, strict=True)
    try:
        columns = _columns(table, first + 1, next(reader))
        rows = [_row(table, first + reader.line_num, cells, columns) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise DataError(f"{table}, line {first + reader.line_num}: not CSV ({error}); correct it") from error
    return columns, rows


def _row(table: Path, line: int, cells: Sequence[str], columns: Sequence[str]) -> Row:
    cells = [cell.strip() for cell in cells]
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        raise DataError(
            f"{table}, line {line}: {len(cells)} cells for {len(columns)} columns; put names that hold a separator in"
            " quotes"
        )
    return Row(table, line, dict(zip(columns, [*cells, *[""] * len(columns)], strict=False)))


def _columns(table: Path, line: int, cells: Sequence[str]) -> list[str]:
    names = [name.lower() if name.lower() in COLUMNS else name for name in map(str.strip, cells)]
    while names and not names[-1]:
        names.pop()
    for name in names:
        if not name or names.count(name) > 1:
            raise DataError(f"{table}, line {line}: column name {name!r} is {'there twice' if name else 'empty'}")
    if "path" not in names:
        raise DataError(
            f"{table}, line {line}: no column 'path' among {', '.join(names)}; needed are path and a column a class,"
            f" known besides are {', '.join(COLUMNS[1:])}"
        )
    return names


def _text(table: Path) -> str:
    try:
        return table.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such table; --layout table needs a CSV file, or a folder with {FILE}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not in UTF-8; in Excel save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); check the path") from error
