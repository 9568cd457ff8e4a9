"""Patient-wise splits: images of one patient stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.data.images import ABSENT, PRESENT
from dualproto_wsi.errors import DataError, SettingsError

_DRAWS = 256
"""Random choices of patients, of which the one that keeps the labels' shares best is taken."""


def patient_folds(patients: Sequence[str], folds: int, seed: int) -> list[list[int]]:
    """Part images into folds of about equal numbers of patients.

    Parameters
    ----------
    patients : sequence of str
        The patient of each image.
    folds : int
        Number of folds, at least 2.
    seed : int
        Decides which patient goes where.

    Returns
    -------
    list of list of int
        Positions of the images in each fold; every image in exactly one.

    Raises
    ------
    DataError
        If there are fewer patients than folds.
    """
    names = sorted(set(patients))
    if len(names) < folds:
        raise DataError(f"{len(names)} patient(s) cannot be parted into {folds} folds; pass --folds {len(names)} or 0")
    np.random.default_rng(seed).shuffle(names)
    fold_of = {name: position % folds for position, name in enumerate(names)}
    return [[i for i, patient in enumerate(patients) if fold_of[patient] == fold] for fold in range(folds)]


def hold_out(patients: Sequence[str], labels: NDArray[np.int8], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Hold out whole patients so that each class is as frequent on both sides as they allow.

    Parameters
    ----------
    patients : sequence of str
        The patient of each image.
    labels : ndarray of int8, shape (images, K)
        Image-level labels; those not known count on neither side.
    share : float
        Of the images to hold out, between 0 and 1; met as nearly as patients allow.
    seed : int
        Decides among choices; the same seed gives the same choice.

    Returns
    -------
    kept, held_out : list of int
        Positions of the images, in order; neither is empty.

    Raises
    ------
    DataError
        If there are fewer than two patients.
    SettingsError
        If the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise SettingsError(f"share of patients to hold out is {share}; it must lie between 0 and 1")
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{len(names)} patient(s): none can be held out; bring images of two patients or more")
    of_image = np.hstack([np.ones((len(owner), 1)), labels == PRESENT, labels == ABSENT])
    of_patient = np.zeros((len(names), of_image.shape[1]))
    np.add.at(of_patient, owner, of_image)
    of_patient = of_patient[:, of_patient.any(0)]
    rng, total = np.random.default_rng(seed), of_patient.sum(0)
    best, chosen = np.inf, np.empty(0, np.int64)
    for _ in range(_DRAWS):
        order = rng.permutation(len(names))
        sums = of_patient[order].cumsum(0)
        count = int(np.abs(sums[:-1, 0] - share * total[0]).argmin()) + 1
        found = sums[count - 1] / total
        # a class that one side lacks altogether cannot be learned, or not be measured: worse than any shift of shares
        cost = np.abs(found - share).mean() + ((found == 0) | (found == 1)).sum()
        if cost < best:
            best, chosen = cost, order[:count]
    away = np.isin(owner, chosen)
    return np.flatnonzero(~away).tolist(), np.flatnonzero(away).tolist()
