"""The baseline of class activation maps, heads by their kind, and the likeness of prototypes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dualproto_wsi.errors import BundleInvalid, SettingsError
from dualproto_wsi.model.cam import CamHead
from dualproto_wsi.model.checkpoint import load_model, save_bundle
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.heads import build_head, prototype_cosines
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.settings import HeadSettings, from_data, to_data

SMALL = HeadSettings(
    text_dim=12,
    prototype_dim=16,
    refiner_width=16,
    refiner_blocks=1,
    refiner_groups=1,
    pyramid_groups=1,
    norm="pixel",
    upsampling=(1, 1, 2, 2),
    channels=(8, 8, 8, 8),
)
CAM = replace(SMALL, kind="cam")


def random_levels(count: int = 4, size: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(2, 20, size, size, generator=generator) for _ in range(count)]


def test_a_cam_is_the_classifier_of_the_average_applied_at_each_place():
    head = build_head(CAM, 20, 3, 2)
    levels = random_levels()
    with torch.inference_mode():
        output = head(levels)
        normed = head.norm(levels[-1])
        classifier, bias = head.classifier.weight[:, :, 0, 0], head.classifier.bias
        torch.testing.assert_close(output.pooled[0], normed.mean((2, 3)) @ classifier.T + bias)
        torch.testing.assert_close(output.scores[0][1, :, 2, 4], classifier @ normed[1, :, 2, 4] + bias)
        torch.testing.assert_close(output.scores[0].mean((2, 3)), output.pooled[0])
        logits, presence = head.map_and_presence(levels)
    assert head.scales == (1,)
    assert logits.shape == (2, 3, 12, 12)
    torch.testing.assert_close(
        logits, torch.nn.functional.interpolate(output.scores[0], scale_factor=2.0, mode="bilinear")
    )
    torch.testing.assert_close(presence, output.pooled[0])
    assert output.prototypes.shape == (3, 20)
    torch.testing.assert_close(output.prototypes.norm(dim=1), torch.ones(3))
    assert output.prototype_pooled[0] is output.pooled[0]


def test_a_cam_finds_what_only_image_level_labels_told():
    """Class k adds 2 to channel k where it is; after training on the images' labels the maps show where."""
    torch.manual_seed(0)
    truth = (torch.rand(64, 3, 6, 6) < 0.15) & (torch.rand(64, 3, 1, 1) < 0.5)
    level = torch.randn(64, 20, 6, 6) * 0.3
    level[:, :3] += 2.0 * truth
    head = build_head(CAM, 20, 3, 2)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    labels = truth.any(3).any(2).float()
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(head([level]).pooled[0], labels).backward()
        optimiser.step()
    with torch.inference_mode():
        scores = head([level]).scores[0].movedim(1, 0)
    for own, there in zip(scores, truth.movedim(1, 0), strict=True):
        assert (own[there][:, None] > own[~there]).float().mean() > 0.98


def test_a_cam_bundle_runs_like_any_other(encoder, segmenter, tmp_path):
    card = replace(segmenter.card, head=CAM)
    torch.manual_seed(2)
    model = DualProtoSegmenter(encoder, build_head(CAM, encoder.dim, 3, 2), card)
    save_bundle(tmp_path / "cam.safetensors", model)
    again = load_model(tmp_path / "cam.safetensors")
    assert isinstance(again.head, CamHead)
    images = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert again(images).shape == (1, 3, 16, 16)
        assert torch.equal(again(images), model(images))


def test_a_cam_card_over_the_tensors_of_a_dual_head_is_refused(encoder, segmenter, tmp_path):
    segmenter.card = replace(segmenter.card, head=CAM)
    save_bundle(tmp_path / "mixed.safetensors", segmenter)
    with pytest.raises(BundleInvalid, match="no tensor classifier"):
        load_model(tmp_path / "mixed.safetensors")


def test_settings_of_before_are_of_the_dual_head():
    data = to_data(SMALL)
    del data["kind"]
    assert from_data(HeadSettings, data) == SMALL
    assert isinstance(build_head(SMALL, 20, 3, 2), DualProtoHead)
    with pytest.raises(SettingsError, match="kind is 'gradcam'; choose one of dual, cam"):
        replace(SMALL, kind="gradcam")


