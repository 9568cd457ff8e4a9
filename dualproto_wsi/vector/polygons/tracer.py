"""Label map → polygons that tile the plane exactly, traced row by row as the map grows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.polygons.rings import extract
from dualproto_wsi.vector.polygons.simplify import SIDE
from dualproto_wsi.vector.polygons.state import DONE, RUN_SUM, Float64, UInt8, grow, new_state
from dualproto_wsi.vector.polygons.strip import Strip
from dualproto_wsi.vector.polygons.sweep import sum_runs, sweep

MOST_CELLS = 8.0
"""Beyond this, simplification gains nothing: edges reach no farther than 32 columns and rows."""


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
    simplify_cells : float
        How far borders may move to have fewer vertices, cells; 0: not at all. Below 0.71 nothing changes. All
        regions at a border get the same simplified one, so there are still no gaps or overlaps; all regions stay,
        with as many holes (see ``simplify.py``). Cells and probability sums are those of the map.

    Notes
    -----
    Memory: a few values per column, and one to two bytes per vertex of regions that are not complete yet. For
    simplification some hundred rows of labels wait, and the probability sums of their runs.
    """

    def __init__(self, columns: int, classes: int, simplify_cells: float = 0.0, *, _side: int = SIDE) -> None:
        if columns < 0 or classes < 0:
            raise ValueError(f"a label map cannot have {columns} columns and {classes} classes")
        if not 0 <= simplify_cells <= MOST_CELLS:
            raise ValueError(f"borders cannot be simplified by {simplify_cells} cells; take 0 to {MOST_CELLS}")
        self.columns, self.classes = columns, classes
        self._row = 0
        self._finished = False
        self._state = new_state(columns, classes)
        self._strip = Strip(columns, classes, simplify_cells, _side) if simplify_cells > 0 else None

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        return sum(array.nbytes for array in self._state) + (self._strip.nbytes if self._strip else 0)

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
            With simplification they come later, but in the same order.

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
        labels, probabilities = np.ascontiguousarray(labels), np.ascontiguousarray(probabilities)
        if self._strip is None:
            sums = sum_runs(labels, probabilities, 0, len(labels))
            return self._sweep(labels, sums, np.empty((len(labels), 0), np.uint8))
        regions: list[TracedRegion] = []
        done = 0
        while done < len(labels):
            done = self._strip.take(labels, probabilities, done)
            if self._strip.full:
                regions += self._sweep(*self._strip.release())
        return regions

    def finish(self) -> list[TracedRegion]:
        """End the map and return the regions that were still open, ordered as in :meth:`feed`.

        Raises
        ------
        ValueError
            If the map was finished before.
        """
        below = np.zeros((1, self.columns), np.uint8)
        regions = self.feed(below, np.zeros((self.classes, *below.shape), np.float32))
        if self._strip is not None and self._strip.rows:
            regions += self._sweep(*self._strip.release())
        self._finished = True
        return regions

    def _sweep(self, labels: UInt8, run_sums: Float64, kept: UInt8) -> list[TracedRegion]:
        regions: list[TracedRegion] = []
        done = 0
        self._state.counts[RUN_SUM] = 0
        while done < len(labels):
            begin = done
            done = sweep(labels, run_sums, kept, begin, self._row, *self._state)
            self._row += done - begin
            regions.extend(self._complete())
            if done < len(labels):
                self._state = grow(self._state)
        return regions

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
