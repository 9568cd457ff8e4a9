"""Training goes on from a model: what its bundle decides, what stays, and what the new bundle says."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.checkpoint import find_model, load_model, read_bundle, read_card
from dualproto_wsi.model.encoder import hash_tensors
from dualproto_wsi.settings import ContinueSettings, TrainSettings, to_data
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.continuing import continued_settings
from dualproto_wsi.workflow.training.train import train_model

SHORT = {"optimiser": {"epochs": 1}, "data": {"layout": "table", "workers": 1}, "device": "cpu"}


def write_table(root: Path, images: int = 4, mpp: float = 0.5, unknown: int = 2) -> Path:
    """Write images of noise of two tints; those of the second half of the rest hold Tumor, others are known to lack it;
    of the last ones nothing is known.
    """
    generator = np.random.default_rng(0)
    root.mkdir(parents=True)
    lines = [["path", "patient", "mpp", "Tumor", "Stroma", "Lymphocyte"]]
    for number in range(images + unknown):
        labels = "??" if number >= images else "10" if number % 2 else "01"
        pixels = generator.normal((200, 120, 170) if number % 2 else (220, 180, 200), 25, (64, 64, 3))
        cv2.imwrite(str(root / f"{number}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
        lines.append([f"{number}.png", f"P{number}", f"{mpp}", *labels, "?"])
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return root


def continued(model: object = "builtin", **more: object) -> TrainSettings:
    return continued_settings({**SHORT, "continuing": {"model": str(model), **more}})


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp("continue") / "data")


@pytest.fixture(scope="module")
def bundle(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("continued") / "new.safetensors"
    train_model(data, path, continued())
    return path


def test_what_the_model_decides_and_what_is_gentler():
    settings, card = continued(), read_card(find_model("builtin"))
    assert (settings.encoder.name, settings.head) == (card.encoder, card.head)
    assert (settings.data.vocabulary, settings.data.classes, settings.data.layout) == ("", (), "table")
    recipe = card.training["settings"]
    rate = recipe["optimiser"]["learning_rate"] if "optimiser" in recipe else TrainSettings().optimiser.learning_rate
    assert settings.optimiser.learning_rate == pytest.approx(rate / 4)
    assert continued(replay="data").optimiser.learning_rate == pytest.approx(rate / 2)
    assert continued_settings({"continuing": {"model": "builtin"}}).optimiser.epochs == 10
    assert (settings.validation.folds, settings.validation.share, settings.validation.calibration) == (0, 0, "none")
    given = {"continuing": {"model": "builtin"}, "optimiser": {"learning_rate": 0.5}, "validation": {"folds": 2}}
    assert continued_settings(given).optimiser.learning_rate == 0.5
    assert continued_settings(given).validation.folds == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"encoder": {"name": "conch"}},
            "encoder.name is 'conch', but that of the model that is continued, builtin, is 'compact'; leave it out",
        ),
        (
            {"data": {"classes": ["Stroma"]}},
            "data.classes is ['Stroma'], but that of the model that is continued, builtin, is ['Tumor', 'Stroma', "
            "'Lymphocyte']; leave it out",
        ),
        (
            {"head": {"prototype_dim": 64}},
            "head.prototype_dim is 64, but that of the model that is continued, builtin, is 128; leave it out",
        ),
        (
            {"data": {"vocabulary": "luad"}},
            "data.vocabulary is 'luad', but it comes from the model that is continued, builtin; leave it out",
        ),
        (
            {"text": {"slots": 4}},
            "text.slots is 4, but it comes from the model that is continued, builtin; leave it out",
        ),
        (
            {"preset": "released"},
            "preset is 'released', but it comes from the model that is continued, builtin; leave it out",
        ),
    ],
)
def test_what_contradicts_the_model_is_refused(given, message):
    with pytest.raises(SettingsError) as error:
        continued_settings({**given, "continuing": {"model": "builtin"}})
    assert str(error.value) == message


def test_the_same_as_the_model_says_is_no_contradiction():
    same = {"encoder": {"name": "compact"}, "data": {"classes": ["Tumor", "Stroma", "Lymphocyte"]}}
    assert continued_settings({**same, "continuing": {"model": "builtin"}}).data.classes == ()


def test_with_corrections_the_data_is_slides():
    given = {"data": {"layout": "table"}, "continuing": {"model": "builtin", "corrections": "x"}}
    with pytest.raises(SettingsError) as error:
        continued_settings(given)
    assert str(error.value) == "data.layout is 'table', but with --corrections the data is slides; leave it out"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keep": 2.0}, "continuing.keep is 2.0, but no model is continued; name one with --continue"),
        (
            {"model": "m", "windows": 5},
            "continuing.windows is 5, but there are no corrections; name them with --corrections",
        ),
        ({"model": "m", "keep": -1.0}, "keep is -1.0; it cannot be negative"),
        ({"model": "m", "corrections": "c", "windows": -1}, "windows is -1; it cannot be negative"),
        (
            {"model": "m", "corrections": "c", "windows": 5, "keep": 0.0},
            "windows is 5, but keep is 0, so nothing is learned from them; leave one of the two out",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_refused(values, message):
    with pytest.raises(SettingsError) as error:
        ContinueSettings(**values)
    assert str(error.value) == message


def test_settings_that_were_not_made_for_the_model(data, tmp_path):
    with pytest.raises(SettingsError) as error:
        replace(TrainSettings(), continuing=ContinueSettings("builtin"))
    assert str(error.value) == (
        "data.vocabulary is 'bcss', but classes and descriptions come from the model that is continued, builtin; set "
        "it to ''"
    )
    other = continued()
    other = replace(other, head=replace(other.head, merge="mean"))
    with pytest.raises(SettingsError, match=r"^head is HeadSettings\(.*but the model that is continued, builtin, has"):
        train_model(data, tmp_path / "a.safetensors", other)


def test_the_new_bundle_says_what_it_went_on_from(bundle):
    original = read_bundle(find_model("builtin"))
    before, tensors = original.card, original.head
    card = load_model(bundle).card
    start = hash_tensors(tensors.items(), "head 1")
    told = card.training
    assert told["continued"] == {"model": "compact-breast", "hash": start, "data": before.training["data"]}
    assert told["started_from"] == start
    assert told["positives"] == {"Tumor": 2, "Stroma": 2, "Lymphocyte": 0}
    assert set(told["patients"]) == {*before.training["patients"], *(f"P{number}" for number in range(6))}
    assert (card.temperature, card.bias, card.gate) == (before.temperature, before.bias, before.gate)
    assert (card.classes, card.mpp, card.window_px, card.licence) == (
        *(before.classes, before.mpp, before.window_px),
        before.licence,
    )
    assert card.limits == f"{before.limits} Its training went on with data."
    assert any(not torch.equal(tensors[key], value) for key, value in read_bundle(bundle).head.items())
    features = "bank.text_features"
    assert torch.equal(tensors[features], read_bundle(bundle).head[features])  # no text encoder was needed


def test_going_on_again_keeps_the_rate(bundle):
    again = continued(bundle)
    assert again.optimiser.learning_rate == continued().optimiser.learning_rate
    assert to_data(again) | {"continuing": {}} == to_data(continued()) | {"continuing": {}}


def test_images_of_which_nothing_is_known_keep_the_map(data, bundle, tmp_path):
    with (bundle.with_suffix(".csv")).open() as file:
        assert float(next(csv.DictReader(file))["keep"]) > 0
    settings = continued(keep=0.0)
    train_model(data, tmp_path / "free.safetensors", settings)
    with (tmp_path / "free.csv").open() as file:
        assert float(next(csv.DictReader(file))["keep"]) == 0


def test_another_resolution_is_refused(tmp_path):
    close = write_table(tmp_path / "close", mpp=0.509)
    assert train_model(close, tmp_path / "a.safetensors", continued(keep=0.0)).card.mpp == 0.5
    with pytest.raises(DataError) as error:
        train_model(write_table(tmp_path / "far", mpp=0.25), tmp_path / "a.safetensors", continued())
    assert str(error.value) == (
        "far: has 0.25 µm/px, but the model that is continued, compact-breast, was trained at 0.5; bring the images to "
        "0.5 µm/px, or say with --mpp what they have"
    )


def test_images_without_any_label_teach_nothing(tmp_path):
    with pytest.raises(DataError) as error:
        train_model(write_table(tmp_path / "data", images=0), tmp_path / "a.safetensors", continued())
    assert str(error.value) == "no image says of any class whether it holds it, so nothing can be learned; add labels"


def write_points(root: Path) -> Path:
    """Write four images in the layout of the built-in model's own data."""
    generator = np.random.default_rng(1)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    names = [f"TCGA-AA-000{number}-a.png" for number in range(4)]
    for number, name in enumerate(names):
        pixels = generator.normal((200, 120, 170) if number % 2 else (220, 180, 200), 25, (224, 224, 3))
        cv2.imwrite(str(root / "images" / name), np.clip(pixels, 0, 255).astype(np.uint8))
        points = [f"{y} {x} {1 + (number + x // 80) % 3}" for y in range(8, 224, 16) for x in range(8, 224, 16)]
        (root / "labels" / f"{name[:-4]}_gt_class_coords.txt").write_text("\n".join(points))
    (root / "train.txt").write_text("\n".join(names) + "\n")
    return root


