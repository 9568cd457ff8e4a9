"""Groups of patients compared, one measure at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from dualproto_wsi.stats.cohort.intervals import percentiles
from dualproto_wsi.stats.cohort.model import Comparison

FEW, LEAST = 10, 3
"""Patients in a group below which a warning is given, and below which a group is not tested."""

NORMAL = float(stats.norm.ppf(0.975))

Groups = Mapping[str, Sequence[float]]


def compare_groups(measures: Mapping[str, Groups], samples: int, seed: int) -> tuple[Comparison, ...]:
    """Compare groups in each measure, and correct for the number of measures.

    Two groups: Mann-Whitney U, two-sided, and Cliff's delta (Psychol Bull 114:494, 1993,
    doi:10.1037/0033-2909.114.3.494) with the interval of Newcombe's method 5 (Stat Med 25:559, 2006,
    doi:10.1002/sim.2324). More: Kruskal-Wallis, and epsilon squared with a percentile interval of patients drawn within
    each group. P values are adjusted by Benjamini & Hochberg (J R Stat Soc B 57:289, 1995,
    doi:10.1111/j.2517-6161.1995.tb02031.x).

    Parameters
    ----------
    measures : mapping of str to mapping of str to sequence of float
        By measure, the values of each group's patients; a group may be empty.
    samples : int
        Draws for the interval of epsilon squared; 0: none.
    seed : int

    Returns
    -------
    tuple of Comparison
    """
    found = [_compare(name, groups, samples, seed) for name, groups in measures.items()]
    tested = [i for i, comparison in enumerate(found) if comparison.p is not None]
    if tested:
        adjusted = stats.false_discovery_control([found[i].p for i in tested]).tolist()
        for i, p in zip(tested, adjusted, strict=True):
            found[i] = replace(found[i], p_adjusted=p)
    return tuple(found)


def _compare(measure: str, groups: Groups, samples: int, seed: int) -> Comparison:
    counts = {name: len(values) for name, values in groups.items()}
    kept = [np.array(values, np.float64) for values in groups.values() if len(values) >= LEAST]
    two = len(kept) == 2 or (len(kept) < 2 and len(groups) == 2)
    test, effect_name = ("Mann-Whitney U", "Cliff's delta") if two else ("Kruskal-Wallis", "epsilon squared")
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    if len(kept) >= 2 and np.ptp(np.concatenate(kept)) > 0:
        if two:
            effect, low, high, p = _two(*kept)
        else:
            effect, low, high, p = _several(kept, samples, seed)
    return Comparison(
        measure,
        tuple(groups),
        tuple(counts.values()),
        tuple(float(np.median(values)) if len(values) else math.nan for values in groups.values()),
        test,
        effect_name,
        effect,
        low,
        high,
        p,
        None,
        _warning(counts, len(kept), p),
    )


def _warning(counts: Mapping[str, int], kept: int, p: float | None) -> str:
    left_out = [f"{name} ({count})" for name, count in counts.items() if count < LEAST]
    few = [f"{name} ({count})" for name, count in counts.items() if LEAST <= count < FEW]
    said = []
    if left_out:
        said.append(f"not tested for fewer than {LEAST} patients with a value: {', '.join(left_out)}")
    if few and kept >= 2:
        said.append(f"few patients: {', '.join(few)}; a difference may well be missed, and one found be too large")
    if kept >= 2 and p is None:
        said.append("no test: all patients have the same value")
    if kept < 2:
        said.append("no test: fewer than two groups are left")
    return "; ".join(said)


def _two(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return Cliff's delta, above 0 where the first group is higher, its interval, and p."""
    found = stats.mannwhitneyu(one, other, alternative="two-sided")
    theta = float(found.statistic) / (len(one) * len(other))
    low, high = newcombe_interval(theta, len(one), len(other))
    return 2 * theta - 1, 2 * low - 1, 2 * high - 1, float(found.pvalue)


def newcombe_interval(theta: float, m: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of U / (m n), the chance that one of the first group is above one of the second.

    Newcombe's method 5 (2006): the values whose own standard error covers what was found. It does not collapse where
    the groups do not overlap.
    """
    rest = (m + n) / 2 - 1

    def beyond(value: float) -> float:
        other = 1 - value
        spread = value * other * (1 + rest * (other / (1 + other) + value / (1 + value))) / (m * n)
        return (theta - value) ** 2 - NORMAL**2 * spread

    # At theta itself what is beyond is below 0, or 0 where theta is 0 or 1; there the other root lies inside.
    inner = 1e-9
    low = 0.0 if theta <= 0 else float(optimize.brentq(beyond, 0, min(theta, 1 - inner)))
    high = 1.0 if theta >= 1 else float(optimize.brentq(beyond, max(theta, inner), 1))
    return low, high


def _several(
    groups: list[NDArray[np.float64]], samples: int, seed: int
) -> tuple[float, float | None, float | None, float]:
    found = stats.kruskal(*groups)
    low = high = None
    if samples:
        generator = np.random.default_rng(seed)
        drawn = [group[generator.integers(len(group), size=(samples, len(group)))] for group in groups]
        low, high = percentiles(_epsilon_squared(drawn))
    effect = float(_epsilon_squared([group[None] for group in groups])[0])
    return effect, low, high, float(found.pvalue)


def _epsilon_squared(groups: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return H / (n - 1) of samples in rows, H corrected for ties (Tomczak & Tomczak, 2014); NaN where all equal."""
    values = np.concatenate(groups, axis=1)
    ranks, n = stats.rankdata(values, axis=1), values.shape[1]
    spread = ((ranks - (n + 1) / 2) ** 2).sum(1)
    between, start = np.zeros(len(values)), 0
    for group in groups:
        size = group.shape[1]
        between += size * (ranks[:, start : start + size].mean(1) - (n + 1) / 2) ** 2
        start += size
    return np.where(spread > 0, between / np.where(spread > 0, spread, 1), np.nan)
