from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dualproto_wsi.errors import SettingsError, WeightsMismatch
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.layers import PixelGroupNorm, enlarge
from dualproto_wsi.model.prototypes import PrototypeBank, merge_prototypes
from dualproto_wsi.model.released import from_released, released_probabilities, released_scores
from dualproto_wsi.settings import HeadSettings

SMALL = HeadSettings(
    text_dim=12,
    prototype_dim=16,
    refiner_width=16,
    refiner_blocks=2,
    refiner_groups=1,
    pyramid_groups=1,
    norm="pixel",
    upsampling=(1, 1, 2, 2),
    channels=(16, 16, 8, 8),
)


def make_head(
    settings: HeadSettings = SMALL, classes: int = 3, descriptions: int = 5, in_dim: int = 20
) -> DualProtoHead:
    torch.manual_seed(1)
    features = torch.randn(classes * descriptions, settings.text_dim)
    return DualProtoHead(settings, in_dim, classes, descriptions, features).eval()


def random_levels(size: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 20, size, size, generator=generator) for _ in range(4)]


def text_features(rule) -> Tensor:
    return torch.nn.functional.normalize(rule.array("head.text_features", (40, 512)), dim=1)


def reference_levels(rule) -> list[Tensor]:
    return [rule.array(f"head.F{number}", (2, 768, 14, 14)) for number in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def released_head(rule) -> DualProtoHead:
    text = text_features(rule)
    head = DualProtoHead(HeadSettings(), 768, 4, 10, text).eval()
    head.load_state_dict(from_released(rule.weights("head", prefix="head."), text))
    return head


@pytest.fixture(scope="module")
def outcomes(rule, released_head) -> dict[str, Tensor]:
    """Everything that the reference has numbers for, under its names."""
    levels = reference_levels(rule)
    with torch.inference_mode():
        output = released_head(levels)
        found = {"prototype_bank": output.prototypes[:, ::4]}
        for scale, level in enumerate(levels):
            maps = released_head.prototype_scores(level, scale, output.prototypes)
            step, number = maps.shape[-1] // 28, scale + 1
            found[f"cls{number}"] = output.prototype_pooled[scale]
            found[f"cls{number}_max"] = output.pooled[scale]
            found[f"cls{number}_mean"] = merge_prototypes(output.prototype_pooled[scale], 4, "mean")
            found[f"cam{number}"] = maps[:, ::5, ::step, ::step]
            found[f"cam{number}_max"] = output.scores[scale][:, :, ::step, ::step]
            found[f"cam{number}_mean"] = merge_prototypes(maps, 4, "mean")[:, :, ::step, ::step]
        labels = torch.from_numpy(rule.numbers("head")["score_labels"])
        found["scores_cam4"] = released_scores(output.scores[3], labels)[:, :, ::8, ::8]
        found["probabilities_cam4"] = released_probabilities(output.scores[3], labels)[:, :, ::8, ::8]
    return found


def test_the_released_numbers_are_reproduced(rule, outcomes):
    numbers = rule.numbers("head")
    named = {name for name in numbers if not name.startswith("released_") and name != "score_labels"}
    assert set(outcomes) == named
    for name in sorted(named):
        off = np.abs(outcomes[name].numpy() - numbers[name]).max() / numbers[name].std()
        assert off < 5e-5, f"{name} is off by {off} standard deviations"


def test_the_finest_map_is_the_released_map(rule, released_head, outcomes):
    finest = DualProtoHead(HeadSettings(map="finest"), 768, 4, 10, text_features(rule)).eval()
    finest.load_state_dict(released_head.state_dict())
    with torch.inference_mode():
        found = finest.logits(reference_levels(rule))[:, :, ::8, ::8]
    torch.testing.assert_close(found, outcomes["cam4_max"], rtol=0, atol=1e-5)


def test_released_weights_with_a_strange_key_are_refused(rule):
    text = text_features(rule)
    with pytest.raises(WeightsMismatch, match=r"'decoder\.0\.weight' is not a weight of the released"):
        from_released({**rule.weights("head", prefix="head."), "decoder.0.weight": text}, text)
    state = rule.weights("head", prefix="head.")
    del state["logit_scale2"]
    with pytest.raises(WeightsMismatch, match="must be logit_scale1, logit_scale2"):
        from_released(state, text)


def test_the_mean_map_is_the_mean_of_the_scales():
    head = make_head()
    levels = random_levels()
    with torch.inference_mode():
        scales = head(levels).scores
        expected = torch.stack([enlarge(s, 12 // s.shape[-1]) for s in scales]).mean(0)
        assert head.logits(levels).shape == (2, 3, 12, 12)
        torch.testing.assert_close(head.logits(levels), expected)


def test_the_finest_map_needs_no_other_scale():
    head = make_head(replace(SMALL, map="finest"))
    levels = random_levels()
    with torch.inference_mode():
        expected = head(levels).scores[3]
        head.pyramid[0] = head.pyramid[1] = head.pyramid[2] = torch.nn.Identity()  # would fail if it were used
        torch.testing.assert_close(head.logits(levels), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("text", "image", "count"), [(True, True, 30), (True, False, 15), (False, True, 15)])
def test_either_kind_of_prototype_can_be_left_out(text, image, count):
    head = make_head(replace(SMALL, text=text, image=image))
    with torch.inference_mode():
        output = head(random_levels())
    assert output.prototypes.shape == (count, 16)
    assert [p.shape for p in output.prototype_pooled] == [(2, count)] * 4
    assert [p.shape for p in output.pooled] == [(2, 3)] * 4


def test_text_and_image_prototypes_alternate():
    bank = PrototypeBank(SMALL, torch.randn(4, 12))
    with torch.inference_mode():
        rows = bank()
        text = torch.nn.functional.normalize(bank.project_text(bank.text_features), dim=1)
    torch.testing.assert_close(rows[0::2], text)
    torch.testing.assert_close(rows[1::2], torch.nn.functional.normalize(bank.image.detach(), dim=1))


def test_merges():
    scores = torch.tensor([[1.0, 3.0, 2.0, 2.0]])
    weights = torch.tensor([1.0, 3.0]).softmax(0)
    assert merge_prototypes(scores, 2, "mean").tolist() == [[2.0, 2.0]]
    torch.testing.assert_close(
        merge_prototypes(scores, 2, "softmax"), torch.tensor([[weights[0] + 3 * weights[1], 2.0]])
    )
    smooth = float(np.log((np.e + np.e**3) / 2))
    torch.testing.assert_close(merge_prototypes(scores, 2, "logsumexp"), torch.tensor([[smooth, 2.0]]))
    maps = torch.randn(2, 6, 3, 4)
    for merge in ("mean", "softmax", "logsumexp"):
        torch.testing.assert_close(
            merge_prototypes(maps, 3, merge)[:, :, 1, 2], merge_prototypes(maps[:, :, 1, 2], 3, merge)
        )


@pytest.mark.parametrize("groups", [1, 4])
def test_pixel_norm_is_group_norm_of_each_pixel_alone(groups):
    x = torch.randn(2, 16, 3, 5)
    ours, theirs = PixelGroupNorm(groups, 16), torch.nn.GroupNorm(groups, 16)
    for norm in (ours, theirs):
        torch.manual_seed(2)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    alone = torch.stack([theirs(pixel[:, :, None, None])[:, :, 0, 0] for pixel in x.flatten(2).unbind(2)], dim=2)
    torch.testing.assert_close(ours(x), alone.view_as(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("norm", "independent"), [("pixel", True), ("group", False)])
def test_only_pixel_norm_makes_a_score_independent_of_the_rest_of_the_window(norm, independent):
    """Twelve columns further than the head's convolutions reach, something else is shown."""
    head = make_head(replace(SMALL, norm=norm))
    levels = random_levels(24)
    others = [torch.cat([level[..., :12], 3 * level[..., 12:] + 1], dim=3) for level in levels]
    with torch.inference_mode():
        one, other = head.logits(levels)[..., :8], head.logits(others)[..., :8]
    assert torch.allclose(one, other, atol=1e-4) == independent


def test_every_parameter_gets_a_gradient():
    head = make_head().train()
    output = head(random_levels())
    sum(p.square().sum() for p in output.pooled).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_scores_stay_float32_under_autocast():
    head = make_head()
    levels = random_levels()
    with torch.inference_mode():
        exact = head.logits(levels)
        with torch.autocast("cpu", torch.bfloat16):
            rough = head.logits(levels)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * float(head.factors.detach().max())


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"text features are \(4, 12\); 3 classes x 5 descriptions of length 12 need"):
        DualProtoHead(SMALL, 20, 3, 5, torch.zeros(4, 12))
    with pytest.raises(ValueError, match=r"the head needs 4 of \(N, 20, h, w\)"):
        make_head().logits(random_levels()[:3])
    with pytest.raises(ValueError, match=r"levels are .*\(2, 19, 6, 6\)"):
        make_head()([level[:, :19] for level in random_levels()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pyramid_groups": 3}, "channels 16 does not divide into 3 groups of 4 or more, as norm 'pixel' needs"),
        ({"pyramid_groups": 4}, "channels 8 does not divide into 4 groups of 4 or more, as norm 'pixel' needs"),
        ({"refiner_width": 9, "refiner_groups": 2}, "refiner_width 9 does not divide into 2 groups"),
        ({"upsampling": (1, 0, 2, 2)}, "upsampling is 0; it must be 1 or more"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        replace(SMALL, **change)
