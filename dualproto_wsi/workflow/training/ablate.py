"""Trains the variants of an ablation with several seeds, scores all alike, and makes one table.

What is done stays: a bundle lies in the folder for every variant and seed, and the same command goes on where it was
stopped. A bundle that was trained otherwise is trained anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import dualproto_wsi
from dualproto_wsi.errors import BundleInvalid, DataError, SettingsError
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import read_card
from dualproto_wsi.settings import AblateSettings, EvaluateSettings, TrainSettings, Variant, to_data
from dualproto_wsi.workflow.evaluation.evaluate import evaluate_models
from dualproto_wsi.workflow.evaluation.score import Scores
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.card import without_paths
from dualproto_wsi.workflow.training.datasets import read_splits
from dualproto_wsi.workflow.training.train import train_model

MEASURES = ("cv accuracy", "cv mean IoU", "accuracy", "mean IoU")
"""Figures of a row: cross-validated on the training split, and on the test split; points or mask pixels."""


@dataclass(slots=True)
class Row:
    """One variant.

    Parameters
    ----------
    name : str
    figures : dict of str to list of float
        Of :data:`MEASURES`, one a seed; a measure that the data does not give is absent, and so is one of a seed for
        which it is not defined, such as the mean IoU where a class is neither there nor found.
    """

    name: str
    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, measure: str, value: float | None) -> None:
        """Take a seed's figure; None or NaN: there is none."""
        if value is not None and not isnan(value):
            self.figures.setdefault(measure, []).append(value)

    def told(self, measure: str) -> str:
        """Return mean ± standard deviation over the seeds."""
        values = self.figures.get(measure, [])
        if not values:
            return ""
        return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"name": self.name, **self.figures}


def run_ablation(root: Path, out: Path, settings: AblateSettings, listener: TrainListener | None = None) -> list[Row]:
    """Train and score all variants with all seeds.

    Parameters
    ----------
    root : Path
        The data; every variant learns from the same split of it and is scored on the same images.
    out : Path
        Folder of the bundles.
    settings : AblateSettings
    listener : TrainListener or None

    Returns
    -------
    list of Row
        In order of the variants, a row more for each further refiner, and the probe last.

    Raises
    ------
    SettingsError
        If variants are not trained and tested on the same data.
    DataError
        If a probe is wanted, and the data has nothing that it could learn from.
    DualProtoError
        As :func:`~dualproto_wsi.workflow.training.train.train_model` and the evaluation raise them.
    """
    check_alike(settings.variants)
    if settings.probe:
        _check_probe(root, settings.variants[0].settings)
    rows: dict[str, Row] = {}
    probe = None
    for seed in settings.seeds:  # outermost: what is done of a stopped ablation is a table of all variants
        for variant in settings.variants:
            bundle = out / f"{slug(variant.name)}-{seed}.safetensors"
            chosen = replace(variant.settings, seed=seed)
            card = trained(bundle, root, chosen, listener)
            scored = _test(bundle, root, chosen, settings, probe is None)
            for name, scores in _named(variant.name, scored):
                _add(rows.setdefault(name, Row(name)), card, scores)
            if probe is None and settings.probe and scored:
                probe = Row("linear probe on points or masks")
                _add(probe, None, scored[-1])
    return [*rows.values(), *([probe] if probe else [])]


def trained(bundle: Path, root: Path, settings: TrainSettings, listener: TrainListener | None) -> ModelCard:
    """Return the card of a bundle; train it if it is not there yet, or was trained otherwise."""
    if bundle.is_file():
        try:
            card = read_card(bundle)
        except BundleInvalid:
            pass
        else:
            same_version = card.created_with.get("dualproto-wsi") == dualproto_wsi.__version__
            if same_version and card.training.get("settings") == to_data(without_paths(settings)):
                return card
    bundle.parent.mkdir(parents=True, exist_ok=True)
    return train_model(root, bundle, settings, listener).card


def check_alike(variants: Sequence[Variant]) -> None:
    """Check that all variants learn from the same images and are tested on the same.

    Raises
    ------
    SettingsError
        If not.
    """
    for name in ("layout", "split", "test_split", "classes", "mpp"):
        values = {variant.name: getattr(variant.settings.data, name) for variant in variants}
        first = variants[0].name
        for other, value in values.items():
            if value != values[first]:
                raise SettingsError(
                    f"variants {first!r} and {other!r}: data.{name} differs ({values[first]!r} and {value!r}); "
                    "only what is learned from one data set can be compared"
                )
    slugs = [slug(variant.name) for variant in variants]
    twice = [variant.name for variant in variants if slugs.count(slug(variant.name)) > 1]
    if twice:
        raise SettingsError(f"variants {', '.join(map(repr, twice))} would have files of one name; rename one")


def _check_probe(root: Path, settings: TrainSettings) -> None:
    """Check, before hours of training, that a probe has what it learns from."""
    if not any(image.mask or image.points is not None for image in read_splits(root, settings).train.images):
        raise DataError(
            f"{root}: {settings.data.split!r} has no mask or point, and a probe learns from these; leave out `probe`"
        )


def slug(name: str) -> str:
    """Return a name as part of a file name."""
    return re.sub(r"[^\w.=-]+", "-", name).strip("-")


def _test(bundle: Path, root: Path, settings: TrainSettings, ablation: AblateSettings, probe: bool) -> list[Scores]:
    """Score a bundle on the test split; nothing where there is none, or none of its patients is unseen."""
    if read_splits(root, settings).test is None:
        return []
    chosen = EvaluateSettings(
        layout=settings.data.layout,
        split=settings.data.test_split,
        mpp=settings.data.mpp,
        gates=("none",),
        backgrounds=("excluded",),
        refiners=ablation.refiners,
        bootstrap=0,
        probe_split=settings.data.split if ablation.probe and probe else "",
        device=settings.device,
    )
    return list(evaluate_models([str(bundle)], root, chosen).rows)


def _named(variant: str, scored: Sequence[Scores]) -> Iterator[tuple[str, Scores | None]]:
    models = [row for row in scored if not row.title.startswith("linear probe")]
    if not models:
        yield variant, None
    for row in models:
        refine = row.protocol.refine
        yield variant if refine == "none" else f"{variant}, refined: {refine}", row


def _add(row: Row, card: ModelCard | None, scores: Scores | None) -> None:
    if card and (scores is None or scores.protocol.refine == "none"):
        found = card.scores.get("cross_validation", {})
        row.add("cv accuracy", found.get("accuracy"))
        row.add("cv mean IoU", found.get("mean_iou"))
    if scores:
        row.add("accuracy", scores.matrix.accuracy)
        row.add("mean IoU", scores.matrix.mean_iou)
