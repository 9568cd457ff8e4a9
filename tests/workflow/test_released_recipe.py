"""The released training step: loss against the reference, optimiser, what moves, and why prototypes collapse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from dualproto_wsi.data.crops import whole_image
from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.model.encoder import build_encoder, hash_tensors
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.heads import build_head, prototype_cosines
from dualproto_wsi.model.prototypes import merge_prototypes
from dualproto_wsi.model.released import from_released, start_as_released
from dualproto_wsi.settings import HeadSettings, train_preset
from dualproto_wsi.workflow.training.learner import rate_factor
from dualproto_wsi.workflow.training.loss import Batch, Objective
from dualproto_wsi.workflow.training.objective import class_weights
from dualproto_wsi.workflow.training.released_recipe import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    WEIGHT_DECAY,
    released_loss,
    released_optimiser,
)
from dualproto_wsi.workflow.training.windows import Sample, Step

SMALL = HeadSettings(
    text_dim=12,
    prototype_dim=16,
    refiner_width=16,
    refiner_blocks=1,
    refiner_groups=1,
    pyramid_groups=1,
    norm="pixel",
    upsampling=(1, 1, 2, 2),
    channels=(16, 16, 8, 8),
    dropout=0.0,
)
MERGES = ("mean", "softmax", "logsumexp")


def expected_loss(logits: list[np.ndarray], labels: np.ndarray) -> float:
    """Return the sum over scales of the mean binary cross entropy, in float64, without torch."""
    losses = []
    for x in (np.asarray(x, np.float64) for x in logits):
        losses.append(np.mean(np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))))
    return float(np.sum(losses))


def random_levels(images: int = 2, size: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(images, 20, size, size, generator=generator) for _ in range(4)]


def small_head(settings: HeadSettings = SMALL, classes: int = 3, descriptions: int = 4) -> DualProtoHead:
    torch.manual_seed(1)
    return build_head(settings, 20, classes, descriptions, torch.randn(classes * descriptions, settings.text_dim))


def test_scores_and_loss_are_those_of_the_released_code(rule):
    numbers = rule.numbers("head")
    text = torch.nn.functional.normalize(rule.array("head.text_features", (40, 512)), dim=1)
    head = DualProtoHead(HeadSettings(merge="softmax", map="finest"), 768, 4, 10, text).eval()
    head.load_state_dict(from_released(rule.weights("head", prefix="head."), text))
    levels = [rule.array(f"head.F{number}", (2, 768, 14, 14)) for number in (1, 2, 3, 4)]
    with torch.inference_mode():
        output = head(levels)
        loss = released_loss(output, torch.from_numpy(numbers["score_labels"]))
    for scale, pooled in enumerate(output.prototype_pooled, start=1):
        reference, merged = numbers[f"cls{scale}"], numbers[f"cls{scale}_mean"]
        assert np.abs(pooled.numpy() - reference).max() < 5e-5 * reference.std()
        ours = merge_prototypes(pooled, 4, "mean").numpy()
        assert np.abs(ours - merged).max() < 5e-5 * merged.std()
    expected = expected_loss([numbers[f"cls{scale}_mean"] for scale in (1, 2, 3, 4)], numbers["score_labels"])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert expected > 1  # not a loss that anything gives


def test_the_preset_released_minimises_the_released_loss(rule):
    """What training runs, with the settings of the preset, on the reference."""
    numbers, settings = rule.numbers("head"), train_preset("released", layout="bcss-wsss")
    text = torch.nn.functional.normalize(rule.array("head.text_features", (40, 512)), dim=1)
    head = DualProtoHead(replace(settings.head, merge=settings.objective.merge), 768, 4, 10, text).eval()
    head.load_state_dict(from_released(rule.weights("head", prefix="head."), text))
    labels = numbers["score_labels"].astype(np.int8)
    images = [LabelledImage(Path(f"{i}.png"), str(i), row) for i, row in enumerate(labels)]
    samples = [Sample(image, (224, 224), [whole_image(image, (224, 224), 16)], 224, True) for image in images]
    empty = whole_image(LabelledImage(Path("2.png"), "2", 0 * labels[0]), (224, 224), 16)  # no class is everywhere
    crops = [*(sample.crops for sample in samples), [empty]]
    weights = class_weights(crops, "abcd", settings.objective.balance)
    levels = [rule.array(f"head.F{number}", (2, 768, 14, 14)) for number in (1, 2, 3, 4)]
    assert (settings.optimiser.learning_rate, settings.optimiser.weight_decay) == (LEARNING_RATE, WEIGHT_DECAY)
    assert (settings.optimiser.epochs, settings.optimiser.batch_size) == (EPOCHS, BATCH_SIZE)
    features = SimpleNamespace(encoder=SimpleNamespace(grid_px=16))
    objective = Objective(settings.objective, weights, features)
    with torch.inference_mode():
        step = Step((0, 1), ((0, 0), (0, 0)), (0, 0), 0, 0)
        loss = objective(head, text, Batch(samples, step, None, levels))["loss"]
        expected = released_loss(head(levels), torch.from_numpy(labels))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_merge_of_the_head_does_not_change_the_loss():
    levels, labels = random_levels(), torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.int8)
    losses = [released_loss(small_head(replace(SMALL, merge=merge))(levels), labels).item() for merge in MERGES]
    assert losses[0] == losses[1] == losses[2]
    pooled = [p.reshape(2, 3, 8).mean(2).detach().numpy() for p in small_head()(levels).prototype_pooled]
    assert losses[0] == pytest.approx(expected_loss(pooled, labels.numpy()), rel=1e-6)


def test_the_rate_falls_in_a_straight_line_to_nothing():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser, schedule = released_optimiser([parameter], 5)
    rates = []
    for _ in range(5):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates == pytest.approx([5e-5, 4e-5, 3e-5, 2e-5, 1e-5])
    preset = train_preset("released").optimiser
    assert [5e-5 * rate_factor(preset, step, 5) for step in range(5)] == pytest.approx(rates)
    assert optimiser.param_groups[0]["lr"] == 0
    assert optimiser.param_groups[0]["weight_decay"] == 1e-3
    assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)


def test_one_step_moves_the_head_and_nothing_that_is_frozen():
    encoder = build_encoder("compact")
    before_encoder = hash_tensors(encoder.state_dict().items(), "")
    torch.manual_seed(1)
    head = build_head(SMALL, encoder.dim, 3, 4, torch.randn(12, 12)).train()
    before = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
    optimiser, schedule = released_optimiser(head.parameters(), 10)
    images = torch.rand(2, 3, 48, 48)
    loss = released_loss(head(encoder.encode(images)), torch.tensor([[1, 0, 1], [0, 1, 0]]))
    loss.backward()
    optimiser.step()
    schedule.step()
    still = [name for name, tensor in head.state_dict().items() if torch.equal(tensor, before[name])]
    assert still == ["bank.text_features"]
    moved = head.bank.image.detach() - before["bank.image"]
    assert moved.abs().max() == pytest.approx(5e-5, rel=0.05)  # Adam's first step is the rate
    assert hash_tensors(encoder.state_dict().items(), "") == before_encoder
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())


def score_gradients(merge: str) -> Tensor:
    """Return d loss / d pooled score of each prototype at the finest scale, (N, K, prototypes of a class)."""
    head = small_head(replace(SMALL, merge=merge)).eval()
    output = head(random_levels())
    pooled = output.prototype_pooled[3]
    logits = merge_prototypes(pooled, 3, merge)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0, 1], [0, 1, 0]]))
    return torch.autograd.grad(loss, pooled)[0].reshape(2, 3, 8)


def test_mean_merge_gives_all_prototypes_of_a_class_the_same_gradient():
    gradients = score_gradients("mean")
    assert gradients.abs().min() > 0
    torch.testing.assert_close(gradients, gradients[..., :1].expand_as(gradients), rtol=0, atol=0)


@pytest.mark.parametrize("merge", ["softmax", "logsumexp"])
def test_other_merges_tell_prototypes_of_a_class_apart(merge):
    gradients = score_gradients(merge)
    spread = gradients.std(2) / gradients.abs().mean(2)
    assert spread.min() > 0.05


def unit_prototype_gradients(merge: str) -> Tensor:
    """Return d loss / d (projected prototype of length 1) at the finest scale, (K, prototypes of a class, channels)."""
    head = small_head(replace(SMALL, merge=merge)).eval()
    with torch.no_grad():
        features = head.pyramid[3](head.refiner(random_levels()[3]))
        features = torch.nn.functional.normalize(features, dim=1)
        rows = torch.nn.functional.normalize(head.project_prototypes[3](head.bank()), dim=1)
    rows.requires_grad_()
    scores = torch.einsum("nchw,pc->nphw", features, rows) * head.factors[3].detach()
    logits = merge_prototypes(scores.mean((2, 3)), 3, merge)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0, 1], [0, 1, 0]]))
    return torch.autograd.grad(loss, rows)[0].reshape(3, 8, -1)


def test_with_the_mean_all_prototypes_of_a_class_are_pulled_alike():
    same = unit_prototype_gradients("mean")
    torch.testing.assert_close(same, same[:, :1].expand_as(same), rtol=1e-5, atol=1e-8)
    for merge in ("softmax", "logsumexp"):
        other = unit_prototype_gradients(merge)
        assert (other - other[:, :1]).norm(dim=2).max() > 0.05 * other.norm(dim=2).mean()


def trained_cosine(merge: str) -> tuple[float, float]:
    """Train image prototypes alone on windows where each class shows itself in four ways.

    Returns
    -------
    before, after : float
        Mean cosine between the prototypes of a class.
    """
    head = small_head(replace(SMALL, text=False, merge=merge))
    generator = torch.Generator().manual_seed(6)
    looks = torch.randn(3, 4, 16, generator=generator)
    optimiser = torch.optim.AdamW([head.bank.image], lr=1e-2)
    before = prototype_cosines(head, "abc")
    for _ in range(300):
        labels = (torch.rand(32, 3, generator=generator) < 0.5).float()
        chosen = torch.randint(4, (32, 3), generator=generator)
        shown = torch.stack([looks[k][chosen[:, k]] for k in range(3)], dim=1)
        features = torch.nn.functional.normalize((labels[:, :, None] * shown).sum(1) + 0.3, dim=1)
        logits = merge_prototypes(10 * features @ head.bank().T, 3, merge)
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimiser.step()
    after = prototype_cosines(head, "abc")
    return tuple(float(np.mean([found[name]["image"] for name in "abc"])) for found in (before, after))


def test_prototypes_collapse_under_the_mean_merge_alone():
    before, mean = trained_cosine("mean")
    assert before < 0.1
    assert mean > 0.95
    assert trained_cosine("logsumexp")[1] < 0.6
    assert trained_cosine("softmax")[1] < 0.6


def test_released_first_values():
    torch.manual_seed(0)
    head = build_head(HeadSettings(refiner_blocks=1), 768, 4, 10)
    start_as_released(head)
    assert head.bank.image.std().item() == pytest.approx(0.02, rel=0.05)
    assert head.bank.project_text.weight.abs().max().item() == pytest.approx(np.sqrt(6 / 1024), rel=0.01)
    assert not head.bank.project_text.bias.any()
    assert head.refiner.blocks[0].conv1.weight.std().item() == pytest.approx(np.sqrt(2 / (9 * 256)), rel=0.02)
    assert head.pyramid[3].reduce.weight.std().item() == pytest.approx(np.sqrt(2 / 32), rel=0.02)
    assert head.project_prototypes[3].weight.abs().max().item() == pytest.approx(np.sqrt(6 / 544), rel=0.01)
    assert head.factors.tolist() == pytest.approx([1 / 0.07] * 4)
    assert head.refiner.project_norm.weight.eq(1).all()
    assert head.refiner.project_norm.bias.eq(0).all()
