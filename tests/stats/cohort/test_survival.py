"""Kaplan-Meier and log-rank, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dualproto_wsi.stats.cohort.survival import estimate_survival, log_rank


def test_curve_by_hand() -> None:
    found = estimate_survival({"": [(2.0, True), (3.0, False), (5.0, True), (5.0, True), (8.0, False)]}, "months")
    assert found.times == ((0.0, 2.0, 3.0, 5.0, 8.0),)
    assert found.shares[0] == pytest.approx((1, 4 / 5, 4 / 5, 4 / 15, 4 / 15))
    assert (found.at_risk, found.p, found.unit, found.groups) == ((5,), None, "months", ("",))
    # Greenwood, log-log, at time 2: S = 0.8, variance of log S = 1 / (5 · 4)
    spread = 1.959964 * np.sqrt(1 / 20) / np.log(0.8)
    assert found.low[0][1] == pytest.approx(0.8 ** np.exp(-spread), rel=1e-5)
    assert found.high[0][1] == pytest.approx(0.8 ** np.exp(spread), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_log_rank_of_two_groups_as_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    groups = []
    for scale in (10, 20):
        times, ends = np.ceil(generator.exponential(scale, 40)), generator.exponential(25, 40)
        groups.append([(float(min(t, c)), bool(t <= c)) for t, c in zip(times, ends, strict=True)])
    x, y = (stats.CensoredData(uncensored=[t for t, e in g if e], right=[t for t, e in g if not e]) for g in groups)
    assert log_rank(groups) == pytest.approx(stats.logrank(x, y).pvalue)
    assert log_rank(groups[::-1]) == pytest.approx(log_rank(groups))
    # A third group that left before the first event tells nothing.
    assert log_rank([*groups, [(0.0, False)]]) == pytest.approx(log_rank(groups))


def test_three_groups_by_chi_square() -> None:
    same = [(float(i), True) for i in range(1, 21)]
    assert log_rank([same, same, same]) == pytest.approx(1)
    assert log_rank([same, same, [(t / 10, True) for t, _ in same]]) < 1e-4  # type: ignore[operator]


def test_nothing_to_test() -> None:
    unharmed = [(1.0, False), (2.0, False)]
    assert log_rank([unharmed, unharmed]) is None
    found = estimate_survival({"a": unharmed, "b": unharmed}, "days")
    assert found.p is None
    assert found.shares == found.low == found.high == ((1.0, 1.0, 1.0),) * 2
