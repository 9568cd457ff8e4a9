"""What training minimises.

Pooled scores against the crops' image-level labels, no class where a crop says that there is none, prototypes of a
class kept apart, and the same map from a window that lies a little elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.data.crops import CropGrid
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN
from dualproto_wsi.errors import DataError


def pool_scores(scores: Tensor, size: int, step: int, sharpness: float | None) -> Tensor:
    """Pool a score map over crops by the log of the mean exponential, between mean and maximum.

    Parameters
    ----------
    scores : Tensor of float32, shape (K, h, w)
    size, step : int
        Side of a crop and distance of crops, cells.
    sharpness : float or None
        r of log(mean(exp(r · score))) / r: towards 0 the mean, towards infinity the maximum. Crops whose best score is
        more than 80 / r below the map's best get a value that is too high; scores of a head span far less at r = 1.
        None: the mean itself.

    Returns
    -------
    Tensor of float32, shape (K, rows, columns)
    """
    if sharpness is None:
        return F.avg_pool2d(scores, size, step)
    top = scores.detach().amax((1, 2), keepdim=True)
    mean = F.avg_pool2d(torch.exp(sharpness * (scores - top)), size, step)
    return top + torch.log(mean.clamp_min(torch.finfo(mean.dtype).tiny)) / sharpness


@dataclass(frozen=True, slots=True, eq=False)
class WindowCrops:
    """The crops of one size that lie inside a window, placed on a score map of it.

    Parameters
    ----------
    labels : Tensor of int8, shape (K, rows, columns)
        Image-level labels.
    top, left : int
        Where the first crop begins, cells.
    size, step : int
        Side of a crop and distance of crops, cells.
    """

    labels: Tensor
    top: int
    left: int
    size: int
    step: int

    @classmethod
    def place(cls, grid: CropGrid, origin: tuple[int, int], shape: Sequence[int], cell_px: int) -> WindowCrops:
        """Place the crops of a grid that lie inside a window.

        Parameters
        ----------
        grid : CropGrid
            Of the image that the window was cut from.
        origin : (int, int)
            Row and column of the window's first pixel, px of the image.
        shape : (int, int)
            Rows and columns of the score map.
        cell_px : int
            Side of its cells, px; divides the origin, and size and step of the grid.
        """
        spans = []
        for start, cells, count in zip(origin, shape, grid.labels.shape[1:], strict=True):
            first = -(-start // grid.step)
            stop = min((start + cells * cell_px - grid.size) // grid.step + 1, count)
            spans.append((first, max(first, stop)))
        (row, row_stop), (column, column_stop) = spans
        top, left = ((span[0] * grid.step - start) // cell_px for span, start in zip(spans, origin, strict=True))
        labels = torch.from_numpy(grid.labels[:, row:row_stop, column:column_stop])
        return cls(labels, top, left, grid.size // cell_px, grid.step // cell_px)


def crop_loss(scores: Tensor, crops: Sequence[WindowCrops], sharpness: float | None, weights: Tensor) -> Tensor:
    """Binary cross entropy between pooled scores and image-level labels, mean over crops, classes and sizes.

    Parameters
    ----------
    scores : Tensor of float32, shape (K, h, w)
        Class logits of a window.
    crops : sequence of WindowCrops
        One a size.
    sharpness : float or None
        Of :func:`pool_scores`.
    weights : Tensor of float32, shape (sizes, K)
        Weight of the crops that hold a class, a row a size.
    """
    losses = []
    for placed, weight in zip(crops, weights, strict=True):
        _, rows, columns = placed.labels.shape
        if not rows * columns:
            continue
        pooled = pool_scores(scores[:, placed.top :, placed.left :], placed.size, placed.step, sharpness)
        present, known = (placed.labels == PRESENT).to(scores), (placed.labels != UNKNOWN).to(scores)
        losses.append(
            F.binary_cross_entropy_with_logits(
                pooled[:, :rows, :columns], present, known, pos_weight=weight[:, None, None]
            )
        )
    return torch.stack(losses).mean() if losses else scores.sum() * 0


def possible_classes(crops: WindowCrops, shape: Sequence[int]) -> Tensor:
    """Return which classes a cell may have: none that is absent from a crop around it.

    Parameters
    ----------
    crops : WindowCrops
    shape : (int, int)
        Rows and columns of the score map.

    Returns
    -------
    Tensor of bool, shape (K, h, w)
        True everywhere outside the crops.
    """
    possible = torch.ones(len(crops.labels), *shape, dtype=torch.bool)
    if crops.labels.numel():
        absent = (crops.labels == ABSENT).float()[:, None]
        covered = F.conv_transpose2d(absent, torch.ones(1, 1, crops.size, crops.size), stride=crops.step)[:, 0] > 0
        below, right = crops.top + covered.shape[1], crops.left + covered.shape[2]
        possible[:, crops.top : below, crops.left : right] = ~covered
    return possible


def absence_loss(scores: Tensor, possible: Tensor, balance: float) -> Tensor:
    """Return the mean over cells of -log of the summed probability of the classes that are possible there.

    Parameters
    ----------
    scores : Tensor of float32, shape (N, K, h, w)
        Class logits.
    possible : Tensor of bool, shape (N, K, h, w)
        As of :func:`possible_classes`; cells where all or none are possible do not count.
    balance : float
        A cell weighs (number of cells with the same possible classes) to the power of ``-balance``.
    """
    allowed = possible.movedim(1, -1).flatten(0, -2)
    telling = allowed.any(1) & ~allowed.all(1)
    allowed = allowed[telling]
    if not len(allowed):
        return scores.sum() * 0
    code = allowed.double() @ 2.0 ** torch.arange(allowed.shape[1], dtype=torch.double, device=allowed.device)
    _, group, sizes = torch.unique(code, return_inverse=True, return_counts=True)
    weights = sizes[group].float() ** -balance
    log_probability = scores.log_softmax(1).movedim(1, -1).flatten(0, -2)[telling]
    losses = -log_probability.masked_fill(~allowed, -torch.inf).logsumexp(1)
    mean: Tensor = (losses * weights).sum() / weights.sum()
    return mean


def class_weights(
    images: Sequence[Sequence[CropGrid]], names: Sequence[str], balance: float, partial: bool = False
) -> Tensor:
    """Return the weight of crops that hold a class, (absent / present crops) to the power of ``balance``.

    Parameters
    ----------
    images : sequence of sequence of CropGrid
        Crops of all training images, one grid a size, all with the same sizes.
    names : sequence of str
        The K classes.
    balance : float
        0: all crops weigh alike; 1: crops with and without the class weigh the same in sum.
    partial : bool
        Whether a class may be in no crop or in all, because the head knows the classes already; such a class has
        nothing to balance, and its weight is 1.

    Returns
    -------
    Tensor of float32, shape (sizes, K)

    Raises
    ------
    DataError
        If a class is in no crop at all, or in every one, or, where that may be, nothing is known of any crop.
    """
    present, absent = (
        np.array([[(grid.labels == value).sum((1, 2)) for grid in grids] for grids in images]).sum(0)
        for value in (PRESENT, ABSENT)
    )
    weights = torch.tensor(((absent + 1) / (present + 1)) ** balance, dtype=torch.float32).clamp(0.1, 10)
    if partial:
        if not present.sum() + absent.sum():
            raise DataError("no image says of any class whether it holds it, so nothing can be learned; add labels")
        return torch.where(torch.from_numpy((present > 0) & (absent > 0)), weights, 1.0)
    for name, held, free in zip(names, present.sum(0), absent.sum(0), strict=True):
        if not held:
            raise DataError(f"class {name!r} is in no training crop; leave it out with --classes, or add images of it")
        if not free:
            raise DataError(
                f"class {name!r} is in every training crop; use smaller crop_sizes, or add images without it"
            )
    return weights


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


def consistency_loss(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean over cells of the symmetric Kullback-Leibler divergence between two maps.

    Parameters
    ----------
    one, other : Tensor of float32, shape (N, K, h, w)
        Class logits of the same places.
    """
    p, q = one.log_softmax(1), other.log_softmax(1)
    return ((p.exp() - q.exp()) * (p - q)).sum(1).mean()


def change_loss(before: Tensor, after: Tensor, counts: Tensor) -> Tensor:
    """Return the mean over places of how far a map is from what it was.

    At a place it is the Kullback-Leibler divergence of the probabilities of the classes, and, since image-level answers
    hang on each score by itself, the mean over the classes of that of "class k is here": yes or no.

    Parameters
    ----------
    before, after : Tensor of float32, shape (N, K, h, w)
        Class logits of the same places; no gradient flows into ``before``.
    counts : Tensor of bool, shape (N, h, w)
        Places where the map is to stay; others add 0 to the mean.
    """
    before = before.detach()
    p, q = before.log_softmax(1), after.log_softmax(1)
    among = (p.exp() * (p - q)).sum(1)
    yes, no = F.logsigmoid(before), F.logsigmoid(-before)
    alone = (yes.exp() * (yes - F.logsigmoid(after)) + no.exp() * (no - F.logsigmoid(-after))).mean(1)
    return ((among + alone) * counts).mean()
