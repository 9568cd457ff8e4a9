"""How far a figure would move with other patients: the bootstrap (Efron, 1979), whole patients drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.metrics import Counts, measure

LEAST_PATIENTS = 3
"""With fewer an interval says nothing, and is NaN."""

LEVEL = 0.95


def bootstrap_intervals(
    counts: Counts, patients: Sequence[str], foreground: int, samples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return percentile intervals of everything that :func:`~dualproto_wsi.stats.metrics.measure` returns.

    Images of one patient are alike, so patients are drawn, with replacement, as many as there are; the pooled confusion
    matrix of those drawn gives the figures of a sample.

    Parameters
    ----------
    counts : ndarray, shape (N, C, C)
        A confusion matrix an image.
    patients : sequence of str
        Of each image; images without a count are left out.
    foreground : int
        As for ``measure``.
    samples : int
        How often to draw; at least 1.
    seed : int
        Equal seeds draw equal patients, so intervals of two models on the same images can be compared.

    Returns
    -------
    dict of str to ndarray of float64, shape (2,) or (2, C)
        The 2.5th and the 97.5th percentile over the samples in which the figure is defined; NaN where it is in none, or
        with fewer than :data:`LEAST_PATIENTS` patients.
    """
    counted = counts.sum((1, 2)) > 0
    names, owner = np.unique(np.array(patients)[counted], return_inverse=True)
    pooled = np.zeros((max(len(names), 1), *counts.shape[1:]))
    np.add.at(pooled, owner, counts[counted])
    generator = np.random.default_rng(seed)
    times = generator.multinomial(len(pooled), np.full(len(pooled), 1 / len(pooled)), samples)
    found = measure(np.tensordot(times, pooled, axes=1), foreground)
    return {name: _interval(values, enough=len(names) >= LEAST_PATIENTS) for name, values in found.items()}


def _interval(values: NDArray[np.float64], enough: bool) -> NDArray[np.float64]:
    limits = np.full((2, *values.shape[1:]), np.nan)
    flat, out = values.reshape(len(values), -1), limits.reshape(2, -1)
    for column in range(flat.shape[1]):
        defined = flat[~np.isnan(flat[:, column]), column]
        if enough and len(defined):
            out[:, column] = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return limits
