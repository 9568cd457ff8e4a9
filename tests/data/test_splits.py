from __future__ import annotations

import pytest

from dualproto_wsi.data.splits import patient_folds
from dualproto_wsi.errors import DataError

PATIENTS = ["a", "b", "a", "c", "d", "e", "b"]


def test_every_image_once_and_patients_together() -> None:
    folds = patient_folds(PATIENTS, 3, seed=1)
    assert sorted(i for fold in folds for i in fold) == list(range(7))
    owners = [{PATIENTS[i] for i in fold} for fold in folds]
    assert sum(map(len, owners)) == 5
    assert set().union(*owners) == set("abcde")


def test_the_seed_decides() -> None:
    assert patient_folds(PATIENTS, 2, seed=1) == patient_folds(PATIENTS, 2, seed=1)
    assert any(patient_folds(PATIENTS, 2, seed=0) != patient_folds(PATIENTS, 2, seed=s) for s in range(1, 9))


def test_too_few_patients() -> None:
    with pytest.raises(DataError, match=r"1 patient\(s\) cannot be parted into 4 folds"):
        patient_folds(["a", "a"], 4, seed=0)
