"""Overlapping windows of scores → one seam-free map, row by row, in the memory of the open rows alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dualproto_wsi.compiled import compiled

FLOOR = 1e-3
"""Weight at a window's border relative to its middle; above zero, so that one window alone covers all its cells."""


def window_weights(cells: int) -> npt.NDArray[np.float32]:
    """Return the weights along one side of a window: a squared sine on a small floor.

    Parameters
    ----------
    cells : int
        Side of the window, grid cells.

    Returns
    -------
    ndarray of float32, (cells,)
        Symmetric, above 0 and at most 1; a cell's weight is the product of its row's and its column's.
    """
    sine = np.sin(np.pi * (np.arange(cells) + 0.5) / cells)
    return (FLOOR + (1 - FLOOR) * sine * sine).astype(np.float32)


class ScoreMosaic:
    """Blend of overlapping score windows: sum of weight times score, divided by the sum of weights.

    The blend is kept as a running weighted mean, so scores that are equal in all windows stay exactly what they are.

    Parameters
    ----------
    columns, rows : int
        Size of the label grid, cells.
    classes : int
        Number of score planes, K.
    window_cells : int
        Side of a window, cells.

    Notes
    -----
    Memory is (K + 1) float32 planes of the rows between the last one released and the lowest one added to.
    """

    def __init__(self, columns: int, rows: int, classes: int, window_cells: int) -> None:
        if min(columns, rows) < 0 or min(classes, window_cells) < 1:
            raise ValueError(
                f"a mosaic cannot have {columns} columns, {rows} rows, {classes} classes, {window_cells}-cell windows"
            )
        self.columns, self.rows, self.classes, self.window_cells = columns, rows, classes, window_cells
        self._side = window_weights(window_cells)
        self._released = 0
        self._end = 0  # one past the lowest row added to
        # Row r of the grid lies at index r modulo the length.
        self._mean = np.zeros((0, classes, columns), np.float32)
        self._weight = np.zeros((0, columns), np.float32)
        self._span = np.zeros((0, 2), np.int64)  # first column added to, and one past the last

    @property
    def released(self) -> int:
        """Number of rows released so far; the next release starts with this row."""
        return self._released

    @property
    def nbytes(self) -> int:
        """Memory of the open rows, bytes."""
        return self._mean.nbytes + self._weight.nbytes

    def add(self, row: int, column: int, scores: npt.NDArray[np.float32]) -> None:
        """Blend in one window; what lies outside the grid is dropped.

        Parameters
        ----------
        row, column : int
            Grid cell of the window's top left; may be negative.
        scores : ndarray of float32, (K, window_cells, window_cells)
            Scores of the window, e.g. logits.

        Raises
        ------
        ValueError
            If the scores have another shape, or the window covers a row that was already released.
        """
        shape = (self.classes, self.window_cells, self.window_cells)
        if scores.shape != shape:
            raise ValueError(f"scores have the shape {scores.shape}; this mosaic takes {shape}")
        first, stop = max(row, 0), min(row + self.window_cells, self.rows)
        left, right = max(column, 0), min(column + self.window_cells, self.columns)
        if first >= stop or left >= right:
            return
        if first < self._released:
            raise ValueError(f"window at row {row} covers row {first}, but rows before {self._released} are released")
        self._reserve(stop)
        part = np.ascontiguousarray(scores[:, first - row : stop - row, left - column : right - column], np.float32)
        vertical, horizontal = self._side[first - row : stop - row], self._side[left - column : right - column]
        _blend(self._mean, self._weight, self._span, part, vertical, horizontal, first, left)

    def release(self, until_row: int) -> tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Hand out the finished rows above `until_row` and forget them.

        Parameters
        ----------
        until_row : int
            First row that is not finished yet; at most the number of rows counts.

        Returns
        -------
        first_row : int
            Grid row of the first row returned.
        scores : ndarray of float32, (K, n, columns)
            Blended scores; 0 where no window was. n is 0 where nothing new is finished.
        covered : ndarray of bool, (n, columns)
            Where at least one window was.
        """
        first = self._released
        stop = max(first, min(until_row, self.rows))
        scores = np.zeros((self.classes, stop - first, self.columns), np.float32)
        covered = np.zeros((stop - first, self.columns), np.bool_)
        if self._end > first:
            _take(self._mean, self._weight, self._span, scores, covered, first, min(stop, self._end))
        self._released = stop
        return first, scores, covered

    def _reserve(self, stop: int) -> None:
        """Make room for the rows up to `stop`."""
        first, held = self._released, len(self._mean)
        if stop - first > held:
            length = -(-(stop - first) // self.window_cells) * self.window_cells
            mean = np.zeros((length, self.classes, self.columns), np.float32)
            weight = np.zeros((length, self.columns), np.float32)
            span = _no_span(length, self.columns)
            for row in range(first, self._end):
                new, old = row % length, row % held
                mean[new], weight[new], span[new] = self._mean[old], self._weight[old], self._span[old]
            self._mean, self._weight, self._span = mean, weight, span
        self._end = max(self._end, stop)


def _no_span(rows: int, columns: int) -> npt.NDArray[np.int64]:
    """Return the spans of rows that nothing was added to, (rows, 2)."""
    return np.tile(np.array([columns, 0], np.int64), (rows, 1))


class ColourMosaic:
    """The colours of cells, from overlapping pieces; of a cell given twice, the later colour counts.

    Parameters
    ----------
    columns, rows : int
        Size of the label grid, cells.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._first = 0
        self._open = np.zeros((0, columns, 3), np.uint8)

    def add(self, row: int, column: int, colours: npt.NDArray[np.uint8]) -> None:
        """Set the colours, uint8 (h, w, 3), of cells from (row, column) on; what lies outside is dropped."""
        stop = min(row + len(colours), self.rows)
        missing = stop - self._first - len(self._open)
        if missing > 0:
            self._open = np.concatenate((self._open, np.zeros((missing, self.columns, 3), np.uint8)))
        skipped = max(self._first - row, 0)
        part = colours[skipped : max(stop - row, 0), : self.columns - column]
        self._open[row + skipped - self._first :][: len(part), column : column + part.shape[1]] = part

    def release(self, until_row: int) -> npt.NDArray[np.uint8]:
        """Hand out the rows above `until_row` and forget them: uint8 (n, columns, 3), black where nothing was given."""
        count = until_row - self._first
        rows = self._open[:count]
        if len(rows) < count:
            rows = np.concatenate((rows, np.zeros((count - len(rows), self.columns, 3), np.uint8)))
        self._open, self._first = self._open[count:].copy(), until_row
        return rows


