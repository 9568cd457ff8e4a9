"""Polygons → label map, the inverse of the tracer; for checks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dualproto_wsi.compiled import compiled
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.region import Region

Edges = npt.NDArray[np.float64]


def rasterise(regions: Iterable[Region], grid: LabelGrid) -> npt.NDArray[np.uint8]:
    """Fill regions on a grid.

    A cell belongs to a region if its centre lies inside, by the even-odd rule over all rings of the region.

    Parameters
    ----------
    regions : iterable of Region
        In the same frame as `grid`. Of regions that overlap, the later one wins.
    grid : LabelGrid
        The raster to fill.

    Returns
    -------
    ndarray of uint8, (rows, columns)
        Class ids; 0 where no region is.
    """
    return rasterise_and_count(regions, grid)[0]


def rasterise_and_count(
    regions: Iterable[Region], grid: LabelGrid
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Fill regions on a grid like :func:`rasterise`, and count the cells of each.

    Returns
    -------
    labels : ndarray of uint8, (rows, columns)
    cells : ndarray of int64, (number of regions,)
        Cells that each region fills; where regions overlap, a cell counts for each of them.
    """
    labels = np.zeros(grid.shape, np.uint8)
    cells = [_fill(labels, _edges(region, grid), region.tissue_class.id) for region in regions]
    return labels, np.array(cells, np.int64)


def means_inside(regions: Iterable[Region], grid: LabelGrid, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the mean of a raster over the cells of each region; NaN for a region without a cell.

    Parameters
    ----------
    regions : iterable of Region
        In the same frame as `grid`.
    grid : LabelGrid
    values : ndarray of uint8, (rows, columns)

    Returns
    -------
    ndarray of float64, (number of regions,)
    """
    return np.array([_mean(values, _edges(region, grid)) for region in regions], np.float64)


def _edges(region: Region, grid: LabelGrid) -> Edges:
    """Return the edges (x0, y0, x1, y1) of a region, with cell centres at whole numbers."""
    origin = np.array([grid.x, grid.y])
    rings = [(ring - origin) / grid.scale - 0.5 for ring in region.rings]
    return np.concatenate([np.hstack((ring[:-1], ring[1:])) for ring in rings])


@compiled
def _fill(labels: npt.NDArray[np.uint8], edges: Edges, label: int) -> int:
    """Give the cells inside a label; count them."""
    cells = 0
    for row, start, stop in _runs(edges, *labels.shape):
        labels[row, start:stop] = label
        cells += stop - start
    return cells


@compiled
def _mean(values: npt.NDArray[np.uint8], edges: Edges) -> float:
    cells, total = 0, 0
    for row, start, stop in _runs(edges, *values.shape):
        for column in range(start, stop):
            total += values[row, column]
        cells += stop - start
    return total / cells if cells else np.nan


@compiled
def _runs(edges: Edges, rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Return the runs (row, start, stop) of cells inside: between crossings of edges and rows, in order along each row.

    Whatever the edges are, also not closed or not finite, runs lie within the grid.
    """
    count = 0
    for e in range(len(edges)):
        first, stop = _crossed_rows(edges[e], rows)
        count += max(stop - first, 0)
    crossings = np.empty(count, np.int64)
    count = 0
    for e in range(len(edges)):
        x0, y0, x1, y1 = edges[e]
        if y0 > y1:  # neighbours have the edge the other way round; both must round alike
            x0, y0, x1, y1 = x1, y1, x0, y0
        first, stop = _crossed_rows(edges[e], rows)
        for row in range(first, stop):
            column = _clamped(np.ceil(x0 + (row - y0) * (x1 - x0) / (y1 - y0)), columns)
            crossings[count] = row * (columns + 1) + column
            count += 1
    crossings.sort()
    runs = np.empty((count // 2, 3), np.int64)
    for i in range(count // 2):
        row, start = divmod(crossings[2 * i], columns + 1)
        runs[i, 0], runs[i, 1] = row, start
        runs[i, 2] = min(crossings[2 * i + 1] - row * (columns + 1), columns)
    return runs


@compiled
def _crossed_rows(edge: Edges, rows: int) -> tuple[int, int]:
    """Return the first row whose centre line an edge crosses, and the one behind the last."""
    top, bottom = min(edge[1], edge[3]), max(edge[1], edge[3])
    return _clamped(np.ceil(top), rows), _clamped(np.ceil(bottom), rows)


@compiled
def _clamped(value: float, largest: int) -> int:
    """Return a whole number as one of 0…largest; what is no number is 0."""
    if not value > 0:
        return 0
    return int(value) if value < largest else largest
