"""Whether ``slides.csv`` tells what the records tell."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.batch.outcome import TABLE, outcome_from_record
from dualproto_wsi.workflow.checks.verify_record import Told

Row = dict[Any, Any]
"""Text by column; None in a column that a short row lacks, a list under None of what a long row has too much."""

_DIGITS = 1e-5  # numbers have six significant ones
_SECONDS = 0.11  # one decimal is told
_NEEDED = {"slide", "path", "folder", "status", "seconds"}


def read_table(out: Path) -> list[Row]:
    """Read ``slides.csv`` of an output folder.

    Raises
    ------
    DataError
        If there is none, or it is not one of this program.
    """
    table = out / TABLE
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows: list[Row] = list(csv.DictReader(file))
            columns = set(rows[0]) if rows else _NEEDED
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file; name a folder that `dualproto-wsi segment` wrote") from error
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise DataError(f"{table}: cannot be read ({error}); run `segment` again") from error
    if not columns >= _NEEDED:
        raise DataError(f"{table}: has no column {min(_NEEDED - columns)!r}; is it of `dualproto-wsi segment`?")
    return rows


def doubled(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the rows that share a slide's path or a folder, by what to say of them."""
    found: dict[str, list[Row]] = {}
    for column in ("path", "folder"):
        for row in rows:
            if row[column]:
                found.setdefault(f"{TABLE}: two rows have the {column} {row[column]!r:.200}", []).append(row)
    return {text: same for text, same in found.items() if len(same) > 1}


def row_problems(row: Row, told: Told, folder: Path) -> Iterator[str]:
    """Yield the columns of a slide's row that tell something else than its record."""
    if None in row or None in row.values():
        yield "its row has more or fewer cells than the table has columns"
        return
    path = Path(row["path"])
    # A slide that was moved keeps its results.
    if row["path"] != told.data["slide"]["path"] and not (path.name == told.file and path.exists()):
        yield f"path is {row['path']!r:.200}, record.json says {told.data['slide']['path']!r:.200}"
    expected = outcome_from_record(told.data, Path(told.file), folder, {}).row()
    del expected["path"], expected["seconds"]
    if not _same(row["seconds"], f"{told.data['seconds']['total']:.3f}", _SECONDS):
        yield f"seconds is {row['seconds']:.80}, record.json says {told.data['seconds']['total']:g}"
    for column, value in expected.items():
        if column not in row or not _same(row[column], value):
            yield f"{column} is {row.get(column, 'not there')!s:.80}, record.json says {value}"
    for column in sorted(row.keys() - expected.keys() - told.data.get("about", {}).keys()):
        if column.endswith(("_mm2", "_fraction")) and row[column]:
            yield f"{column} is {row[column]:.80}, record.json has no such class"


def _same(found: str, expected: str, least: float = 0.0) -> bool:
    if found == expected:
        return True
    try:
        one, other = float(found), float(expected)
    except ValueError:
        return False
    return abs(one - other) <= max(least, _DIGITS * max(abs(other), _DIGITS))
