"""Label map → polygons that tile the plane exactly, traced row by row as the map grows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.rings import extract
from dualproto_wsi.vector.sweep import sweep
from dualproto_wsi.vector.trace_state import (
    BLOCKS,
    DONE,
    ENDS,
    UNUSED,
    more_blocks,
    more_components,
    more_ends,
    new_state,
)


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
    Memory: a few values per column, and 8 bytes and a little more per vertex of regions that are not complete yet.
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

    def _sweep(self, labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]) -> list[TracedRegion]:
        regions: list[TracedRegion] = []
        done = 0
        while done < len(labels):
            begin = done
            done = sweep(labels, probabilities, begin, self._row, *self._state)
            self._row += done - begin
            regions.extend(self._complete())
            if done < len(labels):
                self._grow(done == begin)
        return regions

    def _grow(self, stuck: bool) -> None:
        """Make room where less than a quarter is unused, or everywhere if not even one row fits."""
        state = self._state
        if stuck or state.counts[BLOCKS] < len(state.blocks) // 4:
            state = more_blocks(state, max(1024, len(state.blocks) * 3 // 2))
        if stuck or state.counts[ENDS] < len(state.ends) // 4:
            state = more_ends(state, max(1024, len(state.ends) * 3 // 2))
        if stuck or state.counts[UNUSED] < len(state.components) // 4:
            state = more_components(state, max(1024, len(state.components) * 3 // 2))
        self._state = state

    def _complete(self) -> Iterator[TracedRegion]:
        """Hand out the complete components and forget them."""
        state = self._state
        numbers = state.lists[DONE, : state.counts[DONE]].copy()
        if not len(numbers):
            return
        found, sums = state.components[numbers], state.sums[numbers]
        vertices, bounds, region_stop = extract(state.blocks, state.ends, state.components, state.lists, state.counts)
        xy = vertices.view(np.int32).reshape(-1, 2)[:, :: 1 if sys.byteorder == "little" else -1]
        xy[:, 0] >>= 1
        rings = [xy[start:stop] for start, stop in zip(*bounds.T.tolist(), strict=True)]
        begins, stops = [0, *region_stop.tolist()], region_stop.tolist()
        labels, cells, firsts = (found[name].tolist() for name in ("label", "cells", "first"))
        for i in np.lexsort((found["first"], found["done_row"])).tolist():
            row, column = divmod(firsts[i], self.columns)
            yield TracedRegion(labels[i], row, column, cells[i], sums[i], rings[begins[i] : stops[i]])
