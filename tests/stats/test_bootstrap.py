from __future__ import annotations

import numpy as np
import pytest

from dualproto_wsi.stats.bootstrap import bootstrap_intervals
from dualproto_wsi.stats.metrics import MEASURES


def counts_of(*accuracies: float) -> np.ndarray:
    """Return a matrix an image of 100 places of two classes, with the accuracy given."""
    return np.array([[[round(50 * a), 50 - round(50 * a)], [50 - round(50 * a), round(50 * a)]] for a in accuracies])


def test_patients_that_are_all_alike_give_no_width() -> None:
    found = bootstrap_intervals(counts_of(0.8, 0.8, 0.8, 0.8), list("abcd"), 2, 200, 0)
    assert tuple(found) == MEASURES
    assert found["accuracy"] == pytest.approx([0.8, 0.8])
    assert found["iou"].shape == (2, 2)
    assert found["iou"][0] == pytest.approx(found["iou"][1])


def test_interval_is_that_of_drawing_patients_by_hand() -> None:
    accuracies = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    found = bootstrap_intervals(counts_of(*accuracies), list("abcdef"), 2, 4000, 1)
    generator = np.random.default_rng(7)
    means = accuracies[generator.integers(0, 6, (4000, 6))].mean(1)
    assert found["accuracy"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.018)


def test_images_of_one_patient_are_drawn_together() -> None:
    counts = counts_of(*[0.5, 0.9] * 30)
    apart = bootstrap_intervals(counts, [str(i) for i in range(60)], 2, 500, 0)["accuracy"]
    together = bootstrap_intervals(counts, [str(i % 4) for i in range(60)], 2, 500, 0)["accuracy"]
    assert np.ptp(together) > 2 * np.ptp(apart)


def test_the_seed_decides() -> None:
    counts = counts_of(0.5, 0.6, 0.9)
    first, again, other = (bootstrap_intervals(counts, list("abc"), 2, 100, seed) for seed in (0, 0, 1))
    assert np.array_equal(first["iou"], again["iou"])
    assert not np.array_equal(first["iou"], other["iou"])


def test_fewer_than_three_patients_say_nothing() -> None:
    found = bootstrap_intervals(counts_of(0.5, 0.6, 0.7), ["a", "a", "b"], 2, 100, 0)
    assert all(np.isnan(limits).all() for limits in found.values())


def test_images_without_a_count_are_no_patients() -> None:
    counts = np.concatenate((counts_of(0.5, 0.6), np.zeros((1, 2, 2), np.int64)))
    assert np.isnan(bootstrap_intervals(counts, list("abc"), 2, 100, 0)["accuracy"]).all()
    nothing = bootstrap_intervals(np.zeros((2, 2, 2), np.int64), list("ab"), 2, 100, 0)
    assert np.isnan(nothing["iou"]).all()


def test_samples_without_a_class_do_not_count_for_it() -> None:
    counts = np.zeros((4, 2, 2), np.int64)
    counts[:, 0, 0] = 10
    counts[0, 1] = 5, 5  # one patient alone has the second class
    found = bootstrap_intervals(counts, list("abcd"), 2, 300, 0)
    assert found["recall"][:, 1] == pytest.approx([0.5, 0.5])
    counts[0, 1] = 0
    assert np.isnan(bootstrap_intervals(counts, list("abcd"), 2, 300, 0)["recall"][:, 1]).all()
