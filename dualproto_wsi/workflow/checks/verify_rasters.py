"""Whether a slide's rasters are what its record says, and agree with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE
from dualproto_wsi.errors import DataError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.raster import TILE
from dualproto_wsi.workflow.batch.record import LABELS
from dualproto_wsi.workflow.checks.verify_record import Told

_CENTIMETER = 3
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")


def read_checked(path: Path, grid: LabelGrid) -> NDArray[np.uint8]:
    """Read a raster of the grid and check its levels and its tags.

    Parameters
    ----------
    path : Path
        What :class:`~dualproto_wsi.vector.raster.RasterWriter` wrote.
    grid : LabelGrid

    Returns
    -------
    ndarray of uint8, (rows, columns)

    Raises
    ------
    DataError
        If its size, its type, its pixel size or a coarser level is not right.
    """
    steps = [1]
    while max(grid.shape) // steps[-1] > TILE:
        steps.append(steps[-1] * 2)
    with tifffile.TiffFile(path) as tiff:
        if len(tiff.pages) != len(steps):
            raise DataError(f"{path.name} has {len(tiff.pages)} levels; of this size it has {len(steps)}")
        values = np.zeros(0, np.uint8)
        for step, page in zip(steps, map(tiff.pages.get, range(len(steps))), strict=True):
            shape = (-(-grid.rows // step), -(-grid.columns // step))
            if page.shape != shape or page.dtype != np.uint8:  # before any memory is taken for it
                raise DataError(f"{path.name} is {page.dtype} {page.shape}, record.json says uint8 {shape}")
            _require_resolution(path.name, page, grid.cell_um * step)
            level = page.asarray()
            if step == 1:
                values = level
            elif not np.array_equal(level, values[::step, ::step]):
                raise DataError(f"{path.name}: level of step {step} is not every {step}th cell of the first")
    return values


def _require_resolution(name: str, page: tifffile.TiffPage, cell_um: float) -> None:
    unit = int(page.tags["ResolutionUnit"].value)
    for tag in ("XResolution", "YResolution"):
        over, under = page.tags[tag].value
        if unit != _CENTIMETER or not math.isclose(over / under, 1e4 / cell_um, rel_tol=1e-5):
            raise DataError(f"{name}: its {tag} is {over}/{under}; cells of {cell_um:g} µm have {1e4 / cell_um:g} a cm")


def area_problems(labels: NDArray[np.uint8], told: Told) -> Iterator[str]:
    """Compare the record's areas with the cells of the label map."""
    unknown = set(np.unique(labels).tolist()) - {NOT_ANALYSED, UNSURE, *(c.id for c in told.classes)}
    if unknown:
        yield f"{LABELS} has the label {min(unknown)}, which is no class"
    tally = AreaTally(told.classes, told.grid.cell_mm2)
    tally.add(labels)
    areas = {"analysed": told.data["analysed_mm2"], "unsure": told.data["unsure_mm2"], **told.data["mm2"]}
    counted = {"analysed": tally.analysed_mm2, "unsure": tally.unsure_mm2, **tally.mm2()}
    for name, area in counted.items():
        found = areas.get(name, math.nan)
        if not math.isclose(found, area, rel_tol=1e-9):
            yield f"{name} has {found:.6g} mm², {LABELS} {area:.6g} mm²"


def confidence_problems(confidence: NDArray[np.uint8], labels: NDArray[np.uint8], told: Told) -> Iterator[str]:
    """Compare the best probabilities, percent, with the label map."""
    analysed = labels != NOT_ANALYSED
    # A hole that the sieve filled may have no probabilities.
    least = 0 if told.labels.fill_holes_um2 else max(0, math.ceil(100 / len(told.classes)) - 1)
    if different := int(((confidence > 0) & ~analysed).sum()):
        yield f"and {LABELS} disagree on {different} cells being analysed"
    inside = confidence[analysed]
    if inside.size and not (least <= inside.min() and inside.max() <= 100):
        yield f"has {inside.min()} to {inside.max()} percent; the best of {len(told.classes)} has {least} to 100"
    if told.by_probability:
        threshold = 100 * told.labels.unsure_below
        unsure = labels == UNSURE
        wrong = (unsure & (confidence > threshold + 0.51)) | (analysed & ~unsure & (confidence < threshold - 0.51))
        if wrong.any():
            yield f"{np.count_nonzero(wrong)} cells are unsure or not against the threshold of {threshold:g} percent"


def require_png(path: Path) -> None:
    """Require a whole PNG.

    Raises
    ------
    DataError
        If it is not one.
    """
    data = path.read_bytes()
    if not (data.startswith(_PNG[0]) and data.endswith(_PNG[1])):
        raise DataError(f"{path.name}: is no PNG, or cut off")
