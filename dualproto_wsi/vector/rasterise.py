"""Polygons → label map, the inverse of the tracer; for checks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.compiled import compiled
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
    cells = []
    origin = np.array([grid.x, grid.y])
    for region in regions:
        rings = [(ring - origin) / grid.scale - 0.5 for ring in region.rings]  # cell centres at whole numbers
        edges = np.concatenate([np.hstack((ring[:-1], ring[1:])) for ring in rings])
        cells.append(_fill(labels, edges, region.tissue_class.id))
    return labels, np.array(cells, np.int64)


@compiled
def _fill(labels: npt.NDArray[np.uint8], edges: Edges, label: int) -> int:
    """Fill between the crossings of edges (x0, y0, x1, y1) and cell rows, in order along each row; count the cells."""
    rows, columns = labels.shape
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
            column = np.ceil(x0 + (row - y0) * (x1 - x0) / (y1 - y0))
            crossings[count] = row * (columns + 1) + int(min(max(column, 0), columns))
            count += 1
    crossings.sort()
    cells = 0
    for i in range(0, count, 2):
        row, start = divmod(crossings[i], columns + 1)
        stop = crossings[i + 1] - row * (columns + 1)
        labels[row, start:stop] = label
        cells += stop - start
    return cells


@compiled
def _crossed_rows(edge: Edges, rows: int) -> tuple[int, int]:
    """Return the first row whose centre line an edge crosses, and the one behind the last."""
    top, bottom = min(edge[1], edge[3]), max(edge[1], edge[3])
    return int(max(np.ceil(top), 0)), int(min(np.ceil(bottom), rows))
