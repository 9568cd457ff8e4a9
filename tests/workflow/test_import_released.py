"""A checkpoint like those of the released DualProtoSeg code becomes a bundle with the released numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import DataError, ModelNotFound, WeightsMismatch
from dualproto_wsi.model.checkpoint import load_model, read_card
from dualproto_wsi.model.conch_text import END, VOCABULARY
from dualproto_wsi.model.prompts import load_vocabulary
from dualproto_wsi.workflow.training.import_released import import_released

CONTEXT = "clip_adapter.prompt_learner.ctx"


class Config(argparse.Namespace):
    """Stands for the configuration object that the released code pickles into its checkpoints."""


@pytest.fixture(scope="module")
def state(rule, conch_file) -> dict[str, torch.Tensor]:
    """The state dict of a released checkpoint: head, context, and CONCH twice with the context after its vocabulary."""
    conch = torch.load(conch_file, mmap=True, weights_only=True)
    context = 0.3 * rule.array("prompt_learner.ctx", (4, 16, 768))
    words = conch["text.token_embedding.weight"]
    conch["text.token_embedding.weight"] = torch.cat([words, context.flatten(0, 1)])
    state = {f"clip_adapter.model.{key}": value for key, value in conch.items()}
    state |= {f"clip_adapter.prompt_learner.model_conch.{key}": value for key, value in conch.items()}
    state |= {CONTEXT: context, "clip_adapter.visual_proj.weight": torch.eye(512, 768)}
    return state | rule.weights("head", prefix="head.")


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("released") / "best_cam.pth"
    cfg = Config(train=Config(epoch=20), classes=["TUM", "STR"])
    torch.save({"cfg": cfg, "epoch": 19, "best_mIoU": np.float64(0.7), "model": state, "optimizer": {"lr": 5e-5}}, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory) -> Path:
    """A tokenizer for which the text ``w17`` is the token 17: descriptions of the reference are ids."""
    vocabulary = {"<pad>": 0, "<start_of_text>": 1, "<end_of_text>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def prompts(rule, tmp_path_factory) -> Path:
    """A vocabulary whose descriptions are the reference's words."""
    rows = rule.numbers("head")["released_prompt_ids"]
    texts = [" ".join(f"w{i}" for i in row if END < i < VOCABULARY) for row in rows]
    lines = []
    for index, name in enumerate(("Tumor", "Stroma", "Lymphocyte", "Necrosis")):
        descriptions = json.dumps(texts[10 * index : 10 * index + 10])
        lines += ["[[classes]]", f'name = "{name}"', "colour = [1, 2, 3]", f"descriptions = {descriptions}"]
    path = tmp_path_factory.mktemp("prompts") / "prompts.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint, conch_file, tokenizer_file, prompts, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "released.safetensors"
    options = ["--weights", conch_file, "--tokenizer", tokenizer_file, "--prompts", prompts]
    result = CliRunner().invoke(main, ["models", "import", str(checkpoint), "-o", str(path), *map(str, options)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(path)
    return path


@pytest.fixture(scope="module")
def model(bundle, conch_file):
    return load_model(bundle, conch_file)


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.detach().numpy() - expected).max() / expected.std())


def test_text_prototypes_are_the_released_ones(model, rule):
    assert relative(model.head.bank.text_features, rule.numbers("head")["released_text_features"]) < 1e-5


@torch.no_grad()
def test_maps_and_scores_are_the_released_ones(model, rule):
    numbers = rule.numbers("head")
    levels = [rule.array(f"head.F{i}", (2, 768, 14, 14)) for i in (1, 2, 3, 4)]
    released = model.head.bank.text_features.clone()
    model.head.bank.text_features.copy_(F.normalize(rule.array("head.text_features", (40, 512)), dim=1))
    output, finest = model.head(levels), model.head.logits(levels)
    model.head.bank.text_features.copy_(released)
    for scale, (scores, pooled) in enumerate(zip(output.scores, output.prototype_pooled, strict=True), start=1):
        step = scores.shape[-1] // 28
        assert relative(scores[:, :, ::step, ::step], numbers[f"cam{scale}_max"]) < 1e-4
        assert relative(pooled, numbers[f"cls{scale}"]) < 1e-4
    assert relative(finest[:, :, ::8, ::8], numbers["cam4_max"]) < 1e-4


@torch.no_grad()
def test_bundle_maps_pixels_with_the_released_encoder(model):
    assert (model.encoder.name, model.window_px, model.stride_px, model.mpp) == ("conch-released", 224, 1, 0.25)
    images = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (1, 4, 32, 48)
    torch.testing.assert_close(logits, model.head.logits(model.encoder.encode(images.permute(0, 3, 1, 2) / 255)))


