from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.data.splits import hold_out, patient_folds
from dualproto_wsi.errors import DataError, SettingsError

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


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=30).filter(lambda p: len(set(p)) > 1), st.data())
def test_held_out_patients_are_whole_and_both_sides_hold_some(patients: list[str], data: st.DataObject) -> None:
    rows = st.lists(st.sampled_from((-1, 0, 1)), min_size=3, max_size=3)
    labels = np.array(data.draw(st.lists(rows, min_size=len(patients), max_size=len(patients))), np.int8)
    kept, away = hold_out(patients, labels, data.draw(st.floats(0.05, 0.9)), seed=2)
    assert sorted([*kept, *away]) == list(range(len(patients)))
    assert kept and away
    assert not {patients[i] for i in kept} & {patients[i] for i in away}


def test_classes_are_as_frequent_on_both_sides() -> None:
    # 20 patients of 5 images; class 1 lives in four patients only, which a blind choice misses every third time
    patients = [f"p{i // 5}" for i in range(100)]
    labels = np.zeros((100, 2), np.int8)
    labels[::2, 0], labels[:20, 1] = 1, 1
    for seed in range(10):
        kept, away = hold_out(patients, labels, 0.25, seed)
        assert len(away) == 25
        assert labels[away, 1].sum() == 5
        assert abs(labels[away, 0].mean() - labels[kept, 0].mean()) < 0.1


def test_the_same_seed_holds_out_the_same() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (7, 2)).astype(np.int8)
    assert hold_out(PATIENTS, labels, 0.4, 5) == hold_out(PATIENTS, labels, 0.4, 5)
    assert any(hold_out(PATIENTS, labels, 0.4, 5) != hold_out(PATIENTS, labels, 0.4, s) for s in range(9))


def test_what_cannot_be_held_out() -> None:
    labels = np.zeros((2, 1), np.int8)
    with pytest.raises(DataError, match=r"1 patient\(s\): none can be held out; bring images of two patients or more"):
        hold_out(["a", "a"], labels, 0.5, 0)
    with pytest.raises(SettingsError, match=r"share of patients to hold out is 1\.0; it must lie between 0 and 1"):
        hold_out(["a", "b"], labels, 1.0, 0)
