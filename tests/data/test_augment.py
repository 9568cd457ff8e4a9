from __future__ import annotations

import pytest
import torch

from dualproto_wsi.data.augment import ORIENTATIONS, jitter_stain, orient, orient_back


def test_orientations_differ_and_come_back() -> None:
    image = torch.rand(2, 3, 4, 4)
    seen = [orient(image, k) for k in range(ORIENTATIONS)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert all(torch.equal(orient_back(turned, k), image) for k, turned in enumerate(seen))


def test_stain_jitter() -> None:
    images = torch.rand(3, 3, 8, 8) * 0.8 + 0.1
    assert jitter_stain(images, 0.0, torch.Generator()) is images
    first = jitter_stain(images, 0.2, torch.Generator().manual_seed(1))
    again = jitter_stain(images, 0.2, torch.Generator().manual_seed(1))
    other = jitter_stain(images, 0.2, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    assert first.min() >= 0 and first.max() <= 1
    assert 0.005 < (first - images).abs().mean() < 0.2


def test_tiny_jitter_changes_little() -> None:
    images = torch.rand(1, 3, 8, 8) * 0.8 + 0.1
    assert torch.allclose(jitter_stain(images, 1e-6, torch.Generator()), images, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_stay_in_range(value: float) -> None:
    varied = jitter_stain(torch.full((4, 3, 2, 2), value), 0.5, torch.Generator().manual_seed(0))
    assert varied.isfinite().all()
    assert varied.min() >= 0 and varied.max() <= 1
