"""Measures and their intervals from blocks of known areas."""

from __future__ import annotations

import numpy as np
import pytest

from dualproto_wsi.stats.cohort.formula import Formula, compute_values
from dualproto_wsi.stats.cohort.intervals import block_intervals, summarise
from dualproto_wsi.stats.cohort.model import Measure
from dualproto_wsi.stats.cohort.quantities import Quantities, join_quantities


def formula(name: str, top: tuple[str, ...], bottom: tuple[str, ...], needs: tuple[str, ...] = ()) -> Formula:
    return Formula(Measure(name, name, "1", ".", "", interval=True), top, bottom, needs)


def quantities(blocks: list[list[float]], regions: list[float] | None = None) -> Quantities:
    return Quantities(("a", "b"), np.array(blocks, float).reshape(-1, 2), (np.array(regions or [], float),), (0.5, 1.0))


SHARE = formula("share", ("a",), ("a", "b"))


def test_shares_are_of_sums_not_means_of_shares() -> None:
    one, other = quantities([[1, 0], [2, 1]], [0.1]), quantities([[0, 12]], [0.3, 0.2])
    assert compute_values(one, [SHARE], ()) == {"share": 0.75}
    both = join_quantities([one, other])
    assert compute_values(both, [SHARE], ()) == {"share": 3 / 16}
    assert sorted(both.regions[0]) == [0.1, 0.2, 0.3]
    assert both.confidence == (1.0, 2.0)


def test_undefined_is_none() -> None:
    assert compute_values(quantities([]), [SHARE], ()) == {"share": None}
    needy = formula("needy", ("a",), ("b",), ("necrosis",))
    found = quantities([[1, 1]] * 20)
    assert compute_values(found, [needy], ("tumor",)) == {"needy": None}
    assert block_intervals(found, [needy], ("tumor",), 100, 0) == {"needy_low": None, "needy_high": None}


def test_intervals_are_repeatable_and_near_theory() -> None:
    generator = np.random.default_rng(0)
    shares = generator.normal(0.3, 0.1, 400)
    found = quantities(np.stack([shares, 1 - shares], axis=1).tolist())
    limits = block_intervals(found, [SHARE], (), 2000, 0)
    assert limits == block_intervals(found, [SHARE], (), 2000, 0)
    assert limits != block_intervals(found, [SHARE], (), 2000, 1)
    error = 1.96 * shares.std() / 20
    assert limits["share_low"] == pytest.approx(shares.mean() - error, abs=0.1 * error)
    assert limits["share_high"] == pytest.approx(shares.mean() + error, abs=0.1 * error)


def test_no_interval_from_few_blocks_or_without_draws() -> None:
    nothing = {"share_low": None, "share_high": None}
    assert block_intervals(quantities([[1, 2]] * 9), [SHARE], (), 100, 0) == nothing
    assert block_intervals(quantities([[1, 2]] * 90), [SHARE], (), 0, 0) == nothing
    assert block_intervals(quantities([[1, 2]] * 10), [SHARE], (), 100, 0)["share_low"] == pytest.approx(1 / 3)


def test_summary() -> None:
    found = summarise("m", "g", [1.0, 2.0, 3.0, 10.0], 500, 0)
    assert (found.count, found.mean, found.median, found.q1, found.q3) == (4, 4.0, 2.5, 1.75, 4.75)
    assert found.low is not None and found.high is not None and 1 < found.low < 4 < found.high < 10
    assert summarise("m", "g", [1.0, 2.0], 500, 0).low is None
    assert summarise("m", "g", [], 500, 0).mean is None
