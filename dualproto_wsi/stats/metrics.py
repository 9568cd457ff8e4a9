"""The confusion matrix and what follows from it. Undefined is NaN, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64] | NDArray[np.float64]
"""Confusion matrices, shape (…, C, C): ``counts[…, t, p]`` of truth t and prediction p."""

MEASURES = (
    "accuracy",
    "frequency_weighted_iou",
    "mean_iou",
    "mean_dice",
    "mean_precision",
    "mean_recall",
    "iou",
    "dice",
    "precision",
    "recall",
)
"""What :func:`measure` returns, by name; the last four a value a class."""


def measure(counts: Counts, foreground: int) -> dict[str, NDArray[np.float64]]:
    """Return all that follows from confusion matrices.

    Parameters
    ----------
    counts : ndarray, shape (…, C, C)
    foreground : int
        Means are over the first so many classes.

    Returns
    -------
    dict of str to ndarray of float64
        By the names of :data:`MEASURES`: of shape (…), or (…, C) for those of each class. Undefined is NaN: the IoU and
        the Dice of a class neither true nor predicted, the recall of one without truth, the precision of one never
        predicted, and every mean over one of these.

    Notes
    -----
    The frequency-weighted IoU (Long et al., CVPR 2015) weighs the IoU of each class by its share of the truth, over
    all C classes.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    true, predicted, total = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    each = {
        "iou": _ratio(hits, true + predicted - hits),
        "dice": _ratio(2 * hits, true + predicted),
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, true),
    }
    means = {f"mean_{name}": _mean(values[..., :foreground]) for name, values in each.items()}
    weighed = np.where(true > 0, true * each["iou"], 0.0).sum(-1)
    overall = {"accuracy": _ratio(hits.sum(-1), total), "frequency_weighted_iou": _ratio(weighed, total)}
    found = overall | means | each
    return {name: found[name] for name in MEASURES}


class ConfusionMatrix:
    """Counts of (truth, prediction), pooled over everything that is added.

    Parameters
    ----------
    names : sequence of str
        The C classes, in order.
    foreground : int or None
        Means are over the first so many, where the last ones are no tissue, such as background; None: over all.

    Attributes
    ----------
    counts : ndarray of int64, shape (C, C)
        ``counts[t, p]``: truth t, prediction p.
    """

    def __init__(self, names: Sequence[str], foreground: int | None = None) -> None:
        self.names = tuple(names)
        self.foreground = len(self.names) if foreground is None else foreground
        self.counts = np.zeros((len(self.names), len(self.names)), dtype=np.int64)

    def add(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        """Count pairs.

        Parameters
        ----------
        truth, prediction : array_like of int, one shape
            0…C-1.

        Raises
        ------
        ValueError
            If the shapes differ or a value is outside 0…C-1.
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
        return float(self._measure("accuracy"))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Share of each true class that was found; NaN for a class without truth."""
        return self._measure("recall")

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of each predicted class that is right; NaN for a class never predicted."""
        return self._measure("precision")

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each class; NaN for a class neither true nor predicted."""
        return self._measure("iou")

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient (F1) of each class; NaN for a class neither true nor predicted."""
        return self._measure("dice")

    @property
    def mean_iou(self) -> float:
        """Mean of :attr:`iou` over the foreground classes; NaN if one is undefined."""
        return float(self._measure("mean_iou"))

    @property
    def mean_dice(self) -> float:
        """Mean of :attr:`dice` over the foreground classes; NaN if one is undefined."""
        return float(self._measure("mean_dice"))

    def _measure(self, name: str) -> NDArray[np.float64]:
        return measure(self.counts, self.foreground)[name]

    def to_json(self) -> dict[str, Any]:
        """Return plain data; undefined is None, as JSON has no NaN."""
        found = measure(self.counts, self.foreground)
        told = {name: by_class(self.names, values) if values.ndim else plain(values) for name, values in found.items()}
        return {"total": self.total, **told, "counts": self.counts.tolist()}


def plain(value: ArrayLike, digits: int = 4) -> float | None:
    """Return a number rounded for JSON; None for NaN."""
    number = float(np.asarray(value))
    return None if np.isnan(number) else round(number, digits)


def by_class(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    """Return values by the name of their class, for JSON."""
    return {name: plain(value) for name, value in zip(names, values, strict=True)}


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    over, under = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    out = np.full(over.shape, np.nan)
    np.divide(over, under, out=out, where=under > 0)
    return out


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values.mean(-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan))
