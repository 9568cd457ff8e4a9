"""Reads a run's results again and proves that they agree with each other."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, ClassScheme
from dualproto_wsi.errors import DataError, DualProtoError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import OutputSettings, from_data
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.check import region_problems
from dualproto_wsi.vector.check_squares import square_problems
from dualproto_wsi.vector.geojson import read_regions
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.vector.region import Region
from dualproto_wsi.workflow.outcome import FAILED, TABLE
from dualproto_wsi.workflow.outputs import CONFIDENCE, LABELS
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
        grid = frame_of(record)
        labels = read_raster(folder / LABELS)
        if labels.shape != grid.shape:
            return Verdict(folder.name, "", (f"{LABELS} is {labels.shape}, record.json says {grid.shape}",))
        problems = [*_table_problems(row, record), *_area_problems(labels, record, grid)]
        if record["settings"]["output"]["confidence"]:
            problems += _confidence_problems(folder, labels)
        checked = []
        for suffix in record["formats"]:
            file = folder / f"{record['slide']['file']}.{suffix}"
            features = list(read_regions(file, ClassScheme.from_json(record["classes"])))
            checked.append(f"{suffix}: {len(features)} features")
            problems += [f"{file.name}: {text}" for text in _feature_problems(features, labels, grid, record)]
    except (OSError, ValueError, KeyError, DualProtoError) as error:
        return Verdict(folder.name, "", (f"{type(error).__name__}: {error}",))
    return Verdict(folder.name, f"{labels.size} cells; {'; '.join(checked)}", tuple(problems))


def _feature_problems(
    features: list[Region], labels: NDArray[np.uint8], grid: LabelGrid, record: dict[str, Any]
) -> Iterator[str]:
    """Check the features of a file by what the settings say that they are."""
    output = from_data(OutputSettings, record["settings"]["output"])
    told = record["regions"]
    if output.object_type == "tile":
        scheme = ClassScheme.from_json(record["classes"])
        yield from square_problems(features, labels, grid, scheme, output.square_cells(grid.cell_um))
        found = len(features)
    else:
        yield from region_problems(features, labels, grid, output.simplify_um / grid.cell_um)
        found = sum(len(feature.polygons) for feature in features)
    if found != told:
        yield f"{found} regions, record.json says {told}"


def _area_problems(labels: NDArray[np.uint8], record: dict[str, Any], grid: LabelGrid) -> Iterator[str]:
    """Compare the record's areas with the cells of the label map."""
    tally = AreaTally(ClassScheme.from_json(record["classes"]), grid.cell_mm2)
    tally.add(labels)
    told = {"analysed": record["analysed_mm2"], "unsure": record["unsure_mm2"], **record["mm2"]}
    counted = {"analysed": tally.analysed_mm2, "unsure": tally.unsure_mm2, **tally.mm2()}
    for name, area in counted.items():
        if not math.isclose(told[name], area, rel_tol=1e-9):
            yield f"record.json: {name} has {told[name]:.6g} mm², {LABELS} {area:.6g} mm²"


def _confidence_problems(folder: Path, labels: NDArray[np.uint8]) -> Iterator[str]:
    confidence = read_raster(folder / CONFIDENCE)
    if confidence.shape != labels.shape:
        yield f"{CONFIDENCE} is {confidence.shape}, {LABELS} is {labels.shape}"
    elif confidence.max(initial=0) > 100:
        yield f"{CONFIDENCE} has {confidence.max()} percent"
    elif different := int(((confidence > 0) != (labels != NOT_ANALYSED)).sum()):
        yield f"{CONFIDENCE} and {LABELS} disagree on {different} cells being analysed"


def frame_of(record: dict[str, Any]) -> LabelGrid:
    """Return the label grid in the frame of a record's polygons: QuPath's crop, or the whole file."""
    grid, bounds = record["grid"], record["slide"]["bounds"]
    x, y = (0.0, 0.0) if record["frame"] == "qupath" else (bounds["x"], bounds["y"])
    return LabelGrid(x, y, grid["scale_px"], grid["cell_um"], grid["columns"], grid["rows"])


def _table_problems(row: dict[str, str], record: dict[str, Any]) -> Iterator[str]:
    told = {f"{name}_mm2": value for name, value in record["mm2"].items()}
    told |= {name: record[name] for name in ("analysed_mm2", "unsure_mm2")}
    for column, value in told.items():
        if abs(float(row[column]) - value) > 1e-5 * max(value, 1e-5):
            yield f"{TABLE}: {column} is {row[column]}, record.json says {value:.6g}"