def test_what_was_learned_before_is_learned_again(data, tmp_path):
    old = write_points(tmp_path / "old")
    settings = continued(replay=str(old), keep=0.0)
    with pytest.raises(SettingsError) as error:
        train_model(data, tmp_path / "a.safetensors", settings)
    assert str(error.value) == (
        f"continuing.replay is {str(old)!r}: of its images and the new ones some have labels of crops, the others of "
        "whole images; set data.crop_sizes to [] to learn from whole images alone"
    )
    whole = replace(settings, data=replace(settings.data, crop_sizes=()))
    alone = replace(whole, continuing=replace(whole.continuing, replay=""))
    heads = []
    for name, chosen in (("with", whole), ("without", alone)):
        report = train_model(data, tmp_path / f"{name}.safetensors", chosen)
        heads.append(read_bundle(tmp_path / f"{name}.safetensors").head)
        assert report.card.training["positives"] == {"Tumor": 2, "Stroma": 2, "Lymphocyte": 0}  # the new ones alone
    assert not torch.equal(heads[0]["bank.image"], heads[1]["bank.image"])
    assert report.card.training["settings"]["continuing"]["replay"] == ""
    assert read_card(tmp_path / "with.safetensors").training["settings"]["continuing"]["replay"] == "old"


def test_patients_that_are_learned_again_are_not_held_out(tmp_path):
    images, old = write_table(tmp_path / "data"), write_table(tmp_path / "old")
    settings = continued(replay=str(old), replay_layout="table", keep=0.0)
    settings = replace(settings, validation=replace(settings.validation, share=0.4, select="loss"))
    with pytest.raises(DataError, match=r"patient\(s\) in both splits"):
        train_model(images, tmp_path / "a.safetensors", settings)
    with pytest.raises(DataError, match=r"far: has 0.25 µm/px"):
        train_model(
            images,
            tmp_path / "a.safetensors",
            continued(replay=str(write_table(tmp_path / "far", mpp=0.25)), replay_layout="table"),
        )


def test_replay_needs_images_and_a_model():
    with pytest.raises(SettingsError, match=r"continuing.replay is 'x', but no model is continued; name one with"):
        ContinueSettings(replay="x")
    with pytest.raises(SettingsError, match=r"replay_layout is 'table', but no images are replayed; name them with"):
        ContinueSettings("builtin", replay_layout="table")
    with pytest.raises(SettingsError, match=r"continuing.replay_layout is 'x'; choose one of"):
        continued(replay="x", replay_layout="x")


class Stop(TrainListener):
    def __init__(self, after: int) -> None:
        self.left = after

    def epoch_done(self, loss: float) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_a_stopped_training_goes_on_to_the_same_head(data, tmp_path):
    settings = replace(continued(), optimiser=replace(continued().optimiser, epochs=2))
    train_model(data, tmp_path / "whole.safetensors", settings)
    with pytest.raises(KeyboardInterrupt):
        train_model(data, tmp_path / "parts.safetensors", settings, Stop(1))
    train_model(data, tmp_path / "parts.safetensors", settings)
    whole, parts = (read_bundle(tmp_path / f"{name}.safetensors").head for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
