"""Patient-wise splits: images of one patient stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dualproto_wsi.errors import DataError


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
