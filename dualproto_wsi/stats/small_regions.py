"""Whether small regions are found, which means over pixels hardly show. Undefined is NaN, never 0."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FOUND_SHARE = 0.5
"""A region is found when at least this share of its pixels has its class."""


class SmallRegions:
    """The small connected regions of an image's truth.

    Parameters
    ----------
    truth : ndarray of uint8, shape (height, width)
    classes : int
        K; regions of the classes 0…K-1 are looked at, pixels that share an edge are connected.
    below_px : float
        Regions of fewer pixels than this are small. One that meets the rim of the image is left out: its area is not
        known.

    Attributes
    ----------
    counts : ndarray of int64, shape (K,)
        Small regions of each class.
    """

    def __init__(self, truth: NDArray[np.uint8], classes: int, below_px: float) -> None:
        pixels, owners, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        regions = 0
        for value in range(classes):
            mask = (truth == value).astype(np.uint8)
            if not mask.any():
                continue
            count, ids, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
            small = stats[:, cv2.CC_STAT_AREA] < below_px
            small[np.concatenate((ids[0], ids[-1], ids[:, 0], ids[:, -1], [0]))] = False
            number = np.full(count, -1)
            number[small] = np.arange(regions, regions + small.sum())
            inside = np.flatnonzero(small[ids])
            pixels.append(inside)
            owners.append(number[ids.ravel()[inside]])
            values.append(np.full(int(small.sum()), value))
            regions += int(small.sum())
        self._pixels, self._owners, self._values = map(np.concatenate, (pixels, owners, values))
        self.counts = np.bincount(self._values, minlength=classes)

    def found(self, prediction: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return how many of each class a prediction, uint8 (height, width), finds: int64 (K,)."""
        right = prediction.ravel()[self._pixels] == self._values[self._owners]
        regions = len(self._values)
        share = np.bincount(self._owners, right, regions) / np.maximum(np.bincount(self._owners, minlength=regions), 1)
        return np.bincount(self._values[share >= FOUND_SHARE], minlength=len(self.counts))


def recall_of(found: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share that was found, NaN where there is none."""
    return np.where(counts > 0, found / np.maximum(counts, 1), np.nan)
