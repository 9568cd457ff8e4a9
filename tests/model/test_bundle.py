from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualproto_wsi.errors import BundleInvalid, ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model.card import ModelCard, PresenceGate
from dualproto_wsi.model.checkpoint import find_model, list_models, load_model, read_card, save_bundle
from dualproto_wsi.model.segmenter import DualProtoSegmenter

KEY = "dualproto_wsi.card"
Change = Callable[[dict[str, Tensor], dict[str, object]], None]


@pytest.fixture
def bundle(segmenter: DualProtoSegmenter, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_bundle(path, segmenter)
    return path


def rewrite(path: Path, change: Change) -> None:
    """Apply ``change`` to the tensors and the card of a bundle."""
    tensors, card = load_file(path), read_card(path).to_json()
    change(tensors, card)
    save_file(tensors, path, metadata={KEY: json.dumps(card)})


def test_a_model_comes_back_as_it_was(segmenter, bundle):
    loaded = load_model(bundle)
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits = segmenter(images)
        assert torch.equal(loaded(images), logits)
    assert logits.shape == (2, 3, 16, 24)
    assert loaded.card == segmenter.card == read_card(bundle)
    assert not any(module.training for module in loaded.modules())


def test_the_encoder_is_not_in_the_bundle(segmenter, bundle):
    assert set(load_file(bundle)) == set(segmenter.head.state_dict())
    assert bundle.stat().st_size < 200_000


def test_an_adapted_encoder_is(segmenter, tmp_path):
    encoder = deepcopy(segmenter.encoder)
    with torch.no_grad():
        for weight in encoder.thaw():
            weight.mul_(1.01)
    encoder.settle()
    card = replace(segmenter.card, encoder_hash=encoder.hash, adapted_from=encoder.adapted_from)
    adapted = DualProtoSegmenter(encoder, segmenter.head, card)
    path = tmp_path / "adapted.safetensors"
    save_bundle(path, adapted)
    loaded, images = load_model(path), torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    assert loaded.card == card
    with torch.inference_mode():
        assert torch.equal(loaded(images), adapted(images))
        assert not torch.equal(loaded(images), segmenter(images))
    save_bundle(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()

    rewrite(path, lambda tensors, card: tensors.pop("encoder.stem.0.conv.bias"))
    with pytest.raises(WeightsMismatch, match=r"1 missing \(stem.0.conv.bias\)"):
        load_model(path)


def test_equal_models_make_equal_files(bundle, tmp_path):
    again = tmp_path / "again.safetensors"
    save_bundle(again, load_model(bundle))
    assert again.read_bytes() == bundle.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "tiny.safetensors"]


def test_logits_are_calibrated(segmenter):
    images = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        raw = segmenter.head.logits(segmenter.encoder.encode(images.permute(0, 3, 1, 2).float() / 255))
        expected = raw / 2 + torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1)
        torch.testing.assert_close(segmenter(images), expected)
        torch.testing.assert_close(segmenter(images.permute(0, 3, 1, 2).float() / 255), expected)


def test_a_gate_pushes_down_what_the_window_does_not_hold(segmenter):
    gate = PresenceGate(strength=0.5, scale=2.0, bias=(9.0, 0.0, -90.0), floor=-3.0)
    gated = DualProtoSegmenter(segmenter.encoder, segmenter.head, replace(segmenter.card, gate=gate))
    images = torch.randint(0, 256, (2, 32, 48, 3), dtype=torch.uint8)
    with torch.inference_mode():
        plain = segmenter(images)
        levels = segmenter.encoder.encode(images.permute(0, 3, 1, 2).float() / 255)
        pooled = segmenter.head(levels).pooled[-1]
        presence = torch.sigmoid(2 * pooled + torch.tensor(gate.bias)).log().clamp_min(-3)
        torch.testing.assert_close(gated(images), plain + 0.5 * presence[:, :, None, None], atol=1e-3, rtol=0)
        gated.gate = 0.0
        assert torch.equal(gated(images), plain)
    assert (presence[:, 2] == -3).all() and (presence[:, 0] > -0.1).all()


def test_the_gate_comes_back(segmenter, tmp_path):
    gate = PresenceGate(0.25, 1.5, (1.0, 2.0, 3.0), -2.0)
    path = tmp_path / "gated.safetensors"
    save_bundle(path, DualProtoSegmenter(segmenter.encoder, segmenter.head, replace(segmenter.card, gate=gate)))
    loaded = load_model(path)
    assert (loaded.card.gate, loaded.gate) == (gate, 0.25)


def test_a_card_without_a_gate_has_none(bundle):
    rewrite(bundle, lambda tensors, card: card.pop("gate"))
    assert load_model(bundle).gate == 0


def test_logits_stay_float32_under_autocast(segmenter):
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        exact = segmenter(images)
        with torch.autocast("cpu", torch.bfloat16):
            rough = segmenter(images)
    assert rough.dtype == torch.float32
    assert float((rough - exact).abs().mean()) < 0.1 * float(exact.std())


def test_images_of_another_shape_are_refused(segmenter):
    with pytest.raises(ValueError, match=r"images are uint8 \(1, 3, 64, 64\); give \(N, H, W, 3\), RGB"):
        segmenter(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))


def test_a_card_of_another_stride_is_refused(segmenter):
    card = replace(segmenter.card, stride_px=8)
    with pytest.raises(
        ValueError, match=r"says stride_px 8; an encoder grid of 8 px and a head that upsamples 2 times"
    ):
        DualProtoSegmenter(segmenter.encoder, segmenter.head, card)


