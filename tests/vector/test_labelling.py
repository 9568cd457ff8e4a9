from __future__ import annotations

import numpy as np
import pytest

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE
from dualproto_wsi.vector.labelling import confidence_percent, label_cells, probabilities_of


def random_logits(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((3, 40, 60)) * 30).astype(np.float32)


def test_probabilities_are_the_softmax_where_scores_are():
    where = np.random.default_rng(1).random((40, 60)) < 0.5
    logits = random_logits() * where
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    expected = np.where(where, powers / powers.sum(axis=0), 0)
    found = probabilities_of(logits.copy(), where)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.dtype == np.float32


def test_huge_logits_do_not_overflow():
    logits = np.array([[[3e38]], [[-3e38]], [[0.0]]], np.float32)
    assert probabilities_of(logits, np.ones((1, 1), bool))[:, 0, 0].tolist() == [1, 0, 0]


def test_labels_are_the_best_class_where_analysed():
    probabilities = probabilities_of(random_logits(), np.ones((40, 60), bool))
    analysed = np.random.default_rng(2).random((40, 60)) < 0.7
    labels = label_cells(probabilities, analysed)
    assert np.array_equal(labels, np.where(analysed, probabilities.argmax(axis=0) + 1, NOT_ANALYSED))
    assert labels.dtype == np.uint8


def test_equal_probabilities_go_to_the_lower_class():
    assert label_cells(np.full((3, 1, 1), 1 / 3, np.float32), np.ones((1, 1), bool)) == 1


def test_below_the_threshold_a_cell_is_unsure():
    best = np.array([[0.4, 0.5, 0.6, 0.2]], np.float32)
    probabilities = np.stack([best, 1 - best])
    analysed = np.array([[True, True, True, False]])
    assert label_cells(probabilities, analysed, 0.55).tolist() == [[2, UNSURE, 1, 0]]
    assert UNSURE not in label_cells(probabilities, analysed, 0.0)
    refined = probabilities[::-1].copy()
    assert label_cells(refined, analysed, 0.55, probabilities).tolist() == [[1, UNSURE, 2, 0]]


def test_confidence_is_the_best_probability_in_percent():
    probabilities = np.array([[[0.999, 0.5, 0.126]], [[0.001, 0.5, 0.874]]], np.float32)
    labels = np.array([[1, 0, UNSURE]], np.uint8)
    assert confidence_percent(probabilities, labels).tolist() == [[100, 0, 87]]
