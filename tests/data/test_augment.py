from __future__ import annotations

import pytest
import torch

from dualproto_wsi.data.augment import (
    ORIENTATIONS,
    jitter_sharpness,
    jitter_stain,
    jitter_tone,
    orient,
    orient_back,
)

COLOURS = pytest.mark.parametrize("jitter", [jitter_stain, jitter_tone])


def test_orientations_differ_and_come_back() -> None:
    image = torch.rand(2, 3, 4, 4)
    seen = [orient(image, k) for k in range(ORIENTATIONS)]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert all(torch.equal(orient_back(turned, k), image) for k, turned in enumerate(seen))


@COLOURS
def test_colours_vary_by_chance_alone(jitter) -> None:
    images = torch.rand(3, 3, 8, 8) * 0.8 + 0.1
    assert jitter(images, 0.0, torch.Generator()) is images
    first = jitter(images, 0.2, torch.Generator().manual_seed(1))
    again = jitter(images, 0.2, torch.Generator().manual_seed(1))
    other = jitter(images, 0.2, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)
    assert first.min() >= 0 and first.max() <= 1
    assert 0.005 < (first - images).abs().mean() < 0.2


@COLOURS
def test_tiny_jitter_changes_little(jitter) -> None:
    images = torch.rand(1, 3, 8, 8) * 0.8 + 0.1
    assert torch.allclose(jitter(images, 1e-6, torch.Generator()), images, atol=1e-4)


@COLOURS
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_stay_in_range(jitter, value: float) -> None:
    varied = jitter(torch.full((4, 3, 2, 2), value), 0.5, torch.Generator().manual_seed(0))
    assert varied.isfinite().all()
    assert varied.min() >= 0 and varied.max() <= 1


def test_tone_varies_white_balance_and_keeps_the_order_of_greys() -> None:
    ramp = torch.linspace(0.2, 0.8, 16).expand(8, 3, 1, 16)
    varied = jitter_tone(ramp, 0.3, torch.Generator().manual_seed(0))
    inside = (varied > 0.01).all(1) & (varied < 0.99).all(1)
    steps = varied.diff(dim=3)[(inside[:, :, 1:] & inside[:, :, :-1])[:, None].expand(-1, 3, -1, -1)]
    assert len(steps) > 100 and (steps > 0).all()
    assert (varied[:, 0] - varied[:, 2]).abs().amax() > 0.02


def test_some_images_lose_fine_detail_and_keep_the_coarse() -> None:
    fine = (torch.arange(64) % 2).float().expand(40, 3, 64, 64)
    coarse = torch.linspace(0.1, 0.9, 64).expand(40, 3, 64, 64)
    assert jitter_sharpness(fine, 0.0, torch.Generator()) is fine
    blurred = jitter_sharpness(fine, 0.5, torch.Generator().manual_seed(0))
    changed = (blurred != fine).flatten(1).any(1)
    assert 10 < changed.sum() < 30
    assert blurred[changed].std(dim=(1, 2, 3)).mean() < 0.4 * fine.std()
    assert torch.equal(changed, (jitter_sharpness(fine, 0.5, torch.Generator().manual_seed(0)) != fine)[:, 0, 0].any(1))
    kept = jitter_sharpness(coarse, 1.0, torch.Generator().manual_seed(0))
    assert (kept - coarse)[:, :, 8:-8, 8:-8].abs().max() < 0.02
    tiny = torch.rand(1, 3, 8, 20)
    assert jitter_sharpness(tiny, 1.0, torch.Generator().manual_seed(0)).shape == tiny.shape
