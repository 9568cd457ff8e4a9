"""What a trained bundle says of itself."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dualproto_wsi.data.images import PRESENT, Dataset
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.settings import TrainSettings, ValidationSettings, changes, to_data
from dualproto_wsi.workflow.training.features import Features
from dualproto_wsi.workflow.training.fit import Fitted
from dualproto_wsi.workflow.training.windows import Sample

WINDOW_PX = 448
"""Window that a trained bundle asks for at inference where a place's score does not depend on it, model px."""

_SOURCES = {"BRCA-M2C": "BRCA-M2C (Abousamra et al., ICCV 2021; TopoXLab, BSD-3-Clause; H&E images from TCGA)"}
_RULES = {
    "auc": "the epoch with the highest mean image-level AUC on held-out images, of several that with the least loss: "
    "image-level labels alone",
    "loss": "the epoch with the least image-level loss on held-out images: image-level labels alone",
    "masks": "the epoch with the highest mean IoU on the MASKS of held-out images",
}
_NAMED_PATIENTS = 2000

POSITIVES, STARTED_FROM = "positives", "started_from"
"""Keys of a card's ``training``: positive images of each class, and a hash of the weights that training began with."""


def make_card(
    name: str, settings: TrainSettings, encoder: ImageEncoder, dataset: Dataset, samples: list[Sample]
) -> ModelCard:
    """Return the card of a model before it is trained: without calibration, scores and effort."""
    names = dataset.classes.names
    known = ", ".join(names)
    whole = samples[0].whole
    told = without_paths(settings)
    packages = ("dualproto-wsi", "torch", "timm", "numpy")
    return ModelCard(
        name=name,
        version="1",
        description=f"{known} on H&E, trained from image-level labels of {'images' if whole else 'crops'}",
        classes=dataset.classes,
        encoder=encoder.name,
        encoder_hash=encoder.hash,
        head=settings.head,
        mpp=dataset.mpp,
        window_px=_window_px(settings, samples),
        stride_px=encoder.grid_px // max(settings.head.upsampling),
        training={
            "data": _SOURCES.get(dataset.name, dataset.name),
            "labels": _labels(settings, whole),
            "images": len(dataset.images),
            POSITIVES: count_positives(names, samples),
            "patients": list(dataset.patients),
            "preset": settings.preset,
            "changed": changes(told),
            "settings": to_data(told),
        },
        licence=_licence(encoder),
        limits=_limits(known, dataset),
        created_with={"python": platform.python_version(), **{package: version(package) for package in packages}},
    )


def count_positives(names: Sequence[str], samples: Sequence[Sample]) -> dict[str, int]:
    """Return how many of the images, or of the crops where these have labels, hold each class."""
    grids = [grid for sample in samples for grid in sample.crops]
    return {name: sum(int((grid.labels[k] == PRESENT).sum()) for grid in grids) for k, name in enumerate(names)}


def without_paths(settings: TrainSettings) -> TrainSettings:
    """Return settings without the paths of a machine."""
    continuing = settings.continuing
    if continuing.model:
        model, corrections, replay = (
            Path(path).name for path in (continuing.model, continuing.corrections, continuing.replay)
        )
        continuing = replace(continuing, model=model, corrections=corrections, replay=replay)
    encoder = replace(settings.encoder, weights="", tokenizer="", cache="")
    return replace(settings, encoder=encoder, continuing=continuing)


def _window_px(settings: TrainSettings, samples: list[Sample]) -> int:
    """Return the window for inference: the one trained on where scores depend on what else it shows."""
    if settings.head.kind == "dual" and settings.head.norm == "group":
        return max(sample.side for sample in samples)
    return WINDOW_PX


def _labels(settings: TrainSettings, whole: bool) -> str:
    if settings.continuing.corrections:
        return "image-level, of crops under regions that a person drew or changed"
    if whole:
        return "image-level, as the data gives them for each image"
    return f"image-level: a crop holds a class with {settings.data.min_points} or more labelled nuclei"


def _licence(encoder: ImageEncoder) -> str:
    if encoder.name == "compact":
        return "Apache-2.0"
    return f"that of the training data and of the encoder {encoder.name}, which is not in this file"


def _limits(known: str, dataset: Dataset) -> str:
    nothing_else = f"it knows {known} and nothing else"
    if dataset.name == "BRCA-M2C":
        return (
            f"A demonstration model: {nothing_else} (no necrosis, fat, blood, normal epithelium or "
            "other tissue), gives every place one of them, and was trained on few images of one organ. Not for "
            "diagnosis."
        )
    return f"Made from {dataset.name}: {nothing_else}, and gives every place one of them. Not for diagnosis."


def selection(settings: ValidationSettings, held_out: Dataset | None) -> dict[str, Any]:
    """Return what was held out, and the rule by which an epoch was kept."""
    rule = {"rule": _RULES.get(settings.select, "the last epoch")}
    if held_out is None:
        return rule
    what = f"split {settings.split!r}" if settings.split else f"{settings.share:.0%} of the training split, by patients"
    patients = list(held_out.patients)
    return rule | {"held_out": what, "images": len(held_out.images), "patients": patients[:_NAMED_PATIENTS]}


def effort(fits: dict[str, Fitted], features: Features, processes: int) -> dict[str, Any]:
    """Return what the training took: seconds of all epochs, also those before a stop."""
    return {
        "epochs": {title: {"run": fitted.epochs, "kept": fitted.kept} for title, fitted in fits.items()},
        "seconds": round(sum(fitted.seconds for fitted in fits.values())),
        "threads": torch.get_num_threads(),
        "device": features.device.type,
        "encoder_precision": features.precision,
        "processes": processes,
    }
