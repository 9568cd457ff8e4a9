"""Label map → polygons that tile the plane exactly, traced row by row as the map grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.rings import extract
from dualproto_wsi.vector.sweep import sweep
from dualproto_wsi.vector.trace_state import DONE, FREE_NODES, UNUSED, more_components, more_nodes, new_state


@dataclass(frozen=True, slots=True, eq=False)
class TracedRegion:
    """A 4-connected region of one label.

    Parameters
    ----------
    label : int
        Value in the label map, 1…255.
    row, column : int
        Its first cell: the topmost, then leftmost one.
    cells : int
        Number of cells.
    probability_sums : ndarray of float64, (K,)
        Sum of each class's probability over the cells.
    rings : list of ndarray of int32, (n, 2)
        Closed rings (first vertex = last) of grid vertices (x = column, y = row): the shell, then the holes by their
        first vertex. Each starts at its topmost, then leftmost vertex. On a screen (y down) the shell runs
        clockwise and holes run counter-clockwise. A ring is simple; rings of a region touch in single points at most.
    """

    label: int
    row: int
    column: int
    cells: int
    probability_sums: npt.NDArray[np.float64]
    rings: list[npt.NDArray[np.int32]]


class RegionTracer:
    """Trace the regions of a label map that comes band by band.

    Rings follow the cells' edges: filling all polygons gives back the map, without gaps or overlaps. Vertices in the
    middle of a straight line are left out, except where three or more edges meet; neighbours have all their common
    vertices. What comes out, and in which order, does not depend on how the rows are cut into bands.

    Parameters
    ----------
    columns : int
        Width of the map, cells.
    classes : int
        Number of probability planes, K; 0 for a map without probabilities.

    Notes
    -----
    Memory: a few values per column, and 16 bytes per vertex of regions that are not complete yet.
    """

    def __init__(self, columns: int, classes: int) -> None:
        if columns < 0 or classes < 0:
            raise ValueError(f"a label map cannot have {columns} columns and {classes} classes")
        self.columns, self.classes = columns, classes
        self._row = 0
        self._finished = False
        self._state = new_state(columns, classes)

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        return sum(array.nbytes for array in self._state)

    def feed(
        self, labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32] | None = None
    ) -> list[TracedRegion]:
        """Add the next rows of the map.

        Parameters
        ----------
        labels : ndarray of uint8, (n, columns)
            Labels; 0 is not analysed and gives no region.
        probabilities : ndarray of float32, (K, n, columns), optional
            Class probabilities of the cells; only needed where `classes` is above 0.

        Returns
        -------
        list of TracedRegion
            Regions found complete by these rows, ordered by the row that completed them, then by their first cell.

        Raises
        ------
        ValueError
            If an array has another shape or type, or the map was finished before.
        """
        if self._finished:
            raise ValueError("the map is finished; use a new tracer for another one")
        if probabilities is None:
            probabilities = np.zeros((0, *labels.shape), np.float32)
        if labels.dtype != np.uint8 or labels.ndim != 2 or labels.shape[1] != self.columns:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}; this tracer takes uint8 (n, {self.columns})")
        if probabilities.dtype != np.float32 or probabilities.shape != (self.classes, *labels.shape):
            raise ValueError(
                f"probabilities are {probabilities.dtype} {probabilities.shape}; "
                f"these labels need float32 {(self.classes, *labels.shape)}"
            )
        return self._sweep(np.ascontiguousarray(labels), np.ascontiguousarray(probabilities))

    def finish(self) -> list[TracedRegion]:
        """End the map and return the regions that were still open, ordered as in :meth:`feed`.

        Raises
        ------
        ValueError
            If the map was finished before.
        """
        below = np.zeros((1, self.columns), np.uint8)
        regions = self.feed(below, np.zeros((self.classes, *below.shape), np.float32))
        self._finished = True
        return regions

    def _sweep(
        self, labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
    ) -> list[TracedRegion]:
        regions: list[TracedRegion] = []
        done = 0
        while done < len(labels):
            begin = done
            done = sweep(labels, probabilities, begin, self._row, *self._state)
            self._row += done - begin
            regions.extend(self._complete())
            self._grow()
        return regions

    def _grow(self) -> None:
        """Double what is more than half full, so that a row always fits."""
        counts, nodes, components = self._state.counts, len(self._state.nodes), len(self._state.components)
        if counts[FREE_NODES] < nodes // 2:
            self._state = more_nodes(self._state, 2 * nodes)
        if counts[UNUSED] < components // 2:
            self._state = more_components(self._state, 2 * components)

    def _complete(self) -> Iterator[TracedRegion]:
        """Hand out the complete components and forget them."""
        state = self._state
        numbers = state.lists[DONE, : state.counts[DONE]].copy()
        if not len(numbers):
            return
        found, sums = state.components[numbers], state.sums[numbers]
        order, vertices = np.lexsort((found["first"], found["done_row"])), int(found["vertices"].sum())
        xy = np.empty((vertices + vertices // 4, 2), np.int32)
        ring_stop, region_stop = np.empty(vertices // 4, np.int64), np.empty(len(numbers), np.int64)
        extract(state.nodes, state.components, state.lists, state.counts, self.columns, xy, ring_stop, region_stop)
        rings = np.split(xy, ring_stop[: region_stop[-1]])
        for i in order.tolist():
            label, cells, first = (int(found[name][i]) for name in ("label", "cells", "first"))
            begin = int(region_stop[i - 1]) if i else 0
            yield TracedRegion(label, *divmod(first, self.columns), cells, sums[i], rings[begin : region_stop[i]])
