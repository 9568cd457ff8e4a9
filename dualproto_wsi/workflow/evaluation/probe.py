"""A linear classifier on the encoder's frozen features, trained on places: what full supervision would reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.workflow.evaluation.truth import Sample
from dualproto_wsi.workflow.training.windows import pad, to_tensor

PIXELS = 64
"""Pixels of each class that are drawn from a mask; neighbours tell the same."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearProbe:
    """Multinomial logistic regression on standardised features.

    Parameters
    ----------
    mean, std : Tensor of float32, shape (F,)
        Of the features it was trained on.
    weight : Tensor of float32, shape (F, K)
    bias : Tensor of float32, shape (K,)
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    @torch.no_grad()
    def labels(self, features: Tensor) -> NDArray[np.uint8]:
        """Return the class of each cell, uint8 (h, w), of features (F, h, w)."""
        logits = ((features.movedim(0, -1) - self.mean) / self.std) @ self.weight + self.bias
        return np.asarray(logits.argmax(-1).numpy().astype(np.uint8))


def find_features(encoder: ImageEncoder, pixels: NDArray[np.uint8], cell_px: int) -> Tensor:
    """Return the deepest features of an image, brought to cells of ``cell_px`` (bilinear): (F, h, w), on the CPU."""
    images = pad(to_tensor(pixels)[None], encoder.step_px).to(encoder.mean.device)
    level = encoder.encode(images)[-1].float()
    fine = F.interpolate(level, scale_factor=encoder.grid_px / cell_px, mode="bilinear", align_corners=False)
    return fine[0].cpu()


def draw_places(sample: Sample, classes: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return places (x, y), px of the image, (n, 2), and their classes (n,): points, or some pixels of the mask."""
    if sample.mask is None:
        points = sample.image.points
        return (points.places, points.labels) if points else (np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    generator = np.random.default_rng(seed)
    places, labels = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.int64)]
    for value in range(classes):
        inside = np.flatnonzero(sample.mask == value)
        chosen = generator.choice(inside, min(PIXELS, len(inside)), replace=False)
        places.append(np.stack((chosen % sample.mask.shape[1], chosen // sample.mask.shape[1]), axis=1))
        labels.append(np.full(len(chosen), value))
    return np.concatenate(places), np.concatenate(labels)


def fit_probe(features: Sequence[Tensor], labels: Sequence[Tensor], classes: int, weight_decay: float) -> LinearProbe:
    """Train it on the features (n, F) and the classes (n,) of places, by image."""
    inputs, targets = torch.cat(list(features)), torch.cat(list(labels))
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    inputs = (inputs - mean) / std
    weight = torch.zeros(inputs.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(inputs @ weight + bias, targets) + weight_decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return LinearProbe(mean, std, weight.detach(), bias.detach())
