"""Training that goes on from a model: what comes from its bundle, and what its new bundle says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dualproto_wsi.data.checks import check_patients
from dualproto_wsi.data.images import Dataset
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import find_model, load_model, read_card
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.heads import Head
from dualproto_wsi.settings import (
    ContinueSettings,
    EncoderSettings,
    TextSettings,
    TrainSettings,
    ValidationSettings,
    from_data,
    overlay,
    to_data,
    train_preset,
    train_settings,
)
from dualproto_wsi.workflow.training.checkpoints import TrainingFolder
from dualproto_wsi.workflow.training.corrections import CorrectedSlide, cut_corrections
from dualproto_wsi.workflow.training.datasets import Splits, read_splits
from dualproto_wsi.workflow.training.processes import Processes
from dualproto_wsi.workflow.training.text_side import FixedText

EPOCHS = 10
"""Of a training that goes on, unless it is told otherwise."""

GENTLER, GENTLER_WITH_REPLAY = 0.25, 0.5
"""By what the learning rate of the model's own training is multiplied; what is learned again is not forgotten."""

_MPP_OFF = 0.02
_OF_SLIDES = ("data.layout", "data.split", "data.test_split", "validation.split")
_OF_THE_MODEL = ("preset", "data.vocabulary", "data.descriptions", "optimiser.start")


@dataclass(frozen=True, slots=True)
class Corrected:
    """What slides gave that corrections were cut from.

    Parameters
    ----------
    slides : tuple of CorrectedSlide
        Empty without corrections.
    unmatched : tuple of Path
        Files of corrections of none of the slides.
    """

    slides: tuple[CorrectedSlide, ...] = ()
    unmatched: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class First:
    """What a training goes on from.

    Parameters
    ----------
    card : ModelCard
    encoder : ImageEncoder
        Frozen, on the device to train on.
    head : Head
        In evaluation mode, there too.
    """

    card: ModelCard
    encoder: ImageEncoder
    head: Head

    @property
    def text(self) -> FixedText:
        """The text features that the bundle stores; zeros for a head without text."""
        if isinstance(self.head, DualProtoHead):
            return FixedText(self.head.bank.text_features)
        return FixedText(torch.zeros(len(self.card.classes) * self.card.descriptions, self.card.head.text_dim))


def read_first(settings: TrainSettings, device: torch.device) -> First:
    """Load what a training goes on from.

    Parameters
    ----------
    settings : TrainSettings
        As of :func:`continued_settings`.
    device : torch.device
        To train on.

    Raises
    ------
    SettingsError
        If encoder or head of the settings are not the model's.
    ModelNotFound, BundleInvalid, WeightsMismatch
        As :func:`~dualproto_wsi.model.checkpoint.load_model`.
    """
    name = settings.continuing.model
    card = read_card(find_model(name))
    pairs = {"encoder.name": (settings.encoder.name, card.encoder), "head": (settings.head, card.head)}
    for key, (found, needed) in pairs.items():
        if found != needed:
            raise SettingsError(
                f"{key} is {found!r}, but the model that is continued, {name}, has {needed!r}; use that"
            )
    weights = settings.encoder.weights
    model = load_model(name, Path(weights) if weights else None).to(device)
    return First(card, model.encoder, model.head.eval())


def continued_settings(data: Mapping[str, Any], where: str = "settings") -> TrainSettings:
    """Build settings of a training that goes on from a model, with the model's own recipe below them.

    The recipe is what its card tells of its training, or the default one for its encoder; with a lower learning rate
    (:data:`GENTLER`, once: not again for a model that was itself continued), :data:`EPOCHS` epochs, nothing held out,
    and no new calibration.

    Parameters
    ----------
    data : mapping
        As for :func:`~dualproto_wsi.settings.train_settings`, with ``continuing.model``.
    where : str
        What to call the data in an error.

    Raises
    ------
    SettingsError
        If something is given that the model decides, or, with corrections, what slides do not have; else as for
        :func:`~dualproto_wsi.settings.train_settings`.
    ModelNotFound, BundleInvalid
        If there is no such model.
    """
    given: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in data.items()}
    name = given["continuing"]["model"]
    card = read_card(find_model(name))
    _refuse(given, card, name)
    given.get("data", {}).pop("classes", None)  # those of the model
    recipe, layout = _recipe(card, name), given.get("data", {}).get("layout", "")
    if given["continuing"].get("corrections"):
        _refuse_for_slides(given)
        layout = "table"
    gentler = GENTLER_WITH_REPLAY if given["continuing"].get("replay") else GENTLER
    base = _gentler(recipe, card, layout or recipe.data.layout, gentler)
    return from_data(TrainSettings, overlay(to_data(base), given), where)


def _recipe(card: ModelCard, name: str) -> TrainSettings:
    told = card.training.get("settings")
    if not isinstance(told, Mapping) or not isinstance(told.get("optimiser"), Mapping):
        return train_preset("default", card.encoder)
    own = {key: value for key, value in told.items() if key != "continuing"}
    return train_settings(own, f"{name}: the settings in its card")


