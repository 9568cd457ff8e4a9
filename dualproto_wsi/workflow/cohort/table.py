"""A table of patients or slides, as a study keeps it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualproto_wsi.errors import DataError

SEPARATORS = ",;\t"


@dataclass(frozen=True, slots=True)
class TableLine:
    """A line.

    Parameters
    ----------
    number : int
        In the file, from 1.
    values : dict of str to str
        By column, without outer blanks.
    """

    number: int
    values: dict[str, str]


@dataclass(frozen=True, slots=True)
class Metadata:
    """A table whose columns have different names.

    Parameters
    ----------
    path : Path
    columns : tuple of str
    lines : tuple of TableLine
        At least one.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[TableLine, ...]

    def find(self, name: str, option: str) -> str:
        """Return the column of a name, letter case aside.

        Raises
        ------
        DataError
            If there is none.
        """
        for column in self.columns:
            if column.casefold() == name.casefold():
                return column
        raise DataError(f"{self.path}: no column {name!r} for {option}; its columns are {', '.join(self.columns)}")

    def first_of(self, names: Sequence[str]) -> str | None:
        """Return the first of these columns that is there, letter case aside."""
        known = {column.casefold(): column for column in self.columns}
        return next((known[name] for name in names if name in known), None)

    def wrong(self, line: TableLine, column: str, why: str) -> DataError:
        """Return an error that says where, what and why."""
        return DataError(f"{self.path}, line {line.number}, column {column!r}: {line.values[column]!r} {why}")


def read_metadata(path: Path) -> Metadata:
    """Read a table: the first line names the columns, separators are commas, semicolons or tabs.

    Raises
    ------
    DataError
        If it is missing, not UTF-8, not CSV, empty, or a column's name is empty or there twice.
    """
    lines = _text(path).splitlines()
    head = lines[0] if lines else ""
    separator = max(SEPARATORS, key=head.count)
    reader = csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        while columns and not columns[-1]:
            columns.pop()
        _check_columns(path, columns)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
    found = [_line(path, number, columns, cells) for number, cells in rows if any(cells)]
    if not found:
        raise DataError(f"{path}: no lines below the one that names the columns; add a line a patient")
    return Metadata(path, tuple(columns), tuple(found))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such table; check the path of --metadata") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not in UTF-8; in Excel save it as 'CSV UTF-8'") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); --metadata needs a CSV file") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    if not columns:
        raise DataError(f"{path}: the table is empty; its first line names the columns")
    folded = [name.casefold() for name in columns]
    for name, key in zip(columns, folded, strict=True):
        if not name or folded.count(key) > 1:
            raise DataError(f"{path}, line 1: column name {name!r} is {'there twice' if name else 'empty'}; rename it")


def _line(path: Path, number: int, columns: list[str], cells: list[str]) -> TableLine:
    if any(cells[len(columns) :]):
        raise DataError(
            f"{path}, line {number}: {len(cells)} cells for {len(columns)} columns; put values that hold a separator "
            "in quotes"
        )
    padded = [*cells, *[""] * len(columns)]
    return TableLine(number, dict(zip(columns, padded, strict=False)))
