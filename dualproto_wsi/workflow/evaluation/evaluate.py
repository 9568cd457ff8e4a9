"""Scores models on labelled images, on patients that none of them was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dualproto_wsi.data.images import Dataset, LabelledImage
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.errors import DataError, ModelError
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.settings import EvaluateSettings
from dualproto_wsi.stats.presence import PresenceScores, score_presence
from dualproto_wsi.workflow.evaluation.predict import predict_images
from dualproto_wsi.workflow.evaluation.probe import draw_places, find_features, fit_probe
from dualproto_wsi.workflow.evaluation.protocols import Labeller, Protocol, list_protocols
from dualproto_wsi.workflow.evaluation.report import EvaluationReport
from dualproto_wsi.workflow.evaluation.score import ScoreBoard, Scores, count_cells
from dualproto_wsi.workflow.evaluation.truth import find_truth, read_batches, read_sample, scale_between
from dualproto_wsi.workflow.mapping.engine import choose_device
from dualproto_wsi.workflow.training.windows import to_tensor

BATCH_PX = {"cpu": 400_000, "cuda": 12_000_000}
"""Pixels that go through the model at once."""

PROBE = "linear probe, trained on {kind}"

WEIGHT_DECAY = 1e-3


def evaluate_models(
    names: Sequence[str],
    root: Path,
    settings: EvaluateSettings | None = None,
    *,
    weights: Path | None = None,
    keep_maps: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> EvaluationReport:
    """Score models on the images of a split, side by side, on patients that none of them was trained on.

    Parameters
    ----------
    names : sequence of str
        Each ``builtin``, a built-in model's name, or a bundle; all of the same classes.
    root : Path
        The data, in the layout of the settings.
    settings : EvaluateSettings or None
    weights : Path or None
        The user's weights of the encoder, where they do not come with the package.
    keep_maps : bool
        Whether the first row keeps the labels of every image, for pictures.
    on_image : callable
        Called after each image, of each model.

    Raises
    ------
    DataError
        If the data is not what its layout says, or no patient is left to score.
    ModelError
        If a model cannot be loaded, or has other classes than the first.
    """
    settings = settings or EvaluateSettings()
    models = [load_model(name, weights) for name in names]
    first = models[0]
    for name, model in zip(names, models, strict=True):
        if model.classes.names != first.classes.names:
            raise ModelError(
                f"{name}: has the classes {', '.join(model.classes.names)}, {names[0]} has "
                f"{', '.join(first.classes.names)}; evaluate them one by one"
            )
    dataset = _read(root, settings.split, first, settings)
    known = {patient for model in models for patient in known_patients(model)}
    images, left_out = part_patients(dataset.images, known)
    if not images:
        raise DataError(f"{root}: the model was trained on every patient of {settings.split!r}; choose another split")
    masks = any(image.mask for image in images)
    first.to(choose_device(settings.device))
    probe = [_probe(first, root, images, dataset.mpp, settings)] if settings.probe_split else []
    rows: list[Scores] = []
    presence = {}
    for name, model in zip(names, models, strict=True):
        model.to(choose_device(settings.device))
        board, presence[name] = _score(name, model, images, dataset.mpp, settings, keep_maps and not rows, on_image)
        rows += board
    rows += probe
    if settings.bootstrap:
        for row in rows:
            row.add_intervals([image.patient for image in images], settings.bootstrap, settings.seed)
    places = int(sum(counts[: len(first.classes)].sum() for counts in rows[0].counts))
    return EvaluationReport(
        data=dataset.name,
        settings=settings,
        mpp=dataset.mpp,
        classes=first.classes.names,
        colours=tuple(c.colour for c in first.classes),
        model_mpp=first.mpp,
        cell_px=first.stride_px,
        images=tuple(images),
        places=places,
        kind="pixels" if masks else "points",
        left_out=left_out,
        rows=tuple(rows),
        presence=presence,
    )


def _read(root: Path, split: str, model: DualProtoSegmenter, settings: EvaluateSettings) -> Dataset:
    """Read a split; where some images have masks, the points of the others are left aside: both cannot be pooled."""
    dataset = read_dataset(root, settings.layout, split, model.classes, settings.mpp, partial=True)
    if not any(image.mask for image in dataset.images):
        return dataset
    return replace(dataset, images=tuple(replace(image, points=None) for image in dataset.images))


def known_patients(model: DualProtoSegmenter) -> set[str]:
    """Return the patients that a model was trained on, or whose images chose its epoch."""
    training = model.card.training
    return {str(p) for part in (training, training.get("selection", {})) for p in part.get("patients", ())}


def part_patients(images: Sequence[LabelledImage], patients: set[str]) -> tuple[list[LabelledImage], tuple[str, ...]]:
    """Return the images of other patients, and those of ``patients`` that the images show."""
    kept = [image for image in images if image.patient not in patients]
    return kept, tuple(sorted({image.patient for image in images} & patients))


def _score(
    name: str,
    model: DualProtoSegmenter,
    images: Sequence[LabelledImage],
    mpp: float,
    settings: EvaluateSettings,
    keep_maps: bool,
    on_image: Callable[[], None],
) -> tuple[list[Scores], PresenceScores]:
    device = model.bias.device
    classes, cell_px = model.classes.names, model.stride_px
    protocols = list_protocols(settings, masks=any(image.mask for image in images))
    tolerance_px, small_px = settings.boundary_um / mpp, settings.small_um2 / mpp**2
    board = ScoreBoard(name, protocols, classes, tolerance_px, small_px, keep_maps)
    scale = scale_between(mpp, model.mpp)
    presences = []
    for batch in read_batches(images, scale, BATCH_PX[device.type]):
        tensors = torch.stack([to_tensor(sample.pixels) for sample in batch])
        for sample, predictions in zip(batch, predict_images(model, tensors, settings.tta), strict=True):
            labeller = Labeller(sample, predictions, cell_px, model.mpp, settings.refine_preset, device)
            board.add(labeller, find_truth(sample, len(classes), labeller.shape, cell_px))
            presences.append(predictions[False].presence)
            on_image()
    labels = np.stack([image.labels for image in images])
    return board.rows, score_presence(np.stack(presences), labels, settings.threshold)


def _probe(
    model: DualProtoSegmenter, root: Path, images: Sequence[LabelledImage], mpp: float, settings: EvaluateSettings
) -> Scores:
    """Train the probe on the places of its split, without the patients scored, and score it."""
    dataset = _read(root, settings.probe_split, model, settings)
    train, _ = part_patients(dataset.images, {image.patient for image in images})
    classes, cell_px = len(model.classes), model.stride_px
    features, targets = [], []
    for number, image in enumerate(train):
        sample = read_sample(image, scale_between(dataset.mpp, model.mpp))
        places, labels = draw_places(sample, classes, settings.seed + number)
        if not len(places):
            continue
        found = find_features(model.encoder, sample.pixels, cell_px)
        truth = find_truth(sample, classes, (found.shape[1], found.shape[2]), cell_px)
        features.append(found[:, truth.rows[places[:, 1]], truth.columns[places[:, 0]]].T)
        targets.append(torch.from_numpy(labels))
    if not features:
        raise DataError(
            f"{root}: {settings.probe_split!r} has no mask or point of patients that are not scored, and a probe "
            "learns from these; leave out --probe, or name another --probe-split"
        )
    probe = fit_probe(features, targets, classes, WEIGHT_DECAY)
    kind = "masks" if any(image.mask for image in train) else "points"
    row = Scores(PROBE.format(kind=kind), Protocol(), model.classes.names)
    for image in images:
        sample = read_sample(image, scale_between(mpp, model.mpp))
        labels_found = probe.labels(find_features(model.encoder, sample.pixels, cell_px))
        truth = find_truth(sample, classes, (labels_found.shape[0], labels_found.shape[1]), cell_px)
        row.counts.append(count_cells(truth.cells[:classes], labels_found))
    return row
