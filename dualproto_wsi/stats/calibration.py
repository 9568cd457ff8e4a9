"""How far probabilities can be believed. Undefined is NaN, never 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15

_LEAST = 1e-12  # probability whose logarithm is taken, so that one wrong certainty leaves the mean finite


class CalibrationTally:
    """Collects probabilities and the truth, cell by cell, in bins of confidence.

    Parameters
    ----------
    bins : int
        Of equal width, over 0…1.

    Attributes
    ----------
    weight, confidence, right : ndarray of float64, shape (bins,)
        Number of labelled places, the sum of their best probabilities, and how many have the class of it.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.weight, self.confidence, self.right = np.zeros((3, bins))
        self._log_loss = self._squares = 0.0

    def add(self, probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> None:
        """Count labelled places.

        Parameters
        ----------
        probabilities : ndarray of float, shape (K, n)
            Of each cell; sums to 1 over the classes.
        truth : ndarray of int, shape (K, n)
            How many labelled places of each class the cell holds.
        """
        best, found = probabilities.max(0), probabilities.argmax(0)
        places = truth.sum(0)
        bins = len(self.weight)
        index = np.minimum((best * bins).astype(np.int64), bins - 1)
        self.weight += np.bincount(index, places, bins)
        self.confidence += np.bincount(index, places * best, bins)
        self.right += np.bincount(index, np.take_along_axis(truth, found[None], 0)[0], bins)
        self._log_loss -= float((truth * np.log(np.maximum(probabilities, _LEAST))).sum())
        # Σ_j (p_j - y_j)² = Σ_j p_j² - 2 p_true + 1
        own = (truth * probabilities).sum()
        self._squares += float((places * np.square(probabilities).sum(0)).sum() - 2 * own + places.sum())

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the bins (Naeini et al., AAAI 2015); NaN without a place."""
        total = self.weight.sum()
        return float(np.abs(self.confidence - self.right).sum() / total) if total else float("nan")

    @property
    def log_loss(self) -> float:
        """Mean negative logarithm of the true class's probability, nats; NaN without a place."""
        total = self.weight.sum()
        return float(self._log_loss / total) if total else float("nan")

    @property
    def brier(self) -> float:
        """Mean squared distance of the probabilities to certainty of the truth, 0…2 (Brier, 1950); NaN without one."""
        total = self.weight.sum()
        return float(self._squares / total) if total else float("nan")
