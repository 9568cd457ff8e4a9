"""Label map → squares with the share and score of each class, for a heat map in QuPath."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, ClassScheme
from dualproto_wsi.compiled import compiled
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.region import Region, region_id, share_name

ANALYSED = "DualProto share analysed"
"""Measurement, 0…1: part of the square that was analysed."""

DECIMALS = 4
"""Of shares and scores. QuPath keeps them as float32, and files stay small."""


def score_name(class_name: str) -> str:
    """Return the name of the measurement "mean probability of a class over the analysed cells", 0…1."""
    return f"DualProto {class_name} score"


class SquareTally:
    """Sum a label map up in squares, band by band.

    The grid is cut into squares from its top left on; those at the right and lower edge may be smaller. A square with
    at least one analysed cell becomes a region of the class that most of its analysed cells have, of the lowest id
    among equals; "unsure" comes last. Its measurements are, for each class, the share of the analysed cells
    (:func:`~dualproto_wsi.vector.region.share_name`) and the mean probability over them (:func:`score_name`), and
    :data:`ANALYSED`. What comes out does not depend on how the rows are cut into bands.

    Parameters
    ----------
    grid : LabelGrid
        Where the label map lies.
    classes : ClassScheme
        Classes by label.
    square_cells : int
        Side of a square, cells; 1 or more.
    *namespace : str
        Goes into the ids; see :func:`~dualproto_wsi.vector.region.region_id`.
    unsure : bool
        Whether cells may be unsure; if so, they have a share too.

    Notes
    -----
    Memory: one row of squares.
    """

    def __init__(
        self, grid: LabelGrid, classes: ClassScheme, square_cells: int, *namespace: str, unsure: bool = False
    ) -> None:
        if square_cells < 1:
            raise ValueError(f"squares of {square_cells} cells; use 1 or more")
        self._grid, self._classes, self._side = grid, classes, square_cells
        self._namespace = (*namespace, f"squares of {square_cells}")
        self._row = 0
        self._kinds = [*classes, classes.by_id(UNSURE)] if unsure else list(classes)
        kinds, self._squares = len(self._kinds), -(-grid.columns // square_cells)
        self._names = [
            *(share_name(kind.name) for kind in self._kinds),
            *(score_name(c.name) for c in classes),
            ANALYSED,
        ]
        self._index = np.full(256, -1, np.int64)  # of a label among the kinds
        self._index[[kind.id for kind in self._kinds]] = np.arange(kinds)
        self._counts = np.zeros((self._squares, kinds), np.int64)
        self._sums = np.zeros((len(classes), self._squares), np.float64)

    def add(self, labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]) -> list[Region]:
        """Add the next rows of the map.

        Parameters
        ----------
        labels : ndarray of uint8, (n, columns)
            Labels of the cells.
        probabilities : ndarray of float32, (K, n, columns)
            Class probabilities of the cells; those of cells that were not analysed do not count.

        Returns
        -------
        list of Region
            Squares complete by these rows, row by row from left to right.

        Raises
        ------
        ValueError
            If an array has another shape or type, there are more rows than the grid has, or a label is no class.
        """
        rows, columns = self._grid.shape
        if labels.dtype != np.uint8 or labels.shape[1:] != (columns,) or self._row + len(labels) > rows:
            raise ValueError(
                f"labels are {labels.dtype} {labels.shape}; the grid takes uint8 (n, {columns}), "
                f"{rows - self._row} rows more"
            )
        if probabilities.dtype != np.float32 or probabilities.shape != (len(self._classes), *labels.shape):
            raise ValueError(
                f"probabilities are {probabilities.dtype} {probabilities.shape}; "
                f"these labels need float32 {(len(self._classes), *labels.shape)}"
            )
        labels = np.ascontiguousarray(labels)
        regions: list[Region] = []
        done = 0
        while done < len(labels):
            until = min(len(labels), done + self._side - self._row % self._side)
            part, scores = labels[done:until], np.ascontiguousarray(probabilities[:, done:until])
            unknown = _count(part, self._side, self._index, self._counts)
            if unknown:
                raise ValueError(f"label {unknown} is no class of the map")
            _add(part, scores, self._side, self._sums)
            self._row += until - done
            done = until
            if self._row % self._side == 0 or self._row == rows:
                regions.extend(self._complete())
        return regions

    def _complete(self) -> Iterator[Region]:
        """Hand out the row of squares and start the next one."""
        numbers = np.flatnonzero(self._counts.any(axis=1))
        counts, sums = self._counts[numbers], self._sums[:, numbers]
        analysed = counts.sum(axis=1, keepdims=True)
        columns = np.minimum(np.stack((numbers, numbers + 1)) * self._side, self._grid.columns)
        first_row = (self._row - 1) // self._side * self._side
        cells = (columns[1] - columns[0]) * (self._row - first_row)
        values = np.hstack((counts / analysed, sums.T / analysed, analysed / cells[:, None]))
        (left, right), scale = self._grid.x + columns * self._grid.scale, self._grid.scale
        top, bottom = (np.full(len(numbers), self._grid.y + row * scale) for row in (first_row, self._row))
        rings = np.stack((left, top, right, top, right, bottom, left, bottom, left, top), axis=1).reshape(-1, 5, 2)
        for column, kind, ring, numerals in zip(
            columns[0].tolist(),
            counts.argmax(axis=1).tolist(),
            rings,
            np.round(values, DECIMALS).tolist(),
            strict=True,
        ):
            yield Region(
                region_id(*self._namespace, label=0, row=first_row, column=column),
                self._kinds[kind],
                ((ring,),),
                dict(zip(self._names, numerals, strict=True)),
            )
        self._counts[:], self._sums[:] = 0, 0


@compiled
def _count(
    labels: npt.NDArray[np.uint8], side: int, index: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> int:
    """Count the cells of each kind in the squares of a row; return a label that is of no kind, or 0."""
    for row in range(len(labels)):
        for square in range(len(counts)):
            for label in labels[row, square * side : (square + 1) * side]:
                if label != NOT_ANALYSED:
                    if index[label] < 0:
                        return int(label)
                    counts[square, index[label]] += 1
    return 0


@compiled
def _add(
    labels: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32], side: int, sums: npt.NDArray[np.float64]
) -> None:
    """Add the probabilities of analysed cells to the squares of a row, cell by cell: bands must not change the sum."""
    for k in range(len(probabilities)):
        for row in range(len(labels)):
            for square in range(sums.shape[1]):
                total = sums[k, square]
                for column in range(square * side, min((square + 1) * side, labels.shape[1])):
                    if labels[row, column] != NOT_ANALYSED:
                        total += probabilities[k, row, column]
                sums[k, square] = total
