"""Recipes, and settings that start from one."""

from __future__ import annotations

import tomllib

import pytest

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings import HeadSettings, TrainSettings, changes, to_data, to_toml, train_preset, train_settings


def test_the_default_recipe_is_the_default():
    assert train_preset("default") == TrainSettings() == train_settings({})
    assert changes(TrainSettings()) == {}


def test_the_released_recipe_to_the_letter():
    released = train_preset("released", layout="bcss-wsss")
    assert released.encoder.name == "conch-released"  # blue, green, red
    assert (released.text.slots, released.text.start, released.text.layout) == (16, "released", "released")
    assert released.head == HeadSettings(merge="softmax", map="finest")
    optimiser = released.optimiser
    assert (optimiser.epochs, optimiser.batch_size) == (20, 64)
    assert (optimiser.learning_rate, optimiser.weight_decay, optimiser.schedule) == (5e-5, 1e-3, "linear")
    assert (optimiser.warm_up, optimiser.gradient_norm, optimiser.start) == (0, 0, "released")
    objective = to_data(released.objective)
    assert {name for name, value in objective.items() if value == 0} == {
        "balance",
        "absence",
        "diversity",
        "steadiness",
    }
    assert (objective["pooling"], objective["merge"], objective["scales"]) == ("average", "mean", "sum")
    assert (released.augment.orientations, released.augment.alike, released.augment.stain) == (8, False, 0)
    assert released.data.crop_sizes == ()
    assert (released.validation.select, released.validation.held_out, released.validation.folds) == ("last", False, 0)


STILL = {"stain": 0.0, "tone": 0.0, "blur": 0.0, "zoom": 0.0}
NOTHING: dict[str, object] = {"vocabulary": "", "classes": []}


@pytest.mark.parametrize("preset", ["default", "released"])
@pytest.mark.parametrize("encoder", ["compact", "conch", "open_clip:ViT-B-16"])
@pytest.mark.parametrize("layout", ["brca-m2c", "bcss-wsss", "table"])
def test_every_recipe_is_valid_and_survives_toml(preset, encoder, layout):
    settings = train_preset(preset, encoder, layout)
    assert settings.head.text_dim == (384 if encoder == "compact" else 512)
    assert train_settings(to_data(settings)) == settings
    assert train_settings(tomllib.loads(to_toml(to_data(settings)))) == settings
    assert (settings.text.slots > 0) == (preset == "released" and encoder == "conch")


def test_a_change_is_laid_upon_the_recipe_of_its_encoder():
    settings = train_settings({"encoder": {"name": "conch"}, "head": {"image": False}, "seed": 3})
    assert settings.head == HeadSettings(image=False)
    assert settings.encoder.precision == "auto"
    assert changes(settings) == {"head.image": False, "seed": 3}
    assert train_settings({"head": {"image": False}}).head.text_dim == 384


def test_a_layout_brings_its_splits():
    tiles, table = (train_preset("default", layout=layout) for layout in ("bcss-wsss", "table"))
    assert (tiles.validation.split, tiles.validation.select, tiles.data.test_split) == ("val", "auc", "test")
    assert (table.validation.share, table.validation.folds, table.data.test_split) == (0.2, 0, "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"preset": "x"}, "preset is 'x'; choose one of default, released"),
        ({"optimizer": {}}, "settings: unknown key 'optimizer'"),
        ({"data": {"layuot": "x"}}, "settings.data: unknown key 'layuot'"),
        ({"data": 3}, "settings.data: 3 must be a table"),
        ({"encoder": {"name": 3}}, "settings.encoder.name: 3 must be of type str"),
        ({"seed": -1}, "settings: seed is -1; it cannot be negative"),
        ({"objective": {"merge": "max"}}, "settings.objective: merge is 'max'"),
        ({"augment": {"stain": -1.0}}, "settings.augment: stain is -1.0; it cannot be negative"),
        ({"augment": {"tone": -0.1}}, "settings.augment: tone is -0.1; it cannot be negative"),
        ({"augment": {"blur": 1.5}}, "settings.augment: blur is 1.5; use 0 (none) to 1"),
        ({"encoder": {"adapt": 2.0}}, "settings.encoder: encoder.adapt is 2.0; use 0 (frozen) to 1"),
        (
            {"encoder": {"adapt": 0.1, "precision": "fp16"}},
            "settings.encoder: encoder.adapt is 0.1, but precision is 'fp16', in which the encoder's gradients may",
        ),
        (
            {"encoder": {"name": "conch", "adapt": 0.1}},
            "settings.encoder: encoder.adapt is 0.1, but the encoder conch stays frozen; set it to 0, or train on comp",
        ),
        (
            {"encoder": {"adapt": 0.1}, "continuing": {"model": "builtin"}, "data": NOTHING},
            "settings: encoder.adapt is 0.1, but the encoder of a model that is continued stays as it is; set it to 0",
        ),
        (
            {"encoder": {"adapt": 0.1, "cache": "f"}, "augment": STILL, "objective": {"steadiness": 0.0}},
            "settings: encoder.cache is 'f', but encoder.adapt is 0.1: features then change at every step, and cannot "
            "be kept; set that to 0, or leave the cache out",
        ),
        (
            {
                "encoder": {"adapt": 0.0, "cache": "f"},
                "augment": {**STILL, "tone": 0.1},
                "objective": {"steadiness": 0.0},
            },
            "settings: encoder.cache is 'f', but augment.tone is 0.1: features then change at every step",
        ),
        (
            {"encoder": {"cache": "f"}},
            "settings: encoder.cache is 'f', but augment.stain is 0.3, augment.tone is 0.3, augment.blur is 0.4, "
            "augment.zoom is 0.1, objective.steadiness is 0.3, encoder.adapt is 0.15: features then change",
        ),
    ],
)
def test_wrong_settings(data, message):
    with pytest.raises(SettingsError) as error:
        train_settings(data)
    assert str(error.value).startswith(message)
