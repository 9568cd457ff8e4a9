from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from dualproto_wsi.stats.small_regions import SmallRegions, recall_of


def test_by_hand() -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[2:4, 2:6] = 1  # 8 px
    truth[8:12, 8:12] = 1  # 16 px: not small
    truth[15:17, 0:2] = 1  # 4 px, but it meets the rim
    truth[15, 15] = truth[16, 16] = 1  # two of 1 px: they share a corner only
    small = SmallRegions(truth, 2, 16)
    assert small.counts.tolist() == [0, 3]
    prediction = np.zeros((20, 20), np.uint8)
    prediction[2:4, 2:4] = 1  # half of the first
    prediction[15, 15] = 1
    assert small.found(prediction).tolist() == [0, 2]
    prediction[2, 2] = 0
    assert small.found(prediction).tolist() == [0, 1]
    assert recall_of(small.found(prediction), small.counts) == pytest.approx([np.nan, 1 / 3], nan_ok=True)


def test_what_is_not_labelled_is_no_class() -> None:
    truth = np.full((9, 9), 255, np.uint8)
    truth[4, 4] = 0
    truth[2, 2] = 2  # background
    assert SmallRegions(truth, 2, 10).counts.tolist() == [1, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
def test_against_scipy(seed: int, below: int) -> None:
    generator = np.random.default_rng(seed)
    truth, found = generator.integers(0, 3, (2, 16, 18)).astype(np.uint8)
    small = SmallRegions(truth, 3, below)
    counts, hits = np.zeros(3, int), np.zeros(3, int)
    for k in range(3):
        ids, count = label(truth == k)
        for region in (ids == i for i in range(1, count + 1)):
            rim = region[0].any() or region[-1].any() or region[:, 0].any() or region[:, -1].any()
            if region.sum() < below and not rim:
                counts[k] += 1
                hits[k] += (found[region] == k).mean() >= 0.5
    assert small.counts.tolist() == counts.tolist()
    assert small.found(found).tolist() == hits.tolist()
