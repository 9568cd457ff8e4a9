"""Areas of regions against scipy's labelling, however the map is cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualproto_wsi.stats.cohort.regions import RegionAreas


def expected(labels: np.ndarray, classes: int) -> list[list[int]]:
    found = []
    for label in range(1, classes + 1):
        ids, _ = ndimage.label(labels == label)
        found.append(sorted(np.bincount(ids.ravel())[1:].tolist()))
    return found


def areas(labels: np.ndarray, classes: int, cuts: list[int]) -> list[list[int]]:
    meter = RegionAreas(labels.shape[1], classes)
    for start, stop in zip([0, *cuts], [*cuts, len(labels)], strict=True):
        meter.add(labels[start:stop])
    return [found.tolist() for found in meter.finish()]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_as_scipy(data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 25))
    values = data.draw(st.sampled_from([(0, 1), (0, 1, 2), (1, 2, 3, 255)]))
    generator = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    labels = generator.choice(values, (rows, columns)).astype(np.uint8)
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=4)))
    assert areas(labels, 3, cuts) == expected(labels, 3)


def test_a_spiral_is_one_region() -> None:
    labels = np.ones((9, 9), np.uint8)
    labels[1, :8] = labels[1:8, 7] = labels[7, 1:8] = labels[3:7, 1] = labels[3, 1:6] = 0
    assert areas(labels, 1, [1, 2, 5, 8]) == expected(labels, 1)
    assert len(expected(labels, 1)[0]) == 1
