"""A head on images that it has not learned from: maps, and what image-level labels, points and masks say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.data.images import BACKGROUND, PRESENT, UNKNOWN, LabelledImage
from dualproto_wsi.model.heads import Head
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.stats.presence import score_presence
from dualproto_wsi.workflow.training.calibrate import Calibration, HeldOut, crop_scores
from dualproto_wsi.workflow.training.features import FeatureCache, Features
from dualproto_wsi.workflow.training.windows import Sample, WindowReader, pad, read_ahead, to_tensor

_BATCH = 16


@torch.inference_mode()
def predict(
    features: Features, head: Head, samples: Sequence[Sample], cache: FeatureCache | None, threads: int
) -> Iterator[HeldOut]:
    """Yield what a head says of each image in one window, not calibrated, in the order of the samples.

    The right and lower border are mirrored up to a multiple of the encoder's step, of images that are shown whole up to
    a square, as in training; what lies there is in the result.

    Parameters
    ----------
    features : Features
    head : Head
        In evaluation mode, on the same device.
    samples : sequence of Sample
    cache : FeatureCache or None
        Where features of images that are shown whole are kept.
    threads : int
        That read images.
    """
    reader = WindowReader(samples, 0)
    groups = _neighbours(samples)
    if cache:
        reading = [[partial(_cached, cache, samples[i]) for i in group] for group in groups]
    else:
        reading = [[partial(_whole, features, reader, samples, i) for i in group] for group in groups]
    for group, loaded in zip(groups, read_ahead(reading, threads), strict=True):
        if cache:
            levels = [torch.stack(level).to(features.device).float() for level in zip(*loaded, strict=True)]
        else:
            levels = features.encode(torch.stack([window for (window,) in loaded]))
        logits, pooled = head.map_and_presence(levels)
        cell_px = features.encoder.grid_px // head.upsampling
        for place, i in enumerate(group):
            yield HeldOut(samples[i], logits[place].float().cpu(), pooled[place].float().cpu(), cell_px)


def _neighbours(samples: Sequence[Sample]) -> list[tuple[int, ...]]:
    """Part samples into batches that keep their order: neighbours that are shown whole and have one size."""
    groups: list[tuple[int, ...]] = []
    for i, sample in enumerate(samples):
        last = samples[groups[-1][-1]] if groups else None
        if last and last.whole and sample.whole and last.side == sample.side and len(groups[-1]) < _BATCH:
            groups[-1] += (i,)
        else:
            groups.append((i,))
    return groups


def _cached(cache: FeatureCache, sample: Sample) -> list[Tensor]:
    return cache.read(sample, 0)


def _whole(features: Features, reader: WindowReader, samples: Sequence[Sample], position: int) -> list[Tensor]:
    sample = samples[position]
    if sample.whole:
        return [reader.window(position, (0, 0))]
    return [pad(to_tensor(sample.image.read_pixels())[None], features.encoder.step_px)[0]]


@dataclass(slots=True, eq=False)
class Measures:
    """Figures of a head on held-out images, gathered image by image.

    Parameters
    ----------
    names : sequence of str
        The K classes.
    calibration : Calibration
        Of the map that places are scored by.
    average : bool
        Whether crops' scores are their average, else the log of their mean exponential.
    """

    names: Sequence[str]
    calibration: Calibration = field(default_factory=Calibration)
    average: bool = False
    places: ConfusionMatrix = field(init=False)
    patients: set[str] = field(default_factory=set, init=False)
    images: int = field(default=0, init=False)
    _scores: list[Tensor] = field(default_factory=list, init=False)
    _labels: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.places = ConfusionMatrix(self.names)

    def add(self, held: HeldOut) -> None:
        """Count an image in."""
        scores, labels = crop_scores(held, Calibration(), None if self.average else 1.0)
        self._scores.append(scores)
        self._labels.append(labels)
        self.images += 1
        self.patients.add(held.sample.image.patient)
        truth, found = places_of(held, self.calibration)
        self.places.add(truth, found)

    @property
    def loss(self) -> float:
        """Binary cross entropy of the crops' image-level labels, mean over crops and classes."""
        scores, labels = torch.cat(self._scores), torch.cat(self._labels)
        known = labels != UNKNOWN
        return float(F.binary_cross_entropy_with_logits(scores[known], (labels == PRESENT)[known].float()))

    @property
    def auc(self) -> float:
        """Mean over the classes of the area under the ROC curve of the crops' labels; NaN if no class has both."""
        scores, labels = torch.cat(self._scores), torch.cat(self._labels)
        aucs = score_presence(scores.numpy(), labels.numpy()).auc
        return float(np.nanmean(aucs)) if not np.isnan(aucs).all() else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        data: dict[str, Any] = {"images": self.images, "patients": len(self.patients)}
        for name, value in (("image_level_auc", self.auc), ("image_level_loss", self.loss)):
            data[name] = round(value, 4) if np.isfinite(value) else None
        return data | ({"places": self.places.to_json()} if self.places.total else {})


def places_of(held: HeldOut, calibration: Calibration) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return true and predicted class of the places that an image has the truth of: points, else px of its mask."""
    image: LabelledImage = held.sample.image
    if image.points is not None:
        return image.points.labels, calibration.apply(held.at_points()).argmax(1).numpy()
    mask = image.read_mask()
    if mask is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    best = calibration.apply(held.scores.movedim(0, -1)).argmax(-1).numpy()
    rows, columns = (np.arange(size) // held.cell_px for size in mask.shape)
    labelled = mask < BACKGROUND
    return mask[labelled].astype(np.int64), best[rows][:, columns][labelled]
