"""Calibration on held-out patients: how sure the logits are, and which classes they favour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN
from dualproto_wsi.model.card import PresenceGate
from dualproto_wsi.stats.calibration import CalibrationTally
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.training.objective import pool_scores
from dualproto_wsi.workflow.training.windows import Sample

UNSURE = (0.4, 0.5, 0.6, 0.7, 0.8)
"""Probabilities below which a place could be called unsure; told in the card."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a head's logits into those of probabilities: divided by the temperature, plus a bias a class.

    Parameters
    ----------
    temperature : float
        Above 0.
    bias : tuple of float
        Sums to 0; empty means zeros.
    """

    temperature: float = 1.0
    bias: tuple[float, ...] = ()

    def apply(self, logits: Tensor) -> Tensor:
        """Calibrate logits, (…, K)."""
        return logits / self.temperature + torch.tensor(self.bias or (0.0,))


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """An image that the scored head has not seen.

    Parameters
    ----------
    sample : Sample
        The image and its labels.
    scores : Tensor of float32, shape (K, h, w)
        The head's logits, not calibrated.
    pooled : Tensor of float32, shape (K,)
        The head's scores of the whole image.
    cell_px : int
        Side of a cell of the map, px.
    """

    sample: Sample
    scores: Tensor
    pooled: Tensor
    cell_px: int

    @property
    def crops(self) -> Sequence[CropGrid]:
        """Crops with image-level labels."""
        return self.sample.crops

    @property
    def labels(self) -> Tensor:
        """Classes of the labelled points, int64 (n,); none where the image has no points."""
        points = self.sample.image.points
        return torch.from_numpy(points.labels) if points else torch.empty(0, dtype=torch.int64)

    def at_points(self) -> Tensor:
        """Return the logits under the points, (n, K)."""
        points = self.sample.image.points
        if points is None:
            return torch.empty(0, len(self.scores))
        x, y = (torch.from_numpy(points.places) // self.cell_px).T
        return self.scores[:, y, x].T


def fit_none(images: Sequence[HeldOut]) -> Calibration:
    """Leave logits as they are."""
    return Calibration(1.0, (0.0,) * len(images[0].scores))


def fit_temperature(images: Sequence[HeldOut]) -> Calibration:
    """Fit the temperature at which places get probability only for classes that their crop holds.

    Minimises the mean over places of -log of the summed probability of the classes that are present in the crop around
    them, on the smallest crops; crops with a class unknown, and crops that hold every class or none, tell nothing and
    are left out. Temperature 1 if no crop tells anything.
    """
    parts = [_places(image) for image in images]
    logits, possible = (torch.cat(part) for part in zip(*parts, strict=True))
    bias = (0.0,) * logits.shape[1]
    if not len(logits):
        return Calibration(1.0, bias)
    log_temperature = torch.zeros((), requires_grad=True)

    def loss() -> Tensor:
        log_probability = (logits / log_temperature.exp()).log_softmax(1)
        return -log_probability.masked_fill(~possible, -torch.inf).logsumexp(1).mean()

    _minimise(loss, [log_temperature])
    return Calibration(float(log_temperature.detach().exp()), bias)


def fit_presence_bias(images: Sequence[HeldOut]) -> Calibration:
    """Fit the temperature as :func:`fit_temperature`, then the biases by which crops' labels come true.

    Minimises the binary cross entropy between the labels of all crops and the log of the mean exponential of their
    calibrated logits, a smooth maximum over the crop's places. The mean of the biases, which stands for the size of the
    crops, is dropped.
    """
    calibration = fit_temperature(images)
    pooled, labels = (torch.cat(part) for part in zip(*(crop_scores(i, calibration) for i in images), strict=True))
    known = labels != UNKNOWN
    bias = torch.zeros(pooled.shape[1], requires_grad=True)

    def loss() -> Tensor:
        held = F.binary_cross_entropy_with_logits(pooled + bias, (labels == PRESENT).float(), known.float())
        return held + 1e-4 * bias.square().sum()

    _minimise(loss, [bias])
    return Calibration(calibration.temperature, _centred(bias))


def fit_points(images: Sequence[HeldOut]) -> Calibration:
    """Fit temperature and biases to the classes of points: the mean -log probability of the right one is least."""
    logits, labels = torch.cat([image.at_points() for image in images]), torch.cat([image.labels for image in images])
    log_temperature, bias = torch.zeros((), requires_grad=True), torch.zeros(logits.shape[1], requires_grad=True)
    _minimise(
        lambda: F.cross_entropy(logits / log_temperature.exp() + bias, labels) + 1e-4 * bias.square().sum(),
        [log_temperature, bias],
    )
    return Calibration(float(log_temperature.detach().exp()), _centred(bias))


FITS: dict[str, Callable[[Sequence[HeldOut]], Calibration]] = {
    "none": fit_none,
    "temperature": fit_temperature,
    "presence": fit_presence_bias,
    "points": fit_points,
}
"""By name, as :attr:`~dualproto_wsi.settings.ValidationSettings.calibration` says it."""


def fit_gate(images: Sequence[HeldOut], strength: float) -> PresenceGate:
    """Calibrate the presence of classes in whole images by the images' labels; the map's part is ``strength``.

    An image holds a class if one of its crops does, and does not if all of its crops say so.
    """
    pooled = torch.stack([image.pooled for image in images])
    held = [torch.from_numpy(max(image.crops, key=lambda g: g.size).labels).flatten(1) for image in images]
    present = torch.stack([(labels == PRESENT).any(1) for labels in held])
    known = present | torch.stack([(labels == ABSENT).all(1) for labels in held])
    log_scale, bias = torch.zeros((), requires_grad=True), torch.zeros(pooled.shape[1], requires_grad=True)

    def loss() -> Tensor:
        logits = pooled * log_scale.exp() + bias
        error = F.binary_cross_entropy_with_logits(logits, present.float(), known.float(), reduction="sum")
        return error / known.sum().clamp_min(1) + 1e-3 * (log_scale.square() + bias.square().sum())

    _minimise(loss, [log_scale, bias])
    return PresenceGate(strength, float(log_scale.detach().exp()), tuple(bias.tolist()))


def compare_fits(
    images: Sequence[HeldOut], folds: Sequence[Sequence[int]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return accuracy, mean IoU and calibration error at the points, for every fit on other patients.

    Parameters
    ----------
    images : sequence of HeldOut
    folds : sequence of sequence of int
        Each part of the images is scored with what was fitted on all other parts.
    names : sequence of str
        The K classes.
    """
    table = {}
    labels = torch.cat([images[i].labels for fold in folds for i in fold])
    for method, fit in FITS.items():
        parts = []
        for fold in folds:
            calibration = fit([image for i, image in enumerate(images) if i not in set(fold)])
            parts += [calibration.apply(images[i].at_points()) for i in fold]
        probabilities = torch.cat(parts).softmax(1)
        confusion = ConfusionMatrix(names)
        confusion.add(labels.numpy(), probabilities.argmax(1).numpy())
        table[method] = {
            "accuracy": round(confusion.accuracy, 4),
            "mean_iou": round(confusion.mean_iou, 4),
            "calibration_error": round(expected_calibration_error(probabilities, labels), 4),
        }
    return table


