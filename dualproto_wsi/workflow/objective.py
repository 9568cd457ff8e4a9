"""What training minimises: crops' image-level labels against pooled scores, and prototypes of a class kept apart."""

from __future__ import annotations

from collections.abc import Sequence

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
        Side of a cell of ``scores``, px; divides the origin, and size and step of every grid.
    sharpness : float
        Of :func:`pool_scores`.
    weights : Tensor of float32, shape (sizes, K)
        Weight of the crops that hold a class, a row a grid.
    """
    losses = []
    for grid, weight in zip(grids, weights, strict=True):
        first, (rows, columns) = _crops_inside(grid, origin, scores.shape[1] * cell_px, scores.shape[2] * cell_px)
        if rows < 1 or columns < 1:
            continue
        labels = torch.from_numpy(grid.labels[:, first[0] : first[0] + rows, first[1] : first[1] + columns])
        top, left = ((position * grid.step - start) // cell_px for position, start in zip(first, origin, strict=True))
        pooled = pool_scores(scores[:, top:, left:], grid.size // cell_px, grid.step // cell_px, sharpness)
        pooled = pooled[:, : labels.shape[1], : labels.shape[2]]
        present, known = ((labels == PRESENT).to(scores), (labels != UNKNOWN).to(scores))
        loss = F.binary_cross_entropy_with_logits(pooled, present, known, pos_weight=weight[:, None, None])
        losses.append(loss)
    return torch.stack(losses).mean() if losses else scores.sum() * 0


def _crops_inside(
    grid: CropGrid, origin: tuple[int, int], height: int, width: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid position of the first crop inside a window, and how many rows and columns of crops are."""
    first = tuple(-(-start // grid.step) for start in origin)
    ends = (
        (start + length - grid.size) // grid.step + 1 for start, length in zip(origin, (height, width), strict=True)
    )
    counts = (min(end, limit) - f for end, limit, f in zip(ends, grid.labels.shape[1:], first, strict=True))
    return (first[0], first[1]), (next(counts), next(counts))


def class_weights(images: Sequence[Sequence[CropGrid]], names: Sequence[str], balance: float) -> Tensor:
    """Return the weight of crops that hold a class, (absent / present crops) to the power of ``balance``.

    Parameters
    ----------
    images : sequence of sequence of CropGrid
        Crops of all training images, one grid a size, all with the same sizes.
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
    present, absent = (
        np.array([[(grid.labels == value).sum((1, 2)) for grid in grids] for grids in images]).sum(0)
        for value in (PRESENT, ABSENT)
    )
    for name, held, free in zip(names, present.sum(0), absent.sum(0), strict=True):
        if not held:
            raise DataError(f"class {name!r} is in no training crop; leave it out with --classes, or add images of it")
        if not free:
            raise DataError(
                f"class {name!r} is in every training crop; use smaller crop_sizes, or add images without it"
            )
    return torch.tensor(((absent + 1) / (present + 1)) ** balance, dtype=torch.float32).clamp(0.1, 10)


def diversity_loss(prototypes: Tensor, classes: int) -> Tensor:
    """Return the mean squared positive cosine between different prototypes of a class.

    Parameters
    ----------
    prototypes : Tensor of float32, shape (P, dim)
        Rows of length 1, class by class.
    classes : int
        K.
    """
    grouped = prototypes.reshape(classes, -1, prototypes.shape[1])
    cosine = (grouped @ grouped.mT).triu(diagonal=1).clamp_min(0)
    pairs = classes * grouped.shape[1] * (grouped.shape[1] - 1) // 2
    return cosine.square().sum() / max(pairs, 1)
