"""Training on tiles with image-level labels: the loop, selection, kept features."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dualproto_wsi.errors import DataError, MissingDependency, OutputError, SettingsError
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import load_model, read_card
from dualproto_wsi.settings import TrainSettings, train_settings
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.train import TrainFiles, TrainReport, train_model

STILL = {"alike": False, "stain": 0.0, "tone": 0.0, "blur": 0.0, "zoom": 0.0}
PLAIN = {"augment": STILL, "objective": {"steadiness": 0.0, "absence": 0.0}}


def settings(**changes: Any) -> TrainSettings:
    """Return settings without a text side, for tiles."""
    base: dict[str, Any] = {
        "data": {"layout": "bcss-wsss", "workers": 2},
        "encoder": {"adapt": 0.0},
        "augment": {"tone": 0.0, "blur": 0.0, "zoom": 0.0},
        "head": {"text": False},
        "optimiser": {"epochs": 4, "batch_size": 8, "warm_up": 4, "learning_rate": 4e-3},  # few steps: large ones
        "device": "cpu",
    }
    for section, values in changes.items():
        base[section] = {**base.get(section, {}), **values} if isinstance(values, dict) else values
    return train_settings(base)


@pytest.fixture(scope="module")
def trained(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainReport]:
    bundle = tmp_path_factory.mktemp("trained") / "a.safetensors"
    return bundle, train_model(tiles, bundle, settings(optimiser={"epochs": 12, "batch_size": 8, "warm_up": 4}))


def card_of(bundle: Path) -> dict[str, Any]:
    """Return a bundle's card without the time that it took."""
    data = read_card(bundle).to_json()
    data["training"]["effort"].pop("seconds")
    return data


def log_of(bundle: Path) -> list[dict[str, str]]:
    with bundle.with_suffix(".csv").open() as file:
        return list(csv.DictReader(file))


def test_learns_tiles_from_their_names(trained: tuple[Path, TrainReport]) -> None:
    bundle, report = trained
    assert report.folds is None
    assert report.test is not None and report.test.auc > 0.9
    assert report.test.places.mean_iou > 0.5  # masks were only looked at to score; chance is below 0.2
    assert (report.test.images, len(report.test.patients), report.left_out) == (8, 4, ())
    assert load_model(bundle).card.to_json() == report.card.to_json()
    assert not bundle.with_name("a.safetensors.training").exists()


def test_the_best_epoch_is_kept_and_said(trained: tuple[Path, TrainReport]) -> None:
    bundle, report = trained
    training, rows = report.card.training, log_of(bundle)
    assert training["selection"]["rule"].endswith("image-level labels alone")
    assert training["selection"]["patients"] == [f"TCGA-AA-00{number}" for number in range(20, 24)]
    values = [(float(row["valid_auc"]), -float(row["valid_loss"])) for row in rows]
    assert training["effort"]["epochs"]["final"] == {"run": 12, "kept": values.index(max(values)) + 1}
    assert training["labels"] == "image-level, as the data gives them for each image"
    assert training["preset"] == "default" and training["changed"]["head.text"] is False
    assert [row["epoch"] for row in rows] == [str(number) for number in range(1, 13)]
    assert list(rows[0]) == [
        *("fit", "epoch", "loss", "crops", "absence", "diversity", "steadiness", "keep", "learning_rate"),
        *("valid_loss", "valid_auc", "valid_mean_iou", "seconds"),
    ]


def test_selection_by_masks_is_said_and_patience_stops(tiles: Path, tmp_path: Path) -> None:
    chosen = settings(validation={"select": "masks", "patience": 1}, optimiser={"learning_rate": 1e-9, "epochs": 9})
    card = train_model(tiles, tmp_path / "a.safetensors", chosen).card
    assert "MASKS" in card.training["selection"]["rule"]
    epochs = card.training["effort"]["epochs"]["final"]
    assert epochs["run"] == epochs["kept"] + 1 < 9


def test_a_share_of_the_patients_is_held_out(tiles: Path, tmp_path: Path) -> None:
    chosen = settings(validation={"split": "", "share": 0.25, "select": "loss"}, optimiser={"epochs": 1})
    card = train_model(tiles, tmp_path / "a.safetensors", chosen).card
    held = set(card.training["selection"]["patients"])
    assert 2 <= len(held) <= 4
    assert held | set(card.training["patients"]) == {f"TCGA-AA-{number:04}" for number in range(12)}
    assert not held & set(card.training["patients"])