def unsure_curve(images: Sequence[HeldOut], calibration: Calibration) -> list[dict[str, float]]:
    """Return, for each of :data:`UNSURE`, the share of points below it, and the accuracy at the others."""
    probabilities = calibration.apply(torch.cat([image.at_points() for image in images])).softmax(1)
    best, found = probabilities.max(1)
    right = found == torch.cat([image.labels for image in images])
    rows: list[dict[str, float]] = []
    for threshold in UNSURE:
        sure = best >= threshold
        accuracy = float(right[sure].float().mean()) if sure.any() else 0.0
        share = 1 - float(sure.float().mean())
        rows.append({"below": threshold, "unsure": round(share, 4), "accuracy": round(accuracy, 4)})
    return rows


def expected_calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the error of :class:`~dualproto_wsi.stats.calibration.CalibrationTally`; 0 without a place.

    Parameters
    ----------
    probabilities : Tensor of float32, shape (n, K)
    labels : Tensor of int64, shape (n,)
    """
    tally = CalibrationTally()
    tally.add(probabilities.T.numpy(), F.one_hot(labels, probabilities.shape[1]).T.numpy())
    return tally.expected_calibration_error if len(labels) else 0.0


def _minimise(loss: Callable[[], Tensor], parameters: list[Tensor]) -> None:
    optimiser: Any = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)


def _centred(bias: Tensor) -> tuple[float, ...]:
    return tuple((bias - bias.mean()).tolist())


def crop_scores(image: HeldOut, calibration: Calibration, sharpness: float | None = 1.0) -> tuple[Tensor, Tensor]:
    """Return calibrated logits (n, K) of all crops, pooled as of ``pool_scores``, and their labels (n, K)."""
    pooled, labels = [torch.empty(0, len(image.scores))], [torch.empty(0, len(image.scores), dtype=torch.int8)]
    for grid in image.crops:
        classes, rows, columns = grid.labels.shape
        if rows * columns:
            cells, step = grid.size // image.cell_px, grid.step // image.cell_px
            found = pool_scores(image.scores / calibration.temperature, cells, step, sharpness)[:, :rows, :columns]
            pooled.append(found.reshape(classes, -1).T)
            labels.append(torch.from_numpy(grid.labels).reshape(classes, -1).T)
    return torch.cat(pooled), torch.cat(labels)


def _places(image: HeldOut) -> tuple[Tensor, Tensor]:
    """Return logits (n, K) of every fourth cell in telling crops, and which classes are possible there (n, K)."""
    grid = min(image.crops, key=lambda g: g.size)
    labels = torch.from_numpy(grid.labels)
    classes, rows, columns = labels.shape
    if not rows * columns:
        return torch.empty(0, classes), torch.empty(0, classes, dtype=torch.bool)
    cells, step = grid.size // image.cell_px, grid.step // image.cell_px
    patches = image.scores.unfold(1, cells, step).unfold(2, cells, step)[:, :rows, :columns, ::4, ::4].flatten(3)
    absent = labels == ABSENT
    tells = (labels != UNKNOWN).all(0) & absent.any(0) & ~absent.all(0)
    chosen = patches[:, tells]  # (K, crops, places)
    return chosen.permute(1, 2, 0).flatten(0, 1), ~absent[:, tells].T.repeat_interleave(chosen.shape[2], 0)