@compiled
def _blend(
    mean: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    span: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    vertical: npt.NDArray[np.float32],
    horizontal: npt.NDArray[np.float32],
    first: int,
    left: int,
) -> None:
    """Move the running means towards the scores of one window by its share of the weight."""
    classes, rows, columns = scores.shape
    share = np.empty(columns, np.float32)
    for i in range(rows):
        row = (first + i) % len(mean)
        span[row, 0], span[row, 1] = min(span[row, 0], left), max(span[row, 1], left + columns)
        total = weight[row, left : left + columns]
        for j in range(columns):
            added = vertical[i] * horizontal[j]
            total[j] += added
            share[j] = added / total[j]
        for k in range(classes):
            target, source = mean[row, k, left : left + columns], scores[k, i]
            for j in range(columns):
                target[j] += (source[j] - target[j]) * share[j]


@compiled
def _take(
    mean: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float32],
    span: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    covered: npt.NDArray[np.bool_],
    first: int,
    stop: int,
) -> None:
    """Copy rows out and clear their places; only the columns that were added to are touched."""
    classes, columns = mean.shape[1:]
    for row in range(first, stop):
        place = row % len(mean)
        left, right = span[place]
        for j in range(left, right):
            covered[row - first, j] = weight[place, j] > 0
            weight[place, j] = 0
        for k in range(classes):
            target, source = scores[k, row - first], mean[place, k]
            for j in range(left, right):
                target[j] = source[j]
                source[j] = 0
        span[place, 0], span[place, 1] = columns, 0
