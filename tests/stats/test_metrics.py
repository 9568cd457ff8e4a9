from __future__ import annotations

import json

import numpy as np
import pytest

from dualproto_wsi.stats.metrics import ConfusionMatrix


def test_by_hand() -> None:
    matrix = ConfusionMatrix(["a", "b", "c"])
    matrix.add([0, 0, 0, 1], [0, 0, 1, 1])
    matrix.add(np.array([[2, 2]]), np.array([[2, 0]]))
    assert matrix.counts.tolist() == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert matrix.total == 6
    assert matrix.accuracy == pytest.approx(4 / 6)
    assert matrix.iou == pytest.approx([2 / 4, 1 / 2, 1 / 2])
    assert matrix.dice == pytest.approx([4 / 6, 2 / 3, 2 / 3])
    assert matrix.recall == pytest.approx([2 / 3, 1, 1 / 2])
    assert matrix.precision == pytest.approx([2 / 3, 1 / 2, 1])
    assert matrix.mean_iou == pytest.approx(0.5)


def test_pooled_is_not_the_mean_of_images() -> None:
    pooled, images = ConfusionMatrix(["a", "b"]), []
    for truth, prediction in (([0] * 9 + [1], [0] * 9 + [0]), ([0, 1], [0, 1])):
        pooled.add(truth, prediction)
        one = ConfusionMatrix(["a", "b"])
        one.add(truth, prediction)
        images.append(one.accuracy)
    assert pooled.accuracy == pytest.approx(11 / 12)
    assert np.mean(images) == pytest.approx(0.95)


def test_undefined_is_nan_never_zero() -> None:
    matrix = ConfusionMatrix(["a", "b", "c"])
    assert np.isnan(matrix.accuracy)
    assert np.isnan(matrix.iou).all()
    matrix.add([0, 1], [0, 0])
    assert matrix.iou == pytest.approx([0.5, 0, np.nan], nan_ok=True)
    assert matrix.precision == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert np.isnan(matrix.mean_iou)
    assert np.isnan(matrix.mean_dice)
    data = json.loads(json.dumps(matrix.to_json(), allow_nan=False))
    assert data["iou"] == {"a": 0.5, "b": 0.0, "c": None}
    assert data["mean_iou"] is None


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([0, 1], [0], "truth is (2,) and prediction (1,); they must have one shape"),
        ([0, 2], [0, 1], "truth holds 0…2; classes are 0…1"),
        ([0, 1], [0, -1], "prediction holds -1…0; classes are 0…1"),
    ],
)
def test_wrong_values_are_refused(truth: list[int], prediction: list[int], message: str) -> None:
    matrix = ConfusionMatrix(["a", "b"])
    with pytest.raises(ValueError) as error:
        matrix.add(truth, prediction)
    assert str(error.value) == message
    assert matrix.total == 0
