"""Proof that polygons and label map say the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.rasterise import rasterise_and_count
from dualproto_wsi.vector.region import AREA, Region

ROUNDING_PX = 0.0075
"""How far rounding to 0.01 px may move a vertex; times the perimeter it bounds the error of an area."""


def to_geometry(region: Region) -> shapely.MultiPolygon:
    """Return the region's polygons as one shapely geometry, in the region's own frame."""
    return shapely.MultiPolygon([(polygon[0], list(polygon[1:])) for polygon in region.polygons])


def region_problems(regions: Sequence[Region], labels: npt.NDArray[np.uint8], grid: LabelGrid) -> Iterator[str]:
    """Find where polygons and label map disagree.

    Checked are: every geometry is valid and every id unique; filling the polygons gives the label map, cell by cell;
    no cell is filled twice, so that no two regions overlap; and of each region, the polygon's area and the measured one
    are those of its cells (the polygon's within what rounding to 0.01 px does).

    Parameters
    ----------
    regions : sequence of Region
        As read from a file, in the same frame as ``grid``.
    labels : ndarray of uint8, shape (rows, columns)
        The label map.
    grid : LabelGrid
        Its frame.

    Yields
    ------
    str
        One line a problem, naming the region, cell or class.
    """
    geometries = np.array([to_geometry(region) for region in regions], dtype=object)
    for i in np.flatnonzero(~shapely.is_valid(geometries)).tolist():
        yield f"region {regions[i].id}: {shapely.is_valid_reason(geometries[i])}"
    shared = len(regions) - len({region.id for region in regions})
    if shared:
        yield f"{shared} regions share an id with another"
    filled, cells = rasterise_and_count(regions, grid)
    different = np.argwhere(filled != labels)
    if len(different):
        row, column = different[0]
        yield (
            f"{len(different)} cells differ between polygons and label map; the first is row {row}, column {column}: "
            f"{filled[row, column]} in the polygons, {labels[row, column]} in the map"
        )
    if cells.sum() != np.count_nonzero(filled):
        yield f"regions overlap: they fill {cells.sum()} cells, of which {np.count_nonzero(filled)} are different ones"
    yield from _area_problems(regions, geometries, cells, grid)


def _area_problems(
    regions: Sequence[Region], geometries: npt.NDArray[np.object_], cells: npt.NDArray[np.int64], grid: LabelGrid
) -> Iterator[str]:
    exact = cells * grid.scale**2
    wrong = np.abs(shapely.area(geometries) - exact) > ROUNDING_PX * shapely.length(geometries)
    for i in np.flatnonzero(wrong).tolist():
        yield f"region {regions[i].id}: its polygon has {geometries[i].area:.2f} px², its cells {exact[i]:.2f} px²"
    for region, area in zip(regions, cells * grid.cell_mm2, strict=True):
        told = region.measurements.get(AREA, np.nan)
        if not math.isclose(told, area, rel_tol=1e-9):
            yield f"region {region.id}: its {AREA!r} is {told:.6g}, its cells have {area:.6g}"
