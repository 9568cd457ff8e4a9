"""Cells by zone and class, and lengths of borders, by square."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import perimeter_crofton

from dualproto_wsi.stats.cohort.front import FrontBand
from dualproto_wsi.stats.cohort.squares import BorderLengths, ZoneCounts, reduce_squares


def count(labels: np.ndarray, body: np.ndarray, distance: np.ndarray | None, side: int, limits: tuple) -> np.ndarray:
    zones = ZoneCounts(labels.shape, side, 3, limits)
    for top in range(0, len(labels), 3):
        rows = slice(top, top + 3)
        zones.add(FrontBand(top, labels[rows], body[rows], None if distance is None else distance[rows]))
    return zones.counts


def test_zones_by_hand() -> None:
    labels = np.array([[1, 1, 1, 2, 2, 3, 255, 0]] * 4, np.uint8)
    distance = np.array([[2.5, 1.5, 0.5, 0.5, 1.5, 2.5, 3.5, 4.5]] * 4, np.float32)
    found = count(labels, labels == 1, distance, 8, (1.0, 2.0))[0, 0]
    assert found.shape == (6, 4)  # core, two bands inside, two outside, the rest; three classes and unsure
    assert found.tolist() == [
        [4, 0, 0, 0],
        [4, 0, 0, 0],
        [4, 0, 0, 0],
        [0, 4, 0, 0],
        [0, 4, 0, 0],
        [0, 0, 4, 4],
    ]
    assert count(labels, labels == 1, None, 8, (1.0, 2.0))[0, 0].sum(1).tolist() == [12, 0, 0, 0, 0, 16]


def test_squares_at_the_rim_are_cut_off() -> None:
    labels = np.full((7, 5), 1, np.uint8)
    found = count(labels, np.zeros_like(labels, np.bool_), None, 3, (1.0,))
    assert found.sum((2, 3)).tolist() == [[9, 6], [9, 6], [3, 2]]
    assert reduce_squares(found.sum((2, 3)).astype(float), 2).tolist() == [[30.0], [5.0]]


def lengths(labels: np.ndarray, classes: int = 2, tumor: int = 1, side: int = 10_000, step: int = 10_000) -> np.ndarray:
    borders = BorderLengths(labels.shape, side, classes, tumor)
    for top in range(0, len(labels), step):
        borders.add(labels[top : top + step])
    return borders.lengths


def disc(radius: float, side: int) -> np.ndarray:
    place = np.arange(side) + 0.5 - side / 2
    return np.where(np.hypot(place[:, None], place[None]) < radius, 1, 2).astype(np.uint8)


@pytest.mark.parametrize(("radius", "error"), [(20, 0.02), (60, 0.01), (150, 0.005)])
def test_border_of_a_disc(radius: float, error: float) -> None:
    found = lengths(disc(radius, 2 * radius + 20))[0, 0]
    assert found == pytest.approx(2 * math.pi * radius, rel=error)
    assert found == pytest.approx(perimeter_crofton(disc(radius, 2 * radius + 20) == 1, directions=4), rel=0.001)


@pytest.mark.parametrize("degrees", [0, 15, 22.5, 45, 60])
def test_straight_borders_are_within_the_stated_error(degrees: float) -> None:
    side = 800
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    angle = math.radians(degrees)
    labels = np.where(x * math.cos(angle) + y * math.sin(angle) < 0.01, 1, 2).astype(np.uint8)
    labels[np.hypot(x, y) > 350] = 0
    assert -0.054 < lengths(labels)[0, 0, 0] / 700 - 1 < 0.028


def test_what_has_no_border() -> None:
    labels = np.array([[1, 0, 2, 255, 3]] * 3, np.uint8)
    assert lengths(labels, classes=3).sum() == 0
    labels = np.array([[2, 3, 3]] * 1, np.uint8)
    assert lengths(labels, classes=3)[0, 0].tolist() == [pytest.approx(math.pi / 8), 0]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 7))
def test_bands_and_squares_change_nothing(seed: int, step: int, side: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, (23, 17)).astype(np.uint8)
    whole, cut = (lengths(labels, 3, 1, side, at) for at in (100, step))
    assert np.allclose(whole, cut)
    assert np.allclose(whole.sum((0, 1)), lengths(labels, 3, 1)[0, 0])