def assert_same(one: Path, other: Path) -> None:
    """Check that two bundles and their logs are the same, times aside."""
    tensors = [load_file(path) for path in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert card_of(one) == card_of(other)
    logs = [[{**row, "seconds": ""} for row in log_of(path)] for path in (one, other)]
    assert logs[0] == logs[1]


def test_features_are_kept_and_read_again(tiles: Path, tmp_path: Path) -> None:
    cache = tmp_path / "features"
    chosen = settings(**PLAIN, encoder={"name": "compact", "cache": str(cache)})
    bundles = [tmp_path / name / "a.safetensors" for name in ("first", "second", "without")]
    heard = FeatureListener()
    train_model(tiles, bundles[0], chosen, heard)
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    assert len(files) == 32 * 8 + 8  # eight orientations of what is learned from, one of what is held out
    assert heard.told[-1] == (8, 8) and (256, 256) in heard.told
    assert next(iter(load_file(next(iter(files))).values())).dtype == torch.float16
    train_model(tiles, bundles[1], chosen)
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == files
    assert_same(bundles[0], bundles[1])
    train_model(tiles, bundles[2], replace(chosen, encoder=replace(chosen.encoder, cache="")))
    losses = [[float(row["loss"]) for row in log_of(bundle)] for bundle in bundles]
    assert losses[0] == pytest.approx(losses[2], rel=0.02)  # half precision, else the same


class FeatureListener(TrainListener):
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def features_done(self, done: int, total: int) -> None:
        self.told.append((done, total))


def test_features_that_do_not_fit_the_disk(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("dualproto_wsi.workflow.training.features.shutil.disk_usage", lambda path: usage)
    chosen = settings(**PLAIN, encoder={"name": "compact", "cache": str(tmp_path / "features")})
    with pytest.raises(OutputError, match=r"the features need 0\.0 GB and the disk has 0\.0 GB; choose another"):
        train_model(tiles, tmp_path / "a.safetensors", chosen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoder": {"cache": "x"}, "augment": {"stain": 0.1}},
            "settings: encoder.cache is 'x', but augment.stain is 0.1, objective.steadiness is 0.3: features then "
            "change at every step, and cannot be kept; set that to 0, or leave the cache out",
        ),
        (
            {"encoder": {"cache": "x"}, "augment": {"stain": 0.0}},
            "settings: encoder.cache is 'x', but objective.steadiness is 0.3: features then change at every step, and "
            "cannot be kept; set that to 0, or leave the cache out",
        ),
    ],
)
def test_features_of_changing_images_cannot_be_kept(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings(**change)
    assert str(error.value) == message


def test_too_few_descriptions(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        train_model(tiles, tmp_path / "a.safetensors", settings(data={"descriptions": 99}))
    assert str(error.value).startswith("data.descriptions is 99, but bcss has ")


def test_a_patient_on_both_sides_is_refused(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"32 patient|12 patient\(s\) in both splits, TCGA-AA-0000"):
        train_model(tiles, tmp_path / "a.safetensors", settings(validation={"split": "train"}))


def test_points_for_calibration_that_are_not_there(tiles: Path, tmp_path: Path) -> None:
    chosen = settings(validation={"calibration": "points"}, optimiser={"epochs": 1})
    with pytest.raises(SettingsError, match=r"validation\.calibration is 'points', but the data has none"):
        train_model(tiles, tmp_path / "a.safetensors", chosen)


def test_masks_to_select_by_that_are_not_there(tiles: Path, tmp_path: Path) -> None:
    chosen = settings(validation={"split": "", "share": 0.3, "select": "masks"})
    with pytest.raises(SettingsError, match=r"validation\.select is 'masks', but no held-out image has a mask"):
        train_model(tiles, tmp_path / "a.safetensors", chosen)


def test_held_out_images_that_tell_nothing(tiles: Path, tmp_path: Path) -> None:
    for path in (tiles / "train").glob("*.png"):
        link = tmp_path / "train" / path.name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    for name in ("img", "mask"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "TCGA-ZZ-0001.png").symlink_to(next((tiles / "val" / name).glob("*.png")))
    with pytest.raises(
        DataError, match=r"validation\.select is 'auc', but each class is in all of the held-out images"
    ):
        train_model(tmp_path, tmp_path / "a.safetensors", settings(optimiser={"epochs": 1}))


def test_tensorboard_that_is_not_there(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency) as error:
        train_model(tiles, tmp_path / "a.safetensors", settings(), files=TrainFiles(tensorboard=tmp_path / "tb"))
    assert str(error.value) == (
        f"--tensorboard {tmp_path / 'tb'}: the package tensorboard is not installed; pip install tensorboard"
    )


@pytest.mark.parametrize("kind", ["released", "cam", "one scale", "text alone"])
def test_every_recipe_runs_through_the_same_loop(tiles: Path, tmp_path: Path, kind: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "released": {"preset": "released", "encoder": {"name": "compact"}},
        "cam": {"head": {"kind": "cam"}},
        "one scale": {"head": {"upsampling": [2], "channels": [64]}},
        "text alone": {"head": {"text": True, "image": False}},
    }
    text = torch.nn.functional.normalize(torch.randn(40, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    chosen = settings(**changes[kind], optimiser={"epochs": 2, "batch_size": 8})
    assert isinstance(_run(tiles, tmp_path, chosen, text), ModelCard)


def _run(tiles: Path, folder: Path, chosen: TrainSettings, text: torch.Tensor) -> ModelCard:
    from dualproto_wsi.workflow.training.text_side import FixedText

    make: Callable[[], FixedText] = lambda: FixedText(text)  # noqa: E731
    return train_model(tiles, folder / "a.safetensors", chosen, text=make()).card
