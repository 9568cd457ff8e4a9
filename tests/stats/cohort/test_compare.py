"""Groups compared, against hand-computed values and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dualproto_wsi.stats.cohort.compare import compare_groups, newcombe_interval


def test_two_groups_by_hand() -> None:
    one, other = [1.0, 3.0, 5.0, 7.0], [2.0, 3.0, 4.0]
    found = compare_groups({"m": {"a": one, "b": other}}, 100, 0)[0]
    greater = sum(x > y for x in one for y in other)
    less = sum(x < y for x in one for y in other)
    assert found.effect == pytest.approx((greater - less) / 12)
    assert found.p == stats.mannwhitneyu(one, other).pvalue
    assert found.p_adjusted == found.p
    assert (found.test, found.effect_name) == ("Mann-Whitney U", "Cliff's delta")
    assert (found.counts, found.medians) == ((4, 3), (4.0, 3.0))
    assert found.warning == ("few patients: a (4), b (3); a difference may well be missed, and one found be too large")


def test_interval_does_not_collapse_and_is_symmetric() -> None:
    low, high = newcombe_interval(1.0, 12, 15)
    assert high == 1.0 and 0.7 < low < 1
    assert newcombe_interval(0.0, 12, 15) == (0.0, pytest.approx(1 - low))
    low, high = newcombe_interval(0.7, 30, 40)
    assert low < 0.7 < high
    assert newcombe_interval(1 - 0.7, 30, 40) == (pytest.approx(1 - high), pytest.approx(1 - low))


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(0), 0
    truth = float(stats.norm.cdf(0.8 / np.sqrt(2)))  # chance that N(0.8, 1) is above N(0, 1)
    for _ in range(600):
        one, other = generator.normal(0.8, 1, 20), generator.normal(0, 1, 25)
        theta = float((one[:, None] > other[None]).mean())
        low, high = newcombe_interval(theta, 20, 25)
        covered += low <= truth <= high
    assert 0.925 <= covered / 600 <= 0.98


def test_three_groups_as_scipy() -> None:
    generator = np.random.default_rng(1)
    groups = {
        name: generator.integers(0, 9, 15).astype(float) + shift for name, shift in (("a", 0), ("b", 2), ("c", 4))
    }
    found = compare_groups({"m": groups}, 400, 0)[0]
    h, p = stats.kruskal(*groups.values())
    assert (found.test, found.effect_name, found.warning) == ("Kruskal-Wallis", "epsilon squared", "")
    assert found.p == p
    assert found.effect == pytest.approx(h / 44)
    assert found.effect_low is not None and found.effect_high is not None
    assert found.effect_low < found.effect < found.effect_high
    assert found == compare_groups({"m": groups}, 400, 0)[0]


def test_p_is_adjusted_over_the_measures_that_were_tested() -> None:
    generator = np.random.default_rng(2)
    measures = {
        f"m{i}": {"a": generator.normal(i / 2, 1, 12).tolist(), "b": generator.normal(0, 1, 12).tolist()}
        for i in range(4)
    }
    measures["same"] = {"a": [1.0] * 12, "b": [1.0] * 12}
    found = compare_groups(measures, 0, 0)
    tested = [comparison.p for comparison in found[:4]]
    assert [c.p_adjusted for c in found[:4]] == pytest.approx(stats.false_discovery_control(tested))
    assert (found[4].p, found[4].p_adjusted, found[4].effect) == (None, None, None)
    assert found[4].warning == "no test: all patients have the same value"


def test_small_groups_are_not_tested() -> None:
    many = [float(i) for i in range(12)]
    found = compare_groups({"m": {"a": many, "b": [1.0, 2.0]}}, 100, 0)[0]
    assert found.p is None
    assert found.warning == (
        "not tested for fewer than 3 patients with a value: b (2); no test: fewer than two groups are left"
    )
    found = compare_groups({"m": {"a": many, "b": [], "c": many[3:]}}, 100, 0)[0]
    assert found.test == "Mann-Whitney U" and found.p is not None and np.isnan(found.medians[1])
    assert found.warning.startswith("not tested for fewer than 3 patients with a value: b (0); few patients: c (9);")
    assert compare_groups({"m": {"a": many}}, 100, 0)[0].warning == "no test: fewer than two groups are left"
