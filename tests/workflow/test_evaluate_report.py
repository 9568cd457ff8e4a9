from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.data.phantom import write_phantom
from dualproto_wsi.errors import OutputError
from dualproto_wsi.settings import EvaluateSettings
from dualproto_wsi.workflow.evaluation.evaluate import evaluate_models
from dualproto_wsi.workflow.evaluation.pictures import GAP, RIGHT, SIDE, WRONG, save_pictures
from dualproto_wsi.workflow.evaluation.report import (
    EvaluationReport,
    choose_images,
    flatten,
    write_report,
    write_table,
)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> EvaluationReport:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, train=1, test=4, side=96)
    settings = EvaluateSettings(layout="bcss-wsss", split="test", mpp=0.25, bootstrap=0, gates=("none",), device="cpu")
    return evaluate_models(["builtin"], folder, settings, keep_maps=True)


def test_images_from_the_worst_to_the_best() -> None:
    accuracies = np.array([0.5, np.nan, 0.9, 0.1, 0.7, 0.3])
    assert choose_images(accuracies, 3, 0) == [3, 0, 2]
    assert choose_images(accuracies, 9, 0) == [3, 5, 0, 4, 2]
    assert choose_images(accuracies, 1, 0) == [3]
    assert choose_images(np.full(3, np.nan), 3, 0) == []


def test_ties_are_in_an_order_that_the_seed_draws() -> None:
    drawn = {tuple(choose_images(np.ones(9), 4, seed)) for seed in range(5)}
    assert len(drawn) > 1
    assert choose_images(np.ones(9), 4, 2) == choose_images(np.ones(9), 4, 2)


def test_one_picture_or_one_an_image(report, tmp_path: Path) -> None:
    (grid,) = save_pictures(report, tmp_path / "new" / "grid.PNG", 3)
    with Image.open(grid) as picture:
        assert picture.width >= GAP + 4 * (SIDE + GAP)
        assert picture.height > 3 * SIDE
    single = save_pictures(report, tmp_path / "each", 3)
    assert [path.name[:3] for path in single] == ["01-", "02-", "03-"]
    assert sorted(tmp_path.joinpath("each").iterdir()) == single


def test_right_and_wrong_are_as_many_as_the_accuracy_says(report, tmp_path: Path) -> None:
    (path,) = save_pictures(report, tmp_path, 1)
    with Image.open(path) as picture:
        panel = np.asarray(picture.convert("RGB"))[:, GAP + 3 * (SIDE + GAP) :].astype(int)
    blue, orange = (panel[:, :, 2] > panel[:, :, 0] + 40), (panel[:, :, 0] > panel[:, :, 2] + 40)
    counts = min((c for c in report.rows[0].counts if c.sum()), key=lambda c: np.trace(c) / c.sum())
    assert blue.sum() / (blue.sum() + orange.sum()) == pytest.approx(np.trace(counts) / counts.sum(), abs=0.08)
    assert (RIGHT[2] > RIGHT[0] + 40, WRONG[0] > WRONG[2] + 40) == (True, True)


def test_a_place_that_cannot_be_written_is_told(report, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(
        OutputError, match=r"grid.png: cannot be written \(File exists\); name another place for --pictures"
    ):
        save_pictures(report, blocked / "grid.png", 1)
    with pytest.raises(OutputError, match=r"a.json: cannot be written \(File exists\); name another file"):
        write_report(blocked / "a.json", {})
    with pytest.raises(OutputError, match=r"a.csv: cannot be written \(File exists\); name another file for --csv"):
        write_table(blocked / "a.csv", [])


def test_rows_become_columns(report, tmp_path: Path) -> None:
    rows = [row.to_json() for row in report.rows]
    write_table(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert [row["background"] for row in written] == ["excluded", "glass"]
    assert [row["iou Background"] for row in written] == ["", str(rows[1]["iou"]["Background"])]
    assert written[0]["small_regions Tumor"] == str(rows[0]["small_regions"]["Tumor"])


def test_nested_data_becomes_flat() -> None:
    data = {
        "a": 1,
        "iou": {"x": 0.5},
        "counts": [[1, 2], [3, 4]],
        "intervals": {"a": [0, 2], "iou": {"x": [0.1, None]}},
    }
    assert flatten(data) == {"a": 1, "iou x": 0.5, "a low": 0, "a high": 2, "iou x low": 0.1, "iou x high": None}


def test_images_are_drawn_at_their_own_resolution(report) -> None:
    assert report.model_mpp == 2 * report.mpp
    assert report.rows[0].maps[0].shape == (12, 12)  # 96 px at 0.25 are 48 model px
    assert replace(report, left_out=("x",)).to_json()["left_out"] == ["x"]
