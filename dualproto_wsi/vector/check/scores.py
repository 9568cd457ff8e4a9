"""Proof that the scores of polygons and the confidence raster say the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import UNSURE
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.rasterise import means_inside
from dualproto_wsi.vector.region import MEAN_SCORE, RUNNER_UP, Region

HALF_PERCENT = 0.0055
"""How far the mean of percents, rounded, may be from a mean of probabilities; some of it for half precision."""

_SLACK = 1e-5  # of probabilities in single precision


def score_problems(
    regions: Sequence[Region], grid: LabelGrid, confidence: npt.NDArray[np.uint8] | None, by_probability: bool
) -> Iterator[str]:
    """Find scores that cannot be, or are not those of the region's cells.

    Parameters
    ----------
    regions : sequence of Region
        As read from a file, in the same frame as ``grid``, with exact borders where `confidence` is given.
    grid : LabelGrid
    confidence : ndarray of uint8, (rows, columns), optional
        The best probability of each cell, in percent.
    by_probability : bool
        Whether each cell has the class of its best probability; refinement and sieve give some another.

    Yields
    ------
    str
        One line a problem, naming the region.
    """
    means = means_inside(regions, grid, confidence) / 100 if confidence is not None else np.full(len(regions), np.nan)
    for region, mean in zip(regions, means.tolist(), strict=True):
        score = region.measurements.get(MEAN_SCORE, np.nan)
        other = region.measurements.get(RUNNER_UP, 0.0)  # none where there is one class only
        if not (0 <= score <= 1 + _SLACK and other >= 0 and score + other <= 1 + _SLACK):
            yield f"region {region.id}: its scores are {score:.6g} and {other:.6g}; they are shares of 1"
        elif by_probability and other > score + _SLACK:
            yield f"region {region.id}: its second class has a higher score, {other:.6g}, than its own, {score:.6g}"
        if confidence is None:
            continue
        same = by_probability and region.tissue_class.id != UNSURE
        if not (abs(score - mean) <= HALF_PERCENT if same else score <= mean + HALF_PERCENT):
            yield f"region {region.id}: its {MEAN_SCORE!r} is {score:.6g}, the confidence of its cells {mean:.6g}"
