"""Reads a run's results again and proves that they agree with each other."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError, DualProtoError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.check import region_problems
from dualproto_wsi.vector.geojson import read_regions
from dualproto_wsi.vector.label_map import read_labels
from dualproto_wsi.workflow.outcome import FAILED, TABLE
from dualproto_wsi.workflow.record import RECORD


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checking one slide's results found.

    Parameters
    ----------
    slide : str
        Name of the slide's folder, or of the slide where it has none.
    checked : str
        What was looked at.
    problems : tuple of str
        Empty when all agree.
    """

    slide: str
    checked: str
    problems: tuple[str, ...]


def verify_run(out: Path) -> Iterator[Verdict]:
    """Check every slide of an output folder that did not fail.

    Parameters
    ----------
    out : Path
        A folder that ``segment`` wrote.

    Yields
    ------
    Verdict

    Raises
    ------
    DataError
        If it is not such a folder.
    """
    table = out / TABLE
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file; name a folder that `dualproto-wsi segment` wrote") from error
    for row in rows:
        if row["status"] != FAILED:
            yield _verify_slide(out / row["folder"], row)


def _verify_slide(folder: Path, row: dict[str, str]) -> Verdict:
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        scheme = ClassScheme.from_json(record["classes"])
        grid = frame_of(record)
        labels = read_labels(folder / "labels.tif")
        if labels.shape != grid.shape:
            return Verdict(folder.name, "", (f"labels.tif is {labels.shape}, record.json says {grid.shape}",))
        problems = list(_table_problems(row, record))
        checked = []
        for suffix in record["formats"]:
            file = folder / f"{record['slide']['file']}.{suffix}"
            regions = list(read_regions(file, scheme))
            checked.append(f"{suffix}: {len(regions)} regions")
            problems += [f"{file.name}: {text}" for text in region_problems(regions, labels, grid)]
            if len(regions) != record["regions"]:
                problems.append(f"{file.name}: {len(regions)} regions, record.json says {record['regions']}")
    except (OSError, ValueError, KeyError, DualProtoError) as error:
        return Verdict(folder.name, "", (f"{type(error).__name__}: {error}",))
    return Verdict(folder.name, f"{labels.size} cells; {'; '.join(checked)}", tuple(problems))


def frame_of(record: dict[str, Any]) -> LabelGrid:
    """Return the label grid in the frame of a record's polygons: QuPath's crop, or the whole file."""
    grid, bounds = record["grid"], record["slide"]["bounds"]
    x, y = (0.0, 0.0) if record["frame"] == "qupath" else (bounds["x"], bounds["y"])
    return LabelGrid(x, y, grid["scale_px"], grid["cell_um"], grid["columns"], grid["rows"])


def _table_problems(row: dict[str, str], record: dict[str, Any]) -> Iterator[str]:
    told = {f"{name}_mm2": value for name, value in record["mm2"].items()} | {"analysed_mm2": record["analysed_mm2"]}
    for column, value in told.items():
        if abs(float(row[column]) - value) > 1e-5 * max(value, 1e-5):
            yield f"{TABLE}: {column} is {row[column]}, record.json says {value:.6g}"
