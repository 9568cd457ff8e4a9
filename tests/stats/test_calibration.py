from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from dualproto_wsi.stats.calibration import BINS, CalibrationTally


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return (labels[None] == np.arange(classes)[:, None]).astype(np.int64)


def test_by_hand() -> None:
    tally = CalibrationTally()
    assert BINS == 15
    probabilities = np.array([[0.9, 0.9, 0.5], [0.1, 0.1, 0.5]])
    tally.add(probabilities, np.array([[1, 0, 0], [0, 1, 2]]))  # right; wrong; a tie, taken for class 0, wrong twice
    # bin of 0.9: confidence 1.8, right 1; bin of 0.5: confidence 1.0, right 0
    assert tally.expected_calibration_error == pytest.approx((0.8 + 1.0) / 4)
    assert tally.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.1) + 2 * np.log(0.5)) / 4)
    assert tally.brier == pytest.approx((0.02 + 1.62 + 2 * 0.5) / 4)


def test_against_scikit_learn_and_in_parts() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 500).T
    labels = generator.integers(0, 4, 500)
    tally = CalibrationTally()
    for part in (slice(0, 123), slice(123, 500)):
        tally.add(probabilities[:, part], one_hot(labels[part], 4))
    assert tally.log_loss == pytest.approx(log_loss(labels, probabilities.T))
    best = probabilities.max(0)
    bins = np.minimum((best * 15).astype(int), 14)
    right = probabilities.argmax(0) == labels
    gaps = [abs((best - right)[bins == b].sum()) for b in range(15)]
    assert tally.expected_calibration_error == pytest.approx(sum(gaps) / 500)
    assert tally.brier == pytest.approx(np.square(probabilities - one_hot(labels, 4)).sum(0).mean())


def test_places_of_one_cell_are_as_many_cells_of_one_place() -> None:
    probabilities = np.array([[0.7], [0.2], [0.1]])
    together, apart = CalibrationTally(), CalibrationTally()
    together.add(probabilities, np.array([[3], [0], [2]]))
    apart.add(np.repeat(probabilities, 5, axis=1), one_hot(np.array([0, 0, 0, 2, 2]), 3))
    for name in ("expected_calibration_error", "log_loss", "brier"):
        assert getattr(together, name) == pytest.approx(getattr(apart, name))


def test_certainty_fills_the_last_bin_and_a_wrong_one_stays_finite() -> None:
    tally = CalibrationTally()
    tally.add(np.array([[1.0], [0.0]]), np.array([[0], [1]]))
    assert tally.weight.tolist() == [0] * 14 + [1]
    assert tally.expected_calibration_error == 1
    assert np.isfinite(tally.log_loss)


def test_undefined_is_nan() -> None:
    tally = CalibrationTally()
    tally.add(np.full((2, 3), 0.5), np.zeros((2, 3), np.int64))
    assert np.isnan([tally.expected_calibration_error, tally.log_loss, tally.brier]).all()
