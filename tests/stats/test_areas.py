from __future__ import annotations

import math

import numpy as np
import pytest

from dualproto_wsi.classes import UNSURE, ClassScheme, TissueClass
from dualproto_wsi.stats.areas import AreaTally

SCHEME = ClassScheme((TissueClass(1, "Tumor", (200, 0, 0)), TissueClass(2, "Stroma", (150, 200, 150))))


def test_areas_by_hand():
    tally = AreaTally(SCHEME, cell_mm2=0.25)
    tally.add(np.array([[0, 1, 1, 2]], np.uint8))
    tally.add(np.array([[0, 0, 1, UNSURE]], np.uint8))
    assert tally.analysed_mm2 == 5 * 0.25
    assert tally.unsure_mm2 == 0.25
    assert tally.mm2() == {"Tumor": 0.75, "Stroma": 0.25}
    assert tally.fractions() == pytest.approx({"Tumor": 0.6, "Stroma": 0.2})


def test_nothing_analysed_has_no_fractions():
    tally = AreaTally(SCHEME, cell_mm2=1.0)
    tally.add(np.zeros((3, 3), np.uint8))
    assert tally.analysed_mm2 == 0
    assert all(math.isnan(share) for share in tally.fractions().values())
