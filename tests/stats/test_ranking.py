"""Ranking of descriptions where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dualproto_wsi.stats.ranking import choose_descriptions, rank_descriptions, roc_auc


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_that_of_scikit_learn_with_ties(pairs):
    scores, present = np.array([s for s, _ in pairs], float), np.array([p for _, p in pairs])
    if present.all() or not present.any():
        assert np.isnan(roc_auc(scores, present))
    else:
        assert roc_auc(scores, present) == pytest.approx(roc_auc_score(present, scores))
        both = roc_auc(np.stack([scores, -scores]), present)
        assert both.shape == (2,)
        assert both.sum() == pytest.approx(1)


def crafted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit features of five descriptions and of tiles with image-level labels of two classes.

    Axis 0 is how class 0 looks, axis 1 how class 1 does; axis 2 says nothing.
    """
    generator = np.random.default_rng(0)
    labels = np.tile(np.array([[1, 0, 1, 0], [0, 1, 1, 0]], np.int8), 50)
    tiles = np.stack([*labels, generator.normal(size=200)], 1) + 0.05 * generator.normal(size=(200, 3))
    tiles /= np.linalg.norm(tiles, axis=1, keepdims=True)
    features = np.array([[0, 0, 1], [1, 0, 0], [1, 0.1, 0], [0, 1, 0], [1, 0, 0.2]])
    return features / np.linalg.norm(features, axis=1, keepdims=True), tiles, labels


def test_descriptions_of_a_class_are_ranked_by_how_well_they_find_it():
    features, tiles, labels = crafted()
    owners = np.array([0, 0, 0, 1, 1])  # 0 says nothing, 4 looks like class 0 but is given to class 1
    first, second = rank_descriptions(features @ tiles.T, features, owners, labels)
    assert first[-1].index == 0
    assert {rank.index for rank in first[:2]} == {1, 2}
    assert [rank.index for rank in second] == [3, 4]
    assert second[0].auc > 0.95 > 0.6 > second[1].auc
    assert second[0].margin > 0.3 > 0 > second[1].margin
    assert np.isnan(first[0].redundancy)
    assert first[1].redundancy == pytest.approx(features[1] @ features[2])
    assert first[2].redundancy == pytest.approx(0)


def test_unknown_tiles_do_not_count_and_a_class_alone_has_no_margin():
    similarity = np.array([[0.1, 0.2, 0.3, 0.9]])
    for last, expected in ((-1, 1), (0, 2 / 3)):
        labels = np.array([[0, 0, 1, last]], np.int8)
        ((rank,),) = rank_descriptions(similarity, np.ones((1, 1)), np.array([0]), labels)
        assert rank.auc == pytest.approx(expected)
        assert np.isnan(rank.margin)


def test_chosen_ones_complete_each_other():
    present = np.array([True] * 4 + [False] * 4)
    look = [0.9, 0.9, 0.1, 0.1, 0.15, 0.2, 0.12, 0.3]  # finds the first half of the tiles
    again = [0.9, 0.9, 0.1, 0.1, 0.15, 0.2, 0.12, 0.31]  # the same
    other = [0.1, 0.1, 0.8, 0.8, 0.16, 0.2, 0.35, 0.36]  # finds the second half
    similarity = np.array([look, again, other])
    chosen = choose_descriptions(similarity, present, 3, scale=50)
    assert [row for row, _ in chosen] == [0, 2, 1]
    assert chosen[0][1] == pytest.approx(roc_auc(similarity[0], present))
    assert chosen[1][1] == 1
    merged = np.log(np.exp(50 * similarity).sum(0))
    assert chosen[2][1] == pytest.approx(roc_auc(merged, present))
