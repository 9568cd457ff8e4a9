"""Features and scores of a model, apart from each other."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from dualproto_wsi.model.absent_encoder import AbsentEncoder, EncoderFacts
from dualproto_wsi.model.checkpoint import load_model, save_bundle
from dualproto_wsi.model.heads import build_head
from dualproto_wsi.model.segmenter import DualProtoSegmenter


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (2, 64, 96, 3), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("level", ["head", "encoder"])
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_logits_are_the_scores_of_the_features(segmenter, images, level, strength):
    segmenter.gate = strength
    with torch.inference_mode():
        expected = segmenter(images)
        features = segmenter.embed(images, level)
        torch.testing.assert_close(segmenter.score(features, level), expected, rtol=0, atol=1e-5)
        half = [part.half().float() for part in features]
        torch.testing.assert_close(segmenter.score(half, level), expected, rtol=0, atol=0.05)


def test_levels_that_the_last_begins_with_are_kept_once(segmenter, images):
    (level,) = segmenter.embed(images, "encoder")
    assert level.shape == (2, 256, 8, 12)
    assert [part.shape[1] for part in segmenter.encoder.encode(images.permute(0, 3, 1, 2) / 255)] == [24, 64, 144, 256]


def test_features_of_the_head_are_those_before_the_enlarging(segmenter, images):
    with torch.inference_mode():
        assert [part.shape for part in segmenter.embed(images, "head")] == [(2, 8, 8, 12)] * 4


def test_the_key_changes_with_what_makes_the_features_and_with_nothing_else(segmenter):
    key = segmenter.feature_key("head")
    other = deepcopy(segmenter)
    with torch.no_grad():
        other.head.bank.image.mul_(2).add_(1)
        other.head.factors.mul_(3)
        other.head.project_prototypes[0].weight.add_(1)
    other.gate = 3
    assert other.feature_key("head") == key
    with torch.no_grad():
        other.head.pyramid[0].smooth.weight.add_(1)
    assert other.feature_key("head") != key
    assert other.feature_key("encoder") == segmenter.feature_key("encoder")
    assert segmenter.feature_key("encoder") != key


def test_a_finest_map_keeps_one_scale_and_has_a_key_of_its_own(segmenter, images):
    settings = replace(segmenter.head.settings, map="finest")
    head = build_head(settings, 256, 3, 2, segmenter.head.bank.text_features)
    head.load_state_dict(segmenter.head.state_dict())
    finest = DualProtoSegmenter(segmenter.encoder, head, replace(segmenter.card, head=settings))
    assert len(finest.embed(images, "head")) == 1
    assert finest.feature_key("head") != segmenter.feature_key("head")


def test_a_plain_classifier_has_both_levels(segmenter, images, scheme):
    settings = replace(segmenter.head.settings, kind="cam")
    head = build_head(settings, 256, 3, 2)
    model = DualProtoSegmenter(segmenter.encoder, head, replace(segmenter.card, head=settings))
    with torch.inference_mode():
        for level in model.feature_levels:
            torch.testing.assert_close(model.score(model.embed(images, level), level), model(images))


def test_a_bundle_without_its_encoder_scores_features(segmenter, images, tmp_path, monkeypatch):
    save_bundle(tmp_path / "a.safetensors", segmenter)
    facts = EncoderFacts.from_json(EncoderFacts.of(segmenter.encoder).to_json())
    monkeypatch.setattr("dualproto_wsi.model.checkpoint.build_encoder", None)  # would fail if it were called
    model = load_model(tmp_path / "a.safetensors", encoder=AbsentEncoder(facts))
    assert model.encoder.step_px == 16
    with torch.inference_mode():
        for level in model.feature_levels:
            assert model.feature_key(level) == segmenter.feature_key(level)
            features = segmenter.embed(images, level)
            assert torch.equal(model.score(features, level), segmenter.score(features, level))
    with pytest.raises(NotImplementedError, match="compact is not loaded; only features that it made before"):
        model(images)
    with pytest.raises(NotImplementedError, match="compact is not loaded"):
        model.encoder.patch_embeddings(images)