def test_card_says_where_it_comes_from(bundle, checkpoint):
    card = read_card(bundle)
    assert card.name == "best_cam"
    assert card.classes.names == ("Tumor", "Stroma", "Lymphocyte", "Necrosis")
    assert card.head.map == "finest"
    assert card.training["checkpoint"] == checkpoint.name
    assert "CC-BY-NC-ND" in card.licence
    assert bundle.stat().st_size < 50e6  # the encoder is not inside


def run(checkpoint, out, prompts, conch_file, tokenizer_file):
    return import_released(checkpoint, out, load_vocabulary(prompts), conch_file, tokenizer_file)


def test_another_conch_is_refused(checkpoint, prompts, conch_file, tokenizer_file, tmp_path):
    other = torch.load(conch_file, mmap=True, weights_only=True)
    for key in ("visual.ln_contrast.bias", "text.ln_final.weight"):
        other[key] = other[key] + 1
    torch.save(other, tmp_path / "other.bin")
    try:
        with pytest.raises(
            WeightsMismatch,
            match=r"other\.bin: not the CONCH inside best_cam\.pth: 2 tensors differ \(text\.ln_final\.weight, ",
        ):
            run(checkpoint, tmp_path / "x.safetensors", prompts, tmp_path / "other.bin", tokenizer_file)
    finally:
        (tmp_path / "other.bin").unlink()


def small(state: dict[str, torch.Tensor], **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return a checkpoint without the copies of CONCH, changed."""
    copies = ("clip_adapter.model.", "clip_adapter.prompt_learner.model_conch.")
    return {key: value for key, value in state.items() if not key.startswith(copies)} | changes


def test_other_descriptions_are_refused(state, conch_file, tokenizer_file, tmp_path):
    torch.save({"model": small(state)}, tmp_path / "a.pth")
    scheme = load_vocabulary("bcss", only=["Tumor", "Stroma"])
    with pytest.raises(
        DataError, match="vocabulary has 2 classes with 20 descriptions, the checkpoint 4 with 40; give"
    ):
        import_released(tmp_path / "a.pth", tmp_path / "x.safetensors", scheme, conch_file, tokenizer_file)


def test_other_heads_are_refused(state, prompts, conch_file, tokenizer_file, tmp_path):
    changes = {"proto_projections.3.weight": torch.zeros(64, 512)}
    torch.save(small(state, **changes), tmp_path / "wide.pth")
    with pytest.raises(
        WeightsMismatch, match=r"wide\.pth: not the weights of the released head: 1 of another shape \(pro"
    ):
        run(tmp_path / "wide.pth", tmp_path / "x.safetensors", prompts, conch_file, tokenizer_file)
    torch.save(small(state, surprise=torch.zeros(1)), tmp_path / "more.pth")
    with pytest.raises(WeightsMismatch, match="'surprise' is not a weight of the released DualProtoSeg head"):
        run(tmp_path / "more.pth", tmp_path / "x.safetensors", prompts, conch_file, tokenizer_file)
    assert not (tmp_path / "x.safetensors").exists()


def test_files_that_are_no_such_checkpoint(prompts, conch_file, tokenizer_file, tmp_path):
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(
        WeightsMismatch, match=r"other\.pth: not a checkpoint of the released DualProtoSeg code: it has no"
    ):
        run(tmp_path / "other.pth", tmp_path / "x", prompts, conch_file, tokenizer_file)
    with pytest.raises(ModelNotFound, match=r"gone\.pth: no such checkpoint"):
        run(tmp_path / "gone.pth", tmp_path / "x", prompts, conch_file, tokenizer_file)


def test_released_vocabulary_has_ten_descriptions_a_class():
    scheme = load_vocabulary("bcss")
    assert scheme.names == ("Tumor", "Stroma", "Lymphocyte", "Necrosis")
    assert [len(tissue.descriptions) for tissue in scheme] == [10] * 4


def test_an_imported_bundle_maps_a_slide(bundle, conch_file, make_slide, tmp_path):
    slide = make_slide(tmp_path / "a.tif", 600, 600, mpp=0.25)
    arguments = [
        "segment",
        slide,
        "-o",
        tmp_path / "out",
        "--model",
        bundle,
        "--weights",
        conch_file,
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "out")]).exit_code == 0
    record = json.loads((tmp_path / "out" / "a.tif" / "record.json").read_text(encoding="utf-8"))
    assert record["model"]["card"]["encoder"] == "conch-released"
    assert record["analysed_mm2"] > 0
