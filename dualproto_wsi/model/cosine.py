"""Scores of classes on an enlarged map without enlarging the features.

A score is a cosine between a prototype and a feature that was brought to a finer grid by bilinear interpolation. Its
numerator is linear, so prototypes may be compared with the coarse features and the products enlarged; and the square
of the length of an enlarged feature is made of the products of the four coarse ones around it:
``|Σ w_i f_i|² = Σ w_i w_j f_i·f_j``. There are far fewer prototypes than channels times finer places, so this takes a
tenth of the work of enlarging the features, and only rounding (1e-5 of a score) tells them apart.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dualproto_wsi.compiled import compiled

Array = npt.NDArray[np.float32]

MERGES = ("softmax", "mean", "logsumexp")
SOFTMAX, MEAN, LOGSUMEXP = range(3)
ONE, TWO = np.float32(1), np.float32(2)
LEAST = np.float32(1e-24)  # square of the least length that torch's normalize divides by
LOG2E, LOWEST = np.float32(1 / math.log(2)), np.float32(-126)
WHOLE = np.float32(1.5 * 2**23)  # adding it rounds to a whole number, which then lies in the lowest bits
C1, C2, C3, C4, C5, C6 = (np.float32(c) for c in (
    0.6931471805599453, 0.2402265069591007, 0.0555041086648216, 0.009618129107628477, 0.0013333558146428443,
    0.00015403530393381609,
))  # fmt: skip  # 2 ** f for f in -0.5…0.5: its Taylor series


@torch.compiler.disable  # type: ignore[untyped-decorator]
def enlarged_scores(
    features: Tensor, weight: Tensor, upsampling: int, classes: int, merge: str
) -> tuple[Tensor, Tensor]:
    """Return class scores on a finer map, on the CPU and without gradients.

    Parameters
    ----------
    features : Tensor of float, shape (N, C, h, w)
        Of any length.
    weight : Tensor of float32, shape (P, C)
        Prototypes class by class; their lengths are the factors on the cosines.
    upsampling : int
        Side of the map as a multiple of the features'.
    classes : int
        K.
    merge : str
        As for :func:`~dualproto_wsi.model.prototypes.merge_prototypes`.

    Returns
    -------
    scores : Tensor of float32, shape (N, K, h * upsampling, w * upsampling)
        Prototypes merged.
    pooled : Tensor of float32, shape (N, P)
        Scores of the prototypes, averaged over the map.
    """
    features = features.float().contiguous()
    count, _, height, width = features.shape
    products = torch.matmul(weight, features.flatten(2)).view(count, len(weight), height, width)
    scores = torch.empty(count, classes, height * upsampling, width * upsampling)
    pooled = torch.empty(count, len(weight))
    for window in zip(products.numpy(), features.numpy(), scores.numpy(), pooled.numpy(), strict=True):
        _score(*window, upsampling, MERGES.index(merge))
    return scores, pooled


@compiled
def _score(products: Array, features: Array, scores: Array, pooled: Array, factor: int, merge: int) -> None:
    """Score one window; a row of the finer map is held phase by phase: places with the same weights side by side."""
    prototypes, rows, columns = products.shape
    classes, width = len(scores), columns * factor
    count = prototypes // classes
    neighbours = _neighbours(features)
    inverse = np.empty(width, np.float32)
    row = np.empty((count, width), np.float32)
    power = np.empty((count, width), np.float32)
    merged = np.empty(width, np.float32)
    vertical = np.empty(columns + 2, np.float32)
    total = np.zeros((prototypes, width), np.float32)
    for y in range(rows * factor):
        place = (y + 0.5) / factor - 0.5
        first = math.floor(place)
        share = np.float32(place - first)
        above, below = max(first, 0), min(first + 1, rows - 1)
        _inverse_lengths(neighbours, above, below, share, factor, inverse)
        for k in range(classes):
            for d in range(count):
                p = k * count + d
                upper, lower = products[p, above], products[p, below]
                for j in range(columns):
                    vertical[j + 1] = (ONE - share) * upper[j] + share * lower[j]
                vertical[0], vertical[columns + 1] = vertical[1], vertical[columns]
                _across(vertical, inverse, factor, row[d])
                summed, scored = total[p], row[d]
                for j in range(width):
                    summed[j] += scored[j]
            _merge(row, power, merged, merge)
            line = scores[k, y]
            for phase in range(factor):
                for j in range(columns):
                    line[j * factor + phase] = merged[phase * columns + j]
    for p in range(prototypes):
        pooled[p] = total[p].sum() / np.float32(rows * factor * width)


@compiled
def _neighbours(features: Array) -> Array:
    """Return the products of each feature with itself, the one to the right, below, and the two across, (5, h, w)."""
    channels, rows, columns = features.shape
    found = np.zeros((5, rows, columns), np.float32)
    for i in range(rows):
        own, right, below, falling, rising = found[0, i], found[1, i], found[2, i], found[3, i], found[4, i]
        for c in range(channels):
            x, y = features[c, i], features[c, min(i + 1, rows - 1)]
            for j in range(columns):
                own[j] += x[j] * x[j]
                below[j] += x[j] * y[j]
            for j in range(columns - 1):
                right[j] += x[j] * x[j + 1]
                falling[j] += x[j] * y[j + 1]
                rising[j] += x[j + 1] * y[j]
    return found


@compiled
def _inverse_lengths(neighbours: Array, above: int, below: int, share: np.float32, factor: int, inverse: Array) -> None:
    """Set 1 / length of the enlarged features of one finer row, phase by phase."""
    columns = neighbours.shape[2]
    square, right = np.empty(columns + 2, np.float32), np.empty(columns + 2, np.float32)
    upper, lower, both = (ONE - share) * (ONE - share), share * share, (ONE - share) * share
    if above == below:
        upper, lower, both = ONE, np.float32(0), np.float32(0)
    for j in range(columns):
        square[j + 1] = (
            upper * neighbours[0, above, j] + lower * neighbours[0, below, j] + TWO * both * neighbours[2, above, j]
        )
    for j in range(columns - 1):
        crossed = neighbours[3, above, j] + neighbours[4, above, j]
        right[j + 1] = upper * neighbours[1, above, j] + lower * neighbours[1, below, j] + both * crossed
    square[0], square[columns + 1] = square[1], square[columns]
    right[0], right[columns] = square[1], square[columns]
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        first = 1 + math.floor(place)
        share = np.float32(place - math.floor(place))
        rest = ONE - share
        part = inverse[phase * columns : (phase + 1) * columns]
        for j in range(columns):
            length = rest * rest * square[j + first] + share * share * square[j + first + 1]
            part[j] = ONE / np.sqrt(max(length + TWO * share * rest * right[j + first], LEAST))


@compiled
def _across(vertical: Array, inverse: Array, factor: int, row: Array) -> None:
    """Interpolate along a row that was interpolated downwards, and divide by the lengths."""
    columns = len(vertical) - 2
    for phase in range(factor):
        place = (phase + 0.5) / factor - 0.5
        first = 1 + math.floor(place)
        share = np.float32(place - math.floor(place))
        rest = ONE - share
        part, length = row[phase * columns : (phase + 1) * columns], inverse[phase * columns : (phase + 1) * columns]
        left, right = vertical[first : first + columns], vertical[first + 1 : first + 1 + columns]
        for j in range(columns):
            part[j] = (rest * left[j] + share * right[j]) * length[j]


@compiled
def _merge(row: Array, power: Array, merged: Array, merge: int) -> None:
    """Merge the scores of a class's prototypes, (D, width)."""
    count, width = row.shape
    merged[:] = 0
    if merge == MEAN:
        for d in range(count):
            scored = row[d]
            for j in range(width):
                merged[j] += scored[j] / np.float32(count)
        return
    best = _powers(row, power)
    total = np.zeros(width, np.float32)
    for d in range(count):
        scored, exponential = row[d], power[d]
        for j in range(width):
            total[j] += exponential[j]
            merged[j] += exponential[j] * scored[j]
    for j in range(width):
        if merge == SOFTMAX:
            merged[j] /= total[j]
        else:
            merged[j] = best[j] + math.log(total[j] / np.float32(count))


