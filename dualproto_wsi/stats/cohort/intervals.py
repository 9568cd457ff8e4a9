"""95 % intervals of slides and patients, by the bootstrap (Efron, Ann Stat 7:1, 1979, doi:10.1214/aos/1176344552)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.cohort.formula import Formula
from dualproto_wsi.stats.cohort.model import Summary, Value
from dualproto_wsi.stats.cohort.quantities import Quantities

LEAST_BLOCKS = 10
"""With fewer blocks an interval says nothing, and is None."""

LEAST_PATIENTS = 3

LIMITS = (0.025, 0.975)


def block_intervals(
    found: Quantities, formulas: Sequence[Formula], roles: Collection[str], samples: int, seed: int
) -> dict[str, Value]:
    """Return ``<name>_low`` and ``<name>_high`` of the measures that have an interval.

    Neighbouring cells are alike, so whole blocks are drawn, with replacement, as many as there are; the sums over those
    drawn give a sample's figures. It tells how much a figure hangs on which parts of the tissue were there, not how
    wrong the model may be.

    Parameters
    ----------
    found : Quantities
    formulas : sequence of Formula
    roles : collection of str
        Those that some class has.
    samples : int
        0: all None.
    seed : int
        The same seed draws the same.

    Returns
    -------
    dict of str to Value
    """
    wanted = [formula for formula in formulas if formula.measure.interval]
    values: dict[str, Value] = {f"{f.measure.name}_{end}": None for f in wanted for end in ("low", "high")}
    count = len(found.blocks)
    if not samples or count < LEAST_BLOCKS:
        return values
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), samples)
    drawn = times.astype(np.float64) @ found.blocks
    sums = dict(zip(found.names, drawn.T, strict=True))
    for formula in wanted:
        if set(formula.needs) <= set(roles):
            name = formula.measure.name
            values[f"{name}_low"], values[f"{name}_high"] = percentiles(formula.of_sums(sums))
    return values


def percentiles(samples: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the 2.5th and 97.5th percentile of the defined samples; None where there are none."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, LIMITS).tolist()
    return low, high


def summarise(measure: str, group: str, values: Sequence[float], samples: int, seed: int) -> Summary:
    """Return what a measure is over the patients of a group; the interval of the mean is from draws of patients."""
    numbers = np.array(values, np.float64)
    if not len(numbers):
        return Summary(measure, group, 0, *(None,) * 6)
    low = high = None
    if samples and len(numbers) >= LEAST_PATIENTS:
        drawn = np.random.default_rng(seed).integers(len(numbers), size=(samples, len(numbers)))
        low, high = percentiles(numbers[drawn].mean(1))
    q1, median, q3 = np.quantile(numbers, (0.25, 0.5, 0.75)).tolist()
    return Summary(measure, group, len(numbers), float(numbers.mean()), low, high, median, q1, q3)
