"""How well borders are met, image by image. Undefined is NaN, never 0.

The boundary F1 of Csurka et al. ("What is a good evaluation measure for semantic segmentation?", BMVC 2013), which
brought the boundary precision and recall of Martin et al. (PAMI 2004) to segmentation: precision is the share of the
predicted boundary within a tolerance of the true one, recall the share of the true one within it of the predicted one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.compiled import compiled

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

NO_BOUNDARY = 255
"""Value of :func:`find_boundaries` for a pixel on no boundary."""


def find_boundaries(labels: Labels, labelled: Mask, classes: int) -> Labels:
    """Return the pixels of each class that have one of another class above, below, left or right of them.

    Parameters
    ----------
    labels : ndarray of uint8, shape (height, width)
    labelled : ndarray of bool, shape (height, width)
        A pixel that is not labelled is on no boundary, and makes none; nor does the rim of the image.
    classes : int
        Boundaries of the classes 0…K-1 are found; any other value only makes them.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        The class whose boundary a pixel is on, else :data:`NO_BOUNDARY`.
    """
    found = np.full(labels.shape, NO_BOUNDARY, np.uint8)
    _find(labels, labelled, classes, found)
    return found


def find_near(boundaries: Labels, classes: int, tolerance_px: float) -> Mask:
    """Return the pixels whose centre is within a distance of the boundary of each class, bool (K, height, width)."""
    near = np.zeros((classes, *boundaries.shape), np.bool_)
    square = tolerance_px**2
    reach = [math.floor(math.sqrt(square - dy * dy)) for dy in range(math.floor(tolerance_px) + 1)]
    _stamp(boundaries, np.array(reach, np.int64), near)
    return near


class TrueBoundaries:
    """The boundaries of an image's truth, ready for many predictions.

    Parameters
    ----------
    truth : ndarray of uint8, shape (height, width)
    labelled : ndarray of bool, shape (height, width)
        Where truth is known.
    classes : int
        K; classes 0…K-1 are scored, any other value only makes boundaries.
    tolerance_px : float
        Distance up to which boundaries meet.
    """

    def __init__(self, truth: Labels, labelled: Mask, classes: int, tolerance_px: float) -> None:
        self._labelled, self._classes, self._tolerance_px = labelled, classes, tolerance_px
        self._true = find_boundaries(truth, labelled, classes)
        self._near_true = find_near(self._true, classes, tolerance_px)

    def score(self, prediction: Labels) -> NDArray[np.float64]:
        """Return the boundary F1 of each class, float64 (K,).

        NaN for a class without a boundary in both; 0 for one with a boundary in either alone.
        """
        found = find_boundaries(prediction, self._labelled, self._classes)
        hits, said = np.zeros((2, self._classes), np.int64)
        _count(found, self._near_true, hits, said)
        met, true = np.zeros((2, self._classes), np.int64)
        _count(self._true, find_near(found, self._classes, self._tolerance_px), met, true)
        precision, recall = hits / np.maximum(said, 1), met / np.maximum(true, 1)
        both = precision + recall
        f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
        return np.where(said + true > 0, f1, np.nan)


def mean_over_images(scores: Sequence[NDArray[np.float64]], classes: int) -> NDArray[np.float64]:
    """Return the mean of each class over the images in which it is defined, float64 (K,); NaN where it is in none."""
    table = np.array(scores, np.float64).reshape(-1, classes)
    defined = ~np.isnan(table)
    sums, counts = np.where(defined, table, 0).sum(0), defined.sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@compiled
def _find(labels: Labels, labelled: Mask, classes: int, found: Labels) -> None:
    rows, columns = labels.shape
    for y in range(rows):
        for x in range(columns):
            own = labels[y, x]
            if not labelled[y, x] or own >= classes:
                continue
            if (
                (y > 0 and labelled[y - 1, x] and labels[y - 1, x] != own)
                or (y + 1 < rows and labelled[y + 1, x] and labels[y + 1, x] != own)
                or (x > 0 and labelled[y, x - 1] and labels[y, x - 1] != own)
                or (x + 1 < columns and labelled[y, x + 1] and labels[y, x + 1] != own)
            ):
                found[y, x] = own


@compiled
def _stamp(boundaries: Labels, reach: Counts, near: Mask) -> None:
    """Set a disc around every boundary pixel; ``reach`` is its half width at each distance from its middle row."""
    rows, columns = boundaries.shape
    for y in range(rows):
        for x in range(columns):
            value = boundaries[y, x]
            if value == NO_BOUNDARY:
                continue
            for dy in range(1 - len(reach), len(reach)):
                if 0 <= y + dy < rows:
                    width = reach[abs(dy)]
                    near[value, y + dy, max(x - width, 0) : x + width + 1] = True


@compiled
def _count(boundaries: Labels, near: Mask, hits: Counts, total: Counts) -> None:
    """Count the boundary pixels of each class, and those near the other boundary of it."""
    rows, columns = boundaries.shape
    for y in range(rows):
        for x in range(columns):
            value = boundaries[y, x]
            if value != NO_BOUNDARY:
                total[value] += 1
                hits[value] += near[value, y, x]