def test_models_are_found_by_name_or_path(bundle, tmp_path):
    assert find_model(str(bundle)) == bundle
    for name in list_models():
        assert find_model(name).is_file()
    with pytest.raises(ModelNotFound, match="nothing: neither a model bundle file nor a built-in model; built in: "):
        find_model("nothing")
    with pytest.raises(ModelNotFound, match="no such model bundle"):
        read_card(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps({"a": 1}), b"\xff" * 64])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"model\.safetensors: not a safetensors file, or a damaged one"):
        load_model(path)


def test_a_cut_file_is_refused(bundle):
    bundle.write_bytes(bundle.read_bytes()[:-100])
    with pytest.raises(BundleInvalid, match="not a safetensors file, or a damaged one"):
        load_model(bundle)


def test_a_file_without_a_card_is_refused(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(BundleInvalid, match="a safetensors file without a model card"):
        load_model(path)


@pytest.mark.parametrize(("text", "message"), [("{", "Expecting property name"), ("[]", "is not a JSON object")])
def test_a_card_that_is_not_json_is_refused(bundle, text, message):
    save_file(load_file(bundle), bundle, metadata={KEY: text})
    with pytest.raises(BundleInvalid, match=message):
        load_model(bundle)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "its format is 2; this version reads 1"),
        ("colour", "red", "unknown key colour"),
        ("mpp", "0.5", "mpp must be of type float, not '0.5'"),
        ("mpp", True, "mpp must be of type float, not True"),
        ("mpp", 0.0, "mpp is 0.0; microns per pixel must be above 0"),
        ("temperature", -1.0, "temperature is -1.0; it must be above 0"),
        ("bias", [1.0], "bias has 1 finite values for 3 classes"),
        ("bias", ["a", 1, 1], "bias must be a list of numbers"),
        ("gate", {"strength": -1.0}, r"gate: strength is -1.0; use 0 \(off\) to 10"),
        ("gate", {"scale": 0.0}, "gate: scale is 0.0; it must be above 0"),
        ("gate", {"floor": 0.0}, "gate: floor is 0.0; it must be below 0"),
        ("gate", {"bias": [1.0]}, "gate has a bias of 1 values for 3 classes"),
        ("gate", {"width": 1}, "gate: unknown key 'width'"),
        ("window_px", 63, "window_px 63 must be a multiple of stride_px 4"),
        ("name", " ", "name must not be empty"),
        ("head", {"depth": 2}, "head: unknown key 'depth'"),
        ("classes", [{"id": 1}], r"KeyError\('name'\) is missing or of the wrong type"),
        ("classes", [{"id": 1, "name": "A", "colour": [1, 2]}], "ValueError.* is missing or of the wrong type"),
        (
            "classes",
            [{"id": 1, "name": "A", "colour": [0, 0, 0]}],
            r"classes have \[0\] descriptions; all need the same number",
        ),
    ],
)
def test_a_wrong_card_is_refused(bundle, key, value, message):
    values = {key: value, "bias": []} if key == "classes" else {key: value}
    rewrite(bundle, lambda tensors, card: card.update(values))
    with pytest.raises(BundleInvalid, match=rf"tiny\.safetensors: .*{message}"):
        read_card(bundle)


def test_a_card_without_a_key_is_refused(bundle):
    rewrite(bundle, lambda tensors, card: card.pop("limits"))
    with pytest.raises(BundleInvalid, match="model card: missing key limits"):
        load_model(bundle)


def test_a_card_with_wrong_values_cannot_be_made(segmenter):
    with pytest.raises(SettingsError, match="model card 'tiny': window_px 0 must be a multiple"):
        replace(segmenter.card, window_px=0)


def test_missing_and_unknown_tensors_are_refused(bundle):
    content = bundle.read_bytes()
    rewrite(bundle, lambda tensors, card: tensors.pop("factors"))
    with pytest.raises(BundleInvalid, match="no tensor factors; its card describes another head"):
        load_model(bundle)
    bundle.write_bytes(content)
    rewrite(bundle, lambda tensors, card: tensors.update(extra=torch.ones(1)))
    with pytest.raises(BundleInvalid, match="an unknown tensor extra; its card describes another head"):
        load_model(bundle)


@pytest.mark.parametrize("tensor", [torch.ones(3), torch.ones(4, dtype=torch.float16)])
def test_a_tensor_of_another_shape_or_type_is_refused(bundle, tensor):
    rewrite(bundle, lambda tensors, card: tensors.update(factors=tensor))
    found = rf"tensor factors is {tensor.dtype} \({len(tensor)},\); its card needs torch\.float32 \(4,\)"
    with pytest.raises(BundleInvalid, match=found):
        load_model(bundle)


def test_other_encoder_weights_are_refused(bundle):
    rewrite(bundle, lambda tensors, card: card.update(encoder_hash="0123456789abcdef"))
    with pytest.raises(
        WeightsMismatch, match="'tiny' was trained on the encoder compact with weights 0123456789abcdef"
    ):
        load_model(bundle)


def test_an_unknown_encoder_is_refused(bundle):
    rewrite(bundle, lambda tensors, card: card.update(encoder="other"))
    with pytest.raises(ModelNotFound, match="no encoder is called 'other'"):
        load_model(bundle)


def test_the_card_survives_its_json(segmenter):
    card = segmenter.card
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_every_built_in_model_loads():
    for name in list_models():
        assert len(load_model(name).classes) >= 2
