"""Distances to the tumour front: streamed as on the whole map, and as scipy has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualproto_wsi.stats.cohort import front
from dualproto_wsi.stats.cohort.front import FrontDistances, find_front


def random_map(seed: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels with glass, and a body, both with blobs of some cells."""
    generator = np.random.default_rng(seed)
    noise = ndimage.uniform_filter(generator.random((2, rows, columns)), (0, 5, 5))
    labels = np.where(noise[0] < 0.47, 0, 2).astype(np.uint8)
    body = (noise[1] > 0.53) & (labels > 0)
    labels[body] = 1
    return labels, body


def whole_distance(labels: np.ndarray, body: np.ndarray) -> np.ndarray:
    inner, outer = find_front(labels > 0, body)
    if not inner.any():
        return np.full(labels.shape, np.inf)
    return np.where(body, ndimage.distance_transform_edt(~outer), ndimage.distance_transform_edt(~inner)) - 0.5


def streamed(labels: np.ndarray, body: np.ndarray, reach: float, cuts: list[int]) -> np.ndarray:
    meter = FrontDistances(labels.shape[1], reach)
    bands = []
    for start, stop in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        bands += meter.feed(labels[start:stop], body[start:stop])
    bands += meter.finish()
    assert [band.row for band in bands] == np.cumsum([0, *(len(band.labels) for band in bands)])[:-1].tolist()
    assert np.array_equal(np.concatenate([band.labels for band in bands]), labels)
    assert np.array_equal(np.concatenate([band.body for band in bands]), body)
    return np.concatenate(
        [np.full(band.labels.shape, np.inf) if band.distance is None else band.distance for band in bands]
    )


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_streamed_equals_whole(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 40))
    reach = data.draw(st.sampled_from([0.5, 1.0, 3.3, 7.0, 12.0]))
    labels, body = random_map(data.draw(st.integers(0, 10_000)), rows, columns)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "ROWS", data.draw(st.integers(1, 30)))
        found = streamed(labels, body, reach, cuts)
    expected = whole_distance(labels, body)
    near = (expected <= reach) & (labels > 0)
    assert np.allclose(found[near], expected[near], rtol=1e-6)
    assert (found[(expected > reach) & (labels > 0)] > reach).all()


def test_half_plane_is_the_distance_to_its_border_line() -> None:
    labels = np.full((700, 60), 2, np.uint8)
    labels[:, :25] = 1
    found = streamed(labels, labels == 1, 30, [100, 650])
    assert np.allclose(found, np.abs(np.arange(60) + 0.5 - 25)[None])


def test_a_border_with_glass_is_no_front() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 1
    assert np.isinf(streamed(labels, labels == 1, 8, [])).all()
    labels[5:15, 16] = 2  # tissue near, glass between
    assert np.isinf(streamed(labels, labels == 1, 8, [])).all()
    labels[9, 15] = 2
    assert streamed(labels, labels == 1, 8, [])[9, 14:16].tolist() == [0.5, 0.5]
