"""Trains a model from image-level labels, calibrates it on held-out patients, scores it, and writes the bundle."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.crops import label_crops
from dualproto_wsi.data.points import BRCA_M2C_MPP, PointImage, read_brca_m2c
from dualproto_wsi.data.splits import patient_folds
from dualproto_wsi.errors import DataError
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import save_bundle
from dualproto_wsi.model.encoder import ImageEncoder, build_encoder
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.prompts import load_vocabulary
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.model.text import SentenceEncoder
from dualproto_wsi.settings import TrainSettings, to_data
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.mapping.engine import choose_device
from dualproto_wsi.workflow.training.calibrate import FITS, Calibration, HeldOut, compare_fits, fit_gate, unsure_curve
from dualproto_wsi.workflow.training.evaluate import Evaluation, part_patients, score_images, score_points
from dualproto_wsi.workflow.training.fit import LabelledImage, fit_head, predict_logits

WINDOW_PX = 448
"""Window that a trained bundle asks for at inference, model px."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What came out of a training.

    Parameters
    ----------
    card : ModelCard
        Of the bundle.
    folds : ConfusionMatrix or None
        At the points of the training split, each image scored by the fold's model that never saw its patient.
    test : Evaluation or None
        Of the final model on the test split's patients that are not in training; None without such a split.
    """

    card: ModelCard
    folds: ConfusionMatrix | None
    test: Evaluation | None


def train_model(
    root: Path,
    output: Path,
    settings: TrainSettings,
    listener: TrainListener | None = None,
    text_features: Tensor | None = None,
) -> TrainReport:
    """Train a head on a frozen encoder and write it as a bundle.

    Points of the data decide which classes a crop holds, and score the result. Where in a crop they lie is used by the
    calibration ``points`` alone.

    Parameters
    ----------
    root : Path
        Training data in the layout of the settings.
    output : Path
        The bundle, ``.safetensors``.
    settings : TrainSettings
    listener : TrainListener or None
    text_features : Tensor of float32, shape (K * D, text_dim), or None
        One a description, class by class; None: from the sentence encoder of the extra ``train``.

    Raises
    ------
    DataError
        If the data is not what its layout says, or cannot teach one of the classes.
    MissingDependency
        If text features are needed and the sentence encoder is not installed.
    """
    started = time.monotonic()
    listener = listener or TrainListener()
    if output.suffix != ".safetensors":
        raise DataError(f"{output}: a bundle's name ends in .safetensors; choose another name for -o")
    classes = load_vocabulary(settings.vocabulary, settings.classes or None)
    images = read_brca_m2c(root, settings.split, classes)
    if text_features is None:
        text_features = SentenceEncoder().features([text for c in classes for text in c.descriptions])
    device = choose_device(settings.device)
    encoder: ImageEncoder = build_encoder(settings.encoder).to(device)
    labelled = [
        LabelledImage(image.pixels, label_crops(image, len(classes), settings.crop_sizes, settings.min_points))
        for image in images
    ]
    job = _Job(settings, classes.names, encoder, text_features, labelled, listener)
    card = _card(output.stem, settings, classes, encoder, images)
    folds, calibration = None, dict[str, Any]()
    if settings.folds:
        held_out = job.held_out(images, card.stride_px)
        fitted = FITS[settings.calibration](held_out)
        card = replace(card, temperature=fitted.temperature, bias=fitted.bias)
        card = replace(card, gate=fit_gate(held_out, settings.gate))
        calibration = _calibration(held_out, job.parts(images), fitted, classes.names, settings.calibration)
        folds = ConfusionMatrix(classes.names)
        for image, found in zip(images, held_out, strict=True):
            score_points(folds, fitted.apply(found.scores.movedim(0, -1)).movedim(-1, 0), card.stride_px, image)
    model = DualProtoSegmenter(encoder, job.fit("final", range(len(images))), card).to(device)
    test = _test(model, root, settings, images)
    model.card = replace(
        card, scores=_scores(settings, folds, test) | calibration, training=card.training | _effort(started)
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    save_bundle(output, model)
    return TrainReport(model.card, folds, test)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    settings: TrainSettings
    names: Sequence[str]
    encoder: ImageEncoder
    text_features: Tensor
    labelled: list[LabelledImage]
    listener: TrainListener

    def fit(self, title: str, chosen: Sequence[int]) -> DualProtoHead:
        self.listener.fit_started(title, self.settings.epochs)
        images = [self.labelled[i] for i in chosen]
        return fit_head(self.encoder, images, self.names, self.text_features, self.settings, self.listener.epoch_done)

    def parts(self, images: Sequence[PointImage]) -> list[list[int]]:
        """Return the folds of the images, whole patients."""
        return patient_folds([image.patient for image in images], self.settings.folds, self.settings.seed)

    def held_out(self, images: Sequence[PointImage], cell_px: int) -> list[HeldOut]:
        """Return each image's scores from a head that was fitted without its patient."""
        found: dict[int, HeldOut] = {}
        for number, part in enumerate(self.parts(images), start=1):
            rest = sorted(set(range(len(images))) - set(part))
            head = self.fit(f"fold {number}/{self.settings.folds}", rest)
            found |= {i: hold_out(self.encoder, head, images[i], self.labelled[i], cell_px) for i in part}
        return [found[i] for i in range(len(images))]


