from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.images import BACKGROUND, NOT_LABELLED, LabelledImage, Points
from dualproto_wsi.data.phantom import write_phantom
from dualproto_wsi.errors import DataError, ModelError
from dualproto_wsi.model.checkpoint import load_model, save_bundle
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.settings import EvaluateSettings
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.evaluation.evaluate import evaluate_models, part_patients
from dualproto_wsi.workflow.evaluation.probe import draw_places, find_features, fit_probe
from dualproto_wsi.workflow.evaluation.score import count_cells
from dualproto_wsi.workflow.evaluation.truth import Sample, find_truth, read_batches, scale_between

NAMES = ("Tumor", "Stroma", "Lymphocyte")
PHANTOM = EvaluateSettings(layout="bcss-wsss", split="test", mpp=0.5, bootstrap=0, device="cpu")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory) -> Path:
    """Made-up tissue with masks: 4 images for training, 5 for testing, each of a patient of its own."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, train=4, test=5, side=96, seed=2)  # with all four classes
    return folder


def sample(
    mask: np.ndarray | None = None, points: list[tuple[int, int, int]] | None = None, shape: tuple[int, int] = (16, 24)
) -> Sample:
    rows = np.array(points or [], np.int64).reshape(-1, 3)
    found = Points(rows[:, :2], rows[:, 2]) if points is not None else None
    image = LabelledImage(Path("a.png"), "a", np.ones(3, np.int8), points=found)
    return Sample(image, np.zeros((*shape, 3), np.uint8), (16, 24), mask)


def test_points_meet_the_cell_that_holds_them() -> None:
    truth = find_truth(sample(points=[(20, 8, 1), (23, 11, 1), (19, 8, 0), (20, 12, 2)]), 3, (4, 6), 4)
    assert truth.cells.sum() == 4
    assert truth.cells[1, 2, 5] == 2  # the cell of x 20…23, y 8…11
    assert truth.cells[0, 2, 4] == truth.cells[2, 3, 5] == 1


def test_pixels_of_a_mask_are_counted_by_cell_and_background_is_the_last_class() -> None:
    mask = np.full((16, 24), NOT_LABELLED, np.uint8)
    mask[:4, :2], mask[:4, 2:4], mask[15, 23] = 1, BACKGROUND, 2
    truth = find_truth(sample(mask), 3, (4, 6), 4)
    assert truth.cells[:, 0, 0].tolist() == [0, 8, 0, 8]
    assert truth.cells[2, 3, 5] == 1
    assert truth.cells.sum() == 17
    assert truth.mask is not None
    assert np.unique(truth.mask).tolist() == [1, 2, 3, 255]


def test_an_image_at_another_resolution_meets_the_cell_that_its_pixel_falls_into() -> None:
    truth = find_truth(sample(points=[(0, 0, 0), (15, 7, 1), (16, 8, 2)], shape=(8, 12)), 3, (2, 3), 4)
    assert np.argwhere(truth.cells).tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 2]]
    cells = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(truth.to_pixels(cells), np.kron(cells, np.ones((8, 8))))


def test_a_point_outside_the_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"a.png: a point lies at \(24, 3\), outside the image of 24 x 16 px; correct"):
        find_truth(sample(points=[(2, 2, 0), (24, 3, 0)]), 3, (4, 6), 4)


def test_counting_cells_is_counting_pixels() -> None:
    generator = np.random.default_rng(0)
    mask = generator.integers(0, 3, (16, 24)).astype(np.uint8)
    truth = find_truth(sample(mask), 3, (4, 6), 4)
    labels = generator.integers(0, 3, (4, 6)).astype(np.uint8)
    matrix = ConfusionMatrix(NAMES)
    matrix.add(mask, np.kron(labels, np.ones((4, 4), np.uint8)))
    assert np.array_equal(count_cells(truth.cells[:3], labels), matrix.counts)


def test_resolutions_that_are_nearly_equal_are_equal() -> None:
    assert scale_between(0.499, 0.5) == 1
    assert scale_between(0.25, 0.5) == 0.5


def test_batches_keep_the_order_and_hold_one_size(tmp_path: Path) -> None:
    images = []
    for number, side in enumerate((8, 8, 8, 16, 8, 8)):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((side, side, 3), number, np.uint8)).save(path)
        images.append(LabelledImage(path, str(number), np.zeros(1, np.int8)))
    batches = [[s.image.patient for s in batch] for batch in read_batches(images, 1.0, 2 * 64)]
    assert batches == [["0", "1"], ["2"], ["3"], ["4", "5"]]


def test_patients_are_parted_whole() -> None:
    images = [replace(sample().image, patient=name) for name in "aba"]
    kept, left_out = part_patients(images, {"a", "z"})
    assert [i.patient for i in kept] == ["b"]
    assert left_out == ("a",)


def test_masks_pixel_by_pixel(phantom: Path) -> None:
    report = evaluate_models(["builtin"], phantom, replace(PHANTOM, gates=("none",), backgrounds=("excluded",)))
    model, matrix = load_model("builtin"), ConfusionMatrix(NAMES)
    labelled, right = 0, []
    for path in sorted((phantom / "test" / "img").iterdir()):
        pixels = cv2.imread(str(path))[:, :, ::-1].copy()
        mask = np.asarray(Image.open(phantom / "test" / "mask" / path.name))  # 3 is necrosis, which the model lacks
        with torch.inference_mode():
            logits = model(torch.from_numpy(pixels)[None])[0]
        labels = np.kron(logits.argmax(0).numpy(), np.ones((4, 4), np.int64))
        matrix.add(mask[mask < 3], labels[mask < 3])
        labelled += int((mask < 3).sum())
        right.append(logits.softmax(0).numpy())
    (row,) = report.rows
    assert report.kind == "pixels"
    assert report.places == labelled == row.matrix.total
    assert np.array_equal(row.matrix.counts, matrix.counts)
    assert row.calibration is not None
    assert row.calibration.weight.sum() == labelled
    assert len(row.boundaries) == 5
    assert (row.small_found <= row.small).all()


def test_every_row_names_its_protocol_and_background_is_a_class_where_asked_for(phantom: Path) -> None:
    settings = replace(
        PHANTOM, tta=True, refiners=("none", "fast"), bootstrap=100, backgrounds=("excluded", "released")
    )
    report = evaluate_models(["builtin"], phantom, settings)
    rows = [row.to_json() for row in report.rows]
    named = [(r["gate"], r["background"], r["tta"], r["refine"]) for r in rows]
    assert len(set(named)) == len(named) == 3 * 2 * 2 * 2
    for row in report.rows:
        counted = row.protocol.background == "released"
        assert row.names == ((*NAMES, "Background") if counted else NAMES)
        assert (row.calibration is None) == (counted or row.protocol.refine == "fast")
        assert row.intervals["mean_iou"].shape == (2,)
        assert row.intervals["iou"].shape == (2, len(row.names))
    excluded, released = rows[0], rows[4]
    assert released["total"] > excluded["total"]
    assert released["mean_iou"] == pytest.approx(np.mean([released["iou"][name] for name in NAMES]), abs=1e-4)
    assert report.to_json()["settings"]["boundary_um"] == 4.0


def test_oracle_never_gives_a_class_that_the_image_lacks(phantom: Path) -> None:
    settings = replace(PHANTOM, gates=("oracle",), refiners=("none", "fast"), backgrounds=("excluded",))
    for row in evaluate_models(["builtin"], phantom, settings).rows:
        for counts in row.counts:
            present = counts.sum(1) > 0
            if present.any():
                assert not counts[:, ~present].any()


def test_models_side_by_side_leave_out_the_patients_of_all(phantom: Path, tmp_path: Path) -> None:
    model = load_model("builtin")
    patients = evaluate_models(["builtin"], phantom, PHANTOM).patients
    assert len(patients) == 5
    model.card = replace(model.card, training={"patients": [patients[1]]})
    save_bundle(tmp_path / "a.safetensors", model)
    names = ["builtin", str(tmp_path / "a.safetensors")]
    report = evaluate_models(names, phantom, replace(PHANTOM, gates=("none",), backgrounds=("excluded",)))
    assert report.left_out == (patients[1],)
    assert [row.title for row in report.rows] == names
    assert np.array_equal(report.rows[0].matrix.counts, report.rows[1].matrix.counts)
    assert list(report.presence) == names


def test_models_of_other_classes_are_refused(phantom: Path, tmp_path: Path) -> None:
    model = load_model("builtin")
    first, *others = model.card.classes
    classes = ClassScheme((replace(first, name="Necrosis"), *others))
    model.card = replace(model.card, classes=classes, training={})
    path = tmp_path / "other.safetensors"
    save_bundle(path, model)
    with pytest.raises(ModelError) as error:
        evaluate_models(["builtin", str(path)], phantom, PHANTOM)
    assert str(error.value) == (
        f"{path}: has the classes Necrosis, Stroma, Lymphocyte, builtin has Tumor, Stroma, Lymphocyte; "
        "evaluate them one by one"
    )


def half_and_half(generator: np.random.Generator) -> np.ndarray:
    pixels = np.full((64, 64, 3), 220, np.uint8)
    pixels[:, 32:] = (120, 60, 140)
    return np.clip(pixels + generator.normal(0, 8, pixels.shape), 0, 255).astype(np.uint8)


def test_probe_learns_from_places() -> None:
    generator, encoder = np.random.default_rng(0), build_encoder("compact")
    features, labels = [], []
    for _ in range(3):
        found = find_features(encoder, half_and_half(generator), 4)
        assert found.shape[1:] == (16, 16)
        x, y = generator.integers(0, 64, (2, 60))
        features.append(found[:, y // 4, x // 4].T)
        labels.append(torch.from_numpy((x >= 32).astype(np.int64)))
    found = fit_probe(features, labels, 2, 1e-3).labels(find_features(encoder, half_and_half(generator), 4))
    assert (found[:, :7] == 0).mean() > 0.9
    assert (found[:, 9:] == 1).mean() > 0.9


def test_places_of_a_mask_have_its_classes() -> None:
    mask = np.full((16, 24), NOT_LABELLED, np.uint8)
    mask[:, :10], mask[3, 20] = 2, 0
    places, labels = draw_places(sample(mask), 3, 0)
    assert np.bincount(labels, minlength=3).tolist() == [1, 0, 64]
    assert (mask[places[:, 1], places[:, 0]] == labels).all()
    assert np.array_equal(places, draw_places(sample(mask), 3, 0)[0])


def test_a_probe_without_places_is_refused(phantom: Path) -> None:
    with pytest.raises(DataError) as error:
        evaluate_models(["builtin"], phantom, replace(PHANTOM, probe_split="train"))
    assert str(error.value) == (
        f"{phantom}: 'train' has no mask or point of patients that are not scored, and a probe learns from these; "
        "leave out --probe, or name another --probe-split"
    )


def test_built_in_model_on_patients_never_seen(shared: Path) -> None:
    settings = EvaluateSettings(gates=("none",), bootstrap=200, device="cpu")
    report = evaluate_models(["builtin"], shared / "data" / "brca-m2c", settings)
    assert (len(report.images), len(report.patients)) == (8, 8)
    assert report.left_out == ("TCGA-A7-A0DB", "TCGA-A7-A13G")
    (row,) = report.rows
    assert row.matrix.total == report.places == 2449
    assert row.matrix.accuracy > 0.71
    assert row.matrix.mean_iou > 0.49
    low, high = row.intervals["accuracy"]
    assert low < row.matrix.accuracy < high
    assert not row.boundaries


def test_every_patient_trained_on_is_refused(shared: Path) -> None:
    with pytest.raises(DataError, match="the model was trained on every patient of 'train'; choose another split"):
        evaluate_models(["builtin"], shared / "data" / "brca-m2c", EvaluateSettings(split="train", device="cpu"))
