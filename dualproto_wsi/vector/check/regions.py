"""Proof that polygons and label map say the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.rasterise import rasterise_and_count
from dualproto_wsi.vector.region import AREA, Region

ROUNDING_PX = 0.0075
"""How far rounding to 0.01 px may move a vertex; times the perimeter it bounds the error of an area."""

Labels = npt.NDArray[np.uint8]
Geometries = npt.NDArray[np.object_]


def to_geometry(region: Region) -> shapely.MultiPolygon:
    """Return the region's polygons as one shapely geometry, in the region's own frame."""
    return shapely.MultiPolygon([(polygon[0], list(polygon[1:])) for polygon in region.polygons])


def region_problems(
    regions: Sequence[Region], labels: Labels, grid: LabelGrid, simplify_cells: float = 0.0
) -> Iterator[str]:
    """Find where polygons and label map disagree.

    Checked are: every geometry is valid and every id unique; every vertex is a corner of the region's cells, within
    rounding; filling the polygons gives the label map, cell by cell;
    no cell is filled twice, so that no two regions overlap; and of each region, the polygon's area and the measured one
    are those of its cells (the polygon's within what rounding to 0.01 px does).

    Polygons of simplified borders cannot give the map cell by cell. Of them it is checked instead that they share their
    borders exactly, so that they leave no gap and do not overlap by any area; that each cell is filled with a label
    that the map has within the tolerance of the cell's centre; that each class has as many polygons as the map has
    4-connected regions; that the measured areas are those regions' areas; and that no polygon's area differs from the
    measured one by more than borders which move by the tolerance allow.

    Parameters
    ----------
    regions : sequence of Region
        As read from a file, in the same frame as ``grid``.
    labels : ndarray of uint8, shape (rows, columns)
        The label map.
    grid : LabelGrid
        Its frame.
    simplify_cells : float
        The tolerance of the simplification, cells; 0 for exact polygons.

    Yields
    ------
    str
        One line a problem, naming the region, cell or class.
    """
    geometries = np.array([to_geometry(region) for region in regions], dtype=object)
    valid = shapely.is_valid(geometries)
    for i in np.flatnonzero(~valid).tolist():
        yield f"region {regions[i].id}: {shapely.is_valid_reason(geometries[i])}"
    shared = len(regions) - len({region.id for region in regions})
    if shared:
        yield f"{shared} regions share an id with another"
    yield from _corner_problems(regions, labels, grid)
    filled, cells = rasterise_and_count(regions, grid)
    yield from _cell_problems(filled, labels, simplify_cells + (ROUNDING_PX / grid.scale if simplify_cells else 0.0))
    if cells.sum() != np.count_nonzero(filled):
        yield f"regions overlap: they fill {cells.sum()} cells, of which {np.count_nonzero(filled)} are different ones"
    if simplify_cells > 0:
        yield from _coverage_problems(regions, geometries[valid])
        yield from _measure_problems(regions, labels, grid)
        yield from _moved_problems(regions, geometries, grid, simplify_cells)
    else:
        yield from _area_problems(regions, geometries, cells, grid)


def _corner_problems(regions: Sequence[Region], labels: Labels, grid: LabelGrid) -> Iterator[str]:
    """Find the first vertex that is no corner where cells of its region and others meet; simplified borders keep some.

    Cells alone would not tell a layer that is shifted by less than half a cell, or by less than the tolerance.
    """
    rings = [ring for region in regions for ring in region.rings]
    if not rings:
        return
    owners = np.repeat(np.arange(len(regions)), [sum(map(len, region.rings)) for region in regions])
    exact = (np.concatenate(rings) - (grid.x, grid.y)) / grid.scale
    corners = np.rint(exact)
    wrong = (np.abs(exact - corners) * grid.scale > ROUNDING_PX).any(axis=1)
    wrong |= ((corners < 0) | (corners > grid.shape[::-1])).any(axis=1)
    padded = np.pad(labels, 1)
    column, row = np.clip(corners, 0, grid.shape[::-1]).astype(np.int64).T
    own = np.array([region.tissue_class.id for region in regions])[owners]
    mine = sum((padded[row + i, column + j] == own).astype(np.int64) for i in (0, 1) for j in (0, 1))
    wrong |= (mine == 0) | (mine == 4)
    if wrong.any():
        i = int(np.argmax(wrong))
        x, y = np.concatenate(rings)[i].tolist()
        yield (
            f"{np.count_nonzero(wrong)} vertices lie on no corner of their regions' cells; "
            f"the first is x {x:.2f}, y {y:.2f} of region {regions[owners[i]].id}"
        )


def _cell_problems(filled: Labels, labels: Labels, tolerance: float) -> Iterator[str]:
    """Find cells filled with a label that the map does not have within the tolerance of their centres, in cells."""
    different = np.argwhere(filled != labels)
    reach = math.ceil(tolerance)
    around = np.pad(labels, reach)
    if not len(different):
        return
    told = filled[different[:, 0], different[:, 1]]
    found = np.zeros(len(different), np.bool_)
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            if math.hypot(max(abs(row) - 0.5, 0), max(abs(column) - 0.5, 0)) <= tolerance and (row or column):
                found |= around[different[:, 0] + reach + row, different[:, 1] + reach + column] == told
    different = different[~found]
    if len(different):
        row, column = different[0]
        yield (
            f"{len(different)} cells differ between polygons and label map; the first is row {row}, column {column}: "
            f"{filled[row, column]} in the polygons, {labels[row, column]} in the map"
        )


def _coverage_problems(regions: Sequence[Region], geometries: Geometries) -> Iterator[str]:
    """Find borders that are not the same on both sides; geometries that are not valid are left out."""
    wrong = shapely.coverage_invalid_edges(geometries)
    for i in np.flatnonzero(~shapely.is_empty(wrong)).tolist():
        x, y = shapely.get_coordinates(wrong[i])[0].tolist()
        yield f"region {regions[i].id}: its border is not its neighbour's at x {x:.2f}, y {y:.2f}: overlap or gap"


def _measure_problems(regions: Sequence[Region], labels: Labels, grid: LabelGrid) -> Iterator[str]:
    """Compare numbers of polygons and measured areas with the 4-connected regions of the map."""
    tracer = RegionTracer(labels.shape[1], 0)
    traced = [(region.label, region.cells) for region in (*tracer.feed(labels), *tracer.finish())]
    found = np.array(traced, np.int64).reshape(-1, 2)
    for label in sorted({*found[:, 0].tolist(), *(region.tissue_class.id for region in regions)}):
        own = [region for region in regions if region.tissue_class.id == label]
        areas = np.sort(found[found[:, 0] == label, 1]) * grid.cell_mm2
        polygons = sum(len(region.polygons) for region in own)
        if polygons != len(areas):
            yield f"class {label}: {polygons} polygons, but {len(areas)} regions in the label map"
        told = np.sort([region.measurements.get(AREA, np.nan) for region in own])
        if len(told) != len(areas):  # merged into fewer annotations
            told, areas = told.sum(keepdims=True), areas.sum(keepdims=True)
        wrong = np.flatnonzero(~np.isclose(told, areas, rtol=1e-9, atol=0))
        if len(wrong):
            i = wrong[0]
            yield f"class {label}: {AREA!r} of a region is {told[i]:.6g}, in the label map it is {areas[i]:.6g}"


def _moved_problems(
    regions: Sequence[Region], geometries: Geometries, grid: LabelGrid, simplify_cells: float
) -> Iterator[str]:
    """Find polygons whose area differs from the measured one by more than borders within the tolerance can do.

    A border and its simplified edge enclose no more than all points within the tolerance of the edge.
    """
    reach = simplify_cells * grid.scale + ROUNDING_PX
    bound = 2 * reach * shapely.length(geometries) + math.pi * reach**2 * shapely.get_num_coordinates(geometries)
    told = np.array([region.measurements.get(AREA, np.nan) for region in regions]) / grid.cell_mm2 * grid.scale**2
    areas = shapely.area(geometries)
    for i in np.flatnonzero(~(np.abs(areas - told) <= bound)).tolist():
        yield f"region {regions[i].id}: its polygon has {areas[i]:.2f} px², measured are {told[i]:.2f} px²"


def _area_problems(
    regions: Sequence[Region], geometries: Geometries, cells: npt.NDArray[np.int64], grid: LabelGrid
) -> Iterator[str]:
    exact = cells * grid.scale**2
    wrong = np.abs(shapely.area(geometries) - exact) > ROUNDING_PX * shapely.length(geometries)
    for i in np.flatnonzero(wrong).tolist():
        yield f"region {regions[i].id}: its polygon has {geometries[i].area:.2f} px², its cells {exact[i]:.2f} px²"
    for region, area in zip(regions, cells * grid.cell_mm2, strict=True):
        told = region.measurements.get(AREA, np.nan)
        if not math.isclose(told, area, rel_tol=1e-9):
            yield f"region {region.id}: its {AREA!r} is {told:.6g}, its cells have {area:.6g}"
