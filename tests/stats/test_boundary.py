from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from dualproto_wsi.stats.boundary import TrueBoundaries, find_boundaries, find_near, mean_over_images


def halves(width: int, split: int, height: int = 12) -> np.ndarray:
    labels = np.zeros((height, width), np.uint8)
    labels[:, split:] = 1
    return labels


def find_boundary(labels: np.ndarray, labelled: np.ndarray, value: int) -> np.ndarray:
    return find_boundaries(labels, labelled, 3) == value


ALL = np.ones((12, 20), bool)


def test_boundary_is_the_rim_towards_another_class_and_not_that_of_the_image() -> None:
    boundary = find_boundary(halves(20, 8), ALL, 0)
    assert np.flatnonzero(boundary.any(0)).tolist() == [7]
    assert boundary[:, 7].all()
    assert np.flatnonzero(find_boundary(halves(20, 8), ALL, 1).any(0)).tolist() == [8]


def test_pixels_that_are_not_labelled_make_no_boundary() -> None:
    labelled = ALL.copy()
    labelled[:, 8] = False
    assert not find_boundary(halves(20, 8), labelled, 0).any()
    assert not find_boundary(halves(20, 8), labelled, 1).any()


@pytest.mark.parametrize(("split", "expected"), [(8, 1.0), (9, 1.0), (10, 1.0), (11, 0.0), (6, 1.0), (5, 0.0)])
def test_a_shift_within_the_tolerance_is_none(split: int, expected: float) -> None:
    scores = TrueBoundaries(halves(20, 8), ALL, 2, 2.0).score(halves(20, split))
    assert scores.tolist() == [expected, expected]


def test_half_of_the_boundary_found_by_hand() -> None:
    truth = halves(20, 8)
    prediction = np.zeros((12, 20), np.uint8)
    prediction[:6, 8:] = 1  # class 0: 6 px of the true boundary, and 12 px where the found one turns right
    scores = TrueBoundaries(truth, ALL, 2, 0.0).score(prediction)
    found = find_boundary(prediction, ALL, 0)
    precision, recall = 6 / found.sum(), 6 / 12
    assert found.sum() == 6 + 12
    assert scores[0] == pytest.approx(2 * precision * recall / (precision + recall))


def test_one_sided_is_0_and_none_is_nan() -> None:
    scores = TrueBoundaries(halves(20, 8), ALL, 3, 2.0).score(np.zeros((12, 20), np.uint8))
    assert scores == pytest.approx([0, 0, np.nan], nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 6))
def test_against_scipy(seed: int, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    truth, found = (np.kron(generator.integers(0, 3, (5, 6)), np.ones((4, 4))).astype(np.uint8) for _ in range(2))
    labelled = np.kron(generator.random((5, 6)) < 0.9, np.ones((4, 4))).astype(bool)
    scores = TrueBoundaries(truth, labelled, 3, tolerance).score(found)
    for k in range(3):
        true, said = find_boundary(truth, labelled, k), find_boundary(found, labelled, k)
        if not (true.any() and said.any()):
            continue
        precision = (distance_transform_edt(~true)[said] <= tolerance).mean()
        recall = (distance_transform_edt(~said)[true] <= tolerance).mean()
        both = precision + recall
        assert scores[k] == pytest.approx(2 * precision * recall / both if both else 0, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.5, 1, 2**0.5, 2, 2.3, 5, 8, 60]))
def test_near_is_by_the_exact_distance(seed: int, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    boundaries = np.where(generator.random((30, 40)) < 0.01, generator.integers(0, 2, (30, 40)), 255).astype(np.uint8)
    near = find_near(boundaries, 2, tolerance)
    for k in range(2):
        if (boundaries == k).any():
            assert np.array_equal(near[k], distance_transform_edt(boundaries != k) <= tolerance)
        else:
            assert not near[k].any()


def test_mean_over_the_images_that_have_one() -> None:
    mean = mean_over_images([np.array([0.5, np.nan, np.nan]), np.array([1.0, 0.0, np.nan])], 3)
    assert mean == pytest.approx([0.75, 0.0, np.nan], nan_ok=True)
    assert np.isnan(mean_over_images([], 3)).all()
