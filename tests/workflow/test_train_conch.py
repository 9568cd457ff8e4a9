"""Training on an encoder of CONCH's shape, with random weights: the released recipe, and features kept for the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers

from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.model.conch import ConchEncoder
from dualproto_wsi.settings import train_settings
from dualproto_wsi.workflow.training.train import train_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory) -> Path:
    """A tokenizer that knows every letter, and nothing longer."""
    vocabulary = {"<pad>": 0, "<start_of_text>": 1, "<end_of_text>": 2}
    vocabulary |= {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz", start=3)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def settings(conch_file: Path, tokenizer_file: Path, preset: str, **encoder: str):
    data: dict[str, Any] = {
        "preset": preset,
        "data": {"layout": "bcss-wsss", "descriptions": 2},
        "encoder": {"weights": str(conch_file), "tokenizer": str(tokenizer_file), "precision": "fp32", **encoder},
        "head": {"refiner_blocks": 1},
        "optimiser": {"epochs": 1, "batch_size": 16},
        "device": "cpu",
    }
    return train_settings(data)


def test_the_released_recipe_learns_context_and_head(tiles, tmp_path, conch_file, tokenizer_file):
    chosen = settings(conch_file, tokenizer_file, "released")
    bundle = tmp_path / "a.safetensors"
    report = train_model(tiles, bundle, chosen)
    assert report.card.encoder == "conch-released"
    assert report.card.training["changed"].keys() == {
        *("data.descriptions", "head.refiner_blocks", "optimiser.epochs", "optimiser.batch_size", "device"),
        "encoder.precision",
    }
    model = load_model(bundle, conch_file)
    assert model.head.settings.merge == "softmax"
    features = model.head.bank.text_features
    assert features.shape == (8, 512)
    assert torch.allclose(features.norm(dim=1), torch.ones(8), atol=1e-5)
    assert report.test is not None and 0 <= report.test.auc <= 1
    assert str(tmp_path) not in str(report.card.to_json()) and str(conch_file) not in str(report.card.to_json())


def test_an_epoch_on_kept_features_needs_no_encoder(tiles, tmp_path, conch_file, tokenizer_file, monkeypatch):
    chosen = settings(conch_file, tokenizer_file, "default", name="conch", cache=str(tmp_path / "features"))
    chosen = replace(chosen, data=replace(chosen.data, test_split=""), augment=replace(chosen.augment, orientations=1))
    train_model(tiles, tmp_path / "a.safetensors", chosen)

    def refuse(self: ConchEncoder, pixels: torch.Tensor) -> list[torch.Tensor]:
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(ConchEncoder, "levels", refuse)
    train_model(tiles, tmp_path / "b.safetensors", chosen)
    first, second = (load_file(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert all(torch.equal(first[key], second[key]) for key in first)
