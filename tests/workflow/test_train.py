"""Trains on a made-up set in seconds: the learned map must find classes that only crops' labels told of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.settings import TrainSettings
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.text_side import FixedText
from dualproto_wsi.workflow.training.train import TrainReport, train_model

PLAIN = TrainSettings()
SETTINGS = replace(
    PLAIN,
    data=replace(PLAIN.data, crop_sizes=(48, 64), window_px=128),
    optimiser=replace(PLAIN.optimiser, epochs=8, batch_size=4),
    encoder=replace(PLAIN.encoder, adapt=0.0),
    augment=replace(PLAIN.augment, stain=0.05, tone=0.0, blur=0.0, zoom=0.0),
    validation=replace(PLAIN.validation, folds=0),
    device="cpu",
)
TEXT = torch.nn.functional.normalize(torch.randn(30, 384, generator=torch.Generator().manual_seed(0)), dim=1)


def changed(section: str, settings: TrainSettings = SETTINGS, /, **values: object) -> TrainSettings:
    """Return settings with other values in a section."""
    return replace(settings, **{section: replace(getattr(settings, section), **values)})


def fixed() -> FixedText:
    return FixedText(TEXT)


CODES = {"Lymphocyte": 1, "Tumor": 2, "Stroma": 3}


def paint(generator: np.random.Generator, side: int = 128) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Return an image whose left and right halves hold two different tissues, and points `y x class` on both."""
    y, x = np.mgrid[:side, :side]
    tissues = {
        "Tumor": np.stack([150 + 0 * x, 90 + 40 * (((x // 12) + (y // 12)) % 2), 160 + 0 * x], -1),
        "Stroma": np.stack([225 + 0 * x, 150 + 40 * np.sin((x + 2 * y) / 4), 190 + 0 * x], -1),
        "Lymphocyte": np.stack(
            [120 + 90 * ((x % 7 < 3) | (y % 7 < 3)), 90 + 90 * ((x % 7 < 3) | (y % 7 < 3)), 170 + 0 * x], -1
        ),
    }
    left, right = generator.choice(list(tissues), 2, replace=False)
    pixels = np.where((x < side // 2)[..., None], tissues[left], tissues[right])
    points = []
    for name, first in ((left, 0), (right, side // 2)):
        for row, column in generator.integers((0, first), (side, first + side // 2), (40, 2)):
            points.append((int(row), int(column), CODES[name]))
    return np.clip(pixels + generator.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8), points


def write(root: Path, split: str, names: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels, points = paint(generator)
        cv2.imwrite(str(root / "images" / name), pixels[..., ::-1])
        text = "".join(f"{y} {x} {code}\n" for y, x, code in points)
        (root / "labels" / f"{name[:-4]}_gt_class_coords.txt").write_text(text)
    (root / f"{split}.txt").write_text("\n".join(names) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write(root, "val", [f"TCGA-AA-{number:04}-a.png" for number in (3, 101, 102, 103)], seed=1)
    write(root, "train", [f"TCGA-AA-{number:04}-a.png" for number in range(12)], seed=2)
    return root


class Recorder(TrainListener):
    def __init__(self) -> None:
        self.titles: list[tuple[str, int]] = []
        self.losses: list[float] = []

    def fit_started(self, title: str, epochs: int) -> None:
        self.titles.append((title, epochs))

    def epoch_done(self, loss: float) -> None:
        self.losses.append(loss)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport, Recorder]:
    bundle = tmp_path_factory.mktemp("bundle") / "new" / "made-up.safetensors"
    recorder = Recorder()
    return bundle, train_model(data, bundle, SETTINGS, recorder, fixed()), recorder


def test_finds_the_classes_on_patients_never_seen(trained: tuple[Path, TrainReport, Recorder]) -> None:
    _, report, recorder = trained
    assert report.test is not None
    assert report.test.places.accuracy > 0.85  # chance is a third
    assert report.test.places.mean_iou > 0.7
    assert report.folds is None
    assert recorder.titles == [("final", 8)]
    assert len(recorder.losses) == 8
    assert recorder.losses[-1] < recorder.losses[0] / 2


def test_a_patient_of_both_splits_is_left_out_and_named(trained: tuple[Path, TrainReport, Recorder]) -> None:
    _, report, _ = trained
    assert report.test is not None
    assert report.left_out == ("TCGA-AA-0003",)
    assert (report.test.images, len(report.test.patients)) == (3, 3)
    assert report.card.scores["test"]["left_out"] == ["TCGA-AA-0003"]


def test_the_bundle_says_how_it_was_made(trained: tuple[Path, TrainReport, Recorder], data: Path) -> None:
    bundle, report, _ = trained
    model = load_model(bundle)
    assert model.card.to_json() == report.card.to_json()
    assert model.card.name == "made-up"
    assert model.classes.names == ("Tumor", "Stroma", "Lymphocyte")
    assert model.stride_px == 4
    assert model.card.training["patients"] == [f"TCGA-AA-{number:04}" for number in range(12)]
    assert model.card.training["settings"]["optimiser"]["epochs"] == 8
    assert model.card.training["changed"]["data.crop_sizes"] == [48, 64]
    assert model.card.training["selection"] == {"rule": "the last epoch"}


def test_the_seed_decides(data: Path, tmp_path: Path) -> None:
    short = changed("data", changed("optimiser", epochs=1), split="val", test_split="")
    heads = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        bundle = tmp_path / f"{name}.safetensors"
        train_model(data, bundle, replace(short, seed=seed), text=fixed())
        heads.append(load_model(bundle).head.state_dict()["refiner.project.weight"])
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_folds_calibrate_and_score_patients_held_out(data: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    settings = changed("validation", changed("optimiser", epochs=3), folds=2)
    report = train_model(data, tmp_path / "a.safetensors", settings, recorder, fixed())
    assert [title for title, _ in recorder.titles] == ["fold 1/2", "fold 2/2", "final"]
    assert report.folds is not None
    assert report.folds.total == 12 * 80
    assert report.folds.accuracy > 0.6
    assert report.card.temperature != 1
    scores = report.card.scores
    assert scores["cross_validation"]["accuracy"] == pytest.approx(report.folds.accuracy, abs=1e-4)
    assert scores["calibration"]["chosen"] == "temperature"
    assert list(scores["calibration"]["cross_validated"]) == ["none", "temperature", "presence", "points"]
    assert len(scores["unsure"]) == 5
    assert report.card.gate.strength == 0
    assert len(report.card.gate.bias) == 3
    assert load_model(tmp_path / "a.safetensors").card.to_json() == report.card.to_json()


@pytest.mark.parametrize("calibration", ["none", "points"])
def test_the_calibration_is_chosen(data: Path, tmp_path: Path, calibration: str) -> None:
    settings = changed("data", changed("optimiser", epochs=1), test_split="")
    settings = changed("validation", settings, folds=2, calibration=calibration, gate=0.5)
    card = train_model(data, tmp_path / "a.safetensors", settings, text=fixed()).card
    assert (card.temperature == 1, card.bias == (0, 0, 0)) == (calibration == "none",) * 2
    assert card.gate.strength == 0.5


def test_a_class_that_no_crop_holds_is_refused(data: Path, tmp_path: Path) -> None:
    write(tmp_path, "train", ["TCGA-AA-0001-a.png"], seed=0)
    labels = tmp_path / "labels" / "TCGA-AA-0001-a_gt_class_coords.txt"
    labels.write_text("5 5 1\n6 6 1\n100 100 2\n101 101 2\n")
    with pytest.raises(DataError) as error:
        train_model(tmp_path, tmp_path / "a.safetensors", SETTINGS, text=fixed())
    assert str(error.value) == (
        "class 'Stroma' is in no training crop; leave it out with --classes, or add images of it"
    )
    places = [(y, x) for y in range(0, 128, 8) for x in range(0, 128, 8)]
    labels.write_text("".join(f"{y} {x} {code}\n" for y, x in places for code in (1, 2, 3)))
    with pytest.raises(DataError) as error:
        train_model(tmp_path, tmp_path / "a.safetensors", SETTINGS, text=fixed())
    assert not list(tmp_path.glob("*.training"))
    assert str(error.value) == (
        "class 'Tumor' is in every training crop; use smaller crop_sizes, or add images without it"
    )


def test_too_few_patients_for_the_folds(tmp_path: Path) -> None:
    write(tmp_path, "train", ["TCGA-AA-0001-a.png", "TCGA-AA-0001-b.png"], seed=0)
    with pytest.raises(DataError, match=r"1 patient\(s\) cannot be parted into 2 folds; pass --folds"):
        train_model(tmp_path, tmp_path / "a.safetensors", changed("validation", folds=2), text=fixed())


def test_a_name_that_is_no_bundle_s(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.pt: a bundle's name ends in \.safetensors"):
        train_model(data, tmp_path / "model.pt", SETTINGS, text=fixed())


def test_features_of_windows_at_places_of_chance_cannot_be_kept(data: Path, tmp_path: Path) -> None:
    settings = changed("objective", changed("augment", stain=0.0), steadiness=0.0)
    settings = changed("encoder", settings, cache=str(tmp_path / "features"))
    with pytest.raises(SettingsError) as error:
        train_model(data, tmp_path / "a.safetensors", settings, text=fixed())
    assert str(error.value) == (
        f"encoder.cache is {str(tmp_path / 'features')!r}, but windows are cut at places of chance, and their features "
        "cannot be kept; set data.crop_sizes to [] to train on whole images, or leave the cache out"
    )


def test_images_as_a_whole_where_no_crop_is_wanted(data: Path, tmp_path: Path) -> None:
    settings = changed("data", changed("optimiser", epochs=1), crop_sizes=())
    card = train_model(data, tmp_path / "a.safetensors", settings, text=fixed()).card
    assert card.training["labels"] == "image-level, as the data gives them for each image"


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("data", {"crop_sizes": (4,)}, "crop_sizes is (4,); name sizes of at least 8 px, or none for whole images"),
        ("data", {"window_px": 32}, "window_px is 32; the smallest of crop_sizes (48, 64) must fit into it"),
        ("data", {"min_points": 0}, "min_points is 0; it must be at least 1"),
        ("data", {"descriptions": -1}, "descriptions is -1; use 0 (all) or more"),
        ("data", {"workers": 0}, "workers is 0; use 1 to 256"),
        ("data", {"mpp": 0.0}, "mpp is 0.0; microns per pixel lie between 0.01 and 100"),
        ("data", {"split": ""}, "split is empty; name the images to train on"),
        (
            "data",
            {"layout": "x"},
            "layout is 'x'; choose one of brca-m2c, bcss-wsss, luad-histoseg, wsss4luad, table",
        ),
        ("encoder", {"name": ""}, "encoder.name is empty; use compact, conch, or open_clip:MODEL"),
        ("encoder", {"precision": "x"}, "precision is 'x'; choose one of auto, fp32, bf16, fp16"),
        ("optimiser", {"epochs": 0}, "epochs is 0; it must be at least 1"),
        ("optimiser", {"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ("optimiser", {"warm_up": -1}, "warm_up is -1; it cannot be negative"),
        ("optimiser", {"schedule": "x"}, "schedule is 'x'; choose one of cosine, linear"),
        ("optimiser", {"start": "x"}, "start is 'x'; choose one of default, released"),
        ("objective", {"sharpness": 0.0}, "sharpness is 0.0; it must be above 0"),
        ("objective", {"balance": -1.0}, "balance is -1.0; it cannot be negative"),
        ("objective", {"pooling": "x"}, "pooling is 'x'; choose one of logmeanexp, average"),
        ("objective", {"merge": "x"}, "merge is 'x'; choose one of , softmax, mean, logsumexp"),
        ("objective", {"scales": "x"}, "scales is 'x'; choose one of mean, sum"),
        ("augment", {"orientations": 3}, "orientations is 3; use 1, 4 or 8"),
        ("augment", {"stain": -0.1}, "stain is -0.1; it cannot be negative"),
        ("validation", {"folds": 1}, "folds is 1; use 0, or 2 and more"),
        ("validation", {"calibration": "x"}, "calibration is 'x'; choose one of none, temperature, presence, points"),
        ("validation", {"gate": -1.0}, "gate is -1.0; it cannot be negative"),
        (
            "validation",
            {"gate": 0.5},
            "gate is 0.5, but nothing is held out to calibrate it on; set folds, split or share",
        ),
        ("validation", {"share": 0.9}, "share is 0.9; use 0 to 0.5 of the patients"),
        ("validation", {"share": 0.1, "split": "val"}, "split 'val' and share 0.1 are both set; use one"),
        ("validation", {"patience": -1}, "patience is -1; it cannot be negative"),
        (
            "validation",
            {"select": "auc"},
            "select is 'auc', but nothing is held out; set validation.split or validation.share",
        ),
        (
            "validation",
            {"patience": 2, "split": "val"},
            "patience is 2: it needs a rule for what is better; set select to auc, loss or masks",
        ),
        (
            "validation",
            {"folds": 2, "split": "val"},
            "folds is 2, and images are held out by split or share as well; use one of the two",
        ),
    ],
)
def test_settings_out_of_range(section: str, change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        changed(section, **change)
    assert str(error.value) == message