def hold_out(
    encoder: ImageEncoder, head: DualProtoHead, image: PointImage, labelled: LabelledImage, cell_px: int
) -> HeldOut:
    """Score an image with a head that has not seen its patient."""
    scores, pooled = predict_logits(encoder, head, image.pixels)
    points, labels = torch.from_numpy(image.points), torch.from_numpy(image.labels)
    return HeldOut(image.patient, scores, pooled, cell_px, labelled.crops, points, labels)


def _calibration(
    held_out: Sequence[HeldOut], parts: Sequence[Sequence[int]], fitted: Calibration, names: Sequence[str], chosen: str
) -> dict[str, Any]:
    return {
        "calibration": {"chosen": chosen, "cross_validated": compare_fits(held_out, parts, names)},
        "unsure": unsure_curve(held_out, fitted),
    }


def _test(
    model: DualProtoSegmenter, root: Path, settings: TrainSettings, images: Sequence[PointImage]
) -> Evaluation | None:
    if not settings.test_split or not (root / f"{settings.test_split}.txt").is_file():
        return None
    candidates = read_brca_m2c(root, settings.test_split, model.classes)
    unseen, left_out = part_patients(candidates, {image.patient for image in images})
    if not unseen:
        return None
    return score_images(model, unseen, left_out)


def _scores(settings: TrainSettings, folds: ConfusionMatrix | None, test: Evaluation | None) -> dict[str, Any]:
    scores: dict[str, Any] = {"measured": "the label map under each labelled nucleus; points are not masks"}
    if folds:
        scores["cross_validation"] = {"split": settings.split, "folds": settings.folds, **folds.to_json()}
    if test:
        scores["test"] = {"split": settings.test_split, **test.to_json()}
    return scores


def _effort(started: float) -> dict[str, Any]:
    return {"seconds": round(time.monotonic() - started), "threads": torch.get_num_threads()}


def _card(
    name: str, settings: TrainSettings, classes: ClassScheme, encoder: ImageEncoder, images: Sequence[PointImage]
) -> ModelCard:
    known = ", ".join(classes.names)
    packages = ("dualproto-wsi", "torch", "timm", "numpy")
    return ModelCard(
        name=name,
        version="1",
        description=f"{known} on H&E, trained from image-level labels of crops",
        classes=classes,
        encoder=encoder.name,
        encoder_hash=encoder.hash,
        head=settings.head,
        mpp=BRCA_M2C_MPP,
        window_px=WINDOW_PX,
        stride_px=encoder.grid_px // max(settings.head.upsampling),
        training={
            "data": "BRCA-M2C (Abousamra et al., ICCV 2021; TopoXLab, BSD-3-Clause; H&E images from TCGA)",
            "labels": f"image-level: a crop holds a class with {settings.min_points} or more labelled nuclei",
            "images": len(images),
            "patients": sorted({image.patient for image in images}),
            "settings": to_data(settings),
        },
        licence="Apache-2.0",
        limits=(
            f"A demonstration model: it knows {known} and nothing else (no necrosis, fat, blood, normal epithelium or "
            "other tissue), gives every place one of them, and was trained on few images of one organ. Not for "
            "diagnosis."
        ),
        created_with={"python": platform.python_version(), **{package: version(package) for package in packages}},
    )
