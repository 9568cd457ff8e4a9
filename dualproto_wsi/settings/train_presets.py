"""Recipes of training by name, and settings that start from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dualproto_wsi.settings.checks import one_of
from dualproto_wsi.settings.convert import from_data, to_data
from dualproto_wsi.settings.head import HeadSettings
from dualproto_wsi.settings.learning import AugmentSettings, ObjectiveSettings, OptimiserSettings
from dualproto_wsi.settings.text import TextSettings
from dualproto_wsi.settings.train import (
    DataSettings,
    EncoderSettings,
    TrainSettings,
    ValidationSettings,
    adapted_compact,
    compact_head,
)

TRAIN_PRESETS = ("default", "released")

_COMPACT = "compact"
_RELEASED_ENCODER = "conch-released"
_FEW = "brca-m2c"  # a small data set: folds instead of a split of its own
_TABLE = "table"
_UNVARIED = AugmentSettings(alike=False, stain=0.0, tone=0.0, blur=0.0, zoom=0.0)  # but for turns and flips


def train_preset(name: str, encoder: str = "", layout: str = _FEW) -> TrainSettings:
    """Return a recipe for an encoder and a layout.

    Parameters
    ----------
    name : str
        ``default``: this project's; with the encoder ``compact``, which it adapts, and BRCA-M2C it makes the built-in
        model.
        ``released``: the released code's of DualProtoSeg (arXiv 2512.10314): CONCH fed as there, learned context in
        its layout, whole images, each scale's average pooled, prototypes merged by their mean while training and by
        softmax afterwards, nothing else in the loss, and the last epoch kept.
    encoder : str
        Name of the encoder; empty: the recipe's own. With another than CONCH ``released`` has no learned context.
    layout : str
        Name of the layout: BRCA-M2C has no split of its own to choose the epoch by, and uses folds; a table without
        told splits holds out a fifth of its patients; the others choose on ``val`` and score ``test``.

    Raises
    ------
    SettingsError
        If there is no such recipe.
    """
    one_of("preset", name, TRAIN_PRESETS)
    encoder = encoder or (_RELEASED_ENCODER if name == "released" else _COMPACT)
    compact = encoder == _COMPACT
    base = TrainSettings(
        preset=name,
        data=_data(layout),
        encoder=adapted_compact() if compact else EncoderSettings(encoder, precision="auto"),
        head=compact_head() if compact else HeadSettings(),
        validation=_validation(layout),
    )
    if name == "released":
        return _released(base)
    return base if compact else _for_transformers(base)


def _data(layout: str) -> DataSettings:
    if layout == _FEW:
        return DataSettings(layout)
    return DataSettings(layout, test_split="" if layout == _TABLE else "test", classes=())


def _validation(layout: str) -> ValidationSettings:
    if layout == _FEW:
        return ValidationSettings()
    held_out = {"share": 0.2} if layout == _TABLE else {"split": "val"}
    return from_data(ValidationSettings, {"folds": 0, "select": "auc", **held_out})


def _for_transformers(base: TrainSettings) -> TrainSettings:
    """Return the default recipe for large encoders: the published head and its optimiser, and no term that needs a
    further pass of the encoder.
    """
    return replace(
        base,
        optimiser=OptimiserSettings(epochs=20, batch_size=64, learning_rate=5e-5, weight_decay=1e-3),
        objective=ObjectiveSettings(steadiness=0.0),
        augment=_UNVARIED,
    )


def _released(base: TrainSettings) -> TrainSettings:
    conch = base.encoder.name in ("conch", _RELEASED_ENCODER)
    return replace(
        base,
        data=replace(base.data, crop_sizes=()),
        encoder=replace(base.encoder, adapt=0.0),
        text=TextSettings(slots=16, start="released", layout="released") if conch else TextSettings(),
        head=replace(base.head, merge="softmax", map="finest"),
        optimiser=OptimiserSettings(
            epochs=20,
            batch_size=64,
            learning_rate=5e-5,
            weight_decay=1e-3,
            schedule="linear",
            warm_up=0,
            gradient_norm=0.0,
            start="released",
        ),
        objective=ObjectiveSettings(
            pooling="average", merge="mean", scales="sum", balance=0.0, absence=0.0, diversity=0.0, steadiness=0.0
        ),
        augment=_UNVARIED,
        validation=ValidationSettings(folds=0, calibration="none"),
    )


def train_settings(data: Mapping[str, Any], where: str = "settings") -> TrainSettings:
    """Build settings from plain data, which change the recipe that they name.

    Parameters
    ----------
    data : mapping
        As :func:`~dualproto_wsi.settings.to_data` returns them, in part or in full. ``preset``, ``encoder.name`` and
        ``data.layout`` choose what the other values are laid upon (:func:`train_preset`).
    where : str
        What to call the data in an error.

    Raises
    ------
    SettingsError
        If a key is unknown, or a value has the wrong type or is out of range.
    """
    preset = _look_up(data, "preset") or "default"
    base = train_preset(preset, _look_up(data, "encoder", "name"), _look_up(data, "data", "layout") or _FEW)
    return from_data(TrainSettings, overlay(to_data(base), data), where)


def changes(settings: TrainSettings) -> dict[str, Any]:
    """Return what differs from the recipe that the settings name, by ``section.key``."""
    base = to_data(train_preset(settings.preset, settings.encoder.name, settings.data.layout))
    found: dict[str, Any] = {}
    for key, value in to_data(settings).items():
        if isinstance(value, dict):
            found |= {f"{key}.{name}": inner for name, inner in value.items() if inner != base[key][name]}
        elif value != base[key]:
            found[key] = value
    return found


def _look_up(data: Mapping[str, Any], *keys: str) -> str:
    value: Any = data
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else ""
    return value if isinstance(value, str) else ""


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested plain data with the values of ``above`` laid upon those of ``below``."""
    merged = dict(below)
    for key, value in above.items():
        known = merged.get(key)
        merged[key] = overlay(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return merged
