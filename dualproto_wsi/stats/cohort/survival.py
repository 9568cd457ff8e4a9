"""Time to an event: Kaplan-Meier curves of groups, and whether they differ."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dualproto_wsi.stats.cohort.model import Survival

Patients = Sequence[tuple[float, bool]]
"""Time of each patient, and whether it ended with the event; else the patient was last seen then."""


def estimate_survival(groups: Mapping[str, Patients], unit: str) -> Survival:
    """Estimate the share without the event over time.

    Kaplan & Meier (J Am Stat Assoc 53:457, 1958, doi:10.1080/01621459.1958.10501452), 95 % band by the exponential
    Greenwood formula (log-log), log-rank test (Mantel, 1966) over all groups.

    Parameters
    ----------
    groups : mapping of str to sequence of (float, bool)
        By group, in the order in which they are told; each has a patient.
    unit : str
        Of the times, as the user calls the column.

    Returns
    -------
    Survival
        Curves begin at time 0 and share 1. ``p`` is None for one group, or without events.
    """
    curves = [_curve(patients) for patients in groups.values()]
    times, shares, low, high = (tuple(curve[i] for curve in curves) for i in range(4))
    at_risk = tuple(len(patients) for patients in groups.values())
    return Survival(tuple(groups), times, shares, low, high, at_risk, log_rank(list(groups.values())), unit)


def _curve(patients: Patients) -> tuple[tuple[float, ...], ...]:
    ended = np.array([time for time, event in patients if event], np.float64)
    seen = np.array([time for time, event in patients if not event], np.float64)
    function = stats.ecdf(stats.CensoredData(uncensored=ended, right=seen)).sf
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the band is undefined where the share is 0 or 1
        band = function.confidence_interval(method="log-log") if len(ended) else None
    shares = function.probabilities
    low, high = (band.low.probabilities, band.high.probabilities) if band else (shares, shares)
    low, high = (np.where(np.isnan(limit), shares, limit) for limit in (low, high))
    start = 1.0
    return tuple(
        (first, *values.tolist())
        for first, values in ((0.0, function.quantiles), *((start, v) for v in (shares, low, high)))
    )


def log_rank(groups: Sequence[Patients]) -> float | None:
    """Return p of the log-rank test over two or more groups; None where nothing can be tested."""
    if len(groups) < 2:
        return None
    owner = np.concatenate([np.full(len(patients), i) for i, patients in enumerate(groups)])
    times = np.array([time for patients in groups for time, _ in patients], np.float64)
    events = np.array([event for patients in groups for _, event in patients], np.bool_)
    difference, spread = np.zeros(len(groups)), np.zeros((len(groups), len(groups)))
    for time in np.unique(times[events]):
        at_risk = np.bincount(owner[times >= time], minlength=len(groups)).astype(np.float64)
        ended = np.bincount(owner[events & (times == time)], minlength=len(groups))
        difference += ended - ended.sum() * at_risk / at_risk.sum()
        spread += _hypergeometric(at_risk, float(ended.sum()))
    if not np.any(spread):
        return None
    statistic = float(difference @ np.linalg.pinv(spread) @ difference)
    return float(stats.chi2.sf(statistic, np.linalg.matrix_rank(spread)))


def _hypergeometric(at_risk: NDArray[np.float64], ended: float) -> NDArray[np.float64]:
    """Return the covariance of the events of each group where ``ended`` of all at risk end."""
    n = at_risk.sum()
    if n < 2:
        return np.zeros((len(at_risk), len(at_risk)))
    shares = at_risk / n
    covariance: NDArray[np.float64] = np.diag(shares) - np.outer(shares, shares)
    return covariance * float(ended * (n - ended) / (n - 1))
