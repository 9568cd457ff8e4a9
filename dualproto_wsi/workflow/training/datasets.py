"""The data of a training: what is learned from, what is held out, what is scored at the end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.checks import check_patients
from dualproto_wsi.data.images import Dataset, LabelledImage
from dualproto_wsi.data.layouts import find_splits, read_dataset
from dualproto_wsi.data.splits import hold_out
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.prompts import load_vocabulary
from dualproto_wsi.settings import TrainSettings, train_preset
from dualproto_wsi.workflow.batch.fingerprint import data_sha256


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Images of a training.

    Parameters
    ----------
    train : Dataset
    held_out : Dataset or None
        Of other patients; scored after every epoch.
    test : Dataset or None
        Of patients in neither of them.
    left_out : tuple of str
        Patients of the test split that are in one of them, or that the model knows from before; not in ``test``.
    replayed : Dataset or None
        What a model that is continued has learned before, and learns again beside ``train``.
    """

    train: Dataset
    held_out: Dataset | None
    test: Dataset | None
    left_out: tuple[str, ...]
    replayed: Dataset | None = None

    def sha256(self) -> str:
        """Return a hash of what is learned from and held out: names and sizes of the files, and labels."""
        return data_sha256(
            [[_describe(image) for image in part.images] for part in (self.train, self.held_out, self.replayed) if part]
        )


def read_splits(
    root: Path, settings: TrainSettings, classes: ClassScheme | None = None, seen: Collection[str] = ()
) -> Splits:
    """Read the data that the settings name; pixels are not read.

    Parameters
    ----------
    root : Path
    settings : TrainSettings
    classes : ClassScheme or None
        None: as the settings say.
    seen : collection of str
        Patients that the model knows from before; they are left out of the test.

    Raises
    ------
    DataError
        If the data is not what its layout says, or a patient is both learned from and held out.
    SettingsError
        If a class has too few descriptions.
    """
    chosen, validation = settings.data, settings.validation
    classes = classes or read_classes(settings)
    train, held_out = read_dataset(root, chosen.layout, chosen.split, classes, chosen.mpp), None
    if validation.split:
        held_out = read_dataset(root, chosen.layout, validation.split, classes, chosen.mpp)
        check_patients(train, held_out)
    elif validation.share:
        train, held_out = _part(train, validation.share, settings.seed)
    test, left_out = None, tuple[str, ...]()
    if _has_test(root, settings):
        everything = read_dataset(root, chosen.layout, chosen.test_split, classes, chosen.mpp)
        seen = {*seen, *(patient for part in (train, held_out) if part for patient in part.patients)}
        unseen = tuple(image for image in everything.images if image.patient not in seen)
        left_out = tuple(patient for patient in everything.patients if patient in seen)
        test = replace(everything, images=unseen) if unseen else None
    return Splits(train, held_out, test, left_out)


def read_classes(settings: TrainSettings) -> ClassScheme:
    """Return the classes to train, with as many descriptions as the settings say.

    Raises
    ------
    SettingsError
        If the vocabulary cannot be read, has no such class, or too few descriptions of one.
    """
    classes = load_vocabulary(settings.data.vocabulary, settings.data.classes or None)
    wanted = settings.data.descriptions
    for tissue in classes:
        if len(tissue.descriptions) < wanted:
            raise SettingsError(
                f"data.descriptions is {wanted}, but {settings.data.vocabulary} has {len(tissue.descriptions)} of "
                f"{tissue.name!r}; use fewer, or 0 for all"
            )
    if not wanted:
        return classes
    return ClassScheme(tuple(replace(tissue, descriptions=tissue.descriptions[:wanted]) for tissue in classes))


def _part(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    labels = np.stack([image.labels for image in dataset.images])
    parts = hold_out([image.patient for image in dataset.images], labels, share, seed)
    kept, away = (replace(dataset, images=tuple(dataset.images[i] for i in part)) for part in parts)
    return kept, away


def _has_test(root: Path, settings: TrainSettings) -> bool:
    """Tell whether there is a split to score: the one named, or the usual one if the data has it."""
    name, layout = settings.data.test_split, settings.data.layout
    usual = train_preset(settings.preset, settings.encoder.name, layout).data.test_split
    return bool(name) and (name != usual or name in find_splits(root, layout))


def _describe(image: LabelledImage) -> list[str | int]:
    points = b"" if image.points is None else image.points.places.tobytes() + image.points.labels.tobytes()
    return [image.path.name, image.path.stat().st_size, image.patient, image.labels.tobytes().hex(), points.hex()]
