"""Small regions of a label map join their neighbours, small holes are filled, as the map grows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.sieve.regions import (
    COMPONENT,
    COMPONENTS,
    FIRST_TURN,
    RUN,
    RUNS,
    TURNS,
    carry_over,
    end_map,
    take_rows,
)
from dualproto_wsi.vector.sieve.settle import final_rows, settle, write_rows

Labels = npt.NDArray[np.uint8]
CELLS_AT_ONCE = 1 << 19  # bounds what a part of a band takes in memory, whatever its labels
LARGEST_LIMIT = 1 << 28  # cells; larger limits mean the same on any slide that can be held


class LabelSieve:
    """Fill small holes of a label map, then let small regions of its classes join their neighbours.

    Regions are 4-connected sets of cells of one label; classes are all labels but 0. A common border is counted in
    cells' edges, and summed over all neighbours of a label.

    1. A piece of label 0 with fewer than `max_hole_cells` cells that does not touch the edge of the map takes the
       class with the longest common border.
    2. In what that leaves, regions of a class with at least `min_cells` cells are kept, whole. The others take turns,
       in the order of their last cells (lowest row, then leftmost in it). At its turn, a region still undecided

       a. takes the class with the longest common border among its decided neighbours (kept ones, and those decided
          before); where it has none,
       b. it and all its neighbours become one region, which is decided if it has at least `min_cells` cells now: it
          takes the class that most of them had. If not, the turns of its other members are its turns too;
       c. without neighbours of a class it becomes 0.

    Of equal classes the lower label wins. Afterwards no region of a class has fewer than `min_cells` cells, every
    cell of a kept region has its label, and no enclosed piece of label 0 has fewer than `max_hole_cells` cells. The
    result does not depend on how the rows are cut into bands.

    Parameters
    ----------
    columns : int
        Width of the map, cells.
    min_cells : int
        Least size of a region of a class, cells; 0 and 1 keep all.
    max_hole_cells : int
        Enclosed pieces of label 0 that are smaller are filled, cells; 0 and 1 fill none.

    Notes
    -----
    A row is handed out once all its regions are decided. Large regions are as soon as they have `min_cells` cells, so
    only small ones and their neighbours hold rows back: at the very most 3 · `min_cells` + `max_hole_cells` rows (a
    line of single cells), in practice a few times the square roots, and up to `CELLS_AT_ONCE` / `columns` rows of
    the band. Memory: 60 bytes for each run of equal cells in the rows held and in `CELLS_AT_ONCE` cells of the band,
    in each of the two steps (noise of single cells: 60 bytes a cell, blobs: 2 to 10); it does not grow with the map's
    height.
    """

    def __init__(self, columns: int, min_cells: int, max_hole_cells: int) -> None:
        if min(columns, min_cells, max_hole_cells) < 0:
            raise ValueError(
                f"a sieve cannot have {columns} columns, min_cells {min_cells} and max_hole_cells {max_hole_cells}; "
                "use 0 or more"
            )
        self.columns = columns
        limits = ((max_hole_cells, True), (min_cells, False))
        self._passes = [_Pass(columns, min(least, LARGEST_LIMIT), holes) for least, holes in limits if least > 1]
        self._finished = False

    @property
    def delayed(self) -> int:
        """Rows taken in but not handed out."""
        return sum(step.delayed for step in self._passes)

    @property
    def nbytes(self) -> int:
        """Bytes held between two calls."""
        return sum(step.nbytes for step in self._passes)

    def feed(self, labels: Labels) -> Labels:
        """Take the next rows and return those that are final now.

        Parameters
        ----------
        labels : ndarray of uint8, (n, columns)
            The rows below those taken before.

        Returns
        -------
        ndarray of uint8, (m, columns)
            The rows below those returned before; m may be 0.

        Raises
        ------
        ValueError
            If the array's type or width is wrong, or the map was finished.
        """
        if self._finished:
            raise ValueError("the label map was finished; start a new sieve")
        if labels.dtype != np.uint8 or labels.ndim != 2 or labels.shape[1] != self.columns:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}; this sieve takes uint8 (n, {self.columns})")
        for step in self._passes:
            labels = step.feed(labels)
        return labels

    def finish(self) -> Labels:
        """End the map and return the rows that are left.

        Raises
        ------
        ValueError
            If the map was finished before.
        """
        labels = self.feed(np.empty((0, self.columns), np.uint8))
        self._finished = True
        for step in self._passes:
            labels = np.concatenate((step.feed(labels), step.finish()))
        return labels


class _Pass:
    """Settle the small regions of label 0 (`holes`), or those of all other labels.

    `shown` of the rows held are handed out already; the last of them stays, as the row below it needs its labels.
    """

    def __init__(self, columns: int, least: int, holes: bool) -> None:
        self.columns, self.least, self.holes = columns, least, holes
        self.row, self.shown = 0, 0
        self.firsts = np.zeros(1, np.int32)
        self.runs, self.components = np.empty(0, RUN), np.empty(0, COMPONENT)
        self.turns = np.empty(0, np.int32)
        self.counts = np.zeros(4, np.int64)

    @property
    def held(self) -> int:
        return len(self.firsts) - 1

    @property
    def delayed(self) -> int:
        return self.held - self.shown

    @property
    def nbytes(self) -> int:
        return self.runs.nbytes + self.components.nbytes + self.turns.nbytes + self.firsts.nbytes

    def feed(self, labels: Labels) -> Labels:
        """Take rows and return those that are final."""
        rows = max(1, CELLS_AT_ONCE // max(1, self.columns))
        parts = [self._take(np.ascontiguousarray(labels[i : i + rows])) for i in range(0, len(labels), rows)]
        return np.concatenate(parts) if parts else np.empty((0, self.columns), np.uint8)

    def finish(self) -> Labels:
        """Return the rows that are left."""
        if self.held:
            begin, end = self.firsts[-2:]
            end_map(
                *(self.row, self.least, self.holes, begin, end),
                *(self.runs, self.components, self.turns, self.counts),
            )
        return self._release()

    def _take(self, labels: Labels) -> Labels:
        changes = int(np.count_nonzero(labels[:, 1:] != labels[:, :-1]))
        held = self._make_room(len(labels), len(labels) + changes)
        take_rows(
            *(labels, self.row, self.least, self.holes, self.runs, self.firsts, held),
            *(self.components, self.turns, self.counts),
        )
        self.row += len(labels)
        return self._release()

    def _make_room(self, rows: int, runs: int) -> int:
        """Let go of rows that are not needed any more, make room for new ones and return how many are held."""
        held, counts = (self.runs, self.components, self.turns), self.counts
        gone = max(0, self.shown - 1)
        base = self.firsts[gone]
        self.firsts = np.concatenate((self.firsts[gone:] - base, np.zeros(rows, np.int32)))
        self.shown -= gone
        self.runs = np.empty(counts[RUNS] - base + runs, RUN)
        self.components = np.empty(min(counts[COMPONENTS], counts[RUNS] - base) + runs, COMPONENT)
        self.turns = np.empty(counts[TURNS] - counts[FIRST_TURN] + len(self.components), np.int32)
        carry_over(self.least, base, *held, counts, self.runs, self.components, self.turns)
        return self.held - rows

    def _release(self) -> Labels:
        """Settle what can be settled and return the rows that are final."""
        settle(self.columns, self.least, self.runs, self.components, self.turns, self.counts)
        final = final_rows(self.least, self.shown, self.held, self.runs, self.firsts, self.components)
        labels = np.empty((final - self.shown, self.columns), np.uint8)
        write_rows(self.shown, self.runs, self.firsts, self.components, labels)
        self.shown = final
        return labels
