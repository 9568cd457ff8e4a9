from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.cli.tables import score_table
from dualproto_wsi.data.phantom import write_phantom
from dualproto_wsi.settings import InferenceSettings, SegmentSettings
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.segment import segment_slides

PHANTOM = ("--layout", "bcss-wsss", "--split", "test", "--mpp", "0.5", "--device", "cpu")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, train=1, test=4, side=96)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory, small_slide) -> Path:
    out = tmp_path_factory.mktemp("out")
    list(segment_slides([small_slide], out, SegmentSettings(inference=InferenceSettings(device="cpu"))))
    return out


@pytest.fixture
def truth(tmp_path) -> Path:
    ring = [[300, 300], [500, 300], [500, 400], [300, 400], [300, 300]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"classification": {"name": name, "color": [0, 0, 0]}, "origin": origin},
        }
        for name, origin in (("Stroma", "drawn"), ("Fat", "drawn"), ("Tumor", "unchanged"))
    ]
    path = tmp_path / "mine.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def run(*words: object) -> list[str]:
    result = CliRunner().invoke(main, ["evaluate", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_table_of_matrices() -> None:
    matrix = ConfusionMatrix(["a", "bee"])
    matrix.add([0, 0, 1, 1], [0, 0, 1, 0])
    empty = ConfusionMatrix(["a", "bee"])
    assert score_table({"model": matrix, "nothing yet": empty}).splitlines() == [
        "             accuracy  IoU a  IoU bee  mean IoU",
        "model           0.750  0.667    0.500     0.583",
        "nothing yet       nan    nan      nan       nan",
    ]


def test_points(shared: Path, tmp_path: Path) -> None:
    data, scores = shared / "data" / "brca-m2c", tmp_path / "scores.json"
    lines = run("builtin", data, "--gate", "none,predicted", "--json", scores, "--bootstrap", 0, "--device", "cpu")
    assert lines[0] == "val: 8 images of 8 patients, 2449 points"
    assert lines[1] == "left out, because trained on: TCGA-A7-A0DB, TCGA-A7-A13G"
    heads = "model gate background accuracy IoU Tumor IoU Stroma IoU Lymphocyte mean IoU mean Dice fw IoU ECE"
    assert lines[2].split() == heads.split()
    written = json.loads(scores.read_text())
    first = written["rows"][0]
    assert lines[3].split()[:4] == ["builtin", "none", "excluded", f"{first['accuracy']:.3f}"]
    assert lines[4].split()[1] == "predicted"
    assert np.sum(first["counts"]) == written["points"] == 2449
    heads = "class in the image model AUC F1 (from 0.5 on) images with without"
    assert lines[6].split() == heads.split()
    assert lines[8].split()[:3] == ["Stroma", "builtin", "nan"]  # in every image
    assert written["presence"]["builtin"]["auc"]["Stroma"] is None


def test_masks_with_all_that_can_be_asked_for(phantom: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "grid.png"
    files = ("--csv", table, "--pictures", picture, "--picture-count", 2)
    lines = run(
        "builtin", "compact-breast", phantom, *PHANTOM, "--gate", "oracle", "--tta", "--refine", "none,fast", *files
    )
    assert lines[0].startswith("test: 4 images of 4 patients, ")
    assert "boundary F1 (4 µm)  small found" in lines[1]
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2
    assert {(row["gate"], row["background"]) for row in rows} == {("oracle", "excluded"), ("oracle", "glass")}
    named = [line.split()[:5] for line in lines[2 : 2 + len(rows)]]
    assert named == [
        [row["model"], row["gate"], row["background"], "8" if row["tta"] == "True" else "-", row["refine"]]
        for row in rows
    ]
    assert float(rows[0]["accuracy low"]) <= float(rows[0]["accuracy"]) <= float(rows[0]["accuracy high"])
    shown = float(lines[2].split("[")[1].split(",")[0])
    assert shown == pytest.approx(float(rows[0]["accuracy low"]), abs=0.0006)  # the file has four digits
    assert lines[-1] == str(picture)
    assert picture.stat().st_size > 10_000


def test_images_without_masks_or_points_tell_of_presence_alone(phantom: Path) -> None:
    lines = run("builtin", phantom, "--layout", "bcss-wsss", "--split", "train", "--mpp", 0.5)
    assert lines[:2] == ["train: 1 images of 1 patients, 0 points", "no intervals: they need 3 patients or more"]
    assert lines[3].startswith("class in the image")


def test_slides(out: Path, truth: Path, tmp_path: Path) -> None:
    scores, table = tmp_path / "s.json", tmp_path / "s.csv"
    lines = run(out, "--truth", truth, "--json", scores, "--csv", table, "--bootstrap", 0)
    data = json.loads(scores.read_text())
    assert lines[0].split()[:3] == ["slide", "annotated", "mm²"]
    assert lines[0].endswith("unsure  not analysed")
    assert lines[1].split()[:3] == ["small.tif", "0.005", f"{data['pooled']['accuracy']:.3f}"]
    assert lines[2].split()[0] == "all"
    assert lines[3:] == [
        "small.tif: 1 outline(s) of Fat not counted: the model has no such class",
        "small.tif: 1 region(s) not counted: left as the model made them (--reviewed)",
    ]
    assert data["pooled"]["total"] == 25 * 50
    assert table.read_text().startswith("slide,truth,mm2,unknown_classes Fat,left_as_the_model_made,total,accuracy,")
    lines = run(out, "--truth", truth, "--reviewed")
    assert lines[0] == "no intervals: they need 3 slides or more"
    assert len(lines) == 5
    assert "[" not in lines[3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["a", "b", "--truth", "c"],
            "MODEL a is for labelled images, and --truth for slides: evaluate OUT",
        ),
        (["b", "--truth", "c", "--tta"], "--tta is for labelled images, and --truth for slides: evaluate OUT --truth"),
        (["b", "--truth", "c", "--probe-split", "x"], "--probe-split is for labelled images, and --truth for slides"),
        (["b"], "name a MODEL and DATA, or for slides: evaluate OUT --truth FILE|DIR"),
        (["a", "b", "--reviewed"], "--reviewed is for slides: evaluate OUT --truth FILE|DIR"),
        ([], "Missing argument 'DATA|OUT'"),
    ],
)
def test_the_two_forms_are_not_mixed(words: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["evaluate", *words])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch", "."], "nosuch: neither a model bundle file nor a built-in model"),
        (["builtin", "nosuch"], "nosuch/val.txt: no such list of images"),
        (["builtin", ".", "--gate", "half"], "gate is 'half'; choose one of none, oracle, predicted"),
        (["builtin", ".", "--refine", ""], "refiners is empty; name at least one"),
        (["builtin", ".", "--bootstrap", "3"], "bootstrap is 3; use 0 (no intervals), or 100 and more"),
        ([".", "--truth", "nosuch"], ".: no results in it; with --truth name the folder that"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["evaluate", *words])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