@compiled
def _powers(row: Array, power: Array) -> Array:
    """Set the exponentials of scores less the best of each place; return these."""
    count, width = row.shape
    best, below = np.empty(width, np.float32), np.empty((count, width), np.float32)
    best[:] = row[0]
    for d in range(1, count):
        scored = row[d]
        for j in range(width):
            best[j] = max(best[j], scored[j])
    for d in range(count):
        scored, less = row[d], below[d]
        for j in range(width):
            less[j] = scored[j] - best[j]
    _exp(below.reshape(-1), power.reshape(-1))
    return best


@compiled
def _exp(x: Array, power: Array) -> None:
    """Set the exponentials of values of 0 and less, to 6e-7 of each; written so that the compiler makes vectors of it.

    ``e**x = 2**(n + f)``: n goes into the exponent's bits, 2**f is a polynomial.
    """
    scale = np.empty(len(x), np.float32)
    bits = scale.view(np.int32)
    for j in range(len(x)):
        scale[j] = max(x[j] * LOG2E, LOWEST) + WHOLE
    for j in range(len(x)):
        f = max(x[j] * LOG2E, LOWEST) - (scale[j] - WHOLE)
        power[j] = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * (C5 + f * C6)))))
    for j in range(len(x)):
        bits[j] = (bits[j] << 23) + 0x3F800000
    for j in range(len(x)):
        power[j] *= scale[j]
