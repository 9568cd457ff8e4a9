"""Slides mapped from descriptions alone. The weights are made up: the path is real, the classes mean nothing."""

from __future__ import annotations

import json

import open_clip
import pytest
import tifffile
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers

from dualproto_wsi.cli.main import main

PROMPTS = """
[[classes]]
name = "Glomerulus"
colour = [10, 20, 30]
descriptions = ["a round tuft of capillaries", "a glomerulus"]

[[classes]]
name = "Tubule"
colour = [40, 50, 60]
descriptions = ["a tubule lined by cuboid cells"]
"""


def segment(*arguments: object):
    return CliRunner().invoke(main, ["segment", *map(str, arguments)])


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "kidney.toml"
    path.write_text(PROMPTS)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DUALPROTO_CACHE", str(tmp_path / "cache"))


def check(out, encoder):
    record = json.loads((out / "a.tif" / "record.json").read_text(encoding="utf-8"))
    assert record["model"]["card"]["name"] == "zero-shot"
    assert record["model"]["card"]["encoder"].startswith(encoder)
    assert [item["name"] for item in record["classes"]] == ["Glomerulus", "Tubule"]
    assert record["analysed_mm2"] > 0
    assert CliRunner().invoke(main, ["verify", str(out)]).exit_code == 0


def test_with_an_open_clip_model_from_a_file(make_slide, prompts, tmp_path):
    model = open_clip.create_model("ViT-B-32")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    slide = make_slide(tmp_path / "a.tif", 300, 300)
    encoder = f"open_clip:ViT-B-32:{tmp_path / 'weights.pt'}"
    result = segment(slide, "-o", tmp_path / "out", "--model", "zero-shot", "--encoder", encoder, "--prompts", prompts)
    assert result.exit_code == 0, result.output
    check(tmp_path / "out", "open_clip:ViT-B-32")


def test_with_conch(make_slide, prompts, conch_file, tmp_path):
    words = sorted({word for word in PROMPTS.replace('"', " ").replace(",", " ").split() if word.isalpha()})
    vocabulary = {"<pad>": 0, "<start_of_text>": 1, "<end_of_text>": 2} | {w: i for i, w in enumerate(words, start=3)}
    vocabulary |= {f"unused{i}": i for i in range(len(vocabulary), 32007)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    slide = make_slide(tmp_path / "a.tif", 300, 300)
    result = segment(
        slide, "-o", tmp_path / "out", "--model", "zero-shot", "--encoder", "conch", "--prompts", prompts,
        "--weights", conch_file, "--tokenizer", tmp_path / "tokenizer.json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    check(tmp_path / "out", "conch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "zero-shot"], "zero-shot needs an encoder: --encoder conch, or open_clip:MODEL"),
        (["--model", "zero-shot", "--encoder", "conch"], "zero-shot needs prompts: --prompts bcss"),
        (["--encoder", "conch"], "encoder is for model zero-shot only"),
        (
            ["--model", "zero-shot", "--encoder", "compact", "--prompts", "bcss"],
            "--encoder compact: it has no text side",
        ),
    ],
)
def test_wrong_requests(small_slide, tmp_path, arguments, message):
    result = segment(small_slide, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_weights_that_are_missing(small_slide, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    arguments = ["--model", "zero-shot", "--encoder", "conch", "--prompts", "bcss", "--weights", tmp_path / "no.bin"]
    result = segment(small_slide, "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert "no.bin: no such file of CONCH weights; accept the licence" in result.stderr


def test_other_prompts_are_asked_of_the_same_patches(make_slide, prompts, tmp_path, monkeypatch):
    """Known texts need no weights at all; new ones need the text tower, and none but the one of the patches."""
    weights = tmp_path / "weights.pt"
    torch.manual_seed(1)
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    slide = make_slide(tmp_path / "a.tif", 300, 300)
    model = (
        "--model",
        "zero-shot",
        "--encoder",
        f"open_clip:ViT-B-32:{weights}",
        "--no-isolate",
        "--precision",
        "fp32",
    )
    features = tmp_path / "features"
    result = segment(slide, "-o", tmp_path / "1", *model, "--prompts", prompts, "--cache-features", features)
    assert result.exit_code == 0, result.output
    other = tmp_path / "other.toml"
    other.write_text(PROMPTS.replace("a tubule lined by cuboid cells", "pale tubules"))
    expected = segment(slide, "-o", tmp_path / "2", *model, "--prompts", other)
    assert expected.exit_code == 0, expected.output
    with monkeypatch.context() as patch:
        patch.setattr(open_clip, "create_model", None)  # would fail if it were called
        found = segment(slide, "-o", tmp_path / "3", *model, "--prompts", other, "--from-features", features)
    assert found.exit_code == 0, found.output
    maps = [tifffile.imread(tmp_path / out / "a.tif" / "labels.tif") for out in ("2", "3")]
    assert (maps[0] != maps[1]).mean() <= 1e-3
    new = tmp_path / "new.toml"
    new.write_text(PROMPTS.replace("a glomerulus", "tufts"))
    assert segment(slide, "-o", tmp_path / "4", *model, "--prompts", new, "--from-features", features).exit_code == 0
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    new.write_text(PROMPTS.replace("a glomerulus", "another text"))
    wrong = segment(slide, "-o", tmp_path / "5", *model, "--prompts", new, "--from-features", features)
    assert wrong.exit_code == 2
    assert "their texts do not go with them; use the weights that the features were made with" in wrong.stderr
