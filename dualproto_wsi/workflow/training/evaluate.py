"""Scores a model at labelled points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.data.points import PointImage, read_brca_m2c
from dualproto_wsi.errors import DataError
from dualproto_wsi.model.checkpoint import load_model
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.mapping.engine import choose_device
from dualproto_wsi.workflow.training.fit import pad, to_tensor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation found.

    Parameters
    ----------
    model : ConfusionMatrix
        Of the model, over the points of all images scored.
    probe : ConfusionMatrix or None
        Of a linear classifier on the frozen encoder's features, trained on the POINTS of the training split.
    images, patients : int
        How many were scored.
    left_out : tuple of str
        Patients of the split that the model was trained on; not scored.
    """

    model: ConfusionMatrix
    probe: ConfusionMatrix | None
    images: int
    patients: int
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "images": self.images,
            "patients": self.patients,
            "left_out": list(self.left_out),
            "model": self.model.to_json(),
            "probe": self.probe.to_json() if self.probe else None,
        }


def evaluate_model(
    name_or_path: str | Path,
    root: Path,
    split: str = "val",
    *,
    probe_split: str | None = None,
    device: str = "auto",
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a model at the labelled points of a split, on patients that it was not trained on.

    Parameters
    ----------
    name_or_path : str or Path
        ``builtin``, a built-in model's name, or a bundle.
    root : Path
        Data in the layout of BRCA-M2C.
    split : str
        Images to score.
    probe_split : str or None
        Also train a linear probe on the points of this split, without the patients scored; None: no probe.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    on_image : callable
        Called after each image.

    Raises
    ------
    DataError
        If the data is not what its layout says, or no patient is left to score.
    """
    model = load_model(name_or_path).to(choose_device(device))
    kept, left_out = part_patients(
        read_brca_m2c(root, split, model.classes), set(model.card.training.get("patients", ()))
    )
    if not kept:
        raise DataError(f"{root}: the model was trained on every patient of {split!r}; choose another split")
    found = score_images(model, kept, left_out, on_image)
    if probe_split is None:
        return found
    fitted_on, _ = part_patients(read_brca_m2c(root, probe_split, model.classes), {i.patient for i in kept})
    return replace(found, probe=probe_points(model.encoder, fitted_on, kept, model.classes.names, model.stride_px))


def score_images(
    model: DualProtoSegmenter,
    images: Sequence[PointImage],
    left_out: tuple[str, ...],
    on_image: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Score a model at the points of images of patients that it was not trained on; ``left_out`` is only told."""
    confusion = ConfusionMatrix(model.classes.names)
    for image in images:
        score_points(confusion, predict_map(model, image.pixels), model.stride_px, image)
        on_image()
    return Evaluation(confusion, None, len(images), len({image.patient for image in images}), left_out)


def part_patients(images: Sequence[PointImage], patients: set[str]) -> tuple[list[PointImage], tuple[str, ...]]:
    """Return the images of other patients, and those of ``patients`` that the images show."""
    kept = [image for image in images if image.patient not in patients]
    return kept, tuple(sorted({image.patient for image in images} & patients))


@torch.inference_mode()
def predict_map(model: DualProtoSegmenter, pixels: NDArray[np.uint8]) -> Tensor:
    """Return calibrated logits of a whole image in one window, float32 (K, h, w), on the CPU.

    The right and lower border are mirrored up to a multiple of the encoder's step; what lies there is in the result.
    """
    images = pad(to_tensor(pixels)[None], model.encoder.step_px).to(model.bias.device)
    return model(images)[0].float().cpu()  # type: ignore[no-any-return]


def score_points(confusion: ConfusionMatrix, logits: Tensor, cell_px: int, image: PointImage) -> None:
    """Add the label map's value under each point to a confusion matrix."""
    x, y = (image.points // cell_px).T
    confusion.add(image.labels, logits.argmax(0).numpy()[y, x])


def probe_points(
    encoder: ImageEncoder,
    train: Sequence[PointImage],
    test: Sequence[PointImage],
    names: Sequence[str],
    cell_px: int,
    weight_decay: float = 1e-3,
) -> ConfusionMatrix:
    """Train multinomial logistic regression on the deepest features under points, and score it at other points.

    Features are brought to cells of ``cell_px`` (bilinear) and standardised with the training points' statistics.
    """
    features, labels = _point_features(encoder, train, cell_px)
    mean, std = features.mean(0), features.std(0) + 1e-6
    features = (features - mean) / std
    weight = torch.zeros(features.shape[1], len(names), requires_grad=True)
    bias = torch.zeros(len(names), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(features @ weight + bias, labels) + weight_decay * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    confusion = ConfusionMatrix(names)
    unseen, truth = _point_features(encoder, test, cell_px)
    with torch.no_grad():
        confusion.add(truth.numpy(), (((unseen - mean) / std) @ weight + bias).argmax(1).numpy())
    return confusion


def _point_features(encoder: ImageEncoder, images: Sequence[PointImage], cell_px: int) -> tuple[Tensor, Tensor]:
    features, labels = [], []
    for image in images:
        pixels = pad(to_tensor(image.pixels)[None], encoder.step_px).to(encoder.mean.device)
        level = encoder.encode(pixels)[-1]
        fine = F.interpolate(level, scale_factor=encoder.grid_px / cell_px, mode="bilinear", align_corners=False)
        x, y = (image.points // cell_px).T
        features.append(fine[0][:, y, x].T.cpu())
        labels.append(torch.from_numpy(image.labels))
    return torch.cat(features), torch.cat(labels)
