"""What training minimises: crops' image-level labels against pooled scores, and prototypes of a class kept apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.data.crops import ABSENT, PRESENT, UNKNOWN, CropGrid
from dualproto_wsi.errors import DataError


def pool_scores(scores: Tensor, size: int, step: int, sharpness: float) -> Tensor:
    """Pool a score map over crops by the log of the mean exponential, between mean and maximum.

    Parameters
    ----------
    scores : Tensor of float32, shape (K, h, w)
    size, step : int
        Side of a crop and distance of crops, cells.
    sharpness : float
        r of log(mean(exp(r · score))) / r: towards 0 the mean, towards infinity the maximum.

    Returns
    -------
    Tensor of float32, shape (K, rows, columns)
    """
    top = scores.detach().amax((1, 2), keepdim=True)
    mean = F.avg_pool2d(torch.exp(sharpness * (scores - top)), size, step)
    return top + torch.log(mean.clamp_min(torch.finfo(mean.dtype).tiny)) / sharpness


def crop_loss(
    scores: Tensor, grids: Sequence[CropGrid], origin: tuple[int, int], cell_px: int, sharpness: float, weights: Tensor
) -> Tensor:
    """Binary cross entropy between pooled scores and image-level labels, mean over crops, classes and sizes.

    Parameters
    ----------
    scores : Tensor of float32, shape (K, h, w)
        Class logits of a window.
    grids : sequence of CropGrid
        Labelled crops of the image that the window was cut from; those that reach out of the window do not count.
    origin : (int, int)
        Row and column of the window's first pixel, px of the image.
    cell_px : int
        Side of a cell of ``scores``, px.
    sharpness : float
        Of :func:`pool_scores`.
    weights : Tensor of float32, shape (sizes, K)
        Weight of the crops that hold a class, a row a size.
    """
    total = scores.new_zeros(())
    sizes = 0
    for grid, weight in zip(grids, weights, strict=False):
        inside = [_inside(grid, first, cells * cell_px, 1 + axis) for axis, (first, cells) in enumerate(_axes(origin, scores))]
        (row, rows), (column, columns) = inside
        if rows <= 0 or columns <= 0:
            continue
        part = scores[:, (row * grid.step - origin[0]) // cell_px :, (column * grid.step - origin[1]) // cell_px :]
        pooled = pool_scores(part, grid.size // cell_px, grid.step // cell_px, sharpness)[:, :rows, :columns]
        labels = torch.from_numpy(grid.labels[:, row : row + rows, column : column + columns]).to(scores.device)
        losses = F.binary_cross_entropy_with_logits(
            pooled, (labels == PRESENT).float(), reduction="none", pos_weight=weight[:, None, None]
        )
        known = labels != UNKNOWN
        total = total + (losses * known).sum() / known.sum().clamp_min(1)
        sizes += 1
    return total / max(sizes, 1)


def _axes(origin: tuple[int, int], scores: Tensor) -> Iterable[tuple[int, int]]:
    return zip(origin, scores.shape[1:], strict=True)


def _inside(grid: CropGrid, first: int, length: int, axis: int) -> tuple[int, int]:
    """Return the position of the first crop inside first…first+length, and how many are, along an axis of labels."""
    start = math.ceil(first / grid.step)
    stop = min((first + length - grid.size) // grid.step + 1, grid.labels.shape[axis])
    return start, stop - start


def class_weights(images: Iterable[Sequence[CropGrid]], names: Sequence[str], balance: float) -> Tensor:
    """Return the weight of crops that hold a class, (absent / present crops) to the power of ``balance``.

    Parameters
    ----------
    images : iterable of sequence of CropGrid
        Crops of all training images, one grid a size.
    names : sequence of str
        The K classes.
    balance : float
        0: all crops weigh alike; 1: crops with and without the class weigh the same in sum.

    Returns
    -------
    Tensor of float32, shape (sizes, K)

    Raises
    ------
    DataError
        If a class is in no crop at all, or in every one.
    """
    present: dict[int, np.ndarray] = {}
    absent: dict[int, np.ndarray] = {}
    for grids in images:
        for grid in grids:
            for counts, value in ((present, PRESENT), (absent, ABSENT)):
                counts[grid.size] = counts.get(grid.size, 0) + (grid.labels == value).sum((1, 2))
    if not present:
        raise DataError("no image is as large as the smallest crop; choose smaller crop_sizes")
    for word, counts, what in (("no", present, "present"), ("every", absent, "absent")):
        for name, number in zip(names, sum(counts.values()), strict=True):
            if number == 0:
                raise DataError(
                    f"class {name!r} is {'in no' if word == 'no' else 'in every'} training crop: nothing can be learned "
                    f"from crops if it is never {what}; "
                    + ("leave it out with --classes, or lower min_points" if word == "no" else "use smaller crop_sizes")
                )
    ratio = np.stack([(absent[size] + 1) / (present[size] + 1) for size in present])
    return torch.tensor(ratio**balance, dtype=torch.float32).clamp(0.1, 10)


def diversity_loss(prototypes: Tensor, classes: int) -> Tensor:
    """Return the mean squared positive cosine between different prototypes of a class.

    Parameters
    ----------
    prototypes : Tensor of float32, shape (P, dim)
        Rows of length 1, class by class.
    classes : int
        K.
    """
    grouped = prototypes.unflatten(0, (classes, -1))
    cosine = (grouped @ grouped.mT).triu(diagonal=1).clamp_min(0)
    pairs = grouped.shape[1] * (grouped.shape[1] - 1) / 2
    return cosine.square().sum() / (classes * max(pairs, 1))
