from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.vector.mosaic import ColourMosaic, ScoreMosaic, window_weights


def reference(
    columns: int, rows: int, classes: int, window: int, windows: list[tuple[int, int, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Blend densely in float64: sum of weight times score, divided by the sum of weights."""
    weight = np.outer(window_weights(window), window_weights(window)).astype(np.float64)
    total = np.zeros((classes, rows + 2 * window, columns + 2 * window))
    weights = np.zeros(total.shape[1:])
    for row, column, scores in windows:
        place = np.s_[row + window : row + 2 * window, column + window : column + 2 * window]
        total[(slice(None), *place)] += weight * scores
        weights[place] += weight
    inner = np.s_[window : window + rows, window : window + columns]
    covered = weights[inner] > 0
    return np.where(covered, total[:, *inner] / np.where(covered, weights[inner], 1), 0), covered


def test_weights_taper_to_a_floor_above_zero() -> None:
    weights = window_weights(32)
    assert weights.dtype == np.float32
    assert np.array_equal(weights, weights[::-1])
    assert np.all(np.diff(weights[:16]) > 0)
    assert 0 < weights[0] < 0.01
    assert 0.99 < weights[15] <= 1
    assert window_weights(1)[0] == 1


def test_constant_scores_stay_exactly_constant() -> None:
    generator = np.random.default_rng(0)
    mosaic = ScoreMosaic(90, 70, 2, 24)
    scores = np.broadcast_to(np.array([7.3, -123.4], np.float32)[:, None, None], (2, 24, 24))
    for _ in range(60):
        mosaic.add(int(generator.integers(-20, 70)), int(generator.integers(-20, 90)), scores)
    _, blended, covered = mosaic.release(70)
    assert covered.any()
    assert np.abs(blended[0][covered] - np.float32(7.3)).max() <= 1e-6
    assert np.abs(blended[1][covered] - np.float32(-123.4)).max() <= 1e-6
    assert not blended[:, ~covered].any()


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 60),
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(0, 40),
    st.integers(0, 2**32 - 1),
    st.data(),
)
def test_equals_dense_reference_in_any_release_order(
    columns: int, rows: int, classes: int, window: int, count: int, seed: int, data: st.DataObject
) -> None:
    generator = np.random.default_rng(seed)
    places = np.stack(
        [generator.integers(-window - 2, rows + 3, count), generator.integers(-window - 2, columns + 3, count)], 1
    )
    places = places[np.argsort(places[:, 0], kind="stable")]
    windows = [
        (int(r), int(c), generator.normal(0, 5, (classes, window, window)).astype(np.float32)) for r, c in places
    ]
    mosaic = ScoreMosaic(columns, rows, classes, window)
    bands = []
    for row, column, scores in windows:
        if data.draw(st.booleans()):
            bands.append(mosaic.release(min(max(row, 0), data.draw(st.integers(0, rows)))))
        mosaic.add(row, column, scores)
    bands.append(mosaic.release(rows + 5))
    assert [b[0] for b in bands] == np.cumsum([0, *(b[1].shape[1] for b in bands[:-1])]).tolist()
    blended, covered = np.concatenate([b[1] for b in bands], axis=1), np.concatenate([b[2] for b in bands])
    inside = [w for w in windows if -window <= w[0] <= rows and -window <= w[1] <= columns]
    expected, expected_covered = reference(columns, rows, classes, window, inside)
    assert np.array_equal(covered, expected_covered)
    assert np.allclose(blended, expected, rtol=1e-5, atol=2e-5)


def test_release_of_rows_without_windows_is_empty_and_uncovered() -> None:
    mosaic = ScoreMosaic(5, 1000, 3, 4)
    first, scores, covered = mosaic.release(900)
    assert (first, scores.shape, covered.any()) == (0, (3, 900, 5), False)
    assert scores.dtype == np.float32
    mosaic.add(950, 0, np.ones((3, 4, 4), np.float32))
    first, scores, covered = mosaic.release(1000)
    assert first == 900
    assert np.flatnonzero(covered.any(axis=1)).tolist() == [50, 51, 52, 53]
    assert scores[:, covered].tolist() == np.ones((3, 16)).tolist()
    assert mosaic.release(1000)[1].shape == (3, 0, 5)


def test_memory_is_the_open_band() -> None:
    mosaic = ScoreMosaic(300, 4000, 4, 32)
    held = set()
    for row in range(0, 4000, 16):
        for column in range(-8, 300, 16):
            mosaic.add(row, column, np.zeros((4, 32, 32), np.float32))
        mosaic.release(row + 16)
        held.add(mosaic.nbytes)
    assert max(held) == 32 * 300 * 5 * 4


def test_released_rows_take_no_more_scores() -> None:
    mosaic = ScoreMosaic(8, 8, 1, 4)
    mosaic.release(3)
    with pytest.raises(ValueError, match="window at row 2 covers row 2, but rows before 3 are released"):
        mosaic.add(2, 0, np.zeros((1, 4, 4), np.float32))
    mosaic.add(3, 0, np.zeros((1, 4, 4), np.float32))
    assert mosaic.released == 3


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot have 8 columns, 8 rows, 1 classes, 0-cell windows"):
        ScoreMosaic(8, 8, 1, 0)
    with pytest.raises(ValueError, match=r"scores have the shape \(2, 4, 4\); this mosaic takes \(1, 4, 4\)"):
        ScoreMosaic(8, 8, 1, 4).add(0, 0, np.zeros((2, 4, 4), np.float32))


def test_window_outside_the_grid_is_dropped() -> None:
    mosaic = ScoreMosaic(8, 8, 1, 4)
    for row, column in ((-4, 0), (0, -4), (8, 0), (0, 8)):
        mosaic.add(row, column, np.ones((1, 4, 4), np.float32))
    assert not mosaic.release(8)[2].any()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_colours_come_back_where_they_were_given(columns: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    picture = generator.integers(1, 256, (rows + 20, columns + 20, 3), dtype=np.uint8)
    mosaic, expected = ColourMosaic(columns, rows), np.zeros((rows, columns, 3), np.uint8)
    released, parts = 0, []
    for row in sorted(generator.integers(0, rows, 6).tolist()):
        parts.append(mosaic.release(row))
        released = row
        column = int(generator.integers(columns))
        height, width = generator.integers(1, 20, 2).tolist()
        mosaic.add(row, column, picture[row : row + height, column : column + width])
        expected[row : row + height, column : column + width] = picture[
            row : min(row + height, rows), column : min(column + width, columns)
        ]
    parts.append(mosaic.release(rows))
    assert released <= rows
    assert np.array_equal(np.concatenate(parts), expected)
