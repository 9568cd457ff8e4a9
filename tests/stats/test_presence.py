from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from dualproto_wsi.stats.presence import score_presence


def test_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (80, 3)).astype(np.int8)
    found = np.clip(0.35 * labels + generator.random((80, 3)) * 0.6, 0, 1).round(2)
    scores = score_presence(found, labels, 0.4)
    assert scores.threshold == 0.4
    for k in range(3):
        assert scores.auc[k] == pytest.approx(roc_auc_score(labels[:, k], found[:, k]))
        assert scores.f1[k] == pytest.approx(f1_score(labels[:, k], found[:, k] >= 0.4))
    assert (scores.present + scores.absent).tolist() == [80] * 3


def test_by_hand_and_unknown_labels_do_not_count() -> None:
    found = np.array([[0.9, 0.5], [0.4, 0.5], [0.6, 0.1], [0.1, 0.9]])
    labels = np.array([[1, -1], [1, -1], [0, -1], [0, 0]], np.int8)
    scores = score_presence(found, labels)
    assert scores.auc == pytest.approx([3 / 4, np.nan], nan_ok=True)
    assert scores.f1 == pytest.approx([2 / 4, 0])  # 2 hits / (2 true + 2 said); one said, none true
    assert scores.present.tolist() == [2, 0]
    assert scores.absent.tolist() == [2, 1]


def test_undefined_is_nan() -> None:
    scores = score_presence(np.array([[0.1, 0.9]]), np.array([[0, -1]], np.int8))
    assert np.isnan(scores.auc).all()
    assert np.isnan(scores.f1).all()
