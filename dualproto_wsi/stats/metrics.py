"""The confusion matrix and what follows from it. Undefined is NaN, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ConfusionMatrix:
    """Counts of (truth, prediction), pooled over everything that is added.

    Parameters
    ----------
    names : sequence of str
        The K classes, in order.

    Attributes
    ----------
    counts : ndarray of int64, shape (K, K)
        ``counts[t, p]``: truth t, prediction p.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)

    def add(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        """Count pairs.

        Parameters
        ----------
        truth, prediction : array_like of int, one shape
            0…K-1.

        Raises
        ------
        ValueError
            If the shapes differ or a value is outside 0…K-1.
        """
        true, predicted = np.asarray(truth, dtype=np.int64), np.asarray(prediction, dtype=np.int64)
        if true.shape != predicted.shape:
            raise ValueError(f"truth is {true.shape} and prediction {predicted.shape}; they must have one shape")
        size = len(self.names)
        for word, values in (("truth", true), ("prediction", predicted)):
            if values.size and not 0 <= values.min() <= values.max() < size:
                raise ValueError(f"{word} holds {values.min()}…{values.max()}; classes are 0…{size - 1}")
        flat = np.bincount((true * size + predicted).ravel(), minlength=size * size)
        self.counts += flat.reshape(size, size)

    @property
    def total(self) -> int:
        """How many pairs were counted."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of pairs on the diagonal; NaN if nothing was counted."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each true class that was found; NaN for a class without truth."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of each predicted class that is right; NaN for a class never predicted."""
        return _ratio(np.diag(self.counts), self.counts.sum(0))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class; NaN for a class neither true nor predicted."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient (F1) of each class; NaN for a class neither true nor predicted."""
        return _ratio(2 * np.diag(self.counts), self.counts.sum(0) + self.counts.sum(1))

    @property
    def mean_iou(self) -> float:
        """Mean of :attr:`iou` over all K classes; NaN if one is undefined."""
        return float(self.iou.mean()) if self.names else float("nan")

    @property
    def mean_dice(self) -> float:
        """Mean of :attr:`dice` over all K classes; NaN if one is undefined."""
        return float(self.dice.mean()) if self.names else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None, as JSON has no NaN."""
        return {
            "total": self.total,
            "accuracy": _plain(self.accuracy),
            "mean_iou": _plain(self.mean_iou),
            "iou": {name: _plain(value) for name, value in zip(self.names, self.iou, strict=True)},
            "dice": {name: _plain(value) for name, value in zip(self.names, self.dice, strict=True)},
            "counts": self.counts.tolist(),
        }


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    over, under = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(over.shape, np.nan)
    np.divide(over, under, out=out, where=under > 0)
    return out


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
