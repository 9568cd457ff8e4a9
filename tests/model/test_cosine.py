"""The kernel against the plain way: enlarge the features, compare, merge."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualproto_wsi.model.cosine import MERGES, enlarged_scores
from dualproto_wsi.model.layers import enlarge
from dualproto_wsi.model.prototypes import merge_prototypes


def plain(features: Tensor, weight: Tensor, factor: int, classes: int, merge: str) -> tuple[Tensor, Tensor]:
    maps = F.conv2d(F.normalize(enlarge(features, factor), dim=1), weight[:, :, None, None])
    return merge_prototypes(maps, classes, merge), maps.mean((2, 3))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(MERGES),
    st.integers(0, 2**31),
)
def test_it_equals_the_plain_way(count, height, width, factor, classes, descriptions, merge, seed):
    torch.manual_seed(seed)
    features, weight = torch.randn(count, 24, height, width), 3 * torch.randn(classes * descriptions, 24)
    found, expected = (way(features, weight, factor, classes, merge) for way in (enlarged_scores, plain))
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=3e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=3e-4)
    assert found[0].is_contiguous() and found[0].dtype == torch.float32


@pytest.mark.parametrize("merge", MERGES)
def test_scores_far_apart_do_not_overflow(merge):
    torch.manual_seed(1)
    features, weight = torch.randn(1, 8, 4, 4), 1000 * torch.randn(6, 8)
    found, expected = enlarged_scores(features, weight, 2, 2, merge)[0], plain(features, weight, 2, 2, merge)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0.1)


def test_neighbours_that_cancel_and_features_of_zero_stay_finite():
    features = torch.randn(1, 8, 1, 1) * torch.tensor([1.0, -1.0, 0.0, 0.0]).view(1, 1, 1, 4)
    found, pooled = enlarged_scores(features, torch.randn(4, 8), 3, 2, "softmax")
    assert found.isfinite().all() and pooled.isfinite().all()
    assert (found[..., -3:] == 0).all()


def test_channels_last_and_half_precision_are_taken():
    torch.manual_seed(2)
    features, weight = torch.randn(2, 16, 6, 5), torch.randn(6, 16)
    expected = enlarged_scores(features, weight, 2, 3, "softmax")[0]
    last = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(enlarged_scores(last, weight, 2, 3, "softmax")[0], expected)
    half = enlarged_scores(features.half(), weight, 2, 3, "softmax")[0]
    torch.testing.assert_close(half, expected, rtol=0, atol=2e-3)
