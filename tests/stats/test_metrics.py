from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from dualproto_wsi.stats.metrics import ConfusionMatrix, measure


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


def test_frequency_weighted_iou_by_hand() -> None:
    found = measure(np.array([[6, 2], [1, 1]]), 2)
    assert found["iou"] == pytest.approx([6 / 9, 1 / 4])
    assert found["frequency_weighted_iou"] == pytest.approx((8 * 6 / 9 + 2 / 4) / 10)


def test_a_class_without_truth_weighs_nothing() -> None:
    found = measure(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), 3)
    assert found["frequency_weighted_iou"] == pytest.approx((4 * 3 / 4 + 2 * 2 / 3) / 6)
    assert np.isnan(found["mean_iou"])


def test_means_are_over_the_foreground_and_background_is_in_the_denominators() -> None:
    matrix = ConfusionMatrix(["a", "b", "Background"], foreground=2)
    matrix.add([0, 0, 1, 2, 2], [0, 0, 1, 1, 2])
    assert matrix.iou == pytest.approx([1, 1 / 2, 1 / 2])
    assert matrix.mean_iou == pytest.approx(3 / 4)
    assert matrix.to_json()["mean_precision"] == pytest.approx((1 + 1 / 2) / 2)


def test_many_matrices_at_once_are_each_alone() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    together = measure(counts, 2)
    for i, one in enumerate(counts):
        for name, value in measure(one, 2).items():
            assert together[name][i] == pytest.approx(value, nan_ok=True)


def test_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth, found = generator.integers(0, 4, (2, 300))
    matrix = ConfusionMatrix("abcd")
    matrix.add(truth, found)
    assert matrix.iou == pytest.approx(jaccard_score(truth, found, average=None))
    assert matrix.dice == pytest.approx(f1_score(truth, found, average=None))
    assert matrix.precision == pytest.approx(precision_score(truth, found, average=None))
    assert matrix.recall == pytest.approx(recall_score(truth, found, average=None))
    weighted = jaccard_score(truth, found, average="weighted")
    assert measure(matrix.counts, 4)["frequency_weighted_iou"] == pytest.approx(weighted)


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
