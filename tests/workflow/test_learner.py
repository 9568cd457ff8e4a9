"""The loss, schedule and state of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.model.heads import build_head
from dualproto_wsi.settings import OptimiserSettings, train_preset
from dualproto_wsi.workflow.training.features import Features, zoomed_levels
from dualproto_wsi.workflow.training.learner import rate_factor
from dualproto_wsi.workflow.training.loss import Batch, Objective
from dualproto_wsi.workflow.training.objective import diversity_loss
from dualproto_wsi.workflow.training.released_recipe import released_loss, released_optimiser
from dualproto_wsi.workflow.training.windows import Sample, Step

LABELS = torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 1]], dtype=torch.int8)


@pytest.fixture(scope="module")
def features() -> Features:
    return Features(build_encoder("compact"))


@pytest.fixture
def batch(features: Features, tmp_path) -> Batch:
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    samples = [
        Sample(
            LabelledImage(tmp_path / "a", "p", row.numpy()),
            (64, 64),
            [CropGrid(64, 64, row.numpy()[:, None, None])],
            64,
            True,
        )
        for row in LABELS
    ]
    step = Step((0, 1, 2), ((0, 0),) * 3, (0, 3, 6), 0, 0)
    return Batch(samples, step, images, features.encode(images))


def released_head(**changes):
    torch.manual_seed(0)
    settings = replace(train_preset("released", "compact").head, **changes)
    return build_head(settings, 256, 3, 4, torch.randn(12, 384))


def test_the_preset_s_loss_is_the_released_one(features, batch):
    head = released_head(merge="mean")
    objective = Objective(train_preset("released", "compact").objective, torch.ones(1, 3), features)
    terms = objective(head, head.bank.text_features, batch)
    expected = released_loss(head(batch.levels), LABELS)
    assert float(terms["loss"]) == pytest.approx(float(expected), rel=1e-6)
    assert float(terms["crops"]) == pytest.approx(float(expected) / 4, rel=1e-6)
    gradients = []
    for loss in (terms["loss"], expected):
        head.zero_grad()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in head.parameters()]))
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7)


def test_every_difference_of_the_default_is_a_setting_of_its_own(features, batch):
    released = train_preset("released", "compact").objective
    head = released_head(merge="mean")
    losses = {}
    for name, change in {
        "released": {},
        "pooling": {"pooling": "logmeanexp"},
        "scales": {"scales": "mean"},
        "diversity": {"diversity": 0.5},
        "absence": {"absence": 0.5},
    }.items():
        objective = Objective(replace(released, **change), torch.ones(1, 3), features)
        losses[name] = float(objective(head, head.bank.text_features, batch)["loss"])
    assert losses["scales"] == pytest.approx(losses["released"] / 4, rel=1e-5)
    diverse = float(diversity_loss(head.bank(), 3))
    assert losses["diversity"] == pytest.approx(losses["released"] + 0.5 * diverse, rel=1e-5)
    assert losses["absence"] > losses["released"]
    softmax = Objective(released, torch.ones(1, 3), features)(released_head(), head.bank.text_features, batch)
    assert len({*losses.values(), float(softmax["loss"])}) == 6


def test_a_moved_window_is_compared_with_the_still_one(features, batch):
    head = released_head()
    settings = replace(train_preset("released", "compact").objective, steadiness=2.0)
    moved = replace(batch, step=replace(batch.step, shift=5))
    still, shifted = (
        Objective(settings, torch.ones(1, 3), features)(head, head.bank.text_features, b) for b in (batch, moved)
    )
    assert still["steadiness"] == 0 < shifted["steadiness"]
    assert float(shifted["loss"]) == pytest.approx(float(still["loss"] + 2 * shifted["steadiness"]), rel=1e-5)


def test_shares_of_a_batch_add_up(features, batch):
    head, settings = released_head(), replace(train_preset("released", "compact").objective, diversity=0.3)
    objective = Objective(settings, torch.ones(1, 3), features)
    whole = objective(head, head.bank.text_features, batch)
    parts = []
    for mine in (slice(0, None, 2), slice(1, None, 2)):
        step = replace(
            batch.step,
            chosen=batch.step.chosen[mine],
            origins=batch.step.origins[mine],
            orientations=batch.step.orientations[mine],
        )
        part = Batch(batch.samples[mine], step, None, [level[mine] for level in batch.levels], len(step.chosen) / 3)
        parts.append(objective(head, head.bank.text_features, part))
    for name, value in whole.items():
        assert float(value) == pytest.approx(float(parts[0][name] + parts[1][name]), rel=1e-5)


def test_the_rate_rises_and_falls():
    cosine = [rate_factor(OptimiserSettings(warm_up=5), step, 100) for step in range(100)]
    assert cosine[0] == pytest.approx(0.2) and cosine[4] == pytest.approx(max(cosine), rel=0.01)
    assert cosine[50] == pytest.approx(0.5) and cosine[99] < 1e-3
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser, schedule = released_optimiser([weight], 10)
    released = train_preset("released").optimiser
    assert isinstance(optimiser, torch.optim.AdamW)
    assert (released.weight_decay, released.gradient_norm) == (optimiser.defaults["weight_decay"], 0)
    for step in range(10):
        assert released.learning_rate * rate_factor(released, step, 10) == pytest.approx(schedule.get_last_lr()[0])
        optimiser.step()
        schedule.step()


def test_half_precision_of_the_encoder_is_near(features):
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    exact, rough = features.encode(images), Features(features.encoder, "bf16").encode(images)
    for one, other in zip(exact, rough, strict=True):
        assert other.dtype == torch.float32
        assert 0 < float((one - other).abs().mean() / one.abs().mean()) < 0.05
    assert np.isfinite(rough[-1].numpy()).all()


def test_levels_of_zoomed_images_lie_where_the_images_do(features):
    dark = torch.ones(2, 3, 128, 128)
    dark[:, :, :64, 64:] = 0.2
    plain = zoomed_levels(features, dark, 0.0, torch.Generator())
    assert all(torch.equal(one, other) for one, other in zip(plain, features.encode(dark), strict=True))
    zoomed = [zoomed_levels(features, dark, 0.3, torch.Generator().manual_seed(seed)) for seed in range(4)]
    for levels in zoomed:
        assert [level.shape for level in levels] == [level.shape for level in plain]
        corner, rest = levels[-1][0, :, 2:6, 10:14].mean((1, 2)), levels[-1][0, :, 10:14, 2:6].mean((1, 2))
        for found, expected in ((corner, plain[-1][0, :, 2:6, 10:14]), (rest, plain[-1][0, :, 10:14, 2:6])):
            assert torch.nn.functional.cosine_similarity(found, expected.mean((1, 2)), dim=0) > 0.9
    assert not torch.allclose(zoomed[0][-1], zoomed[1][-1], atol=1e-3)
