"""Zero-shot segmentation with a small CLIP of known weights."""

from __future__ import annotations

import json
from dataclasses import replace

import open_clip
import pytest
import torch
import torch.nn.functional as F

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model.absent_encoder import EncoderFacts
from dualproto_wsi.model.zero_shot import ZeroShotSegmenter, build_zero_shot

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-zero.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-zero.json")
    torch.manual_seed(2)
    torch.save(open_clip.create_model("tiny-zero").state_dict(), folder / "tiny.pt")
    return f"open_clip:tiny-zero:{folder / 'tiny.pt'}"


@pytest.fixture(scope="module")
def scheme() -> ClassScheme:
    return ClassScheme(
        (
            TissueClass(1, "Tumor", (200, 0, 0), ("nests of tumor cells", "atypical glands")),
            TissueClass(2, "Fat", (250, 250, 0), ("large empty adipocytes",)),
            TissueClass(3, "Stroma", (0, 200, 0), ("pink collagen", "spindle cells", "fibrous tissue")),
        )
    )


@pytest.fixture(scope="module")
def model(name: str, scheme: ClassScheme) -> ZeroShotSegmenter:
    return build_zero_shot(name, scheme)


def test_scores_compare_patches_with_descriptions(model):
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (2, 3, 16, 24)
    assert logits.dtype == torch.float32
    patches = model.encoder.patch_embeddings(images.permute(0, 3, 1, 2) / 255)
    cosine = torch.einsum("nehw,pe->nphw", patches, model.text_features) * model.encoder.logit_scale.clamp(max=100)
    merged = torch.stack([cosine[:, :2].exp().mean(1).log(), cosine[:, 2], cosine[:, 3:].exp().mean(1).log()], 1)
    expected = F.interpolate(merged, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(images.permute(0, 3, 1, 2) / 255), logits)


def test_a_patch_made_like_a_description_gets_its_class(model, scheme):
    """Features taken from the patches themselves: each place must be given to its own."""
    image = torch.rand(1, 3, 64, 64)
    patches = model.encoder.patch_embeddings(image)[0].flatten(1).T
    chosen = patches[[0, 0, 5, 10, 10, 10]]
    made = ZeroShotSegmenter(model.encoder, scheme, chosen)
    labels = made(image)[0].unflatten(1, (4, 4)).mean(2).unflatten(2, (4, 4)).mean(3).argmax(0).flatten()
    assert labels[[0, 5, 10]].tolist() == [0, 1, 2]


def test_it_says_what_it_is_as_plain_data(model, name):
    assert (model.mpp, model.window_px, model.stride_px, len(model.classes)) == (0.5, 64, 4, 3)
    card = json.loads(json.dumps(model.card.to_json()))
    assert card["name"] == "zero-shot"
    assert card["encoder"] == "open_clip:tiny-zero"
    assert card["classes"][1]["descriptions"] == ["large empty adipocytes"]


def test_with_cached_texts_no_text_tower_is_built(name, scheme, tmp_path, model, monkeypatch):
    built = build_zero_shot(name, scheme, cache=tmp_path)
    torch.testing.assert_close(built.text_features, model.text_features)
    monkeypatch.setattr(open_clip, "get_tokenizer", None)  # a text tower needs it
    again = build_zero_shot(name, scheme, cache=tmp_path)
    torch.testing.assert_close(again.text_features, model.text_features)
    assert [path.name for path in tmp_path.iterdir()] == [f"texts-{model.encoder.hash}.safetensors"]


def test_scores_do_not_lose_precision_under_autocast(model):
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(images)
    assert mixed.dtype == torch.float32
    assert (mixed - model(images)).abs().max() < 1.0  # of a scale of 14 and more


def test_wrong_requests(model, scheme):
    with pytest.raises(ModelNotFound, match="--encoder compact: it has no text side; use conch or open_clip:MODEL"):
        build_zero_shot("compact", scheme)
    with pytest.raises(SettingsError, match="class 'Fat' has no description; zero-shot needs at least one a class"):
        ZeroShotSegmenter(model.encoder, ClassScheme((TissueClass(1, "Fat", (1, 2, 3)),)), torch.ones(1, 24))
    with pytest.raises(ValueError, match="2 features for 6 descriptions"):
        ZeroShotSegmenter(model.encoder, scheme, torch.ones(2, 24))


def test_kept_patches_are_scored_without_the_encoder(model, name, scheme, tmp_path, monkeypatch):
    build_zero_shot(name, scheme, cache=tmp_path)
    facts = EncoderFacts.from_json(EncoderFacts.of(model.encoder).to_json())
    monkeypatch.setattr("dualproto_wsi.model.zero_shot.build_encoder", None)  # would fail if it were called
    absent = build_zero_shot(name, scheme, cache=tmp_path, facts=facts)
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    patches = model.embed(images, "patches")
    assert torch.equal(absent.score(patches, "patches"), model(images))
    assert absent.feature_key("patches") == model.feature_key("patches")
    assert absent.card == model.card


def test_texts_of_other_weights_than_the_patches_are_refused(model, name, scheme, tmp_path):
    facts = replace(EncoderFacts.of(model.encoder), hash="0123456789abcdef")
    with pytest.raises(WeightsMismatch, match="made with open_clip:tiny-zero weights 0123456789abcdef; these are"):
        build_zero_shot(name, scheme, cache=tmp_path, facts=facts)
