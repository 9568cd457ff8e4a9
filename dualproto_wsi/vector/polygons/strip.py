"""The rows of a label map that have to wait for simplification."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.polygons.simplify import choose_vertices
from dualproto_wsi.vector.polygons.state import Float64, UInt8
from dualproto_wsi.vector.polygons.sweep import sum_runs


class Strip:
    """The rows of a label map that wait for their strip of squares to be complete.

    Parameters
    ----------
    columns, classes : int
        As of the tracer.
    tolerance : float
        In cells, above 0.
    side : int
        Rows of a strip, and of a square.
    """

    def __init__(self, columns: int, classes: int, tolerance: float, side: int) -> None:
        self._tolerance = tolerance
        self._labels = np.zeros((side + 1, columns), np.uint8)  # the first row is the last one of the strip before
        self._kept = np.empty((side, columns + 1), np.uint8)
        self._empty = np.empty((0, classes), np.float64)
        self._run_sums: list[Float64] = []
        self.rows = 0

    @property
    def nbytes(self) -> int:
        """Memory held, bytes."""
        return self._labels.nbytes + self._kept.nbytes + sum(sums.nbytes for sums in self._run_sums)

    @property
    def full(self) -> bool:
        """Whether the strip is complete."""
        return self.rows == len(self._kept)

    def take(self, labels: UInt8, probabilities: npt.NDArray[np.float32], begin: int) -> int:
        """Take rows from `begin` on until the strip is full; return the row to go on with."""
        stop = min(len(labels), begin + len(self._kept) - self.rows)
        self._labels[self.rows + 1 : self.rows + 1 + stop - begin] = labels[begin:stop]
        self._run_sums.append(sum_runs(labels, probabilities, begin, stop))
        self.rows += stop - begin
        return stop

    def release(self) -> tuple[UInt8, Float64, UInt8]:
        """Return labels, run sums and kept vertices of the rows for :func:`~dualproto_wsi.vector.polygons.sweep.sweep`.

        They hold until rows of the next strip are taken.
        """
        labels, kept = self._labels[: self.rows + 1], self._kept[: self.rows]
        choose_vertices(labels, self._tolerance, len(self._kept), kept)
        sums = np.concatenate((self._empty, *self._run_sums))
        self._labels[0] = labels[-1]
        self._run_sums, self.rows = [], 0
        return labels[1:], sums, kept
