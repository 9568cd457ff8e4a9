from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dualproto_wsi.data.points import PointImage
from dualproto_wsi.errors import DataError
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.training.evaluate import evaluate_model, part_patients, probe_points, score_points

NAMES = ("Tumor", "Stroma", "Lymphocyte")


def image(patient: str, points: list[tuple[int, int, int]], pixels: np.ndarray | None = None) -> PointImage:
    rows = np.array(points, np.int64).reshape(-1, 3)
    if pixels is None:
        pixels = np.zeros((16, 24, 3), np.uint8)
    return PointImage(Path(f"{patient}.png"), patient, pixels, rows[:, :2], rows[:, 2])


def test_points_meet_the_cell_that_holds_them() -> None:
    logits = torch.zeros(3, 4, 6)
    logits[1, 2, 5] = 1  # the cell of x 20…23, y 8…11
    confusion = ConfusionMatrix(NAMES)
    score_points(confusion, logits, 4, image("a", [(20, 8, 1), (23, 11, 1), (19, 8, 0), (20, 12, 0)]))
    assert confusion.counts.tolist() == [[2, 0, 0], [0, 2, 0], [0, 0, 0]]


def test_patients_are_parted_whole() -> None:
    images = [image("a", []), image("b", []), image("a", [])]
    kept, left_out = part_patients(images, {"a", "z"})
    assert [i.patient for i in kept] == ["b"]
    assert left_out == ("a",)


def test_probe_learns_from_points() -> None:
    generator = np.random.default_rng(0)

    def half_and_half(patient: str) -> PointImage:
        pixels = np.full((64, 64, 3), 220, np.uint8)
        pixels[:, 32:] = (120, 60, 140)
        pixels = np.clip(pixels + generator.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)
        places = generator.integers(0, 64, (60, 2))
        return image(patient, [(x, y, int(x >= 32)) for x, y in places if abs(x - 32) > 6], pixels)

    images = [half_and_half(str(number)) for number in range(4)]
    confusion = probe_points(build_encoder("compact"), images[:3], images[3:], ("left", "right"), 4)
    assert confusion.total == len(images[3].points)
    assert confusion.accuracy > 0.9


def test_built_in_model_on_patients_never_seen(shared: Path) -> None:
    result = evaluate_model("builtin", shared / "data" / "brca-m2c", "val", device="cpu")
    assert (result.images, result.patients) == (8, 8)
    assert result.left_out == ("TCGA-A7-A0DB", "TCGA-A7-A13G")
    assert result.model.total == 2449
    assert result.model.accuracy > 0.71
    assert result.model.mean_iou > 0.49


def test_every_patient_trained_on_is_refused(shared: Path) -> None:
    with pytest.raises(DataError, match="the model was trained on every patient of 'train'; choose another split"):
        evaluate_model("builtin", shared / "data" / "brca-m2c", "train", device="cpu")
