"""Areas of classes, counted on the label map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, ClassScheme


class AreaTally:
    """Counts the cells of each label, band by band.

    Parameters
    ----------
    scheme : ClassScheme
        The classes that labels 1…K stand for.
    cell_mm2 : float
        Area of a cell, mm².
    """

    def __init__(self, scheme: ClassScheme, cell_mm2: float) -> None:
        self._scheme = scheme
        self._cell_mm2 = cell_mm2
        self.cells: NDArray[np.int64] = np.zeros(256, np.int64)

    def add(self, labels: NDArray[np.uint8]) -> None:
        """Count a band of the label map, (rows, columns) uint8."""
        self.cells += np.bincount(labels.ravel(), minlength=256)

    @property
    def analysed_mm2(self) -> float:
        """Area of everything that has a label other than "not analysed", mm²: the denominator of all fractions."""
        return float((self.cells.sum() - self.cells[NOT_ANALYSED]) * self._cell_mm2)

    @property
    def unsure_mm2(self) -> float:
        """Area of analysed tissue that has no confident class, mm²."""
        return float(self.cells[UNSURE] * self._cell_mm2)

    def mm2(self) -> dict[str, float]:
        """Area of each class, mm², by class name."""
        return {c.name: float(self.cells[c.id] * self._cell_mm2) for c in self._scheme}

    def fractions(self) -> dict[str, float]:
        """Share of each class in the analysed area, by class name; NaN where nothing was analysed."""
        analysed = self.analysed_mm2
        return {name: area / analysed if analysed else float("nan") for name, area in self.mm2().items()}