def test_a_cam_refuses_other_levels():
    head = build_head(CAM, 20, 3, 2)
    with pytest.raises(
        ValueError, match=r"levels are \[\(2, 20, 6, 6\)\]; the head needs the last to be \(N, 19, h, w\)"
    ):
        build_head(CAM, 19, 3, 2)(random_levels(1))
    with pytest.raises(ValueError, match=r"levels are \[\]"):
        head([])


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_fewer_scales_take_the_deepest_levels(scales):
    settings = replace(SMALL, upsampling=SMALL.upsampling[-scales:], channels=SMALL.channels[-scales:])
    torch.manual_seed(1)
    head = build_head(settings, 20, 3, 2).eval()
    levels = random_levels()
    with torch.inference_mode():
        output = head(levels)
        assert len(output.scores) == scales
        assert head.scales == settings.upsampling
        alone = head(levels[-scales:])
    for one, other in zip(output.scores, alone.scores, strict=True):
        assert torch.equal(one, other)


def test_more_scales_than_levels_are_refused():
    with pytest.raises(SettingsError, match=r"names 5 scales; an encoder has 4 levels"):
        replace(SMALL, upsampling=(1,) * 5, channels=(8,) * 5)


@pytest.mark.parametrize(("text", "image"), [(True, True), (True, False), (False, True)])
def test_either_kind_of_prototype_trains(text, image):
    torch.manual_seed(1)
    settings = replace(SMALL, text=text, image=image)
    head = build_head(settings, 20, 3, 2, torch.randn(6, 12))
    before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    sum(pooled.square().sum() for pooled in head(random_levels()).pooled).backward()
    optimiser.step()
    assert [name for name, parameter in head.named_parameters() if torch.equal(parameter, before[name])] == []
    assert ("bank.image" in before) == image
    assert ("bank.project_text.weight" in before) == text


def test_text_features_can_be_passed_and_take_gradients():
    torch.manual_seed(1)
    head = build_head(SMALL, 20, 3, 2, torch.randn(6, 12)).eval()
    features = torch.randn(6, 12, requires_grad=True)
    levels = random_levels()
    passed = head.logits(levels, features)
    passed.sum().backward()
    assert (features.grad.abs().sum(1) > 0).all()
    assert not torch.equal(passed, head.logits(levels))
    with torch.no_grad():
        head.bank.text_features.copy_(features)
        torch.testing.assert_close(head.logits(levels), passed.detach(), rtol=0, atol=1e-5)
        assert torch.equal(head(levels).pooled[0], head(levels, features).pooled[0])


def test_cosines_tell_collapsed_prototypes_from_spread_ones():
    head = build_head(SMALL, 20, 2, 3, torch.randn(6, 12))
    with torch.no_grad():
        head.bank.image[:3] = torch.randn(16)  # all of the first class the same
        head.bank.image[3:] = torch.eye(16)[:3]
    found = prototype_cosines(head, ["Tumor", "Stroma"])
    assert found["Tumor"]["image"] == pytest.approx(1, abs=1e-6)
    assert found["Tumor"]["max"] == pytest.approx(1, abs=1e-6)
    assert found["Stroma"]["image"] == pytest.approx(0, abs=1e-6)
    rows = head.bank().detach()[:6]
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2)
    assert found["Tumor"]["mean"] == pytest.approx((cosines.sum().item() - 6) / 30, abs=6e-5)  # four digits
    assert found["Tumor"]["text"] == pytest.approx(float(cosines[0, 2] + cosines[0, 4] + cosines[2, 4]) / 3, abs=6e-5)


def test_cosines_of_single_prototypes_are_left_out():
    single = build_head(replace(SMALL, image=False), 20, 2, 1, torch.randn(2, 12))
    assert prototype_cosines(single, ["a", "b"]) == {}
    assert prototype_cosines(build_head(CAM, 20, 2, 5), ["a", "b"]) == {}
    both = build_head(SMALL, 20, 2, 1, torch.randn(2, 12))
    assert set(prototype_cosines(both, ["a", "b"])["a"]) == {"mean", "max"}
