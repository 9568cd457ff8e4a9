"""Proof that polygons and label map say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import AREA, Region

ROUNDING_PX = 0.0075
"""How far rounding to 0.01 px may move a vertex; times the perimeter it bounds the error of an area."""


def to_geometry(region: Region) -> shapely.MultiPolygon:
    """Return the region's polygons as one shapely geometry, in the region's own frame."""
    return shapely.MultiPolygon([(polygon[0], list(polygon[1:])) for polygon in region.polygons])


def region_problems(
    regions: Sequence[Region], labels: npt.NDArray[np.uint8], grid: LabelGrid, classes: ClassScheme
) -> Iterator[str]:
    """Find where polygons and label map disagree.

    Checked are: every geometry is valid and every id unique; filling the polygons gives the label map, cell by cell;
    the areas of the polygons of a class sum up to its cells, so that no two of them overlap; and each region's own
    measurement of its area is right.

    Parameters
    ----------
    regions : sequence of Region
        As read from a file, in the same frame as ``grid``.
    labels : ndarray of uint8, shape (rows, columns)
        The label map.
    grid : LabelGrid
        Its frame.
    classes : ClassScheme

    Yields
    ------
    str
        One line a problem, naming the region, cell or class.
    """
    geometries = np.array([to_geometry(region) for region in regions], dtype=object)
    for i in np.flatnonzero(~shapely.is_valid(geometries)).tolist():
        yield f"region {regions[i].id}: {shapely.is_valid_reason(geometries[i])}"
    if len({region.id for region in regions}) < len(regions):
        yield f"{len(regions) - len({region.id for region in regions})} regions share an id with another"
    filled = rasterise(regions, grid)
    different = np.argwhere(filled != labels)
    if len(different):
        row, column = different[0]
        yield (
            f"{len(different)} cells differ between polygons and label map; the first is row {row}, column {column}: "
            f"{filled[row, column]} in the polygons, {labels[row, column]} in the map"
        )
    yield from _area_problems(regions, geometries, labels, grid, classes)


def _area_problems(
    regions: Sequence[Region],
    geometries: npt.NDArray[np.object_],
    labels: npt.NDArray[np.uint8],
    grid: LabelGrid,
    classes: ClassScheme,
) -> Iterator[str]:
    areas, tolerances = shapely.area(geometries), ROUNDING_PX * shapely.length(geometries)
    counts = np.bincount(labels.ravel(), minlength=256)
    ids = np.array([region.tissue_class.id for region in regions], np.int64)
    for tissue_class in classes:
        own = ids == tissue_class.id
        drawn, counted = areas[own].sum(), counts[tissue_class.id] * grid.scale**2
        if abs(drawn - counted) > tolerances[own].sum():
            yield f"class {tissue_class.name}: polygons cover {drawn:.1f} px², the label map {counted:.1f} px²"
    mm2 = grid.cell_mm2 / grid.scale**2  # a square pixel
    for region, area, tolerance in zip(regions, areas * mm2, tolerances * mm2, strict=True):
        told = region.measurements.get(AREA, np.nan)
        if not abs(told - area) <= tolerance:
            yield f"region {region.id}: its {AREA!r} is {told:.6g}, its polygon has {area:.6g}"
