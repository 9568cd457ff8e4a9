"""Blended logits → probabilities → labels, one pass each, and only where there is something to say."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE
from dualproto_wsi.compiled import compiled


def probabilities_of(logits: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the softmax over classes, in place of the logits.

    Parameters
    ----------
    logits : ndarray of float32, shape (K, rows, columns)
        Is overwritten.
    where : ndarray of bool, shape (rows, columns)
        Where scores are; elsewhere logits are 0, as a mosaic hands them out, and stay 0.

    Returns
    -------
    ndarray of float32, shape (K, rows, columns)
        `logits` itself; sums to 1 over the classes where scores are.
    """
    _softmax(logits, where)
    return logits


def label_cells(
    scores: npt.NDArray[np.float32],
    analysed: npt.NDArray[np.bool_],
    unsure_below: float = 0.0,
    probabilities: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.uint8]:
    """Give every analysed cell its best class.

    Parameters
    ----------
    scores : ndarray of float32, shape (K, rows, columns)
        The highest one names the class.
    analysed : ndarray of bool, shape (rows, columns)
    unsure_below : float
        Cells whose best probability is below this are :data:`~dualproto_wsi.classes.UNSURE`.
    probabilities : ndarray of float32, shape (K, rows, columns), optional
        What that is said of, where it is not the scores.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        Class ids 1…K (the lower one of equals), 255 for "unsure", 0 where not analysed.
    """
    labels = np.zeros(analysed.shape, np.uint8)
    probabilities = scores if probabilities is None else probabilities
    _label(scores, probabilities, analysed, np.float32(unsure_below), labels)
    return labels


def confidence_percent(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the best probability of every labelled cell in percent, uint8 (rows, columns); 0 where not analysed."""
    best: npt.NDArray[np.uint8] = np.rint(probabilities.max(axis=0) * 100).astype(np.uint8)
    best[labels == NOT_ANALYSED] = 0
    return best


@compiled
def _softmax(scores: npt.NDArray[np.float32], where: npt.NDArray[np.bool_]) -> None:
    classes, rows, columns = scores.shape
    for i in range(rows):
        for j in range(columns):
            if not where[i, j]:  # most of a slide: its memory is not even touched
                continue
            best = scores[0, i, j]
            for k in range(1, classes):
                best = max(best, scores[k, i, j])
            total = np.float32(0)
            for k in range(classes):
                power = math.exp(scores[k, i, j] - best)
                scores[k, i, j] = power
                total += power
            for k in range(classes):
                scores[k, i, j] /= total


@compiled
def _label(
    scores: npt.NDArray[np.float32],
    probabilities: npt.NDArray[np.float32],
    analysed: npt.NDArray[np.bool_],
    unsure_below: np.float32,
    labels: npt.NDArray[np.uint8],
) -> None:
    """Set the labels of analysed cells; the others stay NOT_ANALYSED, 0."""
    classes, rows, columns = scores.shape
    for i in range(rows):
        for j in range(columns):
            if not analysed[i, j]:
                continue
            best, sure = 0, probabilities[0, i, j] >= unsure_below
            for k in range(1, classes):
                sure = sure or probabilities[k, i, j] >= unsure_below
                if scores[k, i, j] > scores[best, i, j]:
                    best = k
            labels[i, j] = best + 1 if sure else UNSURE
