from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.cli.tables import score_table
from dualproto_wsi.stats.metrics import ConfusionMatrix


def test_table() -> None:
    matrix = ConfusionMatrix(["a", "bee"])
    matrix.add([0, 0, 1, 1], [0, 0, 1, 0])
    empty = ConfusionMatrix(["a", "bee"])
    assert score_table({"model": matrix, "nothing yet": empty}).splitlines() == [
        "             accuracy  IoU a  IoU bee  mean IoU",
        "model           0.750  0.667    0.500     0.583",
        "nothing yet       nan    nan      nan       nan",
    ]


def test_evaluate_prints_a_table_and_writes_json(shared: Path, tmp_path: Path) -> None:
    data, out = shared / "data" / "brca-m2c", tmp_path / "scores.json"
    result = CliRunner().invoke(main, ["evaluate", "builtin", str(data), "--json", str(out)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "val: 8 images of 8 patients, 2449 points"
    assert lines[1] == "left out, because trained on: TCGA-A7-A0DB, TCGA-A7-A13G"
    assert lines[2].split() == ["accuracy", "IoU", "Tumor", "IoU", "Stroma", "IoU", "Lymphocyte", "mean", "IoU"]
    written = json.loads(out.read_text())
    assert lines[3].split()[:2] == ["builtin", f"{written['model']['accuracy']:.3f}"]
    assert np.sum(written["model"]["counts"]) == 2449
    assert written["probe"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nosuch", "."], "nosuch: neither a model bundle file nor a built-in model"),
        (["train", "nosuch", "-o", "a.safetensors"], "nosuch/train.txt: no such list of images"),
        (["train", ".", "-o", "a.pt"], "a.pt: a bundle's name ends in .safetensors"),
        (["train", ".", "-o", "a.safetensors", "--classes", "Fat"], "no class 'Fat'; classes are Tumor"),
        (["train", ".", "-o", "a.safetensors", "--epochs", "0"], "epochs is 0; it must be at least 1"),
        (["train", ".", "-o", "a.safetensors", "--config", "no.toml"], "no.toml: no such settings file"),
    ],
)
def test_errors_are_one_line(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