def _gentler(recipe: TrainSettings, card: ModelCard, layout: str, factor: float) -> TrainSettings:
    own, old = train_preset(recipe.preset, card.encoder, layout).data, recipe.data
    data = replace(own, crop_sizes=old.crop_sizes, min_points=old.min_points, window_px=old.window_px)
    rate = recipe.optimiser.learning_rate * (1 if "continued" in card.training else factor)
    return replace(
        recipe,
        data=replace(data, vocabulary="", classes=(), descriptions=0, workers=old.workers),
        encoder=EncoderSettings(card.encoder, precision=recipe.encoder.precision),
        text=TextSettings(),
        head=card.head,
        optimiser=replace(recipe.optimiser, epochs=EPOCHS, learning_rate=rate, start="default"),
        validation=ValidationSettings(folds=0, calibration="none"),
        continuing=ContinueSettings(),
        seed=0,
        device="auto",
    )


def _refuse(given: Mapping[str, Any], card: ModelCard, name: str) -> None:
    """Refuse what the model decides, unless it is the same."""
    told: dict[str, Any] = {"encoder.name": card.encoder, "data.classes": list(card.classes.names)}
    told |= {f"head.{key}": value for key, value in to_data(card.head).items()}
    for key, value in _leaves(given):
        if key in told and value not in (told[key], []):
            raise SettingsError(
                f"{key} is {value!r}, but that of the model that is continued, {name}, is {told[key]!r}; leave it out"
            )
        if key in _OF_THE_MODEL or key.startswith("text."):
            raise SettingsError(
                f"{key} is {value!r}, but it comes from the model that is continued, {name}; leave it out"
            )


def _refuse_for_slides(given: Mapping[str, Any]) -> None:
    for key, value in _leaves(given):
        if key in _OF_SLIDES:
            raise SettingsError(f"{key} is {value!r}, but with --corrections the data is slides; leave it out")


def _leaves(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, values in given.items():
        if isinstance(values, Mapping):
            yield from ((f"{section}.{key}", value) for key, value in values.items())
        else:
            yield section, values


def read_data(
    root: Path, settings: TrainSettings, folder: TrainingFolder, processes: Processes
) -> tuple[Splits, Corrected]:
    """Read the data of any training; where it is slides with corrections, cut it first.

    Parameters
    ----------
    root : Path
        Labelled images, or slides.
    settings : TrainSettings
    folder : TrainingFolder
        Holds the tiles that are cut, anew every time: a resumed training then notices corrections that changed.
    processes : Processes

    Raises
    ------
    DataError
        If the data is not what its layout says, or has another resolution than the model that is continued.
    SettingsError, SlideNotFound, ModelNotFound, BundleInvalid
        If settings, slides or the model are wrong.
    OutputError
        If tiles cannot be written.
    """
    if not settings.continuing.model:
        return read_splits(root, settings), Corrected()
    card = read_card(find_model(settings.continuing.model))
    replayed = _read_replayed(settings, card)
    seen = _patients(card).union(replayed.patients if replayed else ())
    if not settings.continuing.corrections:
        splits = replace(read_splits(root, settings, card.classes, seen), replayed=replayed)
        _check_mpp(splits.train, card)
        if replayed and splits.held_out:
            check_patients(replayed, splits.held_out)
        return splits, Corrected()
    corrected = Corrected()
    if processes.leads:
        slides, unmatched = cut_corrections(root, folder.tiles, card, settings)
        corrected = Corrected(tuple(slides), tuple(unmatched))
    processes.wait()
    of_tiles = replace(settings, data=replace(settings.data, mpp=None))
    splits = read_splits(folder.tiles, of_tiles, card.classes, seen)
    return replace(splits, train=replace(splits.train, name="corrections of slides"), replayed=replayed), corrected


def _read_replayed(settings: TrainSettings, card: ModelCard) -> Dataset | None:
    """Read what the model learned from before."""
    chosen = settings.continuing
    if not chosen.replay:
        return None
    recipe = _recipe(card, chosen.model).data
    layout = chosen.replay_layout or recipe.layout
    dataset = read_dataset(Path(chosen.replay), layout, recipe.split, card.classes)
    _check_mpp(dataset, card)
    return dataset


def _patients(card: ModelCard) -> frozenset[str]:
    """Return those that a model was trained on, as far as its card says."""
    told = card.training.get("patients")
    return frozenset(map(str, told)) if isinstance(told, list | tuple) else frozenset()


def _check_mpp(dataset: Dataset, card: ModelCard) -> None:
    """Refuse images whose resolution is more than 2 % off the model's."""
    if abs(dataset.mpp / card.mpp - 1) > _MPP_OFF:
        raise DataError(
            f"{dataset.name}: has {dataset.mpp:g} µm/px, but the model that is continued, {card.name}, was trained at "
            f"{card.mpp:g}; bring the images to {card.mpp:g} µm/px, or say with --mpp what they have"
        )


def continue_card(card: ModelCard, first: First, started_from: str) -> ModelCard:
    """Return the card of a model that was continued.

    Parameters
    ----------
    card : ModelCard
        Of the new training alone.
    first : First
        What it went on from.
    started_from : str
        Hash of its head.
    """
    before = first.card
    told = {"model": before.name, "hash": started_from, "data": before.training.get("data", "")}
    patients = sorted({*_patients(before), *card.training["patients"]})
    return replace(
        card,
        description=before.description,
        mpp=before.mpp,
        window_px=before.window_px,
        stride_px=before.stride_px,
        licence=before.licence,
        limits=f"{before.limits} Its training went on with {card.training['data']}.".strip(),
        training=card.training | {"patients": patients, "continued": told},
    )
