"""How well each description tells its class from the others, on labelled tiles; undefined is NaN, never 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


@dataclass(frozen=True, slots=True)
class Rank:
    """One description's figures.

    Parameters
    ----------
    index : int
        Its row.
    auc : float
        Area under the ROC curve of its similarity: tiles with its class against tiles without.
    margin : float
        ``auc`` less the highest one that the same similarity reaches for another class; NaN if there is no other.
    redundancy : float
        Highest cosine to a description of its class with a higher ``auc``; NaN for the first.
    """

    index: int
    auc: float
    margin: float
    redundancy: float


def roc_auc(scores: NDArray[np.floating], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the area under the ROC curve, by ranks (Mann and Whitney, 1947); ties count a half.

    Parameters
    ----------
    scores : ndarray of float, shape (…, N)
    present : ndarray of bool, shape (N,)

    Returns
    -------
    ndarray of float64, shape (…)
        NaN if all or none are present.
    """
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        return np.full(scores.shape[:-1], np.nan)
    ranks = rankdata(scores, axis=-1)[..., present].sum(-1)
    return np.asarray((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def rank_descriptions(
    similarity: NDArray[np.floating],
    features: NDArray[np.floating],
    owners: NDArray[np.int64],
    labels: NDArray[np.int8],
) -> list[list[Rank]]:
    """Rank the descriptions of each class by how well they find it.

    Parameters
    ----------
    similarity : ndarray of float, shape (P, N)
        Of each description to each tile.
    features : ndarray of float, shape (P, E)
        One a description, of length 1.
    owners : ndarray of int64, shape (P,)
        Class of each description, 0…K-1.
    labels : ndarray of int8, shape (K, N)
        1: the class is in the tile, 0: it is not, -1: unknown, the tile is left out for this class.

    Returns
    -------
    list of list of Rank
        One list a class, best first.
    """
    aucs = np.stack([roc_auc(similarity[:, row >= 0], row[row >= 0] == 1) for row in labels])
    cosines = features @ features.T
    result = []
    for tissue in range(len(labels)):
        own = np.flatnonzero(owners == tissue)
        order = own[np.argsort(-aucs[tissue, own], kind="stable")]
        others = np.delete(aucs, tissue, axis=0).max(axis=0, initial=-np.inf)
        ranks = []
        for place, index in enumerate(order):
            auc = float(aucs[tissue, index])
            margin = auc - float(others[index]) if len(labels) > 1 else np.nan
            redundancy = float(cosines[index, order[:place]].max()) if place else np.nan
            ranks.append(Rank(int(index), auc, margin, redundancy))
        result.append(ranks)
    return result


def choose_descriptions(
    similarity: NDArray[np.floating], present: NDArray[np.bool_], keep: int, scale: float
) -> list[tuple[int, float]]:
    """Choose descriptions of one class that find it best together.

    Greedy: each step takes the description with which the class's score, the smooth maximum ``log sum exp`` of
    ``scale`` times the similarities, as zero-shot segmentation merges them, has the highest AUC. One that only repeats
    a chosen one adds nothing, and is passed over.

    Parameters
    ----------
    similarity : ndarray of float, shape (D, N)
        Of the class's descriptions, best first (ties go to the earlier), to each tile.
    present : ndarray of bool, shape (N,)
    keep : int
        How many, at most D.
    scale : float
        The model's logit scale.

    Returns
    -------
    list of (int, float)
        Rows in the order they were chosen, with the AUC of all up to there.
    """
    logits = scale * similarity.astype(np.float64)
    merged = np.full(similarity.shape[1], -np.inf)
    left = list(range(len(similarity)))
    chosen = []
    for _ in range(keep):
        aucs = roc_auc(np.logaddexp(merged, logits[left]), present)
        best = int(np.argmax(aucs))
        row = left.pop(best)
        merged = np.logaddexp(merged, logits[row])
        chosen.append((row, float(aucs[best])))
    return chosen
