"""Whether a model knows which classes an image holds. Undefined is NaN, never 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.ranking import roc_auc


@dataclass(frozen=True, slots=True, eq=False)
class PresenceScores:
    """How well the presence of each class in an image is told.

    Parameters
    ----------
    auc : ndarray of float64, shape (K,)
        Area under the ROC curve; NaN where no image, or every image, holds the class.
    f1 : ndarray of float64, shape (K,)
        Of "present" above the threshold; NaN where no image holds the class and none is said to.
    present, absent : ndarray of int64, shape (K,)
        Images of each kind; images of which it is unknown are in neither.
    threshold : float
        Probability from which a class counts as present.
    """

    auc: NDArray[np.float64]
    f1: NDArray[np.float64]
    present: NDArray[np.int64]
    absent: NDArray[np.int64]
    threshold: float


def score_presence(
    probabilities: NDArray[np.floating], labels: NDArray[np.int8], threshold: float = 0.5
) -> PresenceScores:
    """Compare predicted presence with image-level labels.

    Parameters
    ----------
    probabilities : ndarray of float, shape (N, K)
        Of the presence of each class in each image.
    labels : ndarray of int8, shape (N, K)
        1: the image holds the class, 0: it does not, -1: unknown, left out.
    threshold : float
    """
    aucs, scores = [], []
    for found, label in zip(probabilities.T, labels.T, strict=True):
        known = label >= 0
        present, said = label[known] == 1, found[known] >= threshold
        aucs.append(float(roc_auc(found[known], present)))
        whole = int(present.sum()) + int(said.sum())
        scores.append(2 * int((present & said).sum()) / whole if whole else np.nan)
    return PresenceScores(np.array(aucs), np.array(scores), (labels == 1).sum(0), (labels == 0).sum(0), threshold)
