from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.checks import check_classes, check_patients
from dualproto_wsi.data.images import Dataset, LabelledImage
from dualproto_wsi.errors import DataError

CLASSES = ClassScheme((TissueClass(1, "Tumor", (0, 0, 0)), TissueClass(2, "Stroma", (0, 0, 0))))


def dataset(*images: tuple[str, int, int]) -> Dataset:
    """Return a data set of (patient, label of tumor, label of stroma)."""
    labelled = (LabelledImage(Path(f"{p}.png"), p, np.array(labels, np.int8)) for p, *labels in images)
    return Dataset("made up", CLASSES, 0.5, tuple(labelled))


def test_patients_in_both_splits_are_named() -> None:
    train = dataset(*[(f"p{i}", 1, 0) for i in range(9)])
    check_patients(train, dataset(("q", 1, 0)))
    with pytest.raises(DataError) as error:
        check_patients(train, dataset(("p3", 0, 1), ("q", 1, 0), ("p1", 0, 1), ("p3", 1, 1)))
    assert str(error.value) == (
        "made up: 2 patient(s) in both splits, p1, p3; scores on them would be too good: keep all images of a patient"
        " in one split"
    )
    with pytest.raises(DataError, match=r"9 patient\(s\) in both splits, p0, p1, p2, p3, p4 and 4 more; "):
        check_patients(train, train)


def test_a_class_needs_images_with_and_without_it() -> None:
    check_classes(dataset(("a", 1, 0), ("b", 0, 1)))
    with pytest.raises(DataError) as error:
        check_classes(dataset(("a", 1, 0), ("b", 0, -1)))
    assert str(error.value) == (
        "made up: no image holds 'Stroma' (0 with, 1 without, 2 images), so it cannot be learned; add such images, or"
        " leave the class out of --classes"
    )
    with pytest.raises(DataError, match=r"no image is known to be without 'Tumor' \(2 with, 0 without, 3 images\)"):
        check_classes(dataset(("a", 1, 0), ("b", 1, 1), ("c", -1, 1)))
