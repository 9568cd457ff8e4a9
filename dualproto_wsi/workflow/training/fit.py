"""Fits a head to crops' image-level labels on a frozen encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.data.augment import ORIENTATIONS, jitter_stain, orient, orient_back
from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.settings import TrainSettings
from dualproto_wsi.workflow.training.objective import (
    WindowCrops,
    absence_loss,
    class_weights,
    consistency_loss,
    crop_loss,
    diversity_loss,
    possible_classes,
)

_WARM_UP = 20  # steps
_GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """What training sees of an image: pixels, and what its crops hold.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.
    crops : list of CropGrid
    """

    pixels: NDArray[np.uint8]
    crops: list[CropGrid]


def fit_head(
    encoder: ImageEncoder,
    images: Sequence[LabelledImage],
    names: Sequence[str],
    text_features: Tensor,
    settings: TrainSettings,
    on_epoch: Callable[[float], None],
) -> DualProtoHead:
    """Train a head.

    Parameters
    ----------
    encoder : ImageEncoder
        Frozen, on the device to train on.
    images : sequence of LabelledImage
    names : sequence of str
        The K classes.
    text_features : Tensor of float32, shape (K * D, text_dim)
    settings : TrainSettings
    on_epoch : callable
        Gets the mean loss after each epoch.

    Returns
    -------
    DualProtoHead
        In evaluation mode.

    Raises
    ------
    DataError
        If a class is in no crop, or in every one.
    """
    device = encoder.mean.device
    weights = class_weights([image.crops for image in images], names, settings.balance).to(device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    classes = len(names)
    head = DualProtoHead(settings.head, encoder.dim, classes, len(text_features) // classes, text_features).to(device)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    steps = settings.epochs * math.ceil(len(images) / settings.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / _WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    for _ in range(settings.epochs):
        losses = []
        for batch in _batches(images, settings, encoder.step_px, rng):
            loss = _loss(encoder, head, batch, weights, settings, rng)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(head.parameters(), _GRADIENT_NORM)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        on_epoch(float(np.mean(losses)))
    return head.eval()


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    pixels: Tensor  # float32 (3, side, side), 0…1
    origin: tuple[int, int]
    crops: list[CropGrid]


def _batches(
    images: Sequence[LabelledImage], settings: TrainSettings, step_px: int, rng: np.random.Generator
) -> Iterator[list[_Window]]:
    order = rng.permutation(len(images))
    for start in range(0, len(order), settings.batch_size):
        chosen = [images[i] for i in order[start : start + settings.batch_size]]
        yield [_cut(image, settings.window_px, step_px, rng) for image in chosen]


def _cut(image: LabelledImage, side: int, step_px: int, rng: np.random.Generator) -> _Window:
    pixels = to_tensor(image.pixels)
    height, width = pixels.shape[1:]
    row, column = (int(rng.integers(0, max(0, size - side) // 8 + 1)) * 8 for size in (height, width))
    window = pixels[:, row : row + side, column : column + side]
    return _Window(pad(window[None], step_px, side)[0], (row, column), image.crops)


def _loss(
    encoder: ImageEncoder,
    head: DualProtoHead,
    windows: Sequence[_Window],
    weights: Tensor,
    settings: TrainSettings,
    rng: np.random.Generator,
) -> Tensor:
    orientation = int(rng.integers(ORIENTATIONS))
    images = orient(torch.stack([window.pixels for window in windows]), orientation)
    chance = torch.Generator().manual_seed(int(rng.integers(2**31)))
    images = jitter_stain(images.to(weights.device), settings.stain, chance)
    levels = encoder.encode(images)
    output = head(levels)
    losses = [
        _scale_loss(orient_back(scores, orientation), windows, encoder.grid_px // factor, weights, settings)
        for scores, factor in zip(output.scores, settings.head.upsampling, strict=True)
    ]
    loss = torch.stack(losses).mean() + settings.diversity * diversity_loss(output.prototypes, head.classes)
    if settings.steadiness and images.shape[2] >= 4 * encoder.step_px:
        still = head.logits([level[:1] for level in levels])
        loss = loss + settings.steadiness * _shift_loss(encoder, head, images[:1], still, rng)
    return loss


def _shift_loss(
    encoder: ImageEncoder, head: DualProtoHead, image: Tensor, still: Tensor, rng: np.random.Generator
) -> Tensor:
    """Return how much the map of a window changes when the window moves by less than the encoder's step.

    Parameters
    ----------
    encoder, head
    image : Tensor of float32, shape (1, 3, side, side)
    still : Tensor of float32, shape (1, K, h, w)
        The window's map.
    rng : Generator
        Chooses where to.
    """
    cell_px = image.shape[2] // still.shape[2]
    phases = encoder.step_px // cell_px
    down, right = divmod(int(rng.integers(1, phases**2)), phases)
    side = image.shape[2] // 2 // encoder.step_px * encoder.step_px  # a quarter of the window is enough to learn from
    cells = side // cell_px
    moved = head.logits(encoder.encode(image[:, :, down * cell_px :, right * cell_px :][:, :, :side, :side]))
    inner = slice(cells // 6, cells - cells // 6)  # places near the border see the window's end
    still = still[:, :, down : down + cells, right : right + cells]
    return consistency_loss(still[:, :, inner, inner], moved[:, :, inner, inner])


def _scale_loss(
    maps: Tensor, windows: Sequence[_Window], cell_px: int, weights: Tensor, settings: TrainSettings
) -> Tensor:
    shape = maps.shape[2:]
    placed = [[WindowCrops.place(grid, w.origin, shape, cell_px) for grid in w.crops] for w in windows]
    pooled = [crop_loss(one, crops, settings.sharpness, weights) for one, crops in zip(maps, placed, strict=True)]
    loss = torch.stack(pooled).mean()
    if settings.absence:
        smallest = [min(crops, key=lambda c: c.size) for crops in placed]
        possible = torch.stack([possible_classes(crops, shape) for crops in smallest]).to(maps.device)
        loss = loss + settings.absence * absence_loss(maps, possible, settings.balance)
    return loss


@torch.inference_mode()
def predict_logits(encoder: ImageEncoder, head: DualProtoHead, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Return the head's logits of a whole image in one window, not calibrated, and its scores of the window.

    The right and lower border are mirrored up to a multiple of the encoder's step; what lies there is in the result.

    Returns
    -------
    logits : Tensor of float32, shape (K, h, w), on the CPU
    pooled : Tensor of float32, shape (K,), on the CPU
    """
    images = pad(to_tensor(pixels)[None], encoder.step_px).to(encoder.mean.device)
    logits, pooled = head.map_and_presence(encoder.encode(images))
    return logits[0].float().cpu(), pooled[0].float().cpu()


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Return float32 (3, H, W), 0…1, of uint8 (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def pad(images: Tensor, multiple: int, least: int = 0) -> Tensor:
    """Mirror the right and lower border of (N, 3, H, W) until both sides are multiples, and at least ``least``."""
    height, width = images.shape[2:]
    right, below = (-(-max(size, least) // multiple) * multiple - size for size in (width, height))
    while right or below:
        height, width = images.shape[2:]
        step_right, step_below = min(right, width - 1), min(below, height - 1)
        images = F.pad(images, (0, step_right, 0, step_below), mode="reflect")
        right, below = right - step_right, below - step_below
    return images
